"""Scores on a GPU: a tensor graph, run by one onnxruntime provider, in batches of fixed sizes.

`docs/design/gpu.md` says what the graph costs and what is yet to be measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from ranker.engine.api import Engine, EngineLostError, Rows, Scores, check_blocks
from ranker.engine.gpu.graph import INPUT, OUTPUT, TensorGraph, compile_forest
from ranker.engine.runtime import onnxruntime
from ranker.errors import ModelError
from ranker.forest import Forest

CUDA = "CUDAExecutionProvider"

MIN_RUN_ROWS = 64
MAX_RUN_ROWS = 1 << 16
"""The smallest and the largest batch that the graph is run with."""

MAX_ELEMENTS = 1 << 24
"""Elements of the largest tensor of a run: 64 MiB, of which about five live at a time."""


@dataclass(frozen=True)
class Provider:
    """Where a graph runs.

    Attributes:
        name: onnxruntime's name of the execution provider.
        device: onnxruntime's name of its memory, `cpu` or `cuda`.
        index: which of several devices.
        options: the provider's own options.
    """

    name: str
    device: str
    index: int = 0
    options: dict[str, str] = field(default_factory=dict)


CPU_PROVIDER = Provider("CPUExecutionProvider", "cpu")
"""For tests and comparisons; as an engine it is slow."""


def cuda_provider(index: int = 0, graphs: bool = True) -> Provider:
    """An NVIDIA GPU.

    Args:
        index: which one, as CUDA counts.
        graphs: capture the kernels of each batch size once as a CUDA graph, and
            replay them with one call.
    """
    return Provider(
        CUDA, "cuda", index, {"device_id": str(index), "enable_cuda_graph": str(int(graphs))}
    )


def unavailable() -> str | None:
    """Why no GPU can be used here, as far as can be told without trying; None if one may."""
    if CUDA not in onnxruntime.get_available_providers():
        return (
            f"onnxruntime {onnxruntime.__version__} is installed without {CUDA}; "
            "onnxruntime-gpu has it, if it is installed instead of onnxruntime, not beside it"
        )
    return None


class TensorEngine(Engine):
    """Scores a forest with standard tensor operators on one onnxruntime provider.

    A row goes left where x < threshold in float32; NaN goes to the split's
    missing side; the leaves are summed in float32 in the order of the trees,
    from 0 on, and `forest.base` is added at the end. A logistic score depends on
    the provider's exp().

    One thread of the engine's own does all the work, batch after batch:
    onnxruntime keeps captured CUDA graphs per thread, and allows no other.

    Args:
        forest: what to score with.
        provider: where to run.
        max_rows: the largest batch that is run at once; a larger one is cut.

    Raises:
        UnsupportedModelError: the graph can't represent the forest; says why.
        ModelError: the provider can't run all of the graph; says why.
    """

    name = "tensor"

    def __init__(self, forest: Forest, provider: Provider, max_rows: int = MAX_RUN_ROWS) -> None:
        graph = compile_forest(forest)
        self.num_features = graph.num_features
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=self.name)
        self._batches = self._thread.submit(_Batches, graph, provider, max_rows).result()

    def score(self, blocks: Sequence[Rows]) -> Scores:
        """Scores the rows of all blocks as one batch; see `Engine.score`.

        Raises:
            ValueError: a block is not float32 [n, num_features].
            EngineLostError: the device failed, and then at a batch it had scored before.
        """
        check_blocks(blocks, self.num_features)
        return self._thread.submit(self._batches.score, blocks).result()


class CudaEngine(TensorEngine):
    """Scores on an NVIDIA GPU, and nowhere else.

    Args:
        forest: what to score with.
        index: which GPU, as CUDA counts.

    Raises:
        UnsupportedModelError: the graph can't represent the forest; says why.
        ModelError: there is no usable GPU, or it can't run all of the graph.
    """

    name = "cuda"

    def __init__(self, forest: Forest, index: int = 0) -> None:
        reason = unavailable()
        if reason:
            raise ModelError(f"engine cuda: {reason}")
        super().__init__(forest, cuda_provider(index))


def run_sizes(limit: int) -> list[int]:
    """The batch sizes that a graph is run with: two an octave, so that at most a third is padding.

    Args:
        limit: the largest that is allowed; the smallest is in any case.
    """
    sizes = [MIN_RUN_ROWS]
    while sizes[-1] < MAX_RUN_ROWS:
        sizes += [sizes[-1] * 3 // 2, sizes[-1] * 2]
    return [size for size in sizes if size <= max(limit, MIN_RUN_ROWS)]


def max_run_rows(graph: TensorGraph) -> int:
    """The rows with which the graph's largest tensor has `MAX_ELEMENTS`."""
    return min(MAX_RUN_ROWS, MAX_ELEMENTS // graph.width)


def open_session(graph: TensorGraph, provider: Provider) -> onnxruntime.InferenceSession:
    """Loads a graph for one provider, and for no other.

    Raises:
        ModelError: the provider can't run all of the graph; says why.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    if provider.name == CUDA:
        # Libraries that pip installed are not on the loader's path.
        onnxruntime.preload_dlls()
        # Without this, onnxruntime moves what the GPU can't run to the CPU, and says nothing.
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        session = onnxruntime.InferenceSession(
            graph.model,
            options,
            providers=[(provider.name, provider.options)],
            enable_fallback=0,
        )
    except Exception as error:  # onnxruntime's errors have no base class of their own
        raise ModelError(
            f"{provider.name} {provider.index} can't run the whole graph: no such device, "
            "a driver or library is missing, or it lacks an operator; "
            f"onnxruntime's log says which. {error}"
        ) from error
    if session.get_providers()[0] != provider.name:
        raise ModelError(f"{provider.name} was not used: {session.get_providers()[0]} was")
    return session


class FixedBatch:
    """A session with the buffers of one batch size, which never move.

    Args:
        session: of `open_session`.
        graph: its graph.
        provider: where it runs.
        number: tells this batch from others of the session; at least 1.
        rows: the batch size.
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        graph: TensorGraph,
        provider: Provider,
        number: int,
        rows: int,
    ) -> None:
        self.rows = rows
        self._session = session
        self._input, self._output = (
            onnxruntime.OrtValue.ortvalue_from_shape_and_type(
                shape, np.float32, provider.device, provider.index
            )
            for shape in ((rows, graph.num_features), (1, rows))
        )
        self._binding = session.io_binding()
        self._binding.bind_ortvalue_input(INPUT, self._input)
        self._binding.bind_ortvalue_output(OUTPUT, self._output)
        self._options = onnxruntime.RunOptions()
        # A captured CUDA graph holds for one set of buffers; this tells it from the others.
        self._options.add_run_config_entry("gpu_graph_id", str(number))

    def copy_in(self, rows: Rows) -> None:
        """Brings exactly `rows` rows to the device."""
        self._input.update_inplace(rows)

    def run(self) -> None:
        """Scores them there."""
        self._session.run_with_iobinding(self._binding, self._options)

    def copy_out(self) -> Scores:
        """Brings the scores back; [rows]."""
        scores: Scores = self._output.numpy()[0]
        return scores


class _Batches:
    """A session and its `FixedBatch`es; for one thread only."""

    def __init__(self, graph: TensorGraph, provider: Provider, max_rows: int) -> None:
        self._where = f"{provider.name} {provider.index}"
        session = open_session(graph, provider)
        sizes = run_sizes(min(max_rows, max_run_rows(graph)))
        self._batches = [
            FixedBatch(session, graph, provider, number, rows)
            for number, rows in enumerate(sizes, 1)
        ]
        self._stage = np.zeros((sizes[-1], graph.num_features), np.float32)
        for batch in self._batches:  # the first time allocates, and captures the CUDA graph
            self._score_stage(batch.rows)

    def score(self, blocks: Sequence[Rows]) -> Scores:
        """Scores the blocks; tells an error that stays from one of this batch alone."""
        try:
            return self._score_blocks(blocks)
        except Exception as error:  # onnxruntime's errors have no base class of their own
            try:
                self._score_stage(1)  # the smallest batch, as when the engine was made
            except Exception:  # the first error is the one to tell
                raise EngineLostError(f"{self._where} is lost: {error}") from error
            raise

    def _score_blocks(self, blocks: Sequence[Rows]) -> Scores:
        """Gathers the blocks in the stage, and scores it whenever it is full."""
        scores = np.empty(sum(map(len, blocks)), np.float32)
        done = staged = 0
        for block in blocks:
            begin = 0
            while begin < len(block):
                piece = block[begin : begin + len(self._stage) - staged]
                self._stage[staged : staged + len(piece)] = piece
                begin += len(piece)
                staged += len(piece)
                if staged == len(self._stage) or done + staged == len(scores):
                    scores[done : done + staged] = self._score_stage(staged)
                    done, staged = done + staged, 0
        return scores

    def _score_stage(self, rows: int) -> Scores:
        """Scores the stage's first rows; what lies behind them pads the batch."""
        batch = next(batch for batch in self._batches if batch.rows >= rows)
        batch.copy_in(self._stage[: batch.rows])
        batch.run()
        return batch.copy_out()[:rows]
