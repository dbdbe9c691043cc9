"""The configuration: what it may say, and that every error tells its line."""

from __future__ import annotations

import json

import pytest

from ranker.callers import CallerPolicy
from ranker.errors import ConfigError
from ranker.quota import Quota
from ranker.repository.config import Latest, ShadowConfig, parse_config
from ranker.repository.config_place import load_config, open_config
from ranker.repository.rollout_limits import RolloutLimits

WHOLE = """\
models:
  books:
    source: gs://bucket/rankers/books
    versions: {latest: 2}
    labels: {stable: 7, canary: 8}
    traffic: {stable: 95, canary: 5}
    salt: books-2026-11
    shadow: {version: 9, share: 0.1}
  films: {source: films.onnx}
poll_seconds: 5
"""


def test_all_that_it_may_say():
    config = parse_config(WHOLE, "ranker.yaml")
    books = config.models["books"]
    assert list(config.models) == ["books", "films"]
    assert books.versions == Latest(latest=2)
    assert books.labels == {"stable": "7", "canary": "8"}
    assert books.traffic == {"stable": 95, "canary": 5}
    assert (books.salt, config.poll_seconds) == ("books-2026-11", 5)
    assert books.shadow == ShadowConfig(version="9", share=0.1)
    assert config.models["films"].shadow is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", "ranker.yaml:1:1: expected a mapping", id="empty"),
        pytest.param("models: [", "ranker.yaml:1:", id="not-yaml"),
        pytest.param(
            "models: 2026-02-30",
            "ranker.yaml:1:9: 2026-02-30 is read as a date: day is out of range",
            id="no-such-day",
        ),
        pytest.param("[" * 10_000, "ranker.yaml: it is nested too deeply", id="deep"),
        pytest.param("models: {}", "ranker.yaml:1:9: models: ", id="no-models"),
        pytest.param("models:\n  a b: {source: x}", "ranker.yaml:2:", id="name"),
        pytest.param("models:\n  a: {}", "models.a.source: is required", id="no-source"),
        pytest.param(
            "models:\n  a: {sorce: x, source: y}",
            "ranker.yaml:2:7: models.a.sorce: there is no such field",
            id="unknown-field",
        ),
        pytest.param(
            "models:\n  a:\n    source: x\n    versions: {latest: 0}",
            "ranker.yaml:4:24: models.a.versions.latest: input should be greater than",
            id="range",
        ),
        pytest.param(
            "models:\n  a: {source: x, labels: {s: 1}, traffic: {s: 80}}",
            "traffic: expected 100 percent in all, got 80",
            id="shares",
        ),
        pytest.param(
            "models:\n  a: {source: x, labels: {s: 1}, traffic: {t: 100}}",
            "traffic: t is no label; there are: s",
            id="label",
        ),
        pytest.param(
            "models:\n  a:\n    source: x\n    shadow: {version: 9, share: 10}",
            "ranker.yaml:4:33: models.a.shadow.share: input should be less than or equal to 1",
            id="shadow-share",
        ),
        pytest.param(
            "models:\n  a:\n    source: x\n    shadow: {share: 0.5}",
            "ranker.yaml:4:13: models.a.shadow.version: is required",
            id="shadow-version",
        ),
        pytest.param(
            "models:\n  a:\n    source: x\n    labels: {stable: 1}\n    guard: {errors: 0.01}",
            "ranker.yaml:5:21: models.a.guard.errors: expected a percentage, 1% say, got 0.01",
            id="guard-without-percent",
        ),
        pytest.param(
            "models:\n  a: {source: x, labels: {stable: 1}, guard: {p99: 20}}",
            "ranker.yaml:2:52: models.a.guard.p99: expected a time, 20ms or 0.5s say, got 20",
            id="guard-without-unit",
        ),
        pytest.param(
            "models:\n  a: {source: x, labels: {stable: 1}, guard: {minutes: 5}}",
            "models.a.guard: expected a limit: errors, p99 or both",
            id="guard-without-limit",
        ),
        pytest.param(
            "models:\n  a: {source: x, labels: {s: 1}, guard: {errors: 1%}}",
            "models.a: guard: needs a label stable",
            id="guard-without-stable",
        ),
        pytest.param(
            "models:\n  a: {source: x, labels: {stable: 1, b: 2}, traffic: {stable: 0, b: 100}, "
            "guard: {errors: 1%}}",
            "models.a: guard: needs a share of the traffic for stable",
            id="guard-without-traffic-of-stable",
        ),
        pytest.param(
            "models:\n  a: {source: x, labels: {b: 2, stable: 1}, traffic: {b: 100}, "
            "guard: {errors: 1%}}",
            "models.a: guard: needs a share of the traffic for stable",
            id="guard-without-a-share-of-stable",
        ),
        pytest.param(
            "models:\n  a: {source: x, labels: {stable: 1}, guard: {p99: 5.1s}}",
            "models.a.guard: p99: expected at most 5s, beyond which times are not told apart",
            id="guard-beyond-the-histogram",
        ),
        pytest.param(
            "models:\n  a: {source: x, labels: {stable: 1}, guard: {errors: 100%}}",
            "models.a.guard: errors: expected less than 100%",
            id="guard-that-allows-all",
        ),
        pytest.param(
            "models:\n  a: {source: x, labels: {stable: 8, canary: 8}, shadow: {version: 8}}",
            "models.a: shadow: 8 is the only version that ranks",
            id="shadow-of-itself",
        ),
        pytest.param(
            "models:\n  a: {source: x, versions: [8], shadow: {version: 8}}",
            "models.a: shadow: 8 is the only version that ranks",
            id="shadow-of-the-only-version",
        ),
        pytest.param(
            "models:\n  a: {source: x}\n  a: {source: y}",
            'ranker.yaml:3:3: found duplicate key "a"',
            id="twice",
        ),
    ],
)
def test_errors_tell_where(text, expected):
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "ranker.yaml")
    assert expected in caught.value.message


PLACES = {
    "label": "labels: {stable: VERSION}",
    "list": "versions: [8, VERSION]",
    "shadow": "shadow: {version: VERSION}",
    "alias": "labels: {a: &v VERSION, stable: *v}",
    "merge": "labels: {<<: {stable: VERSION}}",
}
"""Where versions stand in a configuration."""


def with_version(place: str, version: str) -> str:
    return f"models:\n  a:\n    source: x\n    {PLACES[place].replace('VERSION', version)}\n"


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("version", "read"),
    [
        pytest.param("007", "the number 7 (it is written 007)", id="leading-zeros"),
        pytest.param("0123456", "the number 123456 (it is written 0123456)", id="hash"),
        pytest.param("0x10", "the number 16 (it is written 0x10)", id="hexadecimal"),
        pytest.param("0o17", "the number 15 (it is written 0o17)", id="octal"),
        pytest.param("1_000", "the number 1000 (it is written 1_000)", id="underscore"),
        pytest.param("+7", "the number 7 (it is written +7)", id="sign"),
        pytest.param("1.10", "the number 1.1", id="fraction"),
        pytest.param("1e5", "the number 100000.0", id="exponent"),
        pytest.param("12e4567", "the number inf", id="infinite"),
        pytest.param("2026-09-30", "the date 2026-09-30", id="date"),
        pytest.param("true", "true", id="boolean"),
        pytest.param("null", "nothing (null)", id="null"),
        pytest.param("~", "nothing (null)", id="tilde"),
    ],
)
def test_a_version_that_yaml_reads_as_something_else_has_to_be_in_quotes(place, version, read):
    with pytest.raises(ConfigError) as caught:
        parse_config(with_version(place, version), "ranker.yaml")
    first, *_ = caught.value.message.splitlines()
    assert first.startswith("ranker.yaml:4:")
    assert first.endswith(f": expected text, got {read}: put it in quotes")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("written", "version"),
    [
        pytest.param("0", "0", id="zero"),
        pytest.param("20261130", "20261130", id="number"),
        pytest.param("v7", "v7", id="text"),
        pytest.param("1.2.3", "1.2.3", id="dots"),
        pytest.param("on", "on", id="on"),
        pytest.param("'007'", "007", id="quoted-zeros"),
        pytest.param('"2026-09-30"', "2026-09-30", id="quoted-date"),
        pytest.param('"null"', "null", id="quoted-null"),
    ],
)
def test_a_version_is_its_text(place, written, version):
    model = parse_config(with_version(place, written), "ranker.yaml").models["a"]
    shadow = {model.shadow.version} if model.shadow else set()
    assert version in {*model.labels.values(), *model.versions, *shadow}


def test_a_date_that_there_is_not_may_be_a_version_in_quotes():
    with pytest.raises(ConfigError, match=r":4:22: 2026-02-30 is read as a date: .*in quotes"):
        parse_config(with_version("label", "2026-02-30"), "ranker.yaml")
    model = parse_config(with_version("label", "'2026-02-30'"), "ranker.yaml").models["a"]
    assert model.labels == {"stable": "2026-02-30"}


def test_other_text_that_yaml_reads_as_something_else_has_to_be_in_quotes_too():
    text = "models:\n  a: {source: x, salt: 2026-09-30, labels: {007: 7}}"
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "ranker.yaml")
    assert "models.a.salt: expected text, got the date 2026-09-30: put" in caught.value.message
    assert "got the number 7 (it is written 007): put it in quotes" in caught.value.message


def test_yaml_1_1_reads_more_as_something_else():
    with pytest.raises(ConfigError, match="stable: expected text, got true: put it in quotes"):
        parse_config("%YAML 1.1\n---\n" + with_version("label", "on"), "ranker.yaml")


def test_numbers_may_be_written_in_any_way_where_numbers_are_expected():
    text = "models: {a: {source: x, versions: {latest: 0x2}}}\npoll_seconds: 1_0"
    config = parse_config(text, "ranker.yaml")
    assert (config.models["a"].versions, config.poll_seconds) == (Latest(latest=2), 10)


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("{errors: 1%}", RolloutLimits(0.01, None, 5.0)),
        ("{errors: 0.5 %, p99: 20ms, minutes: 10}", RolloutLimits(0.005, 0.02, 10.0)),
        ("{p99: 1.5 s, minutes: 0.5}", RolloutLimits(None, 1.5, 0.5)),
        ("{p99: 5s}", RolloutLimits(None, 5.0, 5.0)),
    ],
)
def test_what_a_guard_allows(text, limits):
    config = parse_config(f"models: {{a: {{source: x, labels: {{stable: 1}}, guard: {text}}}}}", "")
    assert config.models["a"].guard.limits() == limits


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("dns:*.a: {}", "callers.dns:*.a", id="wildcard"),
        pytest.param("7: {}", "callers.7", id="number"),
        pytest.param("{}", "callers: ", id="none"),
        pytest.param("dns:a: {quota: {}}", "callers.dns:a.quota: expected a limit", id="no-limit"),
        pytest.param("dns:a: {quota: {queue_share: 2}}", "queue_share: ", id="share"),
        pytest.param("dns:a: {quota: {requests_per_second: 0}}", "_second: ", id="rate"),
        pytest.param("dns:a: {quota: {candidates_per_second: .nan}}", "_second: ", id="nan"),
        pytest.param("dns:a: {x: 1}", "callers.dns:a.x: there is no such field", id="field"),
        pytest.param("dns:a: 7", "callers.dns:a: ", id="no-mapping"),
    ],
)
def test_callers_that_are_wrong(text, expected):
    with pytest.raises(ConfigError) as caught:
        parse_config(f"models: {{a: {{source: x}}}}\ncallers:\n  {text}", "ranker.yaml")
    assert "ranker.yaml:3:" in caught.value.message
    assert expected in caught.value.message


def test_callers():
    text = "models: {a: {source: x}}\ncallers: {'dns:A.b': {}, 'spiffe://a/b': {}}"
    assert parse_config(text, "ranker.yaml").policy().names == ("dns:a.b", "spiffe://a/b")


def test_quotas():
    text = """
    models: {a: {source: x}}
    callers: {'dns:a': {quota: {requests_per_second: 2}}, 'dns:b': {}}
    quota_per_connection: {candidates_per_second: 1.5, queue_share: 0.1}
    """
    policy = parse_config(text, "ranker.yaml").policy()
    assert policy.quotas == {"dns:a": Quota(2.0)}
    assert policy.per_connection == Quota(0.0, 1.5, 0.1)
    assert CallerPolicy.from_facts(json.loads(json.dumps(policy.to_facts()))) == policy


def test_all_errors_are_told_at_once():
    with pytest.raises(ConfigError) as caught:
        parse_config("models:\n  a: {}\n  b: {source: x, more: 1}\n", "ranker.yaml")
    assert len(caught.value.message.splitlines()) == 2


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match=r"ranker\.yaml: can't be read: No such file"):
        load_config(open_config(str(tmp_path / "ranker.yaml")))
