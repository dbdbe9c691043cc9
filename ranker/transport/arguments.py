"""The channel arguments that all transports give to gRPC."""

from __future__ import annotations

from ranker.transport.api import Options

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


def channel_arguments(
    max_message_bytes: int, reuse_port: bool, options: Options
) -> list[tuple[str, str | int]]:
    """The arguments of a server; `options` go before the keepalive that is set here.

    See `ranker.transport.api.MakeTransport` for what they mean.
    """
    return [  # of two with one name, gRPC takes the first
        ("grpc.so_reuseport", int(reuse_port)),
        ("grpc.max_receive_message_length", max_message_bytes),
        *options,
        *_KEEPALIVE,
    ]
