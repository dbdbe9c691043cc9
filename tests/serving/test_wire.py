import sys
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranker.errors import InvalidRequestError
from ranker.model.features import FeatureContract
from ranker.serving import messages
from ranker.serving.field_limit import SMALL
from ranker.serving.task import UnaryTask
from ranker.serving.wire import RANK, REQUEST_BYTES, read_request, write_response
from ranker.v1 import ranking_pb2 as pb
from tests.fakes import FakeCall

SPLIT: list[str] = []


@pytest.fixture(scope="module", params=["c", "protobuf"], autouse=True)
def codec(request) -> Iterator[None]:
    """What reads and writes most lists."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "protobuf":
            patch.setattr(messages, "read", lambda *_: None)
            patch.setattr(messages, "write", None)
        yield


SERVED = SimpleNamespace(
    name="m",
    version="7",
    batcher=None,
    metrics=SimpleNamespace(request_split=SPLIT.append),
    features=FeatureContract(3, ("a", "b", "c")),
)
GENERATION = SimpleNamespace(find=lambda *_: (SERVED, "canary"), splits={}, models=[SERVED])


def request(rows: int = 2, columns: int = 3, **fields) -> pb.RankRequest:
    data = np.arange(rows * columns, dtype="<f4").tobytes()
    matrix = pb.Matrix(rows=rows, columns=columns, data=data)
    return pb.RankRequest(candidates=matrix, **fields)


def read(message: pb.RankRequest | bytes) -> UnaryTask:
    """The task that a request becomes."""
    data = message if isinstance(message, bytes) else message.SerializeToString()
    call = FakeCall()
    task = UnaryTask(call, call.arrived, call, None, RANK)
    read_request(data, task, GENERATION, max_rows=10)
    return task


def test_a_large_request_of_many_fields_is_refused_unparsed():
    data = request(candidate_ids=[""] * SMALL).SerializeToString()
    with pytest.raises(InvalidRequestError, match="expected at most 119 fields"):
        read(data)


def test_rows_are_read_where_they_lie():
    rows = read(request()).rows_from(0, 2)
    assert rows.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert rows.dtype == np.float32
    assert not rows.flags.owndata


def test_rows_do_not_keep_a_message_that_has_much_beside_them():
    data = request(request_id="x" * 10**4).SerializeToString()
    before = sys.getrefcount(data)
    task = read(data)
    assert task.rows_from(0, 2).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert sys.getrefcount(data) == before


def test_a_task_knows_what_is_asked():
    task = read(request(request_id="r", top_k=1, candidate_ids=["x", "yy"]))
    assert (task.request_id, task.top_k, task.candidate_ids) == ("r", 1, ["x", "yy"])
    assert task.rows == 2


@pytest.mark.parametrize("field", ["request_id", "unit", "candidate_ids"])
def test_what_a_request_keeps_is_counted(field):
    long = "x" * 10**6
    asked = request(**{field: [long, ""] if field == "candidate_ids" else long})
    assert read(asked).size == asked.ByteSize() + REQUEST_BYTES


@pytest.mark.parametrize(("version", "counted"), [("", 1), ("7", 0), ("@canary", 0)])
def test_what_a_split_decides_is_counted(version, counted):
    SPLIT.clear()
    read(request(model_version=version, unit="u"))
    assert len(SPLIT) == counted
    assert set(SPLIT) <= {"u"}


def spoilt(**changes) -> pb.RankRequest:
    spoilt = request()
    for field, value in changes.items():
        setattr(spoilt.candidates, field, value)
    return spoilt


@pytest.mark.parametrize(
    ("bad", "field", "words"),
    [
        pytest.param(pb.RankRequest(), "candidates.rows", "at least 1", id="empty-request"),
        pytest.param(spoilt(rows=0), "candidates.rows", "got 0", id="zero-rows"),
        pytest.param(request(rows=11), "candidates.rows", "at most 10", id="too-many-rows"),
        pytest.param(spoilt(data=b"\0" * 23), "candidates.data", "got 23", id="data-too-short"),
        pytest.param(spoilt(data=b"\0" * 25), "candidates.data", "= 24 bytes", id="data-too-long"),
        pytest.param(spoilt(columns=0), "candidates.data", "0 columns", id="zero-columns"),
        pytest.param(spoilt(columns=2**32 - 1), "candidates.data", "4294967295", id="huge-columns"),
        pytest.param(spoilt(data_type=9), "candidates.data_type", "got 9", id="unknown-type"),
        pytest.param(
            request(candidate_ids=["x"]), "candidate_ids", "none or 2", id="ids-do-not-match"
        ),
        pytest.param(request(top_k=-1), "top_k", "got -1", id="negative-top-k"),
        pytest.param(request(columns=2), "candidates.columns", "expected 3", id="feature-count"),
        pytest.param(
            request(columns=2, context=pb.Context(feature_names=["a"], values=[1, 2])),
            "context.values",
            "expected 1 values",
            id="fewer-context-names",
        ),
        pytest.param(
            request(context=pb.Context(values=[1, 2])),
            "context.values",
            "got 2",
            id="no-context-names",
        ),
    ],
)
def test_what_is_wrong_is_named(bad, field, words):
    with pytest.raises(InvalidRequestError) as caught:
        read(bad)
    assert caught.value.field == field
    assert words in caught.value.description


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_an_invalid_one(data):
    try:
        task = read(data)
    except InvalidRequestError:
        return
    assert task.rows_from(0, task.rows).shape[1] == 3


@given(
    scores=st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=10),
    with_ids=st.booleans(),
)
def test_a_response_holds_the_ranking(scores, with_ids):
    n = len(scores)
    ids = [f"book-{i}" for i in range(n)] if with_ids else []
    task = read(request(rows=n, request_id="r", candidate_ids=ids))
    task.queued, task.scoring = 1e-6, 2e-3
    task.arrived = FakeCall().arrived - 3.0
    response = pb.RankResponse.FromString(write_response(task, np.float32(scores)))
    order = sorted(range(n), key=lambda i: -np.float32(scores[i]))
    assert list(response.indices) == order
    assert list(response.scores) == [np.float32(scores[i]) for i in order]
    assert list(response.candidate_ids) == [ids[i] for i in order if ids]
    assert (response.request_id, response.model, response.model_version) == ("r", "m", "7")
    assert not response.HasField("status")
    timing = response.timing
    assert (timing.queue_us, timing.scoring_us) == (1, 2000)
    assert timing.total_us >= 3_000_000


@given(
    rows=st.integers(1, 5),
    features=st.integers(1, 200),
    numbers=st.data(),
)
def test_explanations_are_encoded_as_protobuf_does(rows, features, numbers):
    values = numbers.draw(st.lists(st.floats(width=32), min_size=1, max_size=20))
    contributions = np.resize(np.array(values, np.float32), (rows, features + 1))
    task = read(request())
    task.explain, task.contributions = rows, contributions
    answer = pb.RankResponse.FromString(write_response(task, np.zeros(2, np.float32)))
    found = [[*each.contributions, each.bias] for each in answer.explanations]
    np.testing.assert_array_equal(np.array(found, np.float32), contributions)
    assert list(answer.explained_feature_names) == ["a", "b", "c"]
    assert list(answer.indices) == [0, 1]


@pytest.mark.parametrize(
    ("explain", "top_k", "expected"), [(0, 0, 0), (1, 0, 1), (3, 0, 2), (2**32 - 1, 1, 1)]
)
def test_no_more_is_explained_than_is_returned(explain, top_k, expected):
    assert read(request(explain=explain, top_k=top_k)).explain == expected
