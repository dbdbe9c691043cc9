"""A steady load, in which calls begin on time however the ones before them fare."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import NamedTuple
from unittest import mock

from ranker.client import RankerClient, sync
from ranker.errors import RankerError
from tests.chaos.truth import Truth

CHANNELS = 4
TIMEOUT = 1.0
"""Seconds; the client's own default."""
_THREADS = 200
"""More calls than the rate times the timeout are never in flight."""
_LATEST = 20
"""So many answers in a row are of a version: it is what all workers serve."""


class Call(NamedTuple):
    """How a call ended, when by `time.monotonic`, and how often it was made anew."""

    began: float
    ended: float
    code: str
    retries: int


class Load:
    """Callers of a server, with `RankerClient` and its own retries.

    Args:
        address: the server's.
        truth: what they ask, and what the answers must be.
        rate: lists a second.

    Attributes:
        calls: those that have ended.
        wrong: what was wrong with answers.
    """

    def __init__(self, address: str, truth: Truth, rate: float) -> None:
        self.calls: list[Call] = []
        self.wrong: list[str] = []
        self._address, self._truth, self._pause = address, truth, 1 / rate
        self._latest = deque[tuple[float, str]](maxlen=_LATEST)
        self._in_flight = 0
        self._lock = threading.Lock()
        self._own = threading.local()
        self._over, self._goes_on = threading.Event(), threading.Event()
        self._goes_on.set()
        self._thread = threading.Thread(target=self._run)
        self._held = ExitStack()

    def __enter__(self) -> Load:
        self._pool = self._held.enter_context(ThreadPoolExecutor(_THREADS))
        self._direct = self._client = self._connected(self._address)
        self._retry = sync.pause_before_retry
        self._held.enter_context(mock.patch.object(sync, "pause_before_retry", self._counted))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._goes_on.set()
        self._thread.join()
        self._held.close()

    @contextmanager
    def by_way_of(self, address: str) -> Iterator[None]:
        """New calls go to another address."""
        self._client = self._connected(address)
        try:
            yield
        finally:
            self._client = self._direct

    @contextmanager
    def paused(self) -> Iterator[None]:
        """No call begins, and none is in flight."""
        with self._lock:
            self._goes_on.clear()
        limit = time.monotonic() + 5 * TIMEOUT
        while self._in_flight:
            assert time.monotonic() < limit, "a call does not end"
            time.sleep(0.005)
        try:
            yield
        finally:
            self._goes_on.set()

    def codes(self, first: int = 0) -> Counter[str]:
        """How the calls have ended, from the one with that number on."""
        return Counter(call.code for call in self.calls[first:])

    def most_answers(self, first: int = 0) -> int:
        """How often a server can have answered at most: an answer may not have got here."""
        return sum(1 + call.retries for call in self.calls[first:])

    def agrees_on(self, version: str, since: float) -> bool:
        """Whether all of the latest answers are of that version, and have been asked for since."""
        latest = list(self._latest)
        return len(latest) == _LATEST and all(
            began > since and found == version for began, found in latest
        )

    def _connected(self, address: str) -> RankerClient:
        client = RankerClient(address, channels=CHANNELS, timeout=TIMEOUT)
        return self._held.enter_context(client)

    def _run(self) -> None:
        due = time.monotonic()
        for index in itertools.cycle(range(len(self._truth.lists))):
            if not self._goes_on.is_set():
                self._goes_on.wait()
                due = time.monotonic()
            if self._over.wait(max(0.0, due - time.monotonic())):
                return
            with self._lock:
                if not self._goes_on.is_set():
                    continue
                self._in_flight += 1
            self._pool.submit(self._ask, self._client, index)
            due += self._pause

    def _ask(self, client: RankerClient, index: int) -> None:
        began, code = time.monotonic(), "OK"
        self._own.retries = 0
        try:
            answer = client.rank(self._truth.lists[index])
            if wrong := self._truth.fault(index, answer):
                self.wrong.append(wrong)
            self._latest.append((began, answer.version))
        except RankerError as error:
            code = error.code.name
        except Exception as error:  # the thread would keep it to itself
            self.wrong.append(repr(error))
            code = "UNKNOWN"
        finally:
            with self._lock:
                self.calls.append(Call(began, time.monotonic(), code, self._own.retries))
                self._in_flight -= 1

    def _counted(self, error: RankerError, attempt: int, left: float) -> float | None:
        pause = self._retry(error, attempt, left)
        if pause is not None and hasattr(self._own, "retries"):
            self._own.retries += 1
        return pause
