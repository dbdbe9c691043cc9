"""What a process says of the ranking log."""

from __future__ import annotations

from ranker.metrics import catalogue
from ranker.metrics.aggregates import Aggregates
from ranker.metrics.layout import by_value


class RankingLogRecorder:
    """Records one process's part in the ranking log, in its slot.

    Args:
        aggregates: where to record.
        slot: the process's: a worker's index, or the office's.
    """

    def __init__(self, aggregates: Aggregates, slot: int) -> None:
        places = aggregates.layout.plan.cells
        self._cells = aggregates.slots[slot].cells
        [self._records] = places[catalogue.RANKING_LOG_RECORDS]
        [self._bytes] = places[catalogue.RANKING_LOG_BYTES]
        reasons = catalogue.RANKING_LOG_DROPPED_REASON
        self._dropped = by_value(reasons, places[catalogue.RANKING_LOG_DROPPED])
        outcomes = catalogue.RANKING_LOG_OUTCOME
        self._files = by_value(outcomes, places[catalogue.RANKING_LOG_FILES])

    def written(self, records: int, size: int) -> None:
        """So many records have been written, which are so many bytes."""
        self._cells[self._records] += records
        self._cells[self._bytes] += size

    def dropped(self, reason: str, records: int) -> None:
        """Lists were not logged, for one of `catalogue.RANKING_LOG_DROPPED_REASON`.

        Each reason is for one thread.
        """
        self._cells[self._dropped[reason]] += records

    def files(self, outcome: str, count: int) -> None:
        """What became of files: one of `catalogue.RANKING_LOG_OUTCOME`."""
        self._cells[self._files[outcome]] += count
