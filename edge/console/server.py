"""Serving the console from the agent's own event loop: no thread, no signal handler, no second process."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable, Iterator

from starlette.applications import Starlette
from uvicorn.config import Config
from uvicorn.server import Server

from edge.console.app import stop_live

_BACKLOG = 64
_GRACE_S = 2
_REASONS = {
    errno.EADDRINUSE: "another program already listens there",
    errno.EADDRNOTAVAIL: "this device has no such address",
    errno.EACCES: "ports below 1024 need a permission this program does not have",
}


async def serve(app: Starlette, host: str, port: int, ready: Callable[[int], None] | None = None) -> None:
    """Serves until cancelled, then finishes what is open and returns by CancelledError.

    Port 0 takes a free one. `ready(port)` is called once connections are answered. Raises OSError
    with a sentence for people when it cannot listen.
    """
    listener = _listen(host, port)
    actual_port = int(listener.getsockname()[1])
    server = _Server(app, lambda: ready(actual_port) if ready else None)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        stop_live(app)
        server.should_exit = True
        await serving
        raise
    finally:
        listener.close()


class _Server(Server):
    """uvicorn without its signal handlers: the agent has its own."""

    def __init__(self, app: Starlette, started: Callable[[], None]) -> None:
        super().__init__(
            Config(
                app,
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=_BACKLOG,
                timeout_keep_alive=5,
                timeout_graceful_shutdown=_GRACE_S,
                limit_concurrency=app.state.console.settings.connections_max,
            )
        )
        self._report_started = started

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._report_started()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        why = _REASONS.get(error.errno or 0, error.strerror or str(error))
        raise OSError(error.errno, f"the console cannot listen on {host} port {port}: {why}") from error
    return listener
