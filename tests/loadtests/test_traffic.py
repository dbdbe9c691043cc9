from __future__ import annotations

import numpy as np
import pytest

from loadtests import traffic
from ranker.v1 import ranking_pb2 as pb

MODEL = pb.Model(name="books", version="7", num_features=5)


def test_list_lengths_are_log_normal_around_a_hundred_with_a_tail_to_two_thousand():
    lengths = traffic.list_lengths(np.random.default_rng(0), 50_000)
    assert lengths.min() >= 1
    assert lengths.max() == traffic.MAX_ROWS
    assert 97 <= np.median(lengths) <= 103
    assert 0.045 <= (lengths > 440).mean() <= 0.055
    inside = lengths[(lengths > 5) & (lengths < traffic.MAX_ROWS)]
    assert np.log(inside).std() == pytest.approx(traffic.SPREAD, rel=0.05)


def test_drawn_rows_are_the_models_features_with_some_missing():
    rows = np.concatenate([request.rows for request in traffic.traffic(MODEL, count=200)])
    assert rows.dtype == np.float32
    assert rows.shape[1] == MODEL.num_features
    assert np.isnan(rows).mean() == pytest.approx(traffic.MISSING, rel=0.1)


def test_deadlines_are_as_callers_set_them_unless_told_otherwise():
    seconds = [request.timeout for request in traffic.traffic(MODEL, count=2000)]
    for deadline, share in traffic.DEADLINES:
        assert seconds.count(deadline) / 2000 == pytest.approx(share, abs=0.05)
    assert {request.timeout for request in traffic.traffic(MODEL, timeout=2.5)} == {2.5}


def test_the_same_seed_gives_the_same_traffic_and_another_does_not():
    def messages(seed):
        return [request.message for request in traffic.traffic(MODEL, count=20, seed=seed)]

    assert messages(1) == messages(1)
    assert messages(1) != messages(2)
    assert len(set(messages(1))) == 20
