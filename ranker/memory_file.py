"""Files in memory that processes share: written once, then sealed."""

from __future__ import annotations

import fcntl
import mmap
import os
from os import PathLike
from pathlib import Path

Content = bytes | mmap.mmap
"""The bytes of a file, read or mapped."""

_PIECE = 1 << 20


def read_into_memory(path: str | PathLike[str], most: int) -> int:
    """Copies a file into memory, so that all who read the copy read the same bytes.

    Args:
        path: the file.
        most: the most bytes that it may have.

    Returns:
        A descriptor of the copy, which can't be changed any more; the caller closes it.

    Raises:
        OSError: the file can't be read.
        ValueError: it is larger than `most`.
    """
    with Path(path).open("rb") as source:
        size = os.fstat(source.fileno()).st_size
        if size > most:
            raise ValueError(f"{size} bytes, more than the {most} that it may have")
        fd = new_memory_file(Path(path).name)
        with open(fd, "wb", closefd=False) as copy:
            while piece := source.read(_PIECE):
                copy.write(piece)
    seal(fd)
    return fd


def mapped(fd: int) -> Content:
    """The content of such a file. Closing `fd` does not end it."""
    size = os.fstat(fd).st_size
    return mmap.mmap(fd, size, access=mmap.ACCESS_READ) if size else b""


def new_memory_file(name: str) -> int:
    """Makes an empty file in memory, without a place in the file system.

    Args:
        name: what the system's tools show.

    Returns:
        Its descriptor. The file goes with the last process that holds it.
    """
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    import tempfile  # with much else, which Linux has no need of

    with tempfile.TemporaryFile() as file:  # has no name, and goes with its last descriptor
        return os.dup(file.fileno())


def seal(fd: int) -> None:
    """Sees that nobody changes such a file any more, where the system can."""
    if hasattr(fcntl, "F_ADD_SEALS"):
        seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
