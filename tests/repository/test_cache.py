"""What is kept on this machine, and what goes when there is much of it."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

import pytest

from ranker.repository import cache as module
from ranker.repository.cache import Cache
from ranker.repository.manifest import Manifest

DAY = 24 * 3600.0


def fake_manifest(content: bytes, version: str) -> Manifest:
    sha256 = hashlib.sha256(content).hexdigest()
    files = {"model.onnx": {"sha256": sha256, "size": len(content)}}
    text = json.dumps({"format": 1, "version": version, "files": files})
    return Manifest.read(text.encode(), version)


def keep(cache: Cache, number: int) -> Manifest:
    """Fetches the model of a number."""
    content = b"model %d" % number
    manifest = fake_manifest(content, f"{number}")
    cache.keep_model(manifest, [content])
    cache.keep_manifest("source", manifest)
    return manifest


def age(cache: Cache, manifest: Manifest, seconds: float) -> None:
    """As if it had been used so long ago."""
    then = time.time() - seconds
    os.utime(cache.folder / "models" / f"{manifest.sha256}.onnx", (then, then))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch) -> Cache:
    monkeypatch.setattr(module, "MOST_MODELS", 3)
    return Cache(tmp_path)


def kept(cache: Cache, manifests: list[Manifest]) -> list[str]:
    return [manifest.version for manifest in manifests if cache.model(manifest)]


def test_those_that_were_used_last_long_ago_go(cache):
    manifests = [keep(cache, number) for number in range(3)]
    for manifest, days in zip(manifests, (3, 5, 4), strict=True):
        age(cache, manifest, days * DAY)
    manifests += [keep(cache, 3), keep(cache, 4)]
    assert kept(cache, manifests) == ["0", "3", "4"]
    assert sorted(cache.versions("source")) == ["0", "3", "4"]
    assert cache.manifest("source", "1"), "which model version 1 is stays known"


def test_what_is_used_stays(cache):
    manifests = [keep(cache, number) for number in range(3)]
    for manifest in manifests:
        age(cache, manifest, 9 * DAY)
    assert cache.model(manifests[1])  # as by a server that serves it
    manifests += [keep(cache, number) for number in (3, 4)]
    assert kept(cache, manifests) == ["1", "3", "4"]


def test_nothing_goes_within_a_day(cache):
    manifests = [keep(cache, number) for number in range(10)]
    for manifest in manifests:
        age(cache, manifest, DAY - 60)
    manifests.append(keep(cache, 10))
    assert len(kept(cache, manifests)) == 11


def test_few_stay_however_old_they_are(cache):
    manifests = [keep(cache, number) for number in range(2)]
    for manifest in manifests:
        age(cache, manifest, 400 * DAY)
    manifests.append(keep(cache, 2))
    assert len(kept(cache, manifests)) == 3
