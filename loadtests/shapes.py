"""How load changes over a run: the fraction of the peak at each moment.

The peak and the run's length are the caller's; a shape is what lies between.
"""

from __future__ import annotations

from collections.abc import Callable

Shape = Callable[[float], float]
"""From the fraction of the run that has passed (0 to 1) to that of the peak (0 to 1)."""

STEPS = 10
BASELINE = 0.2
"""The load around a spike."""
SPIKE = (0.4, 0.6)
"""When the spike comes and goes."""


def steady(progress: float) -> float:  # noqa: ARG001
    """The peak throughout."""
    return 1.0


def ramp(progress: float) -> float:
    """From nothing to the peak, evenly."""
    return progress


def spike(progress: float) -> float:
    """A baseline, five times as much for the middle fifth of the run, and the baseline again."""
    return 1.0 if SPIKE[0] <= progress < SPIKE[1] else BASELINE


def steps(progress: float) -> float:
    """Ten stairs up to the peak, which should be beyond saturation."""
    return min(STEPS, int(progress * STEPS) + 1) / STEPS


SHAPES: dict[str, Shape] = {"steady": steady, "ramp": ramp, "spike": spike, "steps": steps}
