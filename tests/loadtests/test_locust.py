"""Locust as it is used, in a process of its own: it changes threads and sockets for all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def locust(model: Path, out: Path, *arguments: str) -> tuple[int, dict]:
    command = [sys.executable, "-m", "loadtests", "locust", "--serve", str(model)]
    command += ["--out", str(out), "--deadline", "20", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, cwd=ROOT)
    assert (out / "locust.html").exists(), done.stderr
    return done.returncode, json.loads((out / "locust.json").read_text())


def check(found: dict, at_least: int) -> None:
    assert found["errors"] == []
    assert found["failures"] == found["server"]["failures"] == 0
    assert found["requests"] == found["server"]["requests"] >= at_least
    assert set(found["by_method"]) == {"Rank", "RankStream"}
    assert sum(found["by_method"].values()) == found["requests"]


def test_users_of_both_kinds_lose_no_answer_when_the_run_ends(model, tmp_path):
    load = ("--users", "6", "--rate", "20", "--seconds", "8")
    code, found = locust(model, tmp_path, *load, "--slo", "p50=20s,errors=0%")
    assert code == 0, found
    assert found["missed"] == []
    check(found, 20)


@pytest.mark.slow
def test_a_missed_objective_is_a_non_zero_exit_code(model, tmp_path):
    load = ("--users", "2", "--rate", "20", "--seconds", "2")
    code, found = locust(model, tmp_path, *load, "--slo", "p50=1us")
    assert code == 1
    assert [line.split(":")[0] for line in found["missed"]] == ["p50"]


@pytest.mark.slow
def test_a_minute_without_a_failure(model, tmp_path):
    load = ("--users", "20", "--rate", "5", "--seconds", "60")
    code, found = locust(model, tmp_path, *load, "--slo", "errors=0%")
    assert code == 0, found["missed"]
    check(found, 1000)
