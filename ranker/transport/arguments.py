"""The channel arguments that all transports give to gRPC."""

from __future__ import annotations

from ranker.rpc import Options

_KEEPALIVE = (
    # A connection whose other end is lost without a word is pinged after 30 s of
    # silence and given up 20 s later. So is one that is lost with a word: when a
    # reset comes together with the last data and the loop is late, gRPC's reader
    # on the polling thread misses it (`environment.prepare` chooses that reader).
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # In grpcio 1.85 this one counts, in place of keepalive_timeout.
    ("grpc.http2.ping_timeout_ms", 20_000),
)

WINDOW_BYTES = 512 * 2**10
"""What a caller may send of a message that nobody reads yet, and of all such at a time.

It holds two thousand candidates with 64 features; of a longer list, the rest
waits until the server has let it in.
"""

MAX_CALLS = 1000
"""Calls in progress on one connection; further ones wait at the client, unsent.

Far above what a client has in flight: a client that opens more at once than it
knows to be allowed, on a new connection, has some of them refused as UNAVAILABLE.
"""

_BOUNDED_MEMORY = (
    # By default gRPC widens the windows of all calls to what the network can take,
    # megabytes within a data centre: an overloaded server then receives most of what
    # it refuses, and holds it. So a connection's unread bytes are bounded, by the
    # product of the two constants above.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", WINDOW_BYTES),
    ("grpc.max_concurrent_streams", MAX_CALLS),
)


def channel_arguments(
    max_message_bytes: int, reuse_port: bool, options: Options
) -> list[tuple[str, str | int]]:
    """The arguments of a server; `options` go before those that are set here.

    See `ranker.rpc.MakeTransport` for what they mean.
    """
    return [  # of two with one name, gRPC takes the first
        ("grpc.so_reuseport", int(reuse_port)),
        ("grpc.max_receive_message_length", max_message_bytes),
        *options,
        *_BOUNDED_MEMORY,
        *_KEEPALIVE,
    ]
