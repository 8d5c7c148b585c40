"""Every fault of the table once more, under the whole master of a line on a virtual loop: what the agent is told.

A meter, a meter with its own relay and a relay board on a serial line, behind a transparent server and behind a Modbus
TCP gateway. Whatever one request of each kind is answered with: no sample but the register's true value, no relay state
but the true one, no command confirmed that was not obeyed; and the next visit is good.
"""

import asyncio
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from edge.bus.line import LineMaster, LineSettings, MeterOnLine, MeterSample, OutputResult, RelayOnLine, RelayState
from edge.meters.model import load_model
from hw.sim.wire_faults import CLOSED, CLOSING, FAULTS, Fault, Kind, Parts, ScriptedDevice, stale_reply_at_once

Run = Callable[[Awaitable[Any]], Any]
ADDRESSES = {"serial": "/dev/ttyUSB0", "rtu+tcp": "rtu+tcp://10.0.0.5:4001", "tcp": "tcp://10.0.0.5:502"}
METER, OWN_RELAY, BOARD = 1, 3, 9  # device ids
POWER_W_MAX = 14_000
ANSWER_S = 0.02
SETTLE_S = 8.0  # the longest drain of all rows, and a back-off, are over
VARIANTS = (1, 2, 7)
FAULT_ROWS: dict[str, Fault] = {**FAULTS, **CLOSING}
WRITES = (5, 6, 16)


@dataclass
class Wire:
    """A virtual port with the three devices behind it. Each fault armed spoils the next request that fits it."""

    kind: Kind
    echo: bool = False
    armed: list[tuple[Fault, Callable[[int, int], bool]]] = field(default_factory=list)
    spoiled: int = 0
    opened: int = 0

    def __post_init__(self) -> None:
        self.devices = {device_id: ScriptedDevice(self.kind) for device_id in (METER, OWN_RELAY, BOARD)}
        for device in self.devices.values():
            device.late_s = 0.4
        self.devices[METER].hold_float(4, 0x48, 100.0)
        self.devices[OWN_RELAY].registers.update({(3, 10): 0, (3, 11): 10_000, (3, 26): 1})
        self.devices[BOARD].registers.update({(1, coil): 1 for coil in range(8)})
        self._on_lost: Callable[[str], None] = lambda reason: None

    async def __call__(self, on_bytes: Callable[[bytes], None], on_lost: Callable[[str], None]) -> "Wire":
        self.opened += 1
        self._on_bytes, self._on_lost = on_bytes, on_lost
        return self

    def arm(self, fault: Fault, variant: int, fits: Callable[[int, int], bool]) -> None:
        self.armed.append((fault, fits))
        for device in self.devices.values():
            device.variant = variant

    def write(self, data: bytes) -> None:
        device_id = data[0] if self.kind == "rtu" else data[6]
        device = self.devices[device_id]
        function_code = device.pdu(data)[0]
        loop = asyncio.get_running_loop()
        for delay_s, part in [(0.0, data)] * self.echo + self.parts(device, device_id, function_code, data):
            loop.call_later(ANSWER_S + delay_s, self.deliver, part)

    def parts(self, device: ScriptedDevice, device_id: int, function_code: int, data: bytes) -> Parts:
        for index, (fault, fits) in enumerate(self.armed):
            if fits(device_id, function_code) and fault.spoils(self.kind, function_code):
                del self.armed[index]
                self.spoiled += 1
                return fault.spoil(device, data)
        return [(0.0, device.good(data))]

    def deliver(self, part: bytes) -> None:
        if part is CLOSED:
            self._on_lost("the other side closed the connection")
        else:
            self._on_bytes(part)

    def close(self) -> None:
        pass


class Site:
    """The master of that line, and what it told."""

    def __init__(self, wire: SimpleNamespace, line: str, only_board: bool = False, echo: bool = False) -> None:
        settings = LineSettings("line", ADDRESSES[line], poll_interval_ms=1_000, dead_backoff_s_max=2, local_echo=echo)
        sdm120, dds238, board = map(load_model, ("eastron_sdm120", "hiking_dds238_2", "relay_board_8ch"))
        self.wire = Wire("mbap" if line == "tcp" else "rtu", echo)
        self.samples: list[MeterSample] = []
        self.relays: list[RelayState] = []
        self.wrong_relays: list[RelayState] = []
        meters = [MeterOnLine("m1", METER, sdm120, POWER_W_MAX, points=("voltage_l1", "power_total")),
                  MeterOnLine("m3", OWN_RELAY, dds238, POWER_W_MAX)]  # fmt: skip
        relays = [RelayOnLine("r1", BOARD, board, 0), RelayOnLine("r2", BOARD, board, 5)]
        own = [] if only_board else [RelayOnLine("r3", OWN_RELAY, dds238)]
        self.master = LineMaster(
            settings,
            [] if only_board else meters,
            [*relays, *own],
            self.wire,
            wire.LoopClock(),
            self.samples.append,
            self.take_relay,
        )

    def truth(self, relay_id: str) -> bool:
        """The contact as it is."""
        device_id, place = {"r1": (BOARD, (1, 0)), "r2": (BOARD, (1, 5)), "r3": (OWN_RELAY, (3, 26))}[relay_id]
        return bool(self.wire.devices[device_id].registers[place])

    def take_relay(self, state: RelayState) -> None:
        self.relays.append(state)
        if state.closed is not self.truth(state.relay_id):
            self.wrong_relays.append(state)

    def wrong_samples(self) -> list[MeterSample]:
        return [sample for sample in self.samples if sample.register_wh != 100_000]

    async def switched(self, relay_id: str, closed: bool) -> OutputResult:
        """A command, judged by the contact itself."""
        result = await self.master.set_output(relay_id, closed)
        assert result.closed in (None, self.truth(relay_id))
        assert result.confirmed is (result.closed is closed)
        return result

    async def __aenter__(self) -> "Site":
        self.task = asyncio.ensure_future(self.master.run())
        await after(2.5)
        assert len(self.samples) >= 4 or not self.master.view().devices.keys() & {METER}
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


def _reads_of(own: int, device_id: int, function_code: int) -> bool:
    return device_id == own and function_code < 5


async def after(seconds: float) -> None:
    await asyncio.sleep(seconds)


@pytest.mark.parametrize("line", ADDRESSES)
@pytest.mark.parametrize("fault", FAULT_ROWS)
def test_no_fault_under_a_read_brings_a_wrong_sample_or_relay_state(
    wire: SimpleNamespace, virtual: Run, line: str, fault: str
) -> None:
    async def story(variant: int) -> None:
        async with Site(wire, line) as site:
            for device_id in (METER, OWN_RELAY, BOARD):
                site.wire.arm(FAULT_ROWS[fault], variant, partial(_reads_of, device_id))
            await after(SETTLE_S)
            if fault in CLOSING or FAULT_ROWS[fault].spoils(site.wire.kind, 1):
                assert site.wire.spoiled == 3
            told, seen = len(site.samples), len(site.relays)
            await after(2.2)
            assert not site.wrong_samples()
            assert not site.wrong_relays
            assert len(site.samples) - told >= 4
            assert {state.relay_id for state in site.relays[seen:]} == {"r1", "r2", "r3"}

    for variant in VARIANTS:
        virtual(story(variant))


@pytest.mark.parametrize("line", ADDRESSES)
@pytest.mark.parametrize("fault", FAULT_ROWS)
@pytest.mark.parametrize("under", ["command", "read-back", "both"])
def test_no_fault_under_a_switching_command_is_believed_and_the_next_command_is_confirmed(
    wire: SimpleNamespace, virtual: Run, line: str, fault: str, under: str
) -> None:
    async def story(relay_id: str, variant: int) -> None:
        async with Site(wire, line) as site:
            row = FAULT_ROWS[fault]
            device_id = BOARD if relay_id == "r1" else OWN_RELAY
            if under != "read-back":
                site.wire.arm(row, variant, lambda at, code: at == device_id and code in WRITES)
            if under != "command":
                site.wire.arm(row, variant, lambda at, code: at == device_id and code < 5)
            await site.switched(relay_id, False)
            site.wire.armed.clear()
            await after(SETTLE_S)
            for closed in (True, False, True):
                assert (await site.switched(relay_id, closed)).confirmed
            assert not site.wrong_relays
            assert not site.wrong_samples()

    virtual(story("r1", VARIANTS[0]))
    virtual(story("r3", VARIANTS[1]))


@pytest.mark.parametrize("fault", ["silence", "wrong_unit", "crc_error", "echo_of_request", "exception", "noise_after"])
def test_a_contact_that_does_not_obey_is_never_confirmed_by_any_answer(
    wire: SimpleNamespace, virtual: Run, fault: str
) -> None:
    async def story() -> None:
        async with Site(wire, "serial") as site:
            for device in site.wire.devices.values():
                device.obeys = False
            for relay_id in ("r1", "r3"):
                site.wire.arm(FAULTS[fault], 1, lambda at, code: code in WRITES)
                result = await site.switched(relay_id, False)
                assert not result.confirmed
                site.wire.armed.clear()
            assert not site.wrong_relays

    virtual(story())


@pytest.mark.parametrize("line", ["serial", "rtu+tcp"])
def test_an_old_answer_that_no_framing_can_tell_is_not_passed_on_as_money(
    wire: SimpleNamespace, virtual: Run, line: str
) -> None:
    at_once = Fault(stale_reply_at_once, frozenset({"good"}))

    async def story() -> None:
        async with Site(wire, line) as site:
            old = site.wire.devices[METER].registers
            for at, word in enumerate(struct.unpack(">HH", struct.pack(">f", 350.0))):
                old[4, 0x48 + 0x101 + at] = word ^ 0x0101  # as `stale` looks for it
            rejected = site.master.view().readings_rejected
            for _ in range(20):
                site.wire.arm(at_once, 0, lambda at, code: at == METER)
                await after(1.0)
            assert site.wire.spoiled == 20
            assert not site.wrong_samples()
            assert site.master.view().readings_rejected > rejected
            await after(2.2)
            assert site.samples[-1].verdict == "good"

    virtual(story())


@pytest.mark.parametrize("line", ADDRESSES)
def test_an_answer_that_comes_on_the_next_connection_is_no_relay_state(
    wire: SimpleNamespace, virtual: Run, line: str
) -> None:
    async def story() -> None:
        async with Site(wire, line, only_board=True) as site:
            for closed in (False, True):  # whatever the contact's state is, the late answer says the other one
                site.wire.arm(CLOSING["late_after_reconnect"], 0, lambda at, code: code == 1)
                await after(SETTLE_S)
                assert not site.wrong_relays
                assert (await site.switched("r1", closed)).confirmed
            assert site.wire.spoiled == 2
            assert site.wire.opened == 3

    virtual(story())


def test_transaction_ids_go_on_over_a_new_connection(wire: SimpleNamespace, virtual: Run) -> None:
    async def story() -> None:
        ids: list[int] = []
        async with Site(wire, "tcp") as site:
            answered = site.wire.write

            def write(data: bytes) -> None:
                ids.append(int.from_bytes(data[:2], "big"))
                answered(data)

            site.wire.write = write  # type: ignore[method-assign]
            await after(2.0)
            site.wire.deliver(CLOSED)
            await after(4.0)
            assert site.wire.opened == 2
        assert len(ids) > 10
        assert ids == list(range(ids[0], ids[0] + len(ids)))
        assert 0 not in ids

    virtual(story())


@pytest.mark.parametrize("code", [10, 11])
def test_a_unit_that_is_dead_behind_a_gateway_costs_the_others_one_request_a_visit(
    wire: SimpleNamespace, virtual: Run, code: int
) -> None:
    """A gateway says by exceptions 10 and 11 what a line says by silence, often only after a second."""
    refusal = Fault(
        lambda device, sent: [(0.25, device.frame(sent, bytes((device.pdu(sent)[0] | 0x80, code))))],
        mbap=frozenset({f"exception_{code}"}),
    )

    async def story() -> None:
        async with Site(wire, "tcp") as site:
            for _ in range(1_000):
                site.wire.arm(refusal, 0, lambda at, code: at == METER)
            await after(10.0)
            assert site.master.view().devices[METER].silent
            failed = site.master.view().devices[METER].polls_failed
            told = len(site.samples)
            await after(20.0)
            assert site.master.view().devices[METER].polls_failed - failed <= 11  # every 2 s, the longest back-off
            assert len(site.samples) - told >= 19  # the other meter, every round
            site.wire.armed.clear()
            await after(4.0)
            assert not site.master.view().devices[METER].silent

    virtual(story())


def test_a_server_that_takes_connections_and_answers_nothing_is_left_alone_longer_and_longer(
    wire: SimpleNamespace, virtual: Run
) -> None:
    async def story() -> None:
        async with Site(wire, "tcp") as site:
            loop = asyncio.get_running_loop()

            def hang_up(data: bytes) -> None:
                loop.call_later(ANSWER_S, site.wire.deliver, CLOSED)

            site.wire.write = hang_up  # type: ignore[method-assign]
            await after(100.0)
            assert 5 <= site.wire.opened <= 9  # after 1, 2, 4, 8, 16, 30, 30 seconds

    virtual(story())


def test_a_line_whose_adapter_hears_itself_is_read_and_switched_when_it_is_told_so(
    wire: SimpleNamespace, virtual: Run
) -> None:
    async def story(told: bool) -> None:
        site = Site(wire, "serial", echo=told)
        site.wire.echo = True
        task = asyncio.ensure_future(site.master.run())
        await after(4.0)
        if told:
            assert site.samples
            assert (await site.switched("r1", False)).confirmed
            assert site.master.view().polls_failed == 0
        else:
            assert not site.samples
            assert set(site.master.view().devices[METER].errors) == {"echo_of_request"}
            assert not (await site.switched("r1", False)).confirmed
        assert not site.wrong_relays
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    virtual(story(told=True))
    virtual(story(told=False))
