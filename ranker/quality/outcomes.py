"""What readers did with the lists that they were shown: labels, joined by request and candidate."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ranker.errors import InvalidRequestError
from ranker.ranking_log.reader import LoggedList

_CANDIDATE_COLUMNS = ("candidate_id", "index")

_INDEX = re.compile("0|[1-9][0-9]*")
"""As `str` writes it, which is how it is looked up."""


class Outcomes:
    """Labels of candidates that were shown.

    Args:
        labels: by request id, and then by candidate.
        by_index: candidates are told by their place in the request, and not by their ids.
    """

    def __init__(self, labels: Mapping[str, Mapping[str, float]], *, by_index: bool) -> None:
        self._labels = labels
        self._by_index = by_index

    @classmethod
    def read(cls, path: str | PathLike[str]) -> Outcomes:
        """Reads a CSV file with the columns request_id, candidate_id or index, and label.

        Raises:
            InvalidRequestError: it is not such a file; names the line.
            OSError: it can't be read.
        """
        path = Path(path)
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                return cls._read(csv.DictReader(file, strict=True), path.name)
        except UnicodeDecodeError as error:
            raise InvalidRequestError(path.name, f"expected UTF-8 text: {error}") from error
        except csv.Error as error:
            raise InvalidRequestError(path.name, f"not comma-separated values: {error}") from error

    @classmethod
    def _read(cls, reader: csv.DictReader[str], file: str) -> Outcomes:
        header = reader.fieldnames or []
        column = next((name for name in _CANDIDATE_COLUMNS if name in header), None)
        if column is None or not {"request_id", "label"} <= set(header):
            raise InvalidRequestError(
                file,
                "expected the columns request_id, candidate_id or index, and label; got "
                + (", ".join(header) or "none"),
            )
        by_index = column == "index"
        labels: dict[str, dict[str, float]] = {}
        for row in reader:
            place = f"{file}, line {reader.line_num}"
            try:
                label = float(row["label"])
            except (TypeError, ValueError):
                label = -1.0
            if not (label >= 0 and np.isfinite(label)):
                raise InvalidRequestError(
                    place, f"expected a label from 0 on, got {row['label']!r}"
                )
            candidate = row[column]
            if by_index and not _INDEX.fullmatch(candidate):
                raise InvalidRequestError(
                    place, f"expected an index, a whole number from 0 on, got {candidate!r}"
                )
            labels.setdefault(row["request_id"], {})[candidate] = label
        return cls(labels, by_index=by_index)

    def of(self, logged: LoggedList) -> NDArray[np.float32] | None:
        """The labels of a list's shown candidates, in the order in which they were shown.

        Returns:
            float32, as many as were shown, 0 for those that the outcomes do not name; None if
            they do not name the list.
        """
        found = self._labels.get(logged.request.request_id)
        if found is None:
            return None
        response = logged.response
        shown = map(str, response.indices) if self._by_index else response.candidate_ids
        labels = [found.get(candidate, 0.0) for candidate in shown]
        if len(labels) != len(response.indices):
            raise InvalidRequestError(
                "outcomes", f"{logged} has no candidate ids; tell its candidates by index"
            )
        return np.array(labels, np.float32)
