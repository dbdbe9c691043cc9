"""Lists that are taken for drift: when, which, and what becomes of them."""

from __future__ import annotations

import logging
import math

import numpy as np
import pytest

from ranker.metrics.drift_log import SCORES
from ranker.model import Model
from ranker.model.histogram import Bins, Histogram, Reference
from ranker.model.metadata import ModelMetadata
from ranker.serving.batcher import Batch
from ranker.serving.drift import PAUSE_SECONDS, REST, ROWS, SEND_SECONDS, DriftSample
from ranker.serving.generation import Generation
from ranker.serving.served_model import ServedModel
from ranker.serving.task import RankTask
from tests.fakes import SumEngine
from tests.serving.support import ListTask, Serving

HISTOGRAM = Histogram(Bins((0.0,)), (1, 1))
REFERENCE = Reference(2, HISTOGRAM, {0: HISTOGRAM, 2: HISTOGRAM})


class Clock:
    """Goes on by a millisecond whenever it is looked at."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


class Log:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.packets = []
        self.models = []

    def counted(self, model, features) -> None:
        self.packets.append((model, features))

    def served(self, models) -> None:
        self.models.append(models)


class Setup:
    """A model with a reference, and the sample of its lists."""

    def __init__(self, serving: Serving) -> None:
        self.serving = serving
        metadata = ModelMetadata(feature_names=("a", "b", "c"), reference=REFERENCE)
        model = Model(SumEngine(), "made up", metadata, "books", "7")
        self.served = ServedModel(model, 100, serving.models[0].metrics)
        serving.models[0] = self.served
        self.clock, self.cpu_clock, self.log = Clock(), Clock(), Log()
        self.sample = DriftSample(self.log, self.clock, self.cpu_clock)
        self.serve(self.served)

    def serve(self, *models: ServedModel) -> None:
        self.sample.serve(self.sample.prepare(Generation(models)))

    def answer(self, *sizes: int) -> list[ListTask]:
        """Tells of a batch of lists that have been answered."""
        batch: Batch[RankTask] = Batch()
        tasks = [ListTask(self.serving, rows) for rows in sizes]
        for task in tasks:
            batch.pieces.append((task, 0, task.rows))
        scores = np.concatenate([task.candidates.sum(axis=1) for task in tasks])
        self.sample.on_answered(batch, scores.astype(np.float32))
        return tasks

    def finish(self) -> list:
        """Counts what waits, and sends; what was sent of each column."""
        while self.sample.waiting:
            self.sample.step()
        while self.sample.send_at < math.inf:
            self.sample.step()
        return [{each.column: each for each in features} for _, features in self.log.packets]


@pytest.fixture
def setup(serving) -> Setup:
    return Setup(serving(SumEngine()))


def bins(values: np.ndarray) -> tuple[int, ...]:
    return int((values < 0).sum()), int((values >= 0).sum()), int(np.isnan(values).sum())


def test_one_list_is_counted_with_its_scores(setup):
    [task] = setup.answer(10)
    assert setup.log.packets == [], "not before a step"
    [sent] = setup.finish()
    rows = task.candidates
    assert {column: each.counts for column, each in sent.items()} == {
        0: bins(rows[:, 0]),
        2: bins(rows[:, 2]),
        SCORES: bins(rows.sum(axis=1)),
    }
    assert {each.lists for each in sent.values()} == {1}
    assert [each.name for each in sent.values()] == ["a", "c", ""]


def test_of_a_long_list_some_at_even_distances(setup):
    [task] = setup.answer(100)
    [sent] = setup.finish()
    rows = task.candidates[::7]
    assert len(rows) <= ROWS
    assert sent[0].counts == bins(rows[:, 0])
    assert sent[SCORES].counts == bins(rows.sum(axis=1))


def test_any_list_of_a_batch_may_be_the_one(setup):
    sizes = set()
    for _ in range(200):
        setup.answer(2, 3, 5)
        while setup.sample.waiting:
            setup.sample.step()
        [counter] = setup.sample._counters.values()
        sizes.add(sum(next(counter.take()).counts))
    assert sizes == {2, 3, 5}


def test_the_next_one_is_taken_by_the_clock(setup):
    assert setup.sample.due < setup.clock.now
    setup.answer(10)
    assert setup.sample.due == math.inf, "one at a time"
    setup.sample.step()
    pause = setup.sample.due - setup.clock.now
    assert 0.5 * PAUSE_SECONDS <= pause <= 1.5 * PAUSE_SECONDS or pause >= REST * 0.001
    assert setup.sample.send_at == pytest.approx(setup.clock.now + SEND_SECONDS)


def test_counting_takes_half_a_percent_of_the_time_at_most(setup):
    setup.answer(10)
    setup.sample.step()  # of a millisecond, by this clock
    assert setup.sample.due - setup.clock.now >= 200 * 0.001 * 0.999


def test_time_without_a_core_does_not_count(setup, monkeypatch):
    setup.answer(10)
    counting = setup.sample._counting

    def held_up():
        for each in counting:
            setup.clock.now += 2.0
            yield each
        setup.clock.now += 2.0

    monkeypatch.setattr(setup.sample, "_counting", held_up())
    while setup.sample.waiting:
        setup.sample.step()
    assert setup.sample.due - setup.clock.now < 2.0


def test_what_is_cancelled_or_not_complete_is_not_taken(setup):
    batch: Batch[RankTask] = Batch()
    cancelled, part = ListTask(setup.serving, 3), ListTask(setup.serving, 9)
    cancelled.cancelled = True
    for piece in ((cancelled, 0, 3), (part, 0, 4)):
        batch.pieces[:] = [piece]
        setup.sample.on_answered(batch, np.zeros(4, np.float32))
        assert not setup.sample.waiting
        assert setup.clock.now < setup.sample.due < math.inf


def test_a_list_that_took_several_batches_has_all_its_scores(setup):
    task = ListTask(setup.serving, 8)
    task.scores = np.array([-1, -1, -1, 1, 1, 1, 1, 1], np.float32)
    batch: Batch[RankTask] = Batch()
    batch.pieces.append((task, 6, 8))
    setup.sample.on_answered(batch, task.scores[6:])
    [sent] = setup.finish()
    assert sent[SCORES].counts == (3, 5, 0)


def test_named_columns_and_context_are_laid_out(setup):
    task = ListTask(setup.serving, 2)
    task.candidates = np.array([[1], [4]], np.float32)
    task.plan = setup.served.features.plan(1, ["b"], ["a"])
    task.context = np.array([-3], np.float32)
    batch: Batch[RankTask] = Batch()
    batch.pieces.append((task, 0, 2))
    setup.sample.on_answered(batch, np.zeros(2, np.float32))
    [sent] = setup.finish()
    assert (sent[0].counts, sent[2].counts) == ((2, 0, 0), (0, 0, 2))
    assert sent[0].only == -3


def test_the_dispatcher_tells_of_a_list_once_one_is_due_and_its_answer_has_left(setup):
    serving, told = setup.serving, []

    class Sample:
        due = math.inf

        def on_answered(self, batch, scores) -> None:
            told.append((len(serving.answered), len(batch.pieces), len(scores)))

    serving.dispatcher._drift = sample = Sample()
    serving.submit(10)
    serving.turn_until_idle()
    sample.due = 0.0
    serving.submit(10)
    serving.turn_until_idle()
    assert told == [(2, 1, 10)]


def test_another_generation_ends_it_and_the_office_is_told(setup):
    setup.answer(10)
    other = ServedModel(
        Model(SumEngine(), "made up", ModelMetadata(), "books", "8"), 100, setup.served.metrics
    )
    setup.serve(other)
    assert [[key.version for key in keys] for keys in setup.log.models] == [["7"], ["8"]]
    assert setup.finish() == [], "of a version that has left"


def test_a_model_that_stays_keeps_its_counts(setup):
    setup.answer(10)
    setup.sample.step()
    setup.serve(setup.served)
    assert len(setup.finish()) == 1


def test_a_bug_ends_the_counting_and_nothing_else(setup, caplog):
    setup.answer(10)
    setup.sample._counting = (1 / 0 for _ in range(1))
    with caplog.at_level(logging.ERROR):
        setup.sample.step()
    assert "counting features failed" in caplog.text
    assert (setup.sample.waiting, setup.sample.due) == (False, math.inf)


def test_without_a_log_nothing_is_taken(setup):
    sample = DriftSample(None)
    sample.serve(sample.prepare(Generation([setup.served])))
    assert (sample.due, sample.send_at, sample.waiting) == (math.inf, math.inf, False)
