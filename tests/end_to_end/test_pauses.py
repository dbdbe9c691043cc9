"""A machine that pauses now and then: at half load a server refuses almost nothing."""

from __future__ import annotations

import collections
import os
import random
import signal
import threading
import time

import grpc
import pytest

from ranker.client import channel as wire
from ranker.client.request import rank_request

IN_FLIGHT = 32
SECONDS = 10.0
DEADLINE = 0.25


class Load:
    """Calls over one channel, by the codes that they ended with."""

    def __init__(self, channel: grpc.Channel, message: bytes) -> None:
        self._rank = channel.unary_unary(*wire.RANK)
        self._message = message
        self.codes: collections.Counter[str] = collections.Counter()
        self._lock = threading.Lock()

    def call(self, deadline: float | None, then=lambda: None) -> grpc.Future:
        def ended(call: grpc.Future) -> None:
            with self._lock:
                self.codes[call.code().name] += 1
            then()

        call = self._rank.future(self._message, timeout=deadline)
        call.add_done_callback(ended)
        return call

    def capacity(self, seconds: float) -> float:
        """Answers a second with `IN_FLIGHT` calls in flight."""
        room = threading.Semaphore(IN_FLIGHT)
        end = time.monotonic() + seconds
        calls = []
        while time.monotonic() < end:
            room.acquire()
            calls.append(self.call(None, room.release))
        for call in calls:
            call.result()
        return len(calls) / seconds

    def offer(self, rate: float, seconds: float) -> None:
        """Calls at random moments, whatever the server does."""
        chance, begin, at = random.Random(1), time.monotonic(), 0.0
        calls = []
        while (at := at + chance.expovariate(rate)) < seconds:
            time.sleep(max(0.0, begin + at - time.monotonic()))
            calls.append(self.call(DEADLINE))
        for call in calls:
            call.exception()


@pytest.mark.slow
def test_pauses_at_half_load_refuse_almost_nothing(start, truth):
    server = start()
    pid = server.worker()
    over = threading.Event()

    def pause() -> None:
        chance = random.Random(2)
        while not over.wait(chance.uniform(0.2, 0.8)):
            os.kill(pid, signal.SIGSTOP)
            time.sleep(chance.uniform(0.005, 0.05))
            os.kill(pid, signal.SIGCONT)

    with grpc.insecure_channel(server.address, options=wire.OPTIONS) as channel:
        load = Load(channel, rank_request(truth.rows[:100]))
        capacity = load.capacity(3.0)
        load.codes.clear()
        pauses = threading.Thread(target=pause)
        pauses.start()
        try:
            load.offer(capacity / 2, SECONDS)
        finally:
            over.set()
            pauses.join()
    assert load.codes.total() > 100
    assert load.codes["RESOURCE_EXHAUSTED"] < 0.01 * load.codes.total(), load.codes
