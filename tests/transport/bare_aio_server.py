"""The least that can be served with grpc.aio: `bare_aio_server.py`. Prints its port.

`/toy/Busy` and `/toy/Allocated` do what the toy server's do.
"""

from __future__ import annotations

import asyncio
import time

import grpc
import grpc.aio

from tests.transport.heap import allocated_bytes


async def busy(request: bytes, _: object) -> bytes:
    time.sleep(float(request))
    return b""


async def allocated(_: bytes, __: object) -> bytes:
    return str(allocated_bytes()).encode()


async def serve() -> None:
    server = grpc.aio.server()
    methods = {"Busy": busy, "Allocated": allocated}
    handlers = {name: grpc.unary_unary_rpc_method_handler(each) for name, each in methods.items()}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("toy", handlers)])
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await server.wait_for_termination()


asyncio.run(serve())
