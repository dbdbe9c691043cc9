"""Vertex AI's requests, with a worker that explains whatever it is asked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ranker.office import rank_json
from ranker.office.app import application
from ranker.office.bodies import Bodies
from ranker.office.predictions import Predictions
from ranker.v1 import ranking_pb2 as pb
from tests.office.support import ask, served

FEATURES = 100


class Explaining:
    """A worker of a model whose features have no names."""

    async def rank(self, request: bytes, *_: object) -> bytes:
        asked = pb.RankRequest.FromString(request)
        explanation = pb.Explanation(contributions=[0.5] * FEATURES)
        rows = min(asked.explain, asked.candidates.rows)
        return pb.RankResponse(explanations=[explanation] * rows).SerializeToString()


@pytest.fixture
def port() -> Iterator[int]:
    predictions = Predictions(Explaining(), Bodies(), 100, lambda: True)
    with served(application(predictions.routes("/health", "/predict"))) as port:
        yield port


def test_explanations_of_all_lists_together_have_a_size_limit(port, monkeypatch):
    """There is room for ten rows."""
    monkeypatch.setattr(rank_json, "MOST_EXPLAINED_BYTES", 10 * (25 * FEATURES + 10))

    def answer(*rows: int):
        instances = [{"candidates": [[1]] * number, "explain": 100} for number in rows]
        return ask(port, "/predict", {"instances": instances})

    few = answer(1, 6, 2)
    assert few.status == 200
    assert [len(each["explanations"]) for each in few.json["predictions"]] == [1, 6, 2]
    many = answer(1, 10, 20)
    assert many.status == 400
    assert many.json["errors"][0]["field"] in [f"instances[{index}].explain" for index in range(3)]
