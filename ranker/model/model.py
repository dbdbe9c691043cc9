"""A Model: an engine, the feature contract and a name, ready to rank."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ranker.categories import Categories
from ranker.engine.api import Contributions, Engine, Explainer, Rows, Scores
from ranker.engine.registry import load_engine, load_explainer
from ranker.errors import InvalidRequestError, ModelError, UnsupportedModelError
from ranker.frames import Features, as_float32, one_candidate, read_frame
from ranker.model.comparison import Comparison
from ranker.model.features import FeatureContract
from ranker.model.file import ModelFile
from ranker.model.metadata import ModelMetadata
from ranker.model.order import best_first
from ranker.model.parity import ParityRows

logger = logging.getLogger(__name__)


class Model:
    """A model that ranks candidates. Thread-safe.

    Args:
        engine: scores rows.
        engine_reason: why it is this engine.
        metadata: what the model's file says about it.
        name: the model's name on the wire.
        version: the model's version on the wire.
        digest: the SHA-256 of the model's file, in hexadecimal; empty if it has none.
        load_explainer: makes what explains its scores, or raises ModelError; None: nothing can.
    """

    def __init__(
        self,
        engine: Engine,
        engine_reason: str,
        metadata: ModelMetadata,
        name: str,
        version: str,
        digest: str = "",
        load_explainer: Callable[[], Explainer] | None = None,
    ) -> None:
        self.engine = engine
        self.engine_reason = engine_reason
        self.metadata = metadata
        self.name = name
        self.version = version
        self.digest = digest
        self._load_explainer = load_explainer
        self.features = FeatureContract(
            engine.num_features, metadata.feature_names, metadata.required_features
        )
        if metadata.reference is not None:
            metadata.reference.check(engine.num_features)

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
                device; or the engine does not give the scores that XGBoost gave the
                file's parity rows; says why.
        """
        with errors_named(Path(path).name):
            return cls.of(ModelFile.read(path), engine, threads, device)

    @classmethod
    def of(
        cls, file: ModelFile, engine: str = "auto", threads: int = 1, device: str = "auto"
    ) -> Model:
        """Loads a file that has been read; as `load`."""
        chosen, reason = load_engine(file.onnx, engine, threads, device)
        facts = (file.metadata, file.name, file.version, file.digest)
        model = cls(chosen, reason, *facts, lambda: load_explainer(file.onnx))
        model.check_parity()
        return model

    def check_parity(self) -> None:
        """Scores the file's parity rows, and holds the scores against XGBoost's.

        Raises:
            ModelError: they differ; names the row, the score and what was expected.
        """
        if self.metadata.parity:
            rows = ParityRows.from_text(self.metadata.parity)
            rows.replay(self.engine, probability=self.metadata.output == "probability")
        else:
            logger.info(
                "%s@%s has no parity rows: it was exported by an earlier version, or converted by "
                "others, and its scores are not compared with XGBoost's",
                self.name,
                self.version,
            )

    @cached_property
    def categories(self) -> Mapping[str, Categories]:
        """What the codes of categorical features stand for, by name, where the file says so."""
        names = self.feature_names
        known = self.metadata.categories
        return {names[i]: found for i, found in known.items() if i < len(names)}

    @property
    def engine_name(self) -> str:
        """`simd`, `onnx`, `cuda`, or `simd+cuda` where batches go to the faster."""
        return self.engine.name

    @property
    def feature_names(self) -> tuple[str, ...]:
        """One name per column, in order; empty if the model has no names."""
        return self.features.names

    def score(self, features: Features) -> Scores:
        """Scores candidates.

        Args:
            features: a matrix [n, F] of real numbers, its columns in the model's
                order; or a data frame of pandas, polars, pyarrow or whatever else
                speaks Arrow, whose columns are told by their names and may hold
                categories by their values. NaN is missing; so is a feature
                that a frame lacks, unless the model requires it.

        Returns:
            float32 [n].

        Raises:
            InvalidRequestError: it is neither, or has other columns than the model.
        """
        rows = self.rows(features)
        if not len(rows):
            return np.empty(0, np.float32)
        return self.engine.score([rows])

    def rank(self, features: Features, top_k: int = 0) -> tuple[NDArray[np.int32], Scores]:
        """Ranks candidates: score descending, ties in the order given.

        Args:
            features: as for `score`.
            top_k: how many to return; 0 for all.

        Returns:
            Positions, int32 [k], best first, and their scores, float32 [k].

        Raises:
            InvalidRequestError: as `score` does, or for a negative top_k.
        """
        if top_k < 0:
            raise InvalidRequestError("top_k", f"expected 0 (all) or more, got {top_k}")
        scores = self.score(features)
        order = best_first(scores, top_k)
        return order.astype(np.int32), scores[order]

    @cached_property
    def explainer(self) -> Explainer:
        """What explains this model's scores; made when first asked for.

        Raises:
            UnsupportedModelError: its scores can't be explained; says why, and what helps.
            ModelError: explanations can't be had in this installation.
        """
        if self._load_explainer is None:
            raise UnsupportedModelError(f"can't explain scores of {self.name!r}: it has no file")
        with errors_named(self.name):
            return self._load_explainer()

    @cached_property
    def unexplained(self) -> str:
        """Why its scores can't be explained; empty: they can."""
        try:
            self.explainer  # noqa: B018
        except ModelError as error:
            return error.message
        return ""

    def explain(self, features: Features) -> Contributions:
        """Says what each feature adds to each candidate's score.

        These are XGBoost's `pred_contribs`: Shapley values of the features, given
        the training data's own way through the trees. For models whose score is a
        probability they are about the margin, its log-odds.

        Args:
            features: as for `score`.

        Returns:
            float32 [n, F + 1]: a contribution per feature, and the bias last, which
            is the same for all candidates. Each row adds up to the margin.

        Raises:
            InvalidRequestError: as `score` does.
            UnsupportedModelError: its scores can't be explained; says why, and what helps.
        """
        return self.explainer.explain([self.rows(features)])

    def compare(self, above: ArrayLike, below: ArrayLike) -> Comparison:
        """Says why one candidate scores above another: the difference of their explanations.

        Args:
            above: [F], one candidate's features; or a row of a pandas frame, `frame.iloc[3]`,
                whose features are told by their names.
            below: the other's, likewise.

        Raises:
            InvalidRequestError: not F values each, or as `score` does.
            UnsupportedModelError: its scores can't be explained; says why, and what helps.
        """
        pair = np.concatenate([self.rows(one_candidate(row)) for row in (above, below)])
        contributions = self.explain(pair)
        return Comparison(self.feature_names, pair[0], pair[1], contributions[0] - contributions[1])

    def rows(self, features: Features) -> Rows:
        """Candidates as the model expects them: float32 [n, F]; what a frame lacks is NaN.

        Args:
            features: as for `score`.

        Raises:
            InvalidRequestError: as `score` does.
        """
        frame = read_frame(features)
        if frame is None:
            rows = as_float32("features", cast(ArrayLike, features))
            names: tuple[str, ...] = ()
        else:
            rows = frame.rows(self.feature_names, self.categories)
            names = frame.names_for(self.feature_names)
        if rows.ndim != 2 or (not names and rows.shape[1] != self.features.num_features):
            raise InvalidRequestError(
                "features",
                f"expected shape [n, {self.features.num_features}], got {list(rows.shape)}",
            )
        plan = self.features.plan(rows.shape[1], names)
        return rows if plan is None else plan.rows(rows, np.empty(0, np.float32))


@contextmanager
def errors_named(filename: str) -> Iterator[None]:
    """Has model errors begin with the name of the file that they are about."""
    try:
        yield
    except ModelError as error:
        raise type(error)(f"{filename}: {error.message}") from error
