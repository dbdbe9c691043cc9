"""Scores with vector instructions: bit-identical to XGBoost, built from a `Forest`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np

from ranker.engine.api import Contributions, Engine, LoadedEngine, Rows, Scores
from ranker.engine.simd.layout import Layout, lay_out
from ranker.errors import ModelError, UnsupportedModelError
from ranker.forest import Forest

if TYPE_CHECKING:
    from ranker.forest.onnx import OnnxFile

PATH_VARIABLE = "RANKER_SIMD"
"""The environment variable that forces an instruction path."""


class _Kernel(Protocol):
    @property
    def path(self) -> str: ...
    def score(self, blocks: Sequence[Rows], scores: Scores, /) -> None: ...


class ExplainerKernel(Protocol):
    """The C side of explanations."""

    def explain(self, blocks: Sequence[Rows], contributions: Contributions, /) -> None:
        """Explains the scores of the rows of all blocks."""


class _Extension(Protocol):
    def paths(self) -> list[str]: ...
    def Kernel(self, layout: Layout, path: str, threads: int) -> _Kernel: ...  # noqa: N802
    def Explainer(self, forest: object, path: str) -> ExplainerKernel: ...  # noqa: N802


_extension: _Extension | None
try:
    from ranker.engine.simd import _simd  # type: ignore[attr-defined,unused-ignore]
except ImportError as error:
    _extension, _why = None, f"the C extension was not built: {error}"
else:
    _extension, _why = _simd, ""


def unavailable() -> str | None:
    """Why this engine can't run here; None if it can."""
    return _why if _extension is None else None


def load(file: OnnxFile, *, threads: int, gpu: int) -> LoadedEngine:  # noqa: ARG001
    """Loads a model; see `EngineModule.load`."""
    from ranker.forest.onnx import read_forest

    return LoadedEngine(SimdEngine(read_forest(file), threads), "")


def unsupported(forest: Forest) -> str | None:
    """Why a forest's scores can't be had exactly; None if they can."""
    if forest.logistic:
        return (
            "a logistic score depends on the machine's exp(); "
            "export the margin, or use the onnx engine"
        )
    return None


def paths() -> list[str]:
    """The instruction paths that this machine supports, fastest first; empty if unavailable."""
    return [] if _extension is None else _extension.paths()


class SimdEngine(Engine):
    """Scores a forest with vector instructions, each row exactly as XGBoost does.

    A row goes left where x < threshold in float32; NaN goes to the split's
    missing side; the leaves are summed in float32 in the order of the trees,
    from 0 on, and `forest.base` is added at the end. `docs/design/engine.md`
    says how and how fast.

    Args:
        forest: what to score with.
        threads: how many threads share a batch of at least 1000 rows. They
            start with the engine and end with it; one starts none. More than
            one only pays in a process that has idle cores. A process forked
            later scores with the calling thread alone.

    Raises:
        UnsupportedModelError: the forest's scores can't be had exactly.
        ModelError: the engine is unavailable, `RANKER_SIMD` names a path that
            this machine lacks, or the system doesn't start so many threads.
        ValueError: `threads` is not from 1 to 1024.
    """

    name = "simd"

    def __init__(self, forest: Forest, threads: int = 1) -> None:
        extension()
        obstacle = unsupported(forest)
        if obstacle is not None:
            raise UnsupportedModelError(f"engine simd: {obstacle}")
        self._take(lay_out(forest), threads)

    @classmethod
    def of(cls, layout: Layout, threads: int = 1) -> Self:
        """An engine of a forest that has been laid out already; raises as the class does."""
        engine = cls.__new__(cls)
        engine._take(layout, threads)
        return engine

    def _take(self, layout: Layout, threads: int) -> None:
        self.num_features = layout.num_features
        try:
            self._kernel = extension().Kernel(layout, chosen_path(), threads)
        except OSError as error:
            raise ModelError(f"engine simd: {error}") from error

    @property
    def path(self) -> str:
        """The instruction path in use: `avx512`, `avx2` or `portable`."""
        return self._kernel.path

    def score(self, blocks: Sequence[Rows]) -> Scores:
        """Scores the rows of all blocks as one batch; see `Engine.score`.

        Raises:
            ValueError: a block is not float32 [n, num_features].
        """
        scores = np.empty(sum(map(len, blocks)), np.float32)
        self._kernel.score(blocks, scores)
        return scores


def extension() -> _Extension:
    """The C extension.

    Raises:
        ModelError: it was not built; says why.
    """
    if _extension is None:
        raise ModelError(f"engine simd: {_why}")
    return _extension


def chosen_path() -> str:
    """The instruction path to use: the fastest, or the one that `RANKER_SIMD` names.

    Raises:
        ModelError: this machine lacks that path.
    """
    supported = paths()
    wanted = os.environ.get(PATH_VARIABLE)
    if not wanted:
        return supported[0]
    if wanted not in supported:
        raise ModelError(
            f"{PATH_VARIABLE}={wanted}: expected one of {', '.join(supported)} on this machine"
        )
    return wanted
