"""Callers over their quotas: their refusals are held back, as those over gRPC are.

A list that comes over HTTP is read before a worker refuses it, which costs many times as much as a
refusal over gRPC. So fewer are answered in a second, and while one is held back nothing is read of
its caller, on whichever connections it asks. From then on what has come meanwhile is read one
by one, as long as no other refusal comes of it, and what has waited for too long is refused
unread. Whoever keeps to its quota never waits here.

What is held costs a connection and its request's head, and as much of its body as a connection
reads by itself. How many there can be is `ranker.office.limited_connection.MOST_CONNECTIONS`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from enum import Enum, auto
from typing import Protocol

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ranker.errors import RankerError, UnavailableError
from ranker.office.problem import problem
from ranker.office.workers import REFUSAL, QuotaRefusal
from ranker.refusal_pace import BEFORE_DEADLINE, LONGEST_HELD, RefusalPace

REFUSALS_PER_SECOND = 5.0
"""Of lists of a caller that have been read; further ones are held back."""

REFUSALS_AT_ONCE = 5.0
"""That many are not, after a time without any."""

LONGEST_READING = 0.25
"""Seconds after which what waits does not wait for a list that is being read, and ranked."""

IN_A_ROW = 10
"""After so many requests of a caller that were let in, one more of those that wait is read at a
time: one by one they might come to less than its quota."""

MOST_CALLERS = 1024
"""Callers of which it is known when they were refused; more than there are connections."""

_DRAINING = "the server is draining; ask again, elsewhere"

CONNECTION = "ranker.connection"
"""Where a request's scope has its connection."""


class Why(Enum):
    """Why a request is held no longer."""

    DUE = auto()
    TOO_LATE = auto()
    GONE = auto()
    DRAINING = auto()


Hold = asyncio.Future[Why]


class Holding(Protocol):
    """A connection.

    Attributes:
        hold: ends when its request is held no longer; None: it is not held.
    """

    hold: Hold | None

    def cut_off(self) -> None:
        """Ends it at once."""


class PacedCaller:
    """A caller that is over its quota, or was lately."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._pace = RefusalPace(REFUSALS_PER_SECOND, REFUSALS_AT_ONCE)
        self._closed_until = -math.inf
        self._waiting: dict[Hold, None] = {}  # in the order in which they came
        self._let_in = 0  # in a row
        self._timer: asyncio.TimerHandle | None = None

    @property
    def must_wait(self) -> bool:
        """Whether a request that comes now is not to be read yet."""
        return bool(self._waiting) or self._is_closed

    def wait(self, hold: Hold) -> None:
        """Ends `hold` when its request may be read."""
        self._waiting[hold] = None
        if len(self._waiting) == 1:
            self._release_at(self._closed_until)

    def forget(self, hold: Hold) -> None:
        """It waits no more."""
        self._waiting.pop(hold, None)

    def on_refused(self) -> float:
        """A worker has refused a request; returns the seconds to hold that back."""
        now = self._loop.time()
        wait = self._pace.wait(now)
        self._closed_until = max(self._closed_until, now + wait)
        self._let_in = 0
        return wait

    def on_let_in(self) -> None:
        """A request was not refused."""
        self._let_in += 1

    def on_end(self) -> None:
        """A request has come to an end, or its refusal is held back: another may be read."""
        if self._is_closed:
            self._release_at(self._closed_until)
        else:
            self._release(2 if self._let_in and self._let_in % IN_A_ROW == 0 else 1)

    @property
    def _is_closed(self) -> bool:
        return self._loop.time() < self._closed_until

    def _release(self, number: int = 1) -> None:
        for hold in list(self._waiting)[:number]:
            end(hold, Why.DUE)
            self.forget(hold)
        self._release_at(self._loop.time() + LONGEST_READING)

    def _release_at(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._release) if self._waiting else None


class PacedCallers:
    """Those of the office, by name or connection.

    Args:
        refuse: says why a request is refused that has waited for too long.

    Attributes:
        holds: of the requests that are held now.
    """

    def __init__(self, refuse: Callable[[Scope], Awaitable[RankerError]]) -> None:
        self._refuse = refuse
        self._callers: dict[str, PacedCaller] = {}  # that which was refused last is the last
        self.holds: set[Hold] = set()
        self._draining = False

    def drain(self) -> None:
        """Answers all that is held, and holds nothing from now on. Call it on the loop's thread."""
        self._draining = True
        for hold in self.holds:
            end(hold, Why.DRAINING)

    def application(self, name: str, app: ASGIApp) -> ASGIApp:
        """An application that answers as another one does, as soon as that may be.

        Args:
            name: whose request it is to answer.
            app: the other one.
        """

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            await self._answer(name, app, scope, receive, send)

        return answer

    async def _answer(
        self, name: str, app: ASGIApp, scope: Scope, receive: Receive, send: Send
    ) -> None:
        caller = self._callers.get(name)
        if caller is not None and caller.must_wait:
            why = await self._wait(caller, scope[CONNECTION])
            if why is Why.GONE:
                return
            if why is not Why.DUE:
                draining = why is Why.DRAINING
                error = UnavailableError(_DRAINING) if draining else await self._refuse(scope)
                await problem(scope["path"], error)(scope, receive, send)
                return
        answer: list[Message] = []
        refusal = QuotaRefusal()
        REFUSAL.set(refusal)

        async def send_or_keep(message: Message) -> None:
            if refusal.has_come:
                answer.append(message)
            else:
                await send(message)

        wait = 0.0
        try:
            await app(scope, receive, send_or_keep)
            if refusal.has_come:
                caller = self._refused(name)
                left = refusal.deadline - BEFORE_DEADLINE - asyncio.get_running_loop().time()
                wait = min(caller.on_refused(), left)
            elif caller is not None:
                caller.on_let_in()
        finally:
            if caller is not None:
                caller.on_end()
        # All that the application has held is free now.
        if wait > 0:
            hold: Hold = asyncio.get_running_loop().create_future()
            if await self._hold(scope[CONNECTION], hold, wait, Why.DUE) is Why.GONE:
                return
        for message in answer:
            await send(message)

    def _refused(self, name: str) -> PacedCaller:
        caller = self._callers.pop(name, None) or PacedCaller()
        if len(self._callers) >= MOST_CALLERS:
            del self._callers[next(iter(self._callers))]
        self._callers[name] = caller
        return caller

    async def _wait(self, caller: PacedCaller, connection: Holding) -> Why:
        hold: Hold = asyncio.get_running_loop().create_future()
        caller.wait(hold)
        try:
            return await self._hold(connection, hold, LONGEST_HELD, Why.TOO_LATE)
        finally:
            caller.forget(hold)

    async def _hold(self, connection: Holding, hold: Hold, seconds: float, then: Why) -> Why:
        if self._draining:
            return Why.DRAINING
        timer = asyncio.get_running_loop().call_later(seconds, end, hold, then)
        connection.hold = hold
        self.holds.add(hold)
        try:
            return await hold
        finally:
            timer.cancel()
            self.holds.discard(hold)
            connection.hold = None


def end(hold: Hold, why: Why) -> None:
    """Ends it, unless it has ended."""
    if not hold.done():
        hold.set_result(why)
