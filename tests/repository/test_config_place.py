"""A configuration's file: on this machine, and in a bucket, where nobody's change is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from ranker.cli.main import cli
from ranker.errors import ConfigError, SourceError
from ranker.repository.bucket import Bucket as Objects
from ranker.repository.config_place import ConfigPlace, load_config, open_config
from tests.repository.buckets import Bucket, Fault

CONFIG = """\
models:
  books:
    source: books   # beside this file
    labels: {stable: 8, canary: 9}
    traffic: {stable: 95, canary: 5}
"""


@pytest.fixture
def address(bucket: Bucket) -> str:
    """Of a configuration in a bucket."""
    Objects(bucket.address).create("ranker.yaml", CONFIG.encode())
    bucket.requests.clear()
    return f"{bucket.address}/ranker.yaml"


@pytest.fixture
def place(address: str, tmp_path: Path) -> ConfigPlace:
    return open_config(address, tmp_path / "cache")


def run(*arguments: str) -> str:
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_it_is_read(place, address):
    assert place.read().text == CONFIG
    assert (place.name, place.base) == (address, address.removesuffix("/ranker.yaml"))
    assert place.stamp() is None
    assert list(load_config(place).models) == ["books"]


def test_it_is_replaced(place):
    before = place.read()
    place.replace("models: {}", before)
    assert place.read().text == "models: {}"


def test_a_change_that_somebody_else_has_made_is_not_lost(place):
    before = place.read()
    place.replace(CONFIG + "# somebody else", before)
    with pytest.raises(ConfigError, match="changed in the meantime; run it again"):
        place.replace("models: {}", before)
    assert place.read().text == CONFIG + "# somebody else"


def test_of_two_at_once_one_is_told(place, address, tmp_path):
    other = open_config(address, tmp_path / "cache")
    before = other.read()
    place.replace("one", place.read())
    with pytest.raises(ConfigError, match="in the meantime"):
        other.replace("two", before)


def test_a_bucket_that_is_away(place, bucket, monkeypatch, caplog):
    monkeypatch.setattr("ranker.repository.bucket._RETRIES", 0)
    place = type(place)(place.name, place._cache)
    bucket.faults["GET", "ranker.yaml"] = Fault(status=503)
    with pytest.raises(ConfigError, match="503"):
        place.read()
    bucket.faults.clear()
    place.read()
    bucket.faults["GET", "ranker.yaml"] = Fault(status=503)
    before = place.read()
    assert before.text == CONFIG
    assert "going on with what was read before" in caplog.text
    with pytest.raises(ConfigError, match="the bucket did not answer"):
        place.replace("x", before)


def test_what_could_not_be_kept_is_gone_on_with_all_the_same(place, bucket, monkeypatch):
    """Not with what was kept before it."""
    monkeypatch.setattr("ranker.repository.bucket._RETRIES", 0)
    place = type(place)(place.name, place._cache)
    place.read()
    place.replace(CONFIG + "# newer", place.read())

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(place._cache, "keep_config", refuse)
    assert place.read().text == CONFIG + "# newer"
    bucket.faults["GET", "ranker.yaml"] = Fault(status=503)
    assert place.read().text == CONFIG + "# newer"


@pytest.mark.parametrize(
    ("status", "message"),
    [(403, "access denied"), (404, "there is no such file")],
)
def test_what_is_not_there_is_said_whatever_was_before(place, bucket, address, status, message):
    place.read()
    bucket.faults["GET", "ranker.yaml"] = Fault(status=status)
    with pytest.raises(ConfigError, match=message) as caught:
        place.read()
    assert address in caught.value.message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"\xff\xfe", "it is not UTF-8", id="bytes"),
        pytest.param(b"#" * (1 << 20) + b"#", "expected at most 1048576 bytes", id="large"),
        pytest.param(b"models: [", r"other.yaml:1:", id="yaml"),
    ],
)
def test_what_is_wrong_names_the_object(bucket, tmp_path, content, message):
    Objects(bucket.address).create("other.yaml", content)
    with pytest.raises(ConfigError, match=message):
        load_config(open_config(f"{bucket.address}/other.yaml", tmp_path))


def test_a_file_on_this_machine(tmp_path):
    path = tmp_path / "ranker.yaml"
    path.write_text(CONFIG)
    place = open_config(f"file://{path}")
    assert (place.name, place.base) == ("ranker.yaml", str(tmp_path))
    before, stamp = place.read(), place.stamp()
    place.replace("models: {}\n", before)
    assert path.read_text() == "models: {}\n"
    assert place.stamp() != stamp
    with pytest.raises(ConfigError, match="in the meantime"):
        place.replace(CONFIG, before)


def test_an_address_of_something_else():
    with pytest.raises(SourceError, match="expected a path"):
        open_config("http://example.org/ranker.yaml")


def test_promote_roll_back_and_check_in_a_bucket(address, put, bucket, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for number, version in enumerate(("8", "9")):
        put(f"{bucket.address}/books", version, number)
    assert f"+++ {address}" in run("promote", "books", "canary", "--config", address)
    text = open_config(address).read().text
    assert "labels: {stable: 9, canary: 9, previous: 8}" in text
    assert "# beside this file" in text
    assert "nothing to change" in run("promote", "books", "canary", "--config", address)
    rows = [line.split() for line in run("check", address).splitlines()]
    assert rows[1][:4] == ["books", "9", "stable,", "canary"]
    run("rollback", "books", "--config", address)
    assert "stable: 8" in open_config(address).read().text
    assert run("rollback", "books", "--config", address, "--dry-run")
