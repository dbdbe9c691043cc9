"""Protobuf messages to arrays and back."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from google.protobuf.message import DecodeError, Message
from numpy.typing import NDArray

from ranker.engine.api import Rows, Scores
from ranker.errors import InvalidRequestError
from ranker.model.features import FeatureContract
from ranker.v1 import ranking_pb2 as pb

_FLOAT32 = np.dtype("<f4")


M = TypeVar("M", bound=Message)


def read_message(kind: type[M], data: bytes) -> M:
    """Parses a protobuf message.

    Raises:
        InvalidRequestError: the bytes are no such message.
    """
    try:
        return kind.FromString(data)
    except DecodeError as error:
        expected = kind.DESCRIPTOR.full_name
        raise InvalidRequestError("request", f"not a {expected} message") from error


def read_candidates(request: pb.RankRequest, features: FeatureContract, max_rows: int) -> Rows:
    """Checks a request against the contract and lays its rows out for the engine.

    Args:
        request: the request; its candidates are read where they lie, not copied,
            if their columns are the model's own.
        features: the model's feature contract.
        max_rows: the most candidates that one request may have.

    Returns:
        float32 [rows, num_features].

    Raises:
        InvalidRequestError: names the field, what it holds and what was expected.
    """
    matrix = request.candidates
    rows, columns = matrix.rows, matrix.columns
    if rows == 0:
        raise InvalidRequestError("candidates.rows", "expected at least 1 candidate, got 0")
    if rows > max_rows:
        raise InvalidRequestError(
            "candidates.rows", f"expected at most {max_rows} candidates, got {rows}"
        )
    if matrix.data_type not in (pb.DATA_TYPE_UNSPECIFIED, pb.DATA_TYPE_FLOAT32):
        raise InvalidRequestError(
            "candidates.data_type", f"expected DATA_TYPE_FLOAT32 (1), got {matrix.data_type}"
        )
    data = matrix.data
    if len(data) != rows * columns * 4:
        raise InvalidRequestError(
            "candidates.data",
            f"expected {rows} rows x {columns} columns x 4 bytes = {rows * columns * 4} bytes, "
            f"got {len(data)}",
        )
    ids = len(request.candidate_ids)
    if ids not in (0, rows):
        raise InvalidRequestError(
            "candidate_ids", f"expected none or {rows}, one per candidate, got {ids}"
        )
    if request.top_k < 0:
        raise InvalidRequestError("top_k", f"expected 0 (all) or more, got {request.top_k}")
    candidates: Rows = np.frombuffer(data, _FLOAT32).reshape(rows, columns)
    return features.rows(
        candidates,
        request.feature_names,
        request.context.feature_names,
        request.context.values,
    )


def write_response(
    request: pb.RankRequest,
    model: str,
    version: str,
    order: NDArray[np.int32],
    scores: Scores,
    timing: tuple[float, float, float],
) -> bytes:
    """Encodes a RankResponse.

    Args:
        request: what is answered.
        model: the name of the model that scored it.
        version: that model's version.
        order: int32 [k], candidates best first.
        scores: float32 [k], their scores.
        timing: the seconds in the queue, being scored, and in all.
    """
    ranking = order.tolist()
    queued, scoring, total = timing
    ids = request.candidate_ids
    return pb.RankResponse(
        request_id=request.request_id,
        model=model,
        model_version=version,
        indices=ranking,
        scores=scores.tolist(),
        candidate_ids=[ids[index] for index in ranking] if ids else None,
        timing=pb.ServerTiming(
            queue_us=round(queued * 1e6),
            scoring_us=round(scoring * 1e6),
            total_us=round(total * 1e6),
        ),
    ).SerializeToString()
