"""Large arrays in memory that is used again.

Every batch of a training makes arrays of some megabytes and drops them. The C library of Linux gives such memory back
to the kernel at once, and gets it again with a page fault for each 4 KiB: a third of the CPU time of a training.
"""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # malloc.h
_TOP_PAD_BYTES = 1 << 26


def keep_freed_memory() -> bool:
    """Let this process keep what it frees, from now on; whether that could be done (glibc only)."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is None:
        return False
    # no mappings of their own for large arrays, and no return of what is free at the heap's end
    options = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1), (_TOP_PAD, _TOP_PAD_BYTES))
    return all(mallopt(option, value) == 1 for option, value in options)
