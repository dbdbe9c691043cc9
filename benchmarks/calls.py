"""How many calls the interpreter makes per ranked list: of Python's functions, and into C.

A worker counts them with `sys.setprofile` while h2load keeps 32 lists in flight; a second table
has the functions that are called most. The counts hang on how many lists come in one batch, and
on nothing else of the machine.
Needs two cores and h2load (Debian: nghttp2-client).
"""

from __future__ import annotations

import json
import signal
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import click

from benchmarks.harness import cost, h2load, machine
from benchmarks.harness.data import SERVED, Trained
from benchmarks.harness.launch import RankerServer, role
from benchmarks.harness.report import Report, command

SECONDS = 1.5
LISTS, BATCHES = "Python: RankTask.finish", "Python: Dispatcher._hand_out"
"""Functions that run once for each. Metrics would be read at another moment than these counts."""

COUNTER = """
import json, signal, sys
from collections import Counter
counts = Counter()
def note(frame, event, called):
    if event == "call":
        counts["Python: " + frame.f_code.co_qualname] += 1
    elif event == "c_call":
        counts["C: " + getattr(called, "__qualname__", repr(called))] += 1
def stop(*_):
    sys.setprofile(None)
    open(OUT, "w").write(json.dumps(counts))
if any(word.endswith("process.worker") for word in sys.orig_argv):
    signal.signal(signal.SIGRTMIN, lambda *_: sys.setprofile(note))
    signal.signal(signal.SIGRTMAX, stop)
"""
"""What a process does at its start that finds it as `sitecustomize`: only a worker counts."""


def count(server: RankerServer, load: threading.Thread, out: Path) -> Counter[str]:
    """The calls that the worker makes for some seconds of a load."""
    [worker] = [p for p in server.processes() if role(p) == "worker"]
    load.start()
    for number in (signal.SIGRTMIN, signal.SIGRTMAX):
        time.sleep(SECONDS)
        worker.send_signal(number)
    load.join()
    return Counter(json.loads(out.read_text()))


@command
@click.option("--candidates", default=10)
@click.option("--trees", default=500)
@click.option("--most", default=25, help="Functions to name.")
def main(report: Report, candidates: int, trees: int, most: int) -> None:
    """Counts and prints two tables."""
    h2load.required()
    core, trained = machine.share_cores(), Trained(SERVED)
    requests = trained.requests(candidates, trees)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "counts.json"
        code = f"OUT = {str(out)!r}\n{COUNTER}"
        (Path(folder) / "sitecustomize.py").write_text(code)
        environment = {"PYTHONPATH": folder}
        model = str(trained.onnx(trees))
        with RankerServer(model, cores=core, environment=environment) as server:
            load = threading.Thread(target=cost.flat_out, args=(server, requests, 4 * SECONDS))
            counts = count(server, load, out)
    done, batches = (counts[name] for name in (LISTS, BATCHES))
    heads = "calls of Python per list", "calls into C per list", "lists", "lists per batch"
    table = report.table("list", *heads)
    kinds = [sum(n for name, n in counts.items() if name.startswith(k)) for k in ("Python", "C:")]
    table.row(f"{candidates}x{trees}", *(n / done for n in kinds), done, done / batches)
    table = report.table("function", "calls per list")
    for name, number in counts.most_common(most):
        table.row(name, number / done)
