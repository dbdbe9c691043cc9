"""Versions come and go; the metrics' numbers are used again, and never by two at a time."""

from __future__ import annotations

import pytest

from ranker.errors import ModelError
from ranker.metrics import catalogue
from ranker.metrics.aggregates import Aggregates
from ranker.metrics.layout import Layout
from ranker.metrics.recorder import Recorder
from ranker.metrics.snapshot import snapshot
from ranker.process.model_slots import RETIRED_AFTER, ModelSlots


@pytest.fixture
def aggregates() -> Aggregates:
    return Aggregates.create(Layout(2, ("/a.B/C",)))


def versions(aggregates: Aggregates) -> set[str]:
    families = {family.metric: family.samples for family in snapshot(aggregates)}
    samples = families[catalogue.MODEL_LOADS]
    return {sample.labels[1] for sample in samples if sample.value}


def test_a_version_that_has_left_stays_in_the_metrics_for_a_while(aggregates):
    slots, recorder = ModelSlots(aggregates), Recorder(aggregates)
    for version in ("7", "8"):
        name = ("books", version)
        recorder.model(slots.slot(name), name).loaded(1.0)
    slots.leave([("books", "8")], now=100.0)
    slots.retire_due(100.0 + RETIRED_AFTER)
    assert versions(aggregates) == {"7", "8"}
    slots.retire_due(101.0 + RETIRED_AFTER)
    assert versions(aggregates) == {"8"}
    recorder.close()


def test_one_that_comes_back_goes_on_counting(aggregates):
    slots = ModelSlots(aggregates)
    first = slots.slot(("books", "7"))
    slots.leave([], now=0.0)
    assert slots.slot(("books", "7")) == first
    slots.retire_due(10 * RETIRED_AFTER)
    assert slots.slot(("books", "7")) == first


def test_a_number_that_is_needed_is_taken_from_who_left_first(aggregates):
    slots = ModelSlots(aggregates)
    old, newer = slots.slot(("books", "7")), slots.slot(("books", "8"))
    slots.leave([("books", "8")], now=0.0)
    slots.leave([], now=1.0)
    assert slots.slot(("books", "9")) == old
    assert slots.slot(("books", "10")) == newer


def test_more_models_than_numbers_are_refused(aggregates):
    slots = ModelSlots(aggregates)
    slots.slot(("books", "7"))
    slots.slot(("books", "8"))
    with pytest.raises(ModelError, match=r"2 versions are served and 1 of .* room for 2\. Change"):
        slots.require_room([("books", "8"), ("books", "9")])
    with pytest.raises(ModelError, match="3 versions are wanted: a server has room for 2"):
        slots.require_room([("books", version) for version in "789"])


def test_there_is_room_for_what_is_served_and_where_others_have_left(aggregates):
    slots = ModelSlots(aggregates)
    both = [("books", "7"), ("books", "8")]
    for name in both:
        slots.slot(name)
    slots.require_room(both)
    slots.leave([("books", "8")], now=0.0)
    slots.require_room([("books", "9")])
    slots.require_room([("books", "7")])
