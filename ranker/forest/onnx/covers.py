"""The nodes' covers: what explanations need of a file, and no score depends on.

A cover says how many training rows, or how much weight of them, came to a node.
ONNX's slot for it is `nodes_hitrates`. `TreeEnsembleRegressor` has one for each
node. `TreeEnsemble` has one for each split and none for leaves, so the exporter
puts these into a tensor of the model's `training_info`.

Most converters write none, or 1 for every node. As nothing depended on them so far,
a file's covers are never refused: those that can't be covers count as absent.
"""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, TensorProto

from ranker.errors import ModelError
from ranker.forest.onnx.graph import read_tensor
from ranker.forest.onnx.node_table import Float32s, Int32s

LEAF_COVERS = "leaf_hitrates"
"""The tensor's name."""

MAX_DEFECT = 0.01
"""By how much of a split's cover those of its children may miss it. Covers that were summed in
float32 miss it by some 1e-6; where every node has the same, the children have twice of it."""


def read_leaf_covers(model: ModelProto) -> Float32s | None:
    """The covers of a `TreeEnsemble`'s leaves; None if the model holds none."""
    for training in model.training_info:
        for tensor in training.initialization.initializer:
            if tensor.name == LEAF_COVERS:
                return read_floats(tensor)
    return None


def read_floats(tensor: TensorProto) -> Float32s:
    """A tensor's float32 values; none if it is of another type or damaged."""
    try:
        return read_tensor(tensor.name, tensor, np.float32)
    except ModelError:
        return np.empty(0, np.float32)


def sound(cover: Float32s, left: Int32s, roots: Int32s) -> bool:
    """Whether the numbers can be covers: none is negative, and each split's is its children's.

    Args:
        cover: float32 [N].
        left: int32 [N]; see `Forest`.
        roots: int32 [T]; likewise.
    """
    if not (np.isfinite(cover) & (cover >= 0)).all():
        return False
    # A tree that no row came to tells nothing of its ways; some converters write 0 for every node.
    if not (cover[roots[left[roots] >= 0]] > 0).all():
        return False
    split = np.flatnonzero(left >= 0)
    defect = cover[left[split]].astype(np.float64) + cover[left[split] + 1] - cover[split]
    return bool((np.abs(defect) <= MAX_DEFECT * cover[split]).all())
