"""What a batch will cost: seconds = a + b * rows, fitted online."""

from __future__ import annotations

_MEMORY = 0.98
"""Of the last 50 batches."""

_OUTLIER = 4.0
"""A batch that took this many times its prediction was held up by something else."""

_TRUSTED = 5.0
"""The weight of observations from which a prediction can tell an outlier."""


class CostModel:
    """Predicts how long a batch takes from how many rows it has.

    Weighted least squares over (rows, seconds) with exponentially fading
    weights, kept as five sums. Both coefficients stay non-negative.

    Args:
        memory: the weight of the past at each observation.
        outlier: what takes so many times its prediction counts as that, and no more.
    """

    def __init__(self, memory: float = _MEMORY, outlier: float = _OUTLIER) -> None:
        self._memory = memory
        self._outlier = outlier
        self._weight = self._x = self._y = self._xx = self._xy = 0.0
        self.fixed = 0.0
        self.per_row = 0.0

    def predict(self, rows: float) -> float:
        """Seconds that a batch of so many rows will take; 0 before any observation."""
        return self.fixed + self.per_row * rows

    def observe(self, rows: float, seconds: float) -> None:
        """Learns from a batch that was scored."""
        if self._weight > _TRUSTED:
            most = self._outlier * (self.fixed + self.per_row * rows)
            seconds = seconds if seconds < most else most
        memory = self._memory
        self._weight = self._weight * memory + 1.0
        self._x = self._x * memory + rows
        self._y = self._y * memory + seconds
        self._xx = self._xx * memory + rows * rows
        self._xy = self._xy * memory + rows * seconds
        spread = self._weight * self._xx - self._x * self._x
        if spread > 1e-6 * self._weight * self._xx:
            slope = (self._weight * self._xy - self._x * self._y) / spread
            intercept = (self._y - slope * self._x) / self._weight
            if slope >= 0.0 and intercept >= 0.0:
                self.per_row, self.fixed = slope, intercept
                return
            if slope < 0.0:
                self.per_row, self.fixed = 0.0, self._y / self._weight
                return
        self.per_row, self.fixed = self._xy / self._xx, 0.0
