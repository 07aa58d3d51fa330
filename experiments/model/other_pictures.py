"""Generator of 500 synthetic pictures that are not axial CT slices of the neck.

Photographs, text pages, drawn radiographs, noise and blank pictures come from the code that the
tests of the image checks use, with other seeds. This file adds colour photographs, radiographs made
by projection through synthetic necks, inverted slices, and slices of a head.
"""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
from PIL import Image
from scipy import ndimage

from cspine.phantom.config import PhantomConfig
from cspine.phantom.render import render_patient
from tests.support.non_ct import draw_picture

SEED = 77_000  # first seed of the drawn pictures, far from the seeds of the tests
COUNTS = {
    "photograph, grey": 65,
    "photograph, colour": 55,
    "text": 70,
    "radiograph, drawn": 55,
    "radiograph, projection": 45,
    "noise": 55,
    "blank": 55,
    "inverted CT": 50,
    "head CT": 50,
}
_DRAWN = {
    "photograph, grey": "photograph",
    "text": "text",
    "radiograph, drawn": "radiograph",
    "noise": "noise",
    "blank": "blank",
}
_STACK = 40  # slices per neck
_VIEWS = 15  # projections per neck


def encode(pixels: np.ndarray) -> bytes:
    """Return uint8 (H, W) or (H, W, 3) as the bytes of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def draw_pictures(kind: str, count: int) -> Iterator[np.ndarray]:
    """Yield `count` pictures of one kind of COUNTS, uint8 (H, W) or (H, W, 3)."""
    if kind == "radiograph, projection":
        yield from _project(count)
    elif kind == "inverted CT":
        config = PhantomConfig(patients=1, seed=SEED)
        patients = range(-(-count // config.slices_per_patient))
        greys = [item.grey for number in patients for item in render_patient(number, config)]
        yield from (255 - grey for grey in greys[:count])
    else:
        for number in range(count):
            yield _draw(kind, SEED + number)


def _draw(kind: str, seed: int) -> np.ndarray:
    if kind == "head CT":
        return _draw_head(np.random.default_rng([4, seed]))
    if kind == "photograph, colour":
        return _draw_colour(seed)
    return draw_picture(_DRAWN[kind], seed)


def _draw_colour(seed: int) -> np.ndarray:
    """Return a colour photograph: each channel is another mixture of the same two photographs."""
    rng = np.random.default_rng([5, seed])
    first = draw_picture("photograph", seed).astype(float)
    second = draw_picture("photograph", seed + 500).astype(float)
    mixed = [rng.uniform(0.5, 1) * first + rng.uniform(0, 0.5) * second for _ in range(3)]
    return np.clip(np.stack(mixed, axis=-1), 0, 255).astype(np.uint8)


def _project(count: int) -> Iterator[np.ndarray]:
    """Yield radiographs: projections through synthetic necks from several directions."""
    config = PhantomConfig(patients=1, seed=SEED, slices_per_patient=_STACK)
    for number in range(count):
        if number % _VIEWS == 0:
            slices = render_patient(number // _VIEWS, config)
            volume = np.stack([item.hu[::2, ::2] for item in slices]) + 1000  # (Z, 256, 256), air 0
            volume = np.maximum(volume, 0)
        turned = ndimage.rotate(
            volume, 180 * (number % _VIEWS) / _VIEWS, axes=(1, 2), order=1, reshape=False
        )
        path = turned.sum(axis=1)  # (Z, 256): attenuation along the beam
        # A third of the pictures show what a detector measures, exp(−path) by the law of Beer and
        # Lambert, with dark bone. The others show bright bone, as radiologists read them.
        beam = np.exp(-path / np.percentile(path, 90)) if number % 3 == 0 else path
        beam = 255 * (beam - beam.min()) / np.ptp(beam)
        picture = Image.fromarray(beam.astype(np.uint8)).resize(
            (512, 512), Image.Resampling.BICUBIC
        )
        yield np.asarray(picture)


def _draw_head(rng: np.random.Generator) -> np.ndarray:
    """Return a slice of a head: a closed ring of skull, brain, ventricles, sometimes orbits."""
    side = 512
    rows, columns = np.mgrid[:side, :side].astype(float)
    angle, middle = rng.normal(0, 0.12), 256 + rng.normal(0, 12, 2)
    y, x = rows - middle[0], columns - middle[1]
    y, x = y * np.cos(angle) - x * np.sin(angle), y * np.sin(angle) + x * np.cos(angle)
    long, short = rng.uniform(165, 225), rng.uniform(130, 175)
    wave = 1 + 0.015 * np.sin(rng.integers(2, 6) * np.arctan2(y, x) + rng.uniform(0, 6))
    radius = np.hypot(y / long, x / short) * wave  # 1 at the skin
    skull = rng.uniform(0.88, 0.93), rng.uniform(0.95, 0.97)
    grey = np.where(radius < 1, rng.uniform(90, 130), rng.uniform(0, 12))
    grey[(radius >= skull[0]) & (radius < skull[1])] = rng.uniform(225, 255)
    brain = radius < skull[0]
    folds = ndimage.gaussian_filter(rng.normal(size=(side, side)), 7)
    grey = np.where(brain, rng.uniform(110, 160) + 9 * folds / folds.std(), grey)
    fluid = rng.uniform(60, 90)
    for mirror in (-1, 1):  # the lateral ventricles
        bent = (x - mirror * (14 + 0.25 * np.abs(y))) / rng.uniform(7, 14)
        grey[brain & (np.hypot(bent, y / rng.uniform(35, 70)) < 1)] = fluid
    grey[brain & (np.abs(x) < 1.5) & (np.abs(y) > 60)] = fluid + 25  # the falx
    # Some slices are low in the head, with orbits and sinuses in front.
    if rng.random() < 0.4:
        for mirror in (-1, 1):
            globe = np.hypot(x - mirror * 0.45 * short, y + 0.72 * long)
            grey[globe < 34], grey[globe < 28] = 240, 130
        grey[np.hypot(x, (y + 0.8 * long) / 1.6) < 20] = 5
    blurred = ndimage.gaussian_filter(grey, rng.uniform(0.5, 1.2))
    return np.clip(blurred + rng.normal(0, rng.uniform(2, 9), grey.shape), 0, 255).astype(np.uint8)
