"""Callers over their quotas that ask over HTTP: refusals are held back, and none is lost."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator

import pytest

from ranker.client import Tls
from ranker.office.paced_callers import REFUSALS_AT_ONCE, REFUSALS_PER_SECOND
from tests.end_to_end.conftest import RunningServer
from tests.end_to_end.test_callers import KNOWN, RETRIEVAL, Place, asked, connection, start
from tests.waiting import wait_until

RANK = "/v1/models/books:rank"
TWO_BOOKS = {"candidates": [[0.0] * 12, [1.0] * 12]}
FLOODING = 8
"""Threads that ask again as soon as they are answered."""


@pytest.fixture
def place(truth, tmp_path) -> Place:
    """One caller may rank a list in twenty minutes, another one whatever it likes."""
    place = Place(tmp_path, truth.path)
    place.configure(RETRIEVAL, retrieval={"requests_per_second": 0.001})
    return place


@pytest.fixture
def greedy(place) -> Tls:
    return place.tls("greedy", KNOWN["spiffe"])


@pytest.fixture
def server(place, tmp_path) -> Iterator[RunningServer]:
    server = start(place, tmp_path / "log")
    try:
        yield server
    finally:
        server.kill()


def test_a_caller_over_its_quota_is_told_when_to_retry(server, greedy):
    assert asked(server, greedy, RANK, TWO_BOOKS)[0] == 200
    code, answer = asked(server, greedy, RANK, TWO_BOOKS)
    assert (code, answer["code"]) == (429, "RESOURCE_EXHAUSTED")
    assert 0 < answer["retry_after_seconds"] <= 1000


def test_few_refusals_of_a_flood_are_answered_and_all_lists_of_others(server, place, greedy):
    other = place.tls("other", KNOWN["upper-case"])
    codes, over = list[int](), threading.Event()

    def flood() -> None:
        while not over.is_set():
            codes.append(asked(server, greedy, RANK, TWO_BOOKS)[0])

    threads = [threading.Thread(target=flood) for _ in range(FLOODING)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            assert asked(server, other, RANK, TWO_BOOKS)[0] == 200
        wait_until(lambda: 429 in codes and time.monotonic() - began > 2)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    seconds = time.monotonic() - began
    assert codes.count(200) == 1
    refused = len(codes) - 1
    assert codes.count(429) == refused
    # Those that were read, and those that have waited for a second.
    assert refused <= REFUSALS_AT_ONCE + FLOODING + (REFUSALS_PER_SECOND + FLOODING) * seconds
    shed = server.metric("ranker_requests_shed_total", reason="quota")
    assert shed == refused, "each is counted"


def test_all_that_waits_is_answered_before_the_server_ends(server, greedy):
    for _ in range(1 + int(REFUSALS_AT_ONCE) + 1):
        asked(server, greedy, RANK, TWO_BOOKS)
    with contextlib.ExitStack() as open_ones:
        waiting = []
        for _ in range(50):
            own = open_ones.enter_context(contextlib.closing(connection(server, greedy)))
            own.request("POST", RANK, json.dumps(TWO_BOOKS), {"Content-Type": "application/json"})
            waiting.append(own)
        assert asked(server, greedy, "/healthz")[0] == 200
        assert server.stop() == 0
        codes = {own.getresponse().status for own in waiting}
    assert codes <= {429, 503}
