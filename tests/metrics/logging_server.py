"""A server as the access log sees it: one worker, and one office after the other."""

from __future__ import annotations

import json
import marshal
import os
import socket
import tempfile

from ranker.errors import Code
from ranker.metrics import access_log
from ranker.metrics.access_log import AccessLog
from ranker.metrics.access_log_writer import AccessLogWriter
from ranker.metrics.catalogue import ACCESS_LOG_LINES
from ranker.metrics.log_entry import LogEntry
from ranker.metrics.recorder import Recorder
from ranker.metrics.snapshot import snapshot
from ranker.metrics.trace_sample import TraceSample
from tests.metrics.support import NAMES, Ended, new_aggregates, value

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
HEADER = f"00-{TRACE}-{SPAN}-01"
OK, OVERLOADED = Code.OK, Code.RESOURCE_EXHAUSTED


class LoggingServer:
    """One worker, and one office after the other."""

    def __init__(self, mode: str, rate: float = 1.0, traces: float | None = None) -> None:
        self.aggregates = new_aggregates()
        self.workers_end, self.offices_end = access_log.connect()
        fd = os.dup(self.workers_end.fileno())
        sample = None if traces is None else TraceSample(traces)
        log = AccessLog(fd, mode, rate, self.aggregates, 0, sample)
        self.traced: list[LogEntry] = []
        self.recorder = Recorder(self.aggregates, 0, log)
        self.model = self.recorder.model(0, NAMES[0])

    def end(self, code: int, request: Ended) -> None:
        self.model.request_ended(code, request)

    def flush(self) -> None:
        assert self.recorder.access_log is not None
        self.recorder.access_log.flush()

    def sent_by(self, now: float) -> list[LogEntry]:
        """What a turn of the loop sends to the office."""
        assert self.recorder.access_log is not None
        if now >= self.recorder.access_log.due:
            self.recorder.access_log.flush()
        try:
            packet = self.offices_end.recv(2**17, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return []
        return [LogEntry._make(entry) for entry in marshal.loads(packet)[2]]

    def fill(self) -> int:
        """Ends requests until one of them is dropped; returns how many."""
        requests = 0
        while not self.counted("dropped"):  # which takes longer than to end a request
            assert requests < 1_000_000
            for _ in range(1000):
                self.end(OK, ended())
            requests += 1000
        return requests

    def office(self, output: int, project: str = "") -> AccessLogWriter:
        """The office of the server, or the next one if that has died."""
        ends = os.dup(self.offices_end.fileno()), os.dup(self.workers_end.fileno())
        traced = [lambda _worker, entries: self.traced.extend(entries)]
        return AccessLogWriter(*ends, self.aggregates, project, output, traced=traced)

    def lines(self, project: str = "") -> list[dict[str, object]]:
        """Every line that the office writes."""
        self.flush()
        with tempfile.TemporaryFile("w+") as output:
            self.office(output.fileno(), project).close()
            output.seek(0)
            return [json.loads(line) for line in output]

    def counted(self, outcome: str) -> float:
        found = value(snapshot(self.aggregates), ACCESS_LOG_LINES, outcome)
        assert isinstance(found, float)
        return found

    def close(self) -> None:
        self.recorder.close()
        self.workers_end.close()
        self.offices_end.close()


def ended(**fields) -> Ended:
    return Ended(**{"rows": 3, "arrived": 1.0, "deadline": 2.0, "ended": 1.25, **fields})
