"""What costs the server more than its sender: others are answered meanwhile.

`make test-slow` is strict, and floods for longer; `pytest --log-cli-level INFO` shows the figures.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator

import grpc
import numpy as np
import pytest

from ranker.client.request import rank_request
from tests.end_to_end.conftest import RunningServer
from tests.end_to_end.flooder import FLOODS, LONG_MESSAGES, SMALL_MESSAGES, WITHOUT_HELLO
from tests.end_to_end.floods import MIB, Seen, another_caller, flood, held
from tests.end_to_end.http2 import (
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    RANK,
    Connection,
    call,
    field,
    frame,
)

logger = logging.getLogger(__name__)

SECONDS = 1.5
LONG_SECONDS, AFTER_SECONDS = 10.0, 5.0
"""Of the slow tests: a flood, and what the server has to give its memory back."""

LIMIT = 512 * MIB
"""Of a server's memory."""

LONGEST_SECONDS = 5.0
"""What another caller may wait; the machine may be shared."""


def log(seen: Seen, after: int) -> None:
    """Tells what was seen, and how many bytes were still held after it."""
    p50, p99, worst = 1e3 * np.percentile(seen.latencies, (50, 99, 100))
    logger.info(
        "%d answers in %.1f ms (p50), %.1f ms (p99), %.1f ms (worst); %d MiB during, %d MiB after",
        *(len(seen.latencies) - len(seen.errors), p50, p99, worst),
        *(seen.growth // MIB, after // MIB),
    )


@pytest.mark.parametrize("kind", FLOODS)
def test_others_are_answered_during_a_flood(server, truth, transport, kind):
    if transport == "aio" and kind in WITHOUT_HELLO:
        pytest.skip("gRPC ends these before it knows of a transport")
    with another_caller(server, truth.rows[:10]) as seen:
        with flood(server.address, kind):
            time.sleep(SECONDS)
        assert not seen.errors
    assert seen.p99 < LONGEST_SECONDS
    assert seen.growth < 300 * MIB


@pytest.mark.parametrize("connections", [6, 20])
def test_long_messages_leave_room_for_others(start, truth, connections):
    """The worker's memory is full of what comes, and the queue of long lists."""
    server = start("--max-memory", str(LIMIT))
    with another_caller(server, truth.rows[:10]) as seen:
        with flood(server.address, LONG_MESSAGES, connections):
            time.sleep(SECONDS)
        assert not seen.errors
    assert seen.worst < LONGEST_SECONDS
    assert seen.most < LIMIT


def test_small_messages_on_streams_hold_nobody_up(server, truth):
    """gRPC hands over the messages that it has before it reads anything of others."""
    with another_caller(server, truth.rows[:10]) as seen:
        with flood(server.address, SMALL_MESSAGES):
            time.sleep(LONGEST_SECONDS + 1.0)
        assert not seen.errors
    assert seen.worst < LONGEST_SECONDS
    assert seen.growth < 300 * MIB


@pytest.fixture(scope="module")
def own_server(truth, transport, tmp_path_factory) -> Iterator[RunningServer]:
    """One beside that of all tests: grpc.aio has work for a while after what is sent here."""
    log = tmp_path_factory.mktemp("floods") / "log"
    running = RunningServer(log, str(truth.path), "--transport", transport)
    yield running
    assert running.stop() == 0


def test_pings_hold_nobody_up(server, truth):
    """1.4 MB of them, at once."""
    with another_caller(server, truth.rows[:10]) as seen, Connection(server.address) as connection:
        connection.send(frame(PING, payload=b"12345678") * 82_000)
        time.sleep(1.5)
    assert not seen.errors
    assert seen.worst < LONGEST_SECONDS


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(call(RANK), id="plain"),
        pytest.param(b"\x83", id="one-byte"),
        pytest.param(call(RANK) + b"\xbe" * 16_000, id="bombs"),
    ],
)
def test_headers_before_the_settings_are_acknowledged(own_server, truth, transport, block):
    """2 MB of them; no limit on calls or headers holds for such a client yet."""
    server = own_server
    first = frame(HEADERS, 1, call(RANK) + field(b"b", b"z", indexed=True), END_HEADERS)
    number = 2_000_000 // (9 + len(block))
    data = first + b"".join(
        frame(HEADERS, 3 + 2 * each, block, END_HEADERS) for each in range(number)
    )
    with (
        another_caller(server, truth.rows[:10]) as seen,
        Connection(server.address, acknowledge=False) as connection,
    ):
        connection.send(data)
        time.sleep(3.0)
    assert seen.growth < 300 * MIB
    if transport == "core":
        assert not seen.errors
        assert seen.worst < LONGEST_SECONDS


def test_a_request_of_empty_names(server, truth):
    """6 MB of them: they are counted, not parsed."""
    body = b"\x2a\0" * 500_000
    with another_caller(server, truth.rows[:10]) as seen, Connection(server.address) as connection:
        for stream in range(1, 21, 2):
            connection.send(frame(HEADERS, stream, call(RANK), END_HEADERS))
            connection.send_message(stream, body, flags=END_STREAM)
        time.sleep(0.5)
    assert not seen.errors
    assert seen.worst < LONGEST_SECONDS


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*FLOODS, SMALL_MESSAGES])
def test_a_long_flood_has_nobody_wait_for_a_second(start, truth, kind):
    server = start()
    with another_caller(server, truth.rows[:10]) as seen:
        with flood(server.address, kind):
            time.sleep(LONG_SECONDS)
        time.sleep(AFTER_SECONDS)
        after = held(server) - seen.base
    log(seen, after)
    assert not seen.errors
    assert seen.p99 < 1.0
    assert seen.worst < LONGEST_SECONDS
    assert seen.growth < 300 * MIB
    assert after < 100 * MIB


@pytest.mark.slow
@pytest.mark.parametrize("connections", [6, 20, 40])
def test_long_messages_have_nobody_wait_for_a_second(start, truth, transport, connections):
    server = start("--max-memory", str(LIMIT))
    with another_caller(server, truth.rows[:10]) as seen:
        with flood(server.address, LONG_MESSAGES, connections):
            time.sleep(LONG_SECONDS)
        time.sleep(AFTER_SECONDS)
        after = held(server) - seen.base
    log(seen, after)
    assert not seen.errors
    # Who is refused waits before it asks again, so that few calls of many show that it was.
    assert seen.worst < (2.0 if transport == "core" else LONGEST_SECONDS)
    assert seen.most < LIMIT
    assert after < 100 * MIB


@pytest.mark.slow
def test_a_message_that_was_changed_at_random_meets_no_bug(server, truth):
    dice, codes = np.random.default_rng(11), Counter[grpc.StatusCode]()
    message = rank_request(truth.rows[:10])
    with grpc.insecure_channel(server.address) as channel:
        rank = channel.unary_unary(RANK)
        for _ in range(20_000):
            cut = dice.integers(1, len(message)) if dice.random() < 0.3 else len(message)
            changed = bytearray(message[:cut])
            for at in dice.integers(-20, 20, dice.integers(1, 6)):
                changed[at % len(changed)] = dice.integers(256)
            codes[rank.future(bytes(changed), timeout=10.0).code()] += 1
    logger.info("%s", ", ".join(f"{number} {code.name}" for code, number in codes.items()))
    assert not codes.keys() & {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}
