"""What a process knows of its own memory; what comes of it is in `tests.end_to_end.test_memory`."""

from __future__ import annotations

import resource
import sys

import psutil
import pytest

from ranker.process.memory_held import held


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell")
def test_it_knows_what_is_held_though_no_descriptor_is_left():
    held()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    rss = psutil.Process().memory_info().rss
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        found = held().resident
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert found == pytest.approx(rss, rel=0.2)
