"""The whole way to a better ranker: `python examples/improve_a_ranker.py DATA`.

DATA is a folder with the labelled queries `rank.train` and `rank.test` in libsvm's format, and
their sizes in `*.query`, as in the learning-to-rank examples of XGBoost and LightGBM. A first
ranker learns from a few queries. It serves the others, and the ranking log keeps what was asked
and answered. Readers, who are simulated, click on what they see. A second ranker learns from these
clicks too, is measured, published, served as a shadow, and promoted. Models, log, clicks and
report.html stay in OUT.
"""

from __future__ import annotations

import argparse
import csv
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import xgboost as xgb
from numpy.typing import NDArray

from ranker.client import RankerClient
from ranker.export import export_onnx

FEATURES = 301
NAMES = [f"f{number}" for number in range(FEATURES)]
LABELLED = 15
"""Queries that somebody has labelled before anything is served."""
SHOWN = 10
PATIENCE = 60.0
"""Seconds that anything may take in the server."""
READERS = 5
"""Who ask each query."""
CONFIG = "models:\n  shop:\n    source: shop\n    labels: {{{}}}\n{}"
PARAMETERS = {
    "objective": "rank:ndcg",
    "eta": 0.1,
    "max_depth": 5,
    "min_child_weight": 0.1,
    "seed": 1,
}


Lists = list[tuple[NDArray[np.float32], NDArray[np.float64]]]
"""The rows and the labels of each query."""


class Queries:
    """Labelled queries: float32 rows, NaN where a feature is absent, labels and sizes."""

    def __init__(self, path: Path) -> None:
        lines = [line.split() for line in path.read_text().splitlines()]
        self.labels = np.array([float(line[0]) for line in lines])
        self.rows = np.full((len(lines), FEATURES), np.nan, np.float32)
        for row, line in zip(self.rows, lines, strict=True):
            for entry in line[1:]:
                feature, value = entry.split(":")
                row[int(feature)] = float(value)
        self.sizes = np.loadtxt(path.with_name(path.name + ".query"), dtype=int)

    def lists(self) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float64]]]:
        """The rows and the labels of each query."""
        ends = np.cumsum(self.sizes)[:-1]
        yield from zip(np.split(self.rows, ends), np.split(self.labels, ends), strict=True)


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("build/loop"))
    options = parser.parse_args()
    out: Path = options.out
    if out.exists():  # the log of another run would be read too
        parser.error(f"{out} is there already: remove it, or name another with --out")
    out.mkdir(parents=True)
    labelled, test = Queries(options.data / "rank.train"), Queries(options.data / "rank.test")
    lists = list(labelled.lists())

    say("1. A first ranker, from a few labelled queries")
    first = export(train(lists[:LABELLED]), lists[:LABELLED], out, "1")
    ranker("publish", first, out / "shop")

    say("2. It serves; the log keeps what it is asked and answers")
    (out / "ranker.yaml").write_text(CONFIG.format("stable: 1", ""))
    with serving(out, "--log-rankings", str(out / "log"), "--log-rate", "1") as server:
        clicks = serve_readers(server.address, lists[LABELLED:])
    write_clicks(out / "clicks.csv", clicks)
    ranker("replay", out / "log", "--model", first)  # to the bit, or exit code 1

    say("3. A second ranker, from the clicks too")
    ranker("log", "convert", out / "log", out / "log.parquet")
    learned = [*lists[:LABELLED], *clicked(out / "log.parquet", clicks)]
    second = export(train(learned), learned, out, "2")

    say("4. Is it better? On queries that neither has seen")
    write_table(out / "test.csv", test)
    ranker(
        "evaluate", second, out / "test.csv", "--baseline", first,
        "--metric", "ndcg@10", "--metric", "mrr", "--gate", "ndcg@10 >= baseline",
        "--report", out / "report.html",
    )  # fmt: skip
    ranker("publish", second, out / "shop")

    say("5. How it would rank what is asked: a shadow")
    with serving(out) as server:
        (out / "ranker.yaml").write_text(CONFIG.format("stable: 1", "    shadow: {version: 2}\n"))
        server.wait_for('shadow_version="2"')
        serve_readers(server.address, lists[-20:])
        overlap, count = (
            server.metric(f"ranker_shadow_overlap_ratio_{x}") for x in ("sum", "count")
        )
        print(f"of ten best {10 * overlap / count:.1f} are the same, in {count:.0f} lists")

        say("6. Promoted: a canary first, then for everybody")
        config = CONFIG.format("stable: 1, canary: 2", "    traffic: {stable: 80, canary: 20}\n")
        (out / "ranker.yaml").write_text(config)
        server.wait_for('ranker_model_label_info{.*label="canary"')
        ranker("promote", "shop", "canary", "--config", out / "ranker.yaml")
        with RankerClient(server.address) as client:
            wait_until(lambda: client.rank(lists[0][0], unit="reader 1").version == "2")
        ranker("models", server.address)


def say(text: str) -> None:
    """A heading."""
    print(f"\n== {text}", flush=True)


def wait_until(condition: Callable[[], object]) -> None:
    """Waits for a condition, or ends the program."""
    limit = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > limit:
            sys.exit(f"it did not happen within {PATIENCE:g} s; see server.log")
        time.sleep(0.1)


def ranker(*arguments: object) -> None:
    """Runs the command."""
    subprocess.run([sys.executable, "-m", "ranker", *map(str, arguments)], check=True)


def train(lists: Lists) -> xgb.Booster:
    """Learns to rank."""
    rows, labels = zip(*lists, strict=True)
    matrix = xgb.DMatrix(np.concatenate(rows), np.concatenate(labels), feature_names=NAMES)
    matrix.set_group([len(each) for each in labels])
    return xgb.train(PARAMETERS, matrix, 60)


def export(booster: xgb.Booster, lists: Lists, out: Path, version: str) -> Path:
    """Writes a model's file, with histograms of its training data, by which servers tell drift."""
    path, rows = out / f"shop-{version}.onnx", np.concatenate([rows for rows, _ in lists])
    export_onnx(booster, path, name="shop", version=version, reference=rows)
    return path


class Server:
    """A server that runs."""

    def __init__(self, port: int, metrics_port: int) -> None:
        self.address = f"127.0.0.1:{port}"
        self._metrics = f"http://127.0.0.1:{metrics_port}/metrics"

    def metric(self, name: str) -> float:
        """The sum of a metric's series."""
        lines = re.findall(rf"^{name}(?:{{.*}})? (\S+)$", self._page(), re.MULTILINE)
        return sum(map(float, lines))

    def wait_for(self, pattern: str) -> None:
        """Waits until a metric with that in its name or labels is there."""
        wait_until(lambda: re.search(pattern, self._page()))

    def _page(self) -> str:
        with urllib.request.urlopen(self._metrics) as page:
            return str(page.read(), "utf-8")


@contextmanager
def serving(out: Path, *options: str) -> Iterator[Server]:
    """Serves what `ranker.yaml` says, until the end of the block."""
    ports = [free_port(), free_port()]
    command = [sys.executable, "-m", "ranker", "serve", "--config", str(out / "ranker.yaml")]
    command += ["--host", "127.0.0.1", "--port", str(ports[0]), "--metrics-port", str(ports[1])]
    with (
        (out / "server.log").open("a") as log,
        subprocess.Popen([*command, "--http-port", "-1", *options], stderr=log) as process,
    ):
        server = Server(*ports)
        try:
            with RankerClient(server.address, timeout=30.0) as client:
                client.get_model()  # asks until it is there
            yield server
        finally:
            process.terminate()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


Clicks = dict[tuple[str, str], int]
"""By the id of a request and that of a candidate: 1 if the reader clicked on it."""


def serve_readers(address: str, lists: Lists) -> Clicks:
    """Ranks each query for some readers, who click on what they like, if they look so far down."""
    dice, clicks = np.random.default_rng(3), Clicks()
    with RankerClient(address, timeout=5.0) as client:
        for number, (rows, labels) in enumerate(lists):
            for reader in range(READERS):
                request = f"query {number}, reader {reader}"
                ids = [f"item {index}" for index in range(len(rows))]
                ranking = client.rank(
                    rows,
                    unit=f"reader {reader}",
                    candidate_ids=ids,
                    request_id=request,
                    top_k=SHOWN,
                )
                for place, index in enumerate(ranking.indices):
                    likes = 0.05 + 0.3 * min(labels[index], 3.0)
                    clicks[request, ids[index]] = int(dice.random() < likes / (1 + 0.1 * place))
    return clicks


def write_clicks(path: Path, clicks: Clicks) -> None:
    """As `ranker replay --outcomes` reads them."""
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["request_id", "candidate_id", "label"])
        table.writerows([*key, label] for key, label in clicks.items())


def clicked(log: Path, clicks: Clicks) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float64]]]:
    """What was shown for each query, as it was logged, and how many readers clicked on it."""
    table = pq.read_table(log).to_pandas()
    shown = table[table["position"].notna()].copy()
    keys = zip(shown["request_id"], shown["candidate_id"], strict=True)
    shown["clicks"] = [clicks[key] for key in keys]
    shown["query"] = shown["request_id"].str.partition(",")[0]
    for _, candidates in shown.groupby("query"):
        of_item = candidates.groupby("candidate_id")
        rows, labels = of_item[NAMES].first(), of_item["clicks"].sum()
        yield rows.to_numpy(np.float32), labels.to_numpy(float)


def write_table(path: Path, queries: Queries) -> None:
    """As `ranker evaluate` reads them."""
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["qid", "label", *NAMES])
        for number, (rows, labels) in enumerate(queries.lists()):
            for row, label in zip(rows, labels, strict=True):
                table.writerow([number, label, *("" if v != v else v for v in row)])


if __name__ == "__main__":
    main()
