"""What readers did with the lists that they were shown: labels, joined by request and candidate."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ranker.errors import InvalidRequestError
from ranker.ranking_log.reader import LoggedList

_CANDIDATE_COLUMNS = ("candidate_id", "index")


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
        labels: dict[str, dict[str, float]] = {}
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            header = reader.fieldnames or []
            column = next((name for name in _CANDIDATE_COLUMNS if name in header), None)
            if column is None or not {"request_id", "label"} <= set(header):
                raise InvalidRequestError(
                    path.name,
                    "expected the columns request_id, candidate_id or index, and label; got "
                    + (", ".join(header) or "none"),
                )
            for row in reader:
                try:
                    label = float(row["label"])
                except (TypeError, ValueError):
                    label = -1.0
                if not (label >= 0 and np.isfinite(label)):
                    raise InvalidRequestError(
                        f"{path.name}, line {reader.line_num}",
                        f"expected a label from 0 on, got {row['label']!r}",
                    )
                labels.setdefault(row["request_id"], {})[row[column]] = label
        return cls(labels, by_index=column == "index")

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
