"""The categories of a feature: what its codes 0, 1, 2 and so on stand for.

XGBoost keeps them in a model since version 3.1, for what was trained on a data
frame, and codes a frame's categories by their value at prediction. The same is
done here wherever values come in: in `Model`, the Python client and `ranker
rank`. Nothing but NumPy is needed for it.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from typing import cast

import numpy as np
from numpy.typing import NDArray

from ranker.errors import InvalidRequestError, ModelError

_SHOWN = 5
"""How many categories an error lists."""


class Categories:
    """The categories of one feature, in the order of their codes.

    Args:
        values: one or more, each once: all of them texts, or all integers of 64 bits.

    Attributes:
        values: likewise.

    Raises:
        ModelError: they are something else; without the feature's name.
    """

    def __init__(self, values: Sequence[str | int]) -> None:
        self.values = tuple(values)
        kinds = set(map(type, self.values))
        if kinds not in ({str}, {int}):
            raise ModelError(
                f"expected categories that are all texts or all integers, got "
                f"{', '.join(sorted(kind.__name__ for kind in kinds)) or 'none'}"
            )
        if len(set(self.values)) != len(self.values):
            raise ModelError("a category stands twice")
        if any(not -(2**63) <= value < 2**63 for value in self.integers):
            raise ModelError("a category is beyond 64 bits")
        try:
            "".join(self.texts).encode()
        except UnicodeEncodeError as error:
            raise ModelError(f"a category can't be written in UTF-8: {error}") from error

    @property
    def texts(self) -> tuple[str, ...]:
        """The values, if they are texts; else empty."""
        return cast("tuple[str, ...]", self.values) if isinstance(self.values[0], str) else ()

    @property
    def integers(self) -> tuple[int, ...]:
        """The values, if they are integers; else empty."""
        return cast("tuple[int, ...]", self.values) if isinstance(self.values[0], int) else ()

    @cached_property
    def _codes(self) -> dict[str, int]:
        # Made where values are coded: a server has no use for it.
        return {str(value): code for code, value in enumerate(self.values)}

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the values as a JSON array, in hexadecimal, to compare them by."""
        text = json.dumps(self.values, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Categories) and self.values == other.values

    __hash__ = None  # type: ignore[assignment]

    def code(self, place: str, value: str | int) -> int:
        """The code of one value.

        Args:
            place: what to call the value's place in an error: a column or a cell.
            value: a category. An integer may be spelt as text, which can be
                nothing but a value, while a number might be a code.

        Raises:
            InvalidRequestError: the feature has no such category.
        """
        return int(self.codes(place, [value], np.zeros(1, np.intp))[0])

    def codes(
        self, place: str, dictionary: Sequence[str | int], indices: NDArray[np.integer]
    ) -> NDArray[np.float32]:
        """The codes of a column that is given by its distinct values.

        Args:
            place: what to call the column in an error.
            dictionary: its distinct values, all texts or all integers.
            indices: [n], the position in `dictionary` of each row's value;
                negative: missing.

        Returns:
            float32 [n]; NaN where a value is missing.

        Raises:
            InvalidRequestError: names the values in use that are no category,
                as XGBoost refuses them. A value that no row has does no harm.
        """
        if self.texts and any(not isinstance(value, str) for value in dictionary):
            raise InvalidRequestError(
                place, f"expected texts, the categories being {self._some()}, got integers"
            )
        # One more for the missing ones: -1 is the last.
        codes = np.full(len(dictionary) + 1, np.nan, np.float32)
        unknown = np.zeros(len(dictionary) + 1, np.bool_)
        for index, value in enumerate(dictionary):
            code = self._codes.get(str(value))
            unknown[index] = code is None
            codes[index] = np.nan if code is None else code
        rows = np.where(indices < 0, -1, indices)
        if unknown[rows].any():
            strange = [dictionary[index] for index in np.unique(rows[unknown[rows]])]
            raise InvalidRequestError(place, self._refusal(strange))
        return codes[rows]

    def _refusal(self, strange: Sequence[str | int]) -> str:
        listed = ", ".join(map(repr, strange[:_SHOWN])) + (", ..." * (len(strange) > _SHOWN))
        close = difflib.get_close_matches(str(strange[0]), self._codes, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        return (
            f"the model has no category {listed}{hint}; it has {self._some()}. Send a missing "
            "value for what it was not trained on"
        )

    def _some(self) -> str:
        more = f", ... ({len(self)} in all)" if len(self) > _SHOWN else ""
        return ", ".join(map(repr, self.values[:_SHOWN])) + more
