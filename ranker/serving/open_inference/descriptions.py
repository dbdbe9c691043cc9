"""What the server tells of itself and its models: metadata, configuration, index, statistics."""

from __future__ import annotations

from collections.abc import Sequence

from ranker.errors import NotFoundError
from ranker.inference import open_inference_pb2 as pb
from ranker.metrics.totals import Total
from ranker.serving.generation import Generation
from ranker.serving.open_inference.tensors import CANDIDATES, OUTPUTS, Tensor
from ranker.serving.served_model import ServedModel
from ranker.serving.wire import read_message
from ranker.v1 import ranking_pb2 as ranker_pb

NAME = "ranker"
"""What the server calls itself."""

PLATFORM = "onnx_onnxv1"
"""The protocol's name for ONNX files."""

EXTENSIONS = ("binary_tensor_data", "model_configuration", "model_repository", "statistics")
"""Those of Triton's extensions that the server has, at least in part."""

_VARIABLE = -1

_DATA_TYPES = {"FP32": pb.TYPE_FP32, "INT64": pb.TYPE_INT64}

_STATES = {
    ranker_pb.MODEL_STATE_AVAILABLE: "READY",
    ranker_pb.MODEL_STATE_LOADING: "LOADING",
    ranker_pb.MODEL_STATE_FAILED: "UNAVAILABLE",
}


def server_metadata(version: str) -> bytes:
    """An encoded ServerMetadataResponse."""
    return pb.ServerMetadataResponse(
        name=NAME, version=version, extensions=EXTENSIONS
    ).SerializeToString()


def model_ready(generation: Generation, data: bytes) -> bytes:
    """Whether a model is served; one that the server has never heard of is not."""
    request = read_message(pb.ModelReadyRequest, data)
    try:
        generation.find(request.name, request.version, None)
    except NotFoundError:
        return pb.ModelReadyResponse(ready=False).SerializeToString()
    return pb.ModelReadyResponse(ready=True).SerializeToString()


def model_metadata(generation: Generation, data: bytes) -> bytes:
    """A model's versions and tensors. Raises NotFoundError if there is no such model."""
    request = read_message(pb.ModelMetadataRequest, data)
    served = generation.find(request.name, request.version, None).served
    return pb.ModelMetadataResponse(
        name=served.name,
        versions=[each.version for each in generation.models if each.name == served.name],
        platform=PLATFORM,
        inputs=[_metadata(CANDIDATES, _VARIABLE, served.features.num_features)],
        outputs=[_metadata(output, _VARIABLE) for output in OUTPUTS],
    ).SerializeToString()


def model_config(generation: Generation, data: bytes) -> bytes:
    """A model as Triton's tools want it. Raises NotFoundError if there is no such model."""
    request = read_message(pb.ModelConfigRequest, data)
    served = generation.find(request.name, request.version, None).served
    columns = served.features.num_features
    config = pb.ModelConfig(
        name=served.name,
        platform=PLATFORM,
        backend=NAME,
        max_batch_size=0,
        input=[
            pb.ModelInput(
                name=CANDIDATES.name,
                data_type=_DATA_TYPES[CANDIDATES.datatype],
                dims=[_VARIABLE, columns],
            )
        ],
        output=[
            pb.ModelOutput(
                name=output.name, data_type=_DATA_TYPES[output.datatype], dims=[_VARIABLE]
            )
            for output in OUTPUTS
        ],
        dynamic_batching=pb.ModelDynamicBatching(),
        model_transaction_policy=pb.ModelTransactionPolicy(decoupled=False),
    )
    return pb.ModelConfigResponse(config=config).SerializeToString()


def model_statistics(generation: Generation, data: bytes) -> bytes:
    """What all workers have counted. Raises NotFoundError if there is no such model."""
    request = read_message(pb.ModelStatisticsRequest, data)
    models: Sequence[ServedModel] = generation.models
    if request.name and request.version:
        models = [generation.find(request.name, request.version, None).served]
    elif request.name:
        name = generation.find(request.name, "", None).served.name
        models = [each for each in models if each.name == name]
    found = [_statistics(served) for served in models]
    return pb.ModelStatisticsResponse(model_stats=found).SerializeToString()


def repository_index(
    generation: Generation, others: Sequence[ranker_pb.Model], data: bytes
) -> bytes:
    """Every version, and what became of it.

    Args:
        generation: what is served.
        others: versions that are wanted and not served.
        data: an encoded RepositoryIndexRequest.
    """
    request = read_message(pb.RepositoryIndexRequest, data)
    models = [
        pb.RepositoryIndexResponse.ModelIndex(name=each.name, version=each.version, state="READY")
        for each in generation.models
    ]
    if not request.ready:
        models += [
            pb.RepositoryIndexResponse.ModelIndex(
                name=other.name,
                version=other.version,
                state=_STATES.get(other.state, "UNAVAILABLE"),
                reason=other.state_reason,
            )
            for other in others
        ]
    return pb.RepositoryIndexResponse(models=models).SerializeToString()


def _metadata(tensor: Tensor, *shape: int) -> pb.ModelMetadataResponse.TensorMetadata:
    return pb.ModelMetadataResponse.TensorMetadata(
        name=tensor.name, datatype=tensor.datatype, shape=shape
    )


def _statistics(served: ServedModel) -> pb.ModelStatistics:
    """What was counted of one model, as Triton's tools expect it.

    They want each part of the work counted as often as there were answers. A list's part of the
    scoring is not known: it is told as what a batch takes on average.
    """
    totals = served.metrics.totals()
    answers, batches = totals.answered.times, totals.batches
    scoring = answers * batches.seconds / batches.times if batches.times else 0.0
    return pb.ModelStatistics(
        name=served.name,
        version=served.version,
        inference_count=answers,
        execution_count=batches.times,
        inference_stats=pb.InferStatistics(
            success=_duration(totals.answered),
            fail=_duration(totals.failed),
            queue=_duration(totals.queued),
            compute_input=_duration(Total(answers, 0.0)),
            compute_infer=_duration(Total(answers, scoring)),
            compute_output=_duration(Total(answers, 0.0)),
        ),
    )


def _duration(total: Total) -> pb.StatisticDuration:
    return pb.StatisticDuration(count=total.times, ns=int(total.seconds * 1e9))
