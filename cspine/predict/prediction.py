"""The answer for one image, and its form as plain JSON values."""

from __future__ import annotations

import base64
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from cspine.core.labels import UNKNOWN_DOMAIN
from cspine.core.png import encode_png
from cspine.predict.reasons import Reason


@dataclass(frozen=True)
class Prediction:
    """The answer for one image.

    Fields:
        prediction: `fracture`, `normal` or `uncertain`.
        probability: calibrated P(fracture), 0–1; None if there is no crop.
        threshold: the probability from which the answer is `fracture`, 0–1.
        in_distribution: whether the image looks like the training images.
        region: the crop as (x0, y0, x1, y1) in source pixels, x1 and y1 exclusive, or None.
        architecture, version: the model that answered.
        warnings: sentences for the user.
        heatmap: uint8 (H, W) in the source's size, 255 is the strongest evidence; only if it was
            requested and a crop exists.
        kind: the source's format: `png`, `jpeg`, `dicom` or `array`.
        series_uid: the SeriesInstanceUID, DICOM only, for joining slices.
        grey: uint8 (H, W), the decoded picture; only if an explanation was requested.
        domain: the kind of training images, one of `labels.DOMAINS` or `unknown`.
        reason: why no class is named; None if a class is named.
        instance_uid: the SOPInstanceUID, DICOM only, for finding copies.
    """

    prediction: str
    probability: float | None
    threshold: float
    in_distribution: bool
    region: tuple[int, int, int, int] | None
    architecture: str
    version: str
    warnings: tuple[str, ...] = ()
    # Arrays are left out of `==`, because they compare element by element.
    heatmap: npt.NDArray[np.uint8] | None = field(default=None, compare=False)
    kind: str = "array"
    series_uid: str | None = None
    grey: npt.NDArray[np.uint8] | None = field(default=None, compare=False)
    domain: str = UNKNOWN_DOMAIN
    reason: Reason | None = None
    instance_uid: str | None = None

    @property
    def held_bytes(self) -> int:
        """Return the bytes of pixels that this prediction keeps in memory."""
        return sum(a.nbytes for a in (self.heatmap, self.grey) if a is not None)

    def to_dict(self, pictures: Collection[str] = ()) -> dict[str, Any]:
        """Return the answer of `/predict` as JSON values.

        Args:
            pictures: which of `heatmap` and `image` to add, as 8-bit grey PNGs in base64.
        """
        answer: dict[str, Any] = {
            "prediction": self.prediction,
            "probability": self.probability,
            "threshold": self.threshold,
            "in_distribution": self.in_distribution,
            "region": None if self.region is None else list(self.region),
            "model": {
                "architecture": self.architecture,
                "version": self.version,
                "domain": self.domain,
            },
            "warnings": list(self.warnings),
        }
        for name, pixels in (("heatmap", self.heatmap), ("image", self.grey)):
            if name in pictures and pixels is not None:
                answer[name] = base64.b64encode(encode_png(pixels)).decode("ascii")
        return answer
