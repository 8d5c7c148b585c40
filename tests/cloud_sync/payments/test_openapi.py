"""Whatever fits or breaks the OpenAPI document gets an answer the document knows, never a server error."""

from typing import Any

import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from cloud_sync.payments.openapi import document

schema = schemathesis.openapi.from_dict(document())


@schema.parametrize()
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_request_has_an_answer_of_the_document(case: Any, sqlite_office: Any) -> None:
    response = case.call(app=sqlite_office.client.app, headers=sqlite_office.headers())
    case.validate_response(response, checks=[not_a_server_error, status_code_conformance, response_schema_conformance])
    assert response.status_code < 500
