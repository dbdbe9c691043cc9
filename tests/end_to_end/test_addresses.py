"""Where a server listens: which spellings there are, and who may have the same place.

More spellings, and more places that can't be had: tests/process/test_address.py.
"""

from __future__ import annotations

import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from ranker.client import RankerClient
from tests.end_to_end.conftest import RunningServer
from tests.process.test_address import has_ipv6
from tests.waiting import PATIENCE, wait_until


class Spelt(RunningServer):
    """A server that listens somewhere else than the others do."""

    def wait_for_log(self, pattern: str) -> re.Match[str]:
        return super().wait_for_log(pattern.replace(r"127\.0\.0\.1", r"\S*"))

    def wait_ready(self) -> None:
        pass


SIX = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


@pytest.mark.parametrize(
    ("host", "reached"),
    [
        pytest.param("0.0.0.0", ["127.0.0.1"], id="any"),
        pytest.param("localhost", ["127.0.0.1"], id="a-name"),
        pytest.param("[::]", ["[::1]", "127.0.0.1"], marks=SIX, id="both-kinds-at-once"),
        pytest.param("0:0:0:0:0:0:0:1", ["[::1]"], marks=SIX, id="not-shortened"),
    ],
)
def test_every_spelling_of_a_host_serves_ranking_and_metrics(tmp_path, truth, host, reached):
    server = Spelt(tmp_path / "server.log", str(truth.path), "--host", host)
    try:
        for each in reached:
            with RankerClient(f"{each}:{server.port}", timeout=PATIENCE) as client:
                client.rank(truth.rows[:3], timeout=10.0)
            with urllib.request.urlopen(f"http://{each}:{server.metrics_port}/metrics") as page:
                assert b"ranker_requests_total" in page.read()
        assert server.stop() == 0
    finally:
        server.process.kill()
        server.process.wait()


def serve(path, host: str, port: int) -> subprocess.CompletedProcess[str]:
    """Tries to, where nothing can be served; a server would be killed after a while."""
    return subprocess.run(
        [sys.executable, "-m", "ranker", "serve", str(path), "--host", host, "--port", str(port)]
        + ["--metrics-port", "-1", "--http-port", "-1"],
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_a_port_has_one_server_and_the_next_can_follow_at_once(start, truth):
    """Though connections of the first one are still known to the kernel."""
    first = start()
    second = serve(truth.path, "127.0.0.1", first.port)
    assert second.returncode == 1
    last = second.stderr.strip().splitlines()[-1]
    assert re.search(rf"can't listen on 127\.0\.0\.1:{first.port}: Address already in use", last)
    with RankerClient(first.address, timeout=PATIENCE) as client:
        client.rank(truth.rows[:3], timeout=10.0)
        # The server closes first, so that its end waits (TIME_WAIT).
        assert first.stop() == 0
    next_one = start("--port", str(first.port))
    assert next_one.port == first.port
    with RankerClient(next_one.address, timeout=PATIENCE) as client:
        client.rank(truth.rows[:3], timeout=10.0)


def test_nothing_is_imported_from_the_folder_that_the_server_is_started_in(truth, tmp_path):
    """prometheus_client imports `snappy` if it can, in the office; gRPC and others likewise."""
    for name in ("snappy", "numpy", "json", "grpc"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported from anywhere')")
    command = [Path(sys.executable).with_name("ranker"), "serve", truth.path, "--port", "0"]
    log = tmp_path / "server.log"
    with log.open("wb") as stream:
        options = ["--host", "127.0.0.1", "--metrics-port", "0", "--http-port", "0"]
        process = subprocess.Popen([*command, *options], stdout=stream, stderr=stream, cwd=tmp_path)
    try:
        wait_until(lambda: "office serves" in log.read_text() or process.poll() is not None)
        wait_until(lambda: "listening on" in log.read_text() or process.poll() is not None)
    finally:
        process.terminate()
        assert process.wait(PATIENCE) == 0, log.read_text()
    assert "imported from anywhere" not in log.read_text()


def test_a_host_that_is_not_here_is_one_clear_line(truth):
    done = serve(truth.path, "no-such-host.invalid", 50051)
    assert done.returncode == 1
    assert re.search(r"can't listen on .*:50051: \w+", done.stderr.strip().splitlines()[-1])
    assert "Traceback" not in done.stderr
