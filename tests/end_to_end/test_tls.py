"""TLS: who is let in, who is not, and that certificates are replaced while the server serves."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest

from ranker.client import AsyncRankerClient, RankerClient, Tls
from ranker.errors import RankerError
from tests.certificates import Authority, Place
from tests.end_to_end.conftest import (
    NAMES,
    RunningServer,
    on_both_transports,
    on_one_transport,
)
from tests.office.support import ask
from tests.waiting import PATIENCE, wait_until


@pytest.fixture
def place(tmp_path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def start_tls(start, place):
    """Starts a server with the certificate; it is known by `tls`."""

    def start_tls(*arguments: str, tls: Tls | None = None) -> RunningServer:
        kind = known_by(tls or Tls(place.authority.path))
        return start(*place.options, *arguments, kind=kind)

    return start_tls


def known_by(tls: Tls) -> type[RunningServer]:
    """Servers to which one connects so."""
    return type("TlsServer", (RunningServer,), {"tls": tls})


@pytest.fixture(scope="module")
def mounted(tmp_path_factory) -> Place:
    """Where the shared server has its certificate from; it stays as it is."""
    return Place(tmp_path_factory.mktemp("mounted"))


@pytest.fixture(scope="module")
def tls_server(mounted, truth, transport, tmp_path_factory) -> Iterator[RunningServer]:
    """Two workers with a certificate."""
    log = tmp_path_factory.mktemp("tls") / "server.log"
    options = (*mounted.options, "--workers", "2", "--transport", transport)
    running = known_by(Tls(mounted.authority.path))(log, str(truth.path), *options)
    yield running
    assert running.stop() == 0, log.read_text()


def shown(port: int) -> str:
    """The name in the certificate that a new connection is shown."""
    from cryptography import x509

    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), PATIENCE) as plain,
        context.wrap_socket(plain) as secured,
    ):
        der = secured.getpeercert(binary_form=True)
    return x509.load_der_x509_certificate(der).subject.rfc4514_string()


def let_in(ports: list[int], tls: Tls) -> list[bool]:
    """Whether each of some ports takes a client's certificate."""
    context = ssl.create_default_context(cafile=tls.ca)
    context.load_cert_chain(tls.cert, tls.key)
    context.check_hostname = False
    context.set_alpn_protocols(["h2"])
    outcomes = []
    for port in ports:
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as plain:
            try:
                with context.wrap_socket(plain) as secured:
                    secured.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
                    outcomes.append(secured.recv(1) != b"")  # with TLS 1.3 a refusal comes later
            except (ssl.SSLError, ConnectionError):
                outcomes.append(False)
    return outcomes


def ranked(server, truth, tls: Tls | None, seconds: float = 3.0) -> list[int]:
    with RankerClient(server.address, tls=tls, timeout=seconds) as client:
        return client.rank(truth.rows[:10]).indices.tolist()


def best(truth, rows: int = 10) -> list[int]:
    return np.argsort(-truth.scores(truth.rows[:rows]), kind="stable").tolist()


@on_both_transports
def test_only_who_speaks_tls_and_knows_the_authority_is_answered(
    tls_server, truth, mounted, tmp_path
):
    assert ranked(tls_server, truth, Tls(mounted.authority.path)) == best(truth)
    named = Tls(mounted.authority.path, server_name="localhost")
    assert ranked(tls_server, truth, named) == best(truth)
    for stranger in (None, Tls(), Tls(Authority(tmp_path, "other").path)):
        with pytest.raises(RankerError):
            ranked(tls_server, truth, stranger, seconds=1.0)


def test_callers_without_a_certificate_of_the_authority_are_refused(
    start_tls, truth, place, tmp_path
):
    known = place.authority.issue(tmp_path / "known", "retrieval")
    unknown = Authority(tmp_path, "other").issue(tmp_path / "unknown", "retrieval")
    with_cert = Tls(place.authority.path, *known)
    server = start_tls("--tls-client-ca", str(place.authority.path), tls=with_cert)
    assert ranked(server, truth, with_cert) == best(truth)
    for without in (Tls(place.authority.path), Tls(place.authority.path, *unknown)):
        with pytest.raises(RankerError):
            ranked(server, truth, without, seconds=1.0)


def test_a_new_certificate_is_for_new_connections_if_it_fits_and_ends_none(start_tls, truth, place):
    server, tls = start_tls(), Tls(place.authority.path)
    ports = [server.port, int(server.wait_for_log(r"HTTPS on port (\d+)")[1])]
    assert [shown(port) for port in ports] == ["CN=first"] * 2
    (place.folder / "first" / "tls.key").write_text("half of a k")

    def seen_by_both() -> bool:
        """Whether the worker and the office have looked; a worker does for a new connection."""
        assert [shown(port) for port in ports] == ["CN=first"] * 2
        return server.log.read_text().count("the certificate stays as it was") == 2

    wait_until(seen_by_both)
    assert [shown(port) for port in ports] == ["CN=first"] * 2
    assert ranked(server, truth, tls) == best(truth)
    with (
        RankerClient(server.address, tls=tls, timeout=PATIENCE) as client,
        client.stream() as stream,
    ):
        assert stream.submit(truth.rows[:10]).result().indices.tolist() == best(truth)
        place.replace("second")
        limit = time.monotonic() + PATIENCE
        while {shown(port) for port in ports} != {"CN=second"}:
            assert time.monotonic() < limit
            assert stream.submit(truth.rows[:10]).result().indices.tolist() == best(truth)
            time.sleep(0.1)
        assert stream.submit(truth.rows[:10]).result().indices.tolist() == best(truth)
    assert ranked(server, truth, tls) == best(truth)


def test_callers_of_an_authority_that_was_taken_out_are_refused(start_tls, truth, place, tmp_path):
    """On both ports: whoever has that authority's key could be anybody."""
    other = Authority(tmp_path, "other")
    taken_out = Tls(place.authority.path, *place.authority.issue(tmp_path / "a", "retrieval"))
    put_in = Tls(place.authority.path, *other.issue(tmp_path / "b", "retrieval"))
    file = tmp_path / "callers.crt"
    file.write_bytes(place.authority.path.read_bytes())
    server = start_tls("--tls-client-ca", str(file), tls=taken_out)
    ports = [server.port, int(server.wait_for_log(r"HTTPS on port (\d+)")[1])]
    assert (let_in(ports, taken_out), let_in(ports, put_in)) == ([True, True], [False, False])
    file.write_bytes(other.path.read_bytes())
    wait_until(lambda: let_in(ports, put_in) == [True, True])
    assert let_in(ports, taken_out) == [False, False]
    assert ranked(server, truth, put_in) == best(truth)


def test_callers_of_an_authority_below_another_need_no_more_than_that_one(
    start_tls, place, tmp_path
):
    """On both ports alike, whose TLS libraries are two. The root is not in the file."""
    root = Authority(tmp_path, "root")
    below, sibling = (Authority(tmp_path, name, root) for name in ("below", "sibling"))
    expired = Authority(tmp_path, "expired", root, days=-1.0)
    no_authority = Authority(tmp_path, "no-authority", root, is_one=False)
    file = tmp_path / "callers.crt"
    known = (below, expired, no_authority)
    file.write_bytes(b"".join(each.path.read_bytes() for each in known))

    def issued(by: Authority, *chain: Authority, days: float = 1.0) -> Tls:
        folder = tmp_path / f"by-{by.path.stem}-{len(chain)}-{days:g}"
        cert, key = by.issue(folder, "retrieval", days=days)
        with cert.open("ab") as out:
            out.writelines(each.path.read_bytes() for each in chain)
        return Tls(place.authority.path, cert, key)

    callers = {
        "below": issued(below),
        "below-with-chain": issued(below, below, root),
        "root": issued(root, root),
        "sibling": issued(sibling),
        "sibling-with-chain": issued(sibling, sibling, root),
        "expired-itself": issued(below, days=-1.0),
        "expired": issued(expired),
    }
    server = start_tls("--tls-client-ca", str(file), tls=callers["below"])
    ports = [server.port, int(server.wait_for_log(r"HTTPS on port (\d+)")[1])]
    outcomes = {name: let_in(ports, tls) for name, tls in callers.items()}
    assert outcomes == {
        name: [name.startswith("below"), name.startswith("below")] for name in callers
    }
    assert let_in(ports[1:], issued(no_authority)) == [False], "gRPC lets it in"


@on_one_transport
def test_workers_and_http(tls_server, truth, mounted):
    for _ in range(6):
        assert ranked(tls_server, truth, Tls(mounted.authority.path)) == best(truth)
    port = int(tls_server.wait_for_log(r"HTTPS on port (\d+)")[1])
    context = ssl.create_default_context(cafile=mounted.authority.path)
    for _ in range(4):
        connection = http.client.HTTPSConnection(
            "127.0.0.1", port, timeout=PATIENCE, context=context
        )
        values = [[None if np.isnan(v) else float(v) for v in row] for row in truth.rows[:10]]
        body = json.dumps({"candidates": values})
        connection.request(
            "POST", "/v1/models/books:rank", body, {"Content-Type": "application/json"}
        )
        assert json.load(connection.getresponse())["indices"] == best(truth)
        connection.close()
    # Whoever scrapes or probes has no certificate.
    assert ask(tls_server.metrics_port, "/readyz").status == 200
    assert ask(tls_server.metrics_port, "/metrics").status == 200


@on_one_transport
def test_asyncio(tls_server, truth, mounted):
    async def ask() -> list[int]:
        async with AsyncRankerClient(
            tls_server.address, tls=Tls(mounted.authority.path), timeout=PATIENCE
        ) as client:
            ranking = await client.rank(truth.rows[:10], timeout=PATIENCE)
            return ranking.indices.tolist()

    assert asyncio.run(ask()) == best(truth)


@on_one_transport
def test_the_command_line(tls_server, truth, mounted, tmp_path):
    path = tmp_path / "candidates.csv"
    lines = [",".join(NAMES), *(",".join(map(str, np.nan_to_num(row))) for row in truth.rows[:5])]
    path.write_text("\n".join(lines))
    ranker = [sys.executable, "-m", "ranker"]
    for command in (
        ["rank", str(path), "--server", tls_server.address],
        ["models", tls_server.address],
    ):
        known = [*ranker, *command, "--tls-ca", str(mounted.authority.path)]
        done = subprocess.run(known, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_a_wrong_file_is_one_clear_line(place, truth):
    (place.folder / "first" / "tls.key").unlink()
    done = subprocess.run(
        [sys.executable, "-m", "ranker", "serve", str(truth.path), *place.options, "--port", "0"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "tls.key: No such file" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
