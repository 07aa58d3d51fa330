"""Scanner model: sharpness, noise, shoulder streaks, round field of view, window.

The kernel acts in the Fourier plane of the slice (frequency in cycles/mm). Noise has the spectrum
of filtered back-projection, power |f| · MTF(f)² (Riederer, Pelc, Chesler, Phys Med Biol 1978).
At the shoulders the noise has more power at vertical frequencies, which gives horizontal streaks.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import fft

from cspine.phantom.anatomy.shapes import Array
from cspine.phantom.config import SIDE_PX
from cspine.phantom.patient import Patient, Position, Rng

# The lowest value that CT stores; scanners write it outside the field of view.
PADDING_HU = -1024.0
_BONE_CUT, _BONE_LIFT, _SOFT_CUT = 0.95, 0.45, 0.62  # cycles/mm; the lift is dimensionless


def acquire(hu: Array, patient: Patient, position: Position, rng: Rng) -> Array:
    """Return the slice as reconstructed: `hu` filtered by the kernel, with noise from `rng`.

    `hu` is the ideal slice, float32 (512, 512). The result is also float32 (512, 512), with integer
    values from -1024 to 3071.
    """
    # Kernel and noise share one forward and one inverse transform.
    spectrum = fft.rfft2(hu)
    _weigh(spectrum, transfer(patient.spacing_mm, patient.bone_kernel))
    spectrum += _noise_spectrum(patient, position, rng)
    picture: Array = fft.irfft2(spectrum, hu.shape)
    # The limits span the 4096 values that 12 bits hold.
    return np.clip(np.rint(picture, out=picture), PADDING_HU, 3071, out=picture)


def noise_amplitude(patient: Patient, position: Position) -> Array:
    """Standard deviation of the noise at each frequency of rfft2, float32 (512, 257).

    They are scaled so that the standard deviation of the noise in the picture is
    `patient.noise_hu`, and higher at the shoulders.
    """
    # The strength of the streaks is rounded to tenths, so that slices can share cached shapes.
    streaks = round(float(np.clip(position.level + position.t - 4.5, 0, 2.5)), 1)
    shape = _noise_shape(patient.spacing_mm, patient.bone_kernel, streaks)
    return shape * np.float32(patient.noise_hu * (1 + 0.25 * streaks))


@lru_cache(maxsize=4)
def _frequencies(spacing_mm: float) -> tuple[Array, Array, Array]:
    """Vertical, horizontal and radial frequencies of rfft2 in cycles/mm."""
    down = fft.fftfreq(SIDE_PX, spacing_mm).astype(np.float32)[:, None]
    right = fft.rfftfreq(SIDE_PX, spacing_mm).astype(np.float32)[None, :]
    return down, right, np.hypot(down, right)


@lru_cache(maxsize=4)
def transfer(spacing_mm: float, bone_kernel: bool) -> Array:
    """The kernel's modulation transfer function, float32 (512, 257).

    It is 1 at frequency 0; the bone kernel's rises above 1 at middle frequencies, which sharpens
    edges.
    """
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
    """Weight of each frequency, 0..1: 1 if the frequency is vertical, near 0 if it is oblique."""
    down, right, _ = _frequencies(spacing_mm)
    lobe: Array = np.exp(-((np.arctan2(right, np.abs(down)) / 0.22) ** 2))
    return lobe


@lru_cache(maxsize=8)
def _noise_shape(spacing_mm: float, bone_kernel: bool, streaks: float) -> Array:
    radial = _frequencies(spacing_mm)[2]
    power = radial * transfer(spacing_mm, bone_kernel) ** 2
    power = power * (1 + 4 * streaks * _streak_lobe(spacing_mm))
    weights = np.full(power.shape[1], 2.0)
    weights[[0, -1]] = 1  # the others count twice, because rfft2 leaves out their mirror images
    mean_power = float((power * weights).sum()) / SIDE_PX**2
    # A picture's variance is the sum of |spectrum|² divided by the squared number of pixels.
    shape: Array = (np.sqrt(power / mean_power) * SIDE_PX).astype(np.float32)
    return shape


def _noise_spectrum(patient: Patient, position: Position, rng: Rng) -> npt.NDArray[np.complex64]:
    amplitude = noise_amplitude(patient, position)
    pairs = rng.standard_normal((*amplitude.shape, 2), dtype=np.float32)
    # The view turns each pair of float32 into one complex64 without a copy, (512, 257, 2) into
    # (512, 257).
    white: npt.NDArray[np.complex64] = pairs.view(np.complex64)[..., 0]
    # Real and imaginary part get half the power each. irfft2 drops the imaginary part of the
    # columns that are their own mirror images, which is a thousandth of the power.
    _weigh(white, amplitude * np.float32(np.sqrt(0.5)))
    return white


def _weigh(spectrum: npt.NDArray[np.complex64], weight: Array) -> None:
    """Multiply by real weights in place; `*=` would first convert the weights to complex ones."""
    spectrum.real *= weight
    spectrum.imag *= weight


def show(hu: Array, patient: Patient) -> npt.NDArray[np.uint8]:
    """Return the picture that a viewer saves, uint8: `hu` windowed, with the round field."""
    centre, width = patient.window
    grey = np.clip((hu - np.float32(centre - width / 2)) * np.float32(255 / width), 0, 255)
    picture: npt.NDArray[np.uint8] = (grey + np.float32(0.5)).astype(np.uint8)
    if patient.round_field:
        # White or black depends on the patient and not on the label; series of the published
        # Kaggle set differ in this too.
        picture[outside_field()] = 255 if patient.round_field == "white" else 0
    return picture


def pad(hu: Array, patient: Patient) -> Array:
    """Return the slice as a scanner stores it: `hu`, with `PADDING_HU` outside a round field."""
    if patient.round_field is None:
        return hu
    return np.where(outside_field(), np.float32(PADDING_HU), hu)


@lru_cache(maxsize=1)
def outside_field() -> npt.NDArray[np.bool_]:
    """Mask, bool (512, 512), of the pixels outside the largest circle that fits in the picture."""
    ticks = np.arange(SIDE_PX) - (SIDE_PX - 1) / 2
    outside: npt.NDArray[np.bool_] = np.hypot(ticks[:, None], ticks[None, :]) > SIDE_PX / 2
    return outside
