"""What the office asks of a worker before it has a list ranked."""

from __future__ import annotations

import asyncio
import contextvars

import pytest

from ranker.errors import InvalidRequestError
from ranker.office.api import check_required
from ranker.office.rank_json import read_rank_json
from ranker.office.workers import FORWARDED
from ranker.v1 import ranking_pb2 as pb

MODEL = pb.Model(feature_names=["a", "b"], required_feature_names=["b"])
RAGGED = [{"a": 1, "b": 2}, {"b": 3}]


class Describing:
    """Workers that have one model."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str]] = []

    async def model(self, name: str, version: str, unit: str, _: float) -> pb.Model:
        self.asked.append((name, version, unit))
        return MODEL


def check(workers: Describing, body: dict[str, object]) -> tuple[pb.RankRequest, str]:
    """The message for the worker that ranks, and what it is told to draw the version by."""

    async def ask() -> tuple[pb.RankRequest, str]:
        asked = read_rank_json(body, 10)
        await check_required(workers, asked)
        return asked.message, FORWARDED.get().draw

    return contextvars.copy_context().run(asyncio.run, ask())


@pytest.mark.parametrize("context", [None, {"b": 1}], ids=["ragged", "all-empty"])
def test_without_a_unit_the_version_that_ranks_is_the_one_that_was_asked(context):
    workers = Describing()
    candidates = RAGGED if context is None else [{}, {}]
    message, draw = check(workers, {"candidates": candidates, "context": context})
    assert message.unit == ""
    assert draw
    assert workers.asked == [("", "", draw)]


def test_with_a_unit_that_decides():
    workers = Describing()
    message, draw = check(workers, {"candidates": RAGGED, "unit": "reader"})
    assert (message.unit, draw) == ("reader", "")
    assert workers.asked == [("", "", "reader")]


def test_nothing_is_asked_about_candidates_that_are_alike():
    workers = Describing()
    assert check(workers, {"candidates": [{"a": 1}, {"a": 2}]})[1] == ""
    assert not workers.asked


def test_what_the_model_requires_is_missed():
    with pytest.raises(InvalidRequestError, match="requires") as caught:
        check(Describing(), {"candidates": [{"a": 1, "b": 2}, {"a": 3}]})
    assert caught.value.field == "candidates[1].b"
