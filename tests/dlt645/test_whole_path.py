"""The agent on a line of DL/T 645 meters: read, charged, cut by the meter's own relay, closed again after a payment.

The street, its loads and contacts are those of hw/sim; the line is a real pseudo-terminal. An hour of accounting time
is a second.
"""

import asyncio
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from edge import bootstrap
from edge.bootstrap import prepare, run_gateway
from edge.config import ConfigError, read_config
from edge.core import commands as cmd
from edge.core import events as ev
from edge.core.policy import Policy
from edge.core.units import ClockQuality, MoneyNano
from edge.store.site_book import AccountEntry, MeterEntry, RelayEntry, Site, SiteBook, read_site_book, write_site_book
from hw.sim.clock import ScaledClock, start_clock
from hw.sim.dlt645_line import Dlt645Line
from hw.sim.plant import Plant
from hw.sim.spec import SHANGHAI_OFFSET_S, SpecError, parse_spec

TARIFF = Path(__file__).resolve().parents[2] / "edge" / "tariffs" / "demo-street.json"
MONDAY_NOON_AT = 1_782_662_400 + 12 * 3600
ADDRESSES = {"M01": 320_100_000_147, "M02": 147}
YUAN = 1_000_000_000
POLICY = Policy(reserve_days=1, grace_hours=6, pre_cut_notice_minutes=30, cut_reading_age_s_max=3600)
LIMIT_S = 60

CONFIG = """
[gateway]
id = "gw-1"
data_dir = "data"
tariffs = ["tariff.json"]

[clock]
source = "scaled"
file = "clock.json"

[accounting]
round_interval_ms = 100
local_display = true

[[lines]]
id = "line-1"
address = "{address}"
protocol = "dlt645"
supply_keys = "supply_keys.json"
response_timeout_ms = 200
drain_silence_ms = 60
poll_interval_ms = 200
"""
KEYS = {"*": {"level": 2, "password": "123456", "operator": "00000001"}}


def spec_of(**line: Any) -> bytes:
    meters = [
        {"meter_id": meter_id, "device_id": address, "model": "dlt645_2007", "start_wh": 1_234_567,
         "profile": "household", "seed": address % 1000, "scale_percent": 300, "relay": "own"}
        for meter_id, address in ADDRESSES.items()
    ]  # fmt: skip
    whole = {"id": "line-1", "protocol": "dlt645", "devices": meters} | line
    return json.dumps({"speed": 3600, "wall_start_at": MONDAY_NOON_AT, "lines": [whole]}).encode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """All files of the gateway but its configuration."""
    (tmp_path / "tariff.json").write_text(TARIFF.read_text("utf-8"), "utf-8")
    meters = tuple(
        MeterEntry(meter_id, "line-1", address, "dlt645_2007", relay_id=f"R{meter_id[1:]}")
        for meter_id, address in ADDRESSES.items()
    )
    relays = tuple(RelayEntry(meter.relay_id or "", "line-1", meter.device_id, meter.model) for meter in meters)
    accounts = (
        AccountEntry("A01", "M01", "demo-street@1", MoneyNano(YUAN // 2), policy=POLICY),
        AccountEntry("A02", "M02", "demo-street@1", MoneyNano(500 * YUAN), policy=POLICY),
    )
    write_site_book(tmp_path / "site.json", SiteBook(Site("Asia/Shanghai", "CNY"), meters, relays, accounts))
    (tmp_path / "supply_keys.json").write_text(json.dumps(KEYS), "utf-8")
    os.chmod(tmp_path / "supply_keys.json", 0o600)
    return tmp_path


class Heard:
    """The events of a running gateway, and when the one that is waited for has come."""

    def __init__(self) -> None:
        self.events: list[ev.Event] = []
        self._came = asyncio.Event()

    def __call__(self, events: Sequence[ev.Event]) -> None:
        self.events.extend(events)
        self._came.set()

    async def until(self, wanted: Callable[[ev.Event], bool]) -> None:
        while not any(wanted(event) for event in self.events):
            self._came.clear()
            await self._came.wait()


def observed(connected: bool) -> Callable[[ev.Event], bool]:
    def wanted(event: ev.Event) -> bool:
        return isinstance(event, ev.OutputStateObserved) and event.account == "A01" and event.connected is connected

    return wanted


def test_read_charged_cut_by_its_own_relay_and_closed_after_a_payment(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateways: list[Any] = []
    connect = bootstrap._connect_relays

    def connected(prepared: Any, clock: Any, metering: Any, gateway: Any) -> Any:
        gateways.append(gateway)
        return connect(prepared, clock, metering, gateway)

    monkeypatch.setattr(bootstrap, "_connect_relays", connected)

    async def run() -> tuple[Plant, Dlt645Line, Any, list[ev.Event]]:
        spec = parse_spec(spec_of())
        start_clock(folder / "clock.json", spec.wall_start_at, spec.speed, ClockQuality.NTP)
        clock, plant = ScaledClock(folder / "clock.json"), Plant(spec)
        line = Dlt645Line(
            plant.meters("line-1"), lambda: plant.advance(clock.at()), clock.at, SHANGHAI_OFFSET_S, silence_s=0.05
        )
        await line.open()
        (folder / "gateway.toml").write_text(CONFIG.format(address=line.gateway_path), "utf-8")
        prepared = prepare(read_config(folder / "gateway.toml"))
        stop, heard = asyncio.Event(), Heard()
        running = asyncio.ensure_future(run_gateway(prepared, clock, stop, heard))
        try:
            async with asyncio.timeout(LIMIT_S):
                await heard.until(observed(False))
                assert plant.relay("M01").closed is False
                heard.events.clear()
                now = clock.read()
                await gateways[0].submit(
                    cmd.ApplyPayment(now, "A01", "P1", MoneyNano(200 * YUAN), "cloud", now.at)
                )  # fmt: skip
                await heard.until(observed(True))
        finally:
            stop.set()
            await running
            await line.close()
        return plant, line, gateways[0].state, heard.events

    plant, line, state, events = asyncio.run(run())
    first, second = (line.meters[address].face for address in ADDRESSES.values())
    assert (first.commands, second.commands) == ([0x1A, 0x1C], [])
    assert plant.relay("M01").closed
    for account_id, meter_id in (("A01", "M01"), ("A02", "M02")):
        charged_wh = state.accounts[account_id].recorded.register_wh
        assert plant.meter(meter_id).start_register_wh < charged_wh <= plant.meter(meter_id).register_wh_exact
    assert any(isinstance(event, ev.PaymentApplied) for event in events)


# --- what is wrong is said before anything starts ----------------------------------------------


def refused(folder: Path, config: str = CONFIG) -> str:
    (folder / "gateway.toml").write_text(config.format(address="/dev/ttyUSB0"), "utf-8")
    (folder / "clock.json").write_text("{}", "utf-8")
    with pytest.raises(ConfigError) as fault:
        prepare(read_config(folder / "gateway.toml"))
    return str(fault.value)


@pytest.mark.parametrize(
    ("there", "instead", "said"),
    [
        ('supply_keys = "supply_keys.json"\n', "", "supply_keys: is missing; relay R01"),
        ("supply_keys.json", "no_such.json", "no_such.json: No such file"),
        ('protocol = "dlt645"\nsupply_keys = "supply_keys.json"\n', "", "allowed: a model of protocol modbus"),
        ('protocol = "dlt645"', 'protocol = "modbus"', "supply_keys: belongs to protocol dlt645"),
        ('protocol = "dlt645"', 'protocol = "dlms"', "protocol"),
        ("{address}", "tcp://10.0.0.5:502", "rtu+tcp://host:port"),
    ],
)  # fmt: skip
def test_a_configuration_that_does_not_fit_is_one_sentence(folder: Path, there: str, instead: str, said: str) -> None:
    assert said in refused(folder, CONFIG.replace(there, instead))


def test_passwords_that_others_can_read_are_refused(folder: Path) -> None:
    os.chmod(folder / "supply_keys.json", 0o644)
    assert "its mode is 0644" in refused(folder)


def test_a_line_has_the_customs_of_its_protocol_unless_it_says_otherwise(folder: Path) -> None:
    (folder / "gateway.toml").write_text(CONFIG.format(address="/dev/ttyUSB0"), "utf-8")
    line = read_config(folder / "gateway.toml").lines[0]
    assert (line.baud, line.format, line.response_timeout_ms) == (2400, "8E1", 200)


def test_the_site_book_shows_the_twelve_digits(folder: Path) -> None:
    rows = json.loads((folder / "site.json").read_text("utf-8"))["meters"]
    assert [row["device_id"] for row in rows.values()] == ["320100000147", 147]
    assert [meter.device_id for meter in read_site_book(folder / "site.json").meters] == list(ADDRESSES.values())


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"protocol": "modbus"}, "dlt645_2007 does not speak modbus"),
        ({"relay_boards": [{"relay_board_id": "B1", "device_id": 9}]}, "a relay board speaks Modbus"),
    ],
)
def test_a_street_that_cannot_be_is_refused(line: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        parse_spec(spec_of(**line))
