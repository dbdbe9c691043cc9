"""Watches what callers do to a worker, and closes the connections of those who do too much.

Two things only the process as a whole can see. How much memory it holds: gRPC holds most of what
arrives, and tells nobody. And whether its loop stands still: gRPC reads a connection for as long
as something comes, and hands over nothing meanwhile if what comes is no call.

Whoever does one or the other seldom comes alone, nor once. So after each such incident the guard
is on the alert for some seconds, and closes any connection that sends much and does not wait for
answers. A caller who is wronged by that meets a closed connection, which may be retried.

It has a thread of its own, since the loop's is what it watches.
"""

from __future__ import annotations

import gc
import logging
import math
import threading
import time
from collections import Counter
from typing import Protocol

from ranker.process.arrivals import Arrivals
from ranker.process.heap import return_free_memory
from ranker.process.memory_budget import MemoryBudget
from ranker.process.memory_held import held
from ranker.rpc import Peer, RpcCounts, Transport
from ranker.transport.connections import GONE, Connection, connections, peer_of

logger = logging.getLogger(__name__)

_TICK = 0.02
"""Seconds between two looks."""

_ALERT_TICK = 0.005
_ALERT_SHARE = 0.2
"""And while on the alert, unless looking takes a larger share of the time than that."""

_ALERT_SECONDS = 10.0

_STANDSTILL_SECONDS = 0.15
"""How long gRPC may read one connection on end: long enough for a hundred megabytes of messages."""

_ALERT_STANDSTILL = {True: 0.03, False: 0.01}
"""And while on the alert: a connection that has been answered, and one that has not."""

_BUSY_SHARE = 0.1
"""A thread that has had so much of the time between two looks does something."""

_MUCH = 32 * 2**10
"""Bytes by which a connection may hold others up."""

_SOME = 8 * 2**10
"""And from which on it is not let go on without an answer, on the alert."""

_HARDLY_ANYTHING = 1000
"""Bytes that a caller gets without an answer to any call: settings, and room to send more."""

_UNCONTROLLED = 4 * 2**20
"""Bytes beyond which a caller that has hardly got anything sends no messages, but for one of each
of its calls: gRPC makes room for a whole message at once, and for more of them 13 bytes at a time.
Of these messages each connection that has calls may send its share of what `_LITTLE` says.
"""

_HARD_AT_WORK = 0.5
"""A process that has had so much of the time between two looks reads much, or answers much."""

_LITTLE_SHARE = 100
"""A caller that has sent so many times what it got has not been given up to for long."""

_UNANSWERED_SECONDS = 0.025
"""And for how long it may."""

_ALL_AT_ONCE = 3.0
"""One look closes this part of the costly connections, times the part of the memory between the
second mark and the end that is used: all of them, once a third is.
"""

_COMPARE_FROM = 0.375
_COMPARE_SECONDS = 10.0
_COMPARE_SHARE = 0.1
"""Who brings what is compared when callers hold more than this share of their memory, and for some
seconds after; less often if that takes a larger share of the time than the last of these."""

_LITTLE = 0.125
"""The share of the callers' memory that those who bring little may bring in a second: what lies
between the two marks, so that they are let in even above the first."""

_TRIM_SECONDS = 1.0
"""Seconds between two attempts to give free memory back while memory seems short."""

_REST_SECONDS = 3.0
_REST_BYTES = 72 * 2**20
"""Seconds between two such attempts otherwise, if so much more is held than at rest."""

_IDLE_SECONDS = 10.0
_IDLE_SHARE = 0.05
"""A worker that has had a smaller share of a core for so long is idle; the guard itself and a loop
that waits take 0.01. Free memory is worth something only to the next request (`heap`)."""

_LOG_SECONDS = 1.0
"""Seconds between two lines in the log: a flood of connections shall not become one of lines."""

_TIDY_SECONDS = 1.0
"""After which models that were replaced are let go: their last lists have been answered by then."""

_NOTABLE = 2**20
"""Bytes by which what is held has to change until it counts."""


class Counts(RpcCounts, Protocol):
    """Where the guard counts."""

    def memory_limited(self, limit: int) -> None:
        """The bytes of resident memory from which on connections are closed."""


class FloodGuard:
    """Watches a worker; see `ranker.rpc.Guard`.

    Args:
        budget: its memory, with the models that it has now.
        counts: where to count the connections that are closed.
        max_message_bytes: how long a request's message may be.
        greeting_bytes: what every caller gets before any answer, beside settings: the handshake
            of TLS.

    Attributes:
        short: whether memory is short.
        bytes_left: how many more bytes callers may bring until memory is short; `inf`: they hold
            little, or it is not known yet who brings what.
        short_since: since when, on the `time.monotonic` clock; `inf`: it is not.
    """

    def __init__(
        self,
        budget: MemoryBudget,
        counts: Counts,
        max_message_bytes: int,
        greeting_bytes: int = 0,
    ) -> None:
        self.short = False
        self.bytes_left = math.inf
        self.short_since = math.inf
        self._first = self._budget = budget
        self._shared = held().shared
        self._more_own = self._more = 0
        self._tidy_at = math.inf
        self._counts = counts
        counts.memory_limited(budget.overfull)
        self._max_message_bytes = max_message_bytes
        self._hardly_anything = _HARDLY_ANYTHING + greeting_bytes
        self._transport: Transport
        self._port = 0
        self._loop_clock = 0
        self._steps = -1
        self._still_since = 0.0
        self._burnt = 0.0
        self._looked = 0.0
        self._process_burnt = self._process_looked = 0.0
        self._arrivals = Arrivals()
        self._compare_until = self._compare_at = 0.0
        self._alert_until = 0.0
        self._unanswered: dict[Peer, float] = {}  # since when
        self._trim_at = 0.0
        self._idle_resident = 0
        self._idle_burnt = 0.0
        self._idle_at = 0.0
        self._log_at = 0.0
        self._unlogged = 0

    def start(self, transport: Transport, port: int) -> None:
        """Begins to watch; call it on the loop's thread.

        Args:
            transport: what serves the callers.
            port: what they connect to.
        """
        self._transport = transport
        self._port = port
        self._loop_clock = time.pthread_getcpuclockid(threading.get_ident())
        self._idle_burnt = time.process_time()
        self._idle_at = time.monotonic() + _IDLE_SECONDS
        threading.Thread(target=self._watch, name="guard", daemon=True).start()

    def models_changed(self, more: int) -> None:
        """The worker has other models; any thread may call it.

        Args:
            more: how many more bytes they hold than the first ones, beside shared memory.
        """
        self._more_own = more
        self._tidy_at = time.monotonic() + _TIDY_SECONDS

    def close(self, peer: Peer) -> None:
        """Closes a connection for what it has in its headers; any thread may call it."""
        for each in connections(self._port):
            if each.peer == peer:
                self._close(each, "headers", "its headers are larger than may be")
        self._alert_until = time.monotonic() + _ALERT_SECONDS

    def brings_little(self, peer: str) -> bool:
        """See `ranker.rpc.Guard`; any thread may call it."""
        return peer_of(peer) in self._arrivals.modest

    def _watch(self) -> None:
        pause = _TICK
        while True:
            time.sleep(pause)
            began = time.monotonic()
            try:
                self._look(began)
            except Exception:
                logger.exception("the guard failed; it goes on")
            now = time.monotonic()
            alert = now < self._alert_until
            pause = max(_ALERT_TICK, (now - began) / _ALERT_SHARE) if alert else _TICK

    def _look(self, now: float) -> None:
        if now >= self._tidy_at:
            self._tidy_at = math.inf
            gc.collect()  # they refer to themselves, and an idle worker does not collect by itself
            return_free_memory()
        if now >= self._idle_at:
            self._look_for_rest(now)
        overfull = self._look_at_memory(now)
        still = self._seconds_of_standstill(now)
        alert = now < self._alert_until
        unwatched = self._reads_unwatched(now)
        comparing = now < self._compare_until
        at_leisure = (comparing or unwatched) and now >= self._compare_at
        if not (overfull or still or alert or at_leisure):
            self._unanswered.clear()
            if not comparing:
                self._arrivals.forget()
            return
        found = []
        for each in connections(self._port):
            if each.peer == GONE:
                each.close()  # else gRPC reads on
            else:
                found.append(each)
        if alert:
            self._close_unanswered(found, now)
        elif unwatched:
            self._close_uncontrolled(found, plenty=not comparing)
        if overfull:
            self._make_room(found, overfull)
        if still:
            self._end_standstill(found, still, alert=alert)
        self._arrivals.look(found, now, _LITTLE * self._budget.callers)
        self._compare_at = now + (time.monotonic() - now) / _COMPARE_SHARE

    def _look_at_memory(self, now: float) -> float:
        """Sees whether memory is short; returns how far it is from the second mark to the end.

        Up to the mark that is 0, and 1 when callers have taken all that is theirs.
        """
        resident, shared = held()
        more = self._more_own + shared - self._shared
        if abs(more - self._more) >= _NOTABLE:
            self._more = more
            self._budget = self._first.with_models(more)
            self._counts.memory_limited(self._budget.overfull)
        budget = self._budget
        full = resident > budget.full
        if now >= self._trim_at and (full or resident > budget.at_rest + _REST_BYTES):
            gc.collect()  # calls on `aio` refer to themselves
            return_free_memory()
            self._trim_at = time.monotonic() + (_TRIM_SECONDS if full else _REST_SECONDS)
            resident = held().resident
        if resident > budget.at_rest + _COMPARE_FROM * budget.callers:
            self._compare_until = now + _COMPARE_SECONDS
        comparing = now < self._compare_until and self._arrivals.compared
        self.bytes_left = max(0.0, budget.full - resident) if comparing else math.inf
        self.short = resident > budget.full
        self.short_since = min(self.short_since, now) if self.short else math.inf
        return max(0.0, (resident - budget.overfull) / (budget.most_held - budget.overfull))

    def _make_room(self, found: list[Connection], overfull: float) -> None:
        """Closes connections that have sent most for what they got in return.

        One at a time at first, and the less is left, the more of them, and those that got more.
        """
        share = _LITTLE_SHARE * max(0.0, 1.0 - overfull)
        costly = [each for each in found if each.received >= max(_MUCH, share * each.sent)]
        costly.sort(key=lambda each: each.received / (each.sent + 1), reverse=True)
        for each in costly[: math.ceil(_ALL_AT_ONCE * overfull * len(costly))]:
            self._incident(each, "memory", "the worker holds too much memory")

    def _look_for_rest(self, now: float) -> None:
        """Gives free memory back when the worker is idle, if it has become more since."""
        burnt, resident = time.process_time(), held().resident
        idle = burnt - self._idle_burnt < _IDLE_SHARE * _IDLE_SECONDS
        if idle and resident >= self._idle_resident + _NOTABLE:
            return_free_memory()
            resident = held().resident
            self._idle_resident = resident
        self._idle_resident = min(self._idle_resident, resident)
        self._idle_burnt, self._idle_at = burnt, now + _IDLE_SECONDS

    def _reads_unwatched(self, now: float) -> bool:
        """Whether gRPC may be busy reading on threads of its own, where no standstill is seen."""
        burnt = time.process_time()
        hard = burnt - self._process_burnt > _HARD_AT_WORK * (now - self._process_looked)
        self._process_burnt, self._process_looked = burnt, now
        return hard and not self._transport.steps

    def _seconds_of_standstill(self, now: float) -> float:
        """For how long the loop has been busy within gRPC at the same step."""
        steps = self._transport.steps
        burnt = time.clock_gettime(self._loop_clock)
        busy = burnt - self._burnt > _BUSY_SHARE * (now - self._looked)
        if steps % 2 == 0 or steps != self._steps or not busy:
            self._still_since = now
        self._steps, self._burnt, self._looked = steps, burnt, now
        return now - self._still_since

    def _end_standstill(self, found: list[Connection], seconds: float, *, alert: bool) -> None:
        """Closes the connection that gRPC has read since the last look, if that is the cause."""
        if self._looked - self._arrivals.looked > seconds:
            return  # what was read since then may have come before
        brought = {each: self._arrivals.since(each) or 0 for each in found}
        worst = max(brought, key=lambda each: brought[each], default=None)
        if worst is None or brought[worst] < _MUCH or self._transport.steps != self._steps:
            return
        answered = worst.sent >= self._hardly_anything
        if seconds >= (_ALERT_STANDSTILL[answered] if alert else _STANDSTILL_SECONDS):
            self._incident(worst, "standstill", "what it sends holds all others up")

    def _close_unanswered(self, found: list[Connection], now: float) -> None:
        """Closes the connections that have sent much for some time and got hardly anything."""
        since = self._unanswered
        self._unanswered = {
            each.peer: since.get(each.peer, now)
            for each in found
            if each.received + each.unread >= _SOME and each.sent < self._hardly_anything
        }
        for each in found:
            if now - self._unanswered.get(each.peer, now) >= _UNANSWERED_SECONDS:
                self._incident(each, "unanswered", "it sends on without an answer")

    def _close_uncontrolled(self, found: list[Connection], *, plenty: bool) -> None:
        """Closes the connections that have sent what no window bounds, and much of it.

        Where there is plenty of memory it may be messages, one of each of their calls.
        """
        much = [
            each
            for each in found
            if each.received >= _UNCONTROLLED and each.sent < self._hardly_anything
        ]
        calls = Counter(map(peer_of, self._transport.peers())) if much else Counter()
        share = _LITTLE * self._budget.callers / max(1, len(calls))
        for each in much:
            messages = min(share, calls[each.peer] * self._max_message_bytes)
            if each.received >= _UNCONTROLLED + plenty * messages:
                self._incident(each, "unanswered", "it sends on without an answer")

    def _incident(self, connection: Connection, reason: str, why: str) -> None:
        self._alert_until = time.monotonic() + _ALERT_SECONDS
        self._close(connection, reason, why)

    def _close(self, connection: Connection, reason: str, why: str) -> None:
        connection.close()
        self._counts.connection_closed(reason)
        now = time.monotonic()
        if now < self._log_at:
            self._unlogged += 1
            return
        others = f", as {self._unlogged} before" if self._unlogged else ""
        self._log_at, self._unlogged = now + _LOG_SECONDS, 0
        host, port = connection.peer
        text = "closed the connection of %s, port %d, which has sent %d bytes%s: %s"
        logger.warning(text, host, port, connection.received, others, why)
