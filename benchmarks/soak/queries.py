"""The lists that the soak's callers ask to have ranked, and XGBoost's own ranking of each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from loadtests.traffic import list_lengths
from ranker.v1 import ranking_pb2 as pb

TREES = {"steady": 500, "rest": 100}
"""The models, by name: callers that behave have one to themselves, so that what the
server counts for it can be held against what they have counted, to the last request."""


class WrongAnswerError(AssertionError):
    """An answer with status OK is not XGBoost's ranking."""


@dataclass(frozen=True)
class Query:
    """Neighbouring rows of the data set, to be ranked.

    Attributes:
        model: which model's scores count.
        start: the first row.
        length: how many rows.
        top_k: how many answers are asked for; 0 for all.
        with_ids: whether candidates have ids.
    """

    model: str
    start: int
    length: int
    top_k: int = 0
    with_ids: bool = False


class Queries:
    """Draws queries, encodes them and checks their answers.

    Args:
        folder: where `benchmarks.soak.models.write` has put them.
    """

    def __init__(self, folder: Path) -> None:
        self._rows = np.load(folder / "rows.npy", mmap_mode="r")
        self._margins = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in TREES}

    def draw(self, dice: np.random.Generator, model: str, length: int | None = None) -> Query:
        """A query of log-normal length, 1 to 2000, unless the length is given."""
        rows = int(list_lengths(dice, 1)[0]) if length is None else length
        start = int(dice.integers(len(self._rows) - rows))
        top_k = int(dice.integers(1, 50)) if dice.random() < 0.3 else 0
        return Query(model, start, rows, top_k, with_ids=bool(dice.random() < 0.2))

    def encode(self, query: Query, request_id: str = "", deadline_ms: int = 0) -> bytes:
        """The query as a RankRequest."""
        rows = self._rows[query.start : query.start + query.length]
        ids = [f"row {query.start + i}" for i in range(query.length)] if query.with_ids else None
        return pb.RankRequest(
            request_id=request_id,
            model=query.model,
            candidates=pb.Matrix(rows=query.length, columns=rows.shape[1], data=rows.tobytes()),
            candidate_ids=ids,
            top_k=query.top_k,
            deadline_ms=deadline_ms,
        ).SerializeToString()

    def check(self, query: Query, response: pb.RankResponse) -> None:
        """Compares an answer with XGBoost's: the order, and the scores bit for bit.

        Raises:
            WrongAnswerError: it differs.
        """
        margins = self._margins[query.model][query.start : query.start + query.length]
        order = np.argsort(-margins, kind="stable")[: query.top_k or None]
        if response.model != query.model:
            raise WrongAnswerError(f"{query}: ranked by {response.model!r}")
        if list(response.indices) != order.tolist():
            raise WrongAnswerError(f"{query}: not XGBoost's order: {response.indices}")
        if np.array(response.scores, np.float32).tobytes() != margins[order].tobytes():
            raise WrongAnswerError(f"{query}: not XGBoost's scores: {response.scores}")
        ids = [f"row {query.start + i}" for i in order] if query.with_ids else []
        if list(response.candidate_ids) != ids:
            raise WrongAnswerError(f"{query}: not the candidates' ids: {response.candidate_ids}")
