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
    inner = np.flatnonzero(forest.feature >= 0)
    by_set = forest.members_begin[inner] != forest.members_end[inner]
    order = np.lexsort((forest.threshold[inner], forest.feature[inner]))
    features, begins = np.unique(forest.feature[inner][order], return_index=True)
    parts = np.split(forest.threshold[inner][order], begins[1:])
    found = {int(f): np.unique(part) for f, part in zip(features, parts, strict=True)}
    none = np.empty(0, np.float32)
    return found | {int(f): none for f in np.unique(forest.feature[inner][by_set])}
