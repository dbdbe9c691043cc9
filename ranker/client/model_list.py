"""What a server serves, as a client hands it out."""

from __future__ import annotations

from typing import Self

from ranker.v1 import ranking_pb2


class ModelList(tuple[ranking_pb2.Model, ...]):
    """The models that a server serves, and versions that it should and does not.

    Attributes:
        generation: how often the server's set of models has been replaced, from 1; 0: a server
            that does not tell.
        failure: why what the server's configuration wants can't be served, so that it serves what
            it served before; empty if nothing speaks against it.
    """

    generation: int
    failure: str

    @classmethod
    def from_response(cls, response: ranking_pb2.ListModelsResponse) -> Self:
        """Reads a `ranker.v1.ListModelsResponse`."""
        models = cls(response.models)
        models.generation = response.generation
        models.failure = response.failure
        return models
