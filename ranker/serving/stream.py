"""Many candidate lists over one call, each with its own deadline and status."""

from __future__ import annotations

import time

from ranker.errors import Code, InvalidRequestError, RankerError
from ranker.rpc import Call, Handler
from ranker.serving.intake import DrainingError, Intake
from ranker.serving.task import Asked, StreamTask, UnaryTask
from ranker.serving.wire_format import WireFormat

MAX_WAITING = 64
"""Lists of one stream that may wait for answers; the next stays unread till one has its."""


class RankStreamHandler(Handler):
    """Serves the streams of a method.

    Args:
        intake: lets the lists in.
        wire: how they are written.
        in_order: the answers come in the order of the requests, and not as they are ready.
    """

    def __init__(self, intake: Intake, wire: WireFormat, *, in_order: bool = False) -> None:
        self._intake = intake
        self._wire = wire
        self._kind = OrderedStream if in_order else Stream
        self._open: set[Stream] = set()

    def opened(self, call: Call) -> bool:
        """Takes no new streams while the server drains."""
        self._intake.check_draining()
        stream = call.tag = self._kind(call, self._intake, self._wire)
        self._open.add(stream)
        return True

    def refused(self, call: Call, error: RankerError) -> None:
        """Counts a stream as one list that is refused unread."""
        # The list of a unary call ends its call with it.
        task = UnaryTask(call, call.arrived, call, self._intake.unknown, self._wire)
        self._intake.refuse(task, error)

    def message(self, call: Call, data: bytes) -> bool:
        """Takes one list."""
        stream: Stream = call.tag
        return stream.receive(data)

    def half_closed(self, call: Call) -> None:
        """Ends the call once everything is answered."""
        if call.tag is None:  # a transport may say that a call has opened with its first message
            call.finish()
        else:
            call.tag.end()

    def closed(self, call: Call) -> None:
        """Nobody waits any more for what is unanswered."""
        stream, call.tag = call.tag, None
        if stream is not None:
            self._open.discard(stream)
            stream.on_call_closed()

    def drain(self) -> None:
        """Ends each stream once it has its answers; what comes on it is refused."""
        for stream in list(self._open):
            stream.end()


class Stream:
    """One call, and its lists that wait for their answers. They are matched by their ids."""

    def __init__(self, call: Call, intake: Intake, wire: WireFormat) -> None:
        self._call = call
        self._intake = intake
        self._wire = wire
        self._waiting: dict[object, StreamTask] = {}
        self._held = False  # the transport waits for `resume`
        self._to_refuse: StreamTask | None = None  # its refusal is held back
        self._ending = False  # once everything is answered
        self.method = call.method
        self.metadata = call.metadata

    def peer(self) -> str:
        """The connection that it came on."""
        return self._call.peer()

    def receive(self, data: bytes) -> bool:
        """Takes one list. Returns whether to read the next one."""
        callers = self._intake.callers
        if callers is None:
            self._call.caller = None
        else:
            callers.refusal_of(self._call)  # anew: who may call can have changed
        unknown = self._intake.unknown
        task = StreamTask(self, time.monotonic(), self._call, unknown, self._wire)
        self._expect(task)
        if not self._intake.admit(task, data):
            self._to_refuse = task
        self._call.unanswered = bool(self._waiting)
        self._held = self._to_refuse is not None or len(self._waiting) >= MAX_WAITING
        return not self._held

    def on_read(self, task: StreamTask, asked: Asked) -> None:
        """A list has been decoded: notes who waits for its answer.

        Raises:
            DrainingError: nothing new is let in.
            InvalidRequestError: it has no id of its own.
        """
        task.request_id = asked.request_id
        if asked.deadline_ms:
            task.hurry(asked.deadline_ms / 1e3)
        self._intake.check_draining()
        self._check_id(task)

    def answer(self, task: StreamTask, message: bytes) -> None:
        """Sends a list's answer."""
        self._learn(task, in_time=task.ended <= task.deadline)
        self._reply(task, message)

    def refuse(self, task: StreamTask, error: RankerError) -> None:
        """Sends why a list has no ranking."""
        if task is self._to_refuse:
            self._to_refuse = None
        if error.code is Code.DEADLINE_EXCEEDED:
            self._learn(task, in_time=False)
        self._reply(task, self._wire.write_refusal(task, error))

    def end(self) -> None:
        """Ends the call, once everything is answered."""
        self._ending = True
        if not self._waiting:
            self._close()

    def on_call_closed(self) -> None:
        """Nobody waits any more."""
        for task in list(self._waiting.values()):
            task.on_caller_gone(self._call.code)

    def _expect(self, task: StreamTask) -> None:
        """A list has come, and is not read yet."""

    def _check_id(self, task: StreamTask) -> None:
        """Its id is known now; raises InvalidRequestError if it can't be matched by that."""
        if not task.request_id:
            raise InvalidRequestError("request_id", "a stream's requests need one, got none")
        if task.request_id in self._waiting:
            raise InvalidRequestError(
                "request_id", f"{task.request_id!r} is still waiting for its answer on this stream"
            )
        self._waiting[task.request_id] = task

    def _learn(self, task: StreamTask, *, in_time: bool) -> None:
        """Admission learns how a list's deadline turned out, as it does of unary calls."""
        if task.waited and not task.explain:
            self._intake.admission.on_end(in_time=in_time)

    def _reply(self, task: StreamTask, message: bytes) -> None:
        """Sends what comes of a list."""
        if self._waiting.get(task.request_id) is task:
            del self._waiting[task.request_id]
        self._send(message)

    def _send(self, message: bytes) -> None:
        self._call.unanswered = bool(self._waiting)
        self._call.send(message)
        if self._ending and not self._waiting:
            self._close()
        elif self._held and self._to_refuse is None:
            self._held = False
            self._call.resume()

    def _close(self) -> None:
        if self._intake.draining:
            self._call.fail(DrainingError())
        else:
            self._call.finish()


class OrderedStream(Stream):
    """One call whose answers come in the order of its lists, whatever their ids.

    An answer that is ready too soon is kept until those before it have been sent.
    """

    def __init__(self, call: Call, intake: Intake, wire: WireFormat) -> None:
        super().__init__(call, intake, wire)
        self._ready: dict[StreamTask, bytes] = {}

    def _reply(self, task: StreamTask, message: bytes) -> None:
        """Sends what comes of a list, and what has waited for it."""
        self._ready[task] = message
        while self._waiting:
            first = next(iter(self._waiting.values()))
            if first not in self._ready:
                return
            del self._waiting[first]
            self._send(self._ready.pop(first))

    def _expect(self, task: StreamTask) -> None:
        self._waiting[task] = task

    def _check_id(self, task: StreamTask) -> None:
        """Any will do, and none."""
