"""Run where kserve is installed: GRPC_ADDRESS HTTP_ADDRESS ROWS.npy OUT.npz.

Calls all that its clients can call, and writes what came of the lists.
"""

import asyncio
import sys

import httpx
import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig

grpc_address, http_address, rows_file, out = sys.argv[1:]
url = f"http://{http_address}"
rows = np.load(rows_file)


def request(binary: bool, **fields: object) -> InferRequest:
    candidates = InferInput("candidates", list(rows.shape), "FP32")
    candidates.set_data_from_numpy(rows, binary_data=binary)
    return InferRequest(infer_inputs=[candidates], model_name="books", **fields)


async def main() -> None:
    found = {}
    grpc, rest = InferenceGRPCClient(grpc_address), InferenceRESTClient(RESTConfig(protocol="v2"))
    assert await grpc.is_server_live()
    assert await grpc.is_server_ready()
    assert await grpc.is_model_ready("books")
    assert not await grpc.is_model_ready("songs")
    assert await rest.is_server_live(url)
    assert await rest.is_server_ready(url)
    assert await rest.is_model_ready(url, "books")
    assert not await rest.is_model_ready(url, "songs")
    for binary in (True, False):
        for name, infer in (
            ("grpc", grpc.infer),
            ("rest", lambda asked: rest.infer(url, asked, model_name="books")),
        ):
            answer = await infer(request(binary, request_id="r7"))
            assert (answer.id, answer.model_name) == ("r7", "books")
            scores, indices = answer.outputs
            found[f"{name}-{binary}-scores"] = scores.as_numpy()
            found[f"{name}-{binary}-indices"] = indices.as_numpy()
            top = await infer(request(binary, parameters={"top_k": 3}))
            found[f"{name}-{binary}-top"] = top.outputs[1].as_numpy()
    try:
        await rest.infer(url, request(True), model_name="songs")
    except httpx.HTTPStatusError as error:
        assert "no model songs" in str(error)
    else:
        raise AssertionError("songs")
    await grpc.close()
    await rest.close()
    np.savez(out, **found)


asyncio.run(main())
