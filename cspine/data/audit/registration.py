"""Registration of one image onto another, and a score of whether both are copies of one slice.

1. Start: correlation of the log-polar rings gives the best rotation, scale and mirroring.
2. Refinement: Gauss–Newton steps refine an affine map, coarse to fine, in the inverse compositional
   form (Baker & Matthews, Int. J. Comput. Vis. 56(3), 2004), which needs the reference's gradients
   only once.
3. Score: the noise textures are correlated in blocks of 12 × 12 pixels. The score is the lower
   quartile of the blocks: in copies every block agrees, in neighbouring slices only blocks with
   strong edges do.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from cspine.data.audit.descriptors import (
    ANGLES,
    INNER_PX,
    RADIUS,
    RINGS,
    SIDE,
    Signature,
    sample,
)
from cspine.imaging.downsample import block_means

_LEVELS = ((4, 1, 16), (2, 2, 10), (1, 3, 10))  # block factor, step between points, iterations
_MAX_RING_SHIFT = 4  # scales from 0.65 to 1.5
_STARTS = 3
_OUTLIER = 1.5  # in mean absolute errors
# Coarse correlation below which two images are not copies.
_COARSE_ENOUGH = 0.6
# Coarse correlation above which no other start is tried.
_SURE = 0.93
# Texture score at 96² below which two images are not copies; copies have 0.24 or more.
_HALF_ENOUGH = 0.1
# A block has 144 samples of noise, but is small enough to lie in one tissue.
_BLOCK_PX = 12
_VALID_SHARE = 0.6  # of a block's pixels, for the block to be compared
# The lower quartile replaces the mean, because neighbouring slices agree only at strong edges.
_QUARTILE = 0.25


@dataclass(frozen=True)
class Match:
    """The agreement of two images after registration.

    Fields:
        scores: lower quartile of the block correlations of texture, −1..1, at 192² and at 96²;
            −1 if too little of the images can be compared or a coarser level ruled out copies.
        coarse: correlation of the coarse pixels, −1..1.
        affine: float (2, 3), maps pixels of the reference to pixels of the other image; both are
            measured from the centre at 192².
    """

    scores: tuple[float, float]
    coarse: float
    affine: np.ndarray


@dataclass(frozen=True)
class _Template:
    """The reference at one level: points (2, N) and values, Jacobian (N, 6), inverse Hessian."""

    points: np.ndarray
    values: np.ndarray
    jacobian: np.ndarray
    inverse: np.ndarray


class Reference:
    """An image to which others are registered; its templates and spectrum are computed once."""

    def __init__(self, signature: Signature) -> None:
        self.signature = signature
        self.templates = [
            _make_template(block_means(signature.fine, factor), step) for factor, step, _ in _LEVELS
        ]
        # Padding along the radius is needed, because the radius does not wrap around as angles do.
        self.spectrum = np.fft.rfft2(signature.rings, s=(2 * RINGS, ANGLES))


def register(reference: Reference, moving: Signature) -> Match:
    """Return the agreement of `moving` with `reference` after the best affine map between them."""
    levels = [block_means(moving.fine, factor) for factor, _, _ in _LEVELS]
    best = Match((-1.0, -1.0), -1.0, np.eye(2, 3))
    for start in _find_starts(reference, moving):
        affine, coarse = _refine(reference, levels, 0, start)
        if coarse > best.coarse:
            best = Match((-1.0, -1.0), coarse, affine)
        # The correlation is so high that another start could only confirm this one.
        if coarse > _SURE:
            break
    if best.coarse < _COARSE_ENOUGH:
        return best
    ours, theirs = reference.signature.textures, moving.textures
    affine, _ = _refine(reference, levels, 1, best.affine)
    half = _compare(ours[1], theirs[1], affine)
    if half < _HALF_ENOUGH:
        return Match((-1.0, half), best.coarse, affine)
    affine, _ = _refine(reference, levels, 2, affine)
    fine, half = (_compare(a, b, affine) for a, b in zip(ours, theirs, strict=True))
    return Match((fine, half), best.coarse, affine)


def _find_starts(reference: Reference, moving: Signature) -> list[np.ndarray]:
    """Return the likeliest affine maps float (2, 3), with and without mirroring, best first."""
    ring_step = np.log(RADIUS * SIDE / 2 / INNER_PX) / (RINGS - 1)
    found = []
    for mirrored in (False, True):
        # Mirroring makes every angle negative; rolling by one puts angle 0 back in its place.
        rings = np.roll(moving.rings[:, ::-1], 1, axis=1) if mirrored else moving.rings
        spectrum = np.fft.rfft2(rings, s=(2 * RINGS, ANGLES))
        # (48, 128): the cross-correlation at every ring shift and rotation.
        full = np.fft.irfft2(reference.spectrum * np.conj(spectrum), s=(2 * RINGS, ANGLES))
        # (9, 128): shifts −4…4; a circular transform has the negative shifts at the end.
        window = np.concatenate([full[-_MAX_RING_SHIFT:], full[: _MAX_RING_SHIFT + 1]])
        for _ in range(2):
            ring, angle = np.unravel_index(int(window.argmax()), window.shape)
            scale = np.exp(-(ring - _MAX_RING_SHIFT) * ring_step)
            turn = -angle * 2 * np.pi / ANGLES
            found.append((window[ring, angle], _make_affine(mirrored, turn, scale)))
            # The second best must be another rotation, not one next to the best.
            near = (np.arange(angle - 6, angle + 7)) % ANGLES
            window[:, near] = -np.inf
    found.sort(key=lambda pair: -pair[0])
    return [affine for _, affine in found[:_STARTS]]


def _make_affine(mirrored: bool, turn: float, scale: float) -> np.ndarray:
    cos, sin = np.cos(turn) * scale, np.sin(turn) * scale
    affine = np.array([[cos, -sin, 0.0], [sin, cos, 0.0]])
    # The map flips the image upside down, which gives every mirroring if combined with a rotation.
    return affine * [[1.0], [-1.0]] if mirrored else affine


@cache
def _disk_points(side: int, step: int) -> np.ndarray:
    """Return float32 (2, N), (x, y) from the centre of every `step`-th pixel inside the disk."""
    line = np.arange(0, side, step, dtype=np.float32) - np.float32((side - 1) / 2)
    y, x = np.meshgrid(line, line, indexing="ij")
    inside = x * x + y * y < (RADIUS * side) ** 2
    return np.stack([x[inside], y[inside]])


def _make_template(pixels: np.ndarray, step: int) -> _Template:
    points = _disk_points(pixels.shape[0], step)
    down, across = np.gradient(pixels)
    gx, gy = sample(across, points), sample(down, points)
    x, y = points
    # (N, 6): a column for each entry of the (2, 3) map, row by row.
    jacobian = np.stack([gx * x, gx * y, gx, gy * x, gy * y, gy], axis=1)
    hessian = (jacobian.T @ jacobian).astype(np.float64)
    # The ridge keeps the Hessian invertible if the image has no detail along one direction.
    ridge = 1e-6 * np.diag(np.diag(hessian) + 1e-3)
    return _Template(points, sample(pixels, points), jacobian, np.linalg.inv(hessian + ridge))


def _refine(
    reference: Reference, levels: list[np.ndarray], level: int, affine: np.ndarray
) -> tuple[np.ndarray, float]:
    """Return the refined map and the correlation at one level, or (`affine`, −1) if it diverges.

    Every iteration fits brightness and contrast by making the means and the spreads equal.
    """
    factor, _, iterations = _LEVELS[level]
    template, pixels = reference.templates[level], levels[level]
    mean, spread = template.values.mean(), template.values.std() + 1e-6
    # (3, 3). Only the translation is in pixels, so only the translation scales with the level.
    current = np.vstack([affine * [[1, 1, 1 / factor]], [0, 0, 1]])
    # How many pixels the rim of the image moves if an entry of the map changes by 1.
    reach = np.array([pixels.shape[0] / 2] * 2 + [1.0])
    for _ in range(iterations):
        values = sample(pixels, _transform(template.points, current))
        scaled = (values - values.mean()) * (spread / (values.std() + 1e-6)) + mean
        error = scaled - template.values
        # Clipping the errors (Huber) reduces the influence of filled and saturated areas.
        limit = _OUTLIER * np.abs(error).mean() + 1e-3
        update = template.inverse @ (template.jacobian.T @ np.clip(error, -limit, limit))
        change = np.eye(3)
        change[:2] += update.reshape(2, 3)
        # A step that nearly flattens the image has diverged.
        if abs(np.linalg.det(change[:2, :2])) < 0.1:
            return affine, -1.0
        # The step was found on the reference, so its inverse is applied to the other image.
        current = current @ np.linalg.inv(change)
        # A map that enlarges or shrinks the area more than fourfold has diverged.
        if not 0.25 < abs(np.linalg.det(current[:2, :2])) < 4:
            return affine, -1.0
        if np.abs(update.reshape(2, 3) * reach).max() < 0.02:
            break
    values = sample(pixels, _transform(template.points, current))
    covariance = ((values - values.mean()) * (template.values - mean)).mean()
    correlation = float(covariance / (values.std() * spread + 1e-6))
    return current[:2] * [[1, 1, factor]], correlation


def _transform(points: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Return the points float32 (2, N) mapped by an affine map (2, 3) or (3, 3), same shape."""
    linear, shift = affine[:2, :2].astype(np.float32), affine[:2, 2:].astype(np.float32)
    return np.asarray(linear @ points + shift)


@cache
def _block_points(side: int) -> np.ndarray:
    """Return float32 (2, blocks, 144), the pixels of each block that is completely in the disk."""
    count = side // _BLOCK_PX
    line = np.arange(count * _BLOCK_PX).reshape(count, _BLOCK_PX) - (side - 1) / 2
    # (2, rows, columns, 12, 12): x and y of each pixel of each block, from the centre.
    y, x = np.broadcast_arrays(line[:, None, :, None], line[None, :, None, :])
    blocks = np.stack([x, y]).reshape(2, count**2, _BLOCK_PX**2)
    inside = (blocks**2).sum(axis=0).max(axis=1) < (RADIUS * side) ** 2
    return np.asarray(blocks[:, inside], np.float32)


def _compare(ours: np.ndarray, theirs: np.ndarray, affine: np.ndarray) -> float:
    """Return the lower quartile of two textures' block correlations, −1 if too few are valid."""
    side = ours.shape[0]
    blocks = _block_points(side)
    points = blocks.reshape(2, -1)
    turned = _transform(points, affine * [[1, 1, side / SIDE]])
    index = (points + (side - 1) / 2).astype(np.int32)
    a = ours[index[1], index[0]].astype(np.float32)
    b = sample(theirs.astype(np.float32), turned)
    # A texture of 0 is flat: air and saturated bone have no noise to compare. Points outside the
    # other image have none either, because `sample` repeats the last pixel there.
    valid = (a != 0) & (b != 0) & (np.abs(turned) < side / 2 - 2).all(axis=0)
    a, b, valid = (v.reshape(blocks.shape[1:]) for v in (a * valid, b * valid, valid))
    known = valid.mean(axis=1) > _VALID_SHARE
    if known.sum() < 0.15 * len(known):
        return -1.0
    a, b = a[known], b[known]
    # The means are not subtracted, because the mean of fine detail is near 0 in any block.
    power = np.sqrt((a * a).sum(1) * (b * b).sum(1))
    return float(np.quantile((a * b).sum(1) / (power + 1e-6), _QUARTILE))
