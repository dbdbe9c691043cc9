"""What the supervisor says of its work, and of the models that it has served."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ranker.metrics import catalogue
from ranker.metrics.aggregates import Aggregates
from ranker.metrics.catalogue import MOST_LABELS
from ranker.metrics.layout import by_value
from ranker.metrics.unit_sample import UnitSample


class NamedModel(NamedTuple):
    """How requests find a model that is served.

    Attributes:
        labels: those that name it.
        mark: tells the split of the traffic from others; 0: it is not split.
        share: what the split gives to it, from 0 to 1.
    """

    labels: Sequence[str] = ()
    mark: float = 0.0
    share: float = 0.0


class SupervisorRecorder:
    """Records the supervisor's work in its slot."""

    def __init__(self, aggregates: Aggregates) -> None:
        slot = aggregates.slots[aggregates.layout.slot("supervisor")]
        slot.occupy()
        self._slot = slot
        self._cells = slot.cells
        self._plan = aggregates.layout.plan
        places = self._plan.cells
        [self._restarts] = places[catalogue.WORKER_RESTARTS]
        [self._generation] = places[catalogue.MODEL_GENERATION]
        unknown = aggregates.layout.of_model(catalogue.MODEL_LOADS, aggregates.layout.models)
        self._failed_loads = by_value(catalogue.OUTCOME, unknown)["error"]
        self._switches = by_value(catalogue.OUTCOME, places[catalogue.MODEL_SWITCHES])

    def build(self, versions: Mapping[str, str]) -> None:
        """The versions that run: any of `catalogue.BUILD_INFO`'s texts.

        Raises:
            ValueError: `versions` has a key that is not among them.
        """
        self._slot.write_info(catalogue.BUILD_INFO, 0, versions)

    def worker_restarted(self) -> None:
        """A worker died and another one was started in its place."""
        self._cells[self._restarts] += 1.0

    def switched(self, generation: int, models: Mapping[int, NamedModel]) -> None:
        """All workers serve another set of models.

        Args:
            generation: how many sets there have been.
            models: by their numbers.
        """
        self._cells[self._generation] = generation
        self._cells[self._switches["ok"]] += 1.0
        for number, begin in enumerate(self._plan.units[:-1]):
            model = models.get(number, NamedModel())
            UnitSample(self._cells, begin).start(model.mark, model.share)
            self._slot.clear_info(catalogue.MODEL_LABEL_INFO, number)
            for copy, label in enumerate(model.labels[:MOST_LABELS]):
                self._slot.write_info(catalogue.MODEL_LABEL_INFO, number, {"label": label}, copy)

    def load_failed(self) -> None:
        """A model could not be read; it has no number, and counts as `unknown`."""
        self._cells[self._failed_loads] += 1.0

    def rolled_back(self, number: int) -> None:
        """The guard takes the traffic from the model that has this number."""
        self._cells[self._plan.cells[catalogue.GUARD_ROLLBACKS][number]] += 1.0

    def switch_failed(self) -> None:
        """Another set of models is wanted, and can't be served."""
        self._cells[self._switches["error"]] += 1.0
