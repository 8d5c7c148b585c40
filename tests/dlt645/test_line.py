"""The agent's master on a line of DL/T 645 meters: rounds, money, relays, passwords, dead meters, faults."""

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from edge.bus.line import LineMaster, LineSettings, MeterOnLine
from edge.bus.records import OutputResult
from edge.dlt645.authority import Authority
from edge.meters.model import load_model

Run = Callable[[Awaitable[Any]], Any]
FIRST = 320_100_000_147
DAY_S = 86_400


@pytest.fixture
def site(line: SimpleNamespace) -> Any:
    return line.Site()


def test_meters_are_read_with_their_values_and_relays(virtual: Run, site: Any) -> None:
    virtual(site.live(9))
    assert {sample.meter_id for sample in site.samples} == {"m1", "m2", "m3"}
    sample = site.samples[0]
    assert (sample.register_wh, sample.verdict) == (1_234_560, "good")
    assert dict(sample.values) == {
        "energy_import_total": Decimal("1234.56"),
        "voltage_l1": Decimal("220.3"),
        "current_l1": Decimal("5.012"),
        "power_total": Decimal("1102.4"),
    }
    assert {(state.relay_id, state.closed) for state in site.relays} == {("r1", True), ("r2", True), ("r3", True)}
    assert site.master.view().errors == {}


def test_a_first_register_and_a_new_relay_state_are_read_again_from_other_items(virtual: Run, site: Any) -> None:
    virtual(site.live(1.9))
    assert site.port.asked()[:6] == ["00010000", "0001ff00", "04000503", "040005ff", "02010100", "02020100"]
    site.port.sent.clear()
    virtual(site.live(3))
    asked = site.port.asked()
    assert asked[asked.index("04000503") + 1] == "040005ff"


def test_in_a_later_round_one_read_of_the_register_is_enough(virtual: Run, site: Any) -> None:
    virtual(site.live(25))
    asked = site.port.asked()
    assert asked.count("0001ff00") == asked.count("040005ff") == 3
    assert asked.count("00010000") == asked.count("04000503") == 9


def test_a_meter_without_the_blocks_is_confirmed_by_the_same_items(virtual: Run, site: Any) -> None:
    for meter in site.meters:
        meter.has_blocks = False
    virtual(site.live(25))
    asked = site.port.asked()
    assert asked.count("0001ff00") == asked.count("040005ff") == 3
    assert [sample.register_wh for sample in site.samples] == [1_234_560] * 9
    assert len(site.relays) == 9


def test_a_meter_that_is_silent_about_the_blocks_is_confirmed_by_the_same_items_in_the_end(
    virtual: Run, site: Any
) -> None:
    for meter in site.meters:
        meter.ignored = frozenset({"0001ff00", "040005ff"})
    virtual(site.live(200))
    asked = site.port.asked()
    assert asked.count("0001ff00") == asked.count("040005ff") == 9
    assert {sample.meter_id for sample in site.samples} == {"m1", "m2", "m3"}
    assert {(state.relay_id, state.closed) for state in site.relays} == {("r1", True), ("r2", True), ("r3", True)}


@pytest.mark.parametrize(
    ("hundredths", "verdict"), [(123_000, "confirmed_falling"), (999_999, "confirmed_jump"), (123_458, "good")]
)
def test_a_register_that_falls_or_jumps_is_passed_on_only_as_such(
    virtual: Run, site: Any, hundredths: int, verdict: str
) -> None:
    async def changed() -> None:
        site.meters[0].energy_hundredths_kwh = hundredths

    virtual(site.live(9))
    virtual(site.live(12, changed()))
    newest = [sample for sample in site.samples if sample.meter_id == "m1"][-2]
    assert (newest.register_wh, newest.verdict) == (10 * hundredths, verdict)


def test_digits_that_are_none_are_no_register(virtual: Run, site: Any) -> None:
    site.port.choose_fault = lambda sent: "not_decimal"
    virtual(site.live(9))
    assert site.samples == site.relays == []
    assert site.master.view().errors["not_a_number"] > 0


def test_an_item_that_a_meter_does_not_have_is_asked_for_once(virtual: Run, line: SimpleNamespace) -> None:
    site = line.Site()
    three_phases = load_model("dlt645_2007_3p")
    site.master = LineMaster(
        LineSettings("line1", "/dev/ttyUSB0", 2400, "8E1", 700, protocol="dlt645"),
        [MeterOnLine("m1", FIRST, three_phases, 14_000, points=three_phases.round_points)],
        [], site.port, line.LoopClock(), site.samples.append, site.relays.append,
    )  # fmt: skip
    virtual(site.live(35))
    assert len(site.samples) == 4
    assert site.port.asked().count("02010300") == 1
    assert "voltage_l1" in site.samples[-1].values
    assert "voltage_l3" not in site.samples[-1].values
    assert site.master.view().errors == {"exception_no_such_data": 4}


# --- relays ----------------------------------------------------------------------------------


def test_a_relay_is_cut_and_closed_and_read_back(virtual: Run, site: Any) -> None:
    async def switched() -> list[OutputResult]:
        return [await site.master.set_output("r1", False), await site.master.set_output("r1", True)]

    assert virtual(site.live(20, switched())) == [OutputResult(True, False, None), OutputResult(True, True, None)]
    assert site.meters[0].commands == [0x1A, 0x1C]
    assert [meter.commands for meter in site.meters[1:]] == [[], []]
    command = site.port.asked().index("control 1c")
    assert site.port.asked()[command - 2 : command + 2] == ["04000102", "04000101", "control 1c", "04000503"]


def test_a_command_is_worth_an_hour_on_the_meters_own_clock_however_wrong_that_is(virtual: Run, site: Any) -> None:
    site.meters[0].clock = site.meters[0].clock.replace(year=2001, month=12, day=31, hour=23, minute=59)
    assert virtual(site.live(9, site.master.set_output("r1", False))) == OutputResult(True, False, None)
    sent = next(data for _, data in site.port.sent if data[12] == 0x1C)
    # 2001-12-31 23:59:07 and an hour: ss mm hh DD MM YY
    assert bytes((byte - 0x33) % 256 for byte in sent[-8:-2]) == bytes.fromhex("07 59 00 01 01 02")


def test_a_relay_that_does_not_move_is_not_obeyed_whatever_its_meter_answered(virtual: Run, site: Any) -> None:
    site.meters[0].obeys = False
    assert virtual(site.live(9, site.master.set_output("r1", False))) == OutputResult(False, True, "not_obeyed")
    assert site.meters[0].commands == [0x1A]


def test_the_relay_of_a_protected_customer_is_not_opened(virtual: Run, line: SimpleNamespace) -> None:
    site = line.Site(protected=frozenset({"r1"}))
    result = virtual(site.live(9, site.master.set_output("r1", False)))
    assert (result.confirmed, result.reason) == (False, "protected")
    assert site.meters[0].commands == []


def test_a_meter_that_refused_the_password_is_left_alone_for_a_day(virtual: Run, line: SimpleNamespace) -> None:
    site = line.Site(authority=Authority(2, "654321", "00000001"), poll_interval_ms=600_000)

    async def tried() -> list[OutputResult]:
        results = [await site.master.set_output("r1", False) for _ in range(3)]
        await asyncio.sleep(DAY_S)
        return [*results, await site.master.set_output("r1", False)]

    results = virtual(site.live(90_000, tried()))
    assert {(result.confirmed, result.reason) for result in results} == {(False, "exception_not_authorised")}
    assert site.port.asked().count("control 1c") == 2


def test_a_meter_whose_clock_shows_no_moment_is_not_commanded(virtual: Run, site: Any) -> None:
    site.port.choose_fault = lambda sent: "not_decimal" if sent[14:18] == bytes.fromhex("34 34 33 37") else "none"
    assert virtual(site.live(9, site.master.set_output("r1", False))) == OutputResult(False, None, "meter_clock")
    assert site.meters[0].commands == []


# --- trouble ---------------------------------------------------------------------------------


def test_a_dead_meter_is_left_alone_more_and_more_and_found_again(virtual: Run, site: Any) -> None:
    site.meters[1].silent = True
    virtual(site.live(120))
    tries = sum(data[5:11] == site.meters[1].own_bytes for _, data in site.port.sent)
    assert tries <= 5
    assert site.master.view().of_meter("m2").silent
    assert site.master.view().of_meter("m2").errors == {"timeout": tries}
    site.meters[1].silent = False
    virtual(site.live(90))
    assert not site.master.view().of_meter("m2").silent
    assert site.samples[-1].register_wh == 1_234_560
