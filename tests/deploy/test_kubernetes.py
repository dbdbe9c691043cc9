"""The manifests, rendered by kustomize as kubectl has it, against Kubernetes' own schemas.

What a schema can't know is checked against the project: ports, settings, metrics, times.
"""

from __future__ import annotations

import copy
import re
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from ipaddress import ip_address, ip_network
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from ranker.cli.serve import serve
from ranker.metrics import catalogue as catalog
from ranker.metrics.exporters import exporters
from ranker.metrics.metric import Kind
from ranker.office.app import HEALTH_PATHS
from ranker.process.settings import Settings
from ranker.process.supervisor import KILL_AFTER, OFFICE_SECONDS
from ranker.repository.config import parse_config

ROOT = Path(__file__).resolve().parents[2]
KUBERNETES = ROOT / "deploy/kubernetes"
OVERLAYS = ("cpu", "gpu", "gke", "live", "live-on-gke")
COMMENTED = {
    "live-on-gke": ("live", "# components:\n#   -", "components:\n  -"),
    "gke-with-export": ("gke", "#  -", "  -"),
}
"""Overlays with the component that they mention: which, and what is put in place of what."""
VERSIONS = ("1.34", "1.35", "1.36", "1.37")
CUSTOM = {"PodMonitoring"}
"""Kinds that Kubernetes' own API does not have."""


@cache
def kustomized(path: Path) -> list[dict]:
    kubectl = Path(sys.executable).with_name("kubectl")
    done = subprocess.run([kubectl, "kustomize", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr  # warnings
    return list(yaml.safe_load_all(done.stdout))


def rendered(overlay: str) -> list[dict]:
    if overlay in COMMENTED:
        return copy.deepcopy(with_component(*COMMENTED[overlay]))
    return copy.deepcopy(kustomized(KUBERNETES / "overlays" / overlay))


@cache
def with_component(overlay: str, commented: str, instead: str) -> list[dict]:
    with tempfile.TemporaryDirectory() as folder:
        copied = Path(folder) / "kubernetes"
        shutil.copytree(KUBERNETES, copied)
        file = copied / "overlays" / overlay / "kustomization.yaml"
        text = file.read_text()
        assert text.count(commented) == 1
        file.write_text(text.replace(commented, instead))
        return kustomized(file.parent)


def one(documents: list[dict], kind: str) -> dict:
    (found,) = [document for document in documents if document["kind"] == kind]
    return found


def container(documents: list[dict]) -> dict:
    (found,) = one(documents, "Deployment")["spec"]["template"]["spec"]["containers"]
    return found


def environment(documents: list[dict]) -> dict[str, str]:
    return {each["name"]: each.get("value", "") for each in container(documents)["env"]}


@pytest.fixture(params=OVERLAYS)
def documents(request) -> list[dict]:
    return rendered(request.param)


@pytest.fixture
def gcp_export() -> list[dict]:
    return rendered("gke-with-export")


@pytest.mark.parametrize("version", VERSIONS)
def test_manifests_meet_the_schemas_of_the_supported_versions(documents, version):
    for document in documents:
        if document["kind"] not in CUSTOM:
            kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_so_do_those_with_export_to_cloud_monitoring(gcp_export, version):
    for document in gcp_export:
        if document["kind"] not in CUSTOM:
            kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        pytest.param("Deployment", "spec/template/spec/terminationGrace", 40, id="unknown-field"),
        pytest.param("Deployment", "spec/progressDeadlineSeconds", "soon", id="wrong-type"),
        pytest.param("HorizontalPodAutoscaler", "spec/maxReplicas", None, id="missing-field"),
    ],
)
def test_the_validation_would_find_a_mistake(kind, path, value):
    document = one(rendered("cpu"), kind)
    *parents, last = path.split("/")
    inner = document
    for parent in parents:
        inner = inner[parent]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, VERSIONS[-1], strict=True)


def test_kinds(documents):
    kinds = [document["kind"] for document in documents]
    expected = {
        "Deployment",
        "Service",
        "ServiceAccount",
        "HorizontalPodAutoscaler",
        "PodDisruptionBudget",
        "NetworkPolicy",
    }
    assert len(kinds) == len(set(kinds))
    assert expected <= set(kinds) <= expected | CUSTOM | {"ConfigMap"}


def test_every_selector_selects_the_pods(documents):
    deployment = one(documents, "Deployment")["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    selectors = [
        deployment["selector"]["matchLabels"],
        one(documents, "Service")["spec"]["selector"],
        one(documents, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        one(documents, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        *(
            spread["labelSelector"]["matchLabels"]
            for spread in deployment["template"]["spec"]["topologySpreadConstraints"]
        ),
        *(d["spec"]["selector"]["matchLabels"] for d in documents if d["kind"] in CUSTOM),
    ]
    for selector in selectors:
        assert selector
        assert selector.items() <= labels.items()
    target = one(documents, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert target == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "ranker"}
    account = one(documents, "ServiceAccount")["metadata"]["name"]
    assert deployment["template"]["spec"]["serviceAccountName"] == account


def test_ports_are_the_servers_own(documents):
    ports = {port["name"]: port["containerPort"] for port in container(documents)["ports"]}
    [metrics_port] = [o.default for o in exporters()["prometheus"].options]
    assert ports == {"grpc": Settings.port, "metrics": metrics_port}
    paths = {"startupProbe": "/readyz", "readinessProbe": "/readyz", "livenessProbe": "/healthz"}
    for probe, path in paths.items():
        assert path in HEALTH_PATHS
        assert container(documents)[probe]["httpGet"] == {"path": path, "port": "metrics"}
    (port,) = one(documents, "Service")["spec"]["ports"]
    assert (port["port"], port["targetPort"]) == (ports["grpc"], "grpc")
    rules = one(documents, "NetworkPolicy")["spec"]["ingress"]
    assert [port["port"] for rule in rules for port in rule["ports"]] == ["grpc", "metrics"]
    for monitoring in (document for document in documents if document["kind"] in CUSTOM):
        assert [endpoint["port"] for endpoint in monitoring["spec"]["endpoints"]] == ["metrics"]


def test_the_service_is_headless(documents):
    assert one(documents, "Service")["spec"]["clusterIP"] == "None"


def assert_settings_are_known(documents: list[dict]) -> None:
    options = {option.envvar: option for option in serve.params}
    for name, value in environment(documents).items():
        if name.startswith("RANKER_"):
            assert name in options
            options[name].type.convert(value, options[name], None)


def test_settings_are_ones_that_the_server_has(documents):
    assert_settings_are_known(documents)


def test_settings_of_the_export_are_too(gcp_export):
    assert_settings_are_known(gcp_export)
    assert {"RANKER_GCP_PROJECT", "POD_NAME", "POD_NAMESPACE"} <= environment(gcp_export).keys()
    assert one(gcp_export, "NetworkPolicy")["spec"]["egress"]


def names_of_namespaces(selector: dict) -> set[str]:
    """The namespaces that a selector names; fails if it may select others."""
    [(key, name)] = selector.get("matchLabels", {"": ""}).items()
    if key == "kubernetes.io/metadata.name":
        return {name}
    [expression] = selector["matchExpressions"]
    assert (expression["key"], expression["operator"]) == ("kubernetes.io/metadata.name", "In")
    return set(expression["values"])


def test_metrics_are_read_from_the_monitoring_namespace_alone(documents):
    rules = one(documents, "NetworkPolicy")["spec"]["ingress"]
    [rule] = [rule for rule in rules if rule["ports"] == [{"port": "metrics"}]]
    [peer] = rule["from"]
    managed = any(document["kind"] in CUSTOM for document in documents)
    expected = {"gmp-system", "gke-gmp-system"} if managed else {"monitoring"}
    assert peer.keys() == {"namespaceSelector"}
    assert names_of_namespaces(peer["namespaceSelector"]) == expected


def reached(documents: list[dict], port: int) -> list[dict]:
    """Whom pods may connect to at a port; fails if that is anybody."""
    rules = one(documents, "NetworkPolicy")["spec"]["egress"]
    for rule in rules:
        assert rule["to"]
        assert rule["ports"]
    return [
        peer for r in rules for peer in r["to"] if port in {each["port"] for each in r["ports"]}
    ]


@pytest.mark.parametrize("overlay", ["cpu", "gpu", "gke"])
def test_a_server_with_its_model_calls_nobody(overlay):
    assert one(rendered(overlay), "NetworkPolicy")["spec"]["egress"] == []


def test_the_export_reaches_googles_private_addresses_and_no_others(gcp_export):
    network = ip_network("199.36.153.8/30")
    assert reached(gcp_export, 443) == [{"ipBlock": {"cidr": str(network)}}]
    terraform = (ROOT / "deploy/terraform/network.tf").read_text()
    [first, last] = re.findall(r"range\((\d+), (\d+)\) : \"199\.36\.153\.", terraform)[0]
    made = [ip_address(f"199.36.153.{number}") for number in range(int(first), int(last))]
    assert made == list(network)


def test_live_pods_reach_no_private_network():
    [peer] = reached(rendered("live"), 443)
    shut = [ip_network(cidr) for cidr in peer["ipBlock"]["except"]]
    for address in ("10.1.2.3", "100.64.0.1", "169.254.169.254", "172.31.0.1", "192.168.1.1"):
        assert any(ip_address(address) in network for network in shut)


@pytest.mark.parametrize("overlay", ["gke-with-export", "live"])
def test_names_are_asked_of_the_cluster_alone(overlay):
    for peer in reached(rendered(overlay), 53):
        if "ipBlock" in peer:
            assert ip_network(peer["ipBlock"]["cidr"]).is_link_local
        else:
            assert names_of_namespaces(peer["namespaceSelector"]) == {"kube-system"}


def test_the_drain_fits_into_the_grace(documents):
    pod = one(documents, "Deployment")["spec"]["template"]["spec"]
    pause = container(documents)["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain = float(environment(documents)["RANKER_DRAIN_TIMEOUT"])
    assert pod["terminationGracePeriodSeconds"] >= pause + drain + KILL_AFTER + OFFICE_SECONDS


def test_a_rollout_never_has_fewer_pods_than_before(documents):
    strategy = one(documents, "Deployment")["spec"]["strategy"]["rollingUpdate"]
    assert strategy["maxUnavailable"] == 0
    assert "replicas" not in one(documents, "Deployment")["spec"]  # the autoscaler's business
    assert one(documents, "HorizontalPodAutoscaler")["spec"]["minReplicas"] >= 2


@pytest.mark.parametrize(
    ("overlay", "pattern"),
    [
        pytest.param("cpu", "{}", id="cpu"),
        pytest.param("gpu", "{}", id="gpu"),
        pytest.param("live", "{}", id="live"),
        pytest.param("gke", "prometheus.googleapis.com|{}|gauge", id="gke"),
        pytest.param("live-on-gke", "prometheus.googleapis.com|{}|gauge", id="live-on-gke"),
    ],
)
def test_the_autoscaler_reads_the_metric_that_the_exporter_writes(overlay, pattern):
    documents = rendered(overlay)
    first, second = one(documents, "HorizontalPodAutoscaler")["spec"]["metrics"]
    metric = catalog.WORKER_UTILIZATION
    assert metric.kind is Kind.GAUGE
    assert not metric.labels  # or the adapter would have several series per pod
    assert first["pods"]["metric"]["name"] == pattern.format(metric.name)
    assert second["resource"]["name"] == "cpu"
    assert "cpu" in container(documents)["resources"]["requests"]


def test_the_rule_for_the_adapter_is_about_that_metric_and_pods():
    (rule,) = yaml.safe_load((ROOT / "deploy/prometheus/adapter.yaml").read_text())["rules"][
        "custom"
    ]
    assert rule["seriesQuery"].partition("{")[0] == catalog.WORKER_UTILIZATION.name
    assert set(rule["resources"]["overrides"]) == {"namespace", "pod"}


def test_pods_meet_the_restricted_security_standard(documents):
    pod = one(documents, "Deployment")["spec"]["template"]["spec"]
    security = container(documents)["securityContext"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert security["readOnlyRootFilesystem"] is True
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    for volume in pod.get("volumes", []):
        assert volume.keys() <= {"name", "configMap", "emptyDir"}
    assert one(documents, "ServiceAccount")["automountServiceAccountToken"] is False


def test_the_user_is_the_images():
    (user,) = re.findall(r"^USER (\d+):(\d+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    context = one(rendered("cpu"), "Deployment")["spec"]["template"]["spec"]["securityContext"]
    assert user == (str(context["runAsUser"]), str(context["runAsGroup"]))


def test_gpu_pods_ask_for_a_gpu_and_the_engine_that_uses_it():
    documents = rendered("gpu")
    assert container(documents)["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert environment(documents)["RANKER_ENGINE"] == "cuda"
    assert int(environment(documents)["RANKER_MAX_BATCH_ROWS"]) > Settings.max_batch_rows


def test_live_pods_follow_the_configuration_that_is_mounted():
    documents = rendered("live")
    settings = environment(documents)
    mounts = {each["name"]: each for each in container(documents)["volumeMounts"]}
    volumes = {
        each["name"]: each
        for each in one(documents, "Deployment")["spec"]["template"]["spec"]["volumes"]
    }
    assert mounts.keys() == volumes.keys()
    config = one(documents, "ConfigMap")
    assert config["metadata"]["name"] == volumes["config"]["configMap"]["name"] == "ranker"
    (name,) = config["data"]
    assert settings["RANKER_CONFIG"] == f"{mounts['config']['mountPath']}/{name}"
    assert "subPath" not in mounts["config"]  # it would not follow the ConfigMap
    assert settings["RANKER_MODEL_CACHE"] == mounts["models"]["mountPath"]
    assert container(documents)["args"] == ["serve"]
    assert "RANKER_MODELS" not in settings
    assert parse_config(config["data"][name], name).models["books"].traffic
