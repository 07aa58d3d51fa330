"""Pictures that are no axial CT of the neck, drawn by seed: what the image checks must refuse."""

import numpy as np
from scipy import ndimage

KINDS = ("photograph", "text", "radiograph", "noise", "blank")


def draw_picture(kind: str, seed: int, side: int = 512) -> np.ndarray:
    """A uint8 (side, side) picture of one of KINDS."""
    rng = np.random.default_rng([KINDS.index(kind), seed])
    picture = globals()[f"_{kind}"](rng, side)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def _fractal(rng, side, exponent):
    """Noise whose amplitude falls as frequency to the minus `exponent`, in -1..1."""
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    frequency[0, 0] = 1.0
    phases = np.exp(2j * np.pi * rng.random(frequency.shape))
    field = np.fft.irfft2(phases * frequency**-exponent, (side, side))
    field -= field.mean()
    return np.clip(field / (2.5 * field.std()), -1, 1)


def _photograph(rng, side):
    """Textured regions before a background, lit from one side: a scene, a face, a landscape."""
    rows, columns = np.mgrid[:side, :side] / side
    picture = 60 * rng.uniform(-1, 1) * (rows - 0.5) + 60 * rng.uniform(-1, 1) * (columns - 0.5)
    picture += rng.uniform(90, 160) + rng.uniform(25, 80) * _fractal(rng, side, rng.uniform(1, 1.6))
    for _ in range(rng.integers(0, 9)):
        centre, radii = rng.uniform(0, 1, 2), rng.uniform(0.05, 0.35, 2)
        inside = ((rows - centre[0]) / radii[0]) ** 2 + ((columns - centre[1]) / radii[1]) ** 2 < 1
        if rng.random() < 0.5:
            inside = (abs(rows - centre[0]) < radii[0]) & (abs(columns - centre[1]) < radii[1])
        texture = rng.uniform(5, 50) * _fractal(rng, side, rng.uniform(0.8, 1.6))
        picture = np.where(inside, rng.uniform(10, 245) + texture, picture)
    return ndimage.gaussian_filter(picture, rng.uniform(0.5, 1.5)) + rng.normal(0, 3, (side, side))


def _text(rng, side):
    """Lines of dark strokes on light paper, sometimes the other way round, with an illustration."""
    page = np.full((side, side), rng.uniform(225, 255))
    pitch = int(rng.integers(10, 26))
    margin = int(rng.integers(10, side // 6))
    for top in range(margin, side - margin - pitch, pitch):
        strokes = rng.random((pitch // 2, side // 3)) < rng.uniform(0.35, 0.6)
        line = np.repeat(strokes, 3, axis=1)[:, : side - 2 * margin]
        words = np.repeat(rng.random(side // 12 + 1) < 0.85, 12)[: line.shape[1]]
        end = int(line.shape[1] * (rng.uniform(0.3, 1.0) if rng.random() < 0.2 else 1.0))
        ink = (line & words) * (np.arange(line.shape[1]) < end)
        page[top : top + pitch // 2, margin : margin + line.shape[1]] -= ink * rng.uniform(150, 225)
    if rng.random() < 0.3:
        top, left = rng.integers(0, side // 2, 2)
        page[top : top + side // 3, left : left + side // 3] = (
            128 + 80 * _fractal(rng, side // 3, 1.3)[: side - top, : side - left]
        )
    page = ndimage.gaussian_filter(page, rng.uniform(0.3, 0.9))
    return 255 - page if rng.random() < 0.25 else page


def _radiograph(rng, side):
    """A lateral or frontal projection of a neck or chest: thickness, not slices, makes the grey."""
    rows, columns = np.mgrid[:side, :side] / side
    bend = 0.12 * rng.uniform(-1, 1)
    middle = rng.uniform(0.4, 0.6) + bend * np.sin(np.pi * rows)
    half = rng.uniform(0.18, 0.35) + 0.25 * np.clip(rows - rng.uniform(0.55, 0.8), 0, None)
    # Path length.
    body = np.sqrt(np.clip(1 - ((columns - middle) / half) ** 2, 0, None))
    absorbed = rng.uniform(1.0, 1.8) * body
    spine = middle + rng.uniform(-0.05, 0.05)
    pitch, width = rng.uniform(0.08, 0.13), rng.uniform(0.05, 0.08)
    vertebra = (abs(columns - spine) < width) & ((rows / pitch) % 1 > 0.15)
    absorbed += rng.uniform(0.3, 0.7) * ndimage.gaussian_filter(vertebra.astype(float), 2)
    airway = np.exp(-(((columns - spine + 1.9 * width) / 0.02) ** 2))
    absorbed -= rng.uniform(0.2, 0.4) * airway * body
    if rng.random() < 0.5:  # ribs
        phase = (rows - 0.35 * (columns - middle) ** 2 / half) / 0.09
        absorbed += 0.25 * (phase % 1 < 0.3) * (body > 0) * (rows > rng.uniform(0.3, 0.6))
    picture = 255 * (1 - np.exp(-absorbed)) + 6 * _fractal(rng, side, 1.2)
    picture = ndimage.gaussian_filter(picture, rng.uniform(0.8, 2.0)) + rng.normal(
        0, 4, picture.shape
    )
    picture = (picture - picture.min()) / np.ptp(picture) * 255
    return 255 - picture if rng.random() < 0.2 else picture


def _noise(rng, side):
    """White, smoothed, salt-and-pepper or block noise."""
    choice = rng.integers(4)
    if choice == 0:
        return rng.normal(rng.uniform(60, 190), rng.uniform(10, 70), (side, side))
    if choice == 1:
        return 255.0 * (rng.random((side, side)) < rng.uniform(0.05, 0.95))
    field = ndimage.gaussian_filter(rng.normal(size=(side, side)), rng.uniform(0.7, 6.0))
    if choice == 2:
        return 128 + rng.uniform(20, 70) * field / field.std()
    block = int(rng.integers(4, 64))
    blocks = rng.uniform(0, 255, (side // block + 1, side // block + 1))
    return np.kron(blocks, np.ones((block, block)))[:side, :side]


def _blank(rng, side):
    """One grey, a faint ramp, a vignette, or a single line on nothing."""
    rows, columns = np.mgrid[:side, :side] / side - 0.5
    grey = rng.uniform(0, 255)
    choice = rng.integers(4)
    if choice == 0:
        return np.full((side, side), grey) + rng.normal(0, rng.uniform(0, 2), (side, side))
    if choice == 1:
        return grey + rng.uniform(-200, 200) * rows + rng.uniform(-200, 200) * columns
    if choice == 2:
        return grey - rng.uniform(50, 300) * (rows**2 + columns**2)
    return np.where(abs(rows - rng.uniform(-0.4, 0.4)) < 0.004, 255 - grey, grey)
