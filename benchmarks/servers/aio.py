"""A ranking server as one writes it by hand, with grpc.aio: `aio.py MODEL TREES`.

XGBoost scores each list, on one thread, as it comes.
"""

from __future__ import annotations

import asyncio
import sys

import grpc
import grpc.aio
import numpy as np
import xgboost as xgb

from ranker.v1 import ranking_pb2 as pb


async def serve(model: str, trees: str) -> None:
    """Serves `Rank` until it is killed."""
    booster = xgb.Booster(model_file=model)[: int(trees)]
    booster.set_param({"nthread": 1})

    async def rank(request: pb.RankRequest, context: object) -> pb.RankResponse:  # noqa: ARG001
        matrix = request.candidates
        rows = np.frombuffer(matrix.data, "<f4").reshape(matrix.rows, matrix.columns)
        scores = booster.inplace_predict(rows, predict_type="margin")
        order = np.argsort(-scores, kind="stable")
        scores = scores[order]
        indices, values = order.tolist(), scores.tolist()
        return pb.RankResponse(request_id=request.request_id, indices=indices, scores=values)

    decode, encode = pb.RankRequest.FromString, pb.RankResponse.SerializeToString
    handlers = {"Rank": grpc.unary_unary_rpc_method_handler(rank, decode, encode)}
    service = grpc.method_handlers_generic_handler("ranker.v1.RankingService", handlers)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((service,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"listening on 127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))
