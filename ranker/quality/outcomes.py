"""What readers did with the lists that they were shown: labels, joined by request and candidate."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ranker.errors import InvalidRequestError
from ranker.ranking_log.reader import LoggedList

_CANDIDATE_COLUMNS = ("candidate_id", "index")

_INDEX = re.compile("0|[1-9][0-9]*")
"""As `str` writes it, which is how it is looked up."""


class Judged(NamedTuple):
    """What is known of a list's shown candidates, in the order in which they were shown.

    Attributes:
        labels: float32; 0 for those that the outcomes do not name.
        propensities: float64, above 0, up to 1; 1 for those, and where the outcomes have none.
    """

    labels: NDArray[np.float32]
    propensities: NDArray[np.float64]


_UNNAMED = (0.0, 1.0)


class Outcomes:
    """Labels of candidates that were shown.

    Counts which of them belong to the lists that it is asked of.

    Args:
        found: label and propensity, by request id, and then by candidate.
        by_index: candidates are told by their place in the request, and not by their ids.
        source: where they come from, for a person to read.

    Attributes:
        has_propensities: whether they have propensities of their own.
        lists: how many lists it was asked of.
        joined: how many of these it names.
    """

    def __init__(
        self,
        found: Mapping[str, Mapping[str, tuple[float, float]]],
        *,
        by_index: bool,
        source: str = "outcomes",
        has_propensities: bool = False,
    ) -> None:
        self._found = found
        self._by_index = by_index
        self._source = source
        self.has_propensities = has_propensities
        self.lists = self.joined = 0
        self._unmatched = {name: set(candidates) for name, candidates in found.items()}
        self._total = self.unmatched
        self._first = ""  # id of a list

    @property
    def unmatched(self) -> int:
        """How many outcomes belong to no candidate that was shown in the lists so far."""
        return sum(map(len, self._unmatched.values()))

    @classmethod
    def read(
        cls, path: str | PathLike[str], label: str = "label", propensity: str = ""
    ) -> Outcomes:
        """Reads a CSV file with the columns request_id, candidate_id or index, and label.

        Args:
            path: the file.
            label: what its column of labels is called.
            propensity: what its column is called of how likely a user looked at the candidate;
                empty: it has none.

        Raises:
            InvalidRequestError: it is not such a file; names the line.
            OSError: it can't be read.
        """
        path = Path(path)
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                return cls._read(csv.DictReader(file, strict=True), path.name, label, propensity)
        except UnicodeDecodeError as error:
            raise InvalidRequestError(path.name, f"expected UTF-8 text: {error}") from error
        except csv.Error as error:
            raise InvalidRequestError(path.name, f"not comma-separated values: {error}") from error

    @classmethod
    def _read(cls, reader: csv.DictReader[str], file: str, label: str, propensity: str) -> Outcomes:
        header = reader.fieldnames or []
        column = next((name for name in _CANDIDATE_COLUMNS if name in header), None)
        needed = [name for name in (label, propensity) if name]
        if column is None or not {"request_id", *needed} <= set(header):
            raise InvalidRequestError(
                file,
                f"expected the columns request_id, candidate_id or index, and {', '.join(needed)}; "
                f"got {', '.join(header) or 'none'}",
            )
        by_index = column == "index"
        found: dict[str, dict[str, tuple[float, float]]] = {}
        for row in reader:
            place = f"{file}, line {reader.line_num}"
            _refuse_other_width(place, row)
            judged = _number(row[label]), _number(row[propensity]) if propensity else 1.0
            if not judged[0] >= 0:
                raise InvalidRequestError(place, f"expected a label from 0 on, got {row[label]!r}")
            if not 0 < judged[1] <= 1:
                raise InvalidRequestError(
                    place, f"expected a propensity above 0, up to 1, got {row[propensity]!r}"
                )
            candidate, request_id = row[column], row["request_id"]
            if not request_id:  # it would belong to every list that was sent without one
                raise InvalidRequestError(place, "expected a request_id, got none")
            if by_index and not _INDEX.fullmatch(candidate):
                raise InvalidRequestError(
                    place, f"expected an index, a whole number from 0 on, got {candidate!r}"
                )
            found.setdefault(request_id, {})[candidate] = judged
        return cls(found, by_index=by_index, source=file, has_propensities=bool(propensity))

    def of(self, logged: LoggedList) -> Judged | None:
        """What is known of a list's shown candidates; None if the outcomes do not name the list."""
        request_id = logged.request.request_id
        self.lists += 1
        self._first = self._first or request_id
        found = self._found.get(request_id)
        if found is None:
            return None
        self.joined += 1
        response = logged.response
        shown = list(map(str, response.indices) if self._by_index else response.candidate_ids)
        if len(shown) != len(response.indices):
            raise InvalidRequestError(
                self._source, f"{logged} has no candidate ids; tell its candidates by index"
            )
        self._unmatched[request_id].difference_update(shown)
        judged = np.array([found.get(candidate, _UNNAMED) for candidate in shown])
        labels, propensities = judged.reshape(-1, 2).T
        return Judged(labels.astype(np.float32), propensities.copy())

    def check(self) -> None:
        """Raises InvalidRequestError if none of them belongs to the lists that it was asked of."""
        if self.lists and self.unmatched == self._total:
            first = next(iter(self._found), "")
            theirs = repr(self._first) if self._first else "none: callers have to send one"
            raise InvalidRequestError(
                self._source,
                f"none of its {self._total} outcomes is of a candidate that was shown in the "
                f"{self.lists} lists of the log; its first request_id is {first!r}, the log's is "
                + theirs,
            )

    def __str__(self) -> str:
        """What matched, for a person to read."""
        text = f"{self.joined} of {self.lists} lists have outcomes"
        if self.unmatched:
            text += (
                f"; {self.unmatched} of the {self._total} outcomes are of no candidate that was "
                "shown in them"
            )
        return text


def _refuse_other_width(place: str, row: Mapping[str | None, str | list[str] | None]) -> None:
    """Refuses a line with more or fewer cells than there are columns.

    Args:
        place: where the line is.
        row: as `csv.DictReader` makes it: None is the value of a column without a cell, and the
            key of the cells that are too many.
    """
    columns = [name for name in row if name is not None]
    cells = sum(row[name] is not None for name in columns) + len(row.get(None) or ())
    if cells != len(columns):
        raise InvalidRequestError(place, f"expected {len(columns)} cells, got {cells}")


def _number(text: str | None) -> float:
    """A finite number; NaN if it is none."""
    try:
        number = float(text or "")
    except ValueError:
        return math.nan
    return number if math.isfinite(number) else math.nan
