"""What NVIDIA's driver knows of the GPU that is used."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

from ranker.metrics import catalogue as catalog
from ranker.metrics.families import Family, Sample
from ranker.metrics.metric import Metric

logger = logging.getLogger(__name__)

METRICS = (catalog.GPU_MEMORY_USED, catalog.GPU_MEMORY_TOTAL, catalog.GPU_UTILIZATION)


class GpuMonitor:
    """Asks the driver, through `pynvml`; not before a GPU is used, and no more once it fails.

    One GPU per server: its workers share it.
    """

    def __init__(self) -> None:
        self._failed = False
        self._nvml: Any = None
        self._handle: Any = None

    def read(self, gpus: Sequence[str]) -> Iterator[Family]:
        """The GPU's families, without samples where there is nothing to tell.

        Args:
            gpus: PCI bus ids of the GPUs that are used; the first one counts.
        """
        values = self._ask(gpus[0]) if gpus and not self._failed else {}
        for metric in METRICS:
            samples = (Sample((), values[metric]),) if metric in values else ()
            yield Family(metric, samples)

    def _ask(self, gpu: str) -> dict[Metric, float]:
        try:
            if self._handle is None:
                self._nvml = import_module("pynvml")
                self._nvml.nvmlInit()
                self._handle = self._nvml.nvmlDeviceGetHandleByPciBusId(gpu)
            memory = self._nvml.nvmlDeviceGetMemoryInfo(self._handle)
            values = {
                catalog.GPU_MEMORY_USED: float(memory.used),
                catalog.GPU_MEMORY_TOTAL: float(memory.total),
            }
        except Exception as error:  # no module, no library, or the driver's own error
            self._failed = True
            logger.warning("no metrics of GPU %s: %s: %s", gpu, type(error).__name__, error)
            return {}
        try:
            rates = self._nvml.nvmlDeviceGetUtilizationRates(self._handle)
        except self._nvml.NVMLError:  # a slice of a GPU (MIG) has none
            return values
        return values | {catalog.GPU_UTILIZATION: rates.gpu / 100}
