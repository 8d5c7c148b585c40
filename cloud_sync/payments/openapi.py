"""The API as an OpenAPI 3.1 document, its schemas made from the msgspec types."""

from typing import Any, Final

import msgspec

from cloud_sync.payments.customers import CustomerAccount
from cloud_sync.payments.reconcile import Reconciliation
from cloud_sync.payments.types import (
    KEY_PATTERN,
    Accepted,
    Payment,
    PaymentRequest,
    Problem,
    Reversal,
    Statistics,
    Voucher,
)

_TYPES: Final = (
    Accepted,
    CustomerAccount,
    Payment,
    PaymentRequest,
    Problem,
    Reconciliation,
    Reversal,
    Statistics,
    Voucher,
)
_ID: Final = {"name": "payment_id", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
_DAY: Final = {
    "name": "day",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "format": "date"},
    "description": "UTC, as 2026-12-31",
}
_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": True,
    "schema": {"type": "string", "pattern": KEY_PATTERN},
    "description": "one for each payment: the same key and body again has the same answer",
}
_SECOND: Final = {
    "name": "Second-Key",
    "in": "header",
    "required": True,
    "schema": {"type": "string"},
    "description": "another person's key, added with --approves",
}


def document() -> dict[str, Any]:
    """The whole document."""
    _, schemas = msgspec.json.schema_components(_TYPES, ref_template="#/components/schemas/{name}")
    return {
        "openapi": "3.1.0",
        "info": {"title": "Wattgate payments", "version": "1", "description": "Amounts are decimal strings."},
        "security": [{"channel": []}],
        "paths": {
            "/v1/payments": {"post": _operation("pay", Accepted, 201, (_KEY,), (409, 413, 422, 503), PaymentRequest)},
            "/v1/payments/{payment_id}": {"get": _operation("payment", Payment, 200, (_ID,), (404,))},
            "/v1/payments/{payment_id}/reversal": {
                "post": _operation("reverse", Reversal, 202, (_ID, _SECOND), (404, 422))
            },
            "/v1/payments/{payment_id}/voucher": {"post": _operation("voucher", Voucher, 200, (_ID,), (404,))},
            "/v1/customer/account": {"get": _operation("account", CustomerAccount, 200, (), ())},
            "/v1/statistics/{day}": {"get": _operation("statistics", Statistics, 200, (_DAY,), (422,))},
            "/v1/reconciliation/{day}": {"get": _operation("reconciliation", Reconciliation, 200, (_DAY,), (422,))},
        },
        "components": {"schemas": schemas, "securitySchemes": {"channel": {"type": "http", "scheme": "bearer"}}},
    }


def _operation(
    name: str,
    answer: type,
    status: int,
    parameters: tuple[Any, ...],
    problems: tuple[int, ...],
    body: type | None = None,
) -> dict[str, Any]:
    failing = {str(code): _content("why not", Problem) for code in sorted({400, 401, 403, 404, 503, *problems})}
    operation: dict[str, Any] = {
        "operationId": name,
        "summary": (answer.__doc__ or "").splitlines()[0],
        "parameters": list(parameters),
        "responses": {str(status): _content("done", answer), **failing},
    }
    if body is not None:
        operation["requestBody"] = {"required": True, **_content("", body)}
        del operation["requestBody"]["description"]
    return operation


def _content(description: str, schema: type) -> dict[str, Any]:
    reference = {"$ref": f"#/components/schemas/{schema.__name__}"}
    return {"description": description, "content": {"application/json": {"schema": reference}}}
