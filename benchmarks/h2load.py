"""h2load (Debian: nghttp2-client): gRPC calls by a program in C, cheap enough to keep servers busy.

It reads no message: whoever uses it must count the answers' statuses elsewhere.
"""

from __future__ import annotations

import os
import re
import resource
import subprocess
import tempfile
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Load:
    """What came of a load.

    Attributes:
        calls: how many were answered.
        seconds: how long it lasted.
        cpu: seconds of CPU time that the load itself took.
    """

    calls: int
    seconds: float
    cpu: float


def run(
    address: str,
    method: str,
    bodies: Sequence[Sequence[bytes]],
    *,
    clients: int,
    streams: int,
    seconds: float,
    cores: Collection[int],
) -> Load:
    """Makes the same calls over and over, in a closed loop.

    Args:
        address: the server's.
        method: the full name of the method.
        bodies: the messages of each call; every call has a process of its own.
        clients: connections of each process.
        streams: calls in flight on each connection.
        seconds: how long.
        cores: where the processes may run.

    Raises:
        RuntimeError: a call failed on the way.
    """
    with tempfile.TemporaryDirectory() as folder:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.monotonic()
        processes = []
        for number, messages in enumerate(bodies):
            body = Path(folder) / str(number)
            body.write_bytes(b"".join(b"\0" + len(m).to_bytes(4, "big") + m for m in messages))
            command = ["h2load", f"--duration={round(seconds * 1e3)}ms", f"-c{clients}"]
            headers = ["-H", "content-type: application/grpc", "-H", "te: trailers"]
            processes.append(
                subprocess.Popen(
                    [*command, f"-m{streams}", "-d", body, *headers, f"http://{address}{method}"],
                    stdout=subprocess.PIPE,
                    text=True,
                    preexec_fn=lambda: os.sched_setaffinity(0, cores),
                )
            )
        calls = sum(_answered(process.communicate()[0]) for process in processes)
        took = time.monotonic() - began
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Load(calls, took, cpu)


def _answered(output: str) -> int:
    counts = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored", output)
    if counts is None or int(counts[2]) or int(counts[3]):
        raise RuntimeError(f"h2load failed:\n{output}")
    return int(counts[1])
