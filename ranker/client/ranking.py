"""A ranked candidate list, as a client hands it out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranker.v1 import ranking_pb2


@dataclass(frozen=True)
class Timing:
    """Where the server's time went, in microseconds.

    Attributes:
        queue_us: waiting for a batch.
        scoring_us: being scored, together with the rest of the batch.
        total_us: from the request's arrival to its answer's departure.
    """

    queue_us: int
    scoring_us: int
    total_us: int


@dataclass(frozen=True, eq=False)
class Ranking:
    """The best k of a request's candidates, best first; equal scores keep the request's order.

    Attributes:
        indices: int32 [k]; positions in the request's candidates.
        scores: float32 [k]; the score of each.
        ids: the id of each, k of them; empty if the request sent no ids.
        model: the name of the model that scored.
        version: its version.
        arm: the label that the version was chosen by, of a split or of the request; empty where
            no label was.
        request_id: the request's own.
        timing: where the server's time went.
    """

    indices: NDArray[np.int32]
    scores: NDArray[np.float32]
    ids: tuple[str, ...]
    model: str
    version: str
    arm: str
    request_id: str
    timing: Timing

    @classmethod
    def from_response(cls, response: ranking_pb2.RankResponse) -> Ranking:
        """Reads a successful `ranker.v1.RankResponse`."""
        timing = response.timing
        return cls(
            indices=np.array(response.indices, dtype=np.int32),
            scores=np.array(response.scores, dtype=np.float32),
            ids=tuple(response.candidate_ids),
            model=response.model,
            version=response.model_version,
            arm=response.arm,
            request_id=response.request_id,
            timing=Timing(timing.queue_us, timing.scoring_us, timing.total_us),
        )
