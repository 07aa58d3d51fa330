"""Which pictures of a set show the same slice, from pixels alone.

Candidates are the nearest by rotation-free key, at several scales; each pair is registered and
judged by its noise. Copies of the same sharpness and size agree at SAME or better. A copy that
was re-encoded, resized or sharpened agrees less, so there a lower score is enough if it stands
out from every other slice's (GAP) and no pair that was processed alike says otherwise.

Knows nothing of names, labels or splits.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from threadpoolctl import threadpool_limits

from cspine.core.progress import progress
from cspine.data.audit.descriptors import HARMONICS, RINGS, Signature
from cspine.data.audit.registration import Reference, register

# Neighbouring slices of real scans reach 0.62, mild copies stay above 0.67.
SAME = 0.65
# For a copy that was processed: its score at least, and by how much it stands out.
PROCESSED, GAP = 0.35, 0.10
# At half resolution, where neighbours reach 0.91.
SAME_HALF = 0.92
NEIGHBOUR = 0.25  # unrelated slices stay below 0.15
# Each costs a registration; what they miss is looked for again among the representatives.
CANDIDATES = 5
_MAX_RING_SHIFT = 4  # scales up to 1.5, either way
# Grey levels: a picture with less detail is compared with none.
_BLANK = 2.0
_CHUNK = 512
WORKERS = 2
# Pictures a piece of work: copies of one slice are often neighbours by name.
_BLOCK = 42
# Pairs that are compared sooner than two processes start.
_FEW = 400
# Ratio of sharpness within which two pictures count as processed alike.
_SHARPER = 1.25


@dataclass(frozen=True)
class Verdict:
    """One compared pair: indices, texture scores at 192² and 96², and whether both were processed
    alike (same size, same sharpness)."""

    first: int
    second: int
    score: float
    half_score: float
    is_alike: bool

    @property
    def is_same(self) -> bool:
        """Whether the pair is one slice by its own score."""
        return self.score >= SAME or (self.score >= PROCESSED and self.half_score >= SAME_HALF)


class Sets:
    """Disjoint sets of indices, joined one pair at a time."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def find(self, index: int) -> int:
        """Return the smallest index of the set that holds `index`."""
        # Halving the path on the way keeps later look-ups short (Tarjan).
        while self._parent[index] != index:
            self._parent[index] = self._parent[self._parent[index]]
            index = self._parent[index]
        return index

    def join(self, one: int, other: int) -> None:
        """Make the sets of two indices one."""
        # The smaller index leads, so the same joins give the same names in any order.
        one, other = sorted((self.find(one), self.find(other)))
        self._parent[other] = one

    def is_joined(self, one: int, other: int) -> bool:
        """Whether two indices are in one set."""
        return self.find(one) == self.find(other)


@dataclass
class Search:
    """A search for copies: `sets` joins them, `verdicts` are the compared pairs."""

    signatures: Sequence[Signature]
    sizes: Sequence[int]  # the smaller side of each picture, in pixels
    may_join: Callable[[int, int], bool]
    sets: Sets
    verdicts: list[Verdict] = field(default_factory=list)
    _tested: set[tuple[int, int]] = field(default_factory=set)

    def run(self) -> None:
        """Compare every picture with its candidates, then what was found among themselves."""
        everything = list(range(len(self.signatures)))
        self._compare_all(everything, "comparing")
        # A set's best picture finds what its derived ones, blurred or cropped further, do not.
        self._compare_all(self._representatives(), "joining")
        self._join_processed()

    def _representatives(self) -> list[int]:
        """Return one picture a set: the largest, which was processed least."""
        best: dict[int, int] = {}
        for index in range(len(self.signatures)):
            other = best.setdefault(self.sets.find(index), index)
            # Larger means less processed: the published copies were only ever made smaller.
            if self.sizes[index] > self.sizes[other]:
                best[self.sets.find(index)] = index
        return sorted(best.values())

    def _compare_all(self, indices: list[int], what: str) -> None:
        candidates = find_candidates([self.signatures[i] for i in indices])
        rows = [
            (first, [indices[column] for column in row])
            for first, row in zip(indices, candidates, strict=True)
        ]
        for verdict in progress(self._judge_all(rows), what):
            self.verdicts.append(verdict)
            self._tested.add(_pair(verdict.first, verdict.second))
            if verdict.is_same:
                self.sets.join(verdict.first, verdict.second)

    def _judge_all(self, rows: list[tuple[int, list[int]]]) -> Iterator[Verdict]:
        """Yield the verdict of every open pair: in this process if few, else in two others."""
        open_rows = [(first, [b for b in row if self._is_open(first, b)]) for first, row in rows]
        blocks = [
            self._pack(open_rows[start : start + _BLOCK])
            for start in range(0, len(open_rows), _BLOCK)
        ]
        if sum(len(row) for _, row in open_rows) < _FEW:
            for block in blocks:
                yield from judge_alone(*block)
            return
        # A fork of a threaded process may hang.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(WORKERS, context) as pool:
            for verdicts in pool.map(judge_alone, *zip(*blocks, strict=True)):
                yield from verdicts

    def _pack(self, rows: list[tuple[int, list[int]]]) -> _Block:
        """Return a block of work with the signatures, sizes and sets that it needs."""
        # Only what the block needs is sent: a signature is a picture's worth of bytes.
        used = {index for first, row in rows for index in (first, *row)}
        return (
            rows,
            {index: self.signatures[index] for index in used},
            {index: self.sizes[index] for index in used},
        )

    def _is_open(self, first: int, second: int) -> bool:
        if _pair(first, second) in self._tested or self.sets.is_joined(first, second):
            return False
        return self.may_join(first, second)

    def _join_processed(self) -> None:
        """Join what was processed and stands out, best first."""
        # Best first: a sure join settles whether a doubtful one still stands out.
        ranked = sorted(self.verdicts, key=lambda verdict: -verdict.score)
        for verdict in ranked:
            if verdict.score < PROCESSED:
                break
            one, other = verdict.first, verdict.second
            if self.sets.is_joined(one, other) or self._is_vetoed(one, other):
                continue
            if any(self._stands_out(a, b, verdict.score) for a, b in ((one, other), (other, one))):
                self.sets.join(one, other)

    def _between(self, one: int, other: int) -> Iterable[Verdict]:
        sides = {self.sets.find(one), self.sets.find(other)}
        return (
            v for v in self.verdicts if {self.sets.find(v.first), self.sets.find(v.second)} == sides
        )

    def _is_vetoed(self, one: int, other: int) -> bool:
        """Whether a pair of the two sets that was processed alike was found to differ."""
        return any(
            verdict.is_alike and not verdict.is_same for verdict in self._between(one, other)
        )

    def _stands_out(self, index: int, other: int, score: float) -> bool:
        """Whether `index` agrees with the set of `other` better, by GAP, than with a third set."""
        third = [
            verdict.score
            for verdict in self.verdicts
            if index in (verdict.first, verdict.second)
            and not self.sets.is_joined(verdict.first, verdict.second)
            and not self.sets.is_joined(_partner(verdict, index), other)
        ]
        return score - max(third, default=0.0) >= GAP


_Block = tuple[list[tuple[int, list[int]]], dict[int, Signature], dict[int, int]]


def judge_alone(
    rows: list[tuple[int, list[int]]], signatures: dict[int, Signature], sizes: dict[int, int]
) -> list[Verdict]:
    """Return what `judge_block` does, on one thread: small products gain nothing from two."""
    with threadpool_limits(1):
        return judge_block(rows, signatures, sizes)


def judge_block(
    rows: list[tuple[int, list[int]]], signatures: dict[int, Signature], sizes: dict[int, int]
) -> list[Verdict]:
    """Return the verdicts of each picture against its candidates, leaving out what is joined.

    Args:
        rows: (index, its candidates' indices). signatures, sizes: by index, of all in `rows`.
    """
    names = {index: place for place, index in enumerate(signatures)}
    # This block's own: the caller joins what all blocks found.
    joined = Sets(len(names))
    tested: set[tuple[int, int]] = set()
    verdicts = []
    for first, row in rows:
        reference = None
        for second in row:
            if _pair(first, second) in tested or joined.is_joined(names[first], names[second]):
                continue
            tested.add(_pair(first, second))
            # Built only for a picture that is compared at all.
            reference = reference or Reference(signatures[first])
            scores = register(reference, signatures[second]).scores
            ratio = signatures[first].sharpness / (signatures[second].sharpness + 1e-6)
            is_alike = sizes[first] == sizes[second] and 1 / _SHARPER < ratio < _SHARPER
            verdicts.append(Verdict(first, second, *scores, is_alike))
            if verdicts[-1].is_same:
                joined.join(names[first], names[second])
    return verdicts


def _pair(one: int, other: int) -> tuple[int, int]:
    return (one, other) if one < other else (other, one)


def _partner(verdict: Verdict, index: int) -> int:
    return verdict.second if verdict.first == index else verdict.first


def find_candidates(signatures: Sequence[Signature]) -> list[list[int]]:
    """Return for each picture the indices of the nearest others by key, nearest first.

    A change of scale shifts the rings, so keys are compared at shifts up to 4 rings; blank
    pictures have no candidates and are none.
    """
    count = len(signatures)
    if count < 2:
        return [[] for _ in range(count)]
    keys = np.stack([s.key for s in signatures]).reshape(count, RINGS, HARMONICS)
    blank = np.array([s.detail < _BLANK for s in signatures])
    found = []
    for start in range(0, count, _CHUNK):
        chunk = keys[start : start + _CHUNK]
        # In chunks: all pairs of 4,200 keys at once would be 70 MB for each shift.
        likeness = _compare_keys(chunk, keys)
        # Nobody is a candidate for himself.
        likeness[np.arange(len(chunk)), start + np.arange(len(chunk))] = -np.inf
        likeness[:, blank] = -np.inf
        order = np.argsort(-likeness, axis=1, kind="stable")[:, :CANDIDATES]
        for row, nearest in enumerate(order):
            usable = [int(i) for i in nearest if np.isfinite(likeness[row, i])]
            found.append([] if blank[start + row] else usable)
    return found


def _compare_keys(chunk: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Return float32 (len(chunk), len(keys)), the best cosine over the ring shifts."""
    best = np.full((len(chunk), len(keys)), -np.inf, np.float32)
    for shift in range(-_MAX_RING_SHIFT, _MAX_RING_SHIFT + 1):
        ours = chunk[:, max(shift, 0) : RINGS + min(shift, 0)].reshape(len(chunk), -1)
        theirs = keys[:, max(-shift, 0) : RINGS - max(shift, 0)].reshape(len(keys), -1)
        # Unit length again: a shift leaves only the rings that both have.
        ours = ours / (np.linalg.norm(ours, axis=1, keepdims=True) + 1e-6)
        theirs = theirs / (np.linalg.norm(theirs, axis=1, keepdims=True) + 1e-6)
        np.maximum(best, ours @ theirs.T, out=best)
    return best
