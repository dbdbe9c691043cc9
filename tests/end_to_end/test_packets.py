"""In how many packets answers reach a caller who has many calls on a connection."""

from __future__ import annotations

import socket
import struct
import sys

import pytest

from ranker.client.request import rank_request
from tests.end_to_end.http2 import END_HEADERS, END_STREAM, HEADERS, RANK, Connection, call, frame

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")

CALLS, BURSTS = 32, 3
_RECEIVED_AT = 152
"""Of tcpi_data_segs_in in `struct tcp_info` of <linux/tcp.h>."""


def received(connection: Connection) -> int:
    """The packets with data that have come on a connection."""
    size = _RECEIVED_AT + 4
    info = connection.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, size)
    if len(info) < size:
        pytest.skip("an old kernel")
    [number] = struct.unpack_from("=I", info, _RECEIVED_AT)
    return number


def test_answers_of_one_turn_come_together(server, truth, transport):
    if transport == "aio":
        pytest.skip("gRPC sends on a thread of its own there")
    before = server.scrape().codes()["OK"]
    with Connection(server.address) as connection:
        packets = received(connection)
        for burst in range(BURSTS):
            for stream in range(1 + 2 * CALLS * burst, 1 + 2 * CALLS * (burst + 1), 2):
                connection.send(frame(HEADERS, stream, call(RANK), END_HEADERS))
                connection.send_message(stream, rank_request(truth.rows[:10]), flags=END_STREAM)
            assert connection.is_open(0.3)
        packets = received(connection) - packets
    assert server.scrape().codes()["OK"] - before == BURSTS * CALLS
    assert packets < BURSTS * CALLS / 2
