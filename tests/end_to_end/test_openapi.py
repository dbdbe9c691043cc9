"""What the server does over HTTP is what its OpenAPI document says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.conftest import on_one_transport

CHECKS = (
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "status_code_conformance",
    "unsupported_method",
    "no_internal_error",
)
HOOKS = '''
import schemathesis

from ranker.v1 import ranking_pb2 as pb


@schemathesis.serializer("application/x-protobuf")
def as_protobuf(_, value):
    """Any value is some bytes; few are a message."""
    if isinstance(value, bytes):
        return value
    return pb.RankRequest(model=str(value)[:99]).SerializeToString()


@schemathesis.check
def no_internal_error(_, response, case):
    """503 and 504 are proper answers, to a request whose deadline is a millisecond."""
    assert response.status_code != 500
'''


@pytest.mark.timeout(400)  # it asks some thousand times
@on_one_transport
def test_the_server_does_what_the_document_says(server, tmp_path):
    # A process of its own: schemathesis takes seconds to import and to read the document.
    (tmp_path / "hooks.py").write_text(HOOKS)
    environment = os.environ | {"SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(tmp_path)}
    address = f"http://127.0.0.1:{server.http_port}"
    run = subprocess.run(
        [
            Path(sys.executable).with_name("schemathesis"),
            *("run", f"{address}/openapi.json"),
            *("--checks", ",".join(CHECKS)),
            *("--phases", "examples,coverage,fuzzing"),
            *("--max-examples", "30"),
            "--generation-deterministic",
            *("--request-timeout", "60"),
            *("--suppress-health-check", "too_slow"),
            "--no-color",
        ],
        env=environment,
        cwd=tmp_path,
        text=True,
        capture_output=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
