"""The messages of `ranker.v1`: requests to tasks, and scores to answers."""

from __future__ import annotations

import time
from typing import TypeVar

import numpy as np
from google.protobuf.message import DecodeError, Message

from ranker.engine.api import Rows, Scores
from ranker.errors import InvalidRequestError, RankerError
from ranker.model.order import best_first
from ranker.serving import messages
from ranker.serving.field_limit import Nested, check_request, find_text
from ranker.serving.generation import Generation
from ranker.serving.task import RankTask
from ranker.serving.wire_format import WireFormat
from ranker.status import to_status
from ranker.v1 import ranking_pb2 as pb

_FLOAT32 = np.dtype("<f4")

REQUEST_BYTES = 24 * 2**10
"""What a request that waits takes beside its message: its task, and its call in gRPC."""

MOST_BESIDE = 1024
"""Bytes that a message may have beside its rows for these to be read where they lie: whoever keeps
the rows then keeps all of it.
"""

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


def read_request(data: bytes, task: RankTask, generation: Generation, max_rows: int) -> None:
    """Fills a task with what a request asks for.

    Args:
        data: an encoded RankRequest. The task keeps none of it but what it needs.
        task: the task.
        generation: the models that there are.
        max_rows: the most candidates that one request may have.

    Raises:
        NotFoundError: no such model.
        InvalidRequestError: names the field, what it holds and what was expected.
        RankerError: whatever `RankTask.on_read` raises.
    """
    most = messages.read(data, max_rows)
    if most is not None:
        task.on_read(most, generation)
        rows, columns = most.rows, most.columns
        features = task.served.features
        if columns != features.num_features:
            raise features.wrong_columns(columns)
        candidates: Rows = np.ndarray((rows, columns), _FLOAT32, data, most.offset)
        if len(data) - candidates.nbytes > MOST_BESIDE:
            candidates = candidates.copy()
        task.candidates = candidates
        task.rows, task.top_k = rows, most.top_k
    else:
        _read_any(data, task, generation, max_rows)
    # Rows, ids and texts, all of which are kept: they are the message, or its parts.
    task.size = len(data) + REQUEST_BYTES


def _read_any(data: bytes, task: RankTask, generation: Generation, max_rows: int) -> None:
    """Reads a request of any form, with protobuf."""
    try:
        check_request(data, NESTED, generation, max_rows)
        request = read_message(pb.RankRequest, data)
    except InvalidRequestError:
        # By it the caller of a stream knows which of its requests is refused.
        task.request_id = find_text(data, pb.RankRequest.REQUEST_ID_FIELD_NUMBER)
        raise
    task.on_read(request, generation)
    _read_candidates(request, task, max_rows)
    if request.explain:
        task.explain = min(request.explain, request.top_k or task.rows, task.rows)
    if request.candidate_ids:
        task.candidate_ids = list(request.candidate_ids)


def _read_candidates(request: pb.RankRequest, task: RankTask, max_rows: int) -> None:
    """Checks a request against the model's contract. Its rows are laid out when they are scored."""
    matrix = request.candidates
    rows, columns, values = matrix.rows, matrix.columns, matrix.data
    if rows == 0:
        raise InvalidRequestError("candidates.rows", "expected at least 1 candidate, got 0")
    if rows > max_rows:
        raise InvalidRequestError(
            "candidates.rows", f"expected at most {max_rows} candidates, got {rows}"
        )
    if matrix.data_type > pb.DATA_TYPE_FLOAT32 or matrix.data_type < 0:
        raise InvalidRequestError(
            "candidates.data_type", f"expected DATA_TYPE_FLOAT32 (1), got {matrix.data_type}"
        )
    size = len(values)
    if size != rows * columns * 4:
        raise InvalidRequestError(
            "candidates.data",
            f"expected {rows} rows x {columns} columns x 4 bytes = {rows * columns * 4} bytes, "
            f"got {size}",
        )
    if request.candidate_ids and len(request.candidate_ids) != rows:
        raise InvalidRequestError(
            "candidate_ids",
            f"expected none or {rows}, one per candidate, got {len(request.candidate_ids)}",
        )
    if request.top_k < 0:
        raise InvalidRequestError("top_k", f"expected 0 (all) or more, got {request.top_k}")
    context = request.context
    names, context_names, shared = request.feature_names, context.feature_names, context.values
    if len(shared) != len(context_names):
        raise InvalidRequestError(
            "context.values",
            f"expected {len(context_names)} values, one per context feature name, "
            f"got {len(shared)}",
        )
    task.plan = task.served.features.plan(columns, names, context_names)
    if shared:
        task.context = np.array(shared, np.float32)
    task.candidates = np.frombuffer(values, _FLOAT32).reshape(rows, columns)
    task.rows, task.top_k = rows, request.top_k


def write_response(task: RankTask, scores: Scores) -> bytes:
    """Encodes the answer to a task: a RankResponse.

    Args:
        task: what is answered.
        scores: float32 [task.rows].
    """
    total = time.monotonic() - task.arrived
    if messages.write is not None:
        answer = messages.write(
            task.request_id, task.served.name, task.served.version, task.arm, scores, task.top_k,
            task.candidate_ids, task.queued, task.scoring, total,
        )  # fmt: skip
    else:
        answer = _write_ranking(task, scores, total)
    # A message's encoding may be continued: protobuf reads the fields of both parts.
    return answer if task.contributions is None else answer + _write_explanations(task)


def _write_ranking(task: RankTask, scores: Scores, total: float) -> bytes:
    """Encodes the answer to a plain list, `total` seconds after its arrival."""
    order = best_first(scores, task.top_k)
    ranking = order.tolist()
    ids = task.candidate_ids
    return pb.RankResponse(
        request_id=task.request_id,
        model=task.served.name,
        model_version=task.served.version,
        indices=ranking,
        scores=scores[order].tolist(),
        candidate_ids=[ids[index] for index in ranking] if ids else None,
        arm=task.arm,
        timing=pb.ServerTiming(
            queue_us=int(task.queued * 1e6 + 0.5),
            scoring_us=int(task.scoring * 1e6 + 0.5),
            total_us=int(total * 1e6 + 0.5),
        ),
    ).SerializeToString()


def _write_explanations(task: RankTask) -> bytes:
    """Encodes what an explained list's answer has beside its ranking.

    All explanations have the same length. So protobuf encodes one, and the numbers are put into
    copies of it: to take them one by one would keep the loop from all else for 50 times as long.
    """
    contributions = task.contributions
    assert contributions is not None
    ones = [1.0] * (contributions.shape[1] - 1)
    one = pb.RankResponse(explanations=[pb.Explanation(bias=1.0, contributions=ones)])
    pattern = np.frombuffer(one.SerializeToString(), np.uint8)
    encoded = np.tile(pattern, (len(contributions), 1))
    numbers = np.ascontiguousarray(contributions, _FLOAT32).view(np.uint8)
    # An Explanation is the bias, the contributions' head, and they themselves.
    after_bias = len(pattern) - pb.Explanation(contributions=ones).ByteSize()
    encoded[:, after_bias - 4 : after_bias] = numbers[:, -4:]
    encoded[:, len(pattern) - 4 * len(ones) :] = numbers[:, :-4]
    names = pb.RankResponse(explained_feature_names=task.served.features.names)
    return encoded.tobytes() + names.SerializeToString()


def write_refusal(task: RankTask, error: RankerError) -> bytes:
    """Encodes the answer to a stream's request that went wrong."""
    status = to_status(error)
    return pb.RankResponse(
        request_id=task.request_id,
        status=pb.Status(code=status.code, message=status.message, details=status.details),
    ).SerializeToString()


NESTED: Nested = {
    pb.RankRequest.CANDIDATES_FIELD_NUMBER: {},
    pb.RankRequest.CONTEXT_FIELD_NUMBER: {},
}
"""The messages within a RankRequest."""

RANK = WireFormat(read_request, write_response, write_refusal)
"""Of `Rank` and `RankStream`."""
