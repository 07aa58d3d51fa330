"""Requests drawn from the service's own document: no fault of ours, no answer it does not know."""

import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from cspine.core.serve_settings import ServeSettings
from cspine.fetch.fetcher import Fetcher
from cspine.serve.app import create_app
from support.service_fakes import FakePredictor


def refuse(host: str, port: int) -> list[str]:
    raise OSError


@schemathesis.serializer("application/dicom", "image/png", "image/jpeg")
def write_raw(context, value):
    return value if isinstance(value, bytes) else str(value).encode(errors="replace")


APP = create_app(ServeSettings(), FakePredictor(), Fetcher(resolve=refuse))
schema = schemathesis.openapi.from_wsgi("/openapi.json", APP)


@schema.parametrize()
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_document_is_kept(case):
    case.call_and_validate(
        checks=[
            not_a_server_error,
            content_type_conformance,
            response_schema_conformance,
            status_code_conformance,
        ]
    )
