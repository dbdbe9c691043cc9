"""What calls on grpcio's core and their loop share. See `ranker.transport.core`."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from ranker.rpc import Guard, Numbers
from ranker.transport.core_reads import StreamReads

if TYPE_CHECKING:
    from ranker.transport.core_call import StreamCall


class Loop:
    """What the calls tell the loop, and the loop the calls.

    Attributes:
        calls: those in progress, in the order of their coming.
        in_flight: one number, the RPCs that have come and not ended.
        answers_on_their_way: RPCs that are ended, and not sent yet.
        heard: something happened in this turn that the server's own turn should see.
        messages: sent on streams so far.
        refusals: requests that were refused for overload in this turn.
        unwatched: calls in the order in which their messages came. Most are answered soon,
            by a batch that reports the RPC's end, and are skipped; for those
            that are not, it has to be asked for.
        unsent: the bytes of answers that have not left.
        now: when this turn began.
        reads: says when a stream's next message is read.
        monotonic_less_wall: seconds from the one clock to the other, as of then.
        steps: see `ranker.rpc.Transport.steps`.
    """

    __slots__ = (
        "answers_on_their_way",
        "calls",
        "heard",
        "in_flight",
        "messages",
        "monotonic_less_wall",
        "now",
        "reads",
        "refusals",
        "steps",
        "unsent",
        "unwatched",
    )

    def __init__(self, in_flight: Numbers, guard: Guard | None) -> None:
        self.calls: dict[StreamCall, None] = {}
        self.in_flight = in_flight
        self.answers_on_their_way = 0
        self.heard = False
        self.messages = 0
        self.reads = StreamReads(guard)
        self.refusals = 0
        self.unsent = 0
        self.now = 0.0
        self.steps = 0
        self.unwatched: deque[StreamCall] = deque()
        self.monotonic_less_wall = 0.0
