"""The launcher: trees of processes, their CPU time, and how they end."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from benchmarks.harness.launch import RankerServer, ServerProcess, role

LISTENS = "print('listening on 127.0.0.1:1', flush=True)\nimport time; time.sleep(60)"
CHILD = f"""
import time
while time.process_time() < 0.3: pass
{LISTENS}
"""
PARENT = f"""
import signal, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {CHILD!r}])
signal.signal(signal.SIGTERM, lambda *_: child.terminate())
child.wait()
"""


def program(text: str, **options: object) -> ServerProcess:
    return ServerProcess(sys.executable, "-c", text, **options)


def test_cpu_time_and_memory_are_the_whole_trees():
    with program(PARENT) as server:
        assert server.address == "127.0.0.1:1"
        assert len(server.processes()) == 2
        assert 0.3 <= server.cpu_seconds() < 10
        held = server.usage()
        assert held.threads == 2
        assert 0 < held.pss < held.rss
    assert not server.processes()


def test_a_program_that_ends_early_is_an_error_with_what_it_said():
    with pytest.raises(RuntimeError, match="no model here"):
        program("print('no model here')")


def test_an_exit_code_that_is_none_of_success_is_an_error():
    handler = "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(3))\n"
    with (
        pytest.raises(RuntimeError, match="ended with 3"),
        program(handler + LISTENS),
    ):
        pass


def test_a_server_stays_on_its_cores():
    core = min(os.sched_getaffinity(0))
    before = os.sched_getaffinity(0)
    with program(LISTENS, cores={core}) as server:
        assert os.sched_getaffinity(server.process.pid) == {core}
    assert os.sched_getaffinity(0) == before


def test_a_ranking_server_says_who_its_processes_are(model, tmp_path):
    with RankerServer(str(model), "--workers", "2", log=tmp_path / "log") as server:
        roles = [role(process) for process in server.processes()]
        assert roles.count("worker") == 2
        assert 0 < server.cpu_seconds("worker") < server.cpu_seconds()
        assert server.scrape().total("ranker_workers") == 2
        assert server.scrape().codes().total() == 0


def test_a_ranking_server_that_can_not_start_says_why(tmp_path):
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(RuntimeError, match=r"broken\.onnx"):
        RankerServer(str(path))


def test_a_ranking_server_that_is_killed_did_not_end_well(model):
    with pytest.raises(RuntimeError, match="ended with -9"), RankerServer(str(model)) as server:
        server.signal(signal.SIGKILL)
