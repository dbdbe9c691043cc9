"""ModelInfer: what is read, what is answered, and what is refused, under which name."""

from __future__ import annotations

import contextlib
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ranker.errors import Code, DeadlineError, InvalidRequestError, NotFoundError, RankerError
from ranker.inference import open_inference_pb2 as pb
from ranker.serving.field_limit import SMALL
from tests.fakes import BrokenEngine, FakeCall, SumEngine
from tests.serving.open_inference.support import INFER, infer, infer_request, parameter, tensors
from tests.serving.support import THREE, Serving

SUMS = [3, 5, 4]
BEST = [1, 2, 0]


@pytest.mark.parametrize("typed", [False, True], ids=["raw", "typed"])
class TestAnswers:
    def test_all_outputs_if_none_is_named(self, serving, typed):
        response = infer(serving(), infer_request(THREE, typed=typed, id="r7"))
        assert (response.model_name, response.model_version, response.id) == ("books", "7", "r7")
        found = tensors(response)
        assert list(found) == ["scores", "indices"]
        assert found["scores"].tolist() == SUMS
        assert found["indices"].tolist() == BEST

    @pytest.mark.parametrize(
        "outputs",
        [("scores",), ("indices",), ("indices", "scores")],
        ids=lambda names: "+".join(names),
    )
    def test_the_outputs_that_are_asked_for(self, serving, typed, outputs):
        found = tensors(infer(serving(), infer_request(THREE, typed=typed, outputs=outputs)))
        assert tuple(found) == outputs
        expected = {"scores": SUMS, "indices": BEST}
        assert [found[name].tolist() for name in outputs] == [expected[name] for name in outputs]

    @pytest.mark.parametrize("k", [1, 2, 3, 99])
    def test_top_k_is_best_first(self, serving, typed, k):
        request = infer_request(THREE, typed=typed, parameters={"top_k": k})
        found = tensors(infer(serving(), request))
        assert found["indices"].tolist() == BEST[:k]
        assert found["scores"].tolist() == [5, 4, 3][:k]

    def test_equal_scores_keep_their_order(self, serving, typed):
        found = tensors(infer(serving(), infer_request([[1, 0, 0]] * 9, typed=typed)))
        assert found["indices"].tolist() == list(range(9))


@pytest.mark.parametrize("size", [1, 7, 3 * 500], ids=["least", "few", "most"])
def test_typed_contents_keep_every_bit(size):
    """Whatever a float32 can be, but for the NaNs that a message has no way to tell apart."""
    random = np.random.default_rng(size)
    bits = random.integers(0, 2**32, size=(max(size // 3, 1), 3), dtype=np.uint64)
    rows = bits.astype(np.uint32).view(np.float32)
    s = Serving(_Echo())
    with contextlib.closing(s):
        infer(s, infer_request(rows, typed=True))
        seen = np.concatenate(s.engines[0].seen)
    nan = np.isnan(rows)
    np.testing.assert_array_equal(np.isnan(seen), nan)
    np.testing.assert_array_equal(seen.view(np.uint32)[~nan], rows.view(np.uint32)[~nan])


class _Echo(SumEngine):
    """Remembers what it scored."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[np.ndarray] = []

    def score(self, blocks):
        self.seen += [np.array(block) for block in blocks]
        return np.zeros(sum(map(len, blocks)), np.float32)


def _with(change, **fields) -> pb.ModelInferRequest:
    request = infer_request(THREE, **fields)
    change(request)
    return request


def _tensor(**fields):
    return _with(
        lambda request: request.inputs[0].MergeFrom(pb.ModelInferRequest.InferInputTensor(**fields))
    )


def _shape(*shape):
    def change(request):
        del request.inputs[0].shape[:]
        request.inputs[0].shape.extend(shape)

    return _with(change)


def _said(where, name, value=True):
    def change(request):
        where(request).parameters[name].CopyFrom(parameter(value))

    return _with(change, outputs=("scores",))


WRONG = [
    pytest.param(b"\xff\xff", "request", "not an inference.ModelInferRequest", id="garbage"),
    pytest.param(pb.ModelInferRequest(), "inputs", "got none", id="no-input"),
    pytest.param(
        _with(lambda r: r.inputs.add(name="context")), "inputs", "'candidates', 'context'", id="two"
    ),
    pytest.param(_tensor(name="x"), "inputs[0].name", "expected 'candidates', got 'x'", id="name"),
    pytest.param(_tensor(datatype="FP64"), "inputs[0].datatype", "expected FP32", id="datatype"),
    pytest.param(_shape(3), "inputs[0].shape", "expected [n, 3]", id="one-dimension"),
    pytest.param(_shape(1, 3, 3), "inputs[0].shape", "got [1, 3, 3]", id="three-dimensions"),
    pytest.param(_shape(3, 4), "inputs[0].shape", "the model's 3 features", id="features"),
    pytest.param(_shape(0, 3), "inputs[0].shape", "1 to 500 candidates", id="no-candidates"),
    pytest.param(_shape(-1, 3), "inputs[0].shape", "got [-1, 3]", id="negative"),
    pytest.param(_shape(501, 3), "inputs[0].shape", "got [501, 3]", id="too-many"),
    pytest.param(_shape(2**62, 3), "inputs[0].shape", "1 to 500", id="far-too-many"),
    pytest.param(
        _with(lambda r: r.raw_input_contents.__setitem__(0, bytes(35))),
        "raw_input_contents[0]",
        "36 bytes, got 35",
        id="raw-too-short",
    ),
    pytest.param(
        _with(lambda r: r.raw_input_contents.append(b"")),
        "raw_input_contents",
        "expected one",
        id="raw-twice",
    ),
    pytest.param(
        _with(lambda r: r.inputs[0].contents.fp32_contents.append(1)),
        "inputs[0].contents",
        "beside raw_input_contents",
        id="raw-and-typed",
    ),
    pytest.param(
        _with(lambda r: r.inputs[0].contents.fp32_contents.append(1), typed=True),
        "inputs[0].contents.fp32_contents",
        "expected 9 elements, got 10",
        id="typed-too-long",
    ),
    pytest.param(
        _with(lambda r: r.inputs[0].contents.int_contents.append(1), typed=True),
        "inputs[0].contents",
        "nothing beside fp32_contents",
        id="typed-and-of-another-type",
    ),
    pytest.param(
        _with(lambda r: r.raw_input_contents.pop()),
        "inputs[0].contents.fp32_contents",
        "expected 9 elements, got 0",
        id="without-elements",
    ),
    pytest.param(
        infer_request(THREE, outputs=("score",)), "outputs[0].name", "got 'score'", id="output"
    ),
    pytest.param(
        infer_request(THREE, outputs=("scores", "scores")), "outputs[1].name", "already", id="twice"
    ),
    pytest.param(
        infer_request(THREE, parameters={"top_k": -1}), "parameters.top_k", "got -1", id="top-k"
    ),
    pytest.param(
        infer_request(THREE, parameters={"top_k": 2.0}),
        "parameters.top_k",
        "whole number",
        id="float",
    ),
    pytest.param(
        infer_request(THREE, parameters={"top_k": "2"}), "parameters.top_k", "got '2'", id="text"
    ),
    pytest.param(
        infer_request(THREE, parameters={"deadline_ms": -5}),
        "parameters.deadline_ms",
        "got -5",
        id="deadline",
    ),
    pytest.param(
        infer_request(THREE, parameters={"unit": 7}), "parameters.unit", "a text", id="unit"
    ),
    pytest.param(
        infer_request(THREE, parameters={"topk": 7}), "parameters", "top_k, unit", id="unknown"
    ),
]


@pytest.mark.parametrize(("message", "field", "text"), WRONG)
def test_what_can_never_succeed_is_refused(serving, message, field, text):
    with pytest.raises(InvalidRequestError) as caught:
        infer(serving(), message)
    assert caught.value.field == field
    assert text in caught.value.message


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (_said(lambda r: r.inputs[0], "shared_memory_region", "a"), "inputs[0]"),
        (_said(lambda r: r.outputs[0], "shared_memory_region", "a"), "outputs[0]"),
        (_said(lambda r: r.outputs[0], "classification", 3), "outputs[0]"),
    ],
    ids=["shared-input", "shared-output", "classification"],
)
def test_what_the_server_does_not_do_is_said(serving, message, field):
    with pytest.raises(RankerError) as caught:
        infer(serving(), message)
    assert caught.value.code is Code.UNIMPLEMENTED
    assert caught.value.message.startswith(f"{field}.parameters.")


def test_what_clients_say_by_themselves_is_let_in(serving):
    request = infer_request(THREE, parameters={"priority": 1})
    request.inputs[0].parameters["binary_data_size"].int64_param = 36
    assert tensors(infer(serving(), request))["scores"].tolist() == SUMS


@pytest.mark.parametrize(
    "names",
    [{"model_name": "songs"}, {"model_version": "8"}, {"model_version": "@canary"}],
    ids=str,
)
def test_an_unknown_model(serving, names):
    with pytest.raises(NotFoundError, match="this server holds books@7"):
        infer(serving(), infer_request(THREE, **names))


@pytest.mark.parametrize("said", [{"deadline_ms": 1}, {"timeout": 1000}], ids=str)
def test_a_deadline_in_the_parameters(serving, said):
    s, hurried, patient = serving(), FakeCall(), FakeCall()
    s.send(INFER, hurried, infer_request(THREE, parameters=said))
    s.send(INFER, patient, infer_request(THREE, parameters={"deadline_ms": 60_000}))
    time.sleep(0.005)
    s.turn_until_idle()
    assert isinstance(hurried.error, DeadlineError)
    assert patient.code is Code.OK


def test_a_bug_in_the_engine_is_internal(serving, caplog):
    with pytest.raises(RankerError) as caught:
        infer(serving(BrokenEngine()), infer_request(THREE))
    assert caught.value.code is Code.INTERNAL
    assert caplog.records


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(
            pb.ModelInferRequest(outputs=[{}] * SMALL).SerializeToString(), id="empty-outputs"
        ),
        pytest.param(
            pb.ModelInferRequest(raw_input_contents=[b""] * SMALL).SerializeToString(), id="raw"
        ),
        pytest.param(
            pb.ModelInferRequest(
                inputs=[{"contents": {"bytes_contents": [b""] * SMALL}}]
            ).SerializeToString(),
            id="in-the-contents",
        ),
        pytest.param(
            pb.ModelInferRequest(
                inputs=[{"shape": [1] * 9}, {}, *[{}] * SMALL]
            ).SerializeToString(),
            id="empty-inputs",
        ),
    ],
)
def test_a_large_message_of_many_fields_is_refused_unparsed(serving, data):
    with pytest.raises(InvalidRequestError, match="expected at most 609 fields"):
        infer(serving(), data)


def test_a_large_sound_message_is_let_in(serving):
    rows = np.ones((500, 3), np.float32)
    request = infer_request(np.repeat(rows, 1, axis=0), typed=True, id="x" * SMALL)
    assert len(tensors(infer(serving(), request))["scores"]) == 500


SCALARS = st.one_of(st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.text())
NAMES = st.one_of(st.sampled_from(["candidates", "scores", "indices", "books", "7", ""]), st.text())


@st.composite
def messages(draw) -> bytes:
    """Requests that are nearly sound, and what a few changed bytes make of them."""
    rows, columns = draw(st.integers(0, 4)), draw(st.integers(2, 4))
    parameters = draw(
        st.dictionaries(
            st.sampled_from(["top_k", "unit", "deadline_ms", "timeout", "priority", "x"]),
            SCALARS,
            max_size=2,
        )
    )
    request = infer_request(
        np.zeros((rows, columns)),
        typed=draw(st.booleans()),
        outputs=tuple(draw(st.lists(NAMES, max_size=3))),
        parameters=parameters,
        model_version=draw(st.sampled_from(["", "7", "@canary"])),
    )
    if draw(st.booleans()):
        request.inputs[0].shape[draw(st.integers(0, 1))] = draw(st.integers(-(2**63), 2**63 - 1))
    if draw(st.booleans()):
        request.inputs[0].name = draw(NAMES)
    data = bytearray(request.SerializeToString())
    for _ in range(draw(st.integers(0, 3))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data)


REFUSALS = (
    Code.INVALID_ARGUMENT,
    Code.NOT_FOUND,
    Code.UNIMPLEMENTED,
    Code.DEADLINE_EXCEEDED,
    Code.RESOURCE_EXHAUSTED,
)


@settings(max_examples=400, deadline=None)
@given(st.one_of(messages(), st.binary(max_size=99)))
def test_whatever_comes_is_answered_or_refused(data):
    with contextlib.closing(Serving()) as s:
        try:
            response = infer(s, data)
        except RankerError as error:
            if error.code not in REFUSALS:
                raise
            return
    found = tensors(response)
    assert set(found) <= {"scores", "indices"}
    assert len({len(values) for values in found.values()}) == 1
