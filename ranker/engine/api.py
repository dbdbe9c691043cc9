"""What an engine is: float32 rows in, float32 scores out, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]
"""Candidate features, C-contiguous float32 [n, num_features]; NaN is missing."""

Scores = NDArray[np.float32]
"""One score per row, float32 [n]."""


class Engine(Protocol):
    """Scores rows with one model.

    Implementations are thread-safe and release the GIL while they score.
    """

    @property
    def name(self) -> str:
        """The engine's name on the command line and in metrics: `simd`, `onnx`, `cuda`."""

    @property
    def num_features(self) -> int:
        """The number of columns of every block."""

    def score(self, blocks: Sequence[Rows]) -> Scores:
        """Scores the rows of all blocks as one batch.

        Args:
            blocks: one or more arrays [n_i, num_features], each C-contiguous
                float32 of any alignment; they are read where they lie.

        Returns:
            A new array of sum(n_i) scores, in the order of the blocks' rows.
        """
