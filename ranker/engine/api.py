"""What an engine is: float32 rows in, float32 scores out, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]
"""Candidate features, C-contiguous float32 [n, num_features]; NaN is missing. They lie where they
came, in a message, and may not be aligned."""

Scores = NDArray[np.float32]
"""One score per row, float32 [n]."""


Contributions = NDArray[np.float32]
"""What each feature adds to each score, and the bias last: float32 [n, num_features + 1]."""


class EngineLostError(Exception):
    """The engine can't score any more in this process, whatever it is given."""


class Engine(Protocol):
    """Scores rows with one model.

    Implementations are thread-safe and release the GIL while they score.
    """

    name: str
    """The engine's name on the command line and in metrics: `simd`, `onnx`, `cuda`."""

    num_features: int
    """The number of columns of every block."""

    batches_at_once: int = 1
    """How many `score` calls, from as many threads, keep it busy without a pause.

    More than one where batches overlap: a GPU copies one while it scores another.
    """

    gpu: str = ""
    """The PCI bus id of the GPU that it uses; empty if it uses none, or can't tell."""

    exact: bool = True
    """Whether a score is the float32 sum of the leaves in the order of the trees, to the bit."""

    parts: Sequence[Engine] = ()
    """The engines that it gives its batches to, if it is not the one that scores."""

    def score(self, blocks: Sequence[Rows]) -> Scores:
        """Scores the rows of all blocks as one batch.

        Args:
            blocks: one or more arrays [n_i, num_features], each C-contiguous
                float32 of any alignment; they are read where they lie.

        Returns:
            A new array of sum(n_i) scores, in the order of the blocks' rows.

        Raises:
            EngineLostError: only another process can score.
        """


class Explainer(Protocol):
    """Says what each feature adds to a row's score, as XGBoost's `pred_contribs` does.

    Implementations are thread-safe and release the GIL while they work.
    """

    num_features: int
    """The number of columns of every block."""

    def explain(self, blocks: Sequence[Rows]) -> Contributions:
        """Explains the scores of the rows of all blocks, as one batch.

        Args:
            blocks: as for `Engine.score`.

        Returns:
            A new array float32 [sum(n_i), num_features + 1], in the order of the
            blocks' rows: a contribution per feature, and the bias last. A row of
            it adds up to the margin: the score, or what a sigmoid makes it of.
        """


class LoadedEngine(NamedTuple):
    """An engine, and in one sentence why it is this one."""

    engine: Engine
    reason: str


def check_blocks(blocks: Sequence[Rows], num_features: int) -> None:
    """Raises ValueError unless every block is float32 [n, num_features]."""
    for block in blocks:
        if block.dtype != np.float32 or block.shape[1:] != (num_features,):
            raise ValueError(
                f"expected float32 [n, {num_features}], got {block.dtype} {list(block.shape)}"
            )
