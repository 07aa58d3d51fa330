"""A progress bar that shows itself only to a person: on stderr, when that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def progress(iterable: Iterable[Item], desc: str, total: int | None = None) -> Iterator[Item]:
    """Yield the items of `iterable`, with a bar named `desc` where stderr is a terminal.

    Args:
        iterable: what is worked through.
        desc: a word or two before the bar.
        total: the number of items, where `iterable` cannot say.
    """
    # In a log a bar is a thousand lines, or one that never ends.
    if not sys.stderr.isatty():
        yield from iterable
        return
    # Costs an import that a service or a pipe never needs.
    from tqdm import tqdm

    # The bar vanishes when done: the lines that stay are those that say something.
    yield from tqdm(iterable, desc=desc, total=total, file=sys.stderr, leave=False)
