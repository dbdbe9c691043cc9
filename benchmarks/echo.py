"""The floor of a Python gRPC server: grpc.aio, which decodes, looks at the rows and encodes.

Run as a program, it serves `Rank` with the first 100 values of the request as
the scores, and prints its port.
"""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio
import numpy as np

from ranker.v1 import ranking_pb2 as pb

METHOD = "/ranker.v1.RankingService/Rank"
SCORES = 100


async def _rank(request: pb.RankRequest, context: object) -> pb.RankResponse:  # noqa: ARG001
    matrix = request.candidates
    rows = np.frombuffer(matrix.data, "<f4").reshape(matrix.rows, matrix.columns)
    scores = rows.ravel()[:SCORES]
    return pb.RankResponse(
        request_id=request.request_id, indices=range(len(scores)), scores=scores.tolist()
    )


async def _serve() -> None:
    handler = grpc.unary_unary_rpc_method_handler(
        _rank,
        request_deserializer=pb.RankRequest.FromString,
        response_serializer=pb.RankResponse.SerializeToString,
    )
    service, method = METHOD[1:].split("/")
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {method: handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"listening on 127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(_serve())
