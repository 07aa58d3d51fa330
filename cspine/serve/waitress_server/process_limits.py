"""Limits of the process: the memory that it keeps and the files that it may open."""

from __future__ import annotations

import ctypes
from contextlib import suppress

# For connections, fetches, codec children and models; a shell often allows 256 or 1024.
FILES = 16384
_MIB = 1024 * 1024
# Of glibc's malloc.h. It gives each of many threads an arena of its own, and each keeps what its
# largest request needed: resident memory rose for thousands of requests, by a third and more. And
# each large block freed teaches it to keep larger ones; given a threshold, it learns no more.
_MALLOC_OPTIONS = {
    -8: 2,  # M_ARENA_MAX
    -3: 4 * _MIB,  # M_MMAP_THRESHOLD: more than any part of a 512 × 512 slice needs
    -1: 16 * _MIB,  # M_TRIM_THRESHOLD: below, each request would ask for its pages anew
}


def bound_memory() -> None:
    """Have glibc's malloc keep little, before there are threads; elsewhere, do nothing."""
    with suppress(AttributeError, OSError, TypeError):  # another C library, or none by that name
        for option, value in _MALLOC_OPTIONS.items():
            ctypes.CDLL(None).mallopt(option, value)


def raise_file_limit() -> int:
    """Let the process open enough files, if the system allows it; return how many are certain."""
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
