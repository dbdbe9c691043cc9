"""What the guard knows of its process; what it does is in `tests.end_to_end.test_memory`."""

from __future__ import annotations

import resource
import sys

import psutil
import pytest

from ranker.process.guard import resident_bytes


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell")
def test_it_knows_what_is_held_though_no_descriptor_is_left():
    resident_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = psutil.Process().memory_info().rss
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        found = resident_bytes()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert found == pytest.approx(held, rel=0.2)
