"""Buckets, of emulators in processes of their own, with what goes wrong on the way to them."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ranker.errors import SourceError, SourceUnavailableError
from ranker.model import ModelFile
from ranker.repository import bucket as bucket_module
from ranker.repository.repository import open_repository
from ranker.repository.versions import Versions
from tests.repository.buckets import Fault

MODEL = ("GET", "model.onnx")
MANIFEST = ("GET", "manifest.json")
LISTING = ("GET", "/bucket")


@pytest.fixture
def repository(bucket, put, tmp_path) -> Versions:
    """One with version 8 in it, nothing of it in the cache."""
    put(bucket.address, "8")
    bucket.requests.clear()
    found = open_repository(bucket.address, tmp_path / "cache")
    assert isinstance(found, Versions)
    return found


def test_what_is_published_is_found_and_fetched(bucket, repository, put, models, tmp_path):
    put(bucket.address, "10", 1)
    assert repository.poll() == ("8", "10")
    path = repository.fetch("10").path
    assert path.is_relative_to(tmp_path / "cache")
    assert path.read_bytes() == bytes(models[1].onnx.content)
    assert repository.cached() == ("10",)


def test_a_large_model_comes_in_pieces(bucket, repository, models, monkeypatch):
    monkeypatch.setattr("ranker.repository.versions._PIECE", 1000)
    assert ModelFile.read(repository.fetch("8").path).digest == models[0].digest
    pieces = [request for request in bucket.requests if request.startswith("GET")]
    assert len(pieces) > len(models[0].onnx.content) / 1000


def test_what_was_withdrawn_does_not_come_back_while_the_bucket_is_away(
    bucket, repository, put, tmp_path, monkeypatch
):
    put(bucket.address, "9", 1)
    repository.poll()
    for version in ("8", "9"):
        repository.fetch(version)
    assert repository.cached() == ("8", "9")
    there = [key for key in repository._place.list() if key[0] != "9"]
    monkeypatch.setattr(repository._place, "list", lambda: there)
    assert repository.poll() == ("8",)
    bucket.faults = {("GET", ""): Fault(status=503), ("HEAD", ""): Fault(status=503)}
    restarted = open_repository(bucket.address, tmp_path / "cache")
    assert repository.cached() == restarted.cached() == ("8",)


def test_a_restart_needs_no_bucket(bucket, repository, tmp_path, caplog):
    path = repository.fetch("8").path
    bucket.faults = {("GET", ""): Fault(status=503), ("HEAD", ""): Fault(status=503)}
    again = open_repository(bucket.address, tmp_path / "cache")
    with pytest.raises(SourceUnavailableError):
        again.poll()
    assert again.cached() == ("8",)
    bucket.requests.clear()
    assert again.fetch("8").path == path
    assert bucket.requests == [], "it was asked again, which takes half a minute if it hangs"
    unasked = open_repository(bucket.address, tmp_path / "cache")
    assert unasked.fetch("8").path == path
    assert "going on with what was fetched before" in caplog.text


def test_a_bucket_that_is_back_is_asked_again(bucket, repository, put):
    repository.fetch("8")
    bucket.faults = {("GET", ""): Fault(status=503), ("HEAD", ""): Fault(status=503)}
    with pytest.raises(SourceUnavailableError):
        repository.poll()
    bucket.faults = {}
    put(bucket.address, "9", 1)
    assert repository.poll() == ("8", "9")
    repository.fetch("9")
    bucket.requests.clear()
    repository.fetch("8")
    assert len(bucket.requests) == 1, "its manifest"


def test_a_cache_that_can_not_be_written_is_named(repository, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "models").touch()
    with pytest.raises(SourceError, match=r"version 8: it can't be kept in the cache .*/cache: "):
        repository.fetch("8")


def test_what_is_in_the_cache_is_not_fetched_again(bucket, repository):
    repository.fetch("8")
    bucket.requests.clear()
    repository.fetch("8")
    assert [request for request in bucket.requests if request.endswith("model.onnx")] == []


def test_a_file_that_was_damaged_in_the_cache_is_fetched_again(repository, models):
    path = repository.fetch("8").path
    path.write_bytes(b"half")
    assert repository.fetch("8").path.read_bytes() == bytes(models[0].onnx.content)


def test_two_can_fetch_at_once(bucket, repository, models, tmp_path):
    others = [open_repository(bucket.address, tmp_path / "cache") for _ in range(3)]
    with ThreadPoolExecutor(4) as threads:
        paths = list(threads.map(lambda one: one.fetch("8").path, [repository, *others]))
    assert len(set(paths)) == 1
    assert paths[0].read_bytes() == bytes(models[0].onnx.content)
    assert list((tmp_path / "cache" / "unfinished").iterdir()) == []


@pytest.mark.parametrize("where", [MODEL, MANIFEST, ("HEAD", "model.onnx")], ids=str)
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(status=503, times=2), id="503"),
        pytest.param(Fault(status=429, times=1), id="429"),
        pytest.param(Fault(cut=True, times=1), id="cut"),
        pytest.param(Fault(seconds=0.2), id="slow"),
    ],
)
def test_what_passes_is_tried_again(bucket, repository, models, where, fault):
    bucket.faults = {where: Fault(**vars(fault))}
    assert ModelFile.read(repository.fetch("8").path).digest == models[0].digest


@pytest.mark.parametrize("where", [MODEL, MANIFEST], ids=str)
@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        pytest.param(Fault(status=403), SourceError, "access denied", id="403"),
        pytest.param(Fault(status=401), SourceError, "access denied", id="401"),
        pytest.param(Fault(status=404), SourceError, "not there|not complete", id="404"),
        pytest.param(Fault(status=503), SourceUnavailableError, "503", id="503"),
        pytest.param(Fault(cut=True), SourceUnavailableError, "can't be read", id="cut"),
        pytest.param(Fault(seconds=3), SourceUnavailableError, "can't be read", id="too-slow"),
    ],
)
@pytest.mark.usefixtures("repository")
def test_what_lasts_is_told(bucket, tmp_path, monkeypatch, where, fault, error, message):
    if fault.seconds:  # else a busy machine has as long as ever
        monkeypatch.setattr(bucket_module, "_REQUEST_SECONDS", 0.5)
    monkeypatch.setattr(bucket_module, "_RETRIES", 1)
    impatient = open_repository(bucket.address, tmp_path / "cache")
    bucket.faults = {where: Fault(**vars(fault))}
    with pytest.raises(SourceError, match=message) as caught:
        impatient.fetch("8")
    assert type(caught.value) is error
    assert str(caught.value).startswith(f"{bucket.address}, version 8: ")
    assert impatient.cached() == ()
    assert not list((tmp_path / "cache").glob("models/*"))


@pytest.mark.parametrize(
    ("where", "change", "message"),
    [
        pytest.param(MODEL, lambda body: body[::-1], "expected sha256", id="corrupted"),
        pytest.param(MODEL, lambda body: body[:-9], r"expected \d+ bytes, got", id="truncated"),
        pytest.param(MANIFEST, lambda body: body[: len(body) // 2], "not whole", id="manifest"),
    ],
)
def test_other_bytes_than_were_published_are_refused(
    bucket, repository, tmp_path, where, change, message
):
    bucket.faults = {where: Fault(change=change)}
    with pytest.raises(SourceError, match=f"version 8: .*{message}"):
        repository.fetch("8")
    assert not list((tmp_path / "cache").glob("models/*"))


def test_a_version_that_became_another_model_is_refused(bucket, repository):
    repository.fetch("8")

    def another(body: bytes) -> bytes:
        document = json.loads(body)
        document["files"]["model.onnx"]["sha256"] = "0" * 64
        return json.dumps(document).encode()

    bucket.faults = {MANIFEST: Fault(change=another)}
    with pytest.raises(SourceError, match=r"version 8: .* names one model for good"):
        repository.fetch("8")


def test_a_half_published_version_is_not_there_until_it_is_completed(
    bucket, repository, put, models
):
    bucket.faults = {("PUT", "manifest.json"): Fault(status=403)}
    with pytest.raises(
        SourceError, match=r"version 9: 9/manifest.json can't be written: access de"
    ):
        put(bucket.address, "9", 1)
    assert repository.poll() == ("8",)
    with pytest.raises(SourceError, match=r"version 9: it is not complete"):
        repository.fetch("9")
    bucket.faults = {}
    assert put(bucket.address, "9", 1).new
    assert repository.fetch("9").path.read_bytes() == bytes(models[1].onnx.content)


def test_a_version_is_never_overwritten(bucket, repository, put, models):
    with pytest.raises(SourceError, match=r"version 8: another model\.onnx is there already"):
        put(bucket.address, "8", 1)
    assert not put(bucket.address, "8", 0).new
    assert repository.fetch("8").path.read_bytes() == bytes(models[0].onnx.content)


@pytest.mark.parametrize("name", ["model.onnx", "manifest.json"])
def test_an_upload_whose_answer_got_lost_is_no_conflict(bucket, repository, put, name):
    # The bucket has the file; the next try is refused, and finds the same bytes.
    bucket.faults = {("PUT", name): Fault(cut=True, times=1)}
    try:
        put(bucket.address, "9", 1)
    except SourceUnavailableError:  # where such an error is not tried again by itself
        put(bucket.address, "9", 1)
    assert repository.poll() == ("8", "9")


def test_of_two_publishers_one_wins(bucket, repository, put, models):
    def attempt(number: int) -> bool:
        try:
            return put(bucket.address, "9", number).new
        except SourceError:
            return False

    with ThreadPoolExecutor(3) as threads:
        won = list(threads.map(attempt, range(3)))
    assert sum(won) == 1
    content = repository.fetch("9").path.read_bytes()
    assert content == bytes(models[won.index(True)].onnx.content)


def test_a_poll_is_one_request(bucket, repository):
    repository.poll()
    assert len(bucket.requests) == 1


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        pytest.param(Fault(status=403), SourceError, "access denied", id="403"),
        pytest.param(Fault(status=404), SourceError, "there is no bucket", id="404"),
        pytest.param(Fault(status=503), SourceUnavailableError, "503", id="503"),
    ],
)
def test_a_listing_that_fails_is_told(bucket, repository, fault, error, message):
    bucket.faults = {LISTING: fault, ("GET", "/bucket/"): fault}
    with pytest.raises(error, match=f"^{bucket.address}: .*{message}"):
        repository.poll()


class _MetadataServer(ThreadingHTTPServer):
    """That of a virtual machine, which has no token now, or never has one."""

    def __init__(self, status: int) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_error(status)

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.mark.parametrize(
    ("status", "lasts"),
    [
        pytest.param(503, False, id="busy"),
        pytest.param(429, False, id="asked-too-often"),
        pytest.param(0, False, id="does-not-answer"),
        pytest.param(404, True, id="has-no-account"),
        pytest.param(403, True, id="refuses"),
    ],
)
def test_a_token_that_is_not_to_be_had_now_is_no_lasting_error(
    status, lasts, tmp_path, monkeypatch
):
    pytest.importorskip("obstore")
    monkeypatch.setattr(bucket_module, "_RETRIES", 0)
    monkeypatch.setenv("HOME", str(tmp_path))  # where gcloud's own credentials would be
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.delenv("GOOGLE_BEARER_TOKEN", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with _MetadataServer(status or 503) as server:
        for name in ("GCE_METADATA_ROOT", "GCE_METADATA_IP"):
            monkeypatch.setenv(name, f"127.0.0.1:{server.server_port}")
        if status:
            threading.Thread(target=server.serve_forever, daemon=True).start()
        else:
            server.server_close()
        with pytest.raises(SourceError, match="no usable credentials") as caught:
            bucket_module.Bucket("gs://bucket/books").list()
        if status:
            server.shutdown()
    assert isinstance(caught.value, SourceUnavailableError) is not lasts
