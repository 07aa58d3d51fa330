"""Drawn stand-ins for CT slices that are no neck: a chest and a head, as DICOM files."""

import numpy as np
from scipy import ndimage

from .imaging_samples import ct_bytes

SIDE = 512
SERIES = "2.25.271"


def draw_chest(seed: int = 0) -> np.ndarray:
    """HU, float (512, 512): fat, muscle, two lungs, a heart, a vertebra and a ring of ribs."""
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    move = 0.02 * seed

    def inside(row, column, height, width):
        return ((y - row) / height) ** 2 + ((x - column) / width) ** 2 < 1

    hu = np.full((SIDE, SIDE), -1000.0)
    hu[inside(0, 0, 0.62, 0.88)] = -90
    hu[inside(0, 0, 0.56, 0.82)] = 45
    for side in (-0.42, 0.42):
        hu[inside(-0.02, side, 0.42 - move, 0.3)] = -850
    hu[inside(-0.1, 0.05, 0.2, 0.22)] = 45
    hu[inside(0.33, 0, 0.11, 0.12)] = 500
    hu[inside(0.33, 0, 0.085, 0.095)] = 250
    for angle in np.linspace(0, 2 * np.pi, 14, endpoint=False) + move:
        hu[inside(0.5 * np.sin(angle), 0.75 * np.cos(angle), 0.03, 0.045)] = 600
    return _scan(hu, seed)


def draw_head(seed: int = 0) -> np.ndarray:
    """HU, float (512, 512): a ring of skull round brain, petrous bone and air cells."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    radius = np.hypot(y / 0.92, x / 0.76)
    hu = np.where(radius < 1, 30.0, -1000.0)
    hu[(radius > 0.9) & (radius < 0.97)] = 1200
    patches = ndimage.gaussian_filter(rng.normal(size=(SIDE, SIDE)), 7)
    patches /= patches.std()
    hu[(radius < 0.9) & (patches > 0.9)] = 1000
    hu[(radius < 0.9) & (patches < -1.1)] = -900
    return _scan(hu, seed)


def _scan(hu: np.ndarray, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 15, hu.shape)
    return ndimage.gaussian_filter(hu, 1) + noise


def as_dicom(hu: np.ndarray, number: int = 1, **changes) -> bytes:
    """A CT slice of one series; `changes` are attributes by keyword."""
    stored = np.clip(np.rint(hu) + 1024, 0, 4095).astype(np.uint16)
    place = {"InstanceNumber": number, "ImagePositionPatient": [0, 0, 3.0 * number]}
    identity = {"SeriesInstanceUID": SERIES, "SOPInstanceUID": f"{SERIES}.{number}"}
    return ct_bytes(stored, **place, **identity, **changes)
