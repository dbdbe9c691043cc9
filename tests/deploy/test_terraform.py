"""The Terraform files: they parse, name what there is, and agree with the manifests."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import hcl2
import pytest
import yaml

from ranker.quality.log_table import OWN_COLUMNS
from tests.deploy.test_kubernetes import OVERLAYS, one, rendered

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy/terraform"
TEXTS = {path.name: path.read_text() for path in sorted(FOLDER.glob("*.tf"))}
WITHOUT_TEXT = hcl2.SerializationOptions(with_comments=False, strip_string_quotes=True)

ROLES = {
    "local.server": {
        "roles/storage.objectViewer",
        "roles/storage.objectCreator",
        "roles/monitoring.metricWriter",
    },
    "var.publishers": {
        "roles/artifactregistry.writer",
        "roles/storage.objectViewer",
        "roles/storage.objectCreator",
    },
    "var.loaders": {
        "roles/storage.objectViewer",
        "roles/bigquery.dataEditor",
        "roles/bigquery.jobUser",
    },
    "google_service_account.nodes[0].member": {
        "roles/container.defaultNodeServiceAccount",
        "roles/artifactregistry.reader",
    },
}
"""What everybody may do, and no more."""

OF_THE_PROJECT = {
    "roles/monitoring.metricWriter",
    "roles/bigquery.jobUser",
    "roles/container.defaultNodeServiceAccount",
}
"""Roles that can't be given on one resource."""


def blocks(kind: str) -> dict[str, Any]:
    """All blocks of a kind by their labels, joined by dots."""
    found: dict[str, Any] = {}
    for name in TEXTS:
        with (FOLDER / name).open() as file:
            parsed = hcl2.load(file, serialization_options=WITHOUT_TEXT)
        for block in parsed.get(kind, []):
            label, body = "", block
            while len(body) == 1 and isinstance(next(iter(body.values())), dict):
                [(part, body)] = body.items()
                label = f"{label}.{part}".strip(".")
            assert label not in found
            found[label] = body
    return found


@pytest.fixture(scope="module")
def resources() -> dict[str, Any]:
    return blocks("resource")


@pytest.fixture(scope="module")
def variables() -> dict[str, Any]:
    return blocks("variable")


def test_what_is_named_exists(resources, variables):
    locals_ = set(re.findall(r"^  (\w+) += ", "".join(_local_blocks()), re.MULTILINE))
    known = {*resources, *blocks("data")}
    for name, text in TEXTS.items():
        for variable in re.findall(r"\bvar\.(\w+)", text):
            assert variable in variables, name
        for local in re.findall(r"\blocal\.(\w+)", text):
            assert local in locals_, name
        for resource in re.findall(r"\b(google_\w+\.\w+)", text):
            assert resource in known, name
    used = "".join(TEXTS.values())
    assert [name for name in variables if f"var.{name}" not in used] == []


def _local_blocks() -> list[str]:
    return [b for text in TEXTS.values() for b in re.findall(r"(?ms)^locals \{\n(.*?)^\}", text)]


def test_everybody_may_do_what_is_listed_and_no_more(resources):
    given: dict[str, set[str]] = {}
    for label, body in resources.items():
        if "_iam_" not in label:
            continue
        kind = label.partition(".")[0]
        assert kind.endswith("_iam_member"), label  # what others were given stays
        who = (body.get("for_each") or body["member"]).strip("${}")
        given.setdefault(who, set()).add(body["role"])
        if kind == "google_project_iam_member":
            assert body["role"] in OF_THE_PROJECT, label
    assert given == ROLES
    assert not [label for label in resources if "service_account_key" in label]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_server_is_the_account_of_the_manifests(variables, overlay):
    documents = rendered(overlay)
    account = one(documents, "ServiceAccount")["metadata"]
    assert account["name"] == variables["service_account"]["default"]
    # The manifests leave the namespace to whoever applies them.
    assert not [each for each in documents if "namespace" in each["metadata"]]
    readme = (FOLDER / "README.md").read_text()
    assert f"kubectl create namespace {variables['namespace']['default']}\n" in readme


def test_models_are_where_the_configuration_looks():
    [models] = [each["value"] for label, each in blocks("output").items() if label == "models"]
    config = yaml.safe_load((ROOT / "deploy/kubernetes/overlays/live/ranker.yaml").read_text())
    path = models.partition("://")[2].partition("/")[2]
    assert config["models"]["books"]["source"] == f"gs://BUCKET/{path}/books"


def test_buckets_are_for_nobody_else(resources):
    buckets = [b for label, b in resources.items() if label.startswith("google_storage_bucket.")]
    assert len(buckets) == 2
    for bucket in buckets:
        assert bucket["uniform_bucket_level_access"] is True
        assert bucket["public_access_prevention"] == "enforced"


def test_the_table_has_the_columns_of_the_ranking_log():
    columns = re.findall(r'\{ name = "(\w+)", type = "(\w+)" \}', TEXTS["rankings.tf"])
    assert tuple(name for name, _ in columns) == OWN_COLUMNS
    words = {"FLOAT64": "FLOAT", "INT64": "INTEGER"}
    page = (ROOT / "docs/quality.md").read_text()
    [statement] = re.findall(r"CREATE TABLE shop\.rankings \((.*?)--", page, re.DOTALL)
    documented = re.findall(r"(\w+) ([A-Z]\w+)", statement)
    assert [(name, words.get(kind, kind)) for name, kind in documented] == columns


def test_alerts_and_the_dashboard_are_those_of_the_folder_beside():
    files = re.findall(r'file\("\$\{path\.module\}/(.*?)"\)', TEXTS["monitoring.tf"])
    assert len(files) == 2
    for file in files:
        assert (FOLDER / file).is_file()
    json.loads((FOLDER / files[0]).read_text())
    groups = yaml.safe_load((FOLDER / files[1]).read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    records = {rule["record"] for rule in rules if "record" in rule}
    for rule in rules:
        # As the expressions of monitoring.tf take them apart.
        assert re.fullmatch(r"\d+[mh]", rule.get("for", "1m"))
        named = set(re.findall(r"\w+(?::\w+)+", rule["expr"]))
        assert named <= (records if "alert" in rule else set())
