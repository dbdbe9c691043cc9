"""What a transport does when callers take more than there is room for.

It refuses what is new, unread, unless its caller takes little, and ends the calls that have stood
still longest: those whose message does not come, whose answers are not read, and streams on which
nothing happens, or that are not read on since their callers bring much. What waits to be scored is
the queue's to bound.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from typing import Protocol

from ranker.errors import DeadlineError, InvalidRequestError, OverloadedError, RankerError
from ranker.rpc import Guard, Limits, RpcCounts
from ranker.transport.arguments import MAX_METADATA_BYTES

STILL_SECONDS = 1.0
"""A call that has moved within this time is not ended to make room."""

_AT_A_TIME = 64
"""Calls that one turn ends: whether more have to go is seen when these are gone."""

_SWEEP_SECONDS = 1.0
"""Seconds between two looks for messages that do not come."""

_RETRY_AFTER = 1.0


class TooManyCallsError(OverloadedError):
    """As many calls are in progress as there may be."""

    reason = "calls"

    def __init__(self, limit: int) -> None:
        super().__init__(f"the server has {limit} calls in progress, its limit", _RETRY_AFTER)


class ShortOfMemoryError(OverloadedError):
    """Callers hold as much memory as they may."""

    reason = "memory"

    def __init__(self) -> None:
        super().__init__("the server is short of memory", _RETRY_AFTER)


def too_much_metadata() -> InvalidRequestError:
    """A call's metadata is larger than gRPC lets pass."""
    return InvalidRequestError("metadata", f"expected at most {MAX_METADATA_BYTES} bytes")


class StandingCall(Protocol):
    """A call, as far as making room is concerned."""

    moved: float
    """When it last came on, on the `time.monotonic` clock: it came, a message, an answer left."""
    heard: bool
    """Whether a message has come."""
    unsent: int
    """Bytes of answers that its caller has not read."""

    def peer(self) -> str:
        """The connection that it came on."""

    def stands_still(self) -> bool:
        """Whether nobody but its caller has to do something.

        One that brings much is not read on while memory is short, and stands still then.
        """

    def unread_since(self) -> float:
        """Since when the first answer waits that is not read; for calls with any."""

    def awaits_message(self) -> bool:
        """Whether its one message has not come."""

    def evict(self, error: RankerError) -> None:
        """Ends the call and gives up what is unsent."""


class Room:
    """Makes room among a transport's calls.

    Args:
        limits: what callers may take.
        guard: tells when memory is short.
        counts: where to count the calls that are ended.
        calls: those in progress.

    Attributes:
        refusal: why new calls are refused, if they are.
    """

    def __init__(
        self,
        limits: Limits,
        guard: Guard | None,
        counts: RpcCounts,
        calls: Collection[StandingCall],
    ) -> None:
        self.refusal: OverloadedError | None = None
        self._limits = limits
        self._guard = guard
        self._counts = counts
        self._calls = calls
        self._too_many = TooManyCallsError(limits.calls)
        self._sweep_at = 0.0
        self._connections: defaultdict[str, list[StandingCall]] | None = None

    def look(self, now: float, calls: int, unsent: int) -> None:
        """Sees whether there is room, and makes some if there is none; once a turn.

        Args:
            now: the time.
            calls: how many are in progress.
            unsent: the bytes of their answers that have not been read.
        """
        self.refusal = self._connections = None
        if self._guard is not None and self._guard.short:
            self.refusal = ShortOfMemoryError()
            self._end_standing(now, self.refusal)
        elif calls >= self._limits.calls:
            self.refusal = self._too_many
            self._end_standing(now, self._too_many)
        if unsent > self._limits.unsent_bytes:
            self._end_unread(now, unsent)
        if now >= self._sweep_at:
            self._sweep_at = now + _SWEEP_SECONDS
            self._end_late(now)

    def refusal_of(self, call: StandingCall) -> OverloadedError | None:
        """Why a new call is refused where there may be no room for it, if it is.

        That memory is short does not concern a connection that brings little, nor that there are
        too many calls one that has no more of them than its share.
        """
        if self._guard is not None and isinstance(self.refusal, ShortOfMemoryError):
            if not self._guard.brings_little(call.peer()):
                return self.refusal
            if len(self._calls) <= self._limits.calls:
                return None
        if self._connections is None:  # until the next look
            self._connections = defaultdict(list)
            for each in self._calls:
                self._connections[each.peer()].append(each)
            own = self._connections[call.peer()]
        else:
            own = self._connections[call.peer()]
            own.append(call)
        own[:] = [each for each in own if each in self._calls]  # others have ended since
        share = max(self._limits.calls // len(self._connections), 1)
        return self._too_many if len(own) > share else None

    def _end_standing(self, now: float, error: OverloadedError) -> None:
        """Ends the calls that have stood still longest, first those of which no message came."""
        still = [call for call in self._calls if _still(call, now) and call.stands_still()]
        still.sort(key=lambda call: (call.heard, call.moved))
        for call in still[:_AT_A_TIME]:
            self._evict(call, error.reason, error)

    def _end_unread(self, now: float, unsent: int) -> None:
        """Ends the calls whose answers have been unread longest, until there is room.

        That one of them has read an answer, or brings something, is no help: it may do so now and
        then for ever. It is the first unread answer that counts.
        """
        before = now - STILL_SECONDS
        unread = [call for call in self._calls if call.unsent and call.unread_since() < before]
        unread.sort(key=lambda call: call.unread_since())
        for call in unread:
            if unsent <= self._limits.unsent_bytes:
                break
            unsent -= call.unsent
            self._evict(call, "unsent", OverloadedError("answers are not read", _RETRY_AFTER))

    def _end_late(self, now: float) -> None:
        """Ends the calls whose message does not come."""
        seconds = self._limits.message_seconds
        for call in list(self._calls):
            if call.moved < now - seconds and call.awaits_message():
                late = DeadlineError(f"the message was not there within {seconds:g} s")
                self._evict(call, "message", late)

    def _evict(self, call: StandingCall, reason: str, error: RankerError) -> None:
        self._counts.rpc_evicted(reason)
        call.evict(error)


def _still(call: StandingCall, now: float) -> bool:
    return call.moved < now - STILL_SECONDS
