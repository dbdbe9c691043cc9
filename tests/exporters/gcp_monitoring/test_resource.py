"""Where a process runs, as GCP Monitoring has it: a container, a virtual machine, a task."""

import http.server
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

pytest.importorskip("google.cloud.monitoring_v3", reason="the extra gcp is not installed")

from exporters.gcp_monitoring.resource import detect

GKE = {
    "instance/attributes/cluster-name": "main",
    "instance/attributes/cluster-location": "europe-west1",
    "instance/zone": "projects/123/zones/europe-west1-b",
}
VM = {"instance/zone": "projects/123/zones/europe-west1-b"}


@contextmanager
def metadata_server(values: dict[str, str], flavor: str = "Google", port: int = 0) -> Iterator[str]:
    """A metadata server; yields its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = values.get(self.path.removeprefix("/computeMetadata/v1/"))
            known = found is not None and self.headers["Metadata-Flavor"] == "Google"
            self.send_response(200 if known else 404)
            self.send_header("Metadata-Flavor", flavor)
            self.end_headers()
            self.wfile.write((found or "").encode())

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KUBERNETES_SERVICE_HOST", "POD_NAME", "POD_NAMESPACE", "CONTAINER_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GCE_METADATA_HOST", "127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:2")  # not for the metadata server
    monkeypatch.setattr("exporters.gcp_monitoring.resource._PAUSE_SECONDS", 0.0)


def test_gke(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("POD_NAME", "ranker-7d9-x2x")
    monkeypatch.setenv("POD_NAMESPACE", "shop")
    monkeypatch.setenv("CONTAINER_NAME", "server")
    with metadata_server(GKE) as address:
        monkeypatch.setenv("GCE_METADATA_HOST", address)
        resource = detect("my-project")
    assert resource.type == "k8s_container"
    assert dict(resource.labels) == {
        "project_id": "my-project",
        "location": "europe-west1",
        "cluster_name": "main",
        "namespace_name": "shop",
        "pod_name": "ranker-7d9-x2x",
        "container_name": "server",
    }


def test_gke_without_the_downward_api_uses_the_host_name(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    with metadata_server(GKE) as address:
        monkeypatch.setenv("GCE_METADATA_HOST", address)
        labels = detect("my-project").labels
    assert labels["pod_name"] == socket.gethostname()
    assert (labels["namespace_name"], labels["container_name"]) == ("default", "ranker")


@pytest.mark.parametrize("kubernetes", [False, True])
def test_no_metadata_server(monkeypatch: pytest.MonkeyPatch, kubernetes: bool):
    if kubernetes:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    resource = detect("my-project")
    assert resource.type == "generic_task"
    assert dict(resource.labels) == {
        "project_id": "my-project",
        "location": "global",
        "namespace": "default",
        "job": "ranker",
        "task_id": f"{socket.gethostname()}-{os.getppid()}",
    }


def test_vm_knows_its_zone(monkeypatch: pytest.MonkeyPatch):
    with metadata_server(VM) as address:
        monkeypatch.setenv("GCE_METADATA_HOST", address)
        resource = detect("my-project")
    assert (resource.type, resource.labels["location"]) == ("generic_task", "europe-west1-b")


def test_kubernetes_on_a_vm_is_not_gke(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    with metadata_server(VM) as address:
        monkeypatch.setenv("GCE_METADATA_HOST", address)
        assert detect("my-project").type == "generic_task"


def test_another_web_server_is_not_believed(monkeypatch: pytest.MonkeyPatch):
    with metadata_server(VM, flavor="Vanilla") as address:
        monkeypatch.setenv("GCE_METADATA_HOST", address)
        assert detect("my-project").labels["location"] == "global"


def test_metadata_server_that_comes_late_is_waited_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("GCE_METADATA_HOST", f"127.0.0.1:{port}")
    pauses = []
    with ExitStack() as stack:

        def sleep(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 2:
                stack.enter_context(metadata_server(GKE, port=port))

        monkeypatch.setattr("exporters.gcp_monitoring.resource.time.sleep", sleep)
        assert detect("my-project").type == "k8s_container"
    assert len(pauses) == 2
