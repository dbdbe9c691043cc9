"""Faults of the machine: no room on a disk, no descriptors, no memory."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil


@contextmanager
def small_disk(folder: Path, mebibytes: int) -> Iterator[None]:
    """Mounts an empty disk of that size on a folder."""
    size = f"size={mebibytes}m"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "none", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def full(folder: Path) -> Iterator[None]:
    """Fills a folder's disk to the last byte, and takes that away again."""
    filler = folder / "filler"
    try:
        with filler.open("wb", buffering=0) as file:
            for size in (2**16, 1):
                with contextlib.suppress(_NoRoomError):
                    while True:
                        _write(file.fileno(), bytes(size))
        yield
    finally:
        filler.unlink()


class _NoRoomError(Exception):
    """The disk is full."""


def _write(fd: int, data: bytes) -> None:
    try:
        os.write(fd, data)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise _NoRoomError from error


@contextmanager
def no_more_descriptors(pids: Iterable[int]) -> Iterator[None]:
    """Processes can open nothing: a new descriptor would have the lowest number that is free."""
    with ExitStack() as limits:
        for pid in pids:
            taken = {int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir()}
            lowest = min(set(range(len(taken) + 1)) - taken)
            limits.enter_context(_limited(pid, resource.RLIMIT_NOFILE, lowest))
        yield


@contextmanager
def little_more_memory(pids: Iterable[int], spare: int) -> Iterator[None]:
    """The address space of processes may grow by so many bytes and no more."""
    with ExitStack() as limits:
        for pid in pids:
            most = psutil.Process(pid).memory_info().vms + spare
            limits.enter_context(_limited(pid, resource.RLIMIT_AS, most))
        yield


@contextmanager
def _limited(pid: int, kind: int, most: int) -> Iterator[None]:
    soft, hard = resource.prlimit(pid, kind)
    resource.prlimit(pid, kind, (most, hard))
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):  # it has ended
            resource.prlimit(pid, kind, (soft, hard))
