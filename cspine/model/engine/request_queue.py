"""Queue of images that wait for the engine; those that would miss their deadline are dropped.

Under a lasting overload the oldest image has the least time left: its answer would come too late
and delay the next one's, and so on for all that wait.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

import numpy as np

from cspine.imaging.channels import as_network_input
from cspine.model.engine.pending_output import PendingOutput

# Of the time that an image took lately: the next one may take a little longer.
MARGIN = 1.5


@dataclass(frozen=True, eq=False)
class Waiting:
    """One image: its pixels, uint8 (1, S, S, 3); the future of its answer; whether it may have
    all cores; and when the answer is due, on `time.monotonic`'s clock."""

    pixels: np.ndarray
    answer: PendingOutput
    alone: bool
    due_s: float


def as_input(image: np.ndarray, side: int) -> np.ndarray:
    """Return an image, uint8 (side, side) or (side, side, 3), as contiguous (1, side, side, 3).

    Raises:
        ValueError: the image has another shape or type.
    """
    if image.dtype != np.uint8 or image.shape not in ((side, side), (side, side, 3)):
        raise ValueError(
            f"`image` must be uint8 ({side}, {side}) or ({side}, {side}, 3). "
            f"Received: {image.dtype} {image.shape}"
        )
    if image.ndim == 2:
        image = as_network_input(image)
    return np.ascontiguousarray(image)[np.newaxis]


class RequestQueue:
    """A queue of waiting images; callers make sure that only one thread at a time takes from it."""

    def __init__(self) -> None:
        self._waiting: deque[Waiting] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, one: Waiting) -> None:
        """Put an image at the end."""
        self._waiting.append(one)

    @property
    def first(self) -> Waiting:
        """The image whose turn it is; there must be one."""
        return self._waiting[0]

    def take(self) -> Waiting:
        """Take the image whose turn it is; there must be one."""
        return self._waiting.popleft()

    def drop_late(self, image_s: float) -> list[PendingOutput]:
        """Take out the first ones while they were given up, or would be late if an image takes
        `image_s`; return their answers, which the caller cancels.

        The last in the queue stays: without any image, a wrong `image_s` would never be corrected.
        """
        dropped, latest_s = [], time.monotonic() + MARGIN * image_s
        while self._waiting and (
            self.first.answer.cancelled() or (len(self) > 1 and self.first.due_s < latest_s)
        ):
            dropped.append(self.take().answer)
        return dropped
