"""Locust users of the ranking server, with its web UI, workers and reports.

    locust -f loadtests/locustfile.py --host localhost:50051 --headless \\
        --users 20 --spawn-rate 20 --run-time 1m --slo p99=10ms,errors=0.1%

Each user asks at random moments, `--rate` times a second on average, whether or not earlier
answers have come. Latency counts from the moment that was meant, so a stalled server makes every
request late that it kept from being sent. Locust spends several times the server's own CPU time
on a request: to find a server's limit use `python -m loadtests search`.
"""

from __future__ import annotations

import itertools
import json
import logging
import random
import time
from argparse import ArgumentParser, Namespace
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import grpc.experimental.gevent as grpc_gevent  # type: ignore[import-not-found]
import numpy as np
from gevent import get_hub
from gevent.pool import Group
from locust import User, events, stats, task
from locust.env import Environment
from locust.runners import WorkerRunner

from benchmarks.harness.requests import Request
from loadtests.slo import Slo
from loadtests.traffic import traffic
from ranker.client import RankerClient
from ranker.errors import RankerError, UnavailableError

# locust has made threads and sockets cooperative by now; gRPC's own are told here, before
# the first channel.
grpc_gevent.init_gevent()
# Whoever waits on gRPC holds a thread of this pool: a stream one for all its life, a call one
# till its answer. Of gevent's own ten, ten streams leave none, and calls wait for 200 ms slices.
get_hub().threadpool.maxsize = 1000

logger = logging.getLogger(__name__)

PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9, 100.0)


def _options(environment: Environment) -> Namespace:
    options: Namespace | None = environment.parsed_options
    assert options is not None  # locust was started by its command
    return options


def three_digits(milliseconds: float) -> float:
    """A latency as locust counts it. Its own buckets are whole milliseconds and wider."""
    return float(f"{milliseconds:.3g}")


stats.bucket_response_time = three_digits  # type: ignore[assignment]  # a float, not an int


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def _declare(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("--rate", type=float, default=10.0, help="requests per second and user")
    add("--deadline", type=float, default=0.0, help="seconds; 0: drawn as callers set them")
    add("--slo", default="", help="for example p99=10ms,errors=0.1%%")
    add("--summary", default="", help="a JSON file to write")


@events.test_start.add_listener  # type: ignore[untyped-decorator]
def _prepare(environment: Environment, **_: Any) -> None:
    """Makes the traffic, for the model that the server describes."""
    options = _options(environment)
    try:
        with RankerClient(environment.host or Caller.host, timeout=10.0) as client:
            model = client.get_model()
        Caller.traffic = itertools.cycle(traffic(model, timeout=options.deadline or None))
    except (RankerError, ValueError, OSError) as error:
        logger.error("no traffic for %s: %s", environment.host, error)
        environment.process_exit_code = 2
        if environment.runner is not None:
            environment.runner.quit()


@events.quitting.add_listener  # type: ignore[untyped-decorator]
def _judge(environment: Environment, **_: Any) -> None:
    """Writes the summary and holds the run against its objective."""
    if isinstance(environment.runner, WorkerRunner):
        return  # the master has everyone's numbers
    options, total, late = _options(environment), environment.stats.total, Caller.late or [0.0]

    def milliseconds(percentile: float) -> float:
        return float(total.get_response_time_percentile(percentile / 100))

    missed: list[str] = []
    if options.slo:
        ended = (total.num_requests, total.num_failures)
        missed = Slo.parse(options.slo).misses(*ended, lambda each: milliseconds(each) / 1e3)
    for line in missed:
        logger.error("missed %s", line)
        environment.process_exit_code = 1
    if options.summary:
        stats = environment.stats
        summary = {
            "target": environment.host,
            "seconds": (total.last_request_timestamp or total.start_time) - total.start_time,
            "requests": total.num_requests,
            "failures": total.num_failures,
            "by_method": {each.name: each.num_requests for each in stats.entries.values()},
            "latency_ms": {f"p{each:g}": milliseconds(each) for each in PERCENTILES},
            "late_ms": {f"p{each:g}": 1e3 * np.percentile(late, each) for each in PERCENTILES},
            "errors": [error.serialize() for error in stats.errors.values()],
            "slo": options.slo,
            "missed": missed,
        }
        Path(options.summary).write_text(json.dumps(summary, indent=2) + "\n")


class Caller(User):
    """Asks at random moments, whether or not the earlier answers have come."""

    abstract = True
    host: str = "localhost:50051"
    method: ClassVar[str]
    traffic: ClassVar[Iterator[Request]]
    late: ClassVar[array[float]] = array("d")
    """How long after the moment that was meant this process's requests began, in seconds."""

    def on_start(self) -> None:
        """Connects; every user has a connection of its own."""
        self.client = RankerClient(self.host)
        self.intended = time.perf_counter()
        # Locust may kill a user at any moment; greenlets of their own live to report.
        self.asking = Group()

    def on_stop(self) -> None:
        """Waits for the answers that are due, and closes the connection."""
        self.asking.join()
        self.client.close()

    def wait_time(self) -> float:
        """Seconds until the next request is meant to be sent: arrivals are a Poisson process."""
        self.intended += random.expovariate(_options(self.environment).rate)
        return max(0.0, self.intended - time.perf_counter())

    @task
    def ask(self) -> None:
        """Sends the next request, and does not wait for the answer."""
        self.asking.spawn(self._ask, next(self.traffic), self.intended)

    def send(self, request: Request) -> None:
        """Calls `Rank`, and waits for the answer. Raises RankerError if it failed."""
        self.client.rank(request.rows, top_k=request.top_k, timeout=request.timeout)

    def _ask(self, request: Request, intended: float) -> None:
        """Counts the outcome, and the time since the moment that was meant."""
        error = None
        self.late.append(time.perf_counter() - intended)
        try:
            self.send(request)
        except RankerError as raised:
            error = raised
        took = 1e3 * (time.perf_counter() - intended)
        found: dict[str, Any] = {"request_type": "grpc", "name": self.method, "exception": error}
        found |= {"response_time": took, "response_length": 0, "context": {}}
        self.environment.events.request.fire(**found)


class RankUser(Caller):
    """Makes a call for each request."""

    method = "Rank"


class StreamUser(Caller):
    """Sends over a stream; opens another one if it breaks."""

    method = "RankStream"

    def on_start(self) -> None:
        """Connects and opens the stream."""
        super().on_start()
        self.stream = self.client.stream()

    def on_stop(self) -> None:
        """Waits for the answers that are due, and closes the stream and the connection."""
        self.asking.join()
        self.stream.close()
        super().on_stop()

    def send(self, request: Request) -> None:
        """Sends one message."""
        stream = self.stream
        try:
            stream.submit(request.rows, top_k=request.top_k, timeout=request.timeout).result()
        except UnavailableError:
            if stream is self.stream:  # no other request has found it broken yet
                self.stream = self.client.stream()
                stream.close()
            raise
