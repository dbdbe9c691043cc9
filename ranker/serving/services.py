"""The RPCs of `ranker.v1.RankingService`."""

from __future__ import annotations

from ranker.rpc import Method, Respond
from ranker.serving.descriptions import Descriptions
from ranker.serving.generation import Generation
from ranker.serving.intake import Intake
from ranker.serving.stream import RankStreamHandler
from ranker.serving.unary import RankHandler
from ranker.serving.unserved import Unserved
from ranker.serving.wire import RANK
from ranker.serving.wire_format import WireFormat
from ranker.v1 import ranking_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["RankingService"].full_name


class RankingService:
    """All of the service's methods.

    Args:
        intake: lets candidate lists in.
        wire: how they are written, and what else is done with them; None: `RANK`.
    """

    def __init__(self, intake: Intake, wire: WireFormat | None = None) -> None:
        self._intake = intake
        self._wire = RANK if wire is None else wire
        self._streams = RankStreamHandler(intake, self._wire)
        self._descriptions = Descriptions(intake.generation)
        intake.generation.start()

    def serve(self, generation: Generation | None, unserved: Unserved) -> None:
        """Ranks what comes from now on with the models of another generation, if there is one.

        Args:
            generation: likewise.
            unserved: what to tell of what is wanted and not served.
        """
        if generation is not None:
            self._intake.generation = generation
            self._descriptions = Descriptions(generation)
            generation.start()
        self._descriptions.tell(unserved)

    def methods(self) -> dict[str, Method]:
        """The method table, for a transport."""
        return {
            f"/{SERVICE}/Rank": Method(RankHandler(self._intake, self._wire)),
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
        self._intake.drain()
        self._streams.drain()
