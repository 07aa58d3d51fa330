"""Scanner model: sharpness, noise, shoulder streaks, round field of view, window.

The kernel acts in the Fourier plane of the slice (frequency in cycles/mm). Noise has the spectrum
of filtered back-projection, power |f| · MTF(f)² (Riederer, Pelc, Chesler, Phys Med Biol 1978);
at the shoulders it gains power along the vertical frequencies, which are horizontal streaks.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import fft

from cspine.phantom.anatomy.shapes import Array
from cspine.phantom.config import SIDE_PX
from cspine.phantom.patient import Patient, Position, Rng

# The least that CT stores, as scanners write it outside the field of view.
PADDING_HU = -1024.0
_BONE_CUT, _BONE_LIFT, _SOFT_CUT = 0.95, 0.45, 0.62  # cycles/mm; edge lift without unit


def acquire(hu: Array, patient: Patient, position: Position, rng: Rng) -> Array:
    """The slice as reconstructed: `hu` blurred and sharpened by the kernel, with noise from `rng`.

    `hu` is float32 (512, 512), ideal; the result is too, whole numbers, -1024 to 3071.
    """
    # One transform there and back serves blur and noise alike.
    spectrum = fft.rfft2(hu)
    _weigh(spectrum, transfer(patient.spacing_mm, patient.bone_kernel))
    spectrum += _noise_spectrum(patient, position, rng)
    picture: Array = fft.irfft2(spectrum, hu.shape)
    # The 4096 values that 12 bits hold.
    return np.clip(np.rint(picture, out=picture), PADDING_HU, 3071, out=picture)


def noise_amplitude(patient: Patient, position: Position) -> Array:
    """Standard deviation of the noise at each frequency of rfft2, float32 (512, 257).

    Scaled so that the noise's standard deviation in the picture is `patient.noise_hu`, more at
    the shoulders.
    """
    # In tenths, so that a few cached shapes serve all slices.
    streaks = round(float(np.clip(position.level + position.t - 4.5, 0, 2.5)), 1)
    shape = _noise_shape(patient.spacing_mm, patient.bone_kernel, streaks)
    return shape * np.float32(patient.noise_hu * (1 + 0.25 * streaks))


@lru_cache(maxsize=4)
def _frequencies(spacing_mm: float) -> tuple[Array, Array, Array]:
    """Vertical, horizontal and radial frequency of rfft2, cycles/mm."""
    down = fft.fftfreq(SIDE_PX, spacing_mm).astype(np.float32)[:, None]
    right = fft.rfftfreq(SIDE_PX, spacing_mm).astype(np.float32)[None, :]
    return down, right, np.hypot(down, right)


@lru_cache(maxsize=4)
def transfer(spacing_mm: float, bone_kernel: bool) -> Array:
    """The kernel's modulation transfer, float32 (512, 257): 1 at 0, above 1 where bone lifts."""
    radial = _frequencies(spacing_mm)[2]
    if not bone_kernel:
        soft: Array = np.exp(-((radial / _SOFT_CUT) ** 2))
        return soft
    bone: Array = (1 + _BONE_LIFT * (radial / 0.5) ** 2) * np.exp(
        -((radial / (0.72 * _BONE_CUT)) ** 2)
    )
    return bone


@lru_cache(maxsize=4)
def _streak_lobe(spacing_mm: float) -> Array:
    """How far each frequency is a vertical one, 0..1."""
    down, right, _ = _frequencies(spacing_mm)
    lobe: Array = np.exp(-((np.arctan2(right, np.abs(down)) / 0.22) ** 2))
    return lobe


@lru_cache(maxsize=8)
def _noise_shape(spacing_mm: float, bone_kernel: bool, streaks: float) -> Array:
    radial = _frequencies(spacing_mm)[2]
    power = radial * transfer(spacing_mm, bone_kernel) ** 2
    power = power * (1 + 4 * streaks * _streak_lobe(spacing_mm))
    weights = np.full(power.shape[1], 2.0)
    weights[[0, -1]] = 1  # rfft2 leaves out the mirrored columns
    mean_power = float((power * weights).sum()) / SIDE_PX**2
    # A picture's variance is the sum of |spectrum|² over the square of its number of pixels.
    shape: Array = (np.sqrt(power / mean_power) * SIDE_PX).astype(np.float32)
    return shape


def _noise_spectrum(patient: Patient, position: Position, rng: Rng) -> npt.NDArray[np.complex64]:
    amplitude = noise_amplitude(patient, position)
    pairs = rng.standard_normal((*amplitude.shape, 2), dtype=np.float32)
    # Two neighbouring float32 are one complex64, without a copy: (512, 257, 2) to (512, 257).
    white: npt.NDArray[np.complex64] = pairs.view(np.complex64)[..., 0]
    # Half the power each to the real and imaginary part; irfft2 drops the imaginary part of the
    # columns that mirror themselves, a thousandth of the power.
    _weigh(white, amplitude * np.float32(np.sqrt(0.5)))
    return white


def _weigh(spectrum: npt.NDArray[np.complex64], weight: Array) -> None:
    """Multiply in place by real numbers, which NumPy would first turn into complex ones."""
    spectrum.real *= weight
    spectrum.imag *= weight


def show(hu: Array, patient: Patient) -> npt.NDArray[np.uint8]:
    """The picture a viewer saves: `hu` in the patient's window, and the round field's surround."""
    centre, width = patient.window
    grey = np.clip((hu - np.float32(centre - width / 2)) * np.float32(255 / width), 0, 255)
    picture: npt.NDArray[np.uint8] = (grey + np.float32(0.5)).astype(np.uint8)
    if patient.round_field:
        # White or black by patient, blind to the label, as the published series differ.
        picture[outside_field()] = 255 if patient.round_field == "white" else 0
    return picture


def pad(hu: Array, patient: Patient) -> Array:
    """The slice as a scanner stores it: `hu`, and outside a round field `PADDING_HU`."""
    if patient.round_field is None:
        return hu
    return np.where(outside_field(), np.float32(PADDING_HU), hu)


@lru_cache(maxsize=1)
def outside_field() -> npt.NDArray[np.bool_]:
    """Which pixels, bool (512, 512), lie outside the circle that just fits into the picture."""
    ticks = np.arange(SIDE_PX) - (SIDE_PX - 1) / 2
    outside: npt.NDArray[np.bool_] = np.hypot(ticks[:, None], ticks[None, :]) > SIDE_PX / 2
    return outside
