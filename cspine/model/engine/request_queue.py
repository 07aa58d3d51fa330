"""Queue of images that wait for the engine; images that would miss their deadline are dropped.

Under lasting overload the oldest image has the least time left. Its answer would be too late and
would delay the next image, whose answer would then be too late as well, and so on.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

import numpy as np

from cspine.imaging.channels import as_network_input
from cspine.model.engine.pending_output import PendingOutput

# Factor on the recent time per image, since the next image may take a little longer.
MARGIN = 1.5


@dataclass(frozen=True, eq=False)
class Waiting:
    """One waiting image.

    `pixels` are uint8 (1, S, S, 3); `answer` is the future of its outputs; `alone` is whether it
    may use all cores; `due_s` is when the answer is due, on `time.monotonic`'s clock.
    """

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
    """A queue of waiting images; callers ensure that only one thread at a time removes images."""

    def __init__(self) -> None:
        self._waiting: deque[Waiting] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, one: Waiting) -> None:
        """Put an image at the end."""
        self._waiting.append(one)

    @property
    def first(self) -> Waiting:
        """The image that is next; the queue must not be empty."""
        return self._waiting[0]

    def take(self) -> Waiting:
        """Remove and return the next image; the queue must not be empty."""
        return self._waiting.popleft()

    def drop_late(self, image_s: float) -> list[PendingOutput]:
        """Remove images from the front that were cancelled or would be late.

        An image is late if its answer is due sooner than an image takes, which is `image_s` and a
        margin. Returns the removed images' answers, which the caller cancels. The last image in the
        queue is never late: if no image ran, a wrong `image_s` would never be corrected.
        """
        dropped, latest_s = [], time.monotonic() + MARGIN * image_s
        while self._waiting and (
            self.first.answer.cancelled() or (len(self) > 1 and self.first.due_s < latest_s)
        ):
            dropped.append(self.take().answer)
        return dropped
