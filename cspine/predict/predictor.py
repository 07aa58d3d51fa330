"""The predictor: from the bytes of an image to its prediction.

The steps are decode, crop, infer, decide and explain. A predictor holds one model and can be used
from many threads at once. Decoding runs on the callers' threads, on at most as many as there are
cores; inference runs on the engine's streams. No lock is held during either.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np
import numpy.typing as npt

from cspine.core.deadline import Deadline
from cspine.core.errors import ArtifactError
from cspine.core.labels import FIXED_WINDOW, SYNTHETIC, UNCERTAIN, UNKNOWN_DOMAIN
from cspine.core.process import count_cores
from cspine.decide.image_checks import check_image
from cspine.decide.policy import DecisionPolicy
from cspine.imaging.decode import DecodedImage, Limits, decode_image, image_from_array
from cspine.imaging.preprocess import Crop, preprocess
from cspine.model.engine.engine import Engine
from cspine.model.engine.network_files import choose_precision
from cspine.model.engine.pending_output import EngineOutput
from cspine.model.engine.self_test import check_self_test
from cspine.model.explain import heatmap
from cspine.model.store.card import complete_card
from cspine.model.store.hashes import hash_file
from cspine.model.store.registry import ModelFiles, resolve_version
from cspine.model.store.weights_file import read_h5
from cspine.predict.decode_slots import DecodeSlots
from cspine.predict.prediction import Prediction
from cspine.predict.reasons import (
    NO_VERTEBRA,
    SYNTHETIC_MODEL,
    TOO_CLOSE,
    UNLIKE_TRAINING,
    Reason,
    find_notes,
    refuse_image,
)
from cspine.predict.stage_times import Observe, ignore_stage, observe_engine, time_stage

logger = logging.getLogger(__name__)

# LIMITS and NO_DEADLINE are frozen, so that they may be default arguments.
LIMITS, NO_DEADLINE = Limits(), Deadline()
_SERIALS = itertools.count()


class Options(TypedDict, total=False):
    """The arguments of `Predictor` besides its model; `Predictor` explains them."""

    limits: Limits
    observe: Observe
    answer_synthetic: bool


class Predictor:
    """One loaded model and all steps from an image to its prediction.

    Args:
        engine: runs the network; `submit` returns a future of one output.
        policy: turns a logit and an embedding into an answer.
        card: the model card, a plain dict.
        limits: the greatest numbers of bytes and pixels of one image.
        observe: called with (stage, seconds). The stages are `slot` (the wait for a slot to
            decode), `decode`, `queue` (the wait for the engine) and `inference`.
        answer_synthetic: let a model of synthetic images answer for images without the mark of
            `core/synthetic_mark.py` too, for experiments.
    """

    def __init__(
        self,
        engine: Engine,
        policy: DecisionPolicy,
        card: Mapping[str, Any],
        limits: Limits = LIMITS,
        observe: Observe = ignore_stage,
        answer_synthetic: bool = False,
    ) -> None:
        self.engine = engine
        self.policy = policy
        self.card = card
        self.limits = limits
        self.version = str(card["version"])
        # Unique to this load, since the same version may be published again with another card.
        self.serial = next(_SERIALS)
        self.architecture = str(card["architecture"])
        self.view, self.image_size = str(card["view"]), int(card["image_size"])
        self.domain = str(card.get("domain", UNKNOWN_DOMAIN))
        self.dicom_window = str(card.get("dicom_window", FIXED_WINDOW))
        self.is_opened = self.domain == SYNTHETIC and answer_synthetic
        self.notes = find_notes(card.get("note"), self.domain, self.is_opened)
        self._observe = observe
        self._counting, self._in_work = threading.Lock(), 0  # images being classified
        self._slots = DecodeSlots(count_cores(), observe)

    @classmethod
    def load(
        cls,
        models_dir: Path,
        precision: str = "auto",
        streams: int | None = None,
        **options: Unpack[Options],
    ) -> Predictor:
        """Load from a folder the newest version whose hashes match.

        Args:
            models_dir: the folder.
            precision: `auto`, `f32`, `bf16` or `int8`.
            streams: parallel inferences; by default as many as suit the CPU.
            options: those of `Predictor`.

        Raises:
            ArtifactError: there is no model, or none that may be loaded.
        """
        return cls.from_files(resolve_version(models_dir), precision, streams, **options)

    @classmethod
    def from_files(
        cls,
        files: ModelFiles,
        precision: str = "auto",
        streams: int | None = None,
        **options: Unpack[Options],
    ) -> Predictor:
        """Load the model of these files and check its self-test; arguments as for `load`.

        Raises:
            ArtifactError: a file is damaged or may not be loaded.
        """
        engine = Engine.load(files, choose_precision(files.card, precision), streams)
        return cls.from_engine(files, engine, **options)

    @classmethod
    def from_engine(
        cls, files: ModelFiles, engine: Engine, **options: Unpack[Options]
    ) -> Predictor:
        """Return the predictor of a loaded engine that passes the card's self-test.

        Args:
            files: the files from which the engine was loaded.
            engine: runs the network.
            options: those of `Predictor`.

        Raises:
            ArtifactError: the `.h5` is damaged, or the card describes another network.
        """
        # The policy is the `.h5`'s, not the card's: it must belong to these weights.
        contents = read_h5(files.h5)
        # If versions are not kept, another model may have been written over this one meanwhile.
        if hash_file(files.h5) != files.h5_sha256:
            raise ArtifactError("`best.h5` must not change while loaded. Received: a changed file")
        card = complete_card(files.card, contents.facts, files.version)
        policy = DecisionPolicy.from_parts(contents.decision, contents.arrays)
        policy.check_units(engine.embedding_units)
        check_self_test(engine, files.card)
        return cls(engine, policy, card, **options)

    def compile_low_latency(self) -> None:
        """Compile the network a second time, so that all cores compute a single waiting image.

        This takes about as long as loading, and is best done after the model has begun to serve.
        """
        try:
            self.engine.compile_low_latency()
        except Exception as error:  # whatever it is, the model works without this step
            logger.warning("a single image is computed on only one core: %s", error)

    def predict(
        self, data: bytes, explain: bool = False, deadline: Deadline = NO_DEADLINE
    ) -> Prediction:
        """Return the answer for the bytes of a PNG, JPEG or DICOM file.

        Args:
            data: the bytes.
            explain: whether the answer holds the heat map and the grey picture.
            deadline: the time after which the prediction is abandoned.

        Raises:
            ImageError: the bytes are not an image that can be read.
            OverloadedError: the deadline passed.
        """
        decode = partial(decode_image, data, self.limits, self.dicom_window)
        return self._answer(decode, explain, deadline)

    def predict_pixels(
        self,
        pixels: npt.NDArray[np.uint8],
        explain: bool = False,
        deadline: Deadline = NO_DEADLINE,
    ) -> Prediction:
        """Return the answer for uint8 pixels (H, W) or (H, W, 3); otherwise as `predict`."""
        self.limits.check_pixels(*pixels.shape[:2])
        return self._answer(lambda: image_from_array(pixels), explain, deadline)

    def _answer(
        self, decode: Callable[[], DecodedImage], explain: bool, deadline: Deadline
    ) -> Prediction:
        with self._counting:
            self._in_work += 1
        try:
            return self._answer_counted(decode, explain, deadline)
        finally:
            with self._counting:
                self._in_work -= 1

    def _answer_counted(
        self, decode: Callable[[], DecodedImage], explain: bool, deadline: Deadline
    ) -> Prediction:
        # Decoding more images at once than there are cores would delay them all.
        with self._slots.hold(deadline):
            image, crop = time_stage(self._observe, "decode", lambda: self.prepare(decode()))
        deadline.remaining_s()
        # Images that are being decoded count too, since decoding needs the cores.
        alone, due_s = self._in_work == 1, deadline.due_s
        future = None if crop is None else self.engine.submit(crop.image, alone, due_s)
        # This thread checks the image while the engine works on its own threads.
        refusals = refuse_image(image.refusal, check_image(image.grey, image.is_colour))
        if crop is None or future is None:
            if self._is_closed_to(image):
                refusals = (*refusals, SYNTHETIC_MODEL)
            return self._abstain(image, explain, refusals or (NO_VERTEBRA,))
        try:
            output = deadline.result_of(future)
        finally:
            observe_engine(self._observe, future)
        return self._decide(image, crop, output, explain, refusals)

    def _is_closed_to(self, image: DecodedImage) -> bool:
        """Return whether the model may not answer for the image."""
        return self.domain == SYNTHETIC and not (self.is_opened or image.is_synthetic)

    def prepare(self, image: DecodedImage) -> tuple[DecodedImage, Crop | None]:
        """Return the image without its Hounsfield units, and the network's crop of it.

        The crop is None if no vertebra is found or the model may not answer for the image.
        """
        closed = self._is_closed_to(image)
        crop = None if closed else preprocess(image.grey, self.view, self.image_size)
        # The Hounsfield units would take 4 bytes per pixel while the image waits for the engine.
        return replace(image, hu=None), crop

    def _abstain(
        self, image: DecodedImage, explain: bool, reasons: tuple[Reason, ...]
    ) -> Prediction:
        """Return an `uncertain` answer without a probability."""
        sentences = (reason.sentence for reason in reasons)
        return Prediction(
            prediction=UNCERTAIN,
            probability=None,
            threshold=self.policy.threshold.value,
            in_distribution=False,
            region=None,
            architecture=self.architecture,
            version=self.version,
            domain=self.domain,
            warnings=(*self.notes, *image.warnings, *sentences),
            reason=reasons[0] if reasons else None,
            kind=image.kind,
            series_uid=image.series_uid,
            instance_uid=image.instance_uid,
            grey=image.grey if explain else None,
        )

    def _decide(
        self,
        image: DecodedImage,
        crop: Crop,
        output: EngineOutput,
        explain: bool,
        refusals: tuple[Reason, ...],
    ) -> Prediction:
        """Return the answer from the network's output; `refusals` are reasons against the image."""
        decision = self.policy.decide(output.logit, output.embedding, np.array([not refusals]))
        # Each array has one entry, since there is one image.
        known, word = bool(decision.in_distribution[0]), decision.prediction[0]
        reasons: tuple[Reason, ...] = (TOO_CLOSE,) if known and word == UNCERTAIN else ()
        if not known:
            reasons = refusals or (UNLIKE_TRAINING,)
        height, width = image.grey.shape
        # The crop may reach beyond a small image, but the answer names only existing pixels.
        region = crop.region.clip_to(height, width)
        return replace(
            self._abstain(image, explain, reasons),
            prediction=word,
            probability=float(decision.probability[0]),
            in_distribution=known,
            region=(region.x0, region.y0, region.x1, region.y1),
            heatmap=heatmap(output, crop.region, (height, width)) if explain else None,
        )
