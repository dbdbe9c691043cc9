"""How far features are from the training data: by hand, of several workers, over time."""

from __future__ import annotations

import math
import os

import pytest

from ranker.metrics import catalogue, drift
from ranker.metrics.access_log import connect
from ranker.metrics.access_log_writer import AccessLogWriter
from ranker.metrics.drift import HALF_LIFE, MOST_PUBLISHED, Drift, families, stability_index
from ranker.metrics.drift_log import FEATURES_AT_ONCE, SCORES, CountedFeature, DriftLog, ModelKey
from tests.metrics.support import new_aggregates

KEY = ModelKey("books", "8", "ab")
ENOUGH = int(drift.LEAST_LISTS)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def price(
    counts: tuple[int, ...],
    lists: int = ENOUGH,
    reference: tuple[int, ...] | None = (50, 30, 20, 0),
    only: float | None = None,
    ordered: bool = True,
    column: int = 0,
    name: str = "price",
) -> CountedFeature:
    return CountedFeature(column, name, reference, counts, lists, only, ordered)


def found(*packets: CountedFeature, key: ModelKey = KEY):
    """What is known of the model after these packets."""
    kept = Drift(Clock())
    for packet in packets:
        kept.add([key, packet])
    [model] = kept.models()
    return model


def test_the_index_is_that_of_a_hand_computation():
    # Shares with half a row for each bin: 10.5/31, 20.5/31 ... and 30.5/42, 10.5/42 ...
    before, now = (10, 20, 0), (30, 10, 0.5)
    p = [10.5 / 31.5, 20.5 / 31.5, 0.5 / 31.5]
    q = [30.5 / 42.0, 10.5 / 42.0, 1.0 / 42.0]
    by_hand = (
        (q[0] - p[0]) * math.log(q[0] / p[0])
        + (q[1] - p[1]) * math.log(q[1] / p[1])
        + (q[2] - p[2]) * math.log(q[2] / p[2])
    )
    assert stability_index(before, now) == pytest.approx(by_hand, rel=1e-12)
    assert by_hand == pytest.approx(0.70, abs=0.01)
    assert stability_index((5, 5), (5, 5)) == 0
    assert stability_index((1000, 0), (0, 1000)) < math.inf


def test_counts_of_workers_are_added_before_they_are_compared():
    left, right = (400, 0, 0, 0), (0, 400, 200, 200)
    together = found(price(left, ENOUGH // 2), price(right, ENOUGH // 2)).features[0]
    expected = stability_index((50, 30, 20, 0), (400, 400, 200, 200))
    assert together.psi == pytest.approx(expected)
    assert together.psi < stability_index((50, 30, 20, 0), left)
    assert together.missing == pytest.approx(200 / 1200)
    assert together.missing_before == 0


def test_nothing_is_said_of_too_few_lists():
    model = found(price((9, 9, 9, 0), ENOUGH - 1), price((9, 9, 9, 0), ENOUGH - 1, column=SCORES))
    assert (model.enough, model.features[0].psi, model.scores) == (False, None, None)
    assert [len(each.samples) for each in families([model])] == [0, 0, 0, 1]


def test_an_old_row_weighs_less():
    clock = Clock()
    kept = Drift(clock)
    kept.add([KEY, price((800, 0, 0, 0), 8 * ENOUGH)])
    clock.now += 3 * HALF_LIFE
    kept.add([KEY, price((0, 100, 0, 0), 1)])
    [model] = kept.models()
    assert model.features[0].psi == pytest.approx(
        stability_index((50, 30, 20, 0), (100, 100, 0, 0))
    )
    assert model.rows == pytest.approx(200)


def test_without_a_reference_only_missing_values_are_known():
    model = found(price((5, 0, 0, 15), reference=None))
    assert not model.reference
    psi, missing, scores, rows = families([model])
    assert (psi.samples, scores.samples) == ((), ())
    [sample] = missing.samples
    assert (sample.labels, sample.value) == (("books", "8", "price"), 0.75)
    assert [sample.value for sample in rows.samples] == [20]


def test_those_that_drift_most_are_published():
    packets = [price((1000, n, 0, 0), column=n, name=f"f{n:03}") for n in range(70)]
    model = found(*packets)
    psi, missing, _, _ = families([model])
    assert [each.name for each in model.features[:3]] == ["f000", "f001", "f002"]
    expected = {("books", "8", f"f{n:03}") for n in range(MOST_PUBLISHED)}
    assert {sample.labels for sample in psi.samples} == expected
    assert {sample.labels for sample in missing.samples} == expected


def test_a_version_that_left_has_no_series():
    kept = Drift(Clock())
    other = ModelKey("books", "9", "cd")
    for key in (KEY, other):
        kept.add([key, price((1, 1, 1, 1))])
    kept.serve([other])
    assert [model.version for model in kept.models()] == ["9"]
    kept.keep([("books", "7")])
    assert kept.models() == []


def test_another_file_of_that_version_begins_anew():
    kept = Drift(Clock())
    kept.add([KEY, price((500, 0, 0, 0))])
    kept.add([KEY._replace(digest="cd"), price((0, 7), reference=None)])
    [model] = kept.models()
    assert (model.rows, model.reference) == (7, False)


def test_what_a_worker_sends_arrives():
    kept, ends = Drift(Clock()), connect()
    fds = [end.detach() for end in ends]
    log = DriftLog(os.dup(fds[0]), 1)
    writer = AccessLogWriter(fds[1], fds[0], new_aggregates(), drift=kept)
    many = [
        price((3, 2, 1, 0), column=n, name="\N{GREEK SMALL LETTER ALPHA}" * 128)
        for n in range(FEATURES_AT_ONCE)
    ]
    log.counted(KEY, many)
    log.counted(KEY._replace(version="7"), many)
    log.served([KEY])
    writer.close()
    [model] = kept.models()
    assert (model.version, model.rows, len(model.features)) == ("8", 6, FEATURES_AT_ONCE)


EVEN, RARE = (25, 25, 25, 25), (9990, 10, 0, 0)


@pytest.mark.parametrize(
    ("packet", "finding"),
    [
        pytest.param(price((0, 0, 0, 9), 10), "missing everywhere", id="missing"),
        pytest.param(price((0, 0, 0, 9), 9), "", id="too-soon"),
        pytest.param(
            price((0, 0, 0, 9), 10, EVEN), "missing everywhere", id="missing-often-before"
        ),
        pytest.param(price((0, 0, 0, 9), 99, (1, 0, 0, 99)), "", id="missing-always-before"),
        pytest.param(price((0, 0, 0, 9), 99, None), "", id="missing-no-reference-too-soon"),
        pytest.param(price((0, 0, 0, 9), 100, None), "missing everywhere", id="no-reference"),
        pytest.param(price((0, 9, 0, 1), 10, only=3.0), "constant", id="constant"),
        pytest.param(price((9, 0, 0, 0), 200, RARE, only=0.0), "", id="constant-mostly-before"),
        pytest.param(
            price((9, 0, 0, 0), 10000, RARE, only=0.0), "constant", id="too-long-for-that"
        ),
        pytest.param(price((0, 9, 0, 0), 100, None, 3.0), "constant", id="constant-no-reference"),
        pytest.param(price((0, 9, 0, 1), 100, None, 3.0), "", id="indicator-no-reference"),
        pytest.param(price((9, 0, 0, 0), 20), "below all thresholds", id="below"),
        pytest.param(price((0, 0, 9, 1), 10), "above all thresholds", id="above"),
        pytest.param(price((0, 0, 9, 0), 10, ordered=False), "", id="codes"),
        pytest.param(price((0, 9, 0, 0), 10), "", id="between"),
        pytest.param(price((5, 0, 4, 0), 10), "", id="both-sides"),
    ],
)
def test_a_broken_feature_is_found(packet, finding):
    assert found(packet).features[0].finding == finding


def test_lists_have_to_be_alike_one_after_the_other():
    missing, sound = price((0, 0, 0, 9), 6), price((3, 3, 3, 0), 1)
    assert found(missing, sound, missing).features[0].finding == ""
    assert found(sound, missing, missing).features[0].finding == "missing everywhere"
    three, four = (price((0, 9, 0, 0), 6, only=value) for value in (3.0, 4.0))
    assert found(three, four, three, four).features[0].finding == ""


def test_its_metrics_are_in_the_catalogue():
    assert [each.metric for each in families([])] == [
        catalogue.DRIFT_FEATURE_PSI,
        catalogue.DRIFT_FEATURE_MISSING,
        catalogue.DRIFT_SCORE_PSI,
        catalogue.DRIFT_ROWS,
    ]
