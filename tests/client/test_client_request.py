"""NumPy to RankRequest: any real dtype and layout, and errors that say what to do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ranker.client.request import MAX_TIMEOUT, rank_request, with_deadline
from ranker.errors import InvalidRequestError
from ranker.v1 import ranking_pb2 as pb


def sent(features, **options):
    return pb.RankRequest.FromString(rank_request(features, **options))


REAL = ["?", "i1", "u1", "<i2", ">i4", "<u8", "<f2", "<f4", ">f4", "<f8", ">f8"]
LAYOUTS = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "reversed": lambda x: x[::-1, ::-1][::-1, ::-1],
    "strided": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "read-only": lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),
}


@settings(deadline=None)
@given(
    data=st.data(),
    dtype=st.sampled_from(REAL),
    shape=hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=7),
    layout=st.sampled_from(sorted(LAYOUTS)),
)
def test_any_real_matrix_travels_as_float32(data, dtype, shape, layout):
    # Doubles that float32 can hold, so that the expectation needs no rounding of its own kind.
    elements = st.floats(width=32).map(np.dtype(dtype).type) if dtype.endswith("f8") else None
    features = data.draw(hnp.arrays(np.dtype(dtype), shape, elements=elements))
    matrix = sent(LAYOUTS[layout](features)).candidates
    assert (matrix.rows, matrix.columns) == shape
    received = np.frombuffer(matrix.data, "<f4").reshape(shape)
    np.testing.assert_array_equal(received, features.astype(np.float32))


def test_float32_keeps_its_bits():
    bits = np.array([[0x7FC00001, 0xFFC12345, 0x80000000, 0x00000001]], dtype=np.uint32)
    assert sent(bits.view(np.float32)).candidates.data == bits.astype("<u4").tobytes()


def test_lists_of_numbers():
    matrix = sent([[1, 2.5], [3, 4]]).candidates
    assert (matrix.rows, matrix.columns) == (2, 2)
    assert np.frombuffer(matrix.data, "<f4").tolist() == [1, 2.5, 3, 4]


def test_infinity_is_not_an_overflow():
    matrix = sent(np.array([[np.inf, -np.inf]])).candidates
    assert np.frombuffer(matrix.data, "<f4").tolist() == [np.inf, -np.inf]


@pytest.mark.parametrize(
    ("features", "field", "words"),
    [
        pytest.param(np.zeros(3), "candidates", r"got shape \(3,\)", id="a vector"),
        pytest.param(np.zeros((2, 3, 4)), "candidates", r"\(2, 3, 4\)", id="three dimensions"),
        pytest.param([], "candidates", r"got shape \(0,\)", id="nothing"),
        pytest.param([[1.0, None]], "candidates.data", "NaN for missing.*object", id="None"),
        pytest.param([["1"]], "candidates.data", "real numbers.*<U1", id="text"),
        pytest.param([[1j]], "candidates.data", "real numbers.*complex", id="complex"),
        pytest.param([[1, 2], [3]], "candidates.data", "rows of one length", id="ragged"),
        pytest.param([[1e39]], "candidates.data", "beyond float32", id="too large"),
    ],
)
def test_features_that_cannot_be_sent(features, field, words):
    with pytest.raises(InvalidRequestError, match=words) as raised:
        rank_request(features)
    assert raised.value.field == field


@pytest.mark.parametrize(
    ("options", "field", "words"),
    [
        pytest.param({"candidate_ids": [1]}, "candidate_ids", "got int", id="number as id"),
        pytest.param({"candidate_ids": "ab"}, "candidate_ids", "a sequence", id="text as ids"),
        pytest.param({"feature_names": [None]}, "feature_names", "NoneType", id="None as name"),
        pytest.param({"context": {1: 2.0}}, "context.feature_names", "int", id="number as name"),
        pytest.param({"context": {"a": "b"}}, "context.values", "real", id="text as value"),
        pytest.param({"context": {"a": 1e39}}, "context.values", "beyond", id="large value"),
        pytest.param({"context": {"a": 2**70}}, "context.values", "real", id="integer of 70 bits"),
        pytest.param({"top_k": 2**40}, "request", "out of range", id="large top_k"),
        pytest.param({"top_k": 1.5}, "request", "float", id="fractional top_k"),
        pytest.param({"request_id": b"r"}, "request_id", "a text, got b'r'", id="id of bytes"),
        pytest.param({"model": "\ud800"}, "request", "surrogates", id="not unicode"),
    ],
)
def test_options_that_cannot_be_sent(options, field, words):
    with pytest.raises(InvalidRequestError, match=words) as raised:
        rank_request([[1.0]], **options)
    assert raised.value.field == field


def test_numpy_scalars_and_texts_are_fine():
    request = sent(
        [[1.0]],
        top_k=np.int64(3),
        candidate_ids=np.array(["a"]),
        context={"age": np.float64(2.0), "count": 3},
    )
    assert request.top_k == 3
    assert list(request.candidate_ids) == ["a"]
    assert list(request.context.values) == [2.0, 3.0]


def test_a_large_integer_of_the_context_is_rounded_once():
    number = 2**60 + 2**36 + 1
    context = {"clicks": number, "price": 0.5, "views": np.uint64(number)}
    request = sent([[1.0]], context=context)
    assert list(request.context.values) == [2**60 + 2**37, 0.5, 2**60 + 2**37]


@pytest.mark.parametrize("rows", [0, 1, 31, 32, 4096, 70_000], ids=lambda n: f"{4 * n} bytes")
def test_it_is_what_protobuf_would_write(rows):
    """Read back, equal to the message that protobuf builds: lengths of one to three bytes."""
    features = np.arange(rows, dtype=np.float32).reshape(rows, 1)
    request = sent(features, request_id="r", candidate_ids=["a", "b"], top_k=2)
    assert request == pb.RankRequest(
        request_id="r",
        candidate_ids=["a", "b"],
        top_k=2,
        candidates=pb.Matrix(
            rows=rows, columns=1, data_type=pb.DATA_TYPE_FLOAT32, data=features.tobytes()
        ),
    )


@pytest.mark.parametrize(
    ("seconds", "milliseconds"),
    [(1.0, 1000), (0.0001, 1), (0.0101, 11), (-3.0, 1), (MAX_TIMEOUT, 86_400_000)],
)
def test_deadlines_are_rounded_up(seconds, milliseconds):
    message = rank_request([[1.0]], request_id="r")
    request = pb.RankRequest.FromString(with_deadline(message, seconds, ""))
    assert request.deadline_ms == milliseconds
    request.ClearField("deadline_ms")
    assert request == pb.RankRequest.FromString(message)


def test_an_id_is_added_with_the_deadline():
    """As the first field, where a server finds it also in a request that it refuses unread."""
    message = with_deadline(rank_request([[1.0]]), 1.0, "7")
    assert message.startswith(pb.RankRequest(request_id="7").SerializeToString())
    request = pb.RankRequest.FromString(message)
    assert (request.request_id, request.deadline_ms) == ("7", 1000)
