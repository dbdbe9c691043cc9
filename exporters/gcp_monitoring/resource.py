"""Which monitored resource this process is, found out from its environment.

On GKE a `k8s_container`, elsewhere a `generic_task`. One process publishes for
a whole pod, so the labels name the pod, and per-worker metrics carry `worker`.

The pod's manifest tells POD_NAME, POD_NAMESPACE (both by the downward API) and
CONTAINER_NAME.
"""

from __future__ import annotations

import http.client
import os
import socket
import time
import urllib.error
import urllib.request

from google.api.monitored_resource_pb2 import MonitoredResource

# The same variable as in Google's own libraries points to another server.
_HOST_VARIABLE = "GCE_METADATA_HOST"
_HOST = "metadata.google.internal"
_TIMEOUT_SECONDS = 2.0
# In a pod that has just started, GKE's metadata server may not answer yet.
_ATTEMPTS = 5
_PAUSE_SECONDS = 1.0


def detect(project: str) -> MonitoredResource:
    """The monitored resource of this process.

    Takes up to 15 seconds in a pod where nothing answers for the metadata server.

    Args:
        project: the project that the metrics go to.
    """
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        cluster = _metadata("instance/attributes/cluster-name", _ATTEMPTS)
        location = _metadata("instance/attributes/cluster-location") if cluster else ""
        if cluster and location:
            return MonitoredResource(
                type="k8s_container",
                labels={
                    "project_id": project,
                    "location": location,
                    "cluster_name": cluster,
                    "namespace_name": os.environ.get("POD_NAMESPACE", "default"),
                    "pod_name": os.environ.get("POD_NAME") or socket.gethostname(),
                    "container_name": os.environ.get("CONTAINER_NAME", "ranker"),
                },
            )
    zone = _metadata("instance/zone") or "global"
    return MonitoredResource(
        type="generic_task",
        labels={
            "project_id": project,
            # projects/NUMBER/zones/ZONE
            "location": zone.rpartition("/")[2],
            "namespace": os.environ.get("POD_NAMESPACE", "default"),
            "job": "ranker",
            # A host may run several servers, and a server may come again. The office, which this
            # is, may be replaced; its parent is the server's first process for as long as it runs.
            "task_id": f"{os.environ.get('POD_NAME') or socket.gethostname()}-{os.getppid()}",
        },
    )


def _metadata(path: str, attempts: int = 1) -> str:
    """A value of the metadata server; empty if there is no such value, or no server."""
    host = os.environ.get(_HOST_VARIABLE, _HOST)
    request = urllib.request.Request(
        f"http://{host}/computeMetadata/v1/{path}", headers={"Metadata-Flavor": "Google"}
    )
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for attempt in range(attempts):
        if attempt > 0:
            time.sleep(_PAUSE_SECONDS)
        try:
            with direct.open(request, timeout=_TIMEOUT_SECONDS) as response:
                if response.headers.get("Metadata-Flavor") != "Google":
                    return ""
                text: str = response.read(1024).decode("ascii", "replace")
        except urllib.error.HTTPError:
            return ""
        except (OSError, http.client.HTTPException):
            continue
        return text.strip()
    return ""
