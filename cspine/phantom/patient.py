"""Random patient of a phantom, with the positions and labels of the patient's slices.

Everything random comes from `stream`, which gives each purpose its own generator, so that leaving
out the fracture changes nothing else. Whatever must not depend on the label is drawn by functions
that do not receive the label.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cspine.phantom.config import LEVELS, PhantomConfig

Rng = np.random.Generator
# Purposes of the random streams. A purpose's number seeds its stream, so a new purpose must be
# added at the end; otherwise, every image changes.
PATIENT, POSITIONS, LABELS, VERTEBRA, TISSUE, ORGANS, TEXTURE, MIMICS = range(8)
FRACTURE, NOISE, TWIN_NOISE, VARIANTS, ROUGHNESS = range(8, 13)


def stream(purpose: int, *key: int) -> Rng:
    """Return the generator of one purpose; `key` holds the seed, patient number and slice index."""
    # NumPy hashes the complete list, so even similar keys give independent streams.
    return np.random.default_rng([purpose, *key])


@dataclass(frozen=True)
class Patient:
    """One patient and one scanner protocol. Lengths in mm, angles in rad, densities in HU."""

    key: tuple[int, ...]
    size: float  # size of the bones; 1 is the average adult
    neck_radii: tuple[float, float]
    fat_mm: float  # thickness of the fat under the skin
    plane_mm: float  # width of the fat planes between muscles
    rotation: float
    tilt: tuple[float, float]  # angles between spine and slice normal: to the left, to the back
    middle: tuple[float, float]  # middle of the canal's front wall, as a share of the image side
    age: float  # 0 (young) to 1 (old); affects cortex, marrow and degeneration
    marrow_hu: float
    cortex_hu: float
    muscle_hu: float
    contrast: bool  # iodine in the vessels
    spacing_mm: float
    thickness_mm: float
    bone_kernel: bool
    noise_hu: float
    round_field: str | None  # colour outside the round field, `white` or `black`; None if not round
    window: tuple[float, float]  # centre and width in HU


@dataclass(frozen=True)
class Position:
    """Position of one slice: level 0..6 (C1..C7), and `t` from 0 (vertebra's top) to 1 (bottom)."""

    index: int
    level: int
    t: float
    z_mm: float

    @property
    def level_name(self) -> str:
        """`C1` to `C7`."""
        return LEVELS[self.level]


def draw_patient(*key: int) -> Patient:
    """Draw the patient of `key`, which holds the set's seed and the patient's number."""
    rng = stream(PATIENT, *key)
    # The order of the draws must not change within a version of the phantom, because another order
    # gives other patients.
    size, age = float(np.clip(rng.normal(1, 0.06), 0.86, 1.14)), float(rng.uniform())
    girth = rng.normal(1, 0.08)
    bone_kernel = bool(rng.uniform() < 0.6)
    sideways, backwards = np.radians(np.clip(rng.normal(0, [3, 7]), [-8, -16], [8, 16]))
    return Patient(
        key=key,
        size=size,
        neck_radii=(float(70 * size * girth), float(rng.uniform(62, 74) * size * girth**0.7)),
        fat_mm=float(rng.uniform(3, 12) * girth**3),
        plane_mm=float(rng.uniform(0.3, 1.5)),
        rotation=float(np.radians(np.clip(rng.normal(0, 6), -16, 16))),
        tilt=(float(sideways), float(backwards)),
        middle=(float(rng.normal(0.5, 0.025)), float(rng.uniform(0.36, 0.5))),
        age=age,
        marrow_hu=float(rng.uniform(260, 350) - 60 * age),
        cortex_hu=float(rng.uniform(1100, 1480) - 90 * age),
        muscle_hu=float(rng.uniform(48, 65)),
        contrast=bool(rng.uniform() < 0.35),
        # This gives a field of view of 154 to 210 mm, as is usual for a neck. With pixels of up to
        # 0.5 mm, the shoulders would show, and the vertebra, already smaller than on the slices of
        # the published Kaggle set, would be smaller still.
        spacing_mm=float(rng.uniform(0.3, 0.41)),
        thickness_mm=float(rng.choice([0.625, 1.0, 1.25, 2.0])),
        bone_kernel=bone_kernel,
        # A bone kernel keeps the high frequencies, which hold most of the noise.
        noise_hu=float(rng.uniform(35, 90) if bone_kernel else rng.uniform(10, 24)),
        round_field=str(rng.choice(["white", "black"])) if rng.uniform() < 0.55 else None,
        window=_draw_window(rng),
    )


def _draw_window(rng: Rng) -> tuple[float, float]:
    """Draw centre and width (HU) of a window of one of three styles.

    The styles are a bone window, a wide window with light soft tissue, and a bright one.
    """
    habit = rng.choice(3, p=[0.3, 0.35, 0.35])
    low = rng.uniform([-550, -1250, -1500][habit], [-200, -900, -1100][habit])
    high = rng.uniform([1000, 800, 600][habit], [1800, 1400, 900][habit])
    return float((low + high) / 2), float(high - low)


def draw_positions(patient: Patient, count: int) -> list[Position]:
    """Draw the positions of `count` slices, evenly spaced from the top of the neck down.

    They do not depend on the labels.
    """
    rng = stream(POSITIONS, *patient.key)
    # The start is random; otherwise, every patient would have slices at the same heights.
    heights = (np.arange(count) + rng.uniform()) * (len(LEVELS) / count)
    return [
        # A vertebra with its disc is 17 mm high; z decreases towards the feet
        # (PS3.3 C.7.6.2.1.1).
        Position(
            index, int(height), float(height % 1), round(-17.0 * patient.size * float(height), 3)
        )
        for index, height in enumerate(heights)
    ]


def draw_labels(patient: Patient, positions: list[Position], config: PhantomConfig) -> list[bool]:
    """Draw which slices are fractured; their heights matter only if `config` has a confound."""
    # The labels have their own stream, so that neither positions nor anatomy depend on them.
    rng = stream(LABELS, *patient.key)
    if config.confound == "height":
        return [position.level < 3 for position in positions]
    normal_patients = min(config.normal_patients, 1 - config.fractured_share)
    is_normal = rng.uniform() < normal_patients
    # The share is raised among the other patients, so that the set's share is `fractured_share`.
    share = config.fractured_share / (1 - normal_patients)
    drawn = rng.uniform(size=len(positions)) < share
    # A patient with fractures also gets a normal slice; otherwise, the patient would predict the
    # label.
    if drawn.all() and config.fractured_share < 1:
        drawn[rng.integers(len(positions))] = False
    return [bool(fractured) and not is_normal for fractured in drawn]
