"""Search for images that show the same slice, by their pixels only.

The candidates of an image are the images with the nearest rotation-invariant keys, at several
scales. Each pair is registered, and the noise of both images is compared. Copies of the same
sharpness and size score SAME or more. A copy that was re-encoded, resized or sharpened scores less.
It is joined to a slice from a score of PROCESSED on, if that score is higher by GAP than its score
with any other slice and no pair of images that were processed alike contradicts the join.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from cspine.core.progress import progress
from cspine.data.audit.descriptors import HARMONICS, RINGS, Signature
from cspine.data.audit.registration import Reference, register
from cspine.data.disjoint_sets import DisjointSets

# A pair is one slice from this score on. Neighbouring slices of real scans reach 0.62; copies that
# were processed little stay above 0.67.
SAME = 0.65
# The least score of a processed copy, and how much higher than its other scores it must be.
PROCESSED, GAP = 0.35, 0.10
# A pair that scores PROCESSED is one slice from this score at half resolution on. Neighbouring
# slices reach 0.91 there.
SAME_HALF = 0.92
NEIGHBOUR = 0.25  # least score of neighbouring slices; unrelated slices stay below 0.15
# Candidates per image, each of which costs a registration. A second search, with one image of each
# set, finds copies that these candidates miss.
CANDIDATES = 5
_MAX_RING_SHIFT = 4  # covers a change of scale by up to 1.5, larger or smaller
# An image with less detail than this, in grey levels, is compared with no other.
_BLANK = 2.0
_CHUNK = 512
WORKERS = 2
# Images per block. Copies of one slice are often neighbours by name, and so in one block.
_BLOCK = 42
# Fewer pairs than this are compared in less time than two processes need to start.
_FEW = 400
# Two images count as processed alike if their sharpness differs by less than this ratio.
_SHARPER = 1.25

# The index of an image, and those of its candidates.
_Row = tuple[int, list[int]]


@dataclass(frozen=True)
class Comparison:
    """One compared pair of images.

    Fields:
        first, second: the indices of the images.
        score, half_score: texture scores at 192² and 96², −1..1; see `registration.Match`.
        is_alike: whether both were processed alike (same size, same sharpness).
    """

    first: int
    second: int
    score: float
    half_score: float
    is_alike: bool

    @property
    def is_same(self) -> bool:
        """Whether the scores of the pair alone show that it is one slice."""
        return self.score >= SAME or (self.score >= PROCESSED and self.half_score >= SAME_HALF)


class CopySearch:
    """A search for copies. `sets` holds the joined images, `comparisons` the compared pairs.

    Args:
        signatures: the signature of each image.
        sizes: the smaller side of each image, in pixels.
        may_join: whether two images, by index, may be one slice.
    """

    def __init__(
        self,
        signatures: Sequence[Signature],
        sizes: Sequence[int],
        may_join: Callable[[int, int], bool],
    ) -> None:
        self.signatures, self.sizes, self.may_join = signatures, sizes, may_join
        self.sets = DisjointSets(len(signatures))
        self.comparisons: list[Comparison] = []
        self._tested: set[frozenset[int]] = set()

    def run(self) -> None:
        """Compare every image with its candidates, then the largest images of the sets likewise."""
        self._compare_all(list(range(len(self.signatures))), "comparing")
        # The largest image of a set was processed least, because the published copies were only
        # ever made smaller. It finds copies that the blurred or cropped images of its set miss.
        largest = [max(group, key=self.sizes.__getitem__) for group in self.sets.groups()]
        self._compare_all(sorted(largest), "joining")
        self._join_processed()

    def _compare_all(self, indices: list[int], description: str) -> None:
        candidates = find_candidates([self.signatures[i] for i in indices])
        rows = []
        for first, columns in zip(indices, candidates, strict=True):
            others = [indices[column] for column in columns]
            rows.append((first, [other for other in others if self._is_open(first, other)]))
        for comparison in progress(self._compare_rows(rows), description):
            self.comparisons.append(comparison)
            self._tested.add(frozenset((comparison.first, comparison.second)))
            if comparison.is_same:
                self.sets.join(comparison.first, comparison.second)

    def _compare_rows(self, rows: list[_Row]) -> Iterator[Comparison]:
        """Yield the comparisons of all rows, made in this process if few, else in two others."""
        blocks = [self._pack(rows[start : start + _BLOCK]) for start in range(0, len(rows), _BLOCK)]
        if sum(len(others) for _, others in rows) < _FEW:
            for block in blocks:
                yield from compare_block(*block)
            return
        # Processes are spawned, because a fork of a threaded process may hang.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(WORKERS, context) as pool:
            for comparisons in pool.map(compare_block, *zip(*blocks, strict=True)):
                yield from comparisons

    def _pack(self, rows: list[_Row]) -> tuple[list[_Row], dict[int, Signature], dict[int, int]]:
        """Return the arguments of `compare_block` for some rows."""
        # Only the signatures of the block are sent, because each is as large as an image.
        used = {index for first, others in rows for index in (first, *others)}
        return rows, {i: self.signatures[i] for i in used}, {i: self.sizes[i] for i in used}

    def _is_open(self, first: int, second: int) -> bool:
        if frozenset((first, second)) in self._tested or self.sets.is_joined(first, second):
            return False
        return self.may_join(first, second)

    def _join_processed(self) -> None:
        """Join processed copies whose score is higher than all their other scores, best first."""
        # The best pairs come first, because joining them may remove rivals of a doubtful pair.
        for found in sorted(self.comparisons, key=lambda comparison: -comparison.score):
            if found.score < PROCESSED:
                break
            one, other = found.first, found.second
            if self.sets.is_joined(one, other) or self._is_contradicted(found):
                continue
            if any(self._is_highest(index, found) for index in (one, other)):
                self.sets.join(one, other)

    def _sets_of(self, found: Comparison) -> set[int]:
        return {self.sets.find(found.first), self.sets.find(found.second)}

    def _is_contradicted(self, found: Comparison) -> bool:
        """Return whether any pair from the two sets, processed alike, was found to differ."""
        sets = self._sets_of(found)
        return any(
            other.is_alike and not other.is_same and self._sets_of(other) == sets
            for other in self.comparisons
        )

    def _is_highest(self, index: int, found: Comparison) -> bool:
        """Return whether the score is higher by GAP than any score of `index` with a third set."""
        sets = self._sets_of(found)
        third = [
            other.score
            for other in self.comparisons
            if index in (other.first, other.second) and self._sets_of(other) - sets
        ]
        return found.score - max(third, default=0.0) >= GAP


# The limit is one thread, because small matrix products gain nothing from two.
@threadpool_limits.wrap(limits=1)  # type: ignore[untyped-decorator]
def compare_block(
    rows: list[_Row], signatures: dict[int, Signature], sizes: dict[int, int]
) -> list[Comparison]:
    """Return the comparisons of each image with its candidates, except images already joined.

    Args:
        rows: (index, indices of its candidates).
        signatures: index → signature, for all images in `rows`.
        sizes: index → smaller side in pixels, for all images in `rows`.
    """
    numbers = {index: number for number, index in enumerate(signatures)}
    # These sets cover this block only; the caller joins the pairs of all blocks.
    joined = DisjointSets(len(numbers))
    tested: set[frozenset[int]] = set()
    comparisons = []
    for first, others in rows:
        reference = None
        for second in others:
            pair = frozenset((first, second))
            if pair in tested or joined.is_joined(numbers[first], numbers[second]):
                continue
            tested.add(pair)
            # A reference is built only if its image is compared with another.
            reference = reference or Reference(signatures[first])
            score, half_score = register(reference, signatures[second]).scores
            ratio = signatures[first].sharpness / (signatures[second].sharpness + 1e-6)
            comparison = Comparison(
                first=first,
                second=second,
                score=score,
                half_score=half_score,
                is_alike=sizes[first] == sizes[second] and 1 / _SHARPER < ratio < _SHARPER,
            )
            comparisons.append(comparison)
            if comparison.is_same:
                joined.join(numbers[first], numbers[second])
    return comparisons


def find_candidates(signatures: Sequence[Signature]) -> list[list[int]]:
    """Return for each image the indices of the other images with the nearest keys, nearest first.

    A change of scale shifts the rings, so keys are compared at shifts of up to 4 rings. Blank
    images have no candidates and are candidates of no image.
    """
    count = len(signatures)
    if count < 2:
        return [[] for _ in range(count)]
    keys = np.stack([s.key for s in signatures]).reshape(count, RINGS, HARMONICS)
    blank = np.array([s.detail < _BLANK for s in signatures])
    found = []
    for start in range(0, count, _CHUNK):
        chunk = keys[start : start + _CHUNK]
        # Keys are compared in chunks: all pairs of 4,200 keys would take 70 MB for each shift.
        likeness = _compare_keys(chunk, keys)
        # No image is its own candidate.
        likeness[np.arange(len(chunk)), start + np.arange(len(chunk))] = -np.inf
        likeness[:, blank] = -np.inf
        order = np.argsort(-likeness, axis=1, kind="stable")[:, :CANDIDATES]
        for row, nearest in enumerate(order):
            usable = [int(i) for i in nearest if np.isfinite(likeness[row, i])]
            found.append([] if blank[start + row] else usable)
    return found


def _compare_keys(chunk: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Return float32 (len(chunk), len(keys)), the highest cosine over all ring shifts."""
    best = np.full((len(chunk), len(keys)), -np.inf, np.float32)
    for shift in range(-_MAX_RING_SHIFT, _MAX_RING_SHIFT + 1):
        ours = chunk[:, max(shift, 0) : RINGS + min(shift, 0)].reshape(len(chunk), -1)
        theirs = keys[:, max(-shift, 0) : RINGS - max(shift, 0)].reshape(len(keys), -1)
        # A shift leaves only the rings that both keys have, so the lengths are made 1 again.
        ours = ours / (np.linalg.norm(ours, axis=1, keepdims=True) + 1e-6)
        theirs = theirs / (np.linalg.norm(theirs, axis=1, keepdims=True) + 1e-6)
        np.maximum(best, ours @ theirs.T, out=best)
    return best
