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
class Explanation:
    """Why a candidate has its score: what each feature adds to it, as XGBoost's `pred_contribs`.

    The bias and the contributions add up to the margin: the score, or, of a model whose output is
    a probability, the log-odds of that.

    Attributes:
        bias: what the score is before anything is known of the candidate; the same for all.
        contributions: float32 [F]; one for each of the model's features, in its own order.
        feature_names: of these, F of them; empty if the model has no names.
    """

    bias: float
    contributions: NDArray[np.float32]
    feature_names: tuple[str, ...]

    def strongest(self, most: int) -> dict[str, float]:
        """The features that moved the candidate most, up or down, the strongest first.

        Args:
            most: how many at most. A feature that adds nothing is left out.

        Returns:
            Contributions by name; a feature without a name is `f` and its position.
        """
        order = np.argsort(-np.abs(self.contributions), kind="stable")[:most].tolist()
        names = self.feature_names or [f"f{index}" for index in range(len(self.contributions))]
        return {
            names[index]: float(self.contributions[index])
            for index in order
            if self.contributions[index]
        }


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
        explanations: of the first of these, as many as were asked for.
    """

    indices: NDArray[np.int32]
    scores: NDArray[np.float32]
    ids: tuple[str, ...]
    model: str
    version: str
    arm: str
    request_id: str
    timing: Timing
    explanations: tuple[Explanation, ...] = ()

    @classmethod
    def from_response(cls, response: ranking_pb2.RankResponse) -> Ranking:
        """Reads a successful `ranker.v1.RankResponse`."""
        timing = response.timing
        names = tuple(response.explained_feature_names)
        return cls(
            indices=np.array(response.indices, dtype=np.int32),
            scores=np.array(response.scores, dtype=np.float32),
            ids=tuple(response.candidate_ids),
            model=response.model,
            version=response.model_version,
            arm=response.arm,
            request_id=response.request_id,
            timing=Timing(timing.queue_us, timing.scoring_us, timing.total_us),
            explanations=tuple(
                Explanation(each.bias, np.array(each.contributions, np.float32), names)
                for each in response.explanations
            ),
        )
