"""The RPCs of `ranker.v1.RankingService`."""

from __future__ import annotations

from collections.abc import Sequence

from ranker.errors import Code, OverloadedError
from ranker.rpc import Call, Handler, Method, Respond
from ranker.serving.descriptions import Descriptions
from ranker.serving.generation import Generation
from ranker.serving.intake import Intake
from ranker.serving.stream import RankStreamHandler
from ranker.serving.task import UnaryTask
from ranker.v1 import ranking_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["RankingService"].full_name


class RankingService:
    """All of the service's methods.

    Args:
        intake: lets candidate lists in.
    """

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._streams = RankStreamHandler(intake)
        self._descriptions = Descriptions(intake.generation)
        intake.generation.start()

    def serve(self, generation: Generation | None, others: Sequence[pb.Model]) -> None:
        """Ranks what comes from now on with the models of another generation, if there is one.

        Args:
            generation: likewise.
            others: what to tell of versions that are wanted and not served.
        """
        if generation is not None:
            self._intake.generation = generation
            self._descriptions = Descriptions(generation)
            generation.start()
        self._descriptions.tell_others(others)

    def methods(self) -> dict[str, Method]:
        """The method table, for a transport."""
        return {
            f"/{SERVICE}/Rank": Method(RankHandler(self._intake)),
            f"/{SERVICE}/RankStream": Method(
                self._streams, request_streaming=True, response_streaming=True
            ),
            f"/{SERVICE}/GetModel": Method(
                Respond(lambda data: self._descriptions.get_model(data))
            ),
            f"/{SERVICE}/ListModels": Method(
                Respond(lambda data: self._descriptions.list_models(data))
            ),
        }

    def drain(self) -> None:
        """Refuses new requests, and ends streams once they have their answers."""
        self._intake.draining = True
        self._streams.drain()


class RankHandler(Handler):
    """`Rank`: one candidate list, within the call's deadline."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    def opened(self, call: Call) -> bool:
        """Refuses the list unread if none that came lately would be answered in its time."""
        task = call.tag = UnaryTask(call, call.arrived, call, self._intake.unknown)
        return self._intake.check_unread(task)

    def refused(self, call: Call, error: OverloadedError) -> None:
        """Counts a list that the transport has no room for as one that is refused unread."""
        task = call.tag = UnaryTask(call, call.arrived, call, self._intake.unknown)
        self._intake.refuse(task, error)

    def message(self, call: Call, data: bytes) -> bool:
        """Decodes and queues the list; the answer follows from the dispatcher."""
        self._intake.admit(call.tag, data)
        return True

    def closed(self, call: Call) -> None:
        """Takes the list out of the queue, if its caller has gone before it was scored."""
        task: UnaryTask | None = call.tag
        if task is None:  # it has not been opened
            return
        if not task.is_over:
            task.on_caller_gone(call.code)
        if task.waited and (call.code is Code.OK or call.code is Code.DEADLINE_EXCEEDED):
            self._intake.admission.on_end(in_time=call.code is Code.OK)
