"""Callers at a steady rate, whose every answer is held against XGBoost's scores."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import grpc
import numpy as np

from ranker.v1 import ranking_pb2 as pb
from tests.end_to_end.conftest import RunningServer
from tests.end_to_end.test_live_models import RANK, Shop
from tests.waiting import PATIENCE, wait_until

CALLERS = 4


@dataclass
class Call:
    """An answer: when it came, how long it took, and whose it was."""

    ended: float
    seconds: float
    version: str


class Load:
    """Callers, each with a connection, that ask at a rate, or as fast as they can.

    Args:
        server: whom they ask.
        shop: what, and what the answers must be.
        rate: requests a second, of all together; None: as many as are answered.
        retries: how often a request is asked again whose worker was killed.
    """

    def __init__(
        self, server: RunningServer, shop: Shop, rate: float | None = None, retries: int = 0
    ) -> None:
        self.calls: list[Call] = []
        self.failures: list[str] = []
        self._latest = [""] * CALLERS
        self._shop, self._rate, self._retries = shop, rate, retries
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(server.address, i)) for i in range(CALLERS)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, version: str) -> None:
        """Waits until each connection has had an answer of that version, and no other since."""

        def have_had_it() -> bool:
            assert not self.failures, self.failures[:3]
            return set(self._latest) == {version}

        wait_until(have_had_it, lambda: (version, self._latest))

    def wait(self, seconds: float) -> None:
        """Lets them go on."""
        assert not self._over.wait(seconds)

    def percentile(self, begin: float, end: float, percent: float) -> float:
        """Of the answers that came between two moments, in seconds."""
        times = [call.seconds for call in self.calls if begin <= call.ended < end]
        return float(np.percentile(times, percent)) if times else float("nan")

    def _ask(self, address: str, index: int) -> None:
        pause = 0.0 if self._rate is None else CALLERS / self._rate
        due = time.monotonic() + pause * index / CALLERS
        with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            rank = channel.unary_unary(RANK)
            while not self._over.is_set():
                time.sleep(max(0.0, due - time.monotonic()))
                due = max(due + pause, time.monotonic() - 1.0)
                began = time.monotonic()
                try:
                    answer = pb.RankResponse.FromString(self._rank(rank))
                    self._shop.check(answer)
                except Exception as error:  # a caller that ends would be missed
                    self.failures.append(repr(error))
                    continue
                ended = time.monotonic()
                self.calls.append(Call(ended, ended - began, answer.model_version))
                self._latest[index] = answer.model_version

    def _rank(self, rank: grpc.UnaryUnaryMultiCallable) -> bytes:
        for left in reversed(range(self._retries + 1)):
            try:
                return bytes(rank(self._shop.request, timeout=PATIENCE))
            except grpc.RpcError as error:
                if not left or error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                time.sleep(0.05)
        raise AssertionError
