"""The machine that measures: what it is, and how its cores are shared."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click

PACKAGES = ("grpcio", "numpy", "onnxruntime", "onnxruntime-gpu", "xgboost", "xgboost-cpu")


def facts() -> dict[str, str]:
    """What a figure depends on: the processor, the versions, the day, what else ran."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "processor": processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "load before": f"{os.getloadavg()[0]:.1f}",
        "Python": platform.python_version(),
        **versions(*PACKAGES),
    }


def processor() -> str:
    """The processor's name, where Linux tells it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), "unknown")


def versions(*packages: str) -> dict[str, str]:
    """Of those that are installed."""
    found = {}
    for package in packages:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def cores() -> list[int]:
    """The cores that this process may use. Raises ClickException if there is only one."""
    found = sorted(os.sched_getaffinity(0))
    if len(found) < 2:
        raise click.ClickException("needs two cores: one serves, the other loads")
    return found


def share_cores() -> set[int]:
    """Moves this process, and so all loads, off its first core; returns that, for the server."""
    first, *others = cores()
    os.sched_setaffinity(0, others)
    return {first}


@contextmanager
def on_cores(*chosen: int) -> Iterator[None]:
    """This thread, and what it starts meanwhile, runs on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, chosen)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
