"""Lists to be ranked: encoded once, sent many times, and held against XGBoost's own ranking."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ranker.client.request import rank_request
from ranker.inference import open_inference_pb2 as infer_pb
from ranker.v1 import ranking_pb2 as pb

Rows = NDArray[np.float32]


class WrongAnswerError(AssertionError):
    """An answer with status OK is not XGBoost's ranking."""


@dataclass(frozen=True, eq=False)
class Request:
    """One list.

    Attributes:
        rows: float32 [candidates, features], in the model's order.
        timeout: seconds that the caller waits; None is for ever.
        top_k: how many of the best are asked for; 0 is all.
        scores: XGBoost's own margins, float32 [candidates]; None where nobody knows them.
        model: its name; empty for the server's default.
        ids: of the candidates.
    """

    rows: Rows
    timeout: float | None = None
    top_k: int = 0
    scores: Rows | None = None
    model: str = ""
    ids: tuple[str, ...] = ()

    @cached_property
    def message(self) -> bytes:
        """An encoded `RankRequest`, without id and deadline."""
        ids = self.ids
        return rank_request(self.rows, top_k=self.top_k, model=self.model, candidate_ids=ids)

    @cached_property
    def infer_message(self) -> bytes:
        """The same list as an encoded `ModelInferRequest`."""
        message = infer_pb.ModelInferRequest(raw_input_contents=[self.rows.tobytes()])
        message.inputs.add(name="candidates", datatype="FP32", shape=self.rows.shape)
        return message.SerializeToString()

    def on_stream(self, request_id: str) -> bytes:
        """The message as a stream takes it, with its id and its deadline.

        Encoded messages may be appended to each other: fields of the later one count.
        """
        deadline = round(1e3 * (self.timeout or 0.0))
        suffix = pb.RankRequest(request_id=request_id, deadline_ms=deadline)
        return self.message + suffix.SerializeToString()

    def check(self, answer: pb.RankResponse) -> None:
        """Compares an answer with XGBoost's, if that is known: the order, the scores' bits, ids.

        Raises:
            WrongAnswerError: it differs.
        """
        if self.scores is None:
            return
        order = np.argsort(-self.scores, kind="stable")[: self.top_k or None]
        for what, got, want in (
            ("model", answer.model, self.model or answer.model),
            ("order", list(answer.indices), order.tolist()),
            ("scores", np.array(answer.scores, "<f4").tobytes(), self.scores[order].tobytes()),
            ("ids", list(answer.candidate_ids), [self.ids[i] for i in order if self.ids]),
        ):
            if got != want:
                raise WrongAnswerError(f"{len(self.rows)} rows: {what}: {got!r}, not {want!r}")
