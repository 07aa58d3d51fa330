"""Registration of one image onto another, and a score of whether they are copies of one slice.

Start: the best rotation, scale and mirroring by correlation of the log-polar rings. Refinement:
Gauss–Newton on an affine map, coarse to fine, in the inverse compositional form (Baker &
Matthews, Int. J. Comput. Vis. 56(3), 2004), which needs the reference's gradients only once.
Score: the correlation of the noise textures in blocks of 12 × 12 pixels, and of these the lower
quartile: in copies every block agrees, in neighbouring slices only those with strong edges.
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
_OUTLIER = 1.5  # mean absolute errors
# Coarse correlation below which two images are no copies.
_COARSE_ENOUGH = 0.6
# Coarse correlation above which no other start is tried.
_SURE = 0.93
# Texture score at 96² below which two images are no copies; copies have 0.24 or more.
_HALF_ENOUGH = 0.1
# Large enough for 144 samples of noise, small enough to lie in one tissue.
_BLOCK_PX = 12
_VALID_SHARE = 0.6
# The lower quartile, not the mean: neighbours agree at their strong edges, and nowhere else.
_QUARTILE = 0.25


@dataclass(frozen=True)
class Match:
    """The agreement of two images after registration.

    Fields:
        scores: lower quartile of the block correlations of texture, −1..1, at 192² and at 96²;
            −1 if too little of the images can be compared or a coarser level has excluded them.
        coarse: correlation of the coarse pixels, −1..1.
        affine: float (2, 3): reference pixels from the centre at 192² → the other's.
    """

    scores: tuple[float, float]
    coarse: float
    affine: np.ndarray


@dataclass(frozen=True)
class _Template:
    """A reference at one level: points (2, N), their values, Jacobian (N, 6), inverse Hessian."""

    points: np.ndarray
    values: np.ndarray
    jacobian: np.ndarray
    inverse: np.ndarray


class Reference:
    """An image that others are registered to: its templates and spectra, computed once."""

    def __init__(self, signature: Signature) -> None:
        self.signature = signature
        self.templates = [
            _make_template(block_means(signature.fine, factor), step) for factor, step, _ in _LEVELS
        ]
        # Padded along the radius, which does not wrap around; angles do.
        self.spectrum = np.fft.rfft2(signature.rings, s=(2 * RINGS, ANGLES))


def register(reference: Reference, moving: Signature) -> Match:
    """Return the agreement of `moving` with `reference` after the best affine map between them."""
    levels = [block_means(moving.fine, factor) for factor, _, _ in _LEVELS]
    best = Match((-1.0, -1.0), -1.0, np.eye(2, 3))
    for start in _find_starts(reference, moving):
        affine, coarse = _refine(reference, levels, 0, start)
        if coarse > best.coarse:
            best = Match((-1.0, -1.0), coarse, affine)
        # High enough: another start could only confirm it.
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
    """Return affine maps float (2, 3), likeliest first, mirrored and not, from the ring spectra."""
    ring_step = np.log(RADIUS * SIDE / 2 / INNER_PX) / (RINGS - 1)
    found = []
    for mirrored in (False, True):
        # Every angle becomes its negative; rolled by one, since angle 0 stays the same.
        rings = np.roll(moving.rings[:, ::-1], 1, axis=1) if mirrored else moving.rings
        spectrum = np.fft.rfft2(rings, s=(2 * RINGS, ANGLES))
        # (48, 128): the cross-correlation at every ring shift and turn.
        full = np.fft.irfft2(reference.spectrum * np.conj(spectrum), s=(2 * RINGS, ANGLES))
        # (9, 128): shifts −4…4; in a circular transform the negative ones lie at the end.
        window = np.concatenate([full[-_MAX_RING_SHIFT:], full[: _MAX_RING_SHIFT + 1]])
        for _ in range(2):
            ring, angle = np.unravel_index(int(window.argmax()), window.shape)
            scale = np.exp(-(ring - _MAX_RING_SHIFT) * ring_step)
            turn = -angle * 2 * np.pi / ANGLES
            found.append((window[ring, angle], _make_affine(mirrored, turn, scale)))
            # The second best must be another turn, not a neighbour of the best.
            near = (np.arange(angle - 6, angle + 7)) % ANGLES
            window[:, near] = -np.inf
    found.sort(key=lambda pair: -pair[0])
    return [affine for _, affine in found[:_STARTS]]


def _make_affine(mirrored: bool, turn: float, scale: float) -> np.ndarray:
    cos, sin = np.cos(turn) * scale, np.sin(turn) * scale
    affine = np.array([[cos, -sin, 0.0], [sin, cos, 0.0]])
    # Upside down: with a turn that makes every mirroring.
    return affine * [[1.0], [-1.0]] if mirrored else affine


@cache
def _disk_points(side: int, step: int) -> np.ndarray:
    """Return float32 (2, N): every `step`-th pixel inside the disk, (x, y) from the centre."""
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
    # Keeps the Hessian of an image with no detail along one direction invertible.
    ridge = 1e-6 * np.diag(np.diag(hessian) + 1e-3)
    return _Template(points, sample(pixels, points), jacobian, np.linalg.inv(hessian + ridge))


def _refine(
    reference: Reference, levels: list[np.ndarray], level: int, affine: np.ndarray
) -> tuple[np.ndarray, float]:
    """Return the refined map and the correlation at one level; (the start, −1) if it diverges.

    Brightness and contrast are fitted in every iteration by making mean and spread equal.
    """
    factor, _, iterations = _LEVELS[level]
    template, pixels = reference.templates[level], levels[level]
    mean, spread = template.values.mean(), template.values.std() + 1e-6
    # (3, 3). Only the translation is in pixels, so only that scales with the level.
    current = np.vstack([affine * [[1, 1, 1 / factor]], [0, 0, 1]])
    # Pixels that a unit's change of each entry moves the rim by.
    reach = np.array([pixels.shape[0] / 2] * 2 + [1.0])
    for _ in range(iterations):
        values = sample(pixels, _transform(template.points, current))
        scaled = (values - values.mean()) * (spread / (values.std() + 1e-6)) + mean
        error = scaled - template.values
        # Huber: fill and saturation pull less.
        limit = _OUTLIER * np.abs(error).mean() + 1e-3
        update = template.inverse @ (template.jacobian.T @ np.clip(error, -limit, limit))
        change = np.eye(3)
        change[:2] += update.reshape(2, 3)
        # A step that folds the image flat has diverged, and so has a map that scales it fourfold.
        if abs(np.linalg.det(change[:2, :2])) < 0.1:
            return affine, -1.0
        # Inverse composition: the step was found on the reference, so its inverse moves the other.
        current = current @ np.linalg.inv(change)
        if not 0.25 < abs(np.linalg.det(current[:2, :2])) < 4:
            return affine, -1.0
        if np.abs(update.reshape(2, 3) * reach).max() < 0.02:
            break
    values = sample(pixels, _transform(template.points, current))
    covariance = ((values - values.mean()) * (template.values - mean)).mean()
    correlation = float(covariance / (values.std() * spread + 1e-6))
    return current[:2] * [[1, 1, factor]], correlation


def _transform(points: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Return float32 (2, N): the points float32 (2, N) under an affine map (2, 3) or (3, 3)."""
    linear, shift = affine[:2, :2].astype(np.float32), affine[:2, 2:].astype(np.float32)
    return np.asarray(linear @ points + shift)


@cache
def _block_points(side: int) -> np.ndarray:
    """Return float32 (2, blocks, 144): the pixels of each whole block inside the disk."""
    count = side // _BLOCK_PX
    line = np.arange(count * _BLOCK_PX).reshape(count, _BLOCK_PX) - (side - 1) / 2
    # (2, rows, columns, 12, 12): x and y of each pixel of each block, from the centre.
    y, x = np.broadcast_arrays(line[:, None, :, None], line[None, :, None, :])
    blocks = np.stack([x, y]).reshape(2, count**2, _BLOCK_PX**2)
    inside = (blocks**2).sum(axis=0).max(axis=1) < (RADIUS * side) ** 2
    return np.asarray(blocks[:, inside], np.float32)


def _compare(ours: np.ndarray, theirs: np.ndarray, affine: np.ndarray) -> float:
    """Return the lower quartile of the block correlations of two textures, −1 if too few blocks."""
    side = ours.shape[0]
    blocks = _block_points(side)
    points = blocks.reshape(2, -1)
    turned = _transform(points, affine * [[1, 1, side / SIDE]])
    index = (points + (side - 1) / 2).astype(np.int32)
    a = ours[index[1], index[0]].astype(np.float32)
    b = sample(theirs.astype(np.float32), turned)
    # 0 is flat: air and saturated bone have no noise to compare. Neither have points outside the
    # other image, for which `sample` repeats the last pixel.
    valid = (a != 0) & (b != 0) & (np.abs(turned) < side / 2 - 2).all(axis=0)
    a, b, valid = (v.reshape(blocks.shape[1:]) for v in (a * valid, b * valid, valid))
    known = valid.mean(axis=1) > _VALID_SHARE
    if known.sum() < 0.15 * len(known):
        return -1.0
    a, b = a[known], b[known]
    # Not centred: a texture is fine detail, so its mean is near 0 in any block.
    power = np.sqrt((a * a).sum(1) * (b * b).sum(1))
    return float(np.quantile((a * b).sum(1) / (power + 1e-6), _QUARTILE))
