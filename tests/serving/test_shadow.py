"""Shadows: what is noted, in which steps it is scored, what is dropped, and what is told."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from ranker.categories import Categories
from ranker.metrics import catalogue
from ranker.metrics.families import Distribution
from ranker.metrics.snapshot import snapshot
from ranker.model import Model
from ranker.model.metadata import ModelMetadata
from ranker.serving.batcher import Batch
from ranker.serving.generation import Generation, Route
from ranker.serving.served_model import ServedModel
from ranker.serving.shadow import LIST_BYTES, MOST_COMPARED, STEP_SECONDS, Shadows
from ranker.serving.task import RankTask
from ranker.v1 import ranking_pb2 as pb
from tests.fakes import BrokenEngine, SumEngine
from tests.serving.support import ListTask, Serving, request

LABELS = ("books", "7", "8")
METADATA = ModelMetadata(feature_names=("a", "b", "c"), trees=5, depth=2)


class Clock:
    """Stands still, but while an engine scores."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class SlowSum(SumEngine):
    """Takes a hundred microseconds and one for each row; gives the negative sums."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def score(self, blocks):
        self._clock.now += 1e-4 + 1e-6 * sum(map(len, blocks))
        return -super().score(blocks)


class Setup:
    """A model, its shadow, and what waits for that."""

    def __init__(self, serving: Serving) -> None:
        self.serving = serving
        self.clock = Clock()
        self.engine = SlowSum(self.clock)
        self.live = serving.models[0]
        self.shadow = self.make_model(self.engine)
        self.max_bytes = 10**6
        self.begin()

    def make_model(self, engine, metadata: ModelMetadata = METADATA) -> ServedModel:
        model = Model(engine, "made up", metadata, "books", "8")
        served = ServedModel(model, 100, self.serving.recorder.model(1, ("books", "8")))
        for rows in (10, 1000, 10, 1000):
            served.batcher.cost.observe(rows, 1e-4 + 1e-6 * rows)
        return served

    def begin(self, in_sample: Callable[[str], bool] | None = None) -> None:
        """Has the shadow of the moment be one."""
        route = Route("7", shadow="8", shadow_share=1.0, in_sample=in_sample)
        self.generation = Generation([self.live, self.shadow], 1, {"books": route})
        self.serving.aggregates.name_shadow(0, "8")
        self.shadows = Shadows(self.serving.recorder, self.max_bytes, 1.0, self.clock)
        self.shadows.serve(self.generation)

    def answer(self, *sizes: int, unit: str = "") -> list[ListTask]:
        """Tells of a batch of lists that have been answered."""
        batch: Batch[RankTask] = Batch()
        tasks = [ListTask(self.serving, rows) for rows in sizes]
        for task in tasks:
            task.unit = unit
            batch.pieces.append((task, 0, task.rows))
        scores = np.concatenate([task.candidates.sum(axis=1) for task in tasks])
        self.shadows.on_answered(batch, scores.astype(np.float32))
        return tasks

    def step_until_done(self) -> int:
        """The steps that it takes until nothing waits."""
        steps = 0
        while self.shadows.waiting:
            self.shadows.step()
            steps += 1
        return steps

    def found(self, metric, *labels: str) -> float | Distribution:
        [family] = [each for each in snapshot(self.serving.aggregates) if each.metric is metric]
        values = {sample.labels: sample.value for sample in family.samples}
        return values[*LABELS, *labels]

    def dropped(self, reason: str) -> float:
        value = self.found(catalogue.SHADOW_DROPPED, reason)
        assert isinstance(value, float)
        return value

    @property
    def lists(self) -> float:
        value = self.found(catalogue.SHADOW_LISTS)
        assert isinstance(value, float)
        return value


@pytest.fixture
def setup(serving) -> Setup:
    return Setup(serving(SumEngine(), SumEngine()))


def test_lists_are_scored_and_compared(setup):
    setup.answer(20, 30)
    assert len(setup.shadows.waiting) == 2
    setup.step_until_done()
    assert setup.lists == 2
    distance = setup.found(catalogue.SHADOW_DISTANCE)
    assert (distance.count, distance.sum) == (2, pytest.approx(4)), "the order is the reverse"
    assert setup.found(catalogue.SHADOW_OVERLAP).count == 2
    assert setup.found(catalogue.SHADOW_SHIFT).count == 2


def test_nothing_is_scored_before_a_step(setup):
    setup.answer(20)
    assert setup.engine.batches == []


def test_a_step_is_a_piece_of_what_it_may_take_by_prediction(setup):
    setup.answer(500)
    longest = 0.0
    while setup.shadows.waiting:
        began = setup.clock.now
        setup.shadows.step()
        longest = max(longest, setup.clock.now - began)
    assert longest <= STEP_SECONDS + 2e-6
    assert [sum(batch) for batch in setup.engine.batches] == [150, 150, 150, 50]
    assert setup.lists == 1


def test_where_the_fixed_cost_is_high_a_step_takes_twice_that(setup):
    setup.shadows = Shadows(setup.serving.recorder, setup.max_bytes, 5e-5, setup.clock)
    setup.shadows.serve(setup.generation)
    setup.answer(250)
    setup.step_until_done()
    assert [sum(batch) for batch in setup.engine.batches] == [100, 100, 50]


def test_the_time_is_counted_apart_and_nowhere_else(setup):
    setup.answer(100)
    setup.step_until_done()
    counted = setup.serving.counted()
    assert counted["ranker_shadow_busy_seconds_total"] == pytest.approx(2e-4)
    assert counted["ranker_engine_busy_seconds_total"] == 0
    assert counted["ranker_candidates_scored_total"] == 0


def test_the_oldest_comes_first(setup):
    setup.answer(3)
    setup.answer(4)
    setup.step_until_done()
    assert setup.engine.batches == [[3], [4]]


def test_what_has_no_room_is_dropped(setup):
    size = 100 * (3 + 2) * 4 + LIST_BYTES
    setup.max_bytes = 2 * size
    setup.begin()
    setup.answer(100, 100, 100)
    assert (len(setup.shadows.waiting), setup.dropped("busy")) == (2, 1)
    setup.step_until_done()
    setup.answer(100, 100)
    assert (len(setup.shadows.waiting), setup.dropped("busy")) == (2, 1)


def test_only_units_of_the_sample_are_noted(setup):
    setup.begin(in_sample=lambda unit: unit == "reader")
    setup.answer(10, unit="other")
    assert not setup.shadows.waiting
    setup.answer(10, unit="reader")
    assert len(setup.shadows.waiting) == 1
    assert setup.dropped("busy") == 0


def test_a_list_that_took_several_batches_is_one(setup):
    task = ListTask(setup.serving, 30)
    task.scores = task.candidates.sum(axis=1)
    for start, stop in ((0, 20), (20, 30)):
        batch: Batch[RankTask] = Batch()
        batch.pieces.append((task, start, stop))
        setup.shadows.on_answered(batch, task.scores[start:stop])
    setup.step_until_done()
    assert setup.lists == 1
    assert sum(setup.engine.batches[0]) == 30


def test_what_the_shadow_itself_has_ranked_is_not_compared(setup):
    task = ListTask(setup.serving, 5)
    task.served = setup.shadow
    batch: Batch[RankTask] = Batch()
    batch.pieces.append((task, 0, 5))
    setup.shadows.on_answered(batch, np.zeros(5, np.float32))
    assert not setup.shadows.waiting


def test_very_long_lists_are_compared_by_a_part_of_their_candidates(setup, monkeypatch):
    lengths = []
    monkeypatch.setattr(
        "ranker.serving.shadow.tau_b", lambda first, _: lengths.append(len(first)) or 1.0
    )
    setup.answer(MOST_COMPARED, MOST_COMPARED + 1)
    setup.step_until_done()
    assert lengths == [MOST_COMPARED, (MOST_COMPARED + 2) // 2]


def test_a_shadow_that_fails_is_counted_and_logged_once(setup, caplog):
    setup.shadow = setup.make_model(BrokenEngine())
    setup.begin()
    with caplog.at_level(logging.ERROR):
        setup.answer(10, 10)
        setup.step_until_done()
    assert setup.dropped("failed") == 2
    assert setup.lists == 0
    [record] = caplog.records
    assert "books@8, the shadow of books@7, failed" in record.message


@pytest.mark.parametrize(
    ("metadata", "features", "reason"),
    [
        pytest.param(
            replace(METADATA, feature_names=("a", "b", "c", "d")), 4, "no feature 'd'", id="more"
        ),
        pytest.param(replace(METADATA, feature_names=()), 4, "has 4 features", id="unnamed"),
        pytest.param(
            replace(METADATA, categories={1: Categories(["x", "y"])}),
            3,
            "codes of 'b' stand for other categories",
            id="categories",
        ),
    ],
)
def test_what_it_can_not_score_is_said_and_counted(setup, caplog, metadata, features, reason):
    coded = replace(METADATA, categories={1: Categories(["y", "x"])})
    setup.live = ServedModel(
        Model(SumEngine(), "made up", coded, "books", "7"), 100, setup.live.metrics
    )
    setup.serving.models[0] = setup.live
    setup.shadow = setup.make_model(SumEngine(features), metadata)
    with caplog.at_level(logging.WARNING):
        setup.begin()
    assert reason in caplog.text
    setup.answer(10)
    assert (len(setup.shadows.waiting), setup.dropped("columns")) == (0, 1)


def test_columns_in_another_order_and_fewer_of_them(setup):
    rows = []

    class Engine(SumEngine):
        def score(self, blocks):
            rows.extend(blocks)
            return super().score(blocks)

    setup.shadow = setup.make_model(Engine(2), replace(METADATA, feature_names=("c", "a")))
    setup.begin()
    [task] = setup.answer(10)
    setup.step_until_done()
    np.testing.assert_array_equal(np.concatenate(rows), task.candidates[:, [2, 0]])
    assert all(block.flags.c_contiguous for block in rows)


def test_named_columns_and_context_are_laid_out(setup):
    context = pb.Context(feature_names=["b"], values=[3])
    message = request([[1, 2], [4, 2]], feature_names=["c", "a"], context=context)
    setup.serving.shadows.serve(setup.generation)
    setup.serving.rank(message)
    [waiting] = setup.serving.shadows.waiting
    setup.serving.shadows.step()
    np.testing.assert_array_equal(waiting._others, [-6, -9])


def test_the_answer_leaves_before_the_list_is_noted(setup):
    serving = setup.serving
    serving.shadows.serve(setup.generation)
    noted: list[int] = []
    task = serving.submit(10)
    task.on_outcome = lambda *_: noted.append(len(serving.shadows.waiting))
    serving.turn_until_idle()
    assert noted == [0]
    assert len(serving.shadows.waiting) == 1


def test_lists_whose_callers_have_gone_are_not_noted(setup):
    setup.serving.shadows.serve(setup.generation)
    setup.serving.submit(10).cancelled = True
    setup.serving.turn_until_idle()
    assert not setup.serving.shadows.waiting


@pytest.mark.parametrize("by", ["stop", "serve"])
def test_what_waits_is_dropped_with_the_generation_or_the_worker(setup, by):
    setup.answer(10, 10)
    if by == "stop":
        setup.shadows.stop()
    else:
        setup.shadows.serve(Generation([setup.live], 2))
    assert not setup.shadows.waiting
    assert setup.dropped("stopped") == 2
    setup.answer(10)
    assert not setup.shadows.waiting


def test_what_waits_is_dropped_if_memory_is_short(setup):
    setup.answer(10, 10)
    setup.shadows.drop("memory")
    assert (setup.dropped("memory"), len(setup.shadows.waiting)) == (2, 0)
    setup.answer(10)
    assert len(setup.shadows.waiting) == 1


def test_a_new_shadow_begins_from_zero_and_the_last_one_counts_no_more(setup):
    setup.answer(10, 10)
    setup.shadows.step()
    setup.serving.aggregates.name_shadow(0, "9")
    setup.step_until_done()
    samples = [
        (sample.labels, sample.value)
        for family in snapshot(setup.serving.aggregates)
        if family.metric is catalogue.SHADOW_LISTS
        for sample in family.samples
    ]
    assert samples == [(("books", "7", "9"), 0.0)]
