"""What `ranker serve` says of its environment."""

from __future__ import annotations

import logging

import pytest

from ranker.cli.serve import serve, warn_of_unknown_variables


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("RANKER_METRIC_PORT", "RANKER_METRICS_PORT"),
        ("RANKER_MAX_QUEUE_ROW", "RANKER_MAX_QUEUE_ROWS"),
        ("RANKER_FAVOURITE_COLOUR_OF_ALL", None),
    ],
)
def test_a_variable_that_sets_nothing_is_named(caplog, name, meant):
    warn_of_unknown_variables(serve, {name: "1", "RANKER_PORT": "50051", "HOME": "/"})
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert name in record.getMessage()
    assert ("did you mean" in record.getMessage()) == (meant is not None)
    assert meant is None or record.getMessage().endswith(f"{meant}?")


@pytest.mark.parametrize(
    "name",
    [
        "RANKER_GCP_PROJECT",
        "RANKER_MODELS",
        "RANKER_RANK_TARGET",
        pytest.param("RANKER_SERVICE_HOST", id="of-kubernetes"),
        pytest.param("RANKER_PORT_50051_TCP_ADDR", id="of-kubernetes-too"),
    ],
)
def test_other_variables_are_not(caplog, name):
    warn_of_unknown_variables(serve, {name: "1"})
    assert not caplog.records
