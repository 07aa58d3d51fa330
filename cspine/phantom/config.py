"""Configuration of a phantom set, and the names of the neck's levels."""

from __future__ import annotations

from dataclasses import dataclass

from cspine.core.errors import ConfigError

LEVELS = ("C1", "C2", "C3", "C4", "C5", "C6", "C7")
# Nearly all CT is reconstructed on a matrix of 512 × 512 pixels.
SIDE_PX = 512


@dataclass(frozen=True)
class PhantomConfig:
    """Configuration of a synthetic set; equal configurations give byte-identical sets.

    Attributes:
        patients: number of patients.
        slices_per_patient: number of slices of each patient, at least 2.
        seed: seed of everything random.
        fractured_share: share of all slices that hold a fracture, 0..1. If all slices of a patient
            are drawn as fractured, one of them is made normal. With few slices per patient the
            share of fractures is therefore lower.
        normal_patients: share of the patients without any fracture, as far as `fractured_share`
            allows it. Without normal patients, knowing the patient would help to predict the label.
        min_width_mm: width of the thinnest fracture; the widths are drawn log-uniformly.
        max_width_mm: width of the widest fracture.
        confound: None or `height`. With `height`, slices of C1 to C3 are fractured and slices of
            C4 to C7 are normal, a confound that the published Kaggle set has as well.
        variants: whether to write rotated and sharpened copies too, as in the published Kaggle set
            (Kaggle layout only).
        version: version of the phantom, which changes whenever the pixels change.

    Raises:
        ConfigError: a value is out of its range.
    """

    patients: int = 150
    slices_per_patient: int = 8
    seed: int = 1
    fractured_share: float = 0.5
    normal_patients: float = 0.25
    min_width_mm: float = 0.2
    max_width_mm: float = 3.0
    confound: str | None = None
    variants: bool = False
    version: str = "phantom-v1"

    def __post_init__(self) -> None:
        _require(self.patients >= 1, "patients", "at least 1", self.patients)
        _require(
            self.slices_per_patient >= 2, "slices_per_patient", "2 or more", self.slices_per_patient
        )
        _require(self.seed >= 0, "seed", "0 or more", self.seed)
        _require(
            0 <= self.fractured_share <= 1, "fractured_share", "from 0 to 1", self.fractured_share
        )
        _require(
            0 <= self.normal_patients < 1,
            "normal_patients",
            "at least 0 and below 1",
            self.normal_patients,
        )
        widths = (self.min_width_mm, self.max_width_mm)
        _require(
            0.05 <= widths[0] <= widths[1] <= 5,
            "min_width_mm, max_width_mm",
            "in ascending order, from 0.05 to 5",
            widths,
        )
        _require(self.confound in (None, "height"), "confound", "None or `height`", self.confound)


def _require(holds: bool, name: str, must: str, received: object) -> None:
    if not holds:
        raise ConfigError(f"`{name}` must be {must}. Received: {received}")
