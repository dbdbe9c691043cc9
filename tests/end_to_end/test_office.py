"""The office: what it answers over HTTP, and that nobody needs it to rank."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from contextlib import ExitStack, suppress

import numpy as np

from ranker.client import RankerClient
from ranker.office.limited_connection import MOST_CONNECTIONS
from ranker.process.office import NICENESS
from tests.end_to_end.conftest import RunningServer, on_one_transport
from tests.end_to_end.test_http_json import RANK
from tests.end_to_end.test_lifecycle import Unasked
from tests.office.support import ask
from tests.waiting import PATIENCE, wait_until


def test_health_and_metrics_on_both_ports(server: RunningServer):
    for port in (server.http_port, server.metrics_port):
        assert ask(port, "/healthz").body == b"ok\n"
        assert ask(port, "/readyz").body == b"ready\n"
        assert b"ranker_workers_serving 1.0" in ask(port, "/metrics").body


def test_probes_are_answered_while_a_worker_has_all_connections_that_it_may(start, truth):
    server = start("--max-memory", str(200 * 2**20))  # for which it may have 256
    host, port = server.address.rsplit(":", 1)
    with RankerClient(server.address, timeout=PATIENCE) as client, ExitStack() as stack:
        client.rank(truth.rows[:3])
        for _ in range(300):
            stack.enter_context(socket.create_connection((host, int(port))))
        with socket.create_connection((host, int(port))) as refused:
            refused.settimeout(PATIENCE)
            with suppress(ConnectionResetError):
                while refused.recv(1024):
                    pass  # until it is closed
        for path in ("/healthz", "/readyz"):
            assert ask(server.metrics_port, path).status == 200
        client.rank(truth.rows[:3])


@on_one_transport
def test_probes_are_answered_while_all_connections_of_the_http_port_wait_for_rankings(start, truth):
    server = start("--max-batch-delay", "600")  # so that they wait
    body = json.dumps({"candidates": np.nan_to_num(truth.rows[:1]).tolist(), "deadline_ms": 30_000})
    kind = "Content-Type: application/json"
    head = f"POST {RANK} HTTP/1.1\r\nHost: x\r\n{kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    with ExitStack() as stack:
        for _ in range(MOST_CONNECTIONS):
            waiting = socket.create_connection(("127.0.0.1", server.http_port))
            stack.enter_context(waiting).sendall((head + body).encode())
        wait_until(lambda: server.metric("ranker_queue_rows") >= 50)
        for path in ("/healthz", "/readyz"):
            assert ask(server.metrics_port, path).status == 200


@on_one_transport
def test_it_goes_behind_workers_for_a_core(server: RunningServer):
    server.wait_for_log("office serves")
    office = os.getpriority(os.PRIO_PROCESS, server.office())
    assert office == min(os.getpriority(os.PRIO_PROCESS, server.process.pid) + NICENESS, 19)
    threads = os.listdir(f"/proc/{server.office()}/task")
    assert {os.getpriority(os.PRIO_PROCESS, int(thread)) for thread in threads} == {office}


@on_one_transport
def test_no_http(start):
    server = start("--http-port", "-1")
    assert "HTTP on port" not in server.log.read_text()
    assert ask(server.metrics_port, "/metrics").status == 200


@on_one_transport
def test_a_taken_http_port_is_a_clear_error(start):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        try:
            server = start("--http-port", str(port), kind=Unasked)
        except RuntimeError as error:
            said = str(error)
        else:  # on a busy machine the worker may listen before the office has looked
            assert server.process.wait(60) != 0
            said = server.log.read_text()
        assert "choose another HTTP port, or 0 for any" in said


@on_one_transport
def test_one_that_hangs_or_dies_disturbs_no_request_and_loses_no_count(start, truth):
    server = start()
    rows = truth.rows[:30]
    with RankerClient(server.address, timeout=10.0) as client:
        office = server.office()
        os.kill(office, signal.SIGSTOP)
        try:
            for _ in range(50):
                client.rank(rows)
        finally:
            os.kill(office, signal.SIGCONT)
        assert server.metric("ranker_requests_total", code="OK") == 50
        cpu = server.metric("ranker_process_cpu_seconds_total", worker="0")
        os.kill(office, signal.SIGKILL)
        server.wait_for_log("(?s)(office started.*){2}")
        os.kill(server.office(), signal.SIGKILL)  # before it serves
        for _ in range(100):
            client.rank(rows)
            time.sleep(0.01)
        server.wait_for_log("(?s)(office started.*){3}office serves")
        assert server.metric("ranker_requests_total", code="OK") == 150
        assert server.metric("ranker_process_cpu_seconds_total", worker="0") >= cpu
    assert server.metric("ranker_worker_restarts_total") == 0
    for port in (server.metrics_port, server.http_port):  # those of the first one
        assert ask(port, "/metrics").status == 200
    assert server.stop() == 0
