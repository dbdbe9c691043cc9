"""An invented audiobook library: its books, its readers, and what they listen to.

Nothing here is data. Tastes, books and habits are drawn at random from a seed,
and how much a reader likes a book follows from them by `enjoyment`, plus luck.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

GENRES = (
    "mystery",
    "nature",
    "fantasy",
    "science fiction",
    "romance",
    "history",
    "biography",
    "essays",
)

FEATURES = (
    # The reader and the book.
    "genre_affinity",  # share of the reader's listening in the book's genre; missing: new reader
    "author_affinity",  # share of the author's books that the reader has finished
    "narrator_match",  # how much the reader likes the narrator, 0 to 1; missing: not narrated
    "text_similarity",  # to the book finished last; missing: none finished
    "length_match",  # 1: as long as the reader's usual books, 0: nothing like them
    "series_progress",  # share of the book's series that the reader has finished
    "friends_finished",  # how many of the reader's friends have finished it
    "retrieval_score",  # of whatever proposed the candidate
    # The book.
    "completion_rate",  # share of those who start it that finish; missing: too new to say
    "average_rating",  # 1 to 5; missing: too new to say
    "rating_count",
    "recency_days",  # since it was published
    "listens_7d",  # listeners in the past week
    "trend_28d",  # listeners this month by last month's
    "length_hours",
    "in_subscription",  # 0: costs extra
    # The reader, and the moment: the same for all candidates of a list.
    "reader_age_days",  # since the reader signed up
    "reader_books_per_month",
    "reader_usual_hours",  # length of the reader's usual book
    "days_since_last_book",
    "hour_of_day",
    "is_weekend",
)


Columns = Mapping[str, NDArray[Any]]
"""Named columns of one length."""


def draw_books(rng: np.random.Generator, genre: NDArray[np.int64]) -> Columns:
    """Books of the given genres (positions in `GENRES`).

    Returns:
        The features of the book, and `genre`, `narrated` and `quality`. The
        last is normal about 0 and shows only through the others.
    """
    count = len(genre)
    quality = rng.normal(size=count)
    recency_days = 1 + rng.exponential(500, count)
    listens_7d = np.exp(rng.normal(5, 1.2, count) + 0.4 * quality)
    return {
        "genre": genre,
        "quality": quality,
        "narrated": rng.random(count) < 0.85,
        "completion_rate": 1 / (1 + np.exp(-rng.normal(0.4 + 0.8 * quality, 0.3))),
        "average_rating": np.clip(rng.normal(3.9 + 0.4 * quality, 0.15), 1, 5),
        "rating_count": np.round(listens_7d * np.sqrt(recency_days) / 10),
        "recency_days": np.round(recency_days),
        "listens_7d": np.round(listens_7d),
        "trend_28d": np.exp(rng.normal(0.3 / np.sqrt(1 + recency_days / 60), 0.2)),
        "length_hours": np.round(np.exp(rng.normal(2.2, 0.4, count)), 1),
        "in_subscription": rng.random(count) < 0.85,
    }


def draw_readers(rng: np.random.Generator, count: int) -> Columns:
    """Readers, each at one moment.

    Returns:
        The features of the reader and the moment, and `tastes`, the share of
        each genre in the reader's listening, [count, genres].
    """
    return {
        "tastes": rng.dirichlet(np.full(len(GENRES), 0.35), count),
        "reader_age_days": np.round(rng.exponential(700, count)),
        "reader_books_per_month": np.round(rng.gamma(2.0, 1.0, count), 1),
        "reader_usual_hours": np.round(np.exp(rng.normal(2.2, 0.3, count)), 1),
        "days_since_last_book": np.round(rng.exponential(9, count)),
        "hour_of_day": rng.integers(6, 24, count),
        "is_weekend": rng.random(count) < 0.3,
    }


def meet(rng: np.random.Generator, readers: Columns, books: Columns) -> Columns:
    """What is between readers and books that are shown to them, pair by pair.

    Args:
        rng: where luck comes from.
        readers: the reader of each pair.
        books: the book of each pair.

    Returns:
        All columns of both, and the features of the reader and the book.
    """
    pairs = len(books["genre"])
    affinity = readers["tastes"][np.arange(pairs), books["genre"]]
    known_author = rng.random(pairs) < 0.1 + 0.3 * affinity
    of_other_length = np.abs(np.log(books["length_hours"] / readers["reader_usual_hours"]))
    friends = 0.4 + 0.2 * np.clip(books["quality"], 0, None)
    return {
        **readers,
        **books,
        "genre_affinity": affinity,
        "author_affinity": np.where(known_author, rng.random(pairs), 0),
        "narrator_match": rng.beta(2, 2, pairs),
        "text_similarity": np.clip(rng.normal(0.25 + 0.5 * affinity, 0.15), 0, 1),
        "length_match": np.exp(-2 * of_other_length),
        "series_progress": np.where(rng.random(pairs) < 0.12, rng.random(pairs), 0),
        "friends_finished": rng.poisson(friends),
        "retrieval_score": rng.normal(affinity + 0.1 * books["quality"], 0.3),
    }


def enjoyment(pairs: Columns) -> NDArray[np.float64]:
    """How much each reader would like each book, but for luck."""
    newcomer = np.exp(-pairs["reader_age_days"] / 120)
    evening = pairs["hour_of_day"] >= 19
    liking: NDArray[np.float64] = (
        # Newcomers follow the crowd, the others their tastes.
        3.0 * (1 - 0.7 * newcomer) * np.sqrt(pairs["genre_affinity"])
        + 0.35 * newcomer * np.log1p(pairs["listens_7d"])
        + 1.4 * pairs["text_similarity"]
        + 0.8 * pairs["author_affinity"]
        + 1.0 * pairs["narrator_match"] * np.where(evening, 1.5, 1.0)
        # A series once begun wants to be finished.
        + 1.5 * (pairs["series_progress"] > 0.3)
        + 0.7 * pairs["length_match"] * np.where(pairs["is_weekend"], 0.5, 1.0)
        + 2.0 * pairs["completion_rate"]
        + 0.5 * pairs["average_rating"]
        + 0.3 * np.minimum(pairs["friends_finished"], 3)
        + 0.3 * np.log(pairs["trend_28d"])
        + 0.6 * pairs["in_subscription"]
    )
    return liking


def observe(rng: np.random.Generator, pairs: Columns) -> NDArray[np.float32]:
    """The pairs as a ranker sees them, [pairs, features]: rounded, and some values missing."""
    too_new = pairs["recency_days"] < 21
    no_history = pairs["reader_age_days"] < 14
    missing = {
        "genre_affinity": no_history,
        "text_similarity": no_history,
        "narrator_match": ~pairs["narrated"],
        "completion_rate": too_new,
        "average_rating": too_new | (rng.random(len(too_new)) < 0.05),
    }
    columns = [
        np.where(missing.get(name, False), np.nan, np.round(pairs[name].astype(float), 3))
        for name in FEATURES
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def take(columns: Columns, rows: NDArray[np.int64]) -> Columns:
    """The given rows of every column."""
    return {name: column[rows] for name, column in columns.items()}
