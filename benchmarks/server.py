"""Server CPU per request: the ranking server beside a floor.

One core serves, the other loads, in four ways: h2load keeps 32 requests in flight (or four
streams full); it calls at random moments (Poisson), half as often as that; Python callers keep 32
in flight, who cost about as much as the server, which then scores smaller batches; one Python
caller asks for one list at a time. Tables give medians over the rounds, of the ratios too.

The floor is a C++ gRPC server that decodes the same lists as ours and scores nothing, in unary
calls also where ours has streams. Requests rotate, so that no branch predictor learns the answers,
and are checked against XGBoost's own; h2load, which repeats eight lists, reads no answer.

100x500 is lists of 100 candidates and a model of 500 trees; 100x1 shows what the way in and out
costs; infer-100x500 asks by ModelInfer. Ours can be measured in several ways side by side:
--ours "" --ours "--transport aio".
The word tls has it serve with a certificate: --ours "" --ours tls.
--against DIR adds ours as it is in another checkout, which has its extension built.

Needs two cores; for two tables h2load (Debian: nghttp2-client); for the floor what it says.
"""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import click

from benchmarks import floor
from benchmarks.harness import cost, h2load, machine
from benchmarks.harness.data import SERVED, Trained
from benchmarks.harness.launch import RankerServer, ServerProcess
from benchmarks.harness.report import Report, Rounds, command
from benchmarks.harness.requests import Request
from ranker.client import Tls
from tests.certificates import Authority


class Case(NamedTuple):
    """Lists of so many candidates, and a model of so many trees."""

    candidates: int
    trees: int
    method: str = "unary"

    def __str__(self) -> str:
        kind = "" if self.method == "unary" else f"{self.method}-"
        return f"{kind}{self.candidates}x{self.trees}"


UNARY = (Case(100, 500), Case(10, 500), Case(100, 100), Case(1000, 500))
DEFAULT = (*UNARY, Case(100, 500, "stream"), Case(10, 500, "stream"))
MORE = (Case(100, 1), Case(100, 1, "stream"), Case(100, 500, "infer"), Case(100, 1, "infer"))
CASES = {str(case): case for case in (*DEFAULT, *MORE)}
LOADS: dict[str, tuple[str, Callable[..., cost.Cost]]] = {
    "h2load": ("kept busy by h2load, 32 in flight", cost.by_h2load),
    "half": ("at half of that", cost.at_half_load),
    "callers": ("32 in flight, by Python callers", cost.by_callers),
    "one": ("one in flight", partial(cost.by_callers, in_flight=1)),
}


class TlsServer(RankerServer):
    """Ours with a certificate."""

    def __init__(self, *arguments: str, **places: Any) -> None:
        self._folder = tempfile.TemporaryDirectory()
        authority = Authority(folder := Path(self._folder.name))
        cert, key = map(str, authority.issue(folder, "server"))
        self.tls = Tls(authority.path)
        super().__init__(*arguments, "--tls-cert", cert, "--tls-key", key, **places)


def our_server(model: Path, words: str, cores: set[int], folder: Path | None) -> RankerServer:
    """Ours, with `tls` and options as a shell takes them."""
    split = shlex.split(words)
    kind = TlsServer if "tls" in split else RankerServer
    options = (word for word in split if word != "tls")
    return kind(str(model.absolute()), *options, cores=cores, folder=folder)


@command
@click.option("--seconds", default=2.0, help="For each figure.")
@click.option("--rounds", default=3)
@click.option("--load", "loads", type=click.Choice(list(LOADS)), multiple=True, default=list(LOADS))
@click.option(
    "--case", "cases", type=click.Choice(list(CASES)), multiple=True, default=[*map(str, DEFAULT)]
)
@click.option("--ours", multiple=True, default=[""], help="Options of ours; may be repeated.")
@click.option("--against", type=click.Path(exists=True, path_type=Path), help="Another checkout.")
def main(
    report: Report, seconds: float, rounds: int, loads: tuple[str, ...], cases: tuple[str, ...],
    ours: tuple[str, ...], against: Path | None,
) -> None:  # fmt: skip
    """Measures and prints a table per load."""
    core, program = machine.share_cores(), ""
    try:
        program = str(floor.build())
    except OSError as error:
        report.say(str(error))
    if h2load.missing():
        report.say(f"{h2load.missing()}: neither a busy server nor half a load")
        loads = tuple(name for name in loads if name not in ("h2load", "half"))
    trained, chosen = Trained(SERVED), [CASES[name] for name in cases]
    requests = {case: trained.requests(case.candidates, case.trees) for case in chosen}
    sizes = sorted({case.candidates for case in chosen})
    unscored = {size: [Request(r.rows) for r in trained.requests(size)] for size in sizes}
    found = {name: Rounds() for name in loads}
    variants = [*((words, None) for words in ours), *([("", against)] if against else [])]
    things: dict[str, tuple[Case, str]] = {}  # and the first of the variants

    def measure(thing: str, server: ServerProcess, lists: list[Request], method: str) -> None:
        with server:
            cost.warm(server, lists, method)
            for name in loads:
                found[name].note(thing, LOADS[name][1](server, lists, seconds, method))

    for _ in report.rounds(rounds):
        for size, lists in unscored.items() if program else ():
            measure(f"floor of {size}", ServerProcess(program, cores=core), lists, "unary")
        for case in chosen:
            first = ""
            for words, folder in variants:
                thing = " ".join(filter(None, (str(case), words, str(folder or ""))))
                first = first or thing
                things[thing] = case, first if len(variants) > 1 else ""
                server = our_server(trained.onnx(case.trees), words, core, folder)
                measure(thing, server, requests[case], case.method)
    for name, figures in found.items():
        _show(report, LOADS[name][0], figures, things)


def _show(report: Report, title: str, found: Rounds, things: dict[str, tuple[Case, str]]) -> None:
    """The table of one load."""
    head = ("server, case", *cost.HEADS[:1], "of the floor", "of the first")
    table = report.table(*head, *cost.HEADS[1:], title=title)
    for thing in found.things():
        case, first = things.get(thing, (None, ""))
        bases = (f"floor of {case.candidates}" if case else "", first)
        ratios = [found.ratio(thing, base, cost.CPU) for base in bases]
        cpu, *rest = found.medians(thing).values()
        table.row(thing, cpu, *ratios, *rest)
