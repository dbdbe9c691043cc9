"""Entries to be logged, and what reads them again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ranker.metrics.aggregates import Aggregates
from ranker.metrics.ranking_log_recorder import RankingLogRecorder
from ranker.metrics.snapshot import snapshot
from ranker.ranking_log.entry import OVERHEAD, Entry, Origin
from ranker.ranking_log.exclusion import Exclusion
from ranker.ranking_log.reader import LoggedList, open_log
from ranker.ranking_log.writer import Writer
from ranker.v1 import ranking_pb2 as pb
from tests.metrics.support import new_aggregates
from tests.waiting import PATIENCE

NAMES = ("age", "price")
BOOKS = Origin("books", "7", "ab" * 32, "simd", NAMES, "stable", 0.5, True)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SECOND = 10**9
START = 1_795_895_383 * SECOND


def request(rows: Any = ((1, 2), (3, 4)), **fields: Any) -> pb.RankRequest:
    rows = np.asarray(rows, "<f4")
    matrix = pb.Matrix(rows=rows.shape[0], columns=rows.shape[1], data=rows.tobytes())
    return pb.RankRequest(candidates=matrix, **fields)


def entry(
    request_id: str = "r1",
    at: float = 0.0,
    origin: Origin = BOOKS,
    asked: pb.RankRequest | None = None,
    answered: pb.RankResponse | None = None,
    padding: int = 0,
) -> Entry:
    """A list that was answered so many seconds after the start."""
    asked = asked or request(request_id=request_id, candidate_ids=["x" * padding, "b"])
    answered = answered or pb.RankResponse(indices=[1, 0], scores=[2.5, 1.5])
    data, answer = asked.SerializeToString(), answered.SerializeToString()
    size = len(data) + len(answer) + OVERHEAD
    return Entry(START + round(at * SECOND), origin, TRACE, data, answer, size)


class Workers:
    """Writers of one folder, and their metrics."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.aggregates: Aggregates = new_aggregates()
        self.options = {
            "max_bytes": 2**30,
            "workers": 1,
            "buffer_bytes": 2**24,
            "exclusion": Exclusion(()),
            **options,
        }

    def writer(self) -> Writer:
        return Writer(self.folder, recorder=RankingLogRecorder(self.aggregates, 0), **self.options)

    def write(self, *entries: Entry) -> None:
        """Has them written, and the file completed."""
        writer = self.writer()
        for each in entries:
            writer.add(each)
        writer.start()
        writer.close(PATIENCE)

    def metric(self, name: str, label: str = "") -> float:
        [family] = [each for each in snapshot(self.aggregates) if each.metric.name == name]
        return sum(each.value for each in family.samples if not label or each.labels == (label,))


def read(place: Path) -> Sequence[LoggedList]:
    """All lists of a log."""
    with open_log(str(place)) as log:
        return list(log.lists())
