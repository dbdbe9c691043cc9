"""Why one candidate scores above another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two candidates' explanations, one less the other; as a string, for a person to read.

    Attributes:
        feature_names: F names; empty if the model has none.
        above: float32 [F], the features of the one.
        below: float32 [F], those of the other.
        contributions: float32 [F]; how much more each feature adds to the score
            of the one. They add up to the difference of the two margins.
    """

    feature_names: Sequence[str]
    above: NDArray[np.float32]
    below: NDArray[np.float32]
    contributions: NDArray[np.float32]

    @property
    def difference(self) -> float:
        """By how much the one's margin is above the other's."""
        return float(self.contributions.sum(dtype=np.float64))

    def largest(self, count: int = 0) -> list[int]:
        """The features that differ most in what they add, as column numbers, largest first.

        Args:
            count: how many; 0 for all that differ at all.
        """
        order = np.argsort(-np.abs(self.contributions), kind="stable")
        order = order[self.contributions[order] != 0]
        return [int(column) for column in (order[:count] if count else order)]

    def name(self, column: int) -> str:
        """What a column is called; its number if it has no name."""
        return self.feature_names[column] if self.feature_names else f"f{column}"

    def __str__(self) -> str:
        """The difference, and a line for each of the ten features that matter most to it."""
        columns = self.largest(10)
        width = max((len(self.name(column)) for column in columns), default=0)
        lines = [
            f"{self.name(column):{width}}  {self.contributions[column]:+.4f}  "
            f"{self.above[column]:g} against {self.below[column]:g}"
            for column in columns
        ]
        return "\n".join([f"difference {self.difference:+.4f}", *lines])
