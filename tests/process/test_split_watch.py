"""The warning that a split's shares are off: with figures, once, until they are right again."""

from __future__ import annotations

import logging

import pytest

from ranker.metrics.unit_sample import SplitCheck
from ranker.process.split_watch import SplitWatch


def check(p: float | None, model: str = "books") -> SplitCheck:
    return SplitCheck(model, ("7", "8"), (0.95, 0.05), (3000, 1000), p)


@pytest.fixture
def log(caplog) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO)
    return caplog


def test_the_figures_are_said(log):
    SplitWatch().look([check(1e-9)])
    assert log.messages == [
        "books: its traffic is not split as configured: of 4000 units version 7 has 3000 (75.0%, "
        "expected 95.0%), version 8 has 1000 (25.0%, expected 5.0%), p = 1.0e-09. Mistrust what is "
        "compared: some units may be sent elsewhere, or two splits may have the same salt"
    ]


@pytest.mark.parametrize(
    ("history", "lines"),
    [
        pytest.param([0.5, 0.002, None], 0, id="chance"),
        pytest.param([1e-4, 1e-6, 0.0], 1, id="once"),
        pytest.param([1e-4, 0.005, 1e-4], 1, id="in-between-is-nothing-new"),
        pytest.param([1e-4, 0.5], 2, id="healed"),
        pytest.param([1e-4, None], 2, id="another-split"),
        pytest.param([1e-4, 0.5, 1e-4], 3, id="again"),
    ],
)
def test_once_until_it_heals(log, history, lines):
    watch = SplitWatch()
    for p in history:
        watch.look([check(p)])
    assert len(log.messages) == lines


def test_of_a_model_whose_traffic_is_split_no_more_nothing_is_said_until_it_is_again(log):
    watch = SplitWatch()
    watch.look([check(1e-5), check(1e-5, "films")])
    watch.look([check(1e-5)])
    watch.look([check(1e-5), check(1e-5, "films")])
    assert [message.partition(":")[0] for message in log.messages] == [
        "books",
        "films",
        "films",
    ]
