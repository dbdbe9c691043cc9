"""The configuration's file, edited: only what was to change changes, whatever the layout."""

from __future__ import annotations

import errno
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier, BrokenBarrierError

import pytest

from ranker.errors import ConfigError
from ranker.repository.config import parse_config
from ranker.repository.config_file import ConfigFile
from ranker.repository.config_place import open_config
from ranker.repository.promotion import promote, roll_back

FLOW = """\
# What we serve.
models:
  books:
    source:   'gs://bucket/rankers/books'
    versions: {latest: 2}              # or a list
    labels: {stable: 7, canary: "8"}
    traffic: {  stable: 95,canary: 5 }   # by salted hash of unit

  # films next
  films: {source: films.onnx, labels: {stable: 1, canary: 2}}
"""
BLOCK = """\
models:
    films:
        source: films.onnx
        labels:
            stable: 7
    books:
        source: books
        labels:
            # the one that pays
            stable: 7  # since May
            canary: '8'  # next
            # more labels here
        versions:
            - 6
        traffic:
            canary: 5
            stable: 95
"""


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "ranker.yaml"
        path.write_bytes(text.encode())
        return path

    return write


def promoted(path):
    file = ConfigFile(open_config(str(path)))
    return file, file.edited("books", promote("books", file.model("books"), "canary"))


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        pytest.param(
            FLOW,
            [
                ('{stable: 7, canary: "8"}', '{stable: "8", canary: "8", previous: 7}'),
                ("{  stable: 95,canary: 5 }", "{  stable: 100,canary: 0 }"),
            ],
            id="flow",
        ),
        pytest.param(
            BLOCK,
            [
                ("stable: 7  # since", "stable: '8'  # since"),
                ("canary: '8'  # next", "canary: '8'  # next\n            previous: 7"),
                ("canary: 5\n            stable: 95", "canary: 0\n            stable: 100"),
            ],
            id="block",
        ),
        pytest.param(
            BLOCK.replace("\n", "\r\n"),
            [
                ("stable: 7  # since", "stable: '8'  # since"),
                ("canary: '8'  # next", "canary: '8'  # next\r\n            previous: 7"),
                ("canary: 5\r\n            stable: 95", "canary: 0\r\n            stable: 100"),
            ],
            id="crlf",
        ),
    ],
)
def test_nothing_else_changes(write, text, changes):
    _, edited = promoted(write(text))
    for old, new in changes:
        assert text.count(old) == 1
        text = text.replace(old, new)
    assert edited == text


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param("{main: 7, canary: 8}", id="flow"),
        pytest.param("\n      main: 7\n      canary: 8", id="block-at-the-end"),
        pytest.param("\n      main: 7\n      canary: 8\n    # no more\n", id="block"),
    ],
)
def test_a_new_label_leaves_the_first_one_the_default(write, labels):
    """Where none is `stable`, requests without a version get the version of the first."""
    path = write(f"models:\n  books:\n    source: b\n    labels: {labels}")
    file = ConfigFile(open_config(str(path)))
    text = file.edited("books", promote("books", file.model("books"), "canary", to="beta"))
    found = list(parse_config(text, "it").models["books"].labels.items())
    assert found == [("main", "7"), ("canary", "8"), ("beta", "8")]


READ_AS_OTHERS = ["007", "1e5", "0x10", "1_000", "2026-09-30", "2026-02-30", "true", "null", "on"]
"""Versions and labels that YAML, without quotes, reads as something else; `on` its version 1.1."""


@pytest.mark.parametrize("quote", [pytest.param("'", id="single"), pytest.param('"', id="double")])
@pytest.mark.parametrize("version", READ_AS_OTHERS)
def test_versions_keep_their_quotes(write, version, quote):
    written = f"{quote}{version}{quote}"
    text = (
        "models:\n  books: {source: b, labels: {stable: 6, canary: VERSION}, "
        "traffic: {stable: 95, canary: 5}}\n"
    ).replace("VERSION", written)
    path = write(text)
    file, edited = promoted(path)
    assert f"{{stable: {written}, canary: {written}, previous: 6}}" in edited
    file.replace(edited)
    file = ConfigFile(open_config(str(path)))
    file.replace(file.edited("books", promote("books", file.model("books"), "previous")))
    file = ConfigFile(open_config(str(path)))
    labels = {"stable": "6", "canary": version, "previous": version}
    assert file.model("books").labels == labels
    back = file.edited("books", roll_back("books", file.model("books")))
    assert f"{{stable: {written}, canary: {written}, previous: {written}}}" in back


@pytest.mark.parametrize("label", READ_AS_OTHERS)
@pytest.mark.parametrize(
    "labels",
    [
        pytest.param("{stable: 7, canary: 8}", id="flow"),
        pytest.param("\n      stable: 7\n      canary: 8", id="block"),
    ],
)
def test_a_new_label_has_quotes_where_it_needs_them(write, labels, label):
    path = write(f"models:\n  books:\n    source: b\n    labels: {labels}\n")
    file = ConfigFile(open_config(str(path)))
    text = file.edited("books", promote("books", file.model("books"), "canary", to=label))
    assert parse_config(text, "it").models["books"].labels[label] == "8"
    assert f'"{label}": 8' in text


@pytest.mark.parametrize(
    ("before", "label", "after"),
    [
        pytest.param(
            "{stable: 81.6, canary: 0.1, beta: 18.3}",
            "canary",
            "{stable: 81.7, canary: 0, beta: 18.3}",
            id="no-binary-fraction",
        ),
        pytest.param(
            "{stable: 33.3333334, canary: 33.3333333, beta: 33.3333333}",
            "beta",
            "{stable: 66.6666667, canary: 33.3333333, beta: 0}",
            id="many-digits",
        ),
        pytest.param(
            "{canary: 40, beta: 60}",
            "canary",
            "{canary: 0, stable: 40, beta: 60}",
            id="stable-had-none",
        ),
    ],
)
def test_a_share_that_is_given_back(write, before, label, after):
    text = (
        "models:\n  books: {source: b, labels: {stable: 7, canary: 8, beta: 9}, traffic: SHARES}\n"
    )
    file = ConfigFile(open_config(str(write(text.replace("SHARES", before)))))
    edited = file.edited("books", roll_back("books", file.model("books"), label))
    assert edited == text.replace("SHARES", after)


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param("&l {stable: 7, canary: 8}", id="shared-mapping"),
        pytest.param("{stable: &v 7, canary: 8}", id="anchor"),
        pytest.param("{<<: &l {stable: 7}, canary: 8}", id="merge"),
    ],
)
def test_what_only_a_person_can_edit_is_refused(write, labels):
    shared = "*l" if "&l" in labels else "{stable: *v}"
    text = (
        f"models:\n  books: {{source: b, labels: {labels}}}\n"
        f"  films: {{source: f, labels: {shared}}}\n"
    )
    with pytest.raises(ConfigError, match="only a person can edit"):
        promoted(write(text))


def test_it_is_replaced_behind_a_link_with_its_mode(write, tmp_path):
    path = write(FLOW)
    path.chmod(0o640)
    link = tmp_path / "link.yaml"
    link.symlink_to(path)
    file, edited = promoted(link)
    file.replace(edited)
    assert link.is_symlink()
    assert path.read_text() == edited
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert sorted(os.listdir(tmp_path)) == ["link.yaml", "ranker.yaml"]


@pytest.fixture
def foreign(write):
    """A configuration that belongs to another user and group."""
    path = write(FLOW)
    try:
        os.chown(path, 1234, 5678)
    except PermissionError:
        pytest.skip("only root can give a file away")
    path.chmod(0o640)
    return path


def test_it_keeps_its_owner_and_group(foreign):
    """Else a server that runs as that user, or in that group, could not read it any more."""
    file, edited = promoted(foreign)
    file.replace(edited)
    found = foreign.stat()
    assert foreign.read_text() == edited
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (1234, 5678, 0o640)


@pytest.mark.parametrize(
    ("user", "error", "advice"),
    [
        pytest.param(
            1234, PermissionError(errno.EPERM, "not permitted"), "run this as that user", id="user"
        ),
        pytest.param(
            None, PermissionError(errno.EPERM, "not permitted"), "not in group 5678", id="group"
        ),
        # Of users that are not mapped in a container.
        pytest.param(
            1234, OSError(errno.EINVAL, "Invalid argument"), "no such owner: Inv", id="no-such-user"
        ),
    ],
)
def test_it_is_not_replaced_by_who_can_not_give_it_its_owner(
    foreign, tmp_path, monkeypatch, user, error, advice
):
    def refused(*_: object) -> None:
        raise error

    user = os.getuid() if user is None else user
    os.chown(foreign, user, 5678)
    monkeypatch.setattr(os, "fchown", refused)
    file, edited = promoted(foreign)
    with pytest.raises(ConfigError, match=rf"belongs to user {user} and group 5678.*; .*{advice}"):
        file.replace(edited)
    assert foreign.read_text() == FLOW
    assert os.listdir(tmp_path) == ["ranker.yaml"]


def test_a_change_by_somebody_else_is_not_lost(write):
    file, edited = promoted(write(FLOW))
    write(FLOW + "poll_seconds: 5\n")
    with pytest.raises(ConfigError, match="has changed in the meantime"):
        file.replace(edited)


def test_of_two_at_once_one_is_told(write, monkeypatch):
    """The second one waits, and then finds the file changed; neither change is lost."""
    path = write(FLOW)
    both = Barrier(2)

    def fsync(_: int) -> None:
        with suppress(BrokenBarrierError):
            both.wait(1)  # for the other one, who has compared the file, too: it never comes

    monkeypatch.setattr(os, "fsync", fsync)
    edits = [promoted(path) for _ in range(2)]

    def replace(number: int) -> str:
        file, text = edits[number]
        try:
            file.replace(text + f"# {number}\n")
        except ConfigError as error:
            return error.message
        return f"# {number}\n"

    with ThreadPoolExecutor(2) as pool:
        said = sorted(pool.map(replace, range(2)))
    assert said[1] == "ranker.yaml: has changed in the meantime; run it again"
    assert path.read_text() == edits[0][1] + said[0]
    assert os.listdir(path.parent) == ["ranker.yaml"]


def test_no_such_model(write):
    with pytest.raises(ConfigError, match="there is no model x; there are: books, films"):
        ConfigFile(open_config(str(write(FLOW)))).model("x")
