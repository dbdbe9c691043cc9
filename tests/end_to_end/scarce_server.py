"""The `ranker` command on a machine that has no process to spare, now and then.

The environment's SCARCE says when: the processes that can't be started, counted from 1, but for
the one that reads the models.
"""

from __future__ import annotations

import errno
import os
import subprocess
from itertools import count
from typing import Any

from ranker.cli.main import main

if __name__ == "__main__":
    scarce = set(map(int, os.environ["SCARCE"].split(",")))
    starts = count(1)

    class Popen(subprocess.Popen[bytes]):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            if "ranker.process.preparer" not in arguments[0] and next(starts) in scarce:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), arguments[0][0])
            super().__init__(*arguments, **options)

    subprocess.Popen = Popen
    main()
