"""Configuration of a phantom set, and the levels of the neck."""

from __future__ import annotations

from dataclasses import dataclass

from cspine.core.errors import ConfigError

LEVELS = ("C1", "C2", "C3", "C4", "C5", "C6", "C7")
# The matrix that nearly all CT is reconstructed on.
SIDE_PX = 512


@dataclass(frozen=True)
class PhantomConfig:
    """Configuration of a synthetic set; the same configuration writes the same bytes.

    Attributes:
        patients: number of patients.
        slices_per_patient: slices of each, at least 2.
        seed: of everything random.
        fractured_share: share of all slices that hold a fracture, 0..1. Of a patient whose slices
            all come out fractured one is set free, so few slices a patient hold fewer fractures.
        normal_patients: share of the patients without any fracture, where `fractured_share` leaves
            room for it; with none, a patient's mere presence would tell.
        min_width_mm: thinnest fracture; widths are log-uniform from here …
        max_width_mm: … to here.
        confound: None, or `height`: fractures above C4 and normal slices below, as published.
        variants: also write rotated and sharpened copies of the published kind (Kaggle layout).
        version: of the phantom; it changes whenever pixels do.

    Raises:
        ConfigError: a value out of its range.
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
        _require(0 <= self.fractured_share <= 1, "fractured_share", "0 to 1", self.fractured_share)
        _require(
            0 <= self.normal_patients < 1, "normal_patients", "0 to below 1", self.normal_patients
        )
        widths = (self.min_width_mm, self.max_width_mm)
        _require(
            0.05 <= widths[0] <= widths[1] <= 5,
            "min_width_mm, max_width_mm",
            "rising, 0.05 to 5",
            widths,
        )
        _require(self.confound in (None, "height"), "confound", "None or `height`", self.confound)


def _require(holds: bool, name: str, must: str, received: object) -> None:
    if not holds:
        raise ConfigError(f"`{name}` must be {must}. Received: {received}")
