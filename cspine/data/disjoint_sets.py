"""Disjoint sets of indices (union-find), to join the records of one slice, volume or patient."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable


class DisjointSets:
    """Disjoint sets of the indices 0 to `count` − 1; at first, each index is its own set."""

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
        """Join the sets of two indices."""
        # The smaller index represents the set, so the order of the joins makes no difference.
        one, other = sorted((self.find(one), self.find(other)))
        self._parent[other] = one

    def join_equal(self, keys: Iterable[Hashable]) -> None:
        """Join the indices whose keys are equal; `keys` holds the key of each index in order."""
        first: dict[Hashable, int] = {}
        for index, key in enumerate(keys):
            self.join(first.setdefault(key, index), index)

    def is_joined(self, one: int, other: int) -> bool:
        """Return whether two indices are in one set."""
        return self.find(one) == self.find(other)

    def groups(self) -> list[list[int]]:
        """Return the sets, each as sorted indices, in the order of their smallest index."""
        members: dict[int, list[int]] = defaultdict(list)
        for index in range(len(self._parent)):
            members[self.find(index)].append(index)
        return list(members.values())
