"""The nodes of all trees as an operator lists them, before they are made a `Forest`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ranker.errors import ModelError

Int32s = NDArray[np.int32]
Int64s = NDArray[np.int64]
Float32s = NDArray[np.float32]
Bools = NDArray[np.bool_]
Number = TypeVar("Number", bound=np.generic)


class Mode(IntEnum):
    """What a node does with its feature's value x and its own value t."""

    LEQ = 0  # x <= t
    LT = 1
    GTE = 2
    GT = 3
    EQ = 4
    NEQ = 5
    MEMBER = 6  # x is in the node's set
    LEAF = 7


@dataclass(eq=False)
class NodeTable:
    """The nodes of all trees, in the order in which the operator lists them.

    With M nodes, T trees and C set members:

    Attributes:
        mode: uint8 [M], a `Mode`.
        feature: int32 [M]; meaningless on a leaf.
        value: float32 [M]; the split's threshold, or the leaf's score.
        true: int32 [M]; the index of the child for a true comparison;
            meaningless on a leaf, as is `false`.
        false: int32 [M].
        missing_true: bool [M]; whether NaN goes to `true`.
        roots: int32 [T], in summation order.
        set_owner: int32 [C]; ascending indices of `MEMBER` nodes.
        set_value: float32 [C].
        unused: bool [M]; nodes that are in no tree, and rightly so.
        label: what to call node i in an error.
        base: added to the sum of the leaves.
        cover: float32 [M]; how many training rows, or how much weight of them,
            came to each node, as the file says; None if it doesn't.
    """

    mode: NDArray[np.uint8]
    feature: Int32s
    value: Float32s
    true: Int32s
    false: Int32s
    missing_true: Bools
    roots: Int32s
    set_owner: Int32s
    set_value: Float32s
    unused: Bools
    label: Callable[[int], str]
    base: np.float32
    cover: Float32s | None

    def refuse(self, bad: Bools, problem: str) -> None:
        """Raises a ModelError that names the first bad node, if there is one."""
        refuse(bad, self.label, problem)


def refuse(bad: Bools, label: Callable[[int], str], problem: str) -> None:
    """Raises a ModelError about the first item that is bad, if there is one."""
    if bad.any():
        raise ModelError(f"{label(int(bad.argmax()))}: {problem}")
