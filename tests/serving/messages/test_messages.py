"""What is read and written in C, against protobuf and NumPy."""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from ranker.serving import messages, wire
from ranker.v1 import ranking_pb2 as pb

MAX_ROWS = 50
TEXT = st.text(max_size=20)
NUMBER = st.integers(0, 300) | st.sampled_from([2**31 - 1, 2**31, 2**32 - 1])


def test_it_is_built_here():
    assert messages.write is not None


@st.composite
def requests(draw) -> pb.RankRequest:
    """Right and wrong ones, most of which have what is read in C and no more."""
    rows, columns = draw(st.integers(0, MAX_ROWS + 1)), draw(st.integers(0, 5))
    length = 4 * rows * columns + draw(st.sampled_from([0] * 8 + [4, -1]))
    request = pb.RankRequest(
        request_id=draw(TEXT),
        model=draw(TEXT),
        model_version=draw(TEXT),
        unit=draw(TEXT),
        top_k=draw(st.integers(-1, 300) | st.just(2**31 - 1)),
        deadline_ms=draw(NUMBER),
        candidates=pb.Matrix(
            rows=rows,
            columns=columns,
            data_type=draw(st.sampled_from([0, 1, 1, 1, 2])),
            data=bytes(range(256)) * 4 + bytes(max(0, length - 1024)),
        ),
    )
    request.candidates.data = request.candidates.data[: max(0, length)]
    if draw(st.integers(0, 9)) == 0:
        request.feature_names.append("a")
    if draw(st.integers(0, 9)) == 0:
        request.context.SetInParent()
    if draw(st.integers(0, 9)) == 0:
        request.candidate_ids.append("")
    return request


def is_read_here(request: pb.RankRequest) -> bool:
    """Whether a sound request is one of those that are."""
    matrix = request.candidates
    return (
        not (request.feature_names or request.candidate_ids or request.HasField("context"))
        and request.top_k >= 0
        and 1 <= matrix.rows <= MAX_ROWS
        and matrix.data_type in (0, 1)
        and len(matrix.data) == matrix.rows * matrix.columns * 4
    )


def check(found: messages.List, request: pb.RankRequest, data: bytes) -> None:
    """Holds what was read against what protobuf reads."""
    assert is_read_here(request)
    for field in ("request_id", "model", "model_version", "unit", "top_k", "deadline_ms"):
        assert getattr(found, field) == getattr(request, field)
    assert (found.rows, found.columns) == (request.candidates.rows, request.candidates.columns)
    values = data[found.offset :][: found.rows * found.columns * 4]
    assert values == request.candidates.data


@given(requests())
def test_requests_are_read_as_protobuf_reads_them(request):
    data = request.SerializeToString()
    found = messages.read(data, MAX_ROWS)
    assert (found is not None) == is_read_here(request)
    if found is not None:
        check(found, request, data)


@given(requests(), st.data())
def test_what_is_read_of_damaged_requests_is_what_protobuf_reads(request, data):
    content = bytearray(request.SerializeToString())
    assume(content)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, min(len(content), 60) - 1))
        kind = data.draw(st.sampled_from(["change", "insert", "remove", "repeat"]))
        if kind == "change":
            content[at] = data.draw(st.integers(0, 255))
        elif kind == "insert":
            content.insert(at, data.draw(st.integers(0, 255)))
        elif kind == "remove" and len(content) > 1:
            del content[at]
        else:
            content += content[at:]
    found = messages.read(bytes(content), MAX_ROWS)
    if found is not None:
        check(found, pb.RankRequest.FromString(bytes(content)), bytes(content))


MATRIX = pb.Matrix(rows=1, columns=1, data=bytes(4)).SerializeToString()
LIST = b"\x22" + bytes([len(MATRIX)]) + MATRIX


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x22\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", id="a-size-beyond-all"),
        pytest.param(b"\x22\x8d\x80\x80\x80\x80\x00" + MATRIX, id="a-size-that-is-too-long"),
        pytest.param(b"\x0a\x01\xff\x22" + bytes([len(MATRIX)]) + MATRIX, id="not-utf-8"),
        pytest.param(LIST + b"\x40", id="no-number"),
        pytest.param(LIST + b"\x40" + b"\xff" * 10, id="endless"),
        pytest.param(LIST * 2, id="twice"),
        pytest.param(LIST + b"\x58\x03", id="to-be-explained"),
        pytest.param(LIST + b"\x60\x03", id="another-field"),
        pytest.param(LIST + b"\x00\x00", id="field-zero"),
    ],
)
def test_protobuf_is_left(data):
    assert messages.read(data, MAX_ROWS) is None


def task(
    ids: list[str], top_k: int, texts: list[str], times: tuple[float, float]
) -> SimpleNamespace:
    request_id, name, version, arm = texts
    served = SimpleNamespace(name=name, version=version)
    return SimpleNamespace(
        request_id=request_id, served=served, arm=arm, top_k=top_k, candidate_ids=ids,
        queued=times[0], scoring=times[1], arrived=0.0, contributions=None,
    )  # fmt: skip


SCORES = st.floats(width=32) | st.sampled_from([0.0, -0.0, 1.0, float("nan"), float("-inf")])
MANY = np.random.default_rng(1).normal(size=1000).astype(np.float32).round(2)  # some are equal
MANY[::97] = np.nan


@given(
    (st.lists(SCORES, min_size=1) | st.lists(SCORES, min_size=33, max_size=200)).map(np.float32),
    st.integers(0, 210),
    st.booleans(),
    st.lists(TEXT, min_size=4, max_size=4),
    st.tuples(st.floats(0, 4000), st.floats(0, 4000)),
)
@example(np.zeros(3, np.float32), 0, False, [""] * 4, (0.0, 0.0))
@example(np.float32([1, float("nan"), 2, float("nan"), -0.0, 0.0]), 5, True, list("abcd"), (1, 2))
@example(MANY, 0, False, list("abcd"), (1, 2))
@example(MANY, 24, False, list("abcd"), (1, 2))
@example(np.arange(2000, dtype=np.float32), 24, True, list("abcd"), (1, 2))
@example(np.arange(2000, dtype=np.float32) % 7, 25, False, list("abcd"), (1, 2))
@example(np.arange(2000, dtype=np.float32) % 7, 0, False, list("abcd"), (1, 2))
def test_answers_are_those_of_numpy_and_protobuf(scores, top_k, with_ids, texts, times):
    ids = [f"book {i} ü" * (i % 3) for i in range(len(scores))] if with_ids else []
    want = task(ids, top_k, texts, times)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: 12.5)
        got = wire.write_response(want, scores)
        patch.setattr(messages, "write", None)
        assert got == wire.write_response(want, scores)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        pytest.param({4: np.zeros(3)}, ValueError, id="float64"),
        pytest.param({4: np.zeros((1, 3), np.float32)}, ValueError, id="a-matrix"),
        pytest.param({4: np.zeros(0, np.float32)}, ValueError, id="no-scores"),
        pytest.param({4: np.zeros(6, np.float32)[::2]}, ValueError, id="with-gaps"),
        pytest.param({4: None}, TypeError, id="no-array"),
        pytest.param({5: -1}, ValueError, id="negative-top-k"),
        pytest.param({6: ["a"]}, ValueError, id="too-few-ids"),
        pytest.param({6: ("a", "b", "c")}, TypeError, id="ids-in-a-tuple"),
        pytest.param({6: [b"a", b"b", b"c"]}, TypeError, id="ids-that-are-bytes"),
        pytest.param({0: b""}, TypeError, id="bytes"),
        pytest.param({0: "\ud800"}, UnicodeEncodeError, id="half-a-character"),
        pytest.param({7: "1"}, TypeError, id="no-time"),
    ],
)
def test_what_can_not_be_written_is_an_error(change, error):
    arguments = ["", "m", "1", "", np.zeros(3, np.float32), 0, [], 0.0, 0.0, 0.0]
    for at, value in change.items():
        arguments[at] = value
    with pytest.raises(error):
        messages.write(*arguments)
    with pytest.raises(TypeError):
        messages.write(*arguments[:-1])


@pytest.mark.parametrize(("data", "rows"), [("", 1), (b"", -1), (b"", 2**31), (b"", None)])
def test_what_can_not_be_read_is_an_error(data, rows):
    with pytest.raises((TypeError, ValueError)):
        messages.read(data, rows)
