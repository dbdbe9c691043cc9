"""The faults: each begins, lasts while its context does, and is healed at the end of that."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple

import grpc
import numpy as np
import psutil

from ranker.client.request import rank_request
from ranker.metrics import catalogue
from tests.chaos import limits, link
from tests.chaos.load import Load
from tests.chaos.reloads import Reloads
from tests.chaos.site import UNREAD, UNSEEN, Site
from tests.chaos.truth import FEATURES
from tests.end_to_end.slow_link import SlowLink
from tests.exporters.gcp_monitoring.metric_service import fail, hang
from tests.repository import buckets

LOSS = 0.05
SLOW_BYTES = 20_000
"""A second, of each connection's answers: a delay of some hundredths of a second each."""
READERS, LISTS, ROWS = 8, 200, 1000
"""Streams that are not read, what they ask at most, and the candidates in each list."""
SPARE_BYTES = 2**16
HOUR = 3600
ORPHAN_SECONDS = 15.0
"""Within which a server's processes end when their supervisor is gone."""


class NoEffectError(AssertionError):
    """What was to be a fault was none."""


class Trial(NamedTuple):
    """What faults are made of."""

    site: Site
    load: Load
    reloads: Reloads
    seconds: float


class Fault(NamedTuple):
    """A fault.

    Attributes:
        begin: makes it.
        kills: names of the processes that it may end.
        lasts: whether it lasts for some time; else all is over when it has happened.
    """

    begin: Callable[[Trial], AbstractContextManager[None]]
    kills: tuple[str, ...] = ()
    lasts: bool = True


@contextmanager
def loss(trial: Trial) -> Iterator[None]:
    with link.Drop(trial.site.server.port, LOSS) as rule:
        yield
        _expect(rule.dropped(), "no packet was lost")


@contextmanager
def partition(trial: Trial) -> Iterator[None]:
    with link.Drop(trial.site.server.port) as rule:
        yield
        _expect(rule.dropped(), "no packet was lost")


@contextmanager
def delay(trial: Trial) -> Iterator[None]:
    with SlowLink(trial.site.server.port, SLOW_BYTES) as slow:
        with trial.load.by_way_of(f"127.0.0.1:{slow.port}"):
            yield
        _expect(slow.passed, "no answer was late")
        time.sleep(0.5)  # the last ones are on their way


@contextmanager
def slow_reader(trial: Trial) -> Iterator[None]:
    rows = np.zeros((ROWS, FEATURES), np.float32)
    message = rank_request(rows, model=UNREAD, request_id="unread")
    address = trial.site.server.address
    with link.unread_streams(address, message, READERS, LISTS) as sent:
        _expect(sum(sent), "no stream could ask")
        yield
        ranked = trial.site.server.scrape().total(catalogue.REQUESTS.name, model=UNREAD, code="OK")
        _expect(ranked, "nothing was answered that could have been read")


@contextmanager
def full_disk(trial: Trial) -> Iterator[None]:
    dropped, before = catalogue.RANKING_LOG_DROPPED.name, trial.site.server.scrape()
    with limits.full(trial.site.disk):
        yield
        after = trial.site.server.scrape()
        lost = after.total(dropped, reason="disk") - before.total(dropped, reason="disk")
        _expect(lost, "the ranking log did not notice the full disk")


@contextmanager
def workers_without_descriptors(trial: Trial) -> Iterator[None]:
    with limits.no_more_descriptors(trial.site.server.workers()):
        yield


@contextmanager
def office_without_descriptors(trial: Trial) -> Iterator[None]:
    with limits.no_more_descriptors([trial.site.server.office()]):
        yield


@contextmanager
def little_memory(trial: Trial) -> Iterator[None]:
    with limits.little_more_memory(trial.site.server.workers(), SPARE_BYTES):
        yield


def clock_jump(seconds: int) -> Callable[[Trial], AbstractContextManager[None]]:
    """The server's wall clock is so many seconds off."""

    @contextmanager
    def jump(trial: Trial) -> Iterator[None]:
        clock = trial.site.clock
        assert clock is not None
        clock.jump(seconds)
        try:
            yield
        finally:
            clock.jump(0)

    return jump


@contextmanager
def office_killed(trial: Trial) -> Iterator[None]:
    _kill(trial.site.server.office())
    yield


@contextmanager
def worker_killed(trial: Trial) -> Iterator[None]:
    _kill(trial.site.server.worker(0))
    yield


@contextmanager
def supervisor_killed(trial: Trial) -> Iterator[None]:
    """Its workers and its office must end by themselves; then the server starts again."""
    site = trial.site
    others = [psutil.Process(pid) for pid in site.processes() if pid != site.server.process.pid]
    os.kill(site.server.process.pid, signal.SIGKILL)
    site.server.process.wait()
    _, alive = psutil.wait_procs(others, ORPHAN_SECONDS)
    for process in alive:
        process.kill()
    assert not alive, f"{ORPHAN_SECONDS:g} s after the supervisor's end these still ran: {alive}"
    time.sleep(0.1)  # the last answers of these reach their callers
    site.first_call = len(trial.load.calls)
    yield
    site.start_again()


def bucket_dead(fault: Callable[[float], buckets.Fault], version: str) -> Fault:
    """The bucket fails while a version that nobody has fetched is asked for."""

    @contextmanager
    def dead(trial: Trial) -> Iterator[None]:
        bucket = trial.site.bucket
        bucket.faults |= {(method, ""): fault(trial.seconds) for method in ("GET", "HEAD")}
        before, trial.reloads.only = len(bucket.requests), version
        trial.reloads.now()
        try:
            yield
            _expect(len(bucket.requests) - before, "nobody asked the bucket")
        finally:
            bucket.faults.clear()

    return Fault(dead)


@contextmanager
def api_refuses(trial: Trial) -> Iterator[None]:
    yield from _api_fails(trial, fail(grpc.StatusCode.UNAVAILABLE))


@contextmanager
def api_hangs(trial: Trial) -> Iterator[None]:
    released = threading.Event()
    try:
        yield from _api_fails(trial, hang(released))
    finally:
        released.set()


def _api_fails(trial: Trial, fault: Callable[[grpc.ServicerContext], None]) -> Iterator[None]:
    api = trial.site.api
    faults = [fault] * 1000
    api.faults += faults
    try:
        yield
        _expect(len(faults) - len(api.faults), "nobody asked the API")
    finally:
        api.faults.clear()


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def _expect(count: float, otherwise: str) -> None:
    if not count:
        raise NoEffectError(otherwise)


WORKERS = ("worker 0", "worker 1")
EVERYBODY = ("supervisor", "office", *WORKERS)
FAULTS = {
    "packet loss": Fault(loss),
    "delay": Fault(delay),
    "partition": Fault(partition),
    "slow reader": Fault(slow_reader),
    "full disk": Fault(full_disk),
    "no descriptors, workers": Fault(workers_without_descriptors),
    "no descriptors, office": Fault(office_without_descriptors),
    "little memory": Fault(little_memory, WORKERS),
    "clock +1 h": Fault(clock_jump(HOUR)),
    "clock -1 h": Fault(clock_jump(-HOUR)),
    "office killed": Fault(office_killed, ("office",), lasts=False),
    "worker killed": Fault(worker_killed, ("worker 0",), lasts=False),
    "supervisor killed": Fault(supervisor_killed, EVERYBODY, lasts=False),
    "bucket answers 503": bucket_dead(lambda _: buckets.Fault(status=503), UNSEEN[0]),
    "bucket hangs": bucket_dead(lambda seconds: buckets.Fault(seconds=seconds), UNSEEN[1]),
    "GCP API refuses": Fault(api_refuses),
    "GCP API hangs": Fault(api_hangs),
}
"""By name, in the order in which they are tried."""
