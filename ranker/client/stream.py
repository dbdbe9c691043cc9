"""Many requests over one call, for threads."""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Self, Unpack

import grpc
from google.rpc import status_pb2

from ranker.client.known_models import KnownModel
from ranker.client.question import Question, Writer, changed
from ranker.client.ranking import Ranking
from ranker.client.request import RankOptions, checked_timeout, with_deadline
from ranker.errors import (
    DeadlineError,
    InternalError,
    InvalidRequestError,
    OverloadedError,
    RankerError,
    UnavailableError,
)
from ranker.frames import Features
from ranker.rpc_error import from_rpc_error
from ranker.status import from_status, to_status
from ranker.v1 import ranking_pb2

CLOSE_GRACE = 1.0
"""Seconds that the server has to end a stream whose requests are all answered."""


def in_use(request_id: str) -> InvalidRequestError:
    """That a request can't have that id, since an answer with it would be taken for its own."""
    return InvalidRequestError(
        "request_id",
        f"a request with the id {request_id!r} on this stream is not answered yet by the server",
    )


def end_of(error: grpc.RpcError) -> RankerError:
    """What the requests in flight of a stream fail with that ended so.

    gRPC ends the whole call with RESOURCE_EXHAUSTED if one of its messages is larger than the
    other side takes. The other requests did nothing wrong, and may be submitted again.
    """
    end = from_rpc_error(error)
    if isinstance(end, OverloadedError) and not end.says_when:
        return UnavailableError(f"the stream was ended, for one of its messages: {end.message}")
    return end


@dataclass(eq=False)
class _InFlight:
    """A request whose caller waits for its ranking, and until when."""

    question: Question
    message: bytes
    known: KnownModel | None
    deadline: float
    request_id: str = ""
    made_up_id: str = ""  # the same, if its caller has given none
    is_answered: bool = False  # but the client may have to ask for the model before it counts
    future: Future[Ranking] = field(default_factory=Future)


class RankStream:
    """Ranks many lists over one call; answers come as they finish, in any order.

        with client.stream() as stream:
            futures = [stream.submit(features, top_k=10) for features in lists]
            rankings = [future.result() for future in futures]

    A stream's requests all go to one server process. An error belongs to its
    request and leaves the stream as it is, but for one: a request that is larger
    than the server's limit for messages breaks the stream. If the stream itself
    breaks, every request in flight fails with what broke it, and so does every
    later `submit`: a stream doesn't reopen. `RankerClient.stream` opens another
    one; the failed requests may be submitted to it again, since ranking changes
    nothing on the server, but not the one that was too large: use `rank` for what
    may be. Likewise a request whose answer came from a version of
    the model for which it would have been written otherwise: `UnavailableError`.

    Thread-safe. A future's callbacks run on the stream's own threads; they must
    not block, and so must not submit.
    """

    def __init__(
        self,
        method: grpc.StreamStreamMultiCallable[bytes, ranking_pb2.RankResponse],
        writer: Writer,
        timeout: float,
        max_in_flight: int,
    ) -> None:
        """Opens the stream; `RankerClient.stream` calls this.

        Args:
            method: `RankStream` of a channel.
            writer: writes the requests.
            timeout: the seconds that a request may take, unless it says otherwise.
            max_in_flight: how many requests may wait for their results; one
                more waits in `submit`.
        """
        self._writer = writer
        self._timeout = timeout
        self._max_in_flight = max_in_flight
        # Without those that somebody else has given to a request that is not answered.
        self._made_up_ids = filter(self._is_free, map(str, itertools.count(1)))
        # One lock, and a condition for each of those who wait: submitters for
        # space, gRPC's sending thread for work, the timekeeper for a deadline
        # sooner than the one it sleeps towards, and close() for the last answer.
        self._lock = threading.Lock()
        self._space = threading.Condition(self._lock)
        self._work = threading.Condition(self._lock)
        self._sooner = threading.Condition(self._lock)
        self._idle = threading.Condition(self._lock)
        self._next_deadline = math.inf
        self._in_flight: dict[str, _InFlight] = {}
        self._unsent: OrderedDict[str, _InFlight] = OrderedDict()
        self._given_up: set[str] = set()  # ids whose answers nobody waits for, and which may come
        self._closing = False
        self._end: status_pb2.Status | None = None

        # Asks for models that have answered and are not known: the reader has others' answers.
        # It begins a thread when there is the first of them.
        self._asker = ThreadPoolExecutor(1, thread_name_prefix="rank-stream-model")
        self._call = method(self._requests())
        self._reader = threading.Thread(target=self._read, name="rank-stream", daemon=True)
        self._timekeeper = threading.Thread(
            target=self._keep_time, name="rank-stream-time", daemon=True
        )
        self._reader.start()
        self._timekeeper.start()

    def submit(
        self, features: Features, *, timeout: float | None = None, **options: Unpack[RankOptions]
    ) -> Future[Ranking]:
        """Sends a request; waits while `max_in_flight` others have no result.

        Args:
            features: as for `RankerClient.rank`. Leave a data frame as it is until its ranking
                is there: if another version answers, it is written once more.
            timeout: the seconds until the answer, waiting here included; None
                for the client's own. The future is done by then, whatever happens.
            **options: see `RankOptions`.

        Returns:
            The ranking to be. It can't be cancelled.

        Raises:
            DeadlineError: `max_in_flight` others had no result all the time.
            InvalidRequestError: the request can't be sent, or does not suit the model.
            RankerError: the stream is broken; says what broke it. Or the server
                does not say what the model is, for which a data frame is written.
        """
        seconds = checked_timeout(self._timeout if timeout is None else timeout)
        deadline = time.monotonic() + seconds
        given_id = options.get("request_id")
        question = Question(features, options)
        entry = _InFlight(question, *self._writer.write(question, deadline), deadline)
        entry.future.set_running_or_notify_cancel()
        with self._lock:
            if not self._space.wait_for(self._may_submit, deadline - time.monotonic()):
                raise DeadlineError(
                    f"{self._max_in_flight} requests were in flight for {seconds:g} s"
                )
            if self._closing:
                raise UnavailableError("the stream is closed")
            if self._end is not None:
                raise from_status(self._end)
            if given_id and not self._is_free(given_id):
                self._space.notify()  # it does not take the space that it waited for
                raise in_use(given_id)
            entry.made_up_id = "" if given_id else next(self._made_up_ids)
            entry.request_id = given_id or entry.made_up_id
            self._in_flight[entry.request_id] = self._unsent[entry.request_id] = entry
            self._work.notify()
            if deadline < self._next_deadline:
                self._sooner.notify()
        return entry.future

    def close(self) -> None:
        """Waits for the requests in flight, each within its own deadline, and ends the stream."""
        with self._lock:
            self._closing = True
            self._work.notify()
            self._space.notify_all()
            self._idle.wait_for(lambda: not self._in_flight)
        self._reader.join(CLOSE_GRACE)
        self._call.cancel()  # type: ignore[no-untyped-call]
        self._reader.join()
        self._timekeeper.join()
        self._asker.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _is_free(self, request_id: str) -> bool:
        return request_id not in self._in_flight and request_id not in self._given_up

    def _may_submit(self) -> bool:
        return len(self._in_flight) < self._max_in_flight or self._closing or self._end is not None

    def _requests(self) -> Iterator[bytes]:
        """What gRPC sends; runs on a thread of its own, which flow control may hold up."""
        while True:
            with self._lock:
                self._work.wait_for(lambda: self._unsent or self._closing or self._end is not None)
                if not self._unsent:
                    return
                _, entry = self._unsent.popitem(last=False)
            left = entry.deadline - time.monotonic()
            yield with_deadline(entry.message, left, entry.made_up_id)

    def _read(self) -> None:
        """Hands out the answers until the stream ends."""
        try:
            for response in self._call:
                entry = self._answered(response.request_id)
                if entry is None:
                    continue
                if self._must_ask(entry, response):
                    self._asker.submit(self._answer, entry, response)
                else:
                    self._answer(entry, response)
            end: RankerError = UnavailableError("the server ended the stream")
        except grpc.RpcError as error:
            end = end_of(error)
        except Exception as error:  # whatever it is: others wait for this thread
            end = InternalError(f"an answer can't be read: {error!r}")
        with self._lock:
            self._end = to_status(end)
            unanswered = [each for each in self._in_flight.values() if not each.is_answered]
            self._work.notify()
            self._sooner.notify()
            self._space.notify_all()
        self._fail(unanswered, end)

    def _must_ask(self, entry: _InFlight, response: ranking_pb2.RankResponse) -> bool:
        """Whether it takes a call to the server to know if an answer counts."""
        return not response.status.code and self._writer.asks(
            entry.known, response.model, response.model_version
        )

    def _answer(self, entry: _InFlight, response: ranking_pb2.RankResponse) -> None:
        """Hands out an answer, unless the deadline passes first."""
        try:
            ranking = self._ranking(entry, response)
        except RankerError as error:
            self._fail([entry], error)
        except Exception as error:  # a bug; this thread serves other requests, too
            self._fail([entry], InternalError(f"the answer can't be read: {error!r}"))
        else:
            if self._take(entry):
                entry.future.set_result(ranking)

    def _ranking(self, entry: _InFlight, response: ranking_pb2.RankResponse) -> Ranking:
        if response.status.code:
            raise from_status(response.status)
        ranking = Ranking.from_response(response)
        other = self._writer.other(entry.question, entry.known, ranking, entry.deadline)
        if other is not None:
            raise changed(entry.known, ranking)
        return ranking

    def _keep_time(self) -> None:
        """Fails the requests whose deadlines pass, however silent the server is."""
        while True:
            with self._lock:
                if self._end is not None and not self._in_flight:
                    return
                now = time.monotonic()
                late = [entry for entry in self._in_flight.values() if entry.deadline <= now]
                if not late:
                    self._next_deadline = min(
                        (entry.deadline for entry in self._in_flight.values()), default=math.inf
                    )
                    left = self._next_deadline - now
                    self._sooner.wait(None if math.isinf(left) else left)
                    continue
            for entry in late:
                what = "server described the model" if entry.is_answered else "answer came"
                self._fail([entry], DeadlineError(f"the deadline passed before the {what}"))

    def _answered(self, request_id: str) -> _InFlight | None:
        """Whose answer has come; None: its deadline passed first, or it has one already."""
        with self._lock:
            self._given_up.discard(request_id)
            entry = self._in_flight.get(request_id)
            if entry is None or entry.is_answered:
                return None
            entry.is_answered = True
            return entry

    def _take(self, entry: _InFlight) -> bool:
        """Takes a request out of those in flight; whether it was still there.

        If not, its id may be another request's by now.
        """
        with self._lock:
            request_id = entry.request_id
            if self._in_flight.get(request_id) is not entry:
                return False
            del self._in_flight[request_id]
            unsent = self._unsent.pop(request_id, None)
            if unsent is None and not entry.is_answered:
                self._given_up.add(request_id)
            self._space.notify()
            if not self._in_flight:
                self._idle.notify_all()
                self._sooner.notify()
            return True

    def _fail(self, entries: list[_InFlight], error: RankerError) -> None:
        for entry in entries:
            if self._take(entry):
                # Its own copy each: a raised exception collects its raiser's traceback.
                entry.future.set_exception(from_status(to_status(error)))
