"""How rows are coded for the vector kernel: bytes instead of floats.

Every threshold is known in advance, so a feature's value matters only
through how many of its thresholds are at or below it. That count, a byte, is
the value's *code*, and `x < threshold` becomes `code <= rank of the threshold`.
A feature with more than 255 thresholds gets several codes, each for a slice of
255. Coding a row once per batch replaces every float comparison of every tree
(Lucchese et al., QuickScorer, SIGIR 2015, sort by feature for the same reason;
LightGBM and XGBoost train on such bins), and settles what is delicate about
floats in one place: a NaN's code is 0 in the column that is read by splits
which send it left, and 255 in the one read by splits which send it right.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ranker.forest import Forest

SLICE = 255
"""Thresholds per column: a byte counts 0..255 of them."""

NEVER_RIGHT = 255
"""The code of a padding split or a leaf: no byte exceeds it."""

SPLITS_AT_ONCE = 1 << 14
"""How many splits are sorted at once: enough for NumPy, little in memory."""

Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True, eq=False)
class Columns:
    """How rows are coded, and what each node reads of it.

    With N nodes; `Layout` says what the other attributes are.

    Attributes:
        column: int32 [N]; the column that a split reads; 0 on a leaf.
        code: uint8 [N]; a row goes right if its code is greater; `NEVER_RIGHT` on a leaf.
        count: how many columns there are.
    """

    column: NDArray[np.int32]
    code: NDArray[np.uint8]
    count: int
    cut_feature: NDArray[np.int32]
    cut_end: NDArray[np.int32]
    cut_columns: NDArray[np.int32]
    thresholds: NDArray[np.float32]
    set_feature: NDArray[np.int32]
    set_end: NDArray[np.int32]
    set_column: NDArray[np.int32]
    set_missing: NDArray[np.uint8]
    members: NDArray[np.float32]

    @classmethod
    def of(cls, forest: Forest) -> Columns:
        """Sorts a forest's thresholds and sets into columns."""
        column = np.zeros(len(forest.feature), np.int32)
        code = np.full(len(forest.feature), NEVER_RIGHT, np.uint8)
        categorical = forest.members_end > forest.members_begin

        cut_feature, cut_sizes, cut_columns, thresholds = [], [], [], []
        count = 0
        for nodes in _by_feature(forest, ~categorical):
            feature = forest.feature[nodes]
            threshold = forest.threshold[nodes] + np.float32(0)  # -0 and 0 are one threshold
            order = np.lexsort((threshold, feature))
            nodes, feature, threshold = nodes[order], feature[order], threshold[order]
            new_feature = np.append(True, feature[1:] != feature[:-1])
            new = np.append(True, threshold[1:] != threshold[:-1]) | new_feature
            distinct = np.cumsum(new) - 1
            rank = distinct - np.maximum.accumulate(np.where(new_feature, distinct, 0))
            new_cut = new & (rank % SLICE == 0)
            begins = np.flatnonzero(new_cut)

            # A column for each cut and direction of NaN that some split reads.
            reads = 2 * (np.cumsum(new_cut) - 1) + np.where(forest.missing_left[nodes], 0, 1)
            used, read = np.unique(reads, return_inverse=True)
            column[nodes] = count + read
            code[nodes] = rank % SLICE
            columns = np.full(2 * len(begins), -1, np.int32)
            columns[used] = np.arange(count, count + len(used))
            count += len(used)
            cut_feature.append(feature[begins])
            cut_sizes.append(np.diff(distinct[begins], append=distinct[-1] + 1))
            cut_columns.append(columns)
            thresholds.append(threshold[new])

        columns = _concatenated(cut_columns, np.int32)
        columns[columns < 0] = count  # one more column, read by nobody, stands in for the others
        count += 1
        sets: dict[tuple[int, bool, bytes], int] = {}
        for node in np.flatnonzero(categorical):
            members = forest.members[forest.members_begin[node] : forest.members_end[node]]
            key = (int(forest.feature[node]), bool(forest.missing_left[node]), members.tobytes())
            column[node] = count + sets.setdefault(key, len(sets))
            code[node] = 0
        set_members = [np.frombuffer(members, np.float32) for _, _, members in sets]
        return cls(
            column=column,
            code=code,
            count=count + len(sets),
            cut_feature=_concatenated(cut_feature, np.int32),
            cut_end=np.cumsum(_concatenated(cut_sizes, np.int32), dtype=np.int32),
            cut_columns=columns.reshape(-1, 2),
            thresholds=_concatenated(thresholds, np.float32),
            set_feature=np.array([feature for feature, _, _ in sets], np.int32),
            set_end=np.cumsum([len(members) for members in set_members]).astype(np.int32),
            set_column=np.arange(len(sets), dtype=np.int32) + count,
            set_missing=np.array([not left for _, left, _ in sets], np.uint8),
            members=_concatenated(set_members, np.float32),
        )


def _by_feature(forest: Forest, which: NDArray[np.bool_]) -> Iterator[NDArray[np.int32]]:
    """Splits among some nodes, some features at a time and all splits of a feature together."""
    nodes = indices((forest.feature >= 0) & which)
    nodes = nodes[np.argsort(forest.feature[nodes], kind="stable")]
    feature = forest.feature[nodes]
    begin = 0
    while begin < len(nodes):
        last = min(begin + SPLITS_AT_ONCE, len(nodes)) - 1
        end = int(np.searchsorted(feature, feature[last], side="right"))
        yield nodes[begin:end]
        begin = end


def _concatenated(parts: list[NDArray[Number]], dtype: type[Number]) -> NDArray[Number]:
    return np.concatenate([np.empty(0, dtype), *parts], dtype=dtype)


def indices(which: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Where it is true."""
    return np.flatnonzero(which).astype(np.int32)
