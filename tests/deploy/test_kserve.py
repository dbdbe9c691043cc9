"""The manifests for KServe.

Their containers are held against Kubernetes' own schemas, the rest against what the project and
the other file say. KServe's definitions are megabytes and in no package: that the fields are its
own is checked by its Python classes (`make test-slow`, tests/end_to_end/test_inference_clients.py).
"""

from __future__ import annotations

from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from ranker.cli.serve import serve
from ranker.metrics.exporters import exporters
from ranker.office.open_inference import PREFIX
from ranker.process.settings import DEFAULT_HTTP_PORT, Settings
from ranker.process.supervisor import KILL_AFTER, OFFICE_SECONDS
from tests.deploy.test_kubernetes import VERSIONS

KSERVE = Path(__file__).resolve().parents[2] / "deploy/kserve"
SERVICES = ("books.yaml", "books-grpc.yaml")


def load(name: str) -> dict:
    return yaml.safe_load((KSERVE / name).read_text())


@pytest.fixture
def container() -> dict:
    [container] = load("runtime.yaml")["spec"]["containers"]
    return container


@pytest.mark.parametrize("version", VERSIONS)
def test_the_container_is_kubernetes(container, version):
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "books"}}
    kubernetes_validate.validate({**pod, "spec": {"containers": [container]}}, version, strict=True)


def test_the_container_has_kserves_name_and_the_servers_settings(container):
    assert container["name"] == "kserve-container"
    options = {option.envvar: option for option in serve.params if getattr(option, "envvar", None)}
    settings = {each["name"]: each["value"] for each in container["env"]}
    assert settings.keys() <= options.keys()
    for name, value in settings.items():
        options[name].type.convert(value, options[name], None)
    assert int(settings["RANKER_HTTP_PORT"]) == DEFAULT_HTTP_PORT
    assert int(settings["RANKER_PORT"]) == Settings(()).port
    assert container["args"] == ["serve", "/mnt/models/model.onnx"]


def test_probes_ask_what_the_server_answers(container):
    ready, live = container["readinessProbe"], container["livenessProbe"]
    assert ready["httpGet"] == {"path": f"{PREFIX}/health/ready", "port": DEFAULT_HTTP_PORT}
    [metrics_port] = [option.default for option in exporters()["prometheus"].options]
    assert live["httpGet"] == {"path": "/healthz", "port": metrics_port}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_asks_for_what_the_runtime_has(container, name):
    runtime, service = load("runtime.yaml"), load(name)
    assert (service["kind"], service["apiVersion"]) == (
        "InferenceService",
        "serving.kserve.io/v1beta1",
    )
    model = service["spec"]["predictor"]["model"]
    assert model["runtime"] == runtime["metadata"]["name"]
    formats = [each["name"] for each in runtime["spec"]["supportedModelFormats"]]
    assert model["modelFormat"]["name"] in formats
    assert model["protocolVersion"] in runtime["spec"]["protocolVersions"]
    [port] = model.get("ports", container["ports"])
    expected = {
        "v2": ("http1", DEFAULT_HTTP_PORT),
        "grpc-v2": ("h2c", Settings(()).port),
    }
    assert (port["name"], port["containerPort"]) == expected[model["protocolVersion"]]


@pytest.mark.parametrize("name", SERVICES)
def test_the_drain_fits_into_the_grace(container, name):
    service = load(name)
    pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert "RANKER_DRAIN_TIMEOUT" not in {each["name"] for each in container["env"]}
    end = pause + Settings.drain_timeout + KILL_AFTER + OFFICE_SECONDS
    assert service["spec"]["predictor"]["terminationGracePeriodSeconds"] >= end
    # Knative would refuse both.
    annotations = service["metadata"]["annotations"]
    assert annotations["serving.kserve.io/deploymentMode"] == "Standard"
