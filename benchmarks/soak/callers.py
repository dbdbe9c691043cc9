"""Callers: those that behave, those that leave early, and those that talk nonsense.

A caller is a function that does one thing with the server, once. Each counts how its
requests ended and notes what must not happen: a wrong answer, an unexpected
status, no answer.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np

from benchmarks.closed_loop import RANK, RANK_STREAM
from benchmarks.soak.queries import Queries, Query, WrongAnswerError
from benchmarks.soak.tally import ABANDONED, Tally
from ranker.client import channel as wire
from ranker.v1 import ranking_pb2 as pb

PATIENCE = 60.0
"""Seconds after which a request counts as unanswered."""

TOO_LARGE = bytes(8 * 2**20)
"""More than a server for 64 features takes as one message."""

_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}


@dataclass
class Desk:
    """What a caller works with; one per thread.

    Attributes:
        address: the server's.
        channel: a connection of its own, without retries, so that each request is sent once.
        queries: what to ask.
        tally: where to count.
        dice: random numbers of its own.
    """

    address: str
    queries: Queries
    tally: Tally
    dice: np.random.Generator

    def __post_init__(self) -> None:
        self.channel = self.connect()

    def connect(self) -> Any:  # a grpc.Channel, whose stubs do not let messages be bytes
        """A new connection."""
        options = [*wire.OPTIONS, ("grpc.enable_retries", 0)]
        return grpc.insecure_channel(self.address, options=options)

    def rank(self, message: bytes, timeout: float | None = PATIENCE) -> Any:
        """Starts a `Rank` call."""
        return self.channel.unary_unary(RANK).future(message, timeout=timeout)

    def stream(self, messages: Iterable[bytes], channel: Any = None) -> Any:
        """Starts a `RankStream` call."""
        open_stream = (channel or self.channel).stream_stream(RANK_STREAM)
        return open_stream(iter(messages), timeout=PATIENCE)

    def pause(self, seconds: float) -> None:
        """Sleeps for a random time, at most so long."""
        time.sleep(self.dice.random() * seconds)

    def ended(self, query: Query, call: Any, *allowed: str) -> None:
        """Takes note of how a call with one query ended.

        Args:
            query: what was asked.
            call: is waited for.
            allowed: statuses other than OK that the caller has brought on itself.
        """
        code = call.code().name
        if code == "OK":
            self.check(query, call.result())
        elif code not in allowed:
            self.tally.fail(f"{query}: {code}: {call.details()}")
        elif code in ("CANCELLED", "DEADLINE_EXCEEDED"):  # by either side
            self.tally.add(query.model, ABANDONED)
        else:
            self.tally.add(query.model, code)

    def check(self, query: Query, answer: bytes) -> None:
        """Counts an answer if it is right."""
        try:
            self.queries.check(query, pb.RankResponse.FromString(answer))
        except WrongAnswerError as error:
            self.tally.fail(str(error))
        self.tally.add(query.model, "OK")

    def read(self, call: Any, waiting: dict[str, Query], *allowed: str) -> Iterator[None]:
        """Reads a stream's answers, one at each step, until none of its queries waits."""
        while waiting:
            answer = next(call, None)
            if answer is None:
                self.tally.fail(f"a stream ended with {len(waiting)} requests unanswered")
                return
            response = pb.RankResponse.FromString(answer)
            query = waiting.pop(response.request_id)
            status = _NAMES[response.status.code]
            if status == "OK":
                self.check(query, answer)
            else:
                self.tally.add(query.model, status)
                if status not in allowed:
                    self.tally.fail(f"{query}, on a stream: {status}: {response.status.message}")
            yield


def steady_unary(desk: Desk) -> None:
    """One list, patiently."""
    query = desk.queries.draw(desk.dice, "steady")
    desk.ended(query, desk.rank(desk.queries.encode(query)))


def steady_stream(desk: Desk) -> None:
    """A stream of some lists, sent in bursts or at ease."""
    _whole_stream(desk, "steady", at_ease=bool(desk.dice.random() < 0.5))


def late_stream(desk: Desk) -> None:
    """A stream of lists that have little time each."""
    _whole_stream(desk, "rest", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", deadline=True)


def _whole_stream(
    desk: Desk, model: str, *allowed: str, at_ease: bool = False, deadline: bool = False
) -> None:
    queries = [desk.queries.draw(desk.dice, model) for _ in range(desk.dice.integers(1, 100))]
    limits = desk.dice.integers(1, 20, len(queries)) if deadline else np.zeros(len(queries), int)
    waiting = {str(i): query for i, query in enumerate(queries)}

    def messages() -> Iterator[bytes]:
        for i, (query, limit) in enumerate(zip(queries, limits.tolist(), strict=True)):
            if at_ease:
                time.sleep(0.02)
            yield desk.queries.encode(query, str(i), limit)

    call = desk.stream(messages())
    try:
        for _ in desk.read(call, waiting, *allowed):
            pass
        if next(call, None) is not None:
            desk.tally.fail("a stream gave more answers than it had requests")
    except grpc.RpcError:
        desk.tally.fail(f"a stream: {call.code().name}: {call.details()}")


def cancelling_unary(desk: Desk) -> None:
    """Cancels at any moment."""
    query = desk.queries.draw(desk.dice, "rest")
    call = desk.rank(desk.queries.encode(query), timeout=None)
    desk.pause(0.004)
    call.cancel()
    desk.ended(query, call, "CANCELLED")


def late_unary(desk: Desk) -> None:
    """Has between 0.1 and 30 ms of time."""
    query = desk.queries.draw(desk.dice, "rest")
    timeout = 10 ** desk.dice.uniform(-4, -1.5)
    call = desk.rank(desk.queries.encode(query), timeout)
    desk.ended(query, call, "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED")


def cancelling_stream(desk: Desk) -> None:
    """Reads some of a stream's answers, then cancels it."""
    queries = [desk.queries.draw(desk.dice, "rest") for _ in range(20)]
    waiting = {str(i): query for i, query in enumerate(queries)}
    call = desk.stream(desk.queries.encode(query, str(i)) for i, query in enumerate(queries))
    for _ in itertools.islice(desk.read(call, waiting), int(desk.dice.integers(20))):
        pass
    desk.pause(0.004)
    call.cancel()
    desk.tally.add("rest", ABANDONED, len(waiting))


def unread_stream(desk: Desk) -> None:
    """Asks for 200 long answers and reads none for seconds; then all of them, or never any."""
    queries = [desk.queries.draw(desk.dice, "rest", length=500) for _ in range(200)]
    waiting = {str(i): query for i, query in enumerate(queries)}
    with desk.connect() as channel:
        messages = (desk.queries.encode(query, str(i)) for i, query in enumerate(queries))
        call = desk.stream(messages, channel)
        time.sleep(desk.dice.uniform(1.0, 4.0))
        if desk.dice.random() < 0.5:
            for _ in desk.read(call, waiting):
                pass
        else:
            call.cancel()
            desk.tally.add("rest", ABANDONED, len(waiting))


def broken_messages(desk: Desk) -> None:
    """Bytes that are no message, and messages that are no query of this model's."""
    for message, code in _broken(desk):
        found = desk.rank(message).code().name
        desk.tally.add("rest", found)
        if found != code:
            desk.tally.fail(f"expected {code} for a broken message, got {found}")
    with desk.connect() as channel:
        for method, message, code in (
            ("/ranker.v1.RankingService/Guess", b"", "UNIMPLEMENTED"),
            (RANK, TOO_LARGE, "RESOURCE_EXHAUSTED"),
        ):
            call = channel.unary_unary(method).future(message, timeout=PATIENCE)
            if call.code().name != code:
                desk.tally.fail(f"expected {code} of {method}, got {call.code().name}")


def broken_stream(desk: Desk) -> None:
    """Broken messages among good ones: each gets its own status, and the stream lives on."""
    broken = list(_broken(desk))
    query = desk.queries.draw(desk.dice, "rest")
    messages = [message for message, _ in broken]
    messages.append(desk.queries.encode(query))  # without an id
    expected = sorted([*(code for _, code in broken), "INVALID_ARGUMENT", "OK"])
    messages.insert(int(desk.dice.integers(len(messages))), desk.queries.encode(query, "good"))
    answers = [pb.RankResponse.FromString(answer) for answer in desk.stream(messages)]
    for answer in answers:
        if answer.request_id == "good":
            desk.queries.check(query, answer)
        desk.tally.add("rest", _NAMES[answer.status.code])
    found = sorted(_NAMES[answer.status.code] for answer in answers)
    if found != expected:
        desk.tally.fail(f"a stream with broken messages: expected {expected}, got {found}")


def _broken(desk: Desk) -> Iterator[tuple[bytes, str]]:
    """Messages and the status that each must get."""
    query = Query("rest", start=0, length=int(desk.dice.integers(2, 300)))
    whole = desk.queries.encode(query, "broken")
    yield whole[: int(desk.dice.integers(len(whole)))], "INVALID_ARGUMENT"
    yield b"\xff" + desk.dice.bytes(int(desk.dice.integers(1000))), "INVALID_ARGUMENT"
    for spoil, code in (
        ({"candidates": pb.Matrix(rows=query.length + 1)}, "INVALID_ARGUMENT"),
        ({"candidates": pb.Matrix(columns=63)}, "INVALID_ARGUMENT"),
        ({"candidates": pb.Matrix(rows=2**31)}, "INVALID_ARGUMENT"),
        ({"candidates": pb.Matrix(data=b"x" * 13)}, "INVALID_ARGUMENT"),
        ({"candidates": pb.Matrix(data_type=7)}, "INVALID_ARGUMENT"),  # type: ignore[arg-type]
        ({"feature_names": ["no such feature"]}, "INVALID_ARGUMENT"),
        ({"candidate_ids": ["one"]}, "INVALID_ARGUMENT"),
        ({"top_k": -1}, "INVALID_ARGUMENT"),
        ({"model": "films"}, "NOT_FOUND"),
        ({"model_version": "99"}, "NOT_FOUND"),
    ):
        # Appended to a message, another one is merged into it.
        yield whole + pb.RankRequest(**spoil).SerializeToString(), code


def headers_alone(desk: Desk) -> None:
    """Opens calls, never sends their messages, and leaves in different ways."""
    left = threading.Event()

    def nothing() -> Iterator[bytes]:
        left.wait(PATIENCE)
        yield from ()

    with desk.connect() as channel:
        calls = [
            channel.stream_unary(RANK).future(nothing()),
            channel.stream_stream(RANK_STREAM)(nothing()),
        ]
        desk.pause(3.0)
        if desk.dice.random() < 0.5:
            for call in calls:
                call.cancel()
    left.set()
