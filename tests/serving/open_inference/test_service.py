"""What the server tells of itself and its models, and streams that are answered in order."""

from __future__ import annotations

import time

import numpy as np
import pytest

from ranker.errors import Code, NotFoundError, UnimplementedError
from ranker.inference import open_inference_pb2 as pb
from ranker.methods import METHODS, SERVICES
from ranker.serving.open_inference.service import SERVICE
from ranker.serving.stream import MAX_WAITING
from ranker.v1 import ranking_pb2 as ranker_pb
from tests.fakes import FakeCall, SumEngine
from tests.serving.open_inference.support import STREAM, infer, infer_request, tensors
from tests.serving.support import THREE


def ask(serving, method: str, request, kind):
    """Asks for a description; raises what it is refused with."""
    call = FakeCall()
    serving.send(f"/{SERVICE}/{method}", call, request)
    return kind.FromString(call.sent[0])


def test_all_of_the_protocols_methods_are_served(serving):
    names = [method.name for method in pb.DESCRIPTOR.services_by_name[SERVICE[10:]].methods]
    served = set(serving().open_inference.methods())
    assert served == {f"/{SERVICE}/{name}" for name in names}
    assert served == {name for name in METHODS if name.startswith(f"/{SERVICE}/")}
    assert SERVICE in SERVICES


def test_live_and_ready(serving):
    s = serving()
    for ready in (False, True):
        s.health.set_serving(ready)
        answer = ask(s, "ServerReady", b"", pb.ServerReadyResponse)
        assert answer.ready is ready
        assert ask(s, "ServerLive", b"", pb.ServerLiveResponse).live
    s.health.drain()
    assert not ask(s, "ServerReady", b"", pb.ServerReadyResponse).ready


@pytest.mark.parametrize("name", ["ServerLive", "ServerReady"])
def test_whether_it_lives_is_answered_without_room(serving, name):
    assert serving().methods[f"/{SERVICE}/{name}"].vital


@pytest.mark.parametrize(
    ("model", "version", "ready"),
    [("books", "", True), ("films", "7", True), ("books", "8", False), ("songs", "", False)],
)
def test_model_ready(serving, model, version, ready):
    request = pb.ModelReadyRequest(name=model, version=version)
    s = serving(SumEngine(), SumEngine())
    assert ask(s, "ModelReady", request, pb.ModelReadyResponse).ready is ready


def test_metadata_and_configuration_agree(serving):
    s = serving()
    request = pb.ModelMetadataRequest(name="books")
    metadata = ask(s, "ModelMetadata", request, pb.ModelMetadataResponse)
    config = ask(s, "ModelConfig", request, pb.ModelConfigResponse).config
    [candidates], [of_config] = metadata.inputs, config.input
    assert (candidates.name, candidates.datatype) == ("candidates", "FP32")
    assert list(candidates.shape) == list(of_config.dims) == [-1, 3]
    assert [(o.name, o.datatype) for o in metadata.outputs] == [
        ("scores", "FP32"),
        ("indices", "INT64"),
    ]
    assert [pb.DataType.Name(o.data_type) for o in config.output] == ["TYPE_FP32", "TYPE_INT64"]
    assert [o.name for o in config.output] == [o.name for o in metadata.outputs]
    assert list(metadata.versions) == ["7"]
    assert config.max_batch_size == 0
    answered = infer(s, infer_request(THREE))
    assert [(o.name, o.datatype) for o in answered.outputs] == [
        (o.name, o.datatype) for o in metadata.outputs
    ]


@pytest.mark.parametrize("method", ["ModelMetadata", "ModelConfig", "ModelStatistics"])
def test_of_an_unknown_model_nothing_is_told(serving, method):
    with pytest.raises(NotFoundError):
        ask(serving(), method, pb.ModelMetadataRequest(name="songs"), pb.ModelMetadataResponse)


def test_statistics_are_what_was_counted(serving):
    s = serving(SumEngine(), SumEngine())
    for _ in range(3):
        infer(s, infer_request(THREE))
    s.send(f"/{SERVICE}/ModelInfer", FakeCall(), infer_request([[1, 2]]))  # too few features
    s.rank(ranker_pb.RankRequest(model="films", candidates=_matrix(THREE)))
    every = ask(s, "ModelStatistics", b"", pb.ModelStatisticsResponse).model_stats
    assert [(m.name, m.version) for m in every] == [("books", "7"), ("films", "7")]
    assert [m.inference_count for m in every] == [3, 1]
    request = pb.ModelStatisticsRequest(name="books")
    [books] = ask(s, "ModelStatistics", request, pb.ModelStatisticsResponse).model_stats
    stats = books.inference_stats
    assert (books.execution_count, stats.success.count, stats.fail.count) == (3, 3, 1)
    assert stats.queue.count == 3
    assert 0 < stats.compute_infer.ns < stats.success.ns
    # perf_analyzer insists.
    assert stats.compute_input.count == stats.compute_infer.count == stats.compute_output.count


def _matrix(rows) -> ranker_pb.Matrix:
    rows = np.asarray(rows, "<f4")
    return ranker_pb.Matrix(rows=len(rows), columns=rows.shape[1], data=rows.tobytes())


def test_the_index_has_what_is_not_served_too(serving):
    s = serving()
    s.open_inference.tell(
        [
            ranker_pb.Model(name="books", version="8", state=ranker_pb.MODEL_STATE_LOADING),
            ranker_pb.Model(
                name="books",
                version="9",
                state=ranker_pb.MODEL_STATE_FAILED,
                state_reason="no file",
            ),
        ]
    )
    index = ask(s, "RepositoryIndex", b"", pb.RepositoryIndexResponse).models
    assert [(m.version, m.state, m.reason) for m in index] == [
        ("7", "READY", ""),
        ("8", "LOADING", ""),
        ("9", "UNAVAILABLE", "no file"),
    ]
    ready = pb.RepositoryIndexRequest(ready=True)
    assert len(ask(s, "RepositoryIndex", ready, pb.RepositoryIndexResponse).models) == 1


@pytest.mark.parametrize(
    "name", ["SystemSharedMemoryStatus", "CudaSharedMemoryUnregister", "TraceSetting"]
)
def test_there_is_nothing_to_tell(serving, name):
    call = FakeCall()
    serving().send(f"/{SERVICE}/{name}", call, b"whatever")
    assert call.sent == [b""]


@pytest.mark.parametrize("name", ["SystemSharedMemoryRegister", "RepositoryModelLoad"])
def test_what_the_server_does_not_do_is_said(serving, name):
    with pytest.raises(UnimplementedError, match=name):
        serving().send(f"/{SERVICE}/{name}", FakeCall(), b"whatever")


class Streamed:
    """One call of ModelStreamInfer."""

    def __init__(self, serving) -> None:
        self.serving = serving
        self.call = FakeCall()
        self.handler = serving.methods[STREAM].handler

    def send(self, *arguments, **fields) -> bool:
        return self.serving.send(STREAM, self.call, infer_request(*arguments, **fields))

    def answers(self) -> list[pb.ModelStreamInferResponse]:
        self.serving.turn_until_idle()
        return list(map(pb.ModelStreamInferResponse.FromString, self.call.sent))


class TestStreams:
    def test_the_answers_come_in_the_order_of_the_requests(self, serving):
        """A short list is scored before a long one; its answer waits."""
        stream = Streamed(serving(max_batch_rows=10))
        for rows in (300, 1, 40, 2):
            stream.send(np.ones((rows, 3)), outputs=("scores",))
        found = [tensors(answer.infer_response)["scores"] for answer in stream.answers()]
        assert [len(scores) for scores in found] == [300, 1, 40, 2]
        assert all((scores == 3).all() for scores in found)

    def test_ids_need_not_differ(self, serving):
        stream = Streamed(serving())
        for id_ in ("a", "a", ""):
            stream.send(THREE, id=id_)
        assert [answer.infer_response.id for answer in stream.answers()] == ["a", "a", ""]

    def test_an_error_stands_in_its_place(self, serving):
        stream = Streamed(serving(max_batch_rows=10))
        stream.send(np.ones((30, 3)), id="a")
        stream.serving.send(STREAM, stream.call, b"\xff\xff")
        stream.send(THREE, id="b", model_name="songs")
        stream.send(THREE, id="c")
        assert stream.call.sent == []
        answers = stream.answers()
        assert [answer.infer_response.id for answer in answers] == ["a", "", "b", "c"]
        codes = [answer.error_message.partition(":")[0] for answer in answers]
        assert codes == ["", "INVALID_ARGUMENT", "NOT_FOUND", ""]
        assert not stream.call.over

    def test_each_has_its_own_deadline(self, serving):
        stream = Streamed(serving())
        stream.send(THREE, parameters={"deadline_ms": 1})
        stream.send(THREE, parameters={"deadline_ms": 60_000})
        time.sleep(0.005)
        late, timely = stream.answers()
        assert late.error_message.startswith("DEADLINE_EXCEEDED")
        assert not timely.error_message

    def test_a_bounded_number_is_in_flight(self, serving):
        stream = Streamed(serving())
        wants_more = [stream.send(THREE) for _ in range(MAX_WAITING)]
        assert wants_more == [True] * (MAX_WAITING - 1) + [False]
        assert len(stream.answers()) == MAX_WAITING
        assert stream.call.resumed == 1

    def test_draining_answers_what_is_in_flight_and_refuses_the_rest(self, serving):
        stream = Streamed(serving())
        stream.send(THREE)
        stream.serving.service.drain()
        stream.serving.open_inference.drain()
        stream.send(THREE)
        first, second = stream.answers()
        assert not first.error_message
        assert second.error_message.startswith("UNAVAILABLE")
        assert stream.call.error.code is Code.UNAVAILABLE

    def test_a_closed_stream_takes_its_requests_along(self, serving):
        engine = SumEngine()
        stream = Streamed(serving(engine))
        stream.send(THREE)
        stream.handler.closed(stream.call)
        stream.serving.turn_until_idle()
        assert engine.batches == []

    def test_it_ends_when_all_is_answered(self, serving):
        stream = Streamed(serving())
        stream.send(THREE)
        stream.handler.half_closed(stream.call)
        assert not stream.call.over
        stream.answers()
        assert stream.call.code is Code.OK
