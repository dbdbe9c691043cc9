"""What ends a call of `grpc` or `grpc.aio`, as one of our errors."""

from __future__ import annotations

from typing import cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc import status_pb2
from grpc_status import rpc_status

from ranker.errors import RankerError
from ranker.status import from_status


def from_rpc_error(error: grpc.RpcError) -> RankerError:
    """The error that ended an RPC, the server's or gRPC's own."""
    call = cast(grpc.Call, error)
    try:
        status = rpc_status.from_call(call)
    except (DecodeError, ValueError):
        # Something on the way rewrote the status, or the details: believe what gRPC itself says.
        status = None
    if status is None:
        status = status_pb2.Status(code=call.code().value[0], message=call.details() or "")
    return from_status(status)
