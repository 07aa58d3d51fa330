"""Waits for what another thread or process brings about."""

import time
from collections.abc import Callable


def wait_for(
    condition: Callable[[], object],
    seconds: float = 10.0,
    explain: Callable[[], str] = lambda: "the condition did not come to hold",
) -> None:
    """Wait until `condition()` holds; after `seconds` it fails with what `explain()` says."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, explain()
        time.sleep(0.01)
