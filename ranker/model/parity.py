"""Rows with XGBoost's own scores, which a model's file carries: each load scores them again.

So a file that was damaged, an engine that errs, or a machine that computes otherwise
than the one that exported is found before the first request, on the engine that will
serve.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranker.engine.api import Engine, Rows, Scores
from ranker.errors import ModelError

MOST_ROWS = 64
LEAST_ROWS = 8
MOST_CELLS = 1 << 15
"""Of a wide model there are fewer rows, so that they have no more values than this."""

_RELATIVE_DIFFERENCE = 1e-5
"""Of the margins' size: an engine that does not add in the order of the trees may err so much."""

_PROBABILITY_DIFFERENCE = 1e-6
"""`exp` differs so much between machines."""


@dataclass(frozen=True, eq=False)
class ParityRows:
    """Rows, and what XGBoost makes of them.

    Attributes:
        columns: int32 [u], the columns that the model's trees read; all others are missing.
        values: float32 [n, u], the rows' values in these columns.
        margins: float32 [n], XGBoost's `predict(output_margin=True)`.
    """

    columns: NDArray[np.int32]
    values: NDArray[np.float32]
    margins: Scores

    def to_text(self) -> str:
        """As text for the metadata: base64 of two counts, n and u, and of the three arrays."""
        counts = np.array(self.values.shape, "<i4")
        arrays = (self.columns.astype("<i4"), self.values.astype("<f4"), self.margins.astype("<f4"))
        return base64.b64encode(b"".join(part.tobytes() for part in (counts, *arrays))).decode()

    @classmethod
    def from_text(cls, text: str) -> ParityRows:
        """Reads what `to_text` wrote.

        Raises:
            ModelError: it is something else.
        """
        try:
            content = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise ModelError(f"parity rows: not base64: {error}") from error
        rows, columns = (int(count) for count in np.frombuffer(content[:8].ljust(8), "<i4"))
        expected = 4 * (2 + columns + rows * columns + rows)
        if rows < 1 or columns < 0 or len(content) != expected:
            raise ModelError(f"parity rows: {len(content)} bytes do not hold {rows} x {columns}")
        numbers = np.frombuffer(content, "<f4", offset=8 + 4 * columns)
        return cls(
            np.frombuffer(content, "<i4", columns, offset=8),
            numbers[: rows * columns].reshape(rows, columns),
            numbers[rows * columns :],
        )

    def rows(self, num_features: int) -> Rows:
        """The rows as an engine takes them: float32 [n, num_features].

        Raises:
            ModelError: the model has fewer columns.
        """
        if len(self.columns) and not 0 <= self.columns.min() <= self.columns.max() < num_features:
            raise ModelError(f"parity rows: a column beyond the model's {num_features}")
        rows = np.full((len(self.values), num_features), np.nan, np.float32)
        rows[:, self.columns] = self.values
        return rows

    def replay(self, engine: Engine, *, probability: bool) -> None:
        """Has an engine score the rows.

        Margins must be XGBoost's own, to the last bit where the engine is exact.

        Args:
            engine: what will serve.
            probability: whether its scores are probabilities.

        Raises:
            ModelError: a score differs; names the row, the score and what was expected.
        """
        for part in engine.parts or (engine,):
            self._replay(part, probability)

    def _replay(self, engine: Engine, probability: bool) -> None:
        want, allowed = self.margins, 0.0
        if probability:
            with np.errstate(over="ignore"):  # to infinity, which is the right way
                want = (1 / (1 + np.exp(-want.astype(np.float64)))).astype(np.float32)
            allowed = _PROBABILITY_DIFFERENCE
        elif not engine.exact:
            allowed = _RELATIVE_DIFFERENCE * max(float(np.ptp(want)), float(np.abs(want).max()))
        got = engine.score([self.rows(engine.num_features)])
        difference = np.abs(got.astype(np.float64) - want)
        wrong = np.flatnonzero(~(difference <= allowed))
        if len(wrong):
            row = int(wrong[0])
            raise ModelError(
                f"parity row {row}: expected {want[row]:.9g}, XGBoost's own score, got "
                f"{got[row]:.9g} of engine {engine.name}; {len(wrong)} of {len(want)} rows differ: "
                "the file is damaged, or the engine errs on this machine. Export the model again; "
                "if that does not help, try another --engine, and report it"
            )
