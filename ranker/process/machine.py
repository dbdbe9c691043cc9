"""What of the machine this process and its like may use: the container's limits, or all of it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_CGROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")
_UNLIMITED = 2**60


def memory_limit(root: Path = _CGROUPS, membership: Path = _MEMBERSHIP) -> int:
    """The bytes that they may hold.

    Args:
        root: where the system shows its control groups.
        membership: where it says which of them this process is in.
    """
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    texts = _Limit("memory.max", "memory", "memory.limit_in_bytes").read(root, membership)
    limits = [int(text) for text in texts if text != "max"]
    return min([machine, *(limit for limit in limits if limit < _UNLIMITED)])


def is_busy() -> bool:
    """Whether more threads have wanted a core than there are, on average of the last minute."""
    return os.getloadavg()[0] > (os.cpu_count() or 1)


def usable_cores(root: Path = _CGROUPS, membership: Path = _MEMBERSHIP) -> float:
    """The seconds of CPU time that they may take in a second, all together.

    Args:
        root: as for `memory_limit`.
        membership: likewise.
    """
    # macOS has no affinity.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    limits = [float(cores or 1)]
    for text in _Limit("cpu.max").read(root, membership):
        quota, period = text.split()
        if quota != "max":
            limits.append(int(quota) / int(period))
    return min(limits)


class _Limit(NamedTuple):
    """A limit of control groups.

    Attributes:
        file: its file's name in version 2.
        old_controller: which of version 1's controllers has it; empty: none that is looked at.
        old_file: its file's name there.
    """

    file: str
    old_controller: str = ""
    old_file: str = ""

    def read(self, root: Path, membership: Path) -> Iterator[str]:
        """What it says for this process's control group, and for those around it.

        A container may see the name of its group on the host, where it sees that group as the root.
        """
        try:
            lines = membership.read_text().splitlines()
        except OSError:
            return
        for line in lines:
            _, controllers, name = line.split(":", 2)
            if controllers == "":
                folder, file = root, self.file
            elif self.old_controller in controllers.split(","):
                folder, file = root / self.old_controller, self.old_file
            else:
                continue
            group = folder / name.lstrip("/")
            for place in {folder, group, *group.parents}:
                if place == folder or folder in place.parents:
                    with contextlib.suppress(OSError):  # there is no such group or limit
                        yield (place / file).read_text().strip()
