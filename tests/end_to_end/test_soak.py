"""The soak in small, and that it can fail."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.harness.scrape import Scrape
from benchmarks.soak_callers.desk import ABANDONED, disagreements

ROOT = Path(__file__).parents[2]
SECONDS = 12


@pytest.mark.slow
def test_soak(transport, tmp_path):
    """Memory is not yet warm after so short a time; the rest is judged as ever."""
    log = tmp_path / "server.log"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "soak", "--minutes", str(SECONDS / 60)]
        + ["--transport", transport, "--growth", "64", "--rest", "0", "--log", str(log)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr + log.read_text()[-3000:]
    assert "passed" in done.stdout


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
