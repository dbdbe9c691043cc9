"""Who may call: by the names in certificates, over gRPC and HTTP."""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import json
import ssl
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import grpc
import numpy as np
import pytest
from cryptography import x509
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ranker.client import RankerClient, Tls
from ranker.client.request import rank_request
from ranker.errors import QUOTA, Code, PermissionDeniedError, RankerError
from ranker.forwarded_caller import KEY
from ranker.rpc_error import from_rpc_error
from tests.certificates import Authority
from tests.end_to_end.conftest import (
    RunningServer,
    on_both_transports,
    on_one_transport,
)
from tests.office.support import ask
from tests.waiting import wait_until

RANK = "/ranker.v1.RankingService/Rank"
RETRIEVAL = "spiffe://shop.test/retrieval"
BATCH = "dns:batch.shop.test"
SECONDS = 60.0

URI, DNS = x509.UniformResourceIdentifier, x509.DNSName
KNOWN = {
    "spiffe": [URI(RETRIEVAL)],
    "upper-case": [DNS("Batch.Shop.TEST")],
    "one-of-100": [*(DNS(f"host-{i}.shop.test") for i in range(99)), DNS("batch.shop.test")],
}
OTHERS = {
    "stranger": [DNS("stranger.shop.test")],
    "two-uris": [URI(RETRIEVAL), URI("spiffe://shop.test/other"), DNS("x.test")],
    "longer": [URI(RETRIEVAL + "/x")],
    "dns-as-uri": [x509.RFC822Name(RETRIEVAL.removeprefix("spiffe://")), DNS("spiffe.test")],
    "cut": [DNS("batch.shop.test\0.evil.test"), DNS("evil.test")],
}
NAMELESS = {
    "wildcard": [DNS("*.shop.test")],
    "no-names": [],
    "address": [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))],
    "two-spiffe-ids": [URI(RETRIEVAL), URI("spiffe://shop.test/other")],
}


@dataclass
class Place:
    """A server's certificate and configuration, and certificates for its callers."""

    folder: Path
    source: Path

    @cached_property
    def authority(self) -> Authority:
        return Authority(self.folder)

    @cached_property
    def config(self) -> Path:
        return self.folder / "ranker.yaml"

    def configure(self, *callers: str, **quotas: dict[str, float]) -> None:
        """Names callers, each with its quota, by the last part of its name, if it has one.

        With another salt each time: a worker that has the new generation knows the callers, too.
        """
        entries = {"books": {"source": str(self.source), "salt": uuid.uuid4().hex}}
        named = {}
        for name in callers:
            quota = quotas.get(name.rpartition("/")[2])
            named[name] = {"quota": quota} if quota else {}
        new = self.folder / "new.yaml"
        new.write_text(json.dumps({"models": entries, "callers": named}))
        new.replace(self.config)

    def tls(self, name: str, names: list[x509.GeneralName], days: float = 1.0) -> Tls:
        folder = self.folder / name
        if not folder.exists():
            self.authority.issue(folder, name, names, days)
        return Tls(self.authority.path, folder / "tls.crt", folder / "tls.key")


@pytest.fixture(scope="module")
def place(truth, tmp_path_factory) -> Place:
    return Place(tmp_path_factory.mktemp("callers"), truth.path)


def start(place: Place, log: Path, transport: str = "core") -> RunningServer:
    """A server that asks for certificates."""
    cert, key = place.authority.issue(place.folder / "server", "server")
    kind = type("TlsServer", (RunningServer,), {"tls": place.tls("spiffe", KNOWN["spiffe"])})
    return kind(
        log,
        *("--config", str(place.config), "--transport", transport, "--access-log", "all"),
        *("--tls-cert", str(cert), "--tls-key", str(key)),
        *("--tls-client-ca", str(place.authority.path), "--allow-caller", BATCH),
    )


@pytest.fixture(scope="module")
def guarded(transport, place, tmp_path_factory) -> Iterator[RunningServer]:
    """A server for two callers: one that the configuration names, and one that a flag does."""
    place.configure(RETRIEVAL)
    log = tmp_path_factory.mktemp("server") / f"{transport}.log"
    server = start(place, log, transport)
    yield server
    assert server.stop() == 0, server.log.read_text()


def best(truth, rows: int = 10) -> list[int]:
    return np.argsort(-truth.scores(truth.rows[:rows]), kind="stable").tolist()


def ranked(server, truth, tls: Tls, timeout: float = SECONDS) -> list[int]:
    with RankerClient(server.address, tls=tls, timeout=timeout) as client:
        return client.rank(truth.rows[:10]).indices.tolist()


def refusal(server, truth, tls: Tls, timeout: float = SECONDS) -> RankerError:
    with pytest.raises(RankerError) as caught:
        ranked(server, truth, tls, timeout)
    return caught.value


@contextlib.contextmanager
def counted(server, code: Code, caller: str, by: int = 1) -> Iterator[None]:
    """What happens within is counted so often, of requests and of that caller."""

    def counts() -> list[float]:
        return [
            server.metric("ranker_requests_total", code=code.name),
            server.metric("ranker_caller_requests_total", code=code.name, caller=caller),
        ]

    before = counts()
    yield
    wait_until(lambda: counts() == [count + by for count in before])


@on_both_transports
@pytest.mark.parametrize("name", KNOWN)
def test_those_who_are_named_may_call(guarded, truth, place, name):
    label = RETRIEVAL if name == "spiffe" else BATCH
    with counted(guarded, Code.OK, label):
        assert ranked(guarded, truth, place.tls(name, KNOWN[name])) == best(truth)
    wait_until(lambda: f'"caller": "{label}"' in guarded.log.read_text())


@on_both_transports
@pytest.mark.parametrize("name", [*OTHERS, *NAMELESS])
def test_others_may_not(guarded, truth, place, name):
    nameless = name in NAMELESS
    code = Code.UNAUTHENTICATED if nameless else Code.PERMISSION_DENIED
    tls = place.tls(name, (NAMELESS if nameless else OTHERS)[name])
    with counted(guarded, code, "none" if nameless else "other"):
        error = refusal(guarded, truth, tls)
    assert error.code is code
    assert ("may call this server" in error.message) != nameless


def channel(server, tls: Tls) -> grpc.Channel:
    return grpc.secure_channel(server.address, tls.credentials())


def status(server, tls: Tls, method: str, data: bytes = b"", **options) -> grpc.StatusCode:
    """How a unary call ends."""
    with channel(server, tls) as own:
        call = own.unary_unary(method).future(data, timeout=SECONDS, **options)
        return call.code()


@on_both_transports
@pytest.mark.parametrize("secret", ["", "00" * 32])
def test_nobody_else_can_speak_for_a_caller_as_the_office_does(guarded, truth, place, secret):
    data = rank_request(truth.rows[:10])
    for name, names in (("stranger", OTHERS["stranger"]), ("no-names", [])):
        for said in (f"{secret} office ", f"{secret} 127.0.0.1:1 {RETRIEVAL}"):
            code = status(guarded, place.tls(name, names), RANK, data, metadata=[(KEY, said)])
            assert code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)


@on_both_transports
def test_health_is_for_anybody_and_nothing_else_is(guarded, place):
    stranger = place.tls("stranger", OTHERS["stranger"])
    with channel(guarded, stranger) as own:
        health = health_pb2_grpc.HealthStub(own)
        answer = health.Check(health_pb2.HealthCheckRequest(), timeout=SECONDS)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        watched = next(health.Watch(health_pb2.HealthCheckRequest(), timeout=SECONDS))
        assert watched.status == health_pb2.HealthCheckResponse.SERVING
        for method in (
            "/ranker.v1.RankingService/RankStream",
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        ):
            with pytest.raises(grpc.RpcError) as caught:
                next(own.stream_stream(method)(iter([b""]), timeout=SECONDS))
            assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED, method
    for method in (
        "/ranker.v1.RankingService/ListModels",
        "/inference.GRPCInferenceService/ModelInfer",
    ):
        assert status(guarded, stranger, method) is grpc.StatusCode.PERMISSION_DENIED


@on_one_transport
def test_certificates_that_do_not_hold_make_no_connection(guarded, truth, place, tmp_path):
    expired = place.tls("expired", KNOWN["spiffe"], days=-1.0)
    cert, key = Authority(tmp_path, "other").issue(tmp_path / "x", "x", KNOWN["spiffe"])
    for tls in (expired, Tls(place.authority.path, cert, key), Tls(place.authority.path)):
        error = refusal(guarded, truth, tls, timeout=4.0)
        # Whichever attempt is the last, one has failed.
        assert error.code in (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED)
        assert "UNAVAILABLE" in error.message or "failing" in error.message


def connection(server, tls: Tls) -> http.client.HTTPSConnection:
    """One to the HTTP port."""
    context = ssl.create_default_context(cafile=tls.ca)
    context.load_cert_chain(tls.cert, tls.key)
    port = int(server.wait_for_log(r"HTTPS on port (\d+)")[1])
    return http.client.HTTPSConnection("127.0.0.1", port, timeout=SECONDS, context=context)


def asked(server, tls: Tls, path: str, body: object = None, headers=None) -> tuple[int, dict]:
    """Status and answer of a request over HTTPS."""
    with contextlib.closing(connection(server, tls)) as own:
        about = {"Content-Type": "application/json", **(headers or {})}
        text = None if body is None else json.dumps(body)
        own.request("GET" if body is None else "POST", path, text, about)
        response = own.getresponse()
        answer = response.read()
        is_json = "json" in response.headers.get("Content-Type", "")
        return response.status, json.loads(answer) if is_json else {}


@on_one_transport
def test_http(guarded, truth, place):
    values = [[None if np.isnan(v) else float(v) for v in row] for row in truth.rows[:10]]
    body, path = {"candidates": values}, "/v1/models/books:rank"
    with counted(guarded, Code.OK, RETRIEVAL):
        code, answer = asked(guarded, place.tls("spiffe", KNOWN["spiffe"]), path, body)
    assert (code, answer["indices"]) == (200, best(truth))
    stranger = place.tls("stranger", OTHERS["stranger"])
    forged = {KEY: f"x 127.0.0.1:1 {RETRIEVAL}"}
    with counted(guarded, Code.PERMISSION_DENIED, "other"):
        code, answer = asked(guarded, stranger, path, body, forged)
    assert (code, answer["code"]) == (403, "PERMISSION_DENIED")
    for name in ("no-names", "two-spiffe-ids"):
        with counted(guarded, Code.UNAUTHENTICATED, "none"):
            code, answer = asked(guarded, place.tls(name, NAMELESS[name]), path, body)
        assert (code, answer["code"]) == (401, "UNAUTHENTICATED")
    assert asked(guarded, place.tls("cut", OTHERS["cut"]), path, body)[0] == 403
    for page in ("/", "/metrics", "/v1/models", "/openapi.json", "/v2"):
        assert asked(guarded, stranger, page)[0] == 403, page
        assert asked(guarded, place.tls("spiffe", KNOWN["spiffe"]), page)[0] == 200, page
    for page in ("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"):
        assert asked(guarded, stranger, page)[0] == 200, page
    assert ask(guarded.metrics_port, "/readyz").status == 200


@on_one_transport
@pytest.mark.parametrize(
    "fails",
    [pytest.param(False, id="sources-answer"), pytest.param(True, id="a-source-fails")],
)
def test_the_configuration_lets_callers_in_and_out_while_the_server_serves(
    guarded, truth, place, fails
):
    changed = replace(place, source=place.folder / "away.onnx") if fails else place
    tls, other = place.tls("spiffe", KNOWN["spiffe"]), place.tls("stranger", OTHERS["stranger"])
    stranger = "dns:stranger.shop.test"

    def may_call(tls: Tls) -> bool:
        try:
            return ranked(guarded, truth, tls) == best(truth)
        except PermissionDeniedError:
            return False

    with (
        RankerClient(guarded.address, tls=tls, timeout=SECONDS) as client,
        client.stream() as stream,
    ):
        assert stream.submit(truth.rows[:10]).result().indices.tolist() == best(truth)
        try:
            changed.configure(stranger)
            wait_until(lambda: may_call(other) and not may_call(tls))
            with pytest.raises(RankerError) as caught:
                stream.submit(truth.rows[:10]).result()
            assert caught.value.code is Code.PERMISSION_DENIED
            wait_until(lambda: asked(guarded, tls, "/")[0] == 403)
            assert guarded.metric("ranker_caller_requests_total", caller=stranger) > 0
        finally:
            place.configure(RETRIEVAL)
        wait_until(lambda: may_call(tls) and not may_call(other))
        assert stream.submit(truth.rows[:10]).result().indices.tolist() == best(truth)


@pytest.fixture
def limited(guarded, place) -> Iterator[RunningServer]:
    """The server while one caller may rank 40 lists a second."""
    metric = "ranker_model_generation"
    before = guarded.metric(metric)
    place.configure(RETRIEVAL, retrieval={"requests_per_second": 40})
    wait_until(lambda: guarded.metric(metric) > before)
    yield guarded
    before = guarded.metric(metric)
    place.configure(RETRIEVAL)
    wait_until(lambda: guarded.metric(metric) > before)


@on_both_transports
def test_a_caller_over_its_quota_is_refused_and_no_other(limited, truth, place):
    data, refused = rank_request(truth.rows[:10]), grpc.StatusCode.RESOURCE_EXHAUSTED
    greedy, other = place.tls("spiffe", KNOWN["spiffe"]), place.tls("upper", KNOWN["upper-case"])
    own = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    taken = limited.metric("ranker_caller_taken_requests_total", caller=RETRIEVAL)
    began = time.monotonic()
    with contextlib.ExitStack() as open_ones:
        # On three connections, and still one caller.
        channels = [
            open_ones.enter_context(grpc.secure_channel(limited.address, tls.credentials(), own))
            for tls in (greedy, greedy, greedy, other)
        ]
        *asks, ask_other = [each.unary_unary(RANK) for each in channels]
        flood, codes = [], []
        for _ in range(50):
            flood += [ask.future(data, timeout=SECONDS) for ask in asks for _ in range(8)]
            codes.append(ask_other.future(data, timeout=SECONDS).code())
        ends = [call.code() for call in flood]
    seconds = time.monotonic() - began
    assert codes == [grpc.StatusCode.OK] * 50
    answered = ends.count(grpc.StatusCode.OK)
    assert 40 <= answered <= 40 + 40 * seconds + 1
    assert ends.count(refused) == len(ends) - answered
    first = next(call for call in flood if call.code() is refused)
    error = from_rpc_error(first)
    assert "40 requests a second" in error.message
    assert error.reason == QUOTA
    assert 0 < error.retry_after <= 1 / 40 + 1e-3
    wait_until(
        lambda: (
            limited.metric("ranker_caller_taken_requests_total", caller=RETRIEVAL) - taken
            == answered
        )
    )
    assert limited.metric("ranker_requests_shed_total", reason="quota") >= ends.count(refused)


@on_one_transport
def test_refusals_of_a_flood_are_held_back_and_none_is_lost(limited, truth, place):
    """All but the first twenty, so that others have the server; `ranker.serving.quotas`."""
    data, tls = rank_request(truth.rows[:10]), place.tls("spiffe", KNOWN["spiffe"])
    refused, began = grpc.StatusCode.RESOURCE_EXHAUSTED, time.monotonic()
    own = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    with grpc.secure_channel(limited.address, tls.credentials(), own) as channel:
        ask = channel.unary_unary(RANK)
        took = []
        for _ in range(3):
            calls = [ask.future(data, timeout=SECONDS) for _ in range(90)]
            assert {call.code() for call in calls} <= {grpc.StatusCode.OK, refused}
            took.append(time.monotonic() - began)
    # 270 calls on one connection, to one worker: 40 a second are ranked, and 200 refused.
    assert took[-1] > (270 - 40 - 20) / 240 - 0.1
