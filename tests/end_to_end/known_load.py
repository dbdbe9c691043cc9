"""A load whose every effect on the metrics is known: requests, batches, failures.

It needs a server with `LIMITS`. There a batch goes to the engine when, and only
when, `BATCH` rows wait, so that the load decides what waits for what and for
how long. It looks at the queue's gauge before it goes on; nothing hangs on who
is faster.
"""

from __future__ import annotations

import queue
import time
from collections import Counter
from collections.abc import Callable

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ranker.errors import Code
from ranker.metrics import catalogue as catalog
from ranker.metrics.metric import Metric
from ranker.serving.wire import REQUEST_BYTES
from ranker.v1 import ranking_pb2 as pb
from tests.end_to_end.conftest import NAMES, RunningServer, Truth
from tests.waiting import wait_until

SERVICE = "ranker.v1.RankingService"
BOOKS = ("books", "7")
UNKNOWN = ("unknown", "")
GARBAGE = b"\xff\xff\xff"

BATCH, QUEUE, ROW_BYTES = 64, 2500, 4 * len(NAMES)
# Twice what waits at most: one connection may have half.
HEAD_BYTES = 64  # of a message, at most
QUEUE_BYTES = 2 * (128 * ROW_BYTES + 3 * (REQUEST_BYTES + HEAD_BYTES))
LIMITS = (
    *("--max-batch-rows", str(BATCH), "--max-batch-delay", "600"),
    # Lists of a few candidates break the bound in bytes first, long ones that in rows.
    *("--max-queue-rows", str(QUEUE), "--max-queue-bytes", str(QUEUE_BYTES)),
)


class Tally:
    """What the metrics must say, by metric's name and label values; histograms by their count."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, ...]] = Counter()
        self.sums: Counter[tuple[str, ...]] = Counter()

    def add(self, metric: Metric, *labels: str, number: int = 1) -> None:
        self.counts[metric.name, *labels] += number

    def observe(self, metric: Metric, value: int, *labels: str) -> None:
        self.add(metric, *labels)
        self.sums[metric.name, *labels] += value

    def rpc(self, method: str, code: str) -> None:
        self.add(catalog.RPCS, method, code)

    def request(
        self,
        code: str,
        rows: int = 0,
        *,
        model: tuple[str, str] = BOOKS,
        deadline: bool = False,
    ) -> None:
        """A ranking request that ended so; 0 rows if the server can't have read them."""
        self.add(catalog.REQUESTS, *model, code)
        self.add(catalog.REQUEST_DURATION, *model, "ok" if code == "OK" else "error")
        self.add(catalog.DEADLINE_SLACK if deadline else catalog.NO_DEADLINE, *model)
        if rows:
            self.observe(catalog.REQUEST_CANDIDATES, rows, *model)

    def unary(self, code: str, rows: int = 0, **request: object) -> None:
        """A `Rank` that ended so, with its request."""
        self.rpc(f"{SERVICE}/Rank", code)
        self.request(code, rows, **request)

    def batch(self, *rows: int, continued: int = 0) -> None:
        """A batch of so many rows per request, of which some had a part in the batch before."""
        self.add(catalog.SCORING_DURATION, *BOOKS)
        self.observe(catalog.BATCH_ROWS, sum(rows), *BOOKS)
        self.observe(catalog.BATCH_REQUESTS, len(rows), *BOOKS)
        self.add(catalog.CANDIDATES_SCORED, *BOOKS, number=sum(rows))
        self.add(catalog.QUEUE_DURATION, *BOOKS, number=len(rows) - continued)


class Stream:
    """A `RankStream` call, one message at a time."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.send = self._requests.put
        self.call = channel.stream_stream(f"/{SERVICE}/RankStream")(iter(self._requests.get, None))

    def receive(self) -> pb.RankResponse:
        return pb.RankResponse.FromString(next(self.call))

    def end(self) -> None:
        self._requests.put(None)
        assert list(self.call) == []


class KnownLoad:
    """Puts a server under the load and tallies it.

    Args:
        server: which has been started with `LIMITS`.
        truth: the model, and rows to rank.
        tally: where to count.
    """

    def __init__(self, server: RunningServer, truth: Truth, tally: Tally) -> None:
        self._server = server
        self._rows = truth.rows
        self._expected = truth.scores
        self._tally = tally

    def run(self, channel: grpc.Channel) -> None:
        """The whole load, over one connection, hence on one worker."""
        self._channel = channel
        self._rank = channel.unary_unary(f"/{SERVICE}/Rank")
        self._refused_unary()
        self._answered()
        self._queue_full_of_rows()
        self._split_in_a_queue_full_of_bytes()
        self._expired()
        self._cancelled()
        self._cancelled_stream()
        self._stream()
        self._other_methods()
        self._wait(lambda: self._server.metric("ranker_rpcs_in_flight") == 0)

    def _refused_unary(self) -> None:
        narrow = pb.Matrix(rows=1, columns=1, data=bytes(4))
        for message, code, model in (
            (GARBAGE, "INVALID_ARGUMENT", UNKNOWN),
            (b"", "INVALID_ARGUMENT", BOOKS),
            (pb.RankRequest(candidates=narrow).SerializeToString(), "INVALID_ARGUMENT", BOOKS),
            (self._request(3, model="films"), "NOT_FOUND", UNKNOWN),
            (self._request(3, model_version="8"), "NOT_FOUND", UNKNOWN),
        ):
            assert self._rank.future(message).code().name == code
            self._tally.unary(code, model=model)

    def _answered(self) -> None:
        first = self._wait_in_queue(10)
        second = self._wait_in_queue(20, already=10, timeout=60)
        self._fill(34, first, second)
        self._tally.unary("OK", 10)
        self._tally.unary("OK", 20, deadline=True)
        self._tally.batch(10, 20, 34)

    def _queue_full_of_rows(self) -> None:
        waiting = self._wait_in_queue(40)
        assert self._rank.future(self._request(QUEUE - 39)).code().name == "RESOURCE_EXHAUSTED"
        self._tally.unary("RESOURCE_EXHAUSTED", QUEUE - 39)
        self._tally.add(catalog.SHED, *BOOKS, "queue_rows")
        self._fill(24, waiting)
        self._tally.unary("OK", 40)
        self._tally.batch(40, 24)

    def _split_in_a_queue_full_of_bytes(self) -> None:
        long = self._rank.future(self._request(70))
        self._await_queue(70 - BATCH)
        waiting = self._wait_in_queue(40, already=6)
        # All 70 rows are held until the last is in a batch.
        held = 110 * ROW_BYTES + 2 * REQUEST_BYTES
        rows = (QUEUE_BYTES - held - REQUEST_BYTES) // ROW_BYTES + 1
        assert self._rank.future(self._request(rows)).code().name == "RESOURCE_EXHAUSTED"
        self._tally.unary("RESOURCE_EXHAUSTED", rows)
        self._tally.add(catalog.SHED, *BOOKS, "queue_bytes")
        self._fill(18, long, waiting)
        self._tally.unary("OK", 70)
        self._tally.unary("OK", 40)
        self._tally.batch(BATCH)
        self._tally.batch(6, 40, 18, continued=1)

    def _expired(self) -> None:
        # As metadata, so that the server alone knows of this deadline, and ends the call.
        late = self._wait_in_queue(12, metadata=[("grpc-timeout", "1S")])
        assert late.code().name == "DEADLINE_EXCEEDED"
        self._tally.unary("DEADLINE_EXCEEDED", 12, deadline=True)
        self._await_ended("DEADLINE_EXCEEDED")
        self._tally.add(catalog.EXPIRED, *BOOKS, "deadline")
        self._fill(52)
        self._tally.batch(52)

    def _cancelled(self) -> None:
        self._wait_in_queue(12).cancel()
        self._tally.unary("CANCELLED", 12)
        self._await_ended("CANCELLED")
        self._tally.add(catalog.EXPIRED, *BOOKS, "cancelled")
        self._fill(52)
        self._tally.batch(52)

    def _cancelled_stream(self) -> None:
        stream = Stream(self._channel)
        for rows, already in ((5, 0), (7, 5)):
            stream.send(self._request(rows, request_id=str(rows)))
            self._await_queue(already + rows)
            self._tally.request("CANCELLED", rows)
            self._tally.add(catalog.EXPIRED, *BOOKS, "cancelled")
        stream.call.cancel()
        self._tally.rpc(f"{SERVICE}/RankStream", "CANCELLED")
        self._await_ended("CANCELLED")
        self._fill(52)
        self._tally.batch(52)

    def _stream(self) -> None:
        stream = Stream(self._channel)
        stream.send(self._request(10, request_id="a"))
        self._await_queue(10)
        stream.send(self._request(6, request_id="late", deadline_ms=500))
        self._await_queue(16)
        time.sleep(0.6)
        narrow = pb.Matrix(rows=1, columns=1, data=bytes(4))
        for message, code, request in (
            (GARBAGE, "INVALID_ARGUMENT", {"model": UNKNOWN}),
            (self._request(3), "INVALID_ARGUMENT", {"model": UNKNOWN}),  # no id
            (self._request(3, request_id="a"), "INVALID_ARGUMENT", {"model": UNKNOWN}),
            (
                pb.RankRequest(request_id="b", candidates=narrow).SerializeToString(),
                "INVALID_ARGUMENT",
                {},
            ),
            (self._request(3, request_id="c", model="films"), "NOT_FOUND", {"model": UNKNOWN}),
            (
                self._request(QUEUE - 15, request_id="d"),
                "RESOURCE_EXHAUSTED",
                {"rows": QUEUE - 15},
            ),
        ):
            stream.send(message)
            assert Code(stream.receive().status.code).name == code
            self._tally.request(code, **request)
        self._tally.add(catalog.SHED, *BOOKS, "queue_rows")
        stream.send(self._request(48, request_id="f"))
        codes = {}
        for _ in range(3):
            response = stream.receive()
            codes[response.request_id] = Code(response.status.code).name
        assert codes == {"late": "DEADLINE_EXCEEDED", "a": "OK", "f": "OK"}
        self._tally.request("DEADLINE_EXCEEDED", 6, deadline=True)
        self._tally.add(catalog.EXPIRED, *BOOKS, "deadline")
        self._tally.request("OK", 10)
        self._tally.request("OK", 48)
        self._tally.batch(10, 48)
        stream.end()
        self._tally.rpc(f"{SERVICE}/RankStream", "OK")

    def _other_methods(self) -> None:
        for method, message, label, code in (
            ("GetModel", pb.GetModelRequest(), "GetModel", "OK"),
            ("GetModel", pb.GetModelRequest(model="films"), "GetModel", "NOT_FOUND"),
            ("ListModels", pb.ListModelsRequest(), "ListModels", "OK"),
            ("Guess", pb.ListModelsRequest(), None, "UNIMPLEMENTED"),
        ):
            call = self._channel.unary_unary(f"/{SERVICE}/{method}")
            assert call.future(message.SerializeToString()).code().name == code
            self._tally.rpc(f"{SERVICE}/{label}" if label else "unknown", code)
        health_pb2_grpc.HealthStub(self._channel).Check(health_pb2.HealthCheckRequest())
        self._tally.rpc("grpc.health.v1.Health/Check", "OK")

    def _request(self, rows: int, **fields: object) -> bytes:
        data = self._rows[:rows].astype("<f4").tobytes()
        matrix = pb.Matrix(rows=rows, columns=len(NAMES), data=data)
        return pb.RankRequest(candidates=matrix, **fields).SerializeToString()

    def _wait_in_queue(self, rows: int, already: int = 0, **options: object) -> grpc.Future:
        """Sends a list that will wait, and sees that it does, unless it ends before one looks."""
        call = self._rank.future(self._request(rows), **options)
        self._wait(
            lambda: call.done() or self._server.metric("ranker_queue_rows") == already + rows
        )
        return call

    def _fill(self, rows: int, *waiting: grpc.Future) -> None:
        """Sends the list that completes a batch; with it, those that wait are answered."""
        for call in (*waiting, self._rank.future(self._request(rows))):
            response = pb.RankResponse.FromString(call.result())
            scores = self._expected(self._rows[: len(response.indices)])
            order = np.argsort(-scores, kind="stable")
            assert list(response.indices) == order.tolist()
        self._tally.unary("OK", rows)
        assert self._server.metric("ranker_queue_rows") == 0

    def _await_queue(self, rows: int) -> None:
        self._wait(lambda: self._server.metric("ranker_queue_rows") == rows)

    def _await_ended(self, code: str) -> None:
        """Waits until the server has noticed that all RPCs which end so have ended."""
        number = sum(
            count
            for (name, *labels), count in self._tally.counts.items()
            if name == catalog.RPCS.name and labels[1] == code
        )
        self._wait(lambda: self._server.metric("ranker_rpcs_total", code=code) == number)

    def _wait(self, condition: Callable[[], bool]) -> None:
        wait_until(condition, self._server.metrics)
