"""The generator against servers of a few lines that stall, fail and break."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable

import grpc
import numpy as np
import pytest

from loadtests import generator
from loadtests.callers import CALLERS
from loadtests.generator import closed_loop, open_loop, poisson
from loadtests.measurement import MAX_SECONDS, Effort, Latencies, Measurement
from loadtests.traffic import Request
from ranker.v1 import ranking_pb2 as pb

ROWS = np.zeros((3, 2), np.float32)


def requests(timeout: float = 5.0):
    return itertools.repeat(Request(ROWS, timeout))


class Stalling:
    """Answers at once, but for one second that it spends asleep."""

    def __init__(self, begin: float, seconds: float) -> None:
        self.begin, self.seconds = begin, seconds
        self.started: float | None = None
        self.asked = 0

    async def ask(self, _: Request) -> str:
        self.asked += 1
        now = asyncio.get_running_loop().time()
        self.started = self.started or now
        wake = self.started + self.begin + self.seconds
        if self.started + self.begin <= now < wake:
            await asyncio.sleep(wake - now)
        return "OK"


def test_a_poisson_process_has_its_rate_and_exponential_gaps():
    moments = np.array(list(poisson(1000, 20, seed=3)))
    assert len(moments) == pytest.approx(20_000, rel=0.03)
    gaps = np.diff(moments)
    assert (gaps >= 0).all()
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)
    assert moments[-1] < 20


def test_open_loop_counts_the_wait_of_requests_that_a_stall_made_late():
    server = Stalling(begin=0.2, seconds=0.5)
    found = generator.run(lambda: open_loop(server, requests(), rate=200, seconds=1.0))
    # Half of the time was stalled, so that a quarter waited for at least half of the stall.
    assert found.sent == server.asked == len(list(poisson(200, 1.0)))
    assert found.latency.percentile(100) > 0.4
    assert found.latency.percentile(80) > 0.15


def test_open_loop_counts_its_own_lateness_as_latency_and_says_so():
    class Blocking:
        async def ask(self, _: Request) -> str:
            if not hasattr(self, "blocked"):
                self.blocked = True
                time.sleep(0.4)  # the event loop itself stands still
            return "OK"

    found = generator.run(lambda: open_loop(Blocking(), requests(), rate=200, seconds=0.5))
    assert found.latency.percentile(100) > 0.3
    assert found.late.percentile(50) > 0.05
    assert "late" in found.bottleneck


def test_closed_loop_keeps_that_many_in_flight():
    class Counting:
        now = most = 0

        async def ask(self, _: Request) -> str:
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0.01)
            self.now -= 1
            return "OK" if self.now % 2 else "INTERNAL"

    server = Counting()
    found = generator.run(lambda: closed_loop(server, requests(), in_flight=7, seconds=0.2))
    assert server.most == 7
    assert 0 < found.failed["INTERNAL"] == found.failures < found.sent


@pytest.mark.parametrize(
    ("running", "starved", "late", "words"),
    [
        pytest.param(0.3, 0.1, 0.00001, "", id="idle-and-on-time"),
        pytest.param(0.9, 0.0, 0.00001, "ran for 90%", id="busy"),
        pytest.param(0.4, 0.5, 0.00001, "waited for a core for 50%", id="starved"),
        pytest.param(0.3, 0.1, 0.0004, "", id="a-little-late"),
        pytest.param(0.3, 0.1, 0.0008, "0.8 ms late", id="late"),
    ],
)
def test_a_generator_that_is_the_bottleneck_says_so(running, starved, late, words):
    found = Measurement(100.0, running=running, starved=starved)
    found.late.record(late)
    found.latency.record(0.001)
    assert words in found.bottleneck
    assert bool(words) == bool(found.bottleneck)


def test_effort_tells_work_from_rest():
    worked, rested = Measurement(1.0), Measurement(1.0)
    effort = Effort()
    end = time.thread_time() + 0.2
    while time.thread_time() < end:
        pass
    effort.record(worked)
    effort = Effort()
    time.sleep(0.2)
    effort.record(rested)
    assert worked.seconds >= 0.2
    assert worked.running * worked.seconds >= 0.2
    assert worked.running + worked.starved > 0.5
    assert rested.running < 0.1


def test_latencies_keep_three_digits_and_the_extremes():
    latencies = Latencies()
    for seconds in (0.0, 0.012345, 1e9):
        latencies.record(seconds)
    assert latencies.percentile(50) == pytest.approx(0.012345, rel=1e-3)
    assert latencies.percentile(100) == pytest.approx(MAX_SECONDS, rel=1e-3)
    assert Latencies().percentile(99) == 0


class Handlers(grpc.GenericRpcHandler):
    """`Rank` and `RankStream`, answering what `answer` says of the nth request."""

    def __init__(self, answer: Callable[[int], Awaitable[grpc.StatusCode]]) -> None:
        self.answer = answer
        self.seen = itertools.count()

    def service(self, details):
        name = details.method.rsplit("/")[-1]
        if name == "Rank":
            return grpc.unary_unary_rpc_method_handler(self.rank)
        return grpc.stream_stream_rpc_method_handler(self.rank_stream)

    async def rank(self, message, context):
        assert pb.RankRequest.FromString(message).candidates.rows == len(ROWS)
        code = await self.answer(next(self.seen))
        if code is not grpc.StatusCode.OK:
            await context.abort(code)
        return pb.RankResponse().SerializeToString()

    async def rank_stream(self, messages, context):
        async for message in messages:
            request = pb.RankRequest.FromString(message)
            assert request.deadline_ms
            code = await self.answer(next(self.seen))
            if code is grpc.StatusCode.ABORTED:
                await context.abort(code)
            response = pb.RankResponse(request_id=request.request_id)
            response.status.code = code.value[0]
            yield response.SerializeToString()


def ask_all(
    method: str, answer: Callable[[int], Awaitable[grpc.StatusCode]], times: int, timeout: float
) -> list[str]:
    async def run() -> list[str]:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers([Handlers(answer)])
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with CALLERS[method](f"127.0.0.1:{port}") as caller:
                return [await caller.ask(Request(ROWS, timeout)) for _ in range(times)]
        finally:
            await server.stop(None)

    return generator.run(run)


@pytest.mark.parametrize("method", CALLERS)
def test_a_caller_returns_each_requests_own_status(method):
    codes = [grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.OK]

    async def answer(n: int) -> grpc.StatusCode:
        return codes[n]

    assert ask_all(method, answer, 3, timeout=10.0) == [code.name for code in codes]


@pytest.mark.parametrize("method", CALLERS)
def test_a_silent_server_is_a_missed_deadline(method):
    async def answer(_: int) -> grpc.StatusCode:
        await asyncio.sleep(30)
        return grpc.StatusCode.OK

    assert ask_all(method, answer, 1, timeout=0.3) == ["DEADLINE_EXCEEDED"]


def test_a_broken_stream_fails_what_is_in_flight_and_what_comes_after():
    async def answer(_: int) -> grpc.StatusCode:
        return grpc.StatusCode.ABORTED

    assert ask_all("stream", answer, 2, timeout=10.0) == ["ABORTED", "ABORTED"]
