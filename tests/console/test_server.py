"""Serving from the agent's loop: no signal handler, no thread, a clear sentence when a port is taken."""

import asyncio
import signal
import socket
import subprocess
import sys
import threading
from typing import Any

import httpx
import pytest

from edge.console.server import serve


def test_a_taken_port_is_one_clear_sentence(world: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1 port {port}: another program already listens"):
            asyncio.run(serve(world.app, "127.0.0.1", port))


def test_an_address_of_another_machine_is_one_clear_sentence(world: Any) -> None:
    with pytest.raises(OSError, match=r"cannot listen on 203\.0\.113\.9 port 0: this device has no such address"):
        asyncio.run(serve(world.app, "203.0.113.9", 0))


def test_it_serves_without_threads_and_leaves_signals_alone(world: Any) -> None:
    async def steps() -> None:
        before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
        threads = threading.active_count()
        ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        serving = asyncio.create_task(serve(world.app, "127.0.0.1", 0, ready.set_result))
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{await ready}") as client:
            for path in ("/", "/account/A-1002", "/events", "/static/console.css"):
                assert (await client.get(path)).status_code == 200
        assert threading.active_count() == threads
        assert {one: signal.getsignal(one) for one in before} == before
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving

    asyncio.run(asyncio.wait_for(steps(), 20))


def test_a_port_is_free_again_after_stopping(world: Any) -> None:
    async def once(port: int) -> int:
        ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        serving = asyncio.create_task(serve(world.app, "127.0.0.1", port, ready.set_result))
        taken = await ready
        serving.cancel()
        await asyncio.wait({serving})
        return taken

    port = asyncio.run(once(0))
    assert asyncio.run(once(port)) == port


def test_the_agent_does_not_load_the_web_libraries_with_the_package() -> None:
    code = (
        "import sys, edge.console, edge.console.settings\n"
        "heavy = {'starlette', 'uvicorn', 'jinja2', 'polib', 'leather', 'anyio'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=20)
