"""Renderer of one patient's slices: anatomy, hard negatives, fracture, scanner, and the truth.

The twin of a slice is the same slice without its fracture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cspine.core.labels import CLASS_NAMES, FRACTURE, NORMAL
from cspine.phantom.anatomy.bone import VERTEBRA_MIDDLE, draw_bone, vertebra_reach
from cspine.phantom.anatomy.canvas import make_canvas, neck_plane
from cspine.phantom.anatomy.organs import draw_organs
from cspine.phantom.anatomy.shapes import Array
from cspine.phantom.anatomy.soft_tissue import draw_neck
from cspine.phantom.anatomy.vertebra import draw_vertebra
from cspine.phantom.config import PhantomConfig
from cspine.phantom.fractures import Fracture, break_bone
from cspine.phantom.hard_negatives import draw_hard_negative
from cspine.phantom.patient import (
    NOISE,
    TWIN_NOISE,
    Patient,
    Position,
    draw_labels,
    draw_patient,
    draw_positions,
    stream,
)
from cspine.phantom.scanner import acquire, show


@dataclass(frozen=True)
class Truth:
    """The truth of a slice; lengths are in mm.

    `label` is an index into `core.labels.CLASS_NAMES`. `hard_negative` names the structure that
    resembles a fracture, or is empty. The fields with a default describe the fracture
    (see `fractures.Fracture`); they keep the default if there is none.
    """

    label: int
    patient_id: str
    slice_index: int
    level: str
    z_mm: float
    spacing_mm: float
    thickness_mm: float
    is_swollen: bool
    hard_negative: str
    fracture_type: str = ""
    width_mm: float | None = None
    displacement_mm: float | None = None
    visible_area_mm2: float | None = None
    visible_length_mm: float | None = None

    @property
    def slice_id(self) -> str:
        """Identifier of the slice, unique in the set."""
        return f"{self.patient_id}_slice{self.slice_index:03d}"

    @property
    def label_name(self) -> str:
        """`normal` or `fracture`."""
        return CLASS_NAMES[self.label]


@dataclass(frozen=True)
class PhantomSlice:
    """One slice as scanned.

    Attributes:
        hu: float32 (512, 512), Hounsfield units with noise, rounded to integers.
        grey: uint8 (512, 512), windowed, with white or black outside a round field.
        mask: bool (512, 512), true on the fracture's gap; all false on normal slices.
        twin_grey: `grey` of the twin, with different noise; None on normal slices.
        ideal_hu: float32 (512, 512), the slice before the scanner model.
        ideal_twin_hu: the twin before the scanner model; `ideal_hu` itself on normal slices.
        truth: the slice's label and everything else known about the slice.
        patient: the patient and the scanner's protocol.
        position: the slice's position in the neck.
    """

    hu: Array
    grey: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.bool_]
    twin_grey: npt.NDArray[np.uint8] | None
    ideal_hu: Array
    ideal_twin_hu: Array
    truth: Truth
    patient: Patient
    position: Position


def render_patient(patient_seed: int, config: PhantomConfig) -> list[PhantomSlice]:
    """Render all slices of one patient from the top down; equal arguments give equal pixels."""
    return [render_slice(*drawn, config) for drawn in draw_slices(patient_seed, config)]


def draw_slices(patient_seed: int, config: PhantomConfig) -> list[tuple[Patient, Position, bool]]:
    """Draw (patient, position, is fractured) for each slice of one patient, without rendering."""
    patient = draw_patient(config.seed, patient_seed)
    positions = draw_positions(patient, config.slices_per_patient)
    labels = draw_labels(patient, positions, config)
    return [(patient, *drawn) for drawn in zip(positions, labels, strict=True)]


def render_slice(
    patient: Patient, position: Position, is_fractured: bool, config: PhantomConfig
) -> PhantomSlice:
    """Render one slice of `patient` at `position`, with or without a fracture."""
    twin, truth, fracture_hu, fracture = _draw_ideal(patient, position, is_fractured, config)
    hu = acquire(fracture_hu, patient, position, stream(NOISE, *patient.key, position.index))
    twin_grey = None
    if is_fractured:
        # The twin gets different noise. With the same noise, slice and twin would be identical
        # except at the fracture, and a network could exploit that.
        noise = stream(TWIN_NOISE, *patient.key, position.index)
        twin_grey = show(acquire(twin, patient, position, noise), patient)
    mask = fracture.mask if fracture else np.zeros(hu.shape, bool)
    return PhantomSlice(
        hu=hu,
        grey=show(hu, patient),
        mask=mask,
        twin_grey=twin_grey,
        ideal_hu=fracture_hu,
        ideal_twin_hu=twin,
        truth=truth,
        patient=patient,
        position=position,
    )


def _draw_ideal(
    patient: Patient, position: Position, is_fractured: bool, config: PhantomConfig
) -> tuple[Array, Truth, Array, Fracture | None]:
    """Return the ideal twin, the truth, the ideal slice and the fracture (None if normal).

    Ideal pictures are those before the scanner model.
    """
    # Everything before the fracture, also hard negatives and swelling, is drawn in the same way for
    # both classes.
    vertebra = draw_vertebra(patient, position.level)
    canvas = make_canvas(patient, draw_neck(neck_plane(patient, step=2), patient, position))
    is_swollen = draw_organs(canvas, patient, position)
    bone = draw_bone(canvas, patient, position, vertebra)
    mimic = draw_hard_negative(bone, patient, position, vertebra)
    known: dict[str, Any] = {
        "patient_id": f"patient{patient.key[-1]:04d}",
        "slice_index": position.index,
        "level": position.level_name,
        "z_mm": position.z_mm,
        "spacing_mm": round(patient.spacing_mm, 4),
        "thickness_mm": patient.thickness_mm,
        "is_swollen": is_swollen,
        "hard_negative": mimic.name,
    }
    if not is_fractured:
        mimic.move(canvas.hu)
        return canvas.hu, Truth(NORMAL, **known), canvas.hu, None
    window = canvas.window(VERTEBRA_MIDDLE, vertebra_reach(vertebra))
    broken, fracture = break_bone(canvas.hu, bone, window, patient, position, vertebra, config)
    for moved in (canvas.hu, broken, fracture.mask):
        mimic.move(moved)
    truth = Truth(
        FRACTURE,
        **known,
        fracture_type=fracture.kind,
        width_mm=fracture.width_mm,
        displacement_mm=fracture.displacement_mm,
        visible_area_mm2=fracture.visible_area_mm2,
        visible_length_mm=fracture.visible_length_mm,
    )
    return canvas.hu, truth, broken, fracture
