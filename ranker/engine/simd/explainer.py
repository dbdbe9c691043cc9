"""Explains scores: what each feature adds to each of them (TreeSHAP, path-dependent)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ranker.engine.api import Contributions, Explainer, Rows
from ranker.engine.simd import engine as simd
from ranker.errors import UnsupportedModelError
from ranker.forest import Forest


@dataclass(frozen=True, eq=False)
class Arrays:
    """A Forest's arrays as the kernel reads them: each written out, and none absent."""

    num_features: int
    base: float
    roots: NDArray[np.int32]
    feature: NDArray[np.int32]
    threshold: NDArray[np.float32]
    left: NDArray[np.int32]
    missing_left: NDArray[np.uint8]
    members_begin: NDArray[np.int32]
    members_end: NDArray[np.int32]
    members: NDArray[np.float32]
    floored: NDArray[np.uint8]
    cover: NDArray[np.float32]

    @classmethod
    def of(cls, forest: Forest) -> Arrays:
        """The arrays of a forest with covers."""
        return cls(
            num_features=forest.num_features,
            base=float(forest.base),
            roots=forest.roots,
            feature=np.ascontiguousarray(forest.feature),
            threshold=np.ascontiguousarray(forest.threshold),
            left=np.ascontiguousarray(forest.left),
            missing_left=forest.missing_left.astype(np.uint8),
            members_begin=np.ascontiguousarray(forest.members_begin),
            members_end=np.ascontiguousarray(forest.members_end),
            members=forest.members,
            floored=forest.floored.astype(np.uint8),
            cover=np.ascontiguousarray(forest.cover, np.float32),
        )


class SimdExplainer(Explainer):
    """Explains a forest's scores with vector instructions; one thread does all of a call.

    `docs/design/explain.md` says how.

    Args:
        forest: what to explain; with covers.

    Attributes:
        arrays: the forest's.
        path: the instruction path in use: `avx512`, `avx2` or `portable`.

    Raises:
        UnsupportedModelError: the forest has no covers, or more than 256
            different features on a path from a root to a leaf.
        ModelError: the C extension was not built, or `RANKER_SIMD` names a path
            that this machine lacks.
    """

    def __init__(self, forest: Forest) -> None:
        if forest.cover is None:
            raise UnsupportedModelError(
                "can't explain its scores: the file has no node covers, or none that add up; "
                "export the model again with `ranker export`, which writes them"
            )
        self._take(Arrays.of(forest))
        try:
            self._kernel  # noqa: B018
        except ValueError as error:
            raise UnsupportedModelError(f"can't explain its scores: {error}") from error

    @classmethod
    def of(cls, arrays: Arrays) -> Self:
        """Explains a forest that has been explained by another process.

        The kernel, which takes 64 bytes a split, is made by the first call.
        """
        explainer = cls.__new__(cls)
        explainer._take(arrays)
        return explainer

    def _take(self, arrays: Arrays) -> None:
        self._make = simd.extension().Explainer
        self.path = simd.chosen_path()
        self.arrays = arrays
        self.num_features = arrays.num_features

    @cached_property
    def _kernel(self) -> simd.ExplainerKernel:
        return self._make(self.arrays, self.path)

    def explain(self, blocks: Sequence[Rows]) -> Contributions:
        """Explains the scores of the rows of all blocks; see `Explainer.explain`.

        Raises:
            ValueError: a block is not float32 [n, num_features].
        """
        shape = (sum(map(len, blocks)), self.num_features + 1)
        contributions = np.empty(shape, np.float32)
        self._kernel.explain(blocks, contributions)
        return contributions
