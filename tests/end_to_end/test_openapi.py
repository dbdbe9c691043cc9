"""What the server does over HTTP is what its OpenAPI document says."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)
from schemathesis.generation import GenerationMode

from ranker.office.openapi import document
from ranker.v1 import ranking_pb2 as pb

schema = schemathesis.openapi.from_dict(document())
schema.config.generation.update(modes=[GenerationMode.POSITIVE, GenerationMode.NEGATIVE])


@schemathesis.serializer("application/x-protobuf")
def as_protobuf(_: object, value: object) -> bytes:
    """Any value is some bytes; few are a message."""
    return (
        value
        if isinstance(value, bytes)
        else pb.RankRequest(model=str(value)[:99]).SerializeToString()
    )


@schema.parametrize()
@settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@pytest.mark.parametrize("transport", ["core"], scope="session", indirect=True)
def test_the_server_does_what_the_document_says(case, server):
    response = case.call_and_validate(
        base_url=f"http://127.0.0.1:{server.http_port}",
        checks=[
            content_type_conformance,
            response_headers_conformance,
            response_schema_conformance,
            status_code_conformance,
            unsupported_method,
        ],
    )
    assert response.status_code != 500  # 504 is what a deadline of a millisecond gets
