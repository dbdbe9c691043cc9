"""The access log of a real server: one line a request, also while its office is gone."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import secrets
import signal

import grpc
import numpy as np

from ranker.client import RankerClient
from ranker.transport.connections import peer_of
from ranker.v1 import ranking_pb2 as pb
from tests.end_to_end.conftest import NAMES, on_one_transport
from tests.end_to_end.test_traces import request, traced
from tests.waiting import PATIENCE, wait_until

LOGGER, TRACE = '"logger": "ranker.access"', "logging.googleapis.com/trace"
SECRET = 12345.625


def lines(server) -> list[dict[str, object]]:
    """Of the access log, so far."""
    return [json.loads(line) for line in server.log.read_text().splitlines() if LOGGER in line]


def wait_for_lines(server, count: int) -> list[dict[str, object]]:
    wait_until(lambda: len(lines(server)) >= count)
    return lines(server)


def test_each_request_has_its_line_also_while_the_office_is_gone(start):
    server = start("--log-format", "json", "--access-log", "all")
    trace = secrets.token_hex(16)
    with grpc.insecure_channel(server.address) as channel:
        assert traced(channel, request(SECRET, "a7"), trace).code() is grpc.StatusCode.OK
    [unary] = wait_for_lines(server, 1)
    assert (unary["request_id"], unary["model"], unary["version"]) == ("a7", "books", "7")
    assert (unary["code"], unary["candidates"]) == ("OK", 1)
    assert unary[TRACE] == trace
    assert re.fullmatch(r"ipv[46]:.*:\d+", unary["peer"])
    assert 0 < unary["scoring_seconds"] < unary["total_seconds"] < 5
    assert 0 < unary["queue_seconds"] < unary["total_seconds"]

    rows = np.full((5, len(NAMES)), SECRET, np.float32)
    with RankerClient(server.address, timeout=PATIENCE) as client, client.stream() as stream:
        for waiting in [stream.submit(rows, request_id=name) for name in ("s1", "s2")]:
            waiting.result()
    *_, first, second = wait_for_lines(server, 3)
    assert {first["request_id"], second["request_id"]} == {"s1", "s2"}
    assert first["peer"] == second["peer"] != ""

    with RankerClient(server.address, timeout=PATIENCE) as client:
        os.kill(server.office(), signal.SIGKILL)
        for number in range(100):
            client.rank(rows, request_id=str(number))
        wait_until(lambda: server.log.read_text().count("office started") == 2)
        client.rank(rows, request_id="last")
    found = wait_for_lines(server, 104)[3:]
    assert [line["request_id"] for line in found] == [*map(str, range(100)), "last"]

    assert server.stop() == 0
    assert len(lines(server)) == 104
    assert str(SECRET) not in server.log.read_text()


def test_over_http_it_says_who_has_asked_the_office(start):
    server = start("--log-format", "json", "--access-log", "all")
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=PATIENCE)
    with contextlib.closing(connection):
        connection.connect()
        port = connection.sock.getsockname()[1]
        body = json.dumps({"candidates": [[1.0] * len(NAMES)], "request_id": "a7"})
        about = {"Content-Type": "application/json"}
        connection.request("POST", "/v1/models/books:rank", body, about)
        assert connection.getresponse().status == 200
    [line] = wait_for_lines(server, 1)
    assert (line["request_id"], line["code"]) == ("a7", "OK")
    assert peer_of(line["peer"]) == ("127.0.0.1", port)


@on_one_transport
def test_errors_have_their_lines_by_default(server):
    well, badly = secrets.token_hex(16), secrets.token_hex(16)

    def codes() -> set[object]:
        return {line["code"] for line in lines(server) if line.get(TRACE) in (well, badly)}

    with grpc.insecure_channel(server.address) as channel:
        traced(channel, request(1.0), well)

        def said() -> bool:
            """Another one has its line, if those before have taken up all lines of the second."""
            traced(channel, pb.RankRequest(model="films"), badly)
            return bool(codes())

        wait_until(said)
    assert codes() == {"NOT_FOUND"}


@on_one_transport
def test_no_request_has_a_line_if_they_are_off(start):
    server = start("--log-format", "json", "--access-log", "off")
    with grpc.insecure_channel(server.address) as channel:
        traced(channel, request(1.0), secrets.token_hex(16))
        traced(channel, pb.RankRequest(model="films"), secrets.token_hex(16))
    assert server.stop() == 0
    assert lines(server) == []
