import os
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from ranker.metrics import catalogue as catalog
from ranker.metrics.aggregates import Aggregates
from ranker.metrics.metric import Metric
from ranker.metrics.reader import Reader
from ranker.metrics.supervisor_recorder import SupervisorRecorder
from tests.metrics.support import Worker, new_aggregates, value


@pytest.fixture
def reader(aggregates: Aggregates) -> Iterator[Reader]:
    reader = Reader(aggregates)
    yield reader
    reader.close()


def labels_of(reader: Reader, metric: Metric) -> list[tuple[str, ...]]:
    [family] = [family for family in reader.snapshot() if family.metric is metric]
    return [sample.labels for sample in family.samples]


def test_process_figures_are_the_operating_systems(reader: Reader, recorder: Worker):
    del recorder  # it has taken the slot over
    families = reader.snapshot()
    process = psutil.Process()
    cpu = sum(process.cpu_times()[:2])
    assert 0 < value(families, catalog.PROCESS_CPU, "0") <= cpu
    assert value(families, catalog.PROCESS_MEMORY, "0") == pytest.approx(
        process.memory_info().rss, rel=0.2
    )
    assert value(families, catalog.PROCESS_FDS, "0") == pytest.approx(process.num_fds(), abs=5)
    assert value(families, catalog.PROCESS_START, "0") == process.create_time()


def test_cpu_time_goes_on_over_a_restart():
    aggregates = new_aggregates(workers=2)
    reader = Reader(aggregates)
    slot = aggregates.slots[0]
    spin = "import time\nwhile time.process_time() < 0.25: pass\nprint(flush=True)\ninput()"
    total = 0.0
    try:
        for _ in range(2):
            with subprocess.Popen(
                [sys.executable, "-c", spin], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            ) as process:
                assert process.stdout is not None
                process.stdout.readline()
                slot.cells[0] = process.pid  # where it stands, before all metrics
                families = reader.snapshot()
                now = value(families, catalog.PROCESS_CPU, "0")
                assert now >= total + 0.2
                assert value(families, catalog.PROCESS_MEMORY, "0") > 0
                total = now
                process.stdin.write(b"\n")
                process.stdin.flush()
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = status
            # Gone: the counter stands, the gauges are not there.
            assert value(reader.snapshot(), catalog.PROCESS_CPU, "0") == total
            assert labels_of(reader, catalog.PROCESS_MEMORY) == []
            slot.vacate(usage.ru_utime + usage.ru_stime)
            after = value(reader.snapshot(), catalog.PROCESS_CPU, "0")
            assert total <= after < total + 0.2
            # Another reader, of an office that has come anew, knows as much.
            again = Reader(aggregates)
            assert value(again.snapshot(), catalog.PROCESS_CPU, "0") == pytest.approx(
                after, abs=0.1
            )
            again.close()
    finally:
        reader.close()


def test_supervisor_is_a_process_too(reader: Reader, aggregates: Aggregates):
    SupervisorRecorder(aggregates)
    assert [slot.pid for slot in aggregates.slots] == [0, os.getpid(), 0]
    assert labels_of(reader, catalog.PROCESS_FDS) == [("supervisor",)]
