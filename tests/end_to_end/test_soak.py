"""The soak in small, and that it can fail."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from benchmarks.soak.queries import TREES, Queries, Query, WrongAnswerError
from benchmarks.soak.tally import ABANDONED, disagreements
from benchmarks.soak.watch import Growth, Sample
from loadtests.scrape import Scrape
from ranker.v1 import ranking_pb2 as pb

ROOT = Path(__file__).parents[2]
SECONDS = 12


@pytest.mark.slow
def test_soak(transport, tmp_path):
    """Memory is not yet warm after so short a time; the rest is judged as ever."""
    log = tmp_path / "server.log"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.soak", "--minutes", str(SECONDS / 60)]
        + ["--transport", transport, "--growth", "64", "--log", str(log)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr + log.read_text()[-3000:]
    assert "passed" in done.stdout


@pytest.fixture
def queries(tmp_path) -> Queries:
    dice = np.random.default_rng(3)
    np.save(tmp_path / "rows.npy", dice.normal(size=(2100, 4)).astype("<f4"))
    for name in TREES:
        np.save(tmp_path / f"{name}.npy", dice.normal(size=2100).astype(np.float32))
    return Queries(tmp_path)


QUERY = Query("steady", start=10, length=5, top_k=3, with_ids=True)


def right_answer(tmp_path: Path) -> pb.RankResponse:
    scores = np.load(tmp_path / "steady.npy")[10:15]
    order = np.argsort(-scores, kind="stable")[:3]
    ids = [f"row {10 + i}" for i in order]
    return pb.RankResponse(model="steady", indices=order, scores=scores[order], candidate_ids=ids)


def test_right_answer(queries, tmp_path):
    queries.check(QUERY, right_answer(tmp_path))


def another_order(answer: pb.RankResponse) -> None:
    answer.indices[0], answer.indices[1] = answer.indices[1], answer.indices[0]


def one_bit(answer: pb.RankResponse) -> None:
    answer.scores[2] = np.nextafter(np.float32(answer.scores[2]), np.float32(9))


def another_id(answer: pb.RankResponse) -> None:
    answer.candidate_ids[1] = "row 0"


def another_model(answer: pb.RankResponse) -> None:
    answer.model = "rest"


@pytest.mark.parametrize("spoil", [another_order, one_bit, another_id, another_model])
def test_wrong_answer(queries, tmp_path, spoil):
    answer = right_answer(tmp_path)
    spoil(answer)
    with pytest.raises(WrongAnswerError):
        queries.check(QUERY, answer)


COUNTED = """
ranker_requests_total{model="steady",version="1",code="OK"} 100
ranker_requests_total{model="rest",version="1",code="OK"} 40
ranker_requests_total{model="rest",version="1",code="CANCELLED"} 7
ranker_requests_total{model="unknown",version="",code="NOT_FOUND"} 2
ranker_request_duration_seconds_count{model="steady",version="1",outcome="ok"} 149
ranker_rpcs_in_flight 0
ranker_queue_rows 0
"""
SEEN = Counter(
    {
        ("steady", "OK"): 100,
        ("rest", "OK"): 38,
        ("rest", ABANDONED): 10,
        ("rest", "NOT_FOUND"): 2,
    }
)


def test_counters_agree():
    assert disagreements(SEEN, Scrape(COUNTED, 0.0)) == []


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        pytest.param('code="OK"} 100', 'code="OK"} 99', id="a-request-was-not-counted"),
        pytest.param('code="OK"} 40', 'code="OK"} 37', id="nor-was-one-of-the-rest"),
        pytest.param('code="CANCELLED"} 7', 'code="CANCELLED"} 9', id="counted-twice"),
        pytest.param('code="NOT_FOUND"} 2', 'code="NOT_FOUND"} 3', id="a-wrong-status"),
        pytest.param("in_flight 0", "in_flight 1", id="an-rpc-that-never-ends"),
        pytest.param("queue_rows 0", "queue_rows 5", id="rows-that-are-never-scored"),
        pytest.param('outcome="ok"} 149', 'outcome="ok"} 148', id="a-duration-is-missing"),
    ],
)
def test_counters_disagree(line, instead):
    assert line in COUNTED
    assert disagreements(SEEN, Scrape(COUNTED.replace(line, instead), 0.0))


def samples(sizes: list[int]) -> list[Sample]:
    return [Sample(2.0 * i, size, 10, 10, 0.0) for i, size in enumerate(sizes)]


def test_growth_is_counted_from_when_the_server_is_warm():
    warm = Growth.of(samples([0, 50, 90, 100, 100, 100, 100, 100, 100]))
    assert warm.gained == 0
    assert warm.slope == 0
    leaking = Growth.of(samples([0, 10, 20, 30, 40, 50, 60, 70, 80]))
    assert leaking.gained == 30
    assert leaking.slope == pytest.approx(5)
