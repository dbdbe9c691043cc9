"""Where a server listens: which spellings there are, and who may have the same place."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import urllib.request

import pytest

from ranker.client import RankerClient
from tests.end_to_end.conftest import RunningServer


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


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
        pytest.param("0.0.0.0", "127.0.0.1"),
        pytest.param("localhost", "127.0.0.1"),
        pytest.param("::", "[::1]", marks=SIX),
        pytest.param("[::]", "[::1]", marks=SIX),
        pytest.param("::", "127.0.0.1", marks=SIX, id="both-kinds-at-once"),
        pytest.param("::1", "[::1]", marks=SIX),
        pytest.param("[::1]", "[::1]", marks=SIX),
        pytest.param("0:0:0:0:0:0:0:1", "[::1]", marks=SIX),
    ],
)
def test_every_spelling_of_a_host_serves_ranking_and_metrics(tmp_path, truth, host, reached):
    server = Spelt(tmp_path / "server.log", str(truth.path), "--host", host)
    try:
        with RankerClient(f"{reached}:{server.port}") as client:
            client.rank(truth.rows[:3], timeout=10.0)
        with urllib.request.urlopen(f"http://{reached}:{server.metrics_port}/metrics") as page:
            assert b"ranker_requests_total" in page.read()
        assert server.stop() == 0
    finally:
        server.process.kill()
        server.process.wait()


def serve(path, port: int) -> subprocess.CompletedProcess[str]:
    """Tries to, where nothing can be served; a server would be killed after a while."""
    return subprocess.run(
        [sys.executable, "-m", "ranker", "serve", str(path), "--host", "127.0.0.1"]
        + ["--port", str(port), "--metrics-port", "-1", "--http-port", "-1"],
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_two_servers_do_not_share_a_port(start, truth):
    first = start()
    second = serve(truth.path, first.port)
    assert second.returncode == 1
    last = second.stderr.strip().splitlines()[-1]
    assert re.search(rf"can't listen on 127\.0\.0\.1:{first.port}: Address already in use", last)
    with RankerClient(first.address) as client:
        client.rank(truth.rows[:3], timeout=10.0)


def test_a_server_can_follow_another_at_once(tmp_path, truth):
    """Though connections of the first one are still known to the kernel."""
    port = 0
    for i in range(3):
        server = RunningServer(tmp_path / f"{i}.log", str(truth.path), "--port", str(port))
        try:
            assert port in (0, server.port)
            port = server.port
            with RankerClient(server.address) as client:
                client.rank(truth.rows[:3], timeout=10.0)
                # The server closes first, so that its end waits (TIME_WAIT).
                assert server.stop() == 0
        finally:
            server.process.kill()
            server.process.wait()


@pytest.mark.parametrize("host", ["", "no-such-host.invalid", "203.0.113.1"])
def test_a_host_that_is_not_here_is_one_clear_line(truth, host):
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "ranker",
            "serve",
            str(truth.path),
            "--host",
            host,
            "--http-port",
            "-1",
        ],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 1
    assert re.search(r"can't listen on .*:50051: \w+", done.stderr.strip().splitlines()[-1])
    assert "Traceback" not in done.stderr


def test_a_port_of_another_program_is_one_clear_line(truth):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = serve(truth.path, port)
    assert done.returncode == 1
    assert str(port) in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
