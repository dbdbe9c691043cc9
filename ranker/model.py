"""A Model: an engine, the feature contract and a name, ready to rank."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ranker.engine.api import Engine, Scores
from ranker.engine.select import load_engine
from ranker.errors import InvalidRequestError, ModelError
from ranker.features import FeatureContract
from ranker.metadata import ModelMetadata
from ranker.onnx_reader.file import read_metadata
from ranker.order import best_first


class Model:
    """A model that ranks candidates. Thread-safe.

    Args:
        engine: scores rows.
        engine_reason: why it is this engine.
        metadata: what the model's file says about it.
        name: the model's name on the wire.
        version: the model's version on the wire.
    """

    def __init__(
        self,
        engine: Engine,
        engine_reason: str,
        metadata: ModelMetadata,
        name: str,
        version: str,
    ) -> None:
        self.engine = engine
        self.engine_reason = engine_reason
        self.metadata = metadata
        self.name = name
        self.version = version
        self.features = FeatureContract(
            engine.num_features, metadata.feature_names, metadata.required_features
        )

    @classmethod
    def load(
        cls,
        path: str | PathLike[str],
        engine: str = "auto",
        threads: int = 1,
        device: str = "auto",
    ) -> Model:
        """Loads an ONNX file that `export_onnx`, or another converter, wrote.

        Args:
            path: the ONNX file.
            engine: `simd`, `onnx`, `cuda`, or `auto` for the fastest that is exact.
            threads: how many threads may work on one large batch.
            device: `cpu`, `cuda`, `cuda:N`, or `auto` for the faster by batch size.

        Raises:
            ModelError: the file can't be read, or not by that engine or on that
                device; says why.
        """
        metadata = _metadata(path)
        chosen, reason = load_engine(path, engine, threads, device)
        return cls(chosen, reason, metadata, *_identity(path, metadata))

    @property
    def engine_name(self) -> str:
        """`simd`, `onnx`, `cuda`, or `simd+cuda` where batches go to the faster."""
        return self.engine.name

    @property
    def feature_names(self) -> tuple[str, ...]:
        """One name per column, in order; empty if the model has no names."""
        return self.features.names

    def score(self, features: ArrayLike) -> Scores:
        """Scores candidates.

        Args:
            features: [n, F], converted to float32; NaN is missing.

        Returns:
            float32 [n].

        Raises:
            InvalidRequestError: not a matrix of F columns.
        """
        rows = np.ascontiguousarray(features, dtype=np.float32)
        if rows.ndim != 2 or rows.shape[1] != self.features.num_features:
            raise InvalidRequestError(
                "features",
                f"expected shape [n, {self.features.num_features}], got {list(rows.shape)}",
            )
        if not len(rows):
            return np.empty(0, np.float32)
        return self.engine.score([rows])

    def rank(self, features: ArrayLike, top_k: int = 0) -> tuple[NDArray[np.int32], Scores]:
        """Ranks candidates: score descending, ties in the order given.

        Args:
            features: [n, F], converted to float32; NaN is missing.
            top_k: how many to return; 0 for all.

        Returns:
            Positions, int32 [k], best first, and their scores, float32 [k].

        Raises:
            InvalidRequestError: not a matrix of F columns, or a negative top_k.
        """
        if top_k < 0:
            raise InvalidRequestError("top_k", f"expected 0 (all) or more, got {top_k}")
        scores = self.score(features)
        order = best_first(scores, top_k)
        return order, scores[order]


def identify(path: str | PathLike[str]) -> tuple[str, str]:
    """The name and the version that a model's file would be served under.

    Raises:
        ModelError: the file can't be read; names it.
    """
    return _identity(path, _metadata(path))


def _metadata(path: str | PathLike[str]) -> ModelMetadata:
    try:
        return read_metadata(path)
    except ModelError as error:
        raise type(error)(f"{Path(path).name}: {error.message}") from error


def _identity(path: str | PathLike[str], metadata: ModelMetadata) -> tuple[str, str]:
    return metadata.name or Path(path).stem, metadata.version or "1"
