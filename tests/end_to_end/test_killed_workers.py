"""Workers that die under load: no call of our client fails, and no counter goes back."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import threading
import time

import numpy as np
import pytest

from ranker.client import AsyncRankerClient, RankerClient
from tests.waiting import wait_until

CALLERS = 4
DEADLINE = 30.0
OFTEN, SELDOM = 0.002, 0.02
"""Seconds between a caller's calls: when a worker is killed, and while another one starts."""


class Load:
    """Callers that rank until they are told to stop; what failed, and how much did not.

    Attributes:
        pause: seconds between a caller's calls.
    """

    def __init__(self, address: str, rows: np.ndarray, expected: np.ndarray) -> None:
        self.pause = OFTEN
        self.failures: list[BaseException] = []
        self.answers = 0
        self._address, self._rows, self._expected = address, rows, expected
        self._stop = threading.Event()
        targets = [self._threads] * CALLERS + [lambda: asyncio.run(self._asyncio())]
        self._callers = [threading.Thread(target=target) for target in targets]
        for caller in self._callers:
            caller.start()

    def end(self) -> None:
        self._stop.set()
        for caller in self._callers:
            caller.join()

    def _check(self, ranking) -> None:
        np.testing.assert_array_equal(ranking.indices, self._expected)
        self.answers += 1

    def _threads(self) -> None:
        try:
            with RankerClient(self._address, channels=2, timeout=DEADLINE) as client:
                while not self._stop.is_set():
                    self._check(client.rank(self._rows))
                    time.sleep(self.pause)
        except Exception as error:
            self.failures.append(error)

    async def _asyncio(self) -> None:
        try:
            async with AsyncRankerClient(self._address, channels=2, timeout=DEADLINE) as client:
                while not self._stop.is_set():
                    self._check(await client.rank(self._rows))
                    await asyncio.sleep(self.pause)
        except Exception as error:
            self.failures.append(error)


@pytest.mark.parametrize(
    "kills", [pytest.param(3), pytest.param(20, marks=pytest.mark.slow)], ids=str
)
def test_no_call_fails_when_workers_are_killed(start, truth, kills):
    server = start("--workers", "2")
    rows = truth.rows[:30]
    load = Load(server.address, rows, np.argsort(-truth.scores(rows), kind="stable"))
    counted = 0.0
    try:
        for kill in range(kills):
            place = kill % 2
            pid = server.worker(place)
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda before=pid, at=place: server.worker(at) != before)
            load.pause = SELDOM
            served = rf"(?s)(worker {place} serves.*){{{kill // 2 + 2}}}"
            wait_until(lambda pattern=served: re.search(pattern, server.log.read_text()))
            load.pause = OFTEN
            time.sleep(0.2)
            before, counted = counted, server.metric("ranker_requests_total", code="OK")
            assert counted >= before
    finally:
        load.end()
    assert load.failures == []
    assert server.metric("ranker_requests_total", code="OK") >= load.answers - kills * (CALLERS + 1)
    assert server.metric("ranker_worker_restarts_total") == kills
    assert server.stop() == 0
