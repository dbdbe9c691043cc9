"""Run where tritonclient[http] is installed: HTTP_ADDRESS ROWS.npy OUT.npz.

Calls all that its client can call, and writes what came of the lists.
"""

import sys

import numpy as np
import tritonclient.http as triton

address, rows, out = sys.argv[1], np.load(sys.argv[2]), sys.argv[3]
client = triton.InferenceServerClient(address)
assert client.is_server_live()
assert client.is_server_ready()
assert client.is_model_ready("books")
assert client.is_model_ready("books", "7")
assert not client.is_model_ready("songs")
assert client.get_server_metadata()["name"] == "ranker"
[tensor] = client.get_model_metadata("books")["inputs"]
assert tensor["shape"] == [-1, rows.shape[1]]
assert client.get_model_config("books")["input"][0]["name"] == tensor["name"]
assert [model["state"] for model in client.get_model_repository_index()] == ["READY"]

candidates = triton.InferInput(tensor["name"], list(rows.shape), tensor["datatype"])
candidates.set_data_from_numpy(rows)
answer = client.infer("books", [candidates], request_id="r7")
assert answer.get_response()["id"] == "r7"
found = {name: answer.as_numpy(name) for name in ("scores", "indices")}
candidates.set_data_from_numpy(rows, binary_data=False)  # NaN among them
answer = client.infer(
    "books", [candidates], outputs=[triton.InferRequestedOutput("scores", binary_data=False)]
)
found["json"] = answer.as_numpy("scores")
top = client.infer(
    "books",
    [candidates],
    outputs=[triton.InferRequestedOutput("indices")],
    parameters={"top_k": 3, "unit": "reader-7"},
    timeout=5_000_000,
)
found["top"] = top.as_numpy("indices")

[statistics] = client.get_inference_statistics("books")["model_stats"]
assert statistics["inference_count"] >= 3
assert client.get_inference_statistics()["model_stats"]
assert client.get_system_shared_memory_status() == []
assert client.get_cuda_shared_memory_status("a") == []
assert client.get_trace_settings("books") == {}
assert client.update_log_settings({"log_verbose_level": 1}) == {}
client.unregister_system_shared_memory()
client.unregister_cuda_shared_memory("a")
for refused, status in (
    (lambda: client.register_system_shared_memory("a", "/a", 10), 501),
    (lambda: client.load_model("books"), 501),
    (lambda: client.infer("books", [candidates, candidates]), 400),
    (lambda: client.infer("songs", [candidates]), 404),
):
    try:
        refused()
    except triton.InferenceServerException as error:
        assert error.status() == str(status), error
    else:
        raise AssertionError(status)
np.savez(out, **found)
