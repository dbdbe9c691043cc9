"""Streams of every shape, on every transport."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import grpc
import pytest

from ranker.rpc import MAX_UNSENT
from tests.transport.raw_http2 import RawCall
from tests.waiting import PATIENCE, wait_until


def failure(call) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value


def messages(count: int, size: int = 10) -> list[bytes]:
    return [str(i).encode().rjust(size) for i in range(count)]


def until(event: threading.Event, *first: bytes):
    """Sends messages, and then nothing, until the event."""
    yield from first
    event.wait(PATIENCE)


@pytest.mark.parametrize(
    "count", [pytest.param(0, id="none"), pytest.param(1, id="one"), pytest.param(1000, id="many")]
)
def test_chat(server, case, count):
    sent = messages(count)
    assert list(server.stream("Chat", iter(sent), case)) == sent
    assert server.await_closed(case) == [["closed", "OK", False]]
    assert server.events(case)[-2][0] == "half_closed"


def test_answers_come_while_the_caller_still_sends(server):
    done = threading.Event()
    call = server.stream("Chat", until(done, b"one", b"two"))
    assert next(call) == b"one"
    assert next(call) == b"two"
    done.set()
    assert list(call) == []


def test_answers_out_of_order(server, case):
    sent = messages(50)
    assert list(server.stream("Reverse", iter(sent), case)) == sent[::-1]


def test_many_messages_one_answer(server, case):
    call = server.channel.stream_unary("/toy/Sum")
    numbers = (str(i).encode() for i in range(100))
    assert call(numbers, metadata=[("case", case)], timeout=PATIENCE) == b"4950"
    assert server.await_closed(case) == [["closed", "OK", False]]


def test_one_message_many_answers_over_time(server, case):
    call = server.channel.unary_stream("/toy/Ticks")
    answers = call(b"50 0.001", metadata=[("case", case)], timeout=PATIENCE)
    assert list(answers) == [str(i).encode() for i in range(50)]
    assert server.await_closed(case) == [["closed", "OK", False]]
    assert not [event for event in server.events(case) if event[0] == "half_closed"]


def test_stream_ended_by_another_thread_while_its_messages_go_out(server, case):
    """The pauses put the end before, at and after the moment when the last message has gone."""
    call = server.channel.unary_stream("/toy/Ticks")
    pauses = [0, 1e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4] * 50
    calls = [
        call(f"3 {pause}".encode(), metadata=[("case", case)], timeout=PATIENCE) for pause in pauses
    ]
    assert [list(answers) for answers in calls] == [[b"0", b"1", b"2"]] * len(calls)
    assert server.await_closed(case, len(calls)) == [["closed", "OK", False]] * len(calls)


def test_what_was_sent_before_a_failure_arrives_and_nothing_after(server, case):
    call = server.channel.unary_stream("/toy/Spoilt")
    answers = call(b"", metadata=[("case", case)], timeout=PATIENCE)
    assert [next(answers), next(answers), next(answers)] == [b"0", b"1", b"2"]
    error = failure(lambda: next(answers))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert server.await_closed(case) == [["closed", "NOT_FOUND", False]]


def test_exception_on_a_message_ends_the_stream(server, case):
    call = server.stream("Picky", iter([b"good", b"bad", b"good"]), case)
    assert next(call) == b"good"
    error = failure(lambda: next(call))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert server.await_closed(case) == [["closed", "INVALID_ARGUMENT", False]]
    assert [e[1] for e in server.events(case) if e[0] == "message"] == ["good", "bad"]


def test_a_stream_that_the_server_ends_while_it_reads_is_no_error_of_its_own(server, case):
    done = threading.Event()
    call = server.stream("FailLaterStream", until(done, b"x"), case)
    assert failure(lambda: next(call)).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    done.set()
    assert server.await_closed(case) == [["closed", "RESOURCE_EXHAUSTED", False]]
    server.unary("Echo", b"x")
    assert "Locally aborted" not in server.log()


def test_a_handler_hears_of_a_stream_before_its_first_message(server, case):
    done = threading.Event()
    call = server.stream("HoldStream", until(done), case)
    wait_until(lambda: server.events(case) == [["opened"]])
    call.cancel()
    done.set()
    assert server.await_closed(case) == [["closed", "CANCELLED", True]]


def test_exception_on_half_close_ends_the_stream(server, case):
    call = server.stream("Picky", iter([b"good"]), case)
    assert next(call) == b"good"
    assert failure(lambda: next(call)).code() is grpc.StatusCode.INTERNAL
    assert server.await_closed(case) == [["closed", "INTERNAL", False]]


def test_handler_holds_messages_back(server, case):
    sent = messages(10)
    assert list(server.stream("Gate", iter(sent), case)) == sent
    happened = [event[0] for event in server.events(case) if event[0] in ("message", "go on")]
    assert happened == ["message", "go on"] * 10


def test_resume_before_message_returns(server):
    assert list(server.stream("Gate", iter([b"early"] * 20))) == []


def test_caller_that_stops_reading_costs_bounded_memory(server, case):
    def backlog() -> int:
        """The bytes of the answers."""
        return 65536 * len([event for event in server.events(case) if event[0] == "message"])

    server.unary("Echo", b"x" * 2**20)
    before = server.journal()["rss"]
    done = threading.Event()
    channel = server.connect()
    call = channel.stream_stream("/toy/Amplify")(
        until(done, *[b"more"] * 2000), metadata=[("case", case)], timeout=PATIENCE
    )
    wait_until(lambda: backlog() >= MAX_UNSENT)
    last = -1
    while backlog() != last:  # until it grows no more
        last = backlog()
        time.sleep(0.2)
    # And what the kernel holds of a connection: up to 10 MiB, 4 to send and 6 received.
    assert last < 48 * MAX_UNSENT
    # 2000 answers would have been 125 MiB.
    assert server.journal()["rss"] - before < 40 * 2**20
    # The caller reads again, and everything flows.
    assert len(next(call)) == 65536
    assert sum(1 for _ in zip(range(1999), call, strict=False)) == 1999
    done.set()
    assert list(call) == []
    channel.close()
    assert server.await_closed(case) == [["closed", "OK", False]]


@pytest.mark.parametrize("method", ["Chat", "HangStream", "Amplify"])
def test_cancelled_stream(server, case, method):
    done = threading.Event()
    call = server.stream(method, until(done, *[b"x"] * 20), case)
    wait_until(lambda: len(server.events(case)) >= 20)
    call.cancel()
    done.set()
    possible = [[["closed", "CANCELLED", True]]]
    if server.transport == "aio" and method != "HangStream":
        # To grpc.aio it can look like the end of the messages, on which these finish.
        possible.append([["closed", "OK", False]])
    assert server.await_closed(case) in possible
    time.sleep(0.05)
    assert server.await_closed(case) in possible  # still one


def test_stream_deadline(server, case):
    done = threading.Event()
    call = server.stream("HangStream", until(done, b"x"), case, server_deadline="300m")
    assert failure(lambda: next(call)).code() is grpc.StatusCode.DEADLINE_EXCEEDED
    done.set()
    assert server.await_closed(case) == [["closed", "DEADLINE_EXCEEDED", True]]


def test_too_large_a_message_ends_the_stream(server, case):
    call = server.stream("Chat", iter([b"x", b"x" * (2**20 + 1)]), case)
    assert failure(lambda: list(call)).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert len(server.await_closed(case)) == 1


def test_killed_client(server, case):
    chats = case + "-chats"
    script = f"""
        import grpc, threading
        channel = grpc.insecure_channel({server.address!r})
        def forever():
            yield b"x"
            threading.Event().wait()
        def start(call, request, case):
            call(request, metadata=[("case", case)]).add_done_callback(print)
        for _ in range(5):
            start(channel.unary_unary("/toy/Hang").future, b"", {case!r})
            start(channel.stream_stream("/toy/HangStream"), forever(), {case!r})
        start(channel.stream_stream("/toy/Chat"), forever(), {chats!r})
        start(channel.stream_stream("/toy/Amplify"), forever(), {chats!r})
        threading.Event().wait()
    """
    client = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)])
    try:
        wait_until(lambda: len(server.events(case)) >= 10 and len(server.events(chats)) >= 2)
    finally:
        os.kill(client.pid, signal.SIGKILL)
        client.wait()
    closed = [event for event in server.await_closed(case, 10) if event[0] == "closed"]
    assert closed == [["closed", "CANCELLED", True]] * 10
    # To these the end of the connection looks like the end of the caller's
    # messages, on which they finish; not every transport can say more.
    assert len(server.await_closed(chats, 2)) == 2


def test_connection_reset_together_with_its_last_data(server, case):
    """gRPC's reader on the polling thread misses such a reset; its keepalive must not."""
    call = RawCall(server.address, "/toy/HangStream", case)
    wait_until(lambda: server.events(case))
    busy = threading.Thread(target=server.unary, args=("Busy", b"0.3"))
    busy.start()
    time.sleep(0.1)  # by now the loop is busy, and will find both at once
    call.send_harmless_frame()
    call.reset()
    busy.join()
    assert server.await_closed(case) == [["closed", "CANCELLED", True]]


def test_connection_that_falls_silent(server, case):
    call = RawCall(server.address, "/toy/HangStream", case)
    assert server.await_closed(case) == [["closed", "CANCELLED", True]]
    call.close()


def test_streams_side_by_side(server):
    answers: dict[int, list[bytes]] = {}

    def chat(i: int) -> None:
        answers[i] = list(server.stream("Chat", iter(messages(200, size=1000))))

    threads = [threading.Thread(target=chat, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(answers[i] == messages(200, size=1000) for i in range(8))
