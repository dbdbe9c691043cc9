"""Unary calls, on every transport."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from tests.transport.raw_http2 import RawCall
from tests.waiting import PATIENCE, wait_until


def failure(call) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"hello", id="small"),
        pytest.param(bytes(range(256)) * 4000, id="a-million-bytes"),
    ],
)
def test_echo(server, case, data):
    assert server.unary("Echo", data, case) == data
    assert server.await_closed(case) == [["closed", "OK", False]]


def test_call_knows_its_facts(server, case):
    facts = json.loads(server.unary("Facts", b"", case, timeout=7))
    assert facts["method"] == "/toy/Facts"
    assert 0 < facts["left"] < 7.1  # gRPC rounds what it sends up
    assert 0 <= facts["age"] < 7
    assert ["case", case] in facts["metadata"]
    assert facts["tag"] is None
    assert facts["loop"]


def test_no_deadline_is_infinite(server):
    assert json.loads(server.unary("Facts", timeout=None))["left"] is None


@pytest.mark.parametrize(
    "packed",
    [
        pytest.param(grpc.Compression.Gzip, id="gzip"),
        pytest.param(grpc.Compression.Deflate, id="deflate"),
    ],
)
def test_a_packed_message_is_refused(server, packed):
    """Its size on the wire says nothing of the memory and the time that it takes."""
    error = failure(lambda: server.unary("Echo", bytes(100_000), compression=packed))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "ompression" in error.details()
    assert server.unary("Echo", b"plain") == b"plain"


def test_ranker_error_travels_with_its_details(server, case):
    error = failure(lambda: server.unary("Fail", b"invalid", case))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.details() == "candidates.data: expected 4 bytes, got 3"
    status = rpc_status.from_call(error)
    request = error_details_pb2.BadRequest()
    assert status.details[0].Unpack(request)
    assert request.field_violations[0].field == "candidates.data"
    assert server.await_closed(case) == [["closed", "INVALID_ARGUMENT", False]]


@pytest.mark.parametrize(
    ("method", "milliseconds"),
    [
        pytest.param("Fail", "250", id="on-the-loop"),
        pytest.param("FailLater", "1000", id="on-another-thread"),
    ],
)
def test_overload_says_when_to_retry(server, method, milliseconds):
    error = failure(lambda: server.unary(method, b"overloaded"))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert ("grpc-retry-pushback-ms", milliseconds) in list(error.trailing_metadata())
    retry = error_details_pb2.RetryInfo()
    assert rpc_status.from_call(error).details[0].Unpack(retry)
    assert retry.retry_delay.ToMilliseconds() == int(milliseconds)


def test_long_message_is_cut_to_fit_into_trailers(server):
    error = failure(lambda: server.unary("Fail", b"long"))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert error.details().startswith("no model xxx")
    assert len(error.details()) < 2000


def test_bug_is_told_as_an_id_that_the_log_knows(server, case):
    error = failure(lambda: server.unary("Fail", b"bug", case))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "a secret" not in error.details()
    mark = re.search(r"\[(\w+)\]", error.details())[1]
    wait_until(lambda: mark in server.log())
    assert "ValueError: a secret" in server.log().split(mark)[-1]
    assert server.await_closed(case) == [["closed", "INTERNAL", False]]


def test_unknown_method(server):
    before = server.journal()["rpcs"].get(" 12", 0)
    error = failure(lambda: server.unary("Nothing"))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "/toy/Nothing" in error.details()
    error = failure(lambda: list(server.stream("NoStream", iter([b""]))))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    wait_until(lambda: server.journal()["rpcs"][" 12"] == before + 2)


def test_too_large_a_message_never_reaches_the_handler(server, case):
    error = failure(lambda: server.unary("Echo", b"x" * (2**20 + 1), case))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert server.unary("Echo", b"x" * 2**20) == b"x" * 2**20
    assert not [event for event in server.events(case) if event[0] == "message"]


def test_answer_from_another_thread_and_only_the_first(server, case):
    assert server.unary("EchoLater", b"0.01", case) == b"0.01"
    assert server.await_closed(case) == [["closed", "OK", False]]


def test_call_soon_runs_on_the_loop(server):
    assert server.unary("Soon") == b"loop"


def test_pump_is_called_again_after_the_time_it_asks_for(server):
    assert server.unary("Again") == b"third"


def test_pump_sees_the_messages_of_a_turn_together(server):
    # Meanwhile the others come, however slow this process is beside the server.
    busy = server.channel.unary_unary("/toy/Busy").future(b"0.3", timeout=PATIENCE)
    futures = [
        server.channel.unary_unary("/toy/Batched").future(b"", timeout=PATIENCE) for _ in range(200)
    ]
    assert busy.result() == b""
    sizes = [int(future.result()) for future in futures]
    assert max(sizes) > 1
    # Every call of a batch was told its size, so that the sizes add up.
    assert all(sizes.count(size) % size == 0 for size in set(sizes))


def test_pump_that_raises_does_not_end_the_server(server):
    assert server.unary("BreakPump", b"x") == b"x"
    assert server.unary("Batched") == b"1"
    wait_until(lambda: "the pump failed" in server.log())


def test_closed_that_raises_does_not_end_the_server(server, case):
    assert server.unary("BreakClosed", b"x", case) == b"x"
    assert server.await_closed(case) == [["closed", "OK", False]]
    assert server.unary("Echo", b"y") == b"y"
    wait_until(lambda: "ValueError: closed failed" in server.log())


def test_a_call_that_is_held_unread_ends_with_its_caller(server, case):
    call = server.channel.unary_unary("/toy/Hold").future(b"x", metadata=[("case", case)])
    wait_until(lambda: server.events(case))
    call.cancel()
    assert server.await_closed(case) == [["closed", "CANCELLED", True]]


def test_cancelled_call(server, case):
    call = server.channel.unary_unary("/toy/Hang").future(b"", metadata=[("case", case)])
    wait_until(lambda: server.events(case))
    call.cancel()
    assert server.await_closed(case) == [["closed", "CANCELLED", True]]


@pytest.mark.parametrize("leaves", [RawCall.cancel, RawCall.reset, RawCall.close])
def test_a_caller_who_leaves_before_its_message_has_come(server, case, leaves):
    before = server.journal()["rpcs"]["in flight"]
    call = RawCall(server.address, "/toy/Echo", case, message=False)
    wait_until(lambda: server.journal()["rpcs"]["in flight"] > before)
    leaves(call)
    assert server.await_closed(case) == [["closed", "CANCELLED", True]]


def test_deadline_that_passes(server, case):
    error = failure(lambda: server.unary("Hang", b"", case, server_deadline="200m"))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert server.await_closed(case) == [["closed", "DEADLINE_EXCEEDED", True]]


def test_answer_after_the_caller_has_gone_is_dropped(server, case):
    call = server.channel.unary_unary("/toy/EchoLater").future(b"0.3", metadata=[("case", case)])
    wait_until(lambda: server.events(case))
    call.cancel()
    server.await_closed(case)
    assert server.unary("EchoLater", b"0.4") == b"0.4"  # by now the late answer has come
    assert len([event for event in server.events(case) if event[0] == "closed"]) == 1


def test_unary_call_without_a_message(server, case):
    call = server.channel.stream_unary("/toy/Echo")
    error = failure(lambda: call(iter([]), metadata=[("case", case)], timeout=PATIENCE))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    assert server.await_closed(case) == [["closed", "UNIMPLEMENTED", False]]


def test_many_concurrent_calls_are_each_closed_once(server, case):
    def ask(i: int) -> bytes:
        method = "Echo" if i % 2 else "EchoLater"
        return server.unary(method, f"0.00{i}".encode(), case)

    with ThreadPoolExecutor(32) as pool:
        assert list(pool.map(ask, range(400))) == [f"0.00{i}".encode() for i in range(400)]
    assert server.await_closed(case, 400) == [["closed", "OK", False]] * 400


def test_every_rpc_is_counted(server):
    before = server.journal()["rpcs"]
    for _ in range(3):
        server.unary("Echo")
    failure(lambda: server.unary("Fail", b"invalid"))
    wait_until(lambda: server.journal()["rpcs"]["/toy/Echo 0"] == before.get("/toy/Echo 0", 0) + 3)
    after = server.journal()["rpcs"]
    assert after["/toy/Fail 3"] == before.get("/toy/Fail 3", 0) + 1
    wait_until(lambda: server.journal()["rpcs"]["in flight"] == 1)  # the journal's own


def test_one_call_at_a_time_is_no_more_than_a_share(start):
    """While others have as many calls in progress as there may be."""
    server = start("--few-calls")
    others = [server.connect() for _ in range(3)]
    hanging = [
        channel.unary_unary("/toy/Hang").future(b"", metadata=[("case", "hang")])
        for channel in others
        for _ in range(10)
    ]
    wait_until(lambda: len(server.events("hang")) == len(hanging))
    for number in range(200):
        assert server.unary("Echo", b"%d" % number) == b"%d" % number
    for channel in others:
        channel.close()
