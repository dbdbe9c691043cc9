"""Trains a small book ranker, exports it, and writes a candidate list to rank with it.

python -m demo.books --out build/demo             a model to serve
python -m demo.books --out build/demo --rollout   two versions, ranker.yaml, and labelled lists
"""

from __future__ import annotations

import csv
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import xgboost as xgb
from numpy.typing import NDArray

from demo.shelf import SHELF
from demo.world import FEATURES, GENRES, draw_books, draw_readers, enjoyment, meet, observe, take
from ranker.export import export_onnx
from ranker.model import ModelFile
from ranker.repository.publication import publish

SEED = 11
LIBRARY = 2000
TRAINING_LISTS = 1000
HELD_OUT_LISTS = 250


@dataclass(frozen=True, eq=False)
class Lists:
    """Candidate lists, each shown to one reader, and what came of it.

    Attributes:
        features: float32 [rows, features].
        relevance: 0, passed over, to 4, finished; one per row.
        query: the number of each row's list, ascending.
    """

    features: NDArray[np.float32]
    relevance: NDArray[np.int64]
    query: NDArray[np.int64]


def invent_lists(rng: np.random.Generator, count: int) -> Lists:
    """Lists of 10 to 40 books out of one library, each list for another reader."""
    books = draw_books(rng, rng.integers(0, len(GENRES), LIBRARY))
    readers = draw_readers(rng, count)
    query = np.repeat(np.arange(count), rng.integers(10, 41, count))
    shown = rng.integers(0, LIBRARY, len(query))
    pairs = meet(rng, take(readers, query), take(books, shown))
    liked = enjoyment(pairs) + rng.normal(0, 0.5, len(query))
    relevance = np.digitize(liked, np.quantile(liked, [0.5, 0.7, 0.85, 0.95]))
    return Lists(observe(rng, pairs), relevance, query)


def train(lists: Lists, trees: int = 150) -> xgb.XGBRanker:
    """A LambdaMART ranker."""
    model = xgb.XGBRanker(
        objective="rank:ndcg",
        n_estimators=trees,
        max_depth=5,
        learning_rate=0.1,
        n_jobs=1,  # so that every machine adds up the same sums
        random_state=SEED,
    )
    model.fit(lists.features, lists.relevance, qid=lists.query)
    model.get_booster().feature_names = list(FEATURES)
    return model


def ndcg(scores: NDArray[np.float32], lists: Lists, k: int = 10) -> float:
    """The mean NDCG@k of the lists that have anything relevant, with gain 2^relevance - 1."""
    values = []
    for query in np.unique(lists.query):
        of_query = lists.query == query
        gain = 2.0 ** lists.relevance[of_query] - 1
        discount = 1 / np.log2(np.arange(2, min(k, len(gain)) + 2))
        best = np.sort(gain)[::-1][:k] @ discount
        if best > 0:
            ranked = np.argsort(-scores[of_query], kind="stable")[:k]
            values.append(gain[ranked] @ discount / best)
    return float(np.mean(values))


ROLLOUT = """\
# What `ranker serve --config` serves; docs/rollout.md tells what to do with it.
models:
  books:
    source: books
    labels: {stable: 1, canary: 2}
    traffic: {stable: 90, canary: 10}
    salt: books-1
    # shadow: {version: 2}  # in place of its traffic: scores what 1 ranks, for metrics
"""


def write_labelled(lists: Lists, path: Path) -> None:
    """Lists as `ranker evaluate` reads them: a CSV file with a line per candidate."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["qid", "label", *FEATURES])
        for query, label, row in zip(lists.query, lists.relevance, lists.features, strict=True):
            writer.writerow([query, label, *_cells(row)])


def write_rollout(lists: Lists, out: Path) -> None:
    """A second version, both of them in a repository, and a configuration that serves them."""
    second = out / "books-2.onnx"
    second.unlink(missing_ok=True)
    model = train(lists, trees=300)
    export_onnx(model, second, name="books", version="2", reference=lists.features)
    shutil.rmtree(out / "books", ignore_errors=True)  # versions are never overwritten
    for path in (out / "books.onnx", second):
        publish(ModelFile.read(path), str(out / "books"), progress=print)
    (out / "ranker.yaml").write_text(ROLLOUT, encoding="utf-8")


def write_candidates(rng: np.random.Generator, path: Path) -> None:
    """The forty books of the shelf, as they are offered to one reader, as a CSV file.

    The reader loves mysteries and nature writing, some history, and has a book
    of nine hours read to her on a weekday evening.
    """
    loved = {"mystery": 0.48, "nature": 0.32, "history": 0.12, "essays": 0.05, "biography": 0.03}
    reader = {
        "tastes": np.array([[loved.get(genre, 0.0) for genre in GENRES]]),
        "reader_age_days": np.array([812]),
        "reader_books_per_month": np.array([2.5]),
        "reader_usual_hours": np.array([9.0]),
        "days_since_last_book": np.array([3]),
        "hour_of_day": np.array([20]),
        "is_weekend": np.array([False]),
    }
    books = draw_books(rng, np.array([GENRES.index(genre) for _, _, genre in SHELF]))
    pairs = meet(rng, take(reader, np.zeros(len(SHELF), dtype=np.int64)), books)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["title", "author", "genre", *FEATURES])
        for book, row in zip(SHELF, observe(rng, pairs), strict=True):
            writer.writerow([*book, *_cells(row)])


def _cells(row: NDArray[np.float32]) -> list[str]:
    return ["" if np.isnan(x) else np.format_float_positional(x, trim="-") for x in row]


@click.command
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("build/demo"),
    show_default=True,
    help="Directory to write books.onnx and candidates.csv to.",
)
@click.option(
    "--rollout",
    is_flag=True,
    help="Publish it and a second version to the folder books in there; write ranker.yaml, and "
    "test.csv to compare them on.",
)
def main(out: Path, rollout: bool) -> None:
    """Train a small book ranker on invented data, export it, and write candidates to rank."""
    rng = np.random.default_rng(SEED)
    lists, held_out = invent_lists(rng, TRAINING_LISTS), invent_lists(rng, HELD_OUT_LISTS)
    print(
        f"invented  {len(lists.query)} rows in {TRAINING_LISTS} lists: {len(FEATURES)} features, "
        f"{np.isnan(lists.features).mean():.1%} of the values missing"
    )
    started = time.perf_counter()
    model = train(lists)
    print(
        f"trained   {model.n_estimators} trees of depth {model.max_depth} "
        f"in {time.perf_counter() - started:.1f} s"
    )
    listens = held_out.features[:, FEATURES.index("listens_7d")]
    print(
        f"NDCG@10   {ndcg(model.predict(held_out.features), held_out):.3f} on {HELD_OUT_LISTS} "
        f"held-out lists; most listened first: {ndcg(listens, held_out):.3f}"
    )
    out.mkdir(parents=True, exist_ok=True)
    # Another model from the code of another day, under the same version.
    (out / "books.onnx").unlink(missing_ok=True)
    # The training data's histograms go with it, so that a server tells whether callers' drift.
    path = out / "books.onnx"
    report = export_onnx(model, path, name="books", version="1", reference=lists.features)
    print("exported ", str(report).replace("\n", "\n" + " " * 10))
    write_candidates(rng, out / "candidates.csv")
    print(f"wrote     {out / 'candidates.csv'}, {len(SHELF)} books for one reader")
    if rollout:
        write_rollout(lists, out)
        write_labelled(held_out, out / "test.csv")
        print(f"published {out / 'books'}, versions 1 and 2; wrote {out / 'ranker.yaml'}")
        print(f"wrote     {out / 'test.csv'}, the held-out lists with labels, to compare them on")


if __name__ == "__main__":
    main()
