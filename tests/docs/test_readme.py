"""README's programs, run as they stand there."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.world import FEATURES
from ranker.client import RankerClient
from tests.end_to_end.conftest import RunningServer
from tests.office.support import ask
from tests.waiting import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
HTTP = (ROOT / "docs/http.md").read_text()
PROGRAMS = Path(sys.executable).parent


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def python(code: str, folder: Path) -> str:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}  # as in `tests/conftest.py`
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, str]:
    """Where README's program trained and exported, and what it printed."""
    folder = tmp_path_factory.mktemp("readme")
    return folder, python(blocks("python")[0], folder)


@pytest.fixture(scope="module")
def server(trained, tmp_path_factory) -> Iterator[RunningServer]:
    """What README has one serve."""
    (command,) = (text for text in blocks("sh") if text.startswith("ranker serve"))
    ranker, serve, model = shlex.split(command)
    assert (ranker, serve) == ("ranker", "serve")
    running = RunningServer(tmp_path_factory.mktemp("log") / "log", str(trained[0] / model))
    yield running
    assert running.stop() == 0


def test_the_export_prints_its_report(trained):
    assert "books.onnx: 100 trees" in trained[1]
    assert "largest difference from XGBoost" in trained[1]


def test_the_client_ranks(server, tmp_path):
    code = blocks("python")[1].replace("localhost:50051", server.address)
    assert "timeout=0.2," in code
    printed = python(code.replace("timeout=0.2,", "timeout=10,"), tmp_path)  # for a busy machine
    assert printed.count("'") == 4, printed  # two titles
    with RankerClient(server.address, timeout=PATIENCE) as client:
        assert client.get_model().version == "7"


def test_the_call_from_a_shell_is_answered(server):
    (command,) = (text for text in blocks("sh") if text.startswith("buf curl"))
    done = subprocess.run(
        ["sh", "-c", command.replace("localhost:50051", server.address)],
        env={**os.environ, "PATH": f"{PROGRAMS}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert sorted(answer["candidateIds"]) == ["Moss Country", "The Salt Orchard"]


def test_the_call_over_http_is_answered(server):
    """That of docs/http.md; the demo's model has all of its features as well."""
    [command] = re.findall(r"^curl .*?^}'$", HTTP, re.MULTILINE | re.DOTALL)
    _, url, *_, body = shlex.split(command)
    question = json.loads(body)
    answer = ask(server.http_port, url.removeprefix("http://localhost:8080"), question)
    assert answer.status == 200, answer.json
    assert sorted(answer.json["ids"]) == sorted(question["ids"])
    names = {name for candidate in question["candidates"] for name in candidate}
    assert names | question["context"].keys() <= set(FEATURES)


def test_the_commands_that_it_names_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    for page in (*pages, *(ROOT / "deploy").glob("*.md"), *(ROOT / "examples").glob("*.md")):
        named = set(re.findall(r"`make ([a-z-]+)", page.read_text()))
        assert named <= targets, page


def test_every_alert_has_a_place_in_the_runbook():
    alerts = re.findall(r"alert: (\w+)", (ROOT / "deploy/prometheus/alerts.yaml").read_text())
    operations = (ROOT / "docs/operations.md").read_text()
    assert re.findall(r"^### (Ranker\w+)$", operations, re.MULTILINE) == alerts
