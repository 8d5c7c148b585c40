"""The HTTP API of payment channels. Every error is a `Problem`: what, where, allowed.

One connection to the database, used on one thread of its own. It is opened anew after a failure, and what was
received and not ordered is ordered then.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cloud_sync.backend.database import failures
from cloud_sync.payments.channels import Channel, channel_of_key
from cloud_sync.payments.customers import account_of_key
from cloud_sync.payments.desk import PaymentDesk, PaymentRefused
from cloud_sync.payments.openapi import document
from cloud_sync.payments.reconcile import day_number, reconciliation, statistics
from cloud_sync.payments.types import IDEMPOTENCY_KEY, PaymentRequest, Problem

BODY_BYTES_MAX: Final = 4096
STATUS: Final = {
    "unauthorized": 401,
    "second_key": 403,
    "approver": 403,
    "not_found": 404,
    "idempotency_conflict": 409,
    "too_long": 413,
    "not_ordered": 503,
    "no_second_key": 503,
}  # every other: 422
_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_Answer = TypeVar("_Answer")


class PaymentsApi:
    """The routes. `open_desk` is called on the database thread, which alone uses the result."""

    def __init__(self, open_desk: Callable[[], PaymentDesk], clock: Callable[[], int]) -> None:
        self._open_desk = open_desk
        self._clock = clock
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="payments-database")
        self._desk: PaymentDesk | None = None

    def application(self) -> Starlette:
        """To be served."""
        routes = [
            Route("/openapi.json", self._openapi, methods=["GET"]),
            Route("/v1/payments", self._pay, methods=["POST"]),
            Route("/v1/payments/{payment_id}", self._payment, methods=["GET"]),
            Route("/v1/payments/{payment_id}/reversal", self._reverse, methods=["POST"]),
            Route("/v1/payments/{payment_id}/voucher", self._voucher, methods=["POST"]),
            Route("/v1/customer/account", self._customer, methods=["GET"]),
            Route("/v1/statistics/{day}", self._statistics, methods=["GET"]),
            Route("/v1/reconciliation/{day}", self._reconciliation, methods=["GET"]),
        ]
        handlers: Any = {PaymentRefused: _refused, HTTPException: _http_problem}
        return Starlette(routes=routes, exception_handlers=handlers)

    async def open(self) -> None:
        """Opens the database, so that one that cannot be used is known before anybody pays."""
        await self._on_database(lambda _desk: None)

    def close(self) -> None:
        """Ends the database thread."""
        self._executor.submit(self._drop).result()
        self._executor.shutdown()

    async def _openapi(self, _request: Request) -> Response:
        return _json(document())

    async def _pay(self, request: Request) -> Response:
        key = request.headers.get("Idempotency-Key", "")
        channel = await self._channel(request)
        if IDEMPOTENCY_KEY.fullmatch(key) is None:
            allowed = "1 to 64 of A-Z a-z 0-9 . _ -"
            raise PaymentRefused("idempotency_key", "it is missing or not one", "header Idempotency-Key", allowed)
        asked = _read(await _body(request))
        return _json(await self._on_database(lambda desk: desk.pay(channel, key, asked, self._clock())), 201)

    async def _payment(self, request: Request) -> Response:
        channel, payment_id = await self._channel(request), request.path_params["payment_id"]
        return _found(await self._on_database(lambda desk: desk.payment(channel, payment_id)))

    async def _reverse(self, request: Request) -> Response:
        channel, payment_id = await self._channel(request), request.path_params["payment_id"]
        approver = await self._key(request.headers.get("Second-Key", ""))
        if approver is None:
            raise PaymentRefused("second_key", "it is missing or opens nothing", "header Second-Key", "an approver's")
        return _json(
            await self._on_database(lambda desk: desk.take_back(channel, approver, payment_id, self._clock())), 202
        )

    async def _voucher(self, request: Request) -> Response:
        channel, payment_id = await self._channel(request), request.path_params["payment_id"]
        return _found(await self._on_database(lambda desk: desk.voucher(channel, payment_id)))

    async def _customer(self, request: Request) -> Response:
        key = request.headers.get("Authorization", "").partition(" ")[2]
        account = await self._on_database(lambda desk: account_of_key(desk.database, key))
        if account is None:
            raise PaymentRefused("unauthorized", "no key of an account", "header Authorization", "Bearer KEY")
        return _json(account)

    async def _statistics(self, request: Request) -> Response:
        channel, day = await self._channel(request), _day(request)
        payments = await self._on_database(lambda desk: desk.payments_of_day(channel.id, day))
        return _json(statistics(day, payments))

    async def _reconciliation(self, request: Request) -> Response:
        channel, day = await self._channel(request), _day(request)
        payments = await self._on_database(lambda desk: desk.payments_of_day(channel.id, day))
        return _json(reconciliation(channel.id, day, payments))

    async def _channel(self, request: Request) -> Channel:
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        channel = await self._key(key) if scheme.lower() == "bearer" else None
        if channel is None:
            raise PaymentRefused("unauthorized", "no key that is valid", "header Authorization", "Bearer KEY")
        if channel.approves:
            raise PaymentRefused("approver", "it only approves", "header Authorization", "a channel's key")
        return channel

    async def _key(self, key: str) -> Channel | None:
        return await self._on_database(lambda desk: channel_of_key(desk.database, key))

    async def _on_database(self, ask: Callable[[PaymentDesk], _Answer]) -> _Answer:
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._ask, ask)

    def _ask(self, ask: Callable[[PaymentDesk], _Answer]) -> _Answer:
        try:
            if self._desk is None:
                self._desk = self._open_desk()
                self._desk.finish()
            return ask(self._desk)
        except failures() as error:
            self._drop()
            what = "the database did not answer"
            raise PaymentRefused("not_ordered", what, "server", "the same request again, later") from error

    def _drop(self) -> None:
        if self._desk is not None:
            self._desk.database.close()
            self._desk = None


async def _body(request: Request) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > BODY_BYTES_MAX:
            raise PaymentRefused("too_long", "the body is too long", "body", f"up to {BODY_BYTES_MAX} bytes")
    return body


def _read(body: bytes) -> PaymentRequest:
    try:
        return msgspec.json.decode(body, type=PaymentRequest)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        what, _, where = str(error).partition(" - at ")
        allowed = "an object with gateway, meter and amount, a decimal string as 12.34"
        raise PaymentRefused("malformed", what, f"body {where.strip('`') or '$'}", allowed) from error


def _day(request: Request) -> int:
    try:
        return day_number(request.path_params["day"])
    except ValueError as error:
        raise PaymentRefused("day", str(error), "path day", "a date as 2026-12-31") from error


def _found(answer: object) -> Response:
    if answer is None:
        raise PaymentRefused("not_found", "there is none", "path payment_id", "an ordered payment of this channel")
    return _json(answer)


def _json(answer: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(answer), status, _HEADERS, "application/json")


async def _refused(_request: Request, refusal: PaymentRefused) -> Response:
    problem = Problem(refusal.error, refusal.what, refusal.where, refusal.allowed)
    response = _json(problem, STATUS.get(refusal.error, 422))
    if response.status_code == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


async def _http_problem(request: Request, error: HTTPException) -> Response:
    problem = Problem("http", str(error.detail), f"path {request.url.path}", "what /openapi.json lists")
    response = _json(problem, error.status_code)
    response.headers.update(error.headers or {})
    return response
