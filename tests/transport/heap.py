"""What this process has allocated, as the C library counts it."""

from __future__ import annotations

import ctypes
import gc

_FIELDS = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"


class _MallInfo(ctypes.Structure):
    """`struct mallinfo2` of glibc 2.33 and later; see mallinfo(3)."""

    _fields_ = [(name, ctypes.c_size_t) for name in _FIELDS.split()]


def allocated_bytes() -> int:
    """The bytes in use, garbage of Python's left out; 0 where the C library does not tell."""
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallinfo2"):
        return 0
    library.mallinfo2.restype = _MallInfo
    gc.collect()
    info = library.mallinfo2()
    return int(info.uordblks + info.hblkhd)
