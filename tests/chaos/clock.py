"""A wall clock that jumps, for some processes only."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

_SOURCE = Path(__file__).with_name("clock.c")


def compiler() -> str | None:
    """The C compiler that makes it, if there is one."""
    return shutil.which("cc")


class Clock:
    """The wall clock of the processes that are started with its environment.

    Args:
        folder: where to keep it.

    Attributes:
        environment: what these processes must find in their environment.

    Raises:
        subprocess.CalledProcessError: it can't be compiled.
    """

    def __init__(self, folder: Path) -> None:
        library, self._offset = folder / "clock.so", folder / "clock"
        self.jump(0)
        build = ["cc", "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(library)]
        subprocess.run([*build, str(_SOURCE), "-ldl"], check=True)
        self.environment = {"LD_PRELOAD": str(library), "CHAOS_CLOCK": str(self._offset)}

    def jump(self, seconds: int) -> None:
        """Has it differ from the machine's by so many seconds from now on."""
        with self._offset.open("r+b" if self._offset.exists() else "wb") as file:
            file.write(struct.pack("q", seconds))
