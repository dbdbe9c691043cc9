"""Unary calls by gRPC's synchronous client: cheap enough to overload a server from one core.

Half of asyncio's cost per call, and a real client in what matters under overload:
how it shares a connection among messages that wait, and what it still sends of
calls that have failed. `prepare`, before gRPC is imported, saves a third of the rest.
"""

from __future__ import annotations

import itertools
import os
import queue
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

BUSY = 0.85
"""The share of its core beyond which the generator says that it was the bottleneck."""

LATE = 0.01
"""And so it does if one request in a hundred left so many seconds late."""


def prepare() -> None:
    """Has gRPC's clients of this process read sockets on the thread that polls."""
    os.environ["GRPC_EXPERIMENTS"] = "-event_engine_client"


@dataclass
class Load:
    """What one run found.

    Attributes:
        seconds: how long requests were sent.
        calls: per request the moment that was meant for it, in seconds from the
            start, its latency from that moment on, and its gRPC status code.
        late: how many seconds after its moment each left.
        cpu: CPU time of the generator while it sent, in cores.
    """

    seconds: float = 0.0
    calls: list[tuple[float, float, int]] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    cpu: float = 0.0

    @property
    def goodput(self) -> float:
        """Answers per second."""
        return sum(code == 0 for _, _, code in self.calls) / self.seconds

    @property
    def failed(self) -> Counter[int]:
        """How many calls ended with which status code."""
        return Counter(code for _, _, code in self.calls if code)

    def answered(self, share: float) -> float:
        """The quantile of the latencies of those that were answered, in seconds."""
        return quantile([latency for _, latency, code in self.calls if code == 0], share)

    @property
    def generator_bound(self) -> bool:
        """Whether the generator was short of CPU, so that this says little of the server."""
        return self.cpu > BUSY or quantile(self.late, 0.99) > LATE

    def recovered(self, normal: float, window: float = 0.1) -> float:
        """Seconds until the last window with failures or with a median latency above `normal`."""
        last = 0.0
        for start in itertools.takewhile(
            lambda at: at < self.seconds, itertools.count(0.0, window)
        ):
            inside = [call for call in self.calls if start <= call[0] < start + window]
            failed = sum(code != 0 for _, _, code in inside)
            if inside and (
                failed > 0.05 * len(inside)
                or quantile([latency for _, latency, _ in inside], 0.5) > normal
            ):
                last = start + window
        return last


def quantile(values: list[float], share: float) -> float:
    """The value that so large a share of them does not exceed; 0 if there are none."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else 0.0


class Generator:
    """Sends the same requests over and over, over several connections in turn.

    Args:
        target: the server's address.
        method: the unary method's full name.
        messages: encoded requests.
        connections: how many; at least 1.
    """

    def __init__(
        self, target: str, method: str, messages: Sequence[bytes], connections: int
    ) -> None:
        import grpc  # only now, after `prepare`

        sys.setswitchinterval(0.0005)  # the thread that sends is not to wait for the one that reads
        options = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))
        self._channels = [grpc.insecure_channel(target, options) for _ in range(connections)]
        self._calls: Any = itertools.cycle(
            [channel.unary_unary(method, None, None) for channel in self._channels]
        )
        self._messages = itertools.cycle(messages)

    def close(self) -> None:
        """Disconnects."""
        for channel in self._channels:
            channel.close()

    def capacity(self, in_flight: int, seconds: float) -> float:
        """Answers per second with so many patient requests in flight."""
        done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        began = time.perf_counter()

        def send() -> None:
            self._send(60.0).add_done_callback(done.put)

        for _ in range(in_flight):
            send()
        answered = 0
        while time.perf_counter() < began + seconds:
            done.get().result()
            answered += 1
            send()
        rate = answered / (time.perf_counter() - began)
        for _ in range(in_flight):
            done.get()
        return rate

    def open_loop(self, rate: float, seconds: float, deadline: float) -> Load:
        """Sends at the moments of a Poisson process, and waits for the answers.

        Args:
            rate: requests per second.
            seconds: for so long.
            deadline: of each call, in seconds from its sending.
        """
        load = Load()
        ended = threading.Semaphore(0)
        chance = random.Random(0)
        began, worked = time.perf_counter(), time.process_time()

        def ends(moment: float) -> Any:
            def end(call: Any) -> None:
                latency = time.perf_counter() - began - moment
                load.calls.append((moment, latency, call.code().value[0]))
                ended.release()

            return end

        moment = chance.expovariate(rate)
        while moment < seconds:
            time.sleep(max(0.0, began + moment - time.perf_counter()))
            load.late.append(time.perf_counter() - began - moment)
            self._send(deadline).add_done_callback(ends(moment))
            moment += chance.expovariate(rate)
        load.seconds = time.perf_counter() - began
        load.cpu = (time.process_time() - worked) / load.seconds
        for _ in load.late:
            ended.acquire()
        return load

    def _send(self, deadline: float) -> Any:
        return next(self._calls).future(next(self._messages), timeout=deadline)
