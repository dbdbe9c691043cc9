"""What callers can have a server hold: bounded, whatever they do, and given back."""

from __future__ import annotations

import resource
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import grpc
import numpy as np
import pytest

from ranker.v1 import ranking_pb2 as pb
from tests.end_to_end.broken_server import SLOW
from tests.end_to_end.conftest import Broken
from tests.end_to_end.floods import MIB, another_caller, held
from tests.end_to_end.http2 import (
    CHUNK,
    DATA,
    END_HEADERS,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    RANK,
    STREAM,
    WATCH,
    Connection,
    call,
    frame,
    setting,
)
from tests.waiting import PATIENCE, wait_until

PER_CONNECTION = 100
"""Calls that one connection may have in progress."""

DEAF = setting(INITIAL_WINDOW_SIZE, 0)
"""Says that no answer may be sent."""

LIMIT = 400 * MIB
"""For the supervisor and one worker; of these, callers get some two hundred."""


@contextmanager
def connections(address: str, number: int, **options) -> Iterator[list[Connection]]:
    with ExitStack() as opened:
        yield [opened.enter_context(Connection(address, **options)) for _ in range(number)]


def settled(condition: Callable[[], bool], seconds: float = PATIENCE) -> bool:
    """Whether it comes true within that time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.05)
    return condition()


@pytest.mark.parametrize("path", [RANK, STREAM], ids=["unary", "stream"])
def test_messages_that_are_not_finished(start, truth, path):
    """400 MB of them."""
    server = start("--max-memory", str(LIMIT))
    opening = b"".join(
        frame(HEADERS, 1 + 2 * each, call(path), END_HEADERS)
        + frame(DATA, 1 + 2 * each, b"\0" + struct.pack(">I", 600_000))
        for each in range(PER_CONNECTION)
    )
    more = b"".join(
        frame(DATA, 1 + 2 * each, bytes(CHUNK)) for each in range(PER_CONNECTION) for _ in range(12)
    )
    with another_caller(server, truth.rows[:10]) as seen:
        with connections(server.address, 20) as opened:
            for each in opened:
                each.send(opening + more, 0.5)
            time.sleep(2.5)
        assert settled(lambda: held(server) - seen.base < 100 * MIB)
    assert held(server) < LIMIT
    assert seen.most < LIMIT
    assert seen.worst < 10.0
    assert len(seen.latencies) > len(seen.errors)
    # Nobody is hung up on: it is refused by a documented limit.
    assert {error.code.name for error in seen.errors} <= {"RESOURCE_EXHAUSTED"}


def test_refusals_that_nobody_reads(start, truth):
    """Names of NUL characters, of which each would fill four in the text of a refusal."""
    server = start("--max-memory", str(LIMIT))
    with (
        another_caller(server, truth.rows[:10]) as seen,
        connections(server.address, 8, settings=DEAF) as opened,
    ):
        for each in opened:
            each.send(frame(HEADERS, 1, call(STREAM), END_HEADERS))
            for number in range(40):
                body = pb.RankRequest(request_id=str(number), model="\0" * 250_000)
                if not each.send_message(1, body.SerializeToString(), 0.5):
                    break
        time.sleep(0.5)
    assert not seen.errors
    assert seen.growth < 100 * MIB


def test_answers_that_nobody_reads(start, truth):
    """Of a megabyte each."""
    server = start("--max-memory", str(LIMIT))
    rows = np.zeros((3000, truth.rows.shape[1]), "<f4")
    matrix = pb.Matrix(rows=len(rows), columns=rows.shape[1], data=rows.tobytes())
    ids = ["x" * 300] * len(rows)
    with (
        another_caller(server, truth.rows[:10]) as seen,
        connections(server.address, 8, settings=DEAF) as opened,
    ):
        for each in opened:
            each.send(frame(HEADERS, 1, call(STREAM), END_HEADERS))
            for number in range(40):
                body = pb.RankRequest(request_id=str(number), candidates=matrix, candidate_ids=ids)
                if not each.send_message(1, body.SerializeToString(), 0.3):
                    break
        time.sleep(1.0)
    assert not seen.errors
    assert seen.growth < 150 * MIB


def test_names_of_services_that_are_watched(server, truth):
    body = b"\x0a" + b"\x80\x80\x40" + b"x" * 2**20
    with (
        another_caller(server, truth.rows[:10]) as seen,
        connections(server.address, 100) as opened,
    ):
        for each in opened:
            each.send(frame(HEADERS, 1, call(WATCH), END_HEADERS))
            each.send_message(1, body, 1.0)
        assert not seen.errors
    assert seen.growth < 60 * MIB


def test_a_message_that_does_not_come(start):
    server = start("--message-timeout", "0.5")
    with Connection(server.address) as connection:
        connection.send(frame(HEADERS, 1, call(RANK), END_HEADERS))
        wait_until(lambda: server.metric("ranker_rpcs_evicted_total", reason="message") == 1)
        wait_until(lambda: server.metric("ranker_rpcs_in_flight") == 0)
        assert connection.is_open(0.1)


def test_idle_streams(start, truth, transport):
    """20,000 of them: what there is no room for ends those that are idle."""
    server = start("--max-memory", str(LIMIT))
    opening = b"".join(
        frame(HEADERS, 1 + 2 * each, call(STREAM), END_HEADERS) for each in range(PER_CONNECTION)
    )
    with another_caller(server, truth.rows[:10]) as seen:
        with connections(server.address, 200) as opened:
            for each in opened:
                each.send(opening, 0.5)
            time.sleep(1.0)
        if transport == "core":  # what grpc.aio has taken it gives back later, if ever
            assert settled(lambda: held(server) - seen.base < 100 * MIB)
    assert not seen.errors
    assert seen.worst < 10.0
    # grpc.aio takes a task and more for each, before it can be told that there is no room.
    assert seen.most < (LIMIT if transport == "core" else 1.5 * LIMIT)
    if transport == "core":  # grpc.aio may not have come to the end of them by now
        assert server.metric("ranker_rpcs_evicted_total", reason="calls") > 0


def test_idle_connections(server, truth):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    with another_caller(server, truth.rows[:10]) as seen:
        with connections(server.address, 1000, acknowledge=False) as opened:
            time.sleep(0.5)
            assert sum(each.is_open() for each in opened) > 900
        assert settled(lambda: held(server) - seen.base < 100 * MIB)
    assert not seen.errors
    assert seen.growth < 100 * MIB


def test_the_limit_on_connections_of_a_small_server(start, truth):
    server = start("--max-memory", str(150 * MIB))
    limit = server.metric("ranker_process_memory_limit_bytes")
    with another_caller(server, truth.rows[:10]) as seen:
        with connections(server.address, 600, acknowledge=False) as opened:
            assert settled(lambda: sum(each.is_open() for each in opened) < 300)
        assert limit > seen.base
    assert not seen.errors


@pytest.mark.parametrize("length", [720, 5000])
def test_a_full_queue_takes_what_its_limit_says(start, truth, length):
    """Lists wait up to the limit in bytes, and the memory follows it."""
    limit = 100 * MIB
    server = start(
        "--max-queue-bytes", str(limit), "--max-queue-rows", "100000000",
        "--max-memory", str(1500 * MIB), "--max-deadline", "3600",
        kind=Broken,
    )  # fmt: skip
    rows = np.full((length, truth.rows.shape[1]), SLOW, "<f4")
    matrix = pb.Matrix(rows=len(rows), columns=rows.shape[1], data=rows.tobytes())
    request = pb.RankRequest(candidates=matrix).SerializeToString()
    base, most = held(server), 0
    own = [("grpc.use_local_subchannel_pool", 1)]
    with ExitStack() as opened:
        channels = [
            opened.enter_context(grpc.insecure_channel(server.address, options=own))
            for _ in range(32)
        ]
        calls: list[grpc.Future] = []
        step = max(1, round(limit / 25 / rows.nbytes / len(channels)))

        def have_arrived() -> bool:
            there = sum(not each.done() for each in calls)
            return server.metric("ranker_rpcs_in_flight") >= there

        while not any(each.done() and each.exception() for each in calls):
            assert len(calls) * rows.nbytes < 1.2 * limit
            more = channels * step
            calls += [channel.unary_unary(RANK).future(request) for channel in more]
            wait_until(have_arrived)  # what is on its way is not in the queue
            most = max(most, held(server))
        # Those in the queue, and those in the slow batch, which may be one or many.
        waiting = server.metric("ranker_rpcs_in_flight") * rows.nbytes
        codes = {each.code().name for each in calls if each.done()}
        for each in calls:
            each.cancel()
    assert codes <= {"OK", "RESOURCE_EXHAUSTED"}
    assert waiting > 0.5 * limit
    assert most - base < 1.3 * limit


def test_a_worker_that_has_nothing_to_do_gives_free_memory_back(start, truth):
    server = start()
    base = held(server)
    rows = np.zeros((5000, truth.rows.shape[1]), "<f4")
    matrix = pb.Matrix(rows=len(rows), columns=rows.shape[1], data=rows.tobytes())
    ids = ["x" * 300] * len(rows)
    request = pb.RankRequest(candidates=matrix, candidate_ids=ids).SerializeToString()
    with grpc.insecure_channel(server.address) as channel:
        for each in [channel.unary_unary(RANK).future(request) for _ in range(10)]:
            each.result(PATIENCE)
    kept = held(server) - base
    assert kept > 10 * MIB
    wait_until(lambda: held(server) - base < kept / 2)
