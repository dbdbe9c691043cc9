from __future__ import annotations

import numpy as np
import pytest

from benchmarks.half_load import _serve, queueing


def test_what_waits_is_served_together():
    latencies, batches = _serve([0.0, 0.0, 0.1, 2.0], fixed=0.1, cost=0.2)
    assert latencies == pytest.approx([0.5, 0.5, 0.7, 0.3])
    assert batches == 3


def test_calls_that_never_meet_all_take_the_same():
    assert queueing([float(i) for i in range(200)], cost=0.01, worked=4.0) == pytest.approx(1.0)


def test_batches_that_save_work_shorten_the_tail():
    """Where they save none it is longer than of M/D/1, 4.33, as a batch's answers come together."""
    sent = list(np.cumsum(np.random.default_rng(0).exponential(2.0, 50_000)))
    work = float(len(sent))
    assert queueing(sent, cost=1.0, worked=work) > 4.33
    assert queueing(sent, cost=0.3, worked=work) < queueing(sent, cost=0.6, worked=work) < 4.33
