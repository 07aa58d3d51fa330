"""The settings of a training run: a frozen dataclass that defines flags, defaults and help.

`core/cli_flags.py` makes some of the fields command-line flags. The code that uses a value checks
whether an image size suits an architecture and whether a folder holds a data set.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from cspine.core.labels import ARCHITECTURE_NAMES
from cspine.core.settings import cast_values, setting

DURATION_UNITS_S = {"s": 1, "m": 60, "h": 3600}


def parse_duration(text: str) -> int:
    """Return the whole seconds of `90s`, `10m` or `2h` (a bare number is seconds).

    Raises:
        ValueError: `text` is not a positive duration.
    """
    number, unit = (text[:-1], text[-1]) if text[-1:] in DURATION_UNITS_S else (text, "s")
    # Checked with `isdigit`, since `int` also accepts signs, spaces and underscores.
    if not number.isdigit() or int(number) == 0:
        raise ValueError(text)
    return int(number) * DURATION_UNITS_S[unit]


def parse_requirement(text: str) -> tuple[str, float]:
    """Return the metric and its least value from text such as `auroc=0.9`.

    `sensitivity` is another name of `recall`.

    Raises:
        ValueError: `text` is not METRIC=NUMBER.
    """
    metric, _, bar = text.partition("=")
    # NaN is refused, because no metric could ever reach it.
    if not math.isfinite(float(bar)):
        raise ValueError(text)
    name = metric.strip().lower()
    return "recall" if name == "sensitivity" else name, float(bar)


@dataclass(frozen=True)
class TrainConfig:
    """All settings of one training run; see each field's help. `None` means "decided by the data".

    Raises:
        ConfigError: values break their rules; the message has one line for each, with field, rule
            and value.
    """

    data: str | None = setting(
        None,
        "a folder, ZIP file or CSV file, `phantom` or `kaggle`; by default, `data/` if that folder "
        "holds images, else `phantom`",
    )
    view: str | None = setting(
        None,
        "crop the vertebra at native resolution, or resize the whole slice; by default, "
        "whichever suits the data",
        choices=("vertebra", "slice"),
    )
    split: str = setting(
        "grouped",
        "by patient, or as published; if the published split leaks, this is noted beside every "
        "figure",
        choices=("grouped", "published"),
    )
    skip_unreadable: bool = setting(False, "leave out files that cannot be read, and list them")
    join_patients: bool = setting(
        False, "count known patients who share a slice, by its pixels, as one patient"
    )
    accept_blank: bool = setting(
        False, "train although more than 1 % of the images, or a class, are black or white"
    )
    architectures: tuple[str, ...] | None = setting(
        None,
        "the candidates; by default all four, or only `cnn` if --data is not given",
        choices=ARCHITECTURE_NAMES,
        unique=True,
    )
    weights: str = setting(
        "imagenet",
        "`imagenet`, `none`, or a folder of Keras *_notop.h5 files; `cnn` always starts "
        "from scratch",
    )
    image_size: int | None = setting(
        None,
        "side of the network's input in pixels; by default, each architecture's own",
        # 32 can be halved five times, as every network here does. The least size of each
        # architecture is checked later, when the architecture is known.
        32,
        1024,
    )
    epochs: int | None = setting(
        None,
        "maximum number of epochs; by default 20, or enough for 25,600 complete slices",
        1,
        10_000,
    )
    batch_size: int = setting(32, "images per step", 1, 4096)
    time_limit: int | None = setting(
        None,
        "time limit for fitting, shared by all candidates, such as 90s, 10m or 2h",
        parse=parse_duration,
        rule="like 90s, 10m or 2h",
    )
    seed: int = setting(0, "the same seed gives the same weights", 0, 2**31 - 1)
    devices: int | None = setting(None, "train on this many devices (JAX backend)", 1, 1024)
    resume: bool = setting(False, "continue from the last checkpoint in OUT/run")
    out: str = setting("models", "folder for the model, its card and its report")
    require: tuple[tuple[str, float], ...] = setting(
        (),
        "exit with code 1 if the model does not reach this figure, such as auroc=0.9",
        parse=parse_requirement,
        rule="METRIC=NUMBER",
        unique=True,
    )
    controls: bool = setting(
        False, "also train on random labels, as a control that must score at chance level"
    )

    note: str = setting("", "a sentence that is added to the card and to every answer")
    cache: str = setting("build/cache", "folder for decoded crops and activations")
    patients: int = setting(240, "number of patients in the phantom set", 4, 100_000)
    phantom_seed: int = setting(1, "seed of the phantom set", 0, 2**31 - 1)
    learning_rate: float = setting(3e-3, "peak learning rate of `cnn`", 1e-7, 1.0)
    head_learning_rate: float = setting(
        1e-3, "learning rate of a new head on a frozen backbone", 1e-7, 1.0
    )
    # Far below the head's rate, so that pretrained weights are adjusted and not replaced.
    tune_learning_rate: float = setting(
        5e-5, "learning rate for fine-tuning the top of a backbone", 1e-8, 1.0
    )
    tune_epochs: int = setting(10, "maximum number of fine-tuning epochs", 0, 1000)
    weight_decay: float = setting(1e-3, "decoupled weight decay of AdamW", 0.0, 1.0)
    warmup: float = setting(
        0.05, "share of the steps during which the learning rate rises", 0.0, 0.9
    )
    dropout: float = setting(0.2, "dropout rate before the logit", 0.0, 0.9)
    map_weight: float = setting(
        1.0, "weight of the fracture map's loss relative to the label's loss", 0.0, 1000.0
    )
    # A fracture fills only a few of the map's 576 cells, so that without a weight an empty map
    # would have a low loss.
    map_positive_weight: float = setting(
        20.0, "weight of the map's cells on a fracture, in the map's loss", 1.0, 10_000.0
    )
    twins: bool = setting(
        True, "also train on the twin of each fractured phantom slice, which has no fracture"
    )
    augment: bool = setting(True, "flip, shift and re-window the training images, and add noise")
    augmented_copies: int = setting(
        2, "augmented copies of each image in the activation cache of a frozen backbone", 1, 64
    )
    patience: int = setting(
        12, "stop after this many epochs without a better validation AUROC", 1, 1000
    )
    threshold_method: str = setting(
        "sensitivity",
        "how the threshold is chosen on the validation set",
        choices=("sensitivity", "youden"),
    )
    # A missed fracture costs more than a second look at a normal slice.
    target_sensitivity: float = setting(
        0.95, "sensitivity for which the threshold is chosen", 0.5, 1.0
    )
    # With less than 0.1, small validation sets leave every answer uncertain.
    conformal_alpha: float = setting(
        0.1, "share of each class that its conformal set may miss", 0.001, 0.5
    )
    # 0.5 % of the held-out images are refused. At most 1 % of new patients' slices may be refused,
    # and the image checks refuse some of those already.
    in_distribution_quantile: float = setting(
        0.995, "share of held-out images that count as in distribution", 0.5, 1.0
    )
    resamples: int = setting(1000, "number of bootstrap resamples for each interval", 10, 100_000)

    def __post_init__(self) -> None:
        for name, value in cast_values(TrainConfig, vars(self)).items():
            object.__setattr__(self, name, value)

    def seen_architectures(self) -> tuple[str, ...]:
        """Return those to train: the given ones; else all four, or only `cnn` without `data`."""
        return self.architectures or (ARCHITECTURE_NAMES if self.data else ("cnn",))
