"""Limits of the process: the memory that it keeps and the files that it may open."""

from __future__ import annotations

import ctypes
from contextlib import suppress

# For connections, fetches, codec processes and models. A shell often allows only 256 or 1024.
FILES = 16384
_MIB = 1024 * 1024
# Options of glibc's malloc.h. By default, each of many threads has its own arena, which keeps what
# its largest request needed: resident memory rose by a third and more over thousands of requests.
# Each large block that is freed also makes malloc keep larger blocks, except if a threshold is set.
_MALLOC_OPTIONS = {
    -8: 2,  # M_ARENA_MAX
    -3: 4 * _MIB,  # M_MMAP_THRESHOLD: more than any part of a 512 × 512 slice needs
    -1: 16 * _MIB,  # M_TRIM_THRESHOLD: with less, each request would get its pages anew
}


def bound_memory() -> None:
    """Limit the memory that glibc's malloc keeps; do nothing with another C library.

    Call this before any thread is started.
    """
    with suppress(AttributeError, OSError, TypeError):  # raised with another C library or with none
        for option, value in _MALLOC_OPTIONS.items():
            ctypes.CDLL(None).mallopt(option, value)


def raise_file_limit() -> int:
    """Let the process open up to FILES files; return how many the system allows."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return FILES
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft, enough = (FILES if one == resource.RLIM_INFINITY else min(FILES, one) for one in limits)
    if soft < enough:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (enough, limits[1]))
        except (OSError, ValueError):
            return soft
    return enough
