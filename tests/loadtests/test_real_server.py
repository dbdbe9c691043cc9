"""The search against a real server, and what the command says when it can't."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from benchmarks.harness import h2load

needs_h2load = pytest.mark.skipif(bool(h2load.missing()), reason=h2load.missing())
LIMITS = ("--start", "20", "--limit", "40", "--seconds", "1")


def search(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "loadtests", "search", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100)


@needs_h2load
def test_search_writes_what_it_found(server, tmp_path):
    at = ("--target", server.address, "--metrics", server.metrics_url, "--deadline", "20")
    before = server.scrape().codes()
    done = search(*at, *LIMITS, "--slo", "p50=20s,errors=0%", "--out", str(tmp_path))
    met = re.search(r"(\d+) requests/s meet p50=20s,errors=0%", done.stdout)
    assert met, done.stderr
    assert done.returncode == (met[1] == "0")  # on a busy machine h2load may not keep up
    report = json.loads((tmp_path / "search.json").read_text())
    assert "books@3: 20 trees" in report["notes"][0]
    [table] = report["tables"]
    assert table["rows"][0]["offered/s"] == 20.0
    assert all(row["failed"] == 0 for row in table["rows"])
    assert "requests per second" in (tmp_path / "search.svg").read_text()
    assert (server.scrape().codes() - before).keys() == {"OK"}


@needs_h2load
def test_no_rate_that_meets_the_objective_is_exit_code_1(model, tmp_path):
    done = search("--serve", str(model), *LIMITS, "--slo", "p50=1us", "--out", str(tmp_path))
    assert done.returncode == 1, done.stderr
    assert "0 requests/s meet p50=1us" in done.stdout
    assert (tmp_path / "server.log").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(
            ("--target", "127.0.0.1:1", "--metrics", "http://127.0.0.1:1"),
            "loadtests: ",
            id="no-server",
            marks=needs_h2load,
        ),
        pytest.param((), "needs --metrics", id="no-metrics", marks=needs_h2load),
        pytest.param(("--slo", "p99"), "'p99': expected", id="bad-objective"),
    ],
)
def test_what_went_wrong_is_one_line(tmp_path, arguments, words):
    done = search("--out", str(tmp_path), *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
