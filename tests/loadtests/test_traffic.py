from __future__ import annotations

import itertools

import numpy as np
import pytest

from loadtests import traffic
from loadtests.traffic import Traffic, load_rows
from ranker.v1 import ranking_pb2 as pb

MODEL = pb.Model(name="books", version="7", num_features=5)


def take(count, **options):
    return list(itertools.islice(Traffic(MODEL, requests=count, **options), count))


def test_list_lengths_are_log_normal_around_a_hundred_with_a_tail_to_two_thousand():
    lengths = traffic.list_lengths(np.random.default_rng(0), 50_000)
    assert lengths.min() >= 1
    assert lengths.max() == traffic.MAX_ROWS
    assert 97 <= np.median(lengths) <= 103
    assert 0.045 <= (lengths > 440).mean() <= 0.055
    inside = lengths[(lengths > 5) & (lengths < traffic.MAX_ROWS)]
    assert np.log(inside).std() == pytest.approx(traffic.SPREAD, rel=0.05)


def test_drawn_rows_are_the_models_features_with_some_missing():
    rows = np.concatenate([request.features for request in take(200)])
    assert rows.dtype == np.float32
    assert rows.shape[1] == MODEL.num_features
    assert np.isnan(rows).mean() == pytest.approx(traffic.MISSING, rel=0.1)


def test_deadlines_are_as_callers_set_them_unless_told_otherwise():
    seconds = [request.timeout for request in take(2000)]
    for deadline, share in traffic.DEADLINES:
        assert seconds.count(deadline) / 2000 == pytest.approx(share, abs=0.05)
    assert {request.timeout for request in take(10, timeout=2.5)} == {2.5}


def test_the_same_seed_gives_the_same_traffic_and_another_does_not():
    def messages(seed):
        return [request.message for request in take(20, seed=seed)]

    assert messages(1) == messages(1)
    assert messages(1) != messages(2)


def test_traffic_rotates_through_its_requests():
    endless = Traffic(MODEL, requests=3)
    sent = [next(endless).message for _ in range(6)]
    assert sent[:3] == sent[3:]
    assert len(set(sent)) == 3


def test_replayed_lists_are_runs_of_neighbouring_rows():
    rows = np.arange(350, dtype=np.float32).reshape(70, 5)
    for request in take(50, rows=rows):
        first = int(request.features[0, 0]) // 5
        expected = [(first + i) % 70 for i in range(len(request.features))]
        np.testing.assert_array_equal(request.features, rows[expected])


def test_rows_of_another_model_are_refused():
    with pytest.raises(ValueError, match=r"5 features for 'books', got shape \(3, 4\)"):
        Traffic(MODEL, rows=np.zeros((3, 4), np.float32))


def test_a_message_is_the_request_and_a_streams_has_id_and_deadline_too():
    (request,) = take(1, timeout=0.05)
    unary = pb.RankRequest.FromString(request.message)
    assert (unary.candidates.rows, unary.candidates.columns) == request.features.shape
    assert unary.candidates.data == request.features.tobytes()
    assert unary.top_k == traffic.TOP_K
    assert (unary.request_id, unary.deadline_ms) == ("", 0)

    streamed = pb.RankRequest.FromString(request.on_stream("17"))
    assert (streamed.request_id, streamed.deadline_ms) == ("17", 50)
    assert streamed.candidates == unary.candidates


def test_load_rows_reads_what_numpy_saved(tmp_path):
    path = tmp_path / "rows.npy"
    np.save(path, np.array([[1, 2], [3, 4]], dtype=np.float64))
    rows = load_rows(path)
    assert rows.dtype == np.float32
    assert rows.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    "array",
    [
        pytest.param(np.zeros(3), id="one-dimension"),
        pytest.param(np.zeros((0, 3)), id="no-rows"),
        pytest.param(np.array([["a"]]), id="texts"),
    ],
)
def test_load_rows_refuses_what_is_not_rows(tmp_path, array):
    path = tmp_path / "rows.npy"
    np.save(path, array)
    with pytest.raises(ValueError, match=r"rows\.npy"):
        load_rows(path)
