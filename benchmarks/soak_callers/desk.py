"""What every caller of the soak works with: a connection, lists to ask about, a tally."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from benchmarks.harness.data import SERVED, Trained
from benchmarks.harness.requests import Request, WrongAnswerError
from benchmarks.harness.scrape import Scrape
from loadtests.traffic import list_lengths
from ranker import export_onnx
from ranker.client import channel as wire
from ranker.errors import Code
from ranker.metrics import catalogue
from ranker.v1 import ranking_pb2 as pb

TREES = {"steady": 500, "rest": 100}
"""The models, by name: callers that behave have one to themselves, so that what the
server counts for it can be held against what they have counted, to the last request."""
PATIENCE = 60.0
"""Seconds after which a request counts as unanswered."""
ROWS = 40_000


def write_models(folder: Path) -> list[str]:
    """Writes the models, rows to rank, and XGBoost's own scores of them; returns the models."""
    trained = Trained(SERVED)
    rows = np.concatenate([request.rows for request in trained.requests(ROWS)])
    np.save(folder / "rows.npy", rows)
    for name, trees in TREES.items():
        np.save(folder / f"{name}.npy", trained.scores(rows, trees))
        export_onnx(trained.booster, folder / f"{name}.onnx", iteration_range=(0, trees))
    return [str(folder / f"{name}.onnx") for name in TREES]


ABANDONED = "abandoned"
"""In place of a status: the caller cancelled, died or gave the request too little time."""

Counts = Counter[tuple[str, str]]
"""Ranking requests by model and status. A status is one that the server has sent, which
it must have counted too; `ABANDONED` ones it may have counted in any way, or never seen."""


class Tally:
    """What callers have counted, and what must not happen but did. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.counts: Counts = Counter()
        self.failures: list[str] = []
        self.fail = self.failures.append

    def add(self, model: str, status: str, number: int = 1) -> None:
        """Counts requests that ended so."""
        with self._lock:
            self.counts[model, status] += number


def disagreements(counts: Counts, scrape: Scrape) -> list[str]:
    """Where the server's counters, once all callers have left, contradict their counts.

    The requests for the model `steady` must agree exactly. Of all others each that
    was answered must have been counted under its status, and no more in all than were sent.
    What is refused as invalid or unknown is never abandoned, so these agree exactly too.
    """
    found = []

    def expect(what: str, counted: float, least: float, most: float) -> None:
        if not least <= counted <= most:
            found.append(f"{what}: the server counted {counted:,.0f}, callers {least} to {most}")

    requests = catalogue.REQUESTS.name
    sent = sum(number for (model, _), number in counts.items() if model != "steady")
    total = 0.0
    for code in Code.__members__:
        steady = scrape.total(requests, model="steady", code=code)
        expect(f"steady {code}", steady, counts["steady", code], counts["steady", code])
        rest = scrape.total(requests, code=code) - steady
        total += rest
        exact = code in ("INVALID_ARGUMENT", "NOT_FOUND")
        expect(f"rest {code}", rest, counts["rest", code], counts["rest", code] if exact else sent)
    expect("rest, in all", total, sent - counts["rest", ABANDONED], sent)
    for metric in (catalogue.RPCS_IN_FLIGHT, catalogue.QUEUE_ROWS):
        expect(metric.name, scrape.total(metric.name), 0, 0)
    counted, durations = scrape.total(requests), f"{catalogue.REQUEST_DURATION.name}_count"
    expect(durations, scrape.total(durations), round(counted), round(counted))
    return found


class Desk:
    """One per thread: the server's address, the folder of `write_models`, random numbers."""

    def __init__(self, address: str, folder: Path, tally: Tally, dice: np.random.Generator) -> None:
        self.address, self.folder, self.tally, self.dice = address, folder, tally, dice
        self._rows = np.load(folder / "rows.npy", mmap_mode="r")
        self._scores = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in TREES}
        self.channel = self.connect()

    def connect(self) -> Any:  # a grpc.Channel, whose stubs do not let messages be bytes
        """A new connection, without retries, so that each request is sent once."""
        options = [*wire.OPTIONS, ("grpc.enable_retries", 0)]
        return grpc.insecure_channel(self.address, options=options)

    def draw(self, model: str, length: int | None = None) -> Request:
        """A list of log-normal length, 1 to 2000, unless the length is given."""
        count = int(list_lengths(self.dice, 1)[0]) if length is None else length
        start = int(self.dice.integers(len(self._rows) - count))
        top_k = int(self.dice.integers(1, 50)) if self.dice.random() < 0.3 else 0
        rows, scores = (each[start : start + count] for each in (self._rows, self._scores[model]))
        named = self.dice.random() < 0.2
        ids = tuple(f"row {start + i}" for i in range(count)) if named else ()
        return Request(rows, None, top_k, scores, model, ids)

    def rank(self, message: bytes, timeout: float | None = PATIENCE) -> Any:
        """Starts a `Rank` call."""
        return self.channel.unary_unary(wire.RANK[0]).future(message, timeout=timeout)

    def stream(self, messages: Iterable[bytes], channel: Any = None) -> Any:
        """Starts a `RankStream` call."""
        open_stream = (channel or self.channel).stream_stream(*wire.RANK_STREAM)
        return open_stream(iter(messages), timeout=PATIENCE)

    def pause(self, seconds: float) -> None:
        """Sleeps for a random time, at most so long."""
        time.sleep(self.dice.random() * seconds)

    def ended(self, request: Request, call: Any, *allowed: str) -> None:
        """Takes note of how a call ended, which may be otherwise than OK where that is allowed."""
        code = call.code().name
        if code == "OK":
            self.check(request, pb.RankResponse.FromString(call.result()))
        elif code not in allowed:
            self.tally.fail(f"{request.model}: {code}: {call.details()}")
        elif code in ("CANCELLED", "DEADLINE_EXCEEDED"):  # by either side
            self.tally.add(request.model, ABANDONED)
        else:
            self.tally.add(request.model, code)

    def check(self, request: Request, answer: pb.RankResponse) -> None:
        """Counts an answer, which must be right."""
        try:
            request.check(answer)
        except WrongAnswerError as error:
            self.tally.fail(str(error))
        self.tally.add(request.model, "OK")

    def read(self, call: Any, waiting: dict[str, Request], *allowed: str) -> Iterator[None]:
        """Reads a stream's answers, one at each step, until no request waits."""
        while waiting:
            answer = next(call, None)
            if answer is None:
                self.tally.fail(f"a stream ended with {len(waiting)} requests unanswered")
                return
            request, status = waiting.pop(answer.request_id), Code(answer.status.code).name
            if status == "OK":
                self.check(request, answer)
            else:
                self.tally.add(request.model, status)
                if status not in allowed:
                    self.tally.fail(f"on a stream: {status}: {answer.status.message}")
            yield
