"""Which lists go to the ranking log, and how they get there from the loop."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from ranker.engine.api import Rows, Scores
from ranker.incident import incident
from ranker.ranking_log.entry import OVERHEAD, Entry, Origin
from ranker.ranking_log.writer import Writer
from ranker.repository.traffic import Sample
from ranker.serving.generation import Generation
from ranker.serving.wire_format import WireFormat

if TYPE_CHECKING:
    from ranker.serving.served_model import ServedModel
    from ranker.serving.task import RankTask

logger = logging.getLogger(__name__)

SALT = "ranking-log"
"""Of the sample: its units are others than those of a split's arm or of a shadow's sample."""


class RankingLog:
    """Notes the lists of a protocol that are drawn, and has them written.

    For the loop's thread alone. A server without a log has none of this on a request's way: it
    uses the protocol's own `WireFormat`.

    Args:
        writer: writes them.
        rate: the share of the units, from 0 to 1, whose lists are logged; of lists without a unit,
            the share of the lists.
    """

    def __init__(self, writer: Writer, rate: float) -> None:
        self._writer = writer
        self._add = writer.add
        self._rate = rate
        self._in_sample = Sample(rate, SALT).has
        self._models: frozenset[ServedModel] = frozenset()
        self._origins: dict[tuple[ServedModel, str, bool], Origin] = {}

    def wire(self, wire: WireFormat) -> WireFormat:
        """A protocol that also notes its lists."""

        def read(data: bytes, task: RankTask, generation: Generation, max_rows: int) -> None:
            wire.read(data, task, generation, max_rows)
            if self._in_sample(task.unit):
                task.request = data
                if not _is_view(task.candidates, data):
                    task.size += len(data)
            else:
                task.request = b""

        def write(task: RankTask, scores: Scores) -> bytes:
            answer = wire.write(task, scores)
            if task.request and not task.cancelled:
                try:
                    self._note(task, answer)
                except Exception as error:  # a bug here must not cost the answer
                    incident(logger, "noting a list for the ranking log failed", error)
            return answer

        return wire._replace(read=read, write=write)

    def serve(self, generation: Generation) -> None:
        """Lists are ranked by other models from now on."""
        self._models = frozenset(generation.models)
        self._origins.clear()

    def close(self, seconds: float) -> None:
        """Writes what has been noted; gives up after so many seconds."""
        self._writer.close(seconds)

    def _note(self, task: RankTask, answer: bytes) -> None:
        key = task.served, task.arm, bool(task.unit)
        origin = self._origins.get(key) or self._new_origin(*key)
        request = task.request
        size = len(request) + len(answer) + OVERHEAD
        self._add(Entry(time.time_ns(), origin, task.traceparent, request, answer, size))

    def _new_origin(self, served: ServedModel, arm: str, by_unit: bool) -> Origin:
        origin = Origin(
            served.name,
            served.version,
            served.model.digest,
            served.engine.name,
            served.features.names,
            arm,
            self._rate,
            by_unit,
            served.model.categories,
        )
        if served in self._models:  # one that is no longer served must be freed
            self._origins[served, arm, by_unit] = origin
        return origin


def _is_view(rows: Rows, data: bytes) -> bool:
    """Whether rows lie in an encoded request, which is then held by them anyway."""
    base: Any = rows.base
    return base is data or (base is not None and base.base is data)
