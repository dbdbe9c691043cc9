"""Candidate lists that come one by one: `Rank`, and `ModelInfer`."""

from __future__ import annotations

from ranker.errors import Code, RankerError
from ranker.rpc import Call, Handler
from ranker.serving.intake import Intake
from ranker.serving.task import UnaryTask
from ranker.serving.wire_format import WireFormat


class RankHandler(Handler):
    """Serves a method whose calls bring one list each, within the call's deadline.

    Args:
        intake: lets the lists in.
        wire: how they are written.
    """

    def __init__(self, intake: Intake, wire: WireFormat) -> None:
        self._intake = intake
        self._wire = wire

    def opened(self, call: Call) -> bool:
        """Refuses the list unread if none that came lately would be answered in its time."""
        task = call.tag = UnaryTask(call, call.arrived, call, self._intake.unknown, self._wire)
        return self._intake.check_unread(task)

    def refused(self, call: Call, error: RankerError) -> None:
        """Counts the list that it would have brought as one that is refused unread."""
        task = call.tag = UnaryTask(call, call.arrived, call, self._intake.unknown, self._wire)
        self._intake.refuse(task, error)

    def message(self, call: Call, data: bytes) -> bool:
        """Decodes and queues the list; the answer follows from the dispatcher."""
        self._intake.admit(call.tag, data)
        return True

    def closed(self, call: Call) -> None:
        """Takes the list out of the queue, if its caller has gone before it was scored."""
        task: UnaryTask | None = call.tag
        call.tag = None  # a transport may keep the call for a while, which need not keep the list
        if task is None:  # it has not been opened
            return
        if not task.is_over:
            task.on_caller_gone(call.code)
        if not task.waited or task.explain:  # what explanations wait for says nothing of the queue
            return
        if call.code is Code.OK or call.code is Code.DEADLINE_EXCEEDED:
            self._intake.admission.on_end(in_time=call.code is Code.OK)
