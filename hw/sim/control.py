"""The hand on a running street: JSON lines over a Unix socket, one answer to each request.

`at` in a request is a simulated instant (Unix seconds): the request takes effect exactly then; without it, or when it
is past, at once. `registers` with `at` is answered when that instant has come, with the registers of that instant.
"""

import asyncio
import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from hw.sim.plant import Plant, PlantError
from hw.sim.spec import Percent

SOCKET_PATH_BYTES_MAX = 107  # sun_path of a Unix socket address, less its end
CONNECT_RETRY_S = 0.02


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="do"):
    """What every request has: when it is to happen."""

    at: int | None = None


class Registers(Order, frozen=True, tag="registers"):
    """All registers, without touching anything."""


class Silence(Order, frozen=True, tag="silence", kw_only=True):
    """A meter stops answering, or answers again."""

    meter_id: str
    on: bool


class Scale(Order, frozen=True, tag="scale", kw_only=True):
    """A customer draws `percent` of his profile."""

    meter_id: str
    percent: Percent


class StopLoad(Order, frozen=True, tag="stop_load"):
    """All loads 0 from now on."""


class OperateRelay(Order, frozen=True, tag="relay", kw_only=True):
    """A hand opens or closes a contact."""

    meter_id: str
    closed: bool


class StickRelay(Order, frozen=True, tag="stuck", kw_only=True):
    """A contact ignores commands, or obeys again."""

    meter_id: str
    on: bool


class Quit(Order, frozen=True, tag="quit"):
    """The street ends."""


AnyOrder = Registers | Silence | Scale | StopLoad | OperateRelay | StickRelay | Quit


class ControlServer:
    """Takes orders for a plant. `on_stop_load` and `on_quit` are called after those orders took effect."""

    def __init__(
        self,
        plant: Plant,
        bring_up_to_date: Callable[[], None],
        on_stop_load: Callable[[], None],
        on_quit: Callable[[], None],
    ) -> None:
        self._plant, self._bring_up_to_date = plant, bring_up_to_date
        self._on_stop_load, self._on_quit = on_stop_load, on_quit
        self._server: asyncio.Server | None = None
        self._conversations: list[asyncio.Task[None]] = []

    async def open(self, path: Path) -> None:
        self._server = await asyncio.start_unix_server(self._serve, path)

    async def close(self) -> None:
        """Hangs up on everybody, also on those who still wait for an instant to come."""
        if self._server is None:
            return
        self._server.close()
        conversations = list(self._conversations)
        for conversation in conversations:
            conversation.cancel()
        await asyncio.gather(*conversations)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversation = asyncio.current_task()
        assert conversation is not None
        self._conversations.append(conversation)
        try:
            while line := await reader.readline():
                answer = await self._answer(line)
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):  # gone, or a line longer than a request can be
            pass
        except asyncio.CancelledError:  # by `close`; asyncio's own callback trips over a cancelled handler
            pass
        finally:
            self._conversations.remove(conversation)
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            order = msgspec.json.decode(line, type=AnyOrder)
            self._check(order)
        except (msgspec.DecodeError, PlantError) as error:
            return {"ok": False, "error": str(error)}
        self._bring_up_to_date()
        done: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._plant.schedule(order.at or 0, lambda: self._carry_out(order, done))
        if done.done() or isinstance(order, Registers):
            return await done
        return {"ok": True, "scheduled_at": order.at}

    def _check(self, order: AnyOrder) -> None:
        """Names nobody knows are refused at once, also when the order lies in the future."""
        match order:
            case Silence():
                self._plant.meter(order.meter_id)
            case Scale():
                self._plant.load(order.meter_id)
            case OperateRelay() | StickRelay():
                self._plant.relay(order.meter_id)

    def _carry_out(self, order: AnyOrder, done: asyncio.Future[dict[str, Any]]) -> None:
        answer: dict[str, Any] = {"ok": True, "at": self._plant.at}
        match order:
            case Registers():
                answer |= self._plant.registers()
            case Silence():
                self._plant.silence(order.meter_id, order.on)
            case Scale():
                self._plant.scale(order.meter_id, order.percent)
            case StopLoad():
                self._plant.stop_load()
                self._on_stop_load()
            case OperateRelay():
                self._plant.operate_relay(order.meter_id, order.closed)
            case StickRelay():
                self._plant.stick_relay(order.meter_id, order.on)
            case Quit():
                self._on_quit()
        if not done.done():
            done.set_result(answer)


class StreetControl:
    """The other end, for scripts and tests. Blocking; raises RuntimeError with the street's own sentence."""

    def __init__(self, path: Path | str, patience_s: float = 10.0, answer_timeout_s: float = 60.0) -> None:
        """Waits up to `patience_s` for the street to be there: its socket is the last thing it opens."""
        self._socket = connect(str(path), time.monotonic() + patience_s)
        self._socket.settimeout(answer_timeout_s)
        self._lines = self._socket.makefile("rb")

    def request(self, do: str, **fields: Any) -> dict[str, Any]:
        """Sends one order and waits for its answer. Fields that are None are left out."""
        message = {"do": do, **{name: value for name, value in fields.items() if value is not None}}
        self._socket.sendall(json.dumps(message).encode() + b"\n")
        line = self._lines.readline()
        if not line:
            raise RuntimeError("the street has gone")
        answer: dict[str, Any] = json.loads(line)
        if not answer["ok"]:
            raise RuntimeError(f"{do}: {answer['error']}")
        return answer

    def registers(self, at: int | None = None) -> dict[str, Any]:
        """All registers now; with `at` it waits for that simulated instant."""
        return self.request("registers", at=at)

    def silence(self, meter_id: str, on: bool, at: int | None = None) -> dict[str, Any]:
        return self.request("silence", meter_id=meter_id, on=on, at=at)

    def scale(self, meter_id: str, percent: int, at: int | None = None) -> dict[str, Any]:
        return self.request("scale", meter_id=meter_id, percent=percent, at=at)

    def stop_load(self, at: int | None = None) -> dict[str, Any]:
        return self.request("stop_load", at=at)

    def relay(self, meter_id: str, closed: bool, at: int | None = None) -> dict[str, Any]:
        return self.request("relay", meter_id=meter_id, closed=closed, at=at)

    def stuck(self, meter_id: str, on: bool, at: int | None = None) -> dict[str, Any]:
        return self.request("stuck", meter_id=meter_id, on=on, at=at)

    def quit(self, at: int | None = None) -> dict[str, Any]:
        return self.request("quit", at=at)

    def close(self) -> None:
        self._lines.close()
        self._socket.close()

    def __enter__(self) -> "StreetControl":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def connect(path: str, give_up_at: float) -> socket.socket:
    """A connection to the street's socket. Raises the last OSError when the street does not come up in time."""
    while True:
        street = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            street.connect(path)
        except OSError:
            street.close()
            if time.monotonic() >= give_up_at:
                raise
            time.sleep(CONNECT_RETRY_S)
        else:
            return street
