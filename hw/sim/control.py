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
REQUEST_BYTES_MAX = 10_000
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
        self._conversations: list[Conversation] = []

    async def open(self, path: Path) -> None:
        """Listens; a socket file left by a street that was killed is replaced."""
        self._server = await asyncio.get_running_loop().create_unix_server(lambda: Conversation(self), path)

    def close(self) -> None:
        """Hangs up on everybody, also on those who still wait for an instant to come."""
        if self._server is not None:
            self._server.close()
        for conversation in list(self._conversations):
            conversation.hang_up()

    def welcome(self, conversation: "Conversation") -> None:
        """A conversation has begun."""
        self._conversations.append(conversation)

    def forget(self, conversation: "Conversation") -> None:
        """A conversation is over."""
        self._conversations.remove(conversation)

    def take(self, line: bytes, answer: Callable[[dict[str, Any]], None]) -> None:
        """Carries out a request now or at its time. `answer` is called once."""
        try:
            order = msgspec.json.decode(line, type=AnyOrder)
            self._check(order)
        except (msgspec.DecodeError, PlantError) as error:
            answer({"ok": False, "error": str(error)})
            return
        self._bring_up_to_date()
        if order.at is None or order.at <= self._plant.at or isinstance(order, Registers):
            self._plant.schedule(order.at or 0, lambda: self._carry_out(order, answer))
        else:
            self._plant.schedule(order.at, lambda: self._carry_out(order, nobody))
            answer({"ok": True, "scheduled_at": order.at})

    def _check(self, order: AnyOrder) -> None:
        """Names nobody knows are refused at once, also when the order lies in the future."""
        match order:
            case Silence():
                self._plant.meter(order.meter_id)
            case Scale():
                self._plant.load(order.meter_id)
            case OperateRelay() | StickRelay():
                self._plant.relay(order.meter_id)

    def _carry_out(self, order: AnyOrder, answer: Callable[[dict[str, Any]], None]) -> None:
        report: dict[str, Any] = {}
        match order:
            case Registers():
                report = self._plant.registers()
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
        answer({"ok": True, "at": self._plant.at, **report})


def nobody(_answer: dict[str, Any]) -> None:
    """Takes the answer to an order whose sender was told that it is scheduled."""


class Conversation(asyncio.Protocol):
    """One client of the socket. No task waits here, so there is nothing to cancel when the street ends."""

    def __init__(self, server: ControlServer) -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio, as the two below."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._server.welcome(self)

    def data_received(self, data: bytes) -> None:
        """Whole lines are requests; a line longer than any request ends the conversation."""
        *lines, self._received = (self._received + data).split(b"\n")
        for line in lines:
            self._server.take(line, self._answer)
        if len(self._received) > REQUEST_BYTES_MAX:
            self.hang_up()

    def connection_lost(self, exc: Exception | None) -> None:
        """Orders that were taken still take effect; their answers go nowhere."""
        self._transport = None
        self._server.forget(self)

    def hang_up(self) -> None:
        """Ends it after what was written has gone out."""
        if self._transport is not None:
            self._transport.close()

    def _answer(self, answer: dict[str, Any]) -> None:
        if self._transport is not None:
            self._transport.write(json.dumps(answer).encode() + b"\n")


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
