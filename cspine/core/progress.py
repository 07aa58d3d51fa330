"""A progress bar on stderr, shown only if stderr is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def progress(iterable: Iterable[Item], desc: str, total: int | None = None) -> Iterator[Item]:
    """Yield the items of `iterable`, with a bar named `desc` if stderr is a terminal.

    Args:
        iterable: the items.
        desc: a word or two before the bar.
        total: the number of items, if `iterable` has no length.
    """
    # In a log file a bar would be thousands of lines.
    if not sys.stderr.isatty():
        yield from iterable
        return
    # Imported here, since it is not needed in a service or if stderr is a pipe.
    from tqdm import tqdm

    # `leave=False` removes the bar when it is done.
    yield from tqdm(iterable, desc=desc, total=total, file=sys.stderr, leave=False)
