"""The generator's counts are the server's own."""

from __future__ import annotations

import itertools
import subprocess
import sys

import pytest

from loadtests import generator
from loadtests.callers import CALLERS
from loadtests.local_server import LocalServer, local_server
from loadtests.rig import Rig
from loadtests.scrape import Scrape, ServerShare
from loadtests.slo import Slo
from loadtests.traffic import Traffic
from ranker.client import RankerClient


def rig(server: LocalServer, method: str) -> Rig:
    with RankerClient(server.target) as client:
        traffic = Traffic(client.get_model(), timeout=20.0)
    slo = Slo.parse("p50=20s,errors=0%")
    return Rig(server.target, server.metrics, method, traffic, 1.0, slo)


@pytest.mark.parametrize("method", CALLERS)
def test_open_loop(server, method):
    step = generator.run(lambda: rig(server, method).open(100.0))
    assert step.missed == []
    assert step.found.sent == step.server.requests == len(list(generator.poisson(100.0, 1.0)))
    assert step.found.failures == step.server.failures == 0
    assert step.server.batch_requests >= 1
    assert step.server.batch_rows >= step.server.batch_requests
    assert 0 < step.server.engine_utilization < 1


def test_closed_loop(server):
    step = generator.run(lambda: rig(server, "unary").closed(4))
    assert step.found.sent == step.server.requests > 4
    assert step.found.failures == 0


def test_failures_are_counted_on_both_sides(server):
    before = Scrape.of(server.metrics)
    with RankerClient(server.target) as client:
        model = client.get_model()
    model.num_features += 1  # requests of another model
    traffic = Traffic(model, timeout=20.0)

    async def ask():
        async with CALLERS["unary"](server.target) as caller:
            return [await caller.ask(request) for request in itertools.islice(traffic, 3)]

    assert generator.run(ask) == ["INVALID_ARGUMENT"] * 3
    share = ServerShare.between(before, Scrape.of(server.metrics))
    assert (share.requests, share.failures) == (3, 3)
    assert str(share.batch_rows) == "nan"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "loadtests", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100)


def at(server: LocalServer) -> tuple[str, ...]:
    return ("--target", server.target, "--metrics", server.metrics, "--deadline", "20")


def test_search_writes_its_page(server, tmp_path):
    limits = ("--start", "20", "--limit", "40", "--seconds", "0.5")
    done = run("search", *at(server), *limits, "--slo", "p50=20s", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "search.html").read_text()
    assert "books@3: 20 trees" in page
    assert "p50=20s" in page


@pytest.mark.parametrize(
    ("slo", "code"),
    [pytest.param("p50=20s,errors=0%", 0, id="met"), pytest.param("p50=1us", 1, id="missed")],
)
def test_the_exit_code_says_whether_the_objective_was_met(server, tmp_path, slo, code):
    load = ("--rate", "20", "--seconds", "0.5", "--slo", slo, "--out", str(tmp_path))
    done = run("open", *at(server), *load)
    assert done.returncode == code, done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(("--target", "127.0.0.1:1"), "loadtests: ", id="no-server"),
        pytest.param(("--slo", "p99"), "'p99': expected", id="bad-objective"),
    ],
)
def test_what_went_wrong_is_one_line(tmp_path, arguments, words):
    done = run("open", "--rate", "20", "--out", str(tmp_path), *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_that_can_not_start_says_why(tmp_path):
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"no model")
    log = tmp_path / "log"
    with pytest.raises(RuntimeError, match=r"broken\.onnx"), local_server(path, log):
        pass
