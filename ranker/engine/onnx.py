"""Scores with onnxruntime: any ONNX model with one float32 matrix in and one score out.

The reference for the other engines, and what serves when they can't.

*Threads.* With one thread the whole call runs on the caller's thread. With more,
onnxruntime keeps a pool for each model, whose threads by default spin while they
wait, at the cost of everything else on the machine. Spinning is switched off
here; `docs/design/engine.md` has the figures.

*Sums.* On one thread onnxruntime 1.32 adds the leaves of a row in float32, tree
by tree from zero, then the base value, whatever the batch. With more threads and
more than 50 rows it gives each thread some of the trees and adds the partial
sums. Then the last bits of a score depend on the number of threads and on whether
the batch has more than 50 rows.

*Hostile files.* onnxruntime checks what it loads, but a tree some ten thousand
levels deep overflows its stack and ends the process. Engine `auto` has such trees
refused first, by `ranker.forest.onnx`; models that the reader can't represent, and
those loaded as `onnx` by name, are in onnxruntime's hands alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ranker.engine.api import Engine, LoadedEngine, Rows, Scores
from ranker.engine.runtime import onnxruntime
from ranker.errors import ModelError
from ranker.forest.onnx import OnnxFile

_PROBE_ROWS = 3
"""Enough to tell [rows] and [rows, 1] from any other shape."""


def load(file: OnnxFile, *, threads: int, gpu: int) -> LoadedEngine:  # noqa: ARG001
    """Loads a model; see `EngineModule.load`."""
    return LoadedEngine(OnnxEngine(file, threads), "")


class OnnxEngine(Engine):
    """Scores with onnxruntime on the CPU. Thread-safe; releases the GIL.

    Args:
        file: the model.
        threads: how many threads may work on one batch.

    Raises:
        ModelError: onnxruntime can't load the model, or its inputs and outputs
            are not one float32 [rows, features] and one float32 score per row.
    """

    name = "onnx"
    exact = False  # with several threads; see above

    def __init__(self, file: OnnxFile, threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # A memory pattern is kept for every batch size that was ever seen, and buys nothing here.
        options.enable_mem_pattern = False
        options.log_severity_level = 3  # errors; they are raised as well
        try:
            self._session = onnxruntime.InferenceSession(
                bytes(file.content), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's exceptions have no other base
            raise ModelError(f"onnxruntime can't load it: {error}") from error
        self._input, self.num_features = _features_input(self._session.get_inputs())
        self._output = _score_output(self._session.get_outputs())
        self._probe()

    def score(self, blocks: Sequence[Rows]) -> Scores:
        """Scores the rows of all blocks as one batch; a single block is not copied, if aligned."""
        alone = len(blocks) == 1 and blocks[0].flags.aligned
        rows = blocks[0] if alone else np.concatenate(blocks)
        if not len(rows):
            return np.empty(0, np.float32)
        scores: Scores = self._session.run([self._output], {self._input: rows})[0]
        return scores.reshape(len(rows))

    def _probe(self) -> None:
        """Scores a few rows, since only then onnxruntime checks the shapes within."""
        try:
            self.score([np.zeros((_PROBE_ROWS, self.num_features), np.float32)])
        except Exception as error:  # onnxruntime's, or NumPy's about the shape
            raise ModelError(
                f"it can't score {_PROBE_ROWS} rows of {self.num_features} features: {error}"
            ) from error


def _features_input(inputs: Sequence[onnxruntime.NodeArg]) -> tuple[str, int]:
    """The name and the number of columns of the one input."""
    if len(inputs) != 1:
        raise ModelError(f"{len(inputs)} inputs; expected one, the features of all rows")
    value = inputs[0]
    if value.type != "tensor(float)" or len(value.shape) != 2:
        raise ModelError(f"{_describe(value)}; expected tensor(float) [rows, features]")
    rows, features = value.shape
    if isinstance(rows, int):
        raise ModelError(f"{_describe(value)}: takes {rows} rows at a time; expected any number")
    if not isinstance(features, int) or features < 1:
        raise ModelError(f"{_describe(value)}: doesn't say how many features there are")
    return value.name, features


def _score_output(outputs: Sequence[onnxruntime.NodeArg]) -> str:
    """The name of the one output that can be a score per row."""
    fitting = [
        value
        for value in outputs
        if value.type == "tensor(float)"
        # [rows], [rows, 1], or a shape that isn't declared; the probe sees to those.
        and (len(value.shape) < 2 or (len(value.shape) == 2 and value.shape[1] in (1, None)))
    ]
    if len(fitting) != 1:
        declared = "; ".join(_describe(value) for value in outputs)
        raise ModelError(
            f"{len(fitting)} outputs can be the score; expected one tensor(float) [rows] or "
            f"[rows, 1] among: {declared}"
        )
    return fitting[0].name  # type: ignore[no-any-return]


def _describe(value: onnxruntime.NodeArg) -> str:
    return f"{value.name!r} is {value.type} {value.shape}"
