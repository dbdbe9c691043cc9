"""What the C library's heap does with memory that is freed."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3

_KEEP = 64 * 2**20
_LARGEST = 16 * 2**20
_LARGE = 128 * 2**10


def return_freed_arrays() -> bool:
    """Has the heap give arrays from 128 KiB on back to the kernel as they are freed.

    By default glibc raises that limit to the largest array that was ever freed,
    and the holes that smaller ones leave add up (`docs/design/engine.md` has
    the figures). It costs some page faults, so it is for loading, not for serving.

    Returns:
        Whether there was anything to set; only glibc has this setting.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_M_MMAP_THRESHOLD, _LARGE))


def keep_freed_memory() -> bool:
    """Has the heap keep up to 64 MiB of free memory for the next requests.

    By default glibc gives memory back to the kernel whenever 128 KiB at the end
    of the heap are free, and takes it again for the next request, at the price of
    page faults.

    Returns:
        Whether there was anything to set; only glibc has these settings.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    # Setting one of the two ends glibc's own adjustment of both.
    return bool(mallopt(_M_TRIM_THRESHOLD, _KEEP) and mallopt(_M_MMAP_THRESHOLD, _LARGEST))


def return_free_memory() -> None:
    """Gives all free memory of the heap back to the kernel; only glibc can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
