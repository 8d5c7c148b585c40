"""Live pages over a real socket: what a browser is sent when the street changes."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import httpx

from edge.console.security import SECURITY_HEADERS
from edge.console.server import serve

LIMIT_S = 10
POLL_INTERVAL_S = 0.01


@asynccontextmanager
async def served(world: Any) -> AsyncIterator[httpx.AsyncClient]:
    ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve(world.app, "127.0.0.1", 0, ready.set_result))
    try:
        port = await asyncio.wait_for(ready, LIMIT_S)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=LIMIT_S) as client:
            yield client
    finally:
        serving.cancel()
        await asyncio.wait({serving}, timeout=LIMIT_S)
        assert serving.cancelled()


class Stream:
    """An open event stream, message by message."""

    def __init__(self, response: httpx.Response) -> None:
        self.headers = response.headers
        self._lines = response.aiter_lines()

    async def block(self) -> dict[str, str]:
        fields: dict[str, str] = {}
        while line := await asyncio.wait_for(anext(self._lines), LIMIT_S):
            name, _, value = line.partition(":")
            fields[name or "comment"] = value.strip()
        return fields

    async def message(self) -> tuple[str, dict[str, Any]]:
        while "data" not in (fields := await self.block()):
            pass
        return fields["id"], json.loads(fields["data"])


@asynccontextmanager
async def opened(client: httpx.AsyncClient, path: str, **headers: str) -> AsyncIterator[Stream]:
    async with client.stream("GET", path, headers=headers) as response:
        assert response.status_code == 200, response.status_code
        yield Stream(response)


def run(steps: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(steps(), 3 * LIMIT_S))


def seen_of(world: Any) -> str:
    return f"{world.app.state.console.run_id}-{world.source.current.version}"


def test_only_what_changed_is_sent_and_the_order_follows(make_world: Any, make_account: Any) -> None:
    world = make_world(live_interval_s=0)
    world.publish([make_account(number) for number in (1, 2, 3)])

    async def steps() -> None:
        async with served(world) as client:
            await client.get("/")
            async with opened(client, f"/live?view=street&seen={seen_of(world)}") as stream:
                assert (await stream.block())["retry"]
                for name, value in SECURITY_HEADERS.items():
                    assert stream.headers[name] == value
                assert stream.headers["cache-control"] == "no-store"
                cut = make_account(3, output_connected=False)
                world.publish([make_account(1), make_account(2), cut], version=2)
                identifier, message = await stream.message()
                assert identifier == seen_of(world)
                assert set(message["parts"]) == {"account-A-1003", "count-cut", "count-disobeys"}
                assert message["order"] == ["account-A-1003", "account-A-1001", "account-A-1002"]

    run(steps)


def test_a_browser_that_comes_back_gets_what_it_missed(make_world: Any, make_account: Any) -> None:
    world = make_world(live_interval_s=0)
    world.publish([make_account(1), make_account(2)])

    async def steps() -> None:
        async with served(world) as client:
            await client.get("/")
            seen = seen_of(world)
            world.publish([make_account(1), make_account(2, hold="register_jump")], version=2)
            async with opened(client, "/live?view=street&seen=", **{"last-event-id": seen}) as stream:
                _, message = await stream.message()
                assert set(message["parts"]) == {"account-A-1002", "count-held"}

    run(steps)


def test_a_browser_from_before_a_restart_gets_everything(make_world: Any, make_account: Any) -> None:
    world = make_world(live_interval_s=0)
    world.publish([make_account(1), make_account(2)])

    async def steps() -> None:
        async with served(world) as client, opened(client, "/live?view=street&seen=00000000-900") as stream:
            _, message = await stream.message()
            assert {"account-A-1001", "account-A-1002", "asof", "strip"} <= set(message["parts"])

    run(steps)


def test_a_filtered_page_gains_and_loses_rows(make_world: Any, make_account: Any) -> None:
    world = make_world(live_interval_s=0)
    world.publish([make_account(1), make_account(2)])

    async def steps() -> None:
        async with served(world) as client:
            await client.get("/?show=held")
            async with opened(client, f"/live?view=street&show=held&seen={seen_of(world)}") as stream:
                await stream.block()
                world.publish([make_account(1), make_account(2, hold="register_jump")], version=2)
                _, message = await stream.message()
                assert message["order"] == ["account-A-1002"]
                assert "account-A-1002" in message["parts"]
                world.publish([make_account(1), make_account(2)], version=3)
                _, message = await stream.message()
                assert message["order"] == []

    run(steps)


def test_account_page_gets_its_pieces_and_new_ledger_lines(make_world: Any, make_account: Any) -> None:
    world = make_world(live_interval_s=0)
    world.publish([make_account(1)])

    async def steps() -> None:
        path = f"/live?view=account&id=A-1001&seen={seen_of(world)}"
        async with served(world) as client, opened(client, path) as stream:
            await stream.block()
            cut = make_account(1, control_state="disconnected", output_connected=False)
            world.publish([cut], version=2)
            _, message = await stream.message()
            assert "Why it is cut" in message["parts"]["why"]
            world.ledger.extra = [{"type": "PaymentApplied", "payment_id": "P-9", "at": 0, "seq": 999}]
            world.publish([cut], version=3, journal_seq=99_999)
            _, message = await stream.message()
            assert set(message["parts"]) == {"ledger"}
            assert "Payment P-9" in message["parts"]["ledger"]

    run(steps)


def test_messages_keep_their_distance(make_world: Any, make_account: Any) -> None:
    world = make_world(live_interval_s=0.3)
    world.publish([make_account(1)])

    async def steps() -> None:
        path = f"/live?view=street&seen={seen_of(world)}"
        async with served(world) as client, opened(client, path) as stream:
            await stream.block()
            world.publish([make_account(1, hold="register_jump")], version=2)
            await stream.message()
            for version in range(3, 30):
                world.publish([make_account(1, line_id=str(version), days_left=version)], version=version)
            identifier, message = await stream.message()
            assert identifier.endswith("-29")
            assert "29 days" in message["parts"]["account-A-1001"]

    run(steps)


def test_a_quiet_street_still_shows_signs_of_life(make_world: Any, make_account: Any) -> None:
    world = make_world(live_heartbeat_s=0.05)
    world.publish([make_account(1)])

    async def steps() -> None:
        path = f"/live?view=street&seen={seen_of(world)}"
        async with served(world) as client, opened(client, path) as stream:
            await stream.block()
            assert (await stream.block()) == {"comment": "alive"}

    run(steps)


def test_too_many_live_pages_are_refused_and_places_come_free(make_world: Any, make_account: Any) -> None:
    world = make_world(live_clients_max=1, live_heartbeat_s=0.05)
    world.publish([make_account(1)])

    async def steps() -> None:
        async with served(world) as client:
            async with opened(client, "/live?view=street") as stream:
                await stream.block()
                refused = await client.get("/live?view=street")
                assert refused.status_code == 503
            while world.app.state.console.live_clients:
                await asyncio.sleep(POLL_INTERVAL_S)
            async with opened(client, "/live?view=street") as stream:
                await stream.block()

    run(steps)


def test_cancelling_the_server_ends_open_streams_at_once(make_world: Any, make_account: Any) -> None:
    world = make_world()
    world.publish([make_account(1)])

    async def steps() -> None:
        loop = asyncio.get_running_loop()
        async with served(world) as client, opened(client, "/live?view=street") as stream:
            await stream.message()
            stopped_at = loop.time()
        assert loop.time() - stopped_at < 1.5
        assert world.app.state.console.live_clients == 0

    run(steps)
