"""What every answer carries and every change must prove. Routes come from the table, so a new one is covered."""

import re
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edge.console.app import ROUTES
from edge.console.security import FORM_COOKIE, SECURITY_HEADERS, host_is_allowed
from edge.console.settings import ConsoleSettings

EXAMPLES = {"account_id": "A-1002", "answer_id": "unknown", "name": "console.css", "format": "csv"}
# The stream never ends; its headers are checked over a socket in test_live.py.
READABLE = [route for route in ROUTES if "GET" in (route.methods or set()) and route.path != "/live"]
CHANGING = [route for route in ROUTES if not {"GET", "HEAD"} >= (route.methods or set())]
STRANGE_PATHS = [
    "/no/such/page",
    "/account/none",
    "/static/none",
    "/live?view=none",
    "/live?view=account&id=x",
    "/events/export/exe",
]


def address(route: Route) -> str:
    path = route.path
    for name, value in EXAMPLES.items():
        path = path.replace("{" + name + "}", value)
    assert "{" not in path, f"give an example for {route.path}"
    return path


def assert_is_secured(headers: Any) -> None:
    for name, value in SECURITY_HEADERS.items():
        assert headers[name] == value


@pytest.mark.parametrize("path", [*map(address, READABLE), *STRANGE_PATHS])
def test_every_answer_carries_the_security_headers(world: Any, path: str) -> None:
    response = world.get(path)
    assert_is_secured(response.headers)
    if path.startswith("/static/") and response.status_code == 200:
        assert "immutable" in response.headers["cache-control"]
    else:
        assert response.headers["cache-control"] == "no-store"


def test_policy_allows_nothing_inline_and_no_frame() -> None:
    policy = SECURITY_HEADERS["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "*" not in policy


def test_a_fault_shows_nothing_of_its_cause_and_still_carries_the_headers(world: Any) -> None:
    async def broken(request: Request) -> Response:
        raise RuntimeError("secret detail")

    world.app.router.routes.append(Route("/broken", broken))
    response = world.get("/broken")
    assert response.status_code == 500
    assert "secret" not in response.text
    assert_is_secured(response.headers)
    assert response.headers["cache-control"] == "no-store"


def test_pages_have_nothing_inline_and_ask_nothing_from_outside(world: Any) -> None:
    for route in READABLE:
        page = world.get(address(route))
        if page.headers["content-type"].startswith("text/html"):
            assert " style=" not in page.text
            assert "<style" not in page.text
            assert re.search(r"<[^>]+\son\w+=", page.text) is None
            assert "<script>" not in page.text
            assert "http://" not in page.text.replace("http://www.w3.org/", "")
            assert "https://" not in page.text


@pytest.mark.parametrize("route", CHANGING, ids=lambda route: route.path)
@pytest.mark.parametrize(
    ("headers", "data", "status"),
    [
        ({"origin": None}, {}, 403),
        ({"origin": "null"}, {}, 403),
        ({"origin": "http://evil.example"}, {}, 403),
        ({"origin": "http://localhost:81"}, {}, 403),
        ({"origin": "http://localhost.evil.example"}, {}, 403),
        ({"origin": "file://localhost"}, {}, 403),
        ({"origin": "http://[bad"}, {}, 403),
        ({}, {"form_token": ""}, 403),
        ({}, {"form_token": "00.00"}, 403),
        ({}, {"form_token": "é.é"}, 403),
        ({"cookie": ""}, {}, 403),
        ({"cookie": f"{FORM_COOKIE}=other"}, {}, 403),
        ({"content-type": "text/plain"}, {}, 415),
        ({"content-type": "multipart/form-data; boundary=x"}, {}, 415),
    ],
)
def test_a_change_without_proof_is_refused_and_reaches_no_door(
    world: Any, route: Route, headers: dict[str, str | None], data: dict[str, str], status: int
) -> None:
    assert route.path in ("/voucher", "/token", "/emergency", "/on-site"), "teach World.enter about the new form"
    response = world.enter("V1", route.path, headers=headers, data=data)
    assert response.status_code == status
    assert_is_secured(response.headers)
    assert world.door.entered == []
    assert world.door.typed == []
    assert world.door.selected == []


def test_a_form_of_another_process_is_refused(world: Any, make_world: Any, accounts: Any) -> None:
    other = make_world()
    other.publish(accounts)
    cookie, token = other.open_form()
    response = world.enter("V1", headers={"cookie": f"{FORM_COOKIE}={cookie}"}, data={"form_token": token})
    assert response.status_code == 403


def test_tokens_of_one_cookie_differ_so_compression_reveals_nothing(world: Any) -> None:
    guard = world.app.state.console.guard
    assert guard.token("cookie") != guard.token("cookie")


@pytest.mark.parametrize(
    "body", [b"voucher=" + b"A" * 9000, b"&".join(b"f%d=1" % number for number in range(30)), b"\xff\xfe"]
)
def test_a_form_that_is_too_long_or_unreadable_is_refused(world: Any, body: bytes) -> None:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    response = world.enter("", data={}, content=body, headers=headers)
    assert response.status_code in (400, 403, 413)
    assert world.door.entered == []


@pytest.mark.parametrize("route", CHANGING, ids=lambda route: route.path)
def test_form_cookie_stays_on_this_site_and_out_of_scripts(world: Any, route: Route) -> None:
    cookie = world.get(address(route)).headers["set-cookie"].lower()
    assert "samesite=strict" in cookie
    assert "httponly" in cookie


def test_cookies_are_secure_behind_https(make_world: Any, accounts: Any) -> None:
    world = make_world(secure_cookies=True)
    world.publish(accounts)
    assert "secure" in world.get("/voucher").headers["set-cookie"].lower()


def test_reading_changes_nothing(world: Any) -> None:
    for route in READABLE:
        world.get(address(route) + "?voucher=V1&form_token=x")
    assert world.door.entered == []


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.path}-{min(route.methods or {'-'})}")
def test_methods_outside_the_table_are_refused(world: Any, route: Route, method: str) -> None:
    allowed = {name for other in ROUTES if other.path == route.path for name in other.methods or ()}
    if method in allowed:
        assert world.request(method, address(route)).status_code == 403  # no Origin
    else:
        assert world.request(method, address(route)).status_code == 405
    assert world.door.entered == []


@pytest.mark.parametrize(
    "host",
    ["evil.example", "", "localhost.evil.example", "evil.example:80", "localhost@evil.example", "localhost:x", "[::1"],
)
def test_a_foreign_host_name_gets_nothing(world: Any, host: str) -> None:
    response = world.get("/", headers={"host": host})
    assert response.status_code == 421
    assert_is_secured(response.headers)
    assert "A-1002" not in response.text


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8080", "192.168.7.20", "192.168.7.20:8080", "[::1]:8080"])
def test_own_names_and_plain_addresses_are_answered(world: Any, host: str) -> None:
    assert world.get("/", headers={"host": host}).status_code == 200


def test_plain_addresses_can_be_forbidden() -> None:
    settings = ConsoleSettings(allowed_hosts=("gate.local",), allow_ip_addresses=False)
    assert host_is_allowed("gate.local:8080", settings)
    assert not host_is_allowed("192.168.7.20", settings)


@pytest.mark.parametrize("path", ["/", "/?show=cut", "/account/A-1001", "/events", "/voucher", "/lines", "/system"])
def test_a_name_with_markup_in_it_is_shown_as_text(world: Any, make_account: Any, path: str) -> None:
    hostile = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
    world.publish(
        [make_account(1, position=hostile, model_id=hostile, control_state=hostile, hold=hostile)],
        version=2,
        gateway_id=hostile,
        time_zone=hostile,
    )
    world.ledger.extra = [{"type": hostile, "at": 0, "account": "A-1001", "reason": hostile, "seq": hostile}]
    page = world.get(path)
    assert page.status_code == 200
    assert "<script>alert" not in page.text
    assert "<img src=x" not in page.text
    assert "&lt;script&gt;" in page.text


def test_a_hostile_query_is_shown_as_text(world: Any) -> None:
    page = world.get('/events?account="><script>alert(1)</script>&before=x&lang=<script>')
    assert page.status_code == 200
    assert "<script>alert" not in page.text
