"""A model while it is served."""

from __future__ import annotations

import logging
import random
import time
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ranker.errors import ModelError
from ranker.incident import incident
from ranker.metrics.model_recorder import ModelRecorder
from ranker.model import Model
from ranker.serving.batcher import LONG_LISTS_ROWS, Batcher
from ranker.serving.cost import CostModel

if TYPE_CHECKING:
    from ranker.serving.task import RankTask

logger = logging.getLogger(__name__)

_WARM_ROWS = (1, 16, 256)

_FEATURES = 64
"""Of a model with more of them a batch has fewer candidates, whose rows take as many bytes, but no
fewer than `LONG_LISTS_ROWS`."""


class ServedModel:
    """A model with all that serving it takes.

    A list that is being ranked holds the model that ranks it, so that one which is no
    longer served stays until its last list is answered.

    Args:
        model: what is served.
        max_batch_rows: the most candidates that are scored at once, if there are no more than 64
            features.
        metrics: where its work is recorded.
        ranges: between which thresholds its features are told apart (`ranker.forest.ranges`); None
            if that isn't known.

    Attributes:
        model: likewise.
        name: the model's name on the wire.
        version: its version on the wire.
        engine: scores its candidates.
        features: what its columns are called.
        batcher: what waits for it, and what its batches are predicted to cost.
        explaining: predicts what explanations cost, by the candidates.
        metrics: likewise.
        ranges: likewise.
    """

    def __init__(
        self,
        model: Model,
        max_batch_rows: int,
        metrics: ModelRecorder,
        ranges: NDArray[np.float32] | None = None,
    ) -> None:
        self.model = model
        self.name = model.name
        self.version = model.version
        self.engine = model.engine
        self.features = model.features
        fewer = max_batch_rows * _FEATURES // model.engine.num_features
        most_rows = min(max_batch_rows, max(fewer, LONG_LISTS_ROWS))
        self.batcher: Batcher[RankTask] = Batcher(
            most_rows, splits_long=model.engine.batches_at_once == 1
        )
        self.explaining = CostModel()
        self.metrics = metrics
        self.ranges = ranges

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"

    def warm(self) -> None:
        """Scores made-up rows, so that no request is the first, and learns what batches cost.

        Raises:
            ModelError: the model was loaded, but can't score; names it and says why.
        """
        try:
            for rows in (*_WARM_ROWS, *_WARM_ROWS):
                block = _made_up(rows, self.engine.num_features)
                started = time.monotonic()
                self.engine.score([block])
                self.batcher.cost.observe(rows, time.monotonic() - started)
        except Exception as error:
            what = f"{self}: engine {self.engine.name} can't score"
            incident(logger, what, error)
            raise ModelError(f"{what}: {error}") from error


def _made_up(rows: int, features: int) -> NDArray[np.float32]:
    """Rows of numbers from -2 to 2, the same each time; float32 [rows, features]."""
    # Not from np.random: to import it takes as long as all that is done with the rows.
    numbers = np.frombuffer(random.Random(rows).randbytes(4 * rows * features), np.int32)
    return numbers.astype(np.float32).reshape(rows, features) / np.float32(2**30)
