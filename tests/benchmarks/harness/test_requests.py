from __future__ import annotations

import numpy as np
import pytest

from benchmarks.harness.requests import Request, WrongAnswerError
from ranker.v1 import ranking_pb2 as pb

ROWS = np.arange(10, dtype=np.float32).reshape(5, 2)
SCORES = np.array([0.1, 0.5, 0.5, -0.0, 0.9], np.float32)
IDS = ("a", "b", "c", "d", "e")
REQUEST = Request(ROWS, 0.05, top_k=3, scores=SCORES, model="steady", ids=IDS)


def right_answer() -> pb.RankResponse:
    return pb.RankResponse(
        model="steady", indices=[4, 1, 2], scores=SCORES[[4, 1, 2]], candidate_ids=["e", "b", "c"]
    )


def test_a_message_is_the_request_and_a_streams_has_id_and_deadline_too():
    unary = pb.RankRequest.FromString(REQUEST.message)
    assert (unary.candidates.rows, unary.candidates.columns) == ROWS.shape
    assert unary.candidates.data == ROWS.tobytes()
    assert (unary.top_k, unary.model, tuple(unary.candidate_ids)) == (3, "steady", IDS)
    assert (unary.request_id, unary.deadline_ms) == ("", 0)
    streamed = pb.RankRequest.FromString(REQUEST.on_stream("17"))
    assert (streamed.request_id, streamed.deadline_ms) == ("17", 50)
    assert streamed.candidates == unary.candidates


def test_right_answer():
    REQUEST.check(right_answer())


def another_order(answer: pb.RankResponse) -> None:
    answer.indices[1], answer.indices[2] = answer.indices[2], answer.indices[1]


def one_bit(answer: pb.RankResponse) -> None:
    answer.scores[2] = np.nextafter(np.float32(answer.scores[2]), np.float32(9))


def another_id(answer: pb.RankResponse) -> None:
    answer.candidate_ids[1] = "a"


def another_model(answer: pb.RankResponse) -> None:
    answer.model = "rest"


def one_too_few(answer: pb.RankResponse) -> None:
    del answer.indices[2], answer.scores[2], answer.candidate_ids[2]


@pytest.mark.parametrize("spoil", [another_order, one_bit, another_id, another_model, one_too_few])
def test_wrong_answer(spoil):
    answer = right_answer()
    spoil(answer)
    with pytest.raises(WrongAnswerError):
        REQUEST.check(answer)


def test_any_answer_will_do_where_nobody_knows_the_scores():
    Request(ROWS).check(pb.RankResponse(indices=[3], scores=[1.0]))
