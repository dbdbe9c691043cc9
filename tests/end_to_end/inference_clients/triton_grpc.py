"""Run where tritonclient[grpc] is installed: GRPC_ADDRESS ROWS.npy OUT.npz.

Calls all that its client can call, and writes what came of the lists.
"""

import json
import queue
import sys

import numpy as np
import tritonclient.grpc as triton
from tritonclient.grpc import model_config_pb2, service_pb2

address, rows, out = sys.argv[1], np.load(sys.argv[2]), sys.argv[3]
client = triton.InferenceServerClient(address)
assert client.is_server_live()
assert client.is_server_ready()
assert client.is_model_ready("books")
assert client.is_model_ready("books", "7")
assert not client.is_model_ready("songs")
assert client.get_server_metadata().name == "ranker"
[tensor] = client.get_model_metadata("books").inputs
assert list(tensor.shape) == [-1, rows.shape[1]]
assert client.get_model_config("books").config.input[0].name == tensor.name
assert [model.state for model in client.get_model_repository_index().models] == ["READY"]

candidates = triton.InferInput(tensor.name, list(rows.shape), tensor.datatype)
candidates.set_data_from_numpy(rows)
answer = client.infer("books", [candidates], request_id="r7")
assert answer.get_response().id == "r7"
found = {name: answer.as_numpy(name) for name in ("scores", "indices")}
top = client.infer(
    "books",
    [candidates],
    outputs=[triton.InferRequestedOutput("indices")],
    parameters={"top_k": 3, "unit": "reader-7"},
    timeout=5_000_000,
    priority=1,
)
found["top"] = top.as_numpy("indices")

answers = queue.SimpleQueue()
client.start_stream(lambda result, error: answers.put((result, error)))
for size in (len(rows), 1, 7):
    part = triton.InferInput(tensor.name, [size, rows.shape[1]], tensor.datatype)
    part.set_data_from_numpy(rows[:size])
    client.async_stream_infer("books", [part], enable_empty_final_response=True)
client.async_stream_infer("songs", [candidates])
for size in (len(rows), 1, 7):
    result, error = answers.get(timeout=20)
    assert error is None
    assert result.as_numpy("scores").tolist() == found["scores"][:size].tolist()
result, error = answers.get(timeout=20)
assert result is None
assert "no model songs" in str(error)
client.stop_stream()

[statistics] = client.get_inference_statistics("books").model_stats
assert statistics.inference_count >= 5
assert not client.get_system_shared_memory_status().regions
assert not client.get_cuda_shared_memory_status().regions
assert not client.get_trace_settings().settings
assert not client.get_log_settings().settings
client.unregister_system_shared_memory()
client.unregister_cuda_shared_memory()
for refused, status in (
    (lambda: client.register_system_shared_memory("a", "/a", 10), "UNIMPLEMENTED"),
    (lambda: client.load_model("books"), "UNIMPLEMENTED"),
    (lambda: client.infer("books", [candidates, candidates]), "INVALID_ARGUMENT"),
    (lambda: client.infer("songs", [candidates]), "NOT_FOUND"),
):
    try:
        refused()
    except triton.InferenceServerException as error:
        assert error.status() == f"StatusCode.{status}", error
    else:
        raise AssertionError(status)
np.savez(out, **found)

# The published messages, to be compared with ours: field names, numbers and types.
fields = {
    message.full_name: {
        field.name: (field.number, field.type, field.is_repeated) for field in message.fields
    }
    for file in (service_pb2, model_config_pb2)
    for outer in file.DESCRIPTOR.message_types_by_name.values()
    for message in (outer, *outer.nested_types)
}
methods = {
    method.name: (method.input_type.full_name, method.output_type.full_name)
    for method in service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods
}
print(json.dumps({"fields": fields, "methods": methods}))
