"""Models prepared once, and loaded from there by each process that serves them.

Reading a model takes a hundred times as long as taking over what it was read to. So one process
reads it, and writes a memory file of what the others need: facts, and the engine's arrays where
the engine is made of arrays. Only the processes of one server read such files, of their own
release: it is Python's pickle, with the arrays behind it.
"""

from __future__ import annotations

import pickle
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranker.engine import registry
from ranker.engine.api import Explainer, LoadedEngine
from ranker.engine.simd.engine import SimdEngine
from ranker.engine.simd.explainer import Arrays, SimdExplainer
from ranker.engine.simd.layout import Layout
from ranker.errors import UnsupportedModelError
from ranker.memory_file import mapped, new_memory_file, seal
from ranker.model.file import ModelFile
from ranker.model.metadata import ModelMetadata
from ranker.model.model import Model, errors_named

_HEAD = struct.Struct("<QQ")
_ALIGNED = 64


@dataclass(frozen=True)
class Packed:
    """What a process needs of a model, beside its file.

    Attributes:
        name: on the wire.
        version: on the wire.
        digest: the SHA-256 of its file, in hexadecimal.
        metadata: what the file says about the model.
        layout: what the simd engine is made of; None: the engine is made of the file.
        reason: why it is that engine.
        explained: what its scores are explained by; or why they can't be.
        ranges: between which thresholds its features are told apart (`ranker.forest.ranges`); None
            if that isn't known.
    """

    name: str
    version: str
    digest: str
    metadata: ModelMetadata
    layout: Layout | None
    reason: str
    explained: Arrays | str
    ranges: NDArray[np.float32] | None = None

    def write(self) -> int:
        """Writes it to a memory file; returns its descriptor, which the caller closes."""
        buffers: list[pickle.PickleBuffer] = []
        facts = pickle.dumps(self, protocol=5, buffer_callback=buffers.append)
        parts = [buffer.raw() for buffer in buffers]
        sizes = struct.pack(f"<{len(parts)}Q", *map(len, parts))
        fd = new_memory_file(f"{self.name}@{self.version}")
        with open(fd, "wb", closefd=False) as file:
            file.write(_HEAD.pack(len(facts), len(parts)) + sizes + facts)
            for part in parts:
                file.write(bytes(-file.tell() % _ALIGNED))
                file.write(part)
        seal(fd)
        return fd

    @classmethod
    def read(cls, fd: int) -> Packed:
        """Reads such a file. Its arrays are views of it, which can't be written to."""
        content = memoryview(mapped(fd))
        length, count = _HEAD.unpack_from(content)
        sizes = struct.unpack_from(f"<{count}Q", content, _HEAD.size)
        at = _HEAD.size + 8 * count
        facts, at = content[at : at + length], at + length
        parts = []
        for size in sizes:
            at += -at % _ALIGNED
            parts.append(content[at : at + size])
            at += size
        found: Packed = pickle.loads(facts, buffers=parts)
        return found


def prepare(file: ModelFile, engine: str, device: str, name: str = "", version: str = "") -> Packed:
    """Reads a model as far as all processes have in common.

    Args:
        file: the model's file.
        engine: as for `Model.load`.
        device: as for `Model.load`.
        name: what it is called on the wire, if not as its file says.
        version: likewise.

    Raises:
        ModelError: the model is broken, or is not for that engine and device; says why.
    """
    laid_out = registry.lay_out(file.onnx, engine, device)
    return Packed(
        name or file.name,
        version or file.version,
        file.digest,
        file.metadata,
        laid_out.layout,
        laid_out.reason,
        laid_out.explained,
        laid_out.ranges,
    )


def take_over(packed: Packed, file_fd: int, engine: str, threads: int, device: str) -> Model:
    """Makes a model of what was prepared.

    Args:
        packed: what was prepared.
        file_fd: the model's file in memory.
        engine: as it was prepared for.
        threads: as for `Model.load`.
        device: as it was prepared for.

    Raises:
        ModelError: the engine can't be had, or does not give XGBoost's scores; says why.
    """
    with errors_named(f"{packed.name}@{packed.version}"):
        if packed.layout is None:
            from ranker.forest.onnx import OnnxFile

            loaded = registry.load_engine(OnnxFile(mapped(file_fd)), engine, threads, device)
        else:
            loaded = LoadedEngine(SimdEngine.of(packed.layout, threads), packed.reason)
        model = Model(
            *loaded,
            packed.metadata,
            packed.name,
            packed.version,
            packed.digest,
            lambda: _explainer(packed.explained),
        )
        model.check_parity()
    return model


def _explainer(explained: Arrays | str) -> Explainer:
    if isinstance(explained, str):
        raise UnsupportedModelError(explained)
    return SimdExplainer.of(explained)
