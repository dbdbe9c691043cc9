"""The GPU's metrics, with a driver that is made up."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from ranker.metrics import catalogue as catalog
from ranker.metrics.aggregates import Aggregates
from ranker.metrics.gpu import METRICS
from ranker.metrics.metric import Metric
from ranker.metrics.reader import Reader
from tests.metrics.support import Worker, value

GPU = "0000:1B:00.0"


class NvmlError(Exception):
    pass


class Nvml(SimpleNamespace):
    """What of `pynvml` is used: one GPU."""

    NVMLError = NvmlError

    def __init__(self) -> None:
        super().__init__(asked=0, broken=False, sliced=False, used=3 * 10**9)

    def nvmlInit(self) -> None:  # noqa: N802
        self.asked += 1

    def nvmlDeviceGetHandleByPciBusId(self, bus_id: str) -> str:  # noqa: N802
        if bus_id != GPU:
            raise NvmlError("Not Found")
        return "handle"

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> SimpleNamespace:  # noqa: N802
        assert handle == "handle"
        self.asked += 1
        if self.broken:
            raise NvmlError("GPU is lost")
        return SimpleNamespace(used=self.used, total=141 * 10**9)

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> SimpleNamespace:  # noqa: N802
        assert handle == "handle"
        if self.sliced:
            raise NvmlError("Not Supported")
        return SimpleNamespace(gpu=75, memory=20)


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Nvml:
    nvml = Nvml()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    return nvml


@pytest.fixture
def reader(aggregates: Aggregates) -> Iterator[Reader]:
    reader = Reader(aggregates)
    yield reader
    reader.close()


def samples(reader: Reader) -> dict[Metric, int]:
    return {f.metric: len(f.samples) for f in reader.snapshot() if f.metric in METRICS}


def test_where_no_gpu_is_used_nobody_is_asked(reader: Reader, recorder: Worker, nvml: Nvml) -> None:
    assert set(samples(reader).values()) == {0}
    assert nvml.asked == 0
    recorder.gpu_used(GPU)
    assert set(samples(reader).values()) == {1}


def test_figures_are_the_drivers_at_every_reading(
    reader: Reader, recorder: Worker, nvml: Nvml
) -> None:
    recorder.gpu_used(GPU)
    families = reader.snapshot()
    assert value(families, catalog.GPU_INFO, GPU) == 1
    assert value(families, catalog.GPU_MEMORY_USED) == 3e9
    assert value(families, catalog.GPU_MEMORY_TOTAL) == 141e9
    assert value(families, catalog.GPU_UTILIZATION) == 0.75
    nvml.used = 4 * 10**9
    assert value(reader.snapshot(), catalog.GPU_MEMORY_USED) == 4e9


def test_a_slice_of_a_gpu_has_no_utilization(reader: Reader, recorder: Worker, nvml: Nvml) -> None:
    nvml.sliced = True
    recorder.gpu_used(GPU)
    assert samples(reader) == {
        catalog.GPU_MEMORY_USED: 1, catalog.GPU_MEMORY_TOTAL: 1, catalog.GPU_UTILIZATION: 0,
    }  # fmt: skip


@pytest.mark.parametrize("what", ["no-module", "other-gpu", "lost"])
def test_a_failure_is_told_once_and_costs_no_other_metric(
    reader: Reader, recorder: Worker, nvml: Nvml, what: str, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    if what == "no-module":
        monkeypatch.setitem(sys.modules, "pynvml", None)
    recorder.gpu_used("0000:2C:00.0" if what == "other-gpu" else GPU)
    nvml.broken = what == "lost"
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert set(samples(reader).values()) == {0}
    assert len(caplog.records) == 1
    assert "no metrics of GPU" in caplog.text
    assert len(reader.snapshot()) == len(catalog.METRICS)
