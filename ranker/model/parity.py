"""Rows with XGBoost's own scores, which a model's file carries: each load scores them again.

So an engine that errs, or a machine that computes otherwise than the one that exported,
is found before the first request, on the engine that will serve. It is most probably found
that a file was damaged, but not for sure: these rows don't come by all leaves of large
models. For that, published models have digests.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranker.engine.api import Engine, Rows, Scores
from ranker.errors import ModelError

MOST_ROWS = 64
LEAST_ROWS = 8
MOST_CELLS = 1 << 15
"""Of a wide model there are fewer rows, so that they have no more values than this."""

_PIECES = (1, 7)
"""Rows are scored all together, but so many at a time, too: engines do few rows in another way than
many."""

_CELLS_AT_ONCE = 1 << 22
"""Of a very wide model fewer rows are scored at a time."""

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
            ModelError: it is something else, or holds more rows than an export writes.
        """
        try:
            content = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise ModelError(f"parity rows: not base64: {error}") from error
        rows, columns = (int(count) for count in np.frombuffer(content[:8].ljust(8), "<i4"))
        expected = 4 * (2 + columns + rows * columns + rows)
        if rows < 1 or columns < 0 or len(content) != expected:
            raise ModelError(f"parity rows: {len(content)} bytes do not hold {rows} x {columns}")
        if rows > MOST_ROWS:
            raise ModelError(f"parity rows: expected at most {MOST_ROWS}, got {rows}")
        numbers = np.frombuffer(content, "<f4", offset=8 + 4 * columns)
        return cls(
            np.frombuffer(content, "<i4", columns, offset=8),
            numbers[: rows * columns].reshape(rows, columns),
            numbers[rows * columns :],
        )

    def rows(self, num_features: int, which: NDArray[np.intp] | slice = slice(None)) -> Rows:
        """The rows, or some of them, as an engine takes them: float32 [n, num_features].

        Raises:
            ModelError: the model has fewer columns.
        """
        if len(self.columns) and not 0 <= self.columns.min() <= self.columns.max() < num_features:
            raise ModelError(f"parity rows: a column beyond the model's {num_features}")
        values = self.values[which]
        rows = np.full((len(values), num_features), np.nan, np.float32)
        rows[:, self.columns] = values
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
        for which in self._pieces(engine.num_features):
            got = engine.score([self.rows(engine.num_features, which)])
            difference = np.abs(got.astype(np.float64) - want[which])
            wrong = np.flatnonzero(~(difference <= allowed))
            if len(wrong):
                at = int(wrong[0])
                row = int(which[at])
                raise ModelError(
                    f"parity row {row}: expected {want[row]:.9g}, XGBoost's own score, got "
                    f"{got[at]:.9g} of engine {engine.name}; {len(wrong)} of {len(which)} rows "
                    "differ that were scored together: the file is damaged, or the engine errs on "
                    "this machine. Export the model again; if that does not help, try another "
                    "--engine, and report it"
                )

    def _pieces(self, num_features: int) -> Iterator[NDArray[np.intp]]:
        """The rows that are scored together: all of them, all of them twice, and few."""
        every = np.arange(len(self.values))
        most = max(1, _CELLS_AT_ONCE // num_features)
        for size in (len(every), 2 * len(every), *_PIECES):
            rows = every if size <= len(every) else np.tile(every, 2)
            size = min(size, most)
            for start in range(0, len(rows), size):
                yield rows[start : start + size]
