"""Manifests: what they say of a model, and which are refused."""

import hashlib
import json

import pytest

from ranker.repository.manifest import Manifest, is_version


def test_it_says_which_bytes_and_which_model(models):
    manifest = Manifest.of(models[0], "8")
    content = bytes(models[0].onnx.content)
    assert (manifest.sha256, manifest.size) == (hashlib.sha256(content).hexdigest(), len(content))
    said = json.loads(manifest.content)
    assert said["metadata"]["trees"] == 3
    assert said["xgboost_version"] == models[0].metadata.xgboost_version
    assert Manifest.read(manifest.content, "8") == manifest


def test_the_same_model_gives_the_same_bytes(models):
    assert Manifest.of(models[0], "8") == Manifest.of(models[0], "8")


def changed(manifest: Manifest, **values: object) -> bytes:
    return json.dumps(json.loads(manifest.content) | values).encode()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        pytest.param({"format": 2}, '"format": 1', id="a-later-format"),
        pytest.param({"version": "7"}, "version '7'", id="another-version"),
        pytest.param({"files": {}}, "sha256 and size", id="no-files"),
        pytest.param({"files": []}, "sha256 and size", id="files-of-another-type"),
        pytest.param({"files": {"model.onnx": {"sha256": "0", "size": 1}}}, "64 hexa", id="digest"),
        pytest.param(
            {"files": {"model.onnx": {"sha256": "0" * 64, "size": True}}}, "bytes", id="size"
        ),
    ],
)
def test_another_document_is_refused(models, values, message):
    with pytest.raises(ValueError, match=message):
        Manifest.read(changed(Manifest.of(models[0], "8"), **values), "8")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]", b"7"])
def test_what_is_no_manifest_is_refused(content):
    with pytest.raises(ValueError, match=r"manifest\.json"):
        Manifest.read(content, "8")


def test_a_version_is_a_name_and_no_way_out_of_the_folder():
    assert is_version("2026-11-28")
    assert not any(map(is_version, ("..", ".cache", "", "a/b", "-7", "ä")))
