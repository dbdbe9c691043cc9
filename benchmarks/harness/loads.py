"""Closed loops from one Python process: so many requests in flight, each answer brings the next.

A stalled server keeps them from sending, so they are for throughput, and with one in flight for
latency. They cost about as much as the server; `h2load.py` costs less, but reads no answer.
"""

from __future__ import annotations

import itertools
import queue
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import grpc
import numpy as np

from benchmarks.harness.requests import Request
from ranker.client import Tls
from ranker.client import channel as wire
from ranker.inference import open_inference_pb2 as infer_pb
from ranker.v1 import ranking_pb2 as pb

INFER = "/inference.GRPCInferenceService/ModelInfer"

CHECK_EVERY = 50
"""One in so many answers is held against XGBoost's."""


class Found(NamedTuple):
    """What came of a load: how long it lasted, and the latency of each answer, in seconds."""

    seconds: float
    latencies: list[float]


def closed_loop(
    target: str, requests: Sequence[Request], in_flight: int, seconds: float, method: str = "unary",
    tls: Tls | None = None,
) -> Found:  # fmt: skip
    """Sends requests in rotation for so many seconds, and waits for the last answers.

    They are unary calls, of `Rank` or (`infer`) of `ModelInfer`, or go over one stream.

    Raises:
        grpc.RpcError: a request failed.
        WrongAnswerError: an answer is not XGBoost's.
    """
    waiting: dict[str, tuple[Request, float]] = {}
    latencies, rotation = list[float](), itertools.cycle(requests)
    with wire.connect(grpc, target, wire.OPTIONS, tls) as channel:
        send, receive = {"unary": _unary, "stream": _stream, "infer": _infer}[method](channel)
        began = time.monotonic()
        for number in itertools.count():
            if time.monotonic() - began < seconds:
                request, name = next(rotation), str(number)
                waiting[name] = request, time.perf_counter()
                send(name, request)
                if len(waiting) < in_flight:
                    continue
            if not waiting:
                break
            name, answer = receive()
            request, sent = waiting.pop(name)
            latencies.append(time.perf_counter() - sent)
            if len(latencies) % CHECK_EVERY == 1:
                request.check(answer)
    return Found(time.monotonic() - began, latencies)


Send = Callable[[str, Request], None]
Receive = Callable[[], tuple[str, pb.RankResponse]]


def _unary(channel: Any) -> tuple[Send, Receive]:
    """Calls; the next answer is that of whichever ends first."""
    rank, ended = channel.unary_unary(*wire.RANK), queue.SimpleQueue[tuple[str, Any]]()

    def send(name: str, request: Request) -> None:
        call = rank.future(request.message)
        call.add_done_callback(lambda call: ended.put((name, call)))

    def receive() -> tuple[str, pb.RankResponse]:
        name, call = ended.get()
        return name, call.result()

    return send, receive


def _infer(channel: Any) -> tuple[Send, Receive]:
    """Calls of the Open Inference Protocol, likewise."""
    infer = channel.unary_unary(INFER, None, infer_pb.ModelInferResponse.FromString)
    ended = queue.SimpleQueue[tuple[str, Any]]()

    def send(name: str, request: Request) -> None:
        call = infer.future(request.infer_message)
        call.add_done_callback(lambda call: ended.put((name, call)))

    def receive() -> tuple[str, pb.RankResponse]:
        name, call = ended.get()
        scores, indices = call.result().raw_output_contents
        order = np.frombuffer(indices, "<i8")
        return name, pb.RankResponse(indices=order, scores=np.frombuffer(scores, "<f4")[order])

    return send, receive


def _stream(channel: Any) -> tuple[Send, Receive]:
    """One call."""
    unsent = queue.SimpleQueue[bytes | None]()
    call = channel.stream_stream(*wire.RANK_STREAM)(iter(unsent.get, None))

    def receive() -> tuple[str, pb.RankResponse]:
        answer = next(call)
        if answer.status.code:
            raise RuntimeError(f"a request on a stream failed: {answer.status.message}")
        return answer.request_id, answer

    return lambda name, request: unsent.put(request.on_stream(name)), receive
