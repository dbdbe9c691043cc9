"""`RankStream`: many candidate lists over one call, each with its own deadline and status."""

from __future__ import annotations

import time

from ranker.errors import InvalidRequestError, RankerError
from ranker.rpc import Call, Handler
from ranker.serving.intake import DrainingError, Intake
from ranker.serving.task import StreamTask
from ranker.serving.wire import write_refusal
from ranker.v1 import ranking_pb2 as pb

MAX_WAITING = 64
"""Lists of one stream that may wait for answers; the next stays unread till one has its."""


class RankStreamHandler(Handler):
    """Serves the streams of a server."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._open: set[Stream] = set()

    def opened(self, call: Call) -> bool:
        """Takes no new streams while the server drains."""
        self._intake.check_draining()
        stream = call.tag = Stream(call, self._intake)
        self._open.add(stream)
        return True

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
    """One call, and its lists that wait for their answers."""

    def __init__(self, call: Call, intake: Intake) -> None:
        self._call = call
        self._intake = intake
        self._waiting: dict[str, StreamTask] = {}
        self._held = False  # the transport waits for `resume`
        self._ending = False  # once everything is answered

    def peer(self) -> str:
        """The connection that it came on."""
        return self._call.peer()

    def receive(self, data: bytes) -> bool:
        """Takes one list. Returns whether to read the next one."""
        task = StreamTask(self, time.monotonic(), self._call, self._intake.unknown)
        self._intake.admit(task, data)
        self._held = len(self._waiting) >= MAX_WAITING
        return not self._held

    def on_read(self, task: StreamTask, request: pb.RankRequest) -> None:
        """A list has been decoded: notes who waits for its answer.

        Raises:
            DrainingError: nothing new is let in.
            InvalidRequestError: it has no id of its own.
        """
        task.request_id = request.request_id
        if request.deadline_ms:
            task.has_deadline = True
            task.deadline = min(task.deadline, task.arrived + request.deadline_ms / 1e3)
        self._intake.check_draining()
        if not task.request_id:
            raise InvalidRequestError("request_id", "a stream's requests need one, got none")
        if task.request_id in self._waiting:
            raise InvalidRequestError(
                "request_id", f"{task.request_id!r} is still waiting for its answer on this stream"
            )
        self._waiting[task.request_id] = task

    def answer(self, task: StreamTask, message: bytes) -> None:
        """Sends a list's answer."""
        if self._waiting.get(task.request_id) is task:
            del self._waiting[task.request_id]
        self._call.send(message)
        if self._ending and not self._waiting:
            self._close()
        elif self._held:
            self._held = False
            self._call.resume()

    def refuse(self, task: StreamTask, error: RankerError) -> None:
        """Sends why a list has no ranking."""
        self.answer(task, write_refusal(task.request_id, error))

    def end(self) -> None:
        """Ends the call, once everything is answered."""
        self._ending = True
        if not self._waiting:
            self._close()

    def on_call_closed(self) -> None:
        """Nobody waits any more."""
        for task in list(self._waiting.values()):
            task.on_caller_gone(self._call.code)

    def _close(self) -> None:
        if self._intake.draining:
            self._call.fail(DrainingError())
        else:
            self._call.finish()
