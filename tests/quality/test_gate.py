from __future__ import annotations

import pytest

from ranker.errors import InvalidRequestError
from ranker.quality import Gate


@pytest.mark.parametrize(
    ("text", "value", "baseline", "passes"),
    [
        ("ndcg@10 >= baseline - 0.002", 0.7, 0.702, True),
        ("ndcg@10 >= baseline - 0.002", 0.69, 0.702, False),
        ("ndcg@10>=baseline-0.002", 0.7, 0.702, True),
        ("map > baseline", 0.5, 0.5, False),
        ("map >= baseline", 0.5, 0.5, True),
        ("map >= baseline + .1", 0.6, 0.5, True),
        ("mrr >= baseline * 0.99", 0.5, 0.505, True),
        ("mrr >= 0.5", 0.5, None, True),
        ("mrr < 5e-1", 0.5, None, False),
        ("mrr <= 0.5", 0.5, None, True),
        ("low(recall@5) >= 0.2", 0.1, None, False),
    ],
)
def test_gates_hold_or_not(text, value, baseline, passes):
    assert Gate.parse(text).passes(value, baseline) == passes


def test_a_gate_says_what_it_is_about():
    gate = Gate.parse("low( pre@5 )  >=  baseline  -  0.01")
    assert (str(gate.metric), gate.low, gate.comparison) == ("precision@5", True, ">=")
    assert gate.text == "low( pre@5 ) >= baseline - 0.01"
    assert gate.limit(0.5) == 0.49


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ndcg@10",
        "ndcg@10 >=",
        "auc >= 0.5",
        "ndcg@10 = 0.5",
        "ndcg@10 >= baseline 0.5",
        "ndcg@10 >= baseline / 2",
        "ndcg@10 >= 0.5 and map >= 0.5",
        "low(ndcg@10 >= 0.5",
        "0.5 <= ndcg@10",
        "ndcg@10 >= baseline - low(map)",
    ],
)
def test_what_is_no_gate_is_refused(text):
    with pytest.raises(InvalidRequestError, match=r"gate: expected `METRIC >= LIMIT`"):
        Gate.parse(text)


def test_a_gate_against_a_baseline_needs_one():
    with pytest.raises(InvalidRequestError, match="'map > baseline' needs a baseline"):
        Gate.parse("map > baseline").passes(1.0, None)
