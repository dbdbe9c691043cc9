"""How each of the server's processes begins.

    python -m ranker.process.program MODULE ARGUMENT...

MODULE has the program, a function `main`: `ranker.process.worker` for example.
"""

from __future__ import annotations

import fcntl
import gc
import os
import resource
import sys
from importlib import import_module

_DESCRIPTORS = 4096
"""More than a worker's connections by default take (`ranker.process.memory_budget`)."""


def main() -> None:
    """Imports the program, and runs it.

    What is imported stays as long as the process, so the garbage collector need not look at it:
    neither meanwhile, as a twelfth of the time would go to that, nor later.

    NumPy's OpenBLAS starts a thread for each core as it is imported, and each of them spins for
    tens of milliseconds before it sleeps. It multiplies matrices, which no server does.
    """
    make_room_for_descriptors()
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    gc.disable()
    del sys.argv[0]
    module = import_module(sys.argv[0])
    gc.freeze()
    gc.enable()
    module.main()


def make_room_for_descriptors() -> None:
    """Has the kernel lay out this process's table of descriptors for as many as it may need.

    The kernel doubles the table as connections come. Once a process has threads, it waits with
    that until no core can still look at the old table (`expand_fdtable` in fs/file.c of Linux): the
    loop stands still meanwhile, on a busy machine for seconds. So it is done before there are any.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    number = _DESCRIPTORS if limit == resource.RLIM_INFINITY else min(limit, _DESCRIPTORS)
    with open(os.devnull) as file:
        os.close(fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, number - 1))


if __name__ == "__main__":
    main()
