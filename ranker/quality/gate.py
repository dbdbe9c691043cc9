"""Gates: what an evaluation must show for a model to go on."""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass

from ranker.errors import InvalidRequestError
from ranker.quality.metrics import PATTERN, Metric

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_GATE = re.compile(
    rf"\s*(?:(?P<metric>{PATTERN})|low\(\s*(?P<low>{PATTERN})\s*\))"
    rf"\s*(?P<comparison>>=|<=|>|<)\s*"
    rf"(?:(?P<number>{_NUMBER})|baseline(?:\s*(?P<sign>[-+*])\s*(?P<change>{_NUMBER}))?)\s*"
)
_COMPARISONS = {">=": operator.ge, ">": operator.gt, "<=": operator.le, "<": operator.lt}
_CHANGES = {"+": operator.add, "-": operator.sub, "*": operator.mul}

FORM = "`METRIC >= LIMIT`, as in `ndcg@10 >= baseline - 0.002` or `low(map) > 0.3`"
"""What a gate looks like, for messages."""


@dataclass(frozen=True)
class Gate:
    """A condition on one metric.

    The left side is a metric, or `low(...)` of one: the lower end of its interval; where
    the limit is counted from the baseline, of the difference's interval, added to the
    baseline. The right side is a number, or `baseline`, with `+`, `-` or `*` and a number
    or without.

    Attributes:
        text: as it was written.
        metric: what it is about.
        low: whether the lower end must meet it.
        comparison: `>=`, `>`, `<=` or `<`.
        relative: whether the limit is counted from the baseline.
        sign: `+`, `-` or `*` if it is.
        number: the limit, or its distance from the baseline.
    """

    text: str
    metric: Metric
    low: bool
    comparison: str
    relative: bool
    sign: str
    number: float

    @classmethod
    def parse(cls, text: str) -> Gate:
        """Reads a gate.

        Raises:
            InvalidRequestError: it is none.
        """
        found = _GATE.fullmatch(text)
        if found is None:
            raise InvalidRequestError("gate", f"expected {FORM}, got {text!r}")
        relative = found["number"] is None
        return cls(
            text=" ".join(text.split()),
            metric=Metric.parse(found["metric"] or found["low"]),
            low=found["low"] is not None,
            comparison=found["comparison"],
            relative=relative,
            sign=found["sign"] or "+",
            number=float(found["change"] or 0 if relative else found["number"]),
        )

    def limit(self, baseline: float | None) -> float:
        """What the left side is compared with.

        Raises:
            InvalidRequestError: it is counted from a baseline, and there is none.
        """
        if not self.relative:
            return self.number
        if baseline is None:
            raise InvalidRequestError("gate", f"{self.text!r} needs a baseline")
        limit: float = _CHANGES[self.sign](baseline, self.number)
        return limit

    def passes(self, value: float, baseline: float | None) -> bool:
        """Whether a value meets it."""
        return bool(_COMPARISONS[self.comparison](value, self.limit(baseline)))
