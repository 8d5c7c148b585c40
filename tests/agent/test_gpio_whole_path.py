"""The agent as the bootstrap builds it, on a street where one supply hangs on GPIO lines and one on a relay board.

Files, configuration, journal, signed payment, pages and driver are the product's; wire, chip and time are virtual.
Energy flows only through closed contacts. Seconds of the loop are seconds of the accounting clock.
"""

import asyncio
import struct
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cloud_sync import orders
from cloud_sync.keys import Role, generate_keys
from cloud_sync.wire import CONTRACT_VERSION, Order
from edge import bootstrap
from edge.agent.metering import Metering
from edge.bootstrap import Prepared, prepare, run_gateway
from edge.bus.frame import crc16
from edge.cli import main
from edge.config import ConfigError, read_config
from edge.core import events as ev
from edge.core.policy import LegalProfile, Policy
from edge.core.units import ClockQuality, ClockReading, MoneyNano, UnixSeconds
from edge.ports import BytePort
from edge.store.site_book import AccountEntry, MeterEntry, RelayEntry, Site, SiteBook, write_site_book
from hw.gpio_relay import GONE, NO_CHIP, Coil, ContactLine, GpioRelay, LatchingCoils
from hw.sim.gpio_chip import VirtualChip, VirtualGpio, WiredRelay
from hw.sim.world.loop import VirtualLoop

CHIP, COIL, CONTACT, SET, RESET = "/dev/gpiochip0", 17, 27, 5, 6
START_AT = 1_772_380_800
YUAN = MoneyNano(1_000_000_000)
LOAD_W = 10_000
LOOK_S, PATIENCE_S, A_WHILE_S = 1.0, 1800.0, 120.0
CUT_S_MAX, RESTORE_S_MAX = 60.0, 10.0  # SECURITY.md
TARIFF = Path(__file__).resolve().parents[2] / "edge" / "tariffs" / "demo-street.json"
CONFIG = """
[gateway]
id = "gw-1"
data_dir = "data"
tariffs = ["tariff.json"]

[[lines]]
id = "line-1"
address = "rtu+tcp://127.0.0.1:1"
"""
MONOSTABLE = f"""
[[gpio_relays]]
id = "G02"
chip = "{CHIP}"
kind = "monostable"
coil_line = {COIL}
closed_when = "coil_off"
"""
WITH_CONTACT = MONOSTABLE + f"contact_line = {CONTACT}\n"
LATCHING = f"""
[[gpio_relays]]
id = "G02"
chip = "{CHIP}"
kind = "latching"
set_line = {SET}
reset_line = {RESET}
contact_line = {CONTACT}
"""
PREPAID = Policy(legal_profile=LegalProfile.PREPAYMENT_IMMEDIATE)


class Street:
    """Two houses: A01 behind coil 0 of a board, A02 behind GPIO. It is the clock, and the port of the line."""

    def __init__(self, folder: Path, gpio: str, protected: bool = False) -> None:
        self.folder = folder
        self.chip = VirtualChip()
        self.wired = WiredRelay(lambda: asyncio.get_running_loop().time()).with_contact(self.chip, CONTACT)
        if "latching" in gpio:
            self.wired.with_latch(self.chip, SET, RESET, pulse_s_min=0.05)
        else:
            self.wired.with_coil(self.chip, COIL, closed_when_high=False)
        self.coil_closed = True
        self.energy_ws = {1: 100.0 * 3_600_000, 2: 200.0 * 3_600_000}
        self.counted_at = 0.0
        self.events: list[ev.Event] = []
        self.ring, self.signers = generate_keys()
        self.desk: Any = None
        self.snapshots: Any = None
        self.write_files(gpio, protected)

    def write_files(self, gpio: str, protected: bool) -> None:
        (self.folder / "tariff.json").write_text(TARIFF.read_text("utf-8"), "utf-8")
        meters = (
            MeterEntry("M01", "line-1", 1, "eastron_sdm120", relay_id="R01"),
            MeterEntry("M02", "line-1", 2, "eastron_sdm120", relay_id="G02"),
        )
        accounts = (
            AccountEntry("A01", "M01", "demo-street@1", MoneyNano(1000 * YUAN), policy=PREPAID),
            AccountEntry("A02", "M02", "demo-street@1", MoneyNano(YUAN // 2), protected, PREPAID),
        )
        relays = (RelayEntry("R01", "line-1", 9, "relay_board_8ch", 0),)
        write_site_book(self.folder / "site.json", SiteBook(Site("Asia/Shanghai", "CNY"), meters, relays, accounts))
        (self.folder / "gateway.toml").write_text(CONFIG + gpio, "utf-8")

    def prepared(self) -> Prepared:
        opener = VirtualGpio({CHIP: self.chip}).open
        ready = prepare(read_config(self.folder / "gateway.toml"))
        return replace(ready, openers={"line-1": self}, ring=self.ring, chip_opener=opener)

    def read(self) -> ClockReading:
        """The Clock port."""
        elapsed_ms = round(asyncio.get_running_loop().time() * 1000)
        return ClockReading(UnixSeconds(START_AT + elapsed_ms // 1000), elapsed_ms, "boot-1", ClockQuality.NTP)

    async def __call__(self, on_bytes: Callable[[bytes], None], on_lost: Callable[[str], None]) -> BytePort:
        """The PortOpener."""
        street = self

        class Port:
            def write(self, data: bytes) -> None:
                answer = street.answer(data)
                whole = answer + crc16(answer).to_bytes(2, "little")
                asyncio.get_running_loop().call_later(0.02, on_bytes, whole)

            def close(self) -> None:
                """Nothing is held."""

        return Port()

    def answer(self, request: bytes) -> bytes:
        self.count()
        unit, function, address, count = struct.unpack(">BBHH", request[:6])
        if function == 1:
            return bytes((unit, function, 1, int(self.coil_closed)))
        if function == 5:
            self.coil_closed = count == 0xFF00
            return request[:6]
        cells = b"".join(self.cell(unit, address + at) for at in range(count))
        return bytes((unit, function, len(cells))) + cells

    def cell(self, unit: int, address: int) -> bytes:
        value = self.energy_ws[unit] / 3_600_000 if address in (0x48, 0x49) else 1.0
        return struct.pack(">f", value)[2 * (address % 2) :][:2]

    def count(self) -> None:
        now = asyncio.get_running_loop().time()
        for unit, closed in ((1, self.coil_closed), (2, self.wired.closed)):
            self.energy_ws[unit] += closed * LOAD_W * (now - self.counted_at)
        self.counted_at = now

    def view(self) -> Any:
        return self.snapshots.current.accounts[1]

    def is_open(self) -> bool:
        """Whether both accounts have their first reading."""
        current = None if self.snapshots is None else self.snapshots.current
        return current is not None and len(current.accounts) == 2

    def conditions(self) -> list[str]:
        return [event.condition for event in self.events if isinstance(event, ev.ConditionNoted) and event.account]

    def seen(self) -> list[bool]:
        """What the log says the GPIO relay was read back as."""
        kinds = (event for event in self.events if isinstance(event, ev.OutputStateObserved))
        return [event.connected for event in kinds if event.account == "A02"]

    async def until(self, holds: Callable[[], bool]) -> float:
        """How long it took. The story fails when it never happens."""
        began = asyncio.get_running_loop().time()
        while not holds():
            await asyncio.sleep(LOOK_S)
            assert asyncio.get_running_loop().time() - began < PATIENCE_S, self.events[-3:]
        return asyncio.get_running_loop().time() - began

    async def pay(self, amount_nano: int) -> None:
        signer = self.signers[Role.VEND]
        args = {"payment_id": "P-1", "amount_nano": amount_nano}
        order = Order(v=CONTRACT_VERSION, cid="c-1", gw="gw-1", meter="M02", type="credit", args=args, nbf=START_AT,
                      kid=signer.kid)  # fmt: skip
        answer = await self.desk.take_order(orders.sign_order(order, signer), "cloud")
        assert answer.accepted, answer


@pytest.fixture
def on_street(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Street]:
    """Runs a story beside the agent, and stops the agent."""
    desk_of = bootstrap._order_desk

    def run(gpio: str, story: Callable[[Street], Awaitable[None]], **how: bool) -> Street:
        street = Street(tmp_path, gpio, **how)

        async def socket(_path: Path, snapshots: Any, *_rest: Any) -> None:
            street.snapshots = snapshots
            await asyncio.Event().wait()

        def desk(*arguments: Any) -> Any:
            street.desk = desk_of(*arguments)
            return street.desk

        monkeypatch.setattr(bootstrap, "serve_local_socket", socket)
        monkeypatch.setattr(bootstrap, "_order_desk", desk)

        async def whole() -> None:
            stop = asyncio.Event()

            def hear(events: Sequence[ev.Event]) -> None:
                street.events.extend(events)

            running = asyncio.ensure_future(run_gateway(street.prepared(), street, stop, hear))
            try:
                await street.until(lambda: running.done() or street.is_open())
                await story(street)
            finally:
                stop.set()
                await running

        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(whole())
        return street

    return run


@pytest.mark.parametrize(("gpio", "kind"), [(WITH_CONTACT, "gpio"), (LATCHING, "gpio"), (MONOSTABLE, "gpio_commanded")])
def test_a_customer_behind_gpio_is_cut_read_back_and_restored(
    on_street: Callable[..., Street], gpio: str, kind: str
) -> None:
    async def story(street: Street) -> None:
        assert [view.relay_kind for view in street.snapshots.current.accounts] == ["board", kind]
        await street.until(lambda: street.view().live_balance_nano < 0)
        assert await street.until(lambda: not street.wired.closed) <= CUT_S_MAX
        await street.until(lambda: street.view().output_connected is False)
        assert (street.view().control_state, street.view().switching) == ("ready_for_reconnection", False)
        (status,) = street.snapshots.details().gpio_relays
        assert (status.relay_id, status.closed, status.by_contact, status.fault) == ("G02", False, kind == "gpio", None)
        register = street.energy_ws[2]
        await asyncio.sleep(A_WHILE_S)
        assert street.energy_ws[2] == register
        await street.pay(20 * YUAN)
        assert await street.until(lambda: street.wired.closed) <= RESTORE_S_MAX
        await street.until(lambda: street.view().output_connected is True)
        assert street.coil_closed

    street = on_street(gpio, story)
    assert street.seen()[-2:] == [False, True]
    observed = [
        event for event in street.events if isinstance(event, ev.OutputStateObserved) and event.account == "A02"
    ]
    assert [event.commanded for event in observed[-2:]] == (["", ""] if kind == "gpio" else ["open", "closed"])
    assert street.wired.both == 0
    assert [closed for _, closed in street.wired.moves[:2]] == [False, True]


def test_a_protected_customer_behind_gpio_keeps_the_supply(on_street: Callable[..., Street]) -> None:
    async def story(street: Street) -> None:
        await street.until(lambda: street.view().live_balance_nano < -YUAN)
        await asyncio.sleep(A_WHILE_S)
        assert street.view().protected

    assert on_street(WITH_CONTACT, story, protected=True).wired.moves == []


def test_a_welded_relay_is_told_by_its_contact(on_street: Callable[..., Street]) -> None:
    async def story(street: Street) -> None:
        street.wired.welded = True
        await street.until(lambda: "relay_disobeys" in street.conditions())
        assert street.view().output_connected is True

    assert False not in on_street(WITH_CONTACT, story).seen()


def test_a_welded_relay_without_contact_is_told_by_the_meter(on_street: Callable[..., Street]) -> None:
    """Commanded is not opened: the register says so once enough energy went through."""

    async def story(street: Street) -> None:
        street.wired.welded = True
        await street.until(lambda: street.view().output_connected is False)
        await street.until(lambda: any(isinstance(event, ev.EnergyWhileDisconnected) for event in street.events))

    assert on_street(MONOSTABLE, story).seen()[-1] is False


def test_a_chip_that_is_gone_cuts_nobody_and_the_cut_follows_when_it_is_back(on_street: Callable[..., Street]) -> None:
    async def story(street: Street) -> None:
        street.chip.vanish()
        await street.until(lambda: street.view().live_balance_nano < 0)
        await asyncio.sleep(A_WHILE_S)
        assert street.wired.closed
        (status,) = street.snapshots.details().gpio_relays
        assert (status.closed, status.fault is None) == (None, False)
        assert street.conditions().count("relay_lost") == 1
        street.chip.gone = False
        await street.until(lambda: not street.wired.closed)
        await street.until(lambda: street.view().output_connected is False)
        assert street.conditions().count("relay_found") == 1
        assert "relay_disobeys" not in street.conditions()

    street = on_street(WITH_CONTACT, story)
    noted = [event for event in street.events if isinstance(event, ev.ConditionNoted)]
    lost = [event for event in noted if event.condition == "relay_lost"]
    assert lost[0].detail in (f"G02 {CHIP} line {COIL}: {sentence}" for sentence in (GONE, NO_CHIP))


def test_every_key_of_the_configuration_reaches_the_driver(tmp_path: Path) -> None:
    keys = f"""active_low = true
contact_line = {CONTACT}
contact_active_low = true
contact_bias = "pull_up"
settle_ms = 40
chip_label = "pinctrl-rp1"
breaking_current_a = 60
"""
    street = Street(tmp_path, MONOSTABLE + keys, protected=True)
    ready = street.prepared()
    (section,) = ready.config.gpio_relays
    contact = ContactLine(CONTACT, active_low=True, bias="pull_up")
    assert bootstrap._gpio_relay(section) == GpioRelay(
        "G02", CHIP, Coil(COIL, closed_when_on=False), True, contact, 40, "pinctrl-rp1"
    )
    gpio = bootstrap._make_gpio(ready, street, lambda _state: None)
    assert gpio is not None
    refused = asyncio.run(gpio.set_output("G02", False))
    assert refused.reason == "protected"
    lines = bootstrap._make_lines(ready, street, Metering({}), lambda _state: None)
    facts = bootstrap._relay_facts(ready, lines, gpio)
    assert {relay_id: (one.port, one.protected, one.breaking_current_a) for relay_id, one in facts.items()} == {
        "R01": (lines["line-1"], False, None),
        "G02": (gpio, True, 60),
    }
    street.write_files(LATCHING + "pulse_ms = 70\n", protected=False)
    relay = bootstrap._gpio_relay(street.prepared().config.gpio_relays[0])
    assert relay.coils == LatchingCoils(SET, RESET, pulse_ms=70)


def test_a_wiring_that_a_stop_darkens_is_warned_of_at_the_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for gpio, warned in ((MONOSTABLE, False), (MONOSTABLE.replace("coil_off", "coil_on"), True)):
        Street(tmp_path, gpio)
        assert main(["run", "--config", str(tmp_path / "gateway.toml"), "--check"]) == 0
        said = capsys.readouterr().err
        assert ('G02: with closed_when = "coil_on" the supply goes off' in said) is warned


# --- what is found at load -------------------------------------------------------------------


def test_a_meter_names_a_relay_that_stands_nowhere_and_a_relay_stands_in_two_places(tmp_path: Path) -> None:
    street = Street(tmp_path, WITH_CONTACT.replace("G02", "G03"))
    with pytest.raises(ConfigError, match=r"meter M02: relay 'G02' is not in table relays, nor in gpio_relays"):
        street.prepared()
    street.write_files(WITH_CONTACT + MONOSTABLE.replace("G02", "R01").replace("17", "4"), protected=False)
    with pytest.raises(ConfigError, match=r"relay R01 is in table relays and in gpio_relays of the configuration"):
        street.prepared()


def test_a_channel_that_the_board_does_not_have_is_refused_at_load(tmp_path: Path) -> None:
    street = Street(tmp_path, WITH_CONTACT)
    book = (tmp_path / "site.json").read_text("utf-8")
    (tmp_path / "site.json").write_text(book.replace('"channel": 0', '"channel": 8'), "utf-8")
    with pytest.raises(ConfigError, match=r"relay R01: channel: found 8; model 'relay_board_8ch' has channels 0 to 7"):
        street.prepared()


def test_a_site_with_gpio_relays_and_without_the_package_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Street(tmp_path, WITH_CONTACT)
    monkeypatch.setattr(bootstrap, "find_spec", lambda _name: None)
    assert main(["run", "--config", str(tmp_path / "gateway.toml"), "--check"]) == 2
    assert "gpio_relays: need the package gpiod: pip install 'wattgate[gpio]'" in capsys.readouterr().err
