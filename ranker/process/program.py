"""How each of the server's processes begins.

    python -m ranker.process.program MODULE ARGUMENT...

MODULE has the program, a function `main`: `ranker.process.worker` for example.
"""

from __future__ import annotations

import gc
import os
import sys
from importlib import import_module


def main() -> None:
    """Imports the program, and runs it.

    What is imported stays as long as the process, so the garbage collector need not look at it:
    neither meanwhile, as a twelfth of the time would go to that, nor later.

    NumPy's OpenBLAS starts a thread for each core as it is imported, and each of them spins for
    tens of milliseconds before it sleeps. It multiplies matrices, which no server does.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    gc.disable()
    del sys.argv[0]
    module = import_module(sys.argv[0])
    gc.freeze()
    gc.enable()
    module.main()


if __name__ == "__main__":
    main()
