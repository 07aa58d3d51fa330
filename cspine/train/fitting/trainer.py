"""Training loop of one network on one source of batches.

Label loss and map loss, AdamW with warm-up and cosine decay, early stopping on held-out AUROC with
the best weights kept, a time limit, Ctrl-C, and checkpoints to resume from. `docs/decisions.md`
says why it is not Keras's `fit`.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from cspine.core.labels import CLASS_NAMES
from cspine.core.progress import progress
from cspine.stats.ranking import compute_auroc
from cspine.train.fitting.batches import Source, deal_batches
from cspine.train.fitting.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from cspine.train.fitting.result import FitResult, rate_epoch

logger = logging.getLogger(__name__)

SCORE_BATCH = 64


@dataclass(frozen=True)
class FitPlan:
    """The numbers of one fit; they have the same meanings as in TrainConfig."""

    epochs: int
    batch_size: int
    learning_rate: float
    seed: int
    warmup: float = 0.05
    weight_decay: float = 1e-3
    map_weight: float = 1.0
    map_positive_weight: float = 20.0
    patience: int | None = 12
    final_rate: float = 0.01  # share of the peak rate at the end


@dataclass(frozen=True)
class TimeBudget:
    """A time limit in seconds from the moment the object is made; None is no limit."""

    limit_s: float | None
    started: float = field(default_factory=time.monotonic)

    @property
    def elapsed_share(self) -> float:
        """The share of the limit that has passed: above 1 once it is over, 0 without a limit."""
        return 0.0 if self.limit_s is None else (time.monotonic() - self.started) / self.limit_s

    def part(self, share: float) -> TimeBudget:
        """Return a new limit of `share` of the time that is left, at least 0.1 s."""
        if self.limit_s is None:
            return TimeBudget(None)
        # At least 0.1 s, so that even a late candidate gets one batch and there is a network to
        # score.
        return TimeBudget(max(share * self.limit_s * (1.0 - self.elapsed_share), 0.1))


def weighted_map_loss(positive_weight: float) -> Any:
    """Return a Keras loss: weighted cross-entropy of map logits, averaged over an image's cells.

    Args:
        positive_weight: the weight of a fracture's cells; other cells have weight 1.

    Returns:
        A function of truth in {0, 1} and logits, both float32 (B, h, w, 1), to losses (B,).
    """

    def loss(truth: Any, logits: Any) -> Any:
        weights = 1.0 + (positive_weight - 1.0) * truth
        # Cross-entropy from logits, log(1 + e^x) − t x, which is finite for any x.
        losses = ops.softplus(logits) - truth * logits
        axes = (1, 2, 3)
        return ops.sum(weights * losses, axes) / ops.sum(weights, axes)  # (B,)

    return loss


def rate_at(done: float, plan: FitPlan) -> float:
    """Return the learning rate at the share `done` of the fit: linear rise, then half a cosine."""
    if done < plan.warmup:
        # The rise starts at 1/50, since a first step at rate 0 would change nothing.
        return plan.learning_rate * (0.02 + 0.98 * done / plan.warmup)
    falling = (done - plan.warmup) / (1.0 - plan.warmup)
    left = 0.5 * (1.0 + math.cos(math.pi * min(falling, 1.0)))
    return plan.learning_rate * (plan.final_rate + (1.0 - plan.final_rate) * left)


def class_weights(labels: np.ndarray) -> np.ndarray:
    """Return the classes' weights, float32 (2,), which balance `labels` int64 (N,).

    They average 1 over the samples, since Keras divides a weighted loss by their number.
    """
    counts = np.bincount(labels, minlength=len(CLASS_NAMES))
    # At least 1, so that a missing class does not divide by zero; its weight is never used.
    return np.asarray(len(labels) / (len(CLASS_NAMES) * np.maximum(counts, 1)), np.float32)


def score_source(network: keras.Model, source: Source) -> np.ndarray:
    """Return logits float32 (N,) of every sample of `source`, without augmentation."""
    count = len(source.labels)
    logits = []
    for start in range(0, count, SCORE_BATCH):
        # The last batch repeats some samples, since another size would need another graph.
        indices = np.arange(start, start + min(SCORE_BATCH, count)) % count
        inputs, _ = source.take(indices, None)
        logits.append(np.asarray(network.predict_on_batch(inputs)["logit"])[:, 0])
    return np.concatenate(logits)[:count].astype(np.float32)


class Trainer:
    """A fit of a network with outputs {"logit": …} or {"logit": …, "fracture_map": …}.

    The best epoch is chosen on `held_out`; without it the last epoch is kept.
    """

    def __init__(
        self, network: keras.Model, train: Source, held_out: Source | None, plan: FitPlan
    ) -> None:
        self.network, self.train, self.held_out, self.plan = network, train, held_out, plan
        self.weights = class_weights(train.labels)
        # Keras clips each variable's gradient by its own norm, and multiplies the decay by the rate
        # (decoupled weight decay, Loshchilov and Hutter 2019).
        self.optimizer = keras.optimizers.AdamW(
            plan.learning_rate, weight_decay=plan.weight_decay, clipnorm=5.0
        )
        # Decay keeps kernels small; scales and offsets of norms and biases need none.
        self.optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
        losses: dict[str, Any] = {"logit": keras.losses.BinaryCrossentropy(from_logits=True)}
        scales = {"logit": 1.0}
        if train.has_masks:
            losses["fracture_map"] = weighted_map_loss(plan.map_positive_weight)
            scales["fracture_map"] = plan.map_weight
        # With TensorFlow, XLA takes longer to compile than it saves. JAX needs it: without XLA it
        # compiles nothing and does not share a batch between devices.
        compiled = keras.backend.backend() == "jax"
        network.compile(self.optimizer, loss=losses, loss_weights=scales, jit_compile=compiled)
        # Built now, since a checkpoint's moments are assigned before the first step.
        self.optimizer.build(network.trainable_variables)
        self.history: list[dict[str, Any]] = []
        self.scores: list[np.ndarray] = []
        # The initial weights, for a stage that is interrupted in its first epoch.
        self.best: list[np.ndarray] = network.get_weights()
        self.best_value = -math.inf

    def run(self, clock: TimeBudget, checkpoint: Path | None = None, key: str = "") -> FitResult:
        """Fit until the plan, the time limit, patience or Ctrl-C ends it; keep the best weights.

        Args:
            clock: the time limit.
            checkpoint: the file to resume from if it belongs to this fit; written each epoch.
            key: identifies settings and data in the checkpoint.

        Raises:
            KeyboardInterrupt: it came before the end of the first epoch.
            ConfigError: the checkpoint is damaged.
        """
        # The plan is part of the key, since other numbers would change the schedule.
        key = f"{key} {asdict(self.plan)} {len(self.train.labels)}"
        if checkpoint is not None:
            self._resume(read_checkpoint(checkpoint, key))
        # A resumed fit may have run out of patience before it was stopped.
        stopped = "patience" if self._is_out_of_patience() else "finished"
        try:
            while len(self.history) < self.plan.epochs and stopped == "finished":
                stopped = self._run_epoch(clock)
                if checkpoint is not None:
                    write_checkpoint(checkpoint, self._state(key))
        except KeyboardInterrupt:
            if not self.history:
                raise
            stopped = "interrupted"
        self.network.set_weights(self.best)
        return FitResult(self.history, self._best_epoch(), self._held_out_logits(), stopped)

    def _run_epoch(self, clock: TimeBudget) -> str:
        """Pass once over the training source; return why to stop, or `finished` to continue."""
        epoch, began = len(self.history), time.monotonic()
        # A generator for each epoch, so that a resumed fit draws what an unbroken one would have.
        rng = np.random.default_rng([self.plan.seed, epoch])
        batches = deal_batches(self.train.units, self.plan.batch_size, rng)
        losses: list[float] = []
        drawn = progress(self._draw_ahead(batches, rng), f"epoch {epoch + 1}", len(batches))
        for step, batch in enumerate(drawn):
            done = (epoch + step / len(batches)) / self.plan.epochs
            # With a time limit the rate follows the clock, so that it is low at the end.
            done = max(done, clock.elapsed_share)
            # At least one step is done, since an epoch needs a loss.
            if done >= 1.0 and losses:
                break
            self.optimizer.learning_rate = rate_at(done, self.plan)
            losses.append(self._step(*batch))
        entry = {
            "epoch": epoch + 1,
            "loss": float(np.mean(losses)),
            "rate": rate_at(done, self.plan),
        }
        self._judge(entry)
        entry["seconds"] = round(time.monotonic() - began, 2)
        # AUROC is None if the held-out slices, such as those of a small fold, have one class.
        figures = [f"{name} {value:.4g}" for name, value in entry.items() if value is not None]
        logger.info("%s", ", ".join(figures))
        if clock.elapsed_share >= 1.0:
            return "time"
        return "patience" if self._is_out_of_patience() else "finished"

    def _is_out_of_patience(self) -> bool:
        if self.plan.patience is None or not self.history:
            return False
        return len(self.history) - self._best_epoch() >= self.plan.patience

    def _draw_ahead(
        self, batches: list[np.ndarray], rng: np.random.Generator
    ) -> Iterator[tuple[np.ndarray, Any, np.ndarray | None]]:
        """Yield labels, inputs and masks of each batch, the next drawn while the network works.

        One thread draws them in order, so that the draws do not depend on timing.
        """
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(self.train.take, batches[0], rng)
            for number, indices in enumerate(batches):
                inputs, masks = waiting.result()
                if number + 1 < len(batches):
                    waiting = pool.submit(self.train.take, batches[number + 1], rng)
                yield self.train.labels[indices], inputs, masks

    def _step(self, labels: np.ndarray, inputs: Any, masks: np.ndarray | None) -> float:
        """Do one step of the optimizer and return the loss."""
        truth = {"logit": labels[:, None].astype(np.float32)}
        weights = {"logit": self.weights[labels]}
        if masks is not None:
            truth["fracture_map"] = masks[..., None].astype(np.float32)
            # The map's loss weights its cells, which do not depend on the slice's class.
            weights["fracture_map"] = np.ones(len(labels), np.float32)
        # With two losses Keras returns their sum first, then each loss.
        found = self.network.train_on_batch(inputs, truth, sample_weight=weights)
        return float(np.atleast_1d(np.asarray(found))[0])

    def _judge(self, entry: dict[str, Any]) -> None:
        """Score the held-out source, add to the history, keep the weights if they are the best."""
        # Without held-out data the last weights count as the best.
        value = float(entry["epoch"])
        if self.held_out is not None:
            logits = score_source(self.network, self.held_out)
            labels = self.held_out.labels
            self.scores.append(logits)
            # From logits, since a probability may round to 1.
            losses = np.logaddexp(0.0, np.where(labels == 1, -logits, logits))
            entry["validation_loss"] = float(losses.mean())
            entry["validation_accuracy"] = float(((logits > 0) == (labels == 1)).mean())
            auroc = compute_auroc(labels, logits)
            entry["validation_auroc"] = auroc if math.isfinite(auroc) else None
            value = rate_epoch(auroc, entry["validation_loss"])
        entry["value"] = value
        self.history.append(entry)
        # On a tie the earlier epoch is kept, since it has overfitted less.
        if value > self.best_value:
            self.best_value, self.best = value, self.network.get_weights()

    def _best_epoch(self) -> int:
        values = [entry["value"] for entry in self.history]
        # `argmax` returns the first of equal values, whose weights `_judge` has kept.
        return int(np.argmax(values)) + 1

    def _held_out_logits(self) -> np.ndarray:
        return np.stack(self.scores) if self.scores else np.empty((0, 0), np.float32)

    def _state(self, key: str) -> Checkpoint:
        network = [np.asarray(variable) for variable in self.network.variables]
        optimizer = [np.asarray(variable) for variable in self.optimizer.variables]
        return Checkpoint(key, self.history, network, optimizer, self.best, self._held_out_logits())

    def _resume(self, state: Checkpoint | None) -> None:
        if state is None:
            return
        logger.info("continuing after epoch %d", len(state.history))
        pairs = [
            *zip(self.network.variables, state.network, strict=True),
            *zip(self.optimizer.variables, state.optimizer, strict=True),
        ]
        for variable, array in pairs:
            variable.assign(array)
        self.history, self.best = list(state.history), state.best
        self.scores = list(state.held_out)
        self.best_value = max(entry["value"] for entry in self.history)
