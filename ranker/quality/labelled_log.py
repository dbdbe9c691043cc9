"""A ranking log joined with outcomes, as queries with labels."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from ranker.errors import InvalidRequestError
from ranker.quality.codes import Codes
from ranker.quality.data import RankingData
from ranker.quality.logged_rows import NamedRows
from ranker.quality.outcomes import Outcomes
from ranker.ranking_log.reader import LoggedList, open_log

SLICES = ("model", "version", "arm")
"""What lists can be told apart by."""


def read_labelled_log(
    address: str,
    outcomes: Outcomes,
    features: Collection[str],
    num_features: int,
    slices: Sequence[str] = (),
    codes: Sequence[Codes] = (),
) -> RankingData:
    """Reads the lists of a log that outcomes name: their candidates that were shown.

    They stand in the order of the request, as they do for a server. A list counts as many as it
    stands for, by the rate at which the log was drawn.

    Args:
        address: of the log; see `ranker.ranking_log.reader.open_log`.
        outcomes: what readers did.
        features: the names to read; empty: all columns, without names.
        num_features: how many columns there are, where they have no names.
        slices: some of `SLICES`.
        codes: of the models that are to score the lists.

    Raises:
        InvalidRequestError: no outcome belongs to the log, or a list can't be read so.
        RankingLogError: the log can't be read.
    """
    for name in slices:
        if name not in SLICES:
            raise InvalidRequestError("slices", f"expected {', '.join(SLICES)}, got {name!r}")
    names = tuple(dict.fromkeys(features))
    reader = NamedRows(names, len(names) or num_features)
    blocks: list[NDArray[np.float32]] = []
    labels: list[NDArray[np.float32]] = []
    propensities: list[NDArray[np.float64]] = []
    facts: list[tuple[str, float, tuple[str, ...]]] = []
    with open_log(address) as log:
        for logged in log.lists():
            judged = outcomes.of(logged)
            if judged is None or not len(judged.labels):
                continue
            for each in codes:
                each.check(logged)
            shown = np.array(logged.response.indices, np.intp)
            order = np.argsort(shown)
            blocks.append(reader.rows(logged)[shown[order]])
            labels.append(judged.labels[order])
            propensities.append(judged.propensities[order])
            facts.append(_facts(logged, slices))
    outcomes.check()
    if not facts:
        raise InvalidRequestError(address, "no list that shows candidates is in it")
    queries, weights, values = zip(*facts, strict=True)
    rows = np.concatenate(blocks)
    columns = [at for at, name in enumerate(names) if name in reader.found]
    return RankingData(
        features=rows[:, columns] if names else rows,
        labels=np.concatenate(labels),
        sizes=np.array([len(each) for each in labels], np.int64),
        queries=np.array(queries),
        feature_names=tuple(names[at] for at in columns),
        weights=np.array(weights),
        propensities=np.concatenate(propensities) if outcomes.has_propensities else None,
        slices={
            name: np.array(column)
            for name, column in zip(slices, zip(*values, strict=True), strict=True)
        },
        source=f"{address}: {outcomes}",
        partly_absent=tuple(name for name in names if name in reader.absent & reader.found),
        unverified_codes=tuple(sorted(set().union(*(each.unverified for each in codes)))),
    )


def _facts(logged: LoggedList, slices: Sequence[str]) -> tuple[str, float, tuple[str, ...]]:
    """What a list is called, how many lists it stands for, and its slices' values."""
    record = logged.record
    values = {"model": record.model, "version": record.model_version, "arm": record.arm}
    return logged.request.request_id, logged.weight, tuple(values[name] for name in slices)
