"""What the office says of its work."""

from __future__ import annotations

from ranker.metrics import catalogue
from ranker.metrics.aggregates import Aggregates
from ranker.metrics.layout import by_value


class OfficeRecorder:
    """Records the office's work in its slot. Each exporter has cells of its own.

    Attributes:
        beat: likewise, of the office.
    """

    def __init__(self, aggregates: Aggregates) -> None:
        slot = aggregates.slots[aggregates.layout.slot("office")]
        slot.occupy()
        self.beat = slot.beat
        self._cells = slot.cells
        outcomes = len(catalogue.EXPORT_OUTCOME.values)
        places = aggregates.layout.plan.cells[catalogue.EXPORT_POINTS]
        self._points = {
            name: by_value(catalogue.EXPORT_OUTCOME, places[i * outcomes : (i + 1) * outcomes])
            for i, name in enumerate(aggregates.layout.exporters)
        }
        spans = aggregates.layout.plan.cells[catalogue.TRACE_SPANS]
        self._spans = by_value(catalogue.EXPORT_OUTCOME, spans)
        responses = aggregates.layout.plan.cells[catalogue.HTTP_RESPONSES]
        self._responses = by_value(catalogue.HTTP_STATUS, responses)

    def points(self, exporter: str, outcome: str, count: int) -> None:
        """What became of points to export; an exporter calls it from one thread.

        Args:
            exporter: one of the layout's.
            outcome: one of `catalogue.EXPORT_OUTCOME`.
            count: how many points.
        """
        self._cells[self._points[exporter][outcome]] += count

    def spans(self, outcome: str, count: int) -> None:
        """What became of spans; for one thread per outcome.

        Args:
            outcome: one of `catalogue.EXPORT_OUTCOME`.
            count: how many spans.
        """
        self._cells[self._spans[outcome]] += count

    def responded(self, status: int) -> None:
        """A response over HTTP has begun; for the loop's thread alone.

        Args:
            status: HTTP's.
        """
        place = self._responses.get(str(status), self._responses["other"])
        self._cells[place] += 1.0
