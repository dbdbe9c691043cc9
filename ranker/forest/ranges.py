"""Between which thresholds a forest's features are told apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ranker.forest.forest import Forest


def threshold_ranges(forest: Forest) -> NDArray[np.float32]:
    """The smallest and the largest threshold of each feature.

    Returns:
        float32 [num_features, 2]; from -inf to inf for a feature of which a set is asked, NaN for
        one that no split reads.
    """
    ranges = np.full((forest.num_features, 2), np.nan, np.float32)
    for feature, thresholds in thresholds_by_feature(forest).items():
        ranges[feature] = thresholds[[0, -1]] if len(thresholds) else (-np.inf, np.inf)
    return ranges


def thresholds_by_feature(forest: Forest) -> dict[int, NDArray[np.float32]]:
    """The thresholds of each feature that splits read, by its position.

    Returns:
        Ascending, each once; none for a feature of which a set is asked.
    """
    inner = telling_splits(forest)
    order = inner[np.lexsort((forest.threshold[inner], forest.feature[inner]))]
    feature, threshold = forest.feature[order], forest.threshold[order]
    # Not np.unique: it imports masked arrays, which takes longer than all that is done here.
    is_first = np.ones(len(order), bool)
    is_first[1:] = feature[1:] != feature[:-1]
    is_new = is_first.copy()
    is_new[1:] |= threshold[1:] != threshold[:-1]
    begins = np.flatnonzero(is_first[is_new])
    parts = np.split(threshold[is_new], begins)[1:]
    found = dict(zip(feature[is_first].tolist(), parts, strict=True))
    by_set = forest.members_begin[order] != forest.members_end[order]
    return found | dict.fromkeys(feature[by_set].tolist(), np.empty(0, np.float32))


def telling_splits(forest: Forest) -> NDArray[np.intp]:
    """The splits that tell rows apart.

    Not a root whose two children are equal leaves: as such the export writes a tree of one leaf,
    for which the ONNX operator has no form that every onnxruntime reads.

    Returns:
        Nodes, ascending.
    """
    tells = forest.feature >= 0
    roots = forest.roots[tells[forest.roots]]
    left = forest.left[roots]
    both_leaves = (forest.feature[left] < 0) & (forest.feature[left + 1] < 0)
    tells[roots[both_leaves & (forest.threshold[left] == forest.threshold[left + 1])]] = False
    return np.flatnonzero(tells)
