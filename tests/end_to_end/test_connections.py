"""Which worker a connection ends at, how long it stays there, and how a client gets to others."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import grpc
import numpy as np
import pytest

from ranker.client import RankerClient
from ranker.client.request import rank_request
from tests.end_to_end.conftest import RunningServer, Truth, on_one_transport
from tests.waiting import PATIENCE

WORKERS = 2
THREADS = 4
CHANNELS = 24
AGE = 0.5
"""Seconds; gRPC varies it by a tenth, so that clients do not reconnect all at once."""


class Asking:
    """Threads that share a client, ask all the time and compare each answer with XGBoost's."""

    def __init__(self, client: RankerClient, truth: Truth) -> None:
        self.answered = 0
        self.failures: list[BaseException] = []
        self._client = client
        self._rows = truth.rows[:50]
        self._expected = np.argsort(-truth.scores(self._rows), kind="stable").tolist()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(THREADS)]

    def __enter__(self) -> Asking:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        try:
            while not self._over.is_set():
                ranking = self._client.rank(self._rows, timeout=30.0)
                assert ranking.indices.tolist() == self._expected
                self.answered += 1
                time.sleep(0.002)
        except BaseException as error:
            self.failures.append(error)


@pytest.fixture(scope="module")
def two_workers(truth, transport, tmp_path_factory) -> Iterator[RunningServer]:
    """A server whose connections may grow as old as they like."""
    log = tmp_path_factory.mktemp("workers") / "server.log"
    options = ("--workers", str(WORKERS), "--transport", transport)
    with RunningServer(log, str(truth.path), *options) as running:
        yield running


@pytest.fixture(scope="module")
def impatient(truth, transport, tmp_path_factory) -> Iterator[RunningServer]:
    """A server of two workers whose connections may not grow old."""
    log = tmp_path_factory.mktemp("impatient") / "server.log"
    options = ("--workers", str(WORKERS), "--max-connection-age", str(AGE))
    with RunningServer(log, str(truth.path), *options, "--transport", transport) as running:
        yield running


class Since:
    """What a server has done since this was made."""

    def __init__(self, server: RunningServer) -> None:
        self._server = server
        self._before = server.scrape()

    def metric(self, name: str, **labels: str) -> float:
        """By how much a metric has grown."""
        return self._server.metric(name, **labels) - self._before.total(name, **labels)

    def workers_that_scored(self) -> set[int]:
        busy = "ranker_engine_busy_seconds_total"
        return {worker for worker in range(WORKERS) if self.metric(busy, worker=str(worker)) > 0}


@on_one_transport
def test_a_lone_connection_stays_with_its_worker(two_workers, truth):
    since = Since(two_workers)
    with (
        RankerClient(two_workers.address, timeout=PATIENCE) as client,
        Asking(client, truth) as asking,
    ):
        time.sleep(2 * AGE)
    assert asking.failures == []
    assert asking.answered > 0
    assert len(since.workers_that_scored()) == 1


def test_a_connection_of_some_age_moves_on_and_no_request_fails(impatient, truth):
    since = Since(impatient)
    give_up = time.monotonic() + 60  # each time it moves it has an even chance to meet the other
    with (
        RankerClient(impatient.address, timeout=PATIENCE) as client,
        Asking(client, truth) as asking,
    ):
        while len(since.workers_that_scored()) < WORKERS and time.monotonic() < give_up:
            time.sleep(0.1)
        time.sleep(4 * AGE)
    assert asking.failures == []
    assert since.workers_that_scored() == set(range(WORKERS))
    assert since.metric("ranker_requests_total", code="OK") == asking.answered
    assert since.metric("ranker_requests_total") == asking.answered


def test_large_metadata_are_taken_each_time(server, truth):
    """By default gRPC refuses those above 8 KiB at random."""
    request = rank_request(truth.rows[:5])
    with grpc.insecure_channel(server.address) as channel:
        rank = channel.unary_unary("/ranker.v1.RankingService/Rank")
        for _ in range(30):
            assert rank(request, timeout=PATIENCE, metadata=[("x", "y" * 14_000)])


def test_a_stream_stays_whatever_the_age_of_its_connection(impatient, truth):
    since = Since(impatient)
    rows = truth.rows[:50]
    expected = np.argsort(-truth.scores(rows), kind="stable").tolist()
    end = time.monotonic() + 4 * AGE
    with RankerClient(impatient.address, timeout=PATIENCE) as client, client.stream() as stream:
        while time.monotonic() < end:
            assert stream.submit(rows, timeout=30.0).result().indices.tolist() == expected
            time.sleep(0.05)
    assert len(since.workers_that_scored()) == 1


@on_one_transport
def test_several_channels_reach_several_workers(two_workers, truth):
    """Each has an even chance to meet either worker; that all meet the same is 1 in 2**23."""
    since = Since(two_workers)
    with RankerClient(two_workers.address, channels=CHANNELS, timeout=PATIENCE) as client:
        for _ in range(CHANNELS):
            client.rank(truth.rows[:50], timeout=30.0)
    assert since.workers_that_scored() == set(range(WORKERS))
