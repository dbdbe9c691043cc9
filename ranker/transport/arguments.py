"""The channel arguments that all transports give to gRPC.

What each is for was measured: `docs/design/transport.md`, "Hostile callers".
"""

from __future__ import annotations

from ranker.rpc import Limits, Options

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

_PINGS = (
    # Pings are answered, however many come. By default gRPC closes a connection at the third
    # ping within five minutes without an answer in between, which is how often no client with
    # a keepalive of its own may ping; and it then adds to an error, once for each further
    # ping that it has read, in time that grows with the square of their number.
    ("grpc.http2.max_ping_strikes", 0),
)

WINDOW_BYTES = 512 * 2**10
"""What a caller may send of a message that nobody reads yet, and of all such at a time.

It holds two thousand candidates with 64 features; of a longer list, the rest
waits until the server has let it in.
"""

AIO_WINDOW_BYTES = 64 * 2**10
"""The same for `aio`, which reads on while the server is busy, and so fills the windows of all."""

MAX_CALLS = 100
"""Calls in progress on one connection; further ones wait at the client, unsent.

The least that HTTP/2 recommends. A caller that wants more opens more connections, which
spreads them over the workers too. It also bounds what a caller can do who resets each call as
soon as it has sent it, and who has not acknowledged the server's settings.
"""

MAX_METADATA_BYTES = 16 * 2**10
"""Of one call. gRPC itself refuses a call with more, once its client has acknowledged that. By
default it refuses those between 8 and 16 KiB at random, the more so the larger they are."""

METADATA_OVERHEAD = 32
"""Bytes that each entry of it counts besides its own, as HTTP/2 has it."""

READ_BYTES = 64 * 2**10
"""What is read from a socket at a time, at most; each connection keeps a buffer of such size."""

_BOUNDED_MEMORY = (
    # By default gRPC widens the windows of all calls to what the network can take,
    # megabytes within a data centre: an overloaded server then receives most of what
    # it refuses, and holds it. So a connection's unread bytes are bounded, by the
    # product of the two constants above.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.max_concurrent_streams", MAX_CALLS),
    # A call that the server has ended is open at its client for a moment less than with gRPC
    # here. Without this, a client with as many calls as it may have is now and then refused.
    ("grpc.http2.max_deallocating_streams", MAX_CALLS),
    ("grpc.experimental.tcp_max_read_buffer_size", READ_BYTES),
    # By default gRPC hands a connection over to another thread after 32 calls in one read, which
    # goes on to read it for as long as something comes, and which nobody watches.
    ("grpc.http2.max_requests_per_read", 10_000),
    # A client acknowledges the server's settings at once. Before that, limits do not hold.
    ("grpc.http2.settings_timeout", 30_000),
    ("grpc.server_handshake_timeout_ms", 30_000),
)


_COMPRESSION = (
    # A caller may pack a message into a thousandth of its size. All limits are on what comes, and
    # would hold neither memory nor the time that unpacking takes. So gRPC refuses such calls.
    ("grpc.compression_enabled_algorithms_bitset", 1),  # a bit for each; the lowest is for none
)


def channel_arguments(
    max_message_bytes: int,
    reuse_port: bool,
    options: Options,
    limits: Limits,
    window: int = WINDOW_BYTES,
    pending: int = 2**30,
) -> list[tuple[str, str | int]]:
    """The arguments of a server; `options` go before those that are set here.

    See `ranker.rpc.MakeTransport` for what they mean, but for two: `window` is what a caller may
    send of a message that nobody reads yet, and `pending` is how many calls may wait to be taken
    over. gRPC cancels those that come above that, whosever they are; by default it does so at
    random from a thousand on.
    """
    return [  # of two with one name, gRPC takes the first
        ("grpc.so_reuseport", int(reuse_port)),
        ("grpc.max_receive_message_length", max_message_bytes),
        *options,
        ("grpc.max_allowed_incoming_connections", limits.connections),
        ("grpc.max_metadata_size", MAX_METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
        ("grpc.http2.lookahead_bytes", window),
        ("grpc.server.max_pending_requests", pending),
        ("grpc.server.max_pending_requests_hard_limit", pending),
        *_BOUNDED_MEMORY,
        *_COMPRESSION,
        *_PINGS,
        *_KEEPALIVE,
    ]
