"""The whole master of a line on a virtual event loop: rounds, commands, trouble, dead devices, lost ports."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from edge.agent.actuation import Actuation, RelayFacts
from edge.bus.line import LineMaster, LineSettings, MeterOnLine, MeterSample, OutputResult, RelayOnLine, RelayState
from edge.meters.model import load_model

ENERGY, BOARD_ID = 0x0048, 9
POWER_W_MAX = 14_000
Run = Callable[[Awaitable[Any]], Any]


@dataclass
class Site:
    """Two SDM120 at 1 and 2, a DDS238 with its own relay at 3, a relay board at 9."""

    wire: SimpleNamespace
    speed: int = 1
    protected: frozenset[str] = frozenset()
    settings: LineSettings = field(
        default_factory=lambda: LineSettings("line1", "/dev/ttyUSB0", poll_interval_ms=1_000, dead_backoff_s_max=8)
    )
    samples: list[MeterSample] = field(default_factory=list)
    relays: list[RelayState] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.slaves = {device_id: self.wire.Slave() for device_id in (1, 2, 3, BOARD_ID)}
        for device_id in (1, 2):
            self.slaves[device_id].hold_float(4, ENERGY, 100.0)
        self.slaves[3].registers.update({(3, 10): 0, (3, 11): 10_000, (3, 26): 1})
        self.slaves[BOARD_ID].registers.update({(1, coil): 1 for coil in range(8)})
        self.port = self.wire.FakePort(self.slaves)
        sdm120, dds238, board = map(load_model, ("eastron_sdm120", "hiking_dds238_2", "relay_board_8ch"))
        self.master = LineMaster(
            self.settings,
            [
                MeterOnLine("m1", 1, sdm120, POWER_W_MAX, points=("voltage_l1", "power_total")),
                MeterOnLine("m2", 2, sdm120, POWER_W_MAX, points=()),
                MeterOnLine("m3", 3, dds238, POWER_W_MAX),
            ],
            [
                RelayOnLine("r1", BOARD_ID, board, 0),
                RelayOnLine("r2", BOARD_ID, board, 5),
                RelayOnLine("r3", 3, dds238),
            ],
            self.port,
            self.wire.LoopClock(self.speed),
            self.samples.append,
            self.relays.append,
            self.protected,
        )

    async def __aenter__(self) -> "Site":
        self.task = asyncio.ensure_future(self.master.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    def of(self, meter_id: str) -> list[MeterSample]:
        return [sample for sample in self.samples if sample.meter_id == meter_id]

    def asked(self, device_id: int) -> list[bytes]:
        return [frame for _, frame in self.port.sent if frame[0] == device_id]


async def after(seconds: float) -> None:
    await asyncio.sleep(seconds)


def test_every_meter_and_relay_is_read_once_a_round(wire: SimpleNamespace, virtual: Run) -> None:
    async def story() -> None:
        async with Site(wire) as site:
            await after(4.5)
            assert [len(site.of(meter)) for meter in ("m1", "m2", "m3")] == [5, 5, 5]
            assert {sample.verdict for sample in site.samples} == {"good"}
            assert [sample.register_wh for sample in site.samples[:3]] == [100_000, 100_000, 100_000]
            assert [state.relay_id for state in site.relays[:3]] == ["r1", "r2", "r3"]
            assert len(site.relays) == 15
            assert all(state.closed for state in site.relays)

    virtual(story())


def test_a_sample_carries_exact_values_and_the_time_of_the_money_register(wire: SimpleNamespace, virtual: Run) -> None:
    async def story() -> None:
        async with Site(wire) as site:
            site.slaves[1].hold_float(4, 0, 230.2)
            await after(2.0)
            first, second = site.of("m1")[:2]
            assert second.values["voltage_l1"] == Decimal("230.1999969482421875")
            assert second.values["energy_import_total"] == 100
            assert set(second.values) == {"voltage_l1", "power_total", "energy_import_total"}
            assert second.clock.elapsed_ms - first.clock.elapsed_ms == pytest.approx(1_000, abs=100)

    virtual(story())


def test_the_first_reading_of_each_meter_is_confirmed_by_a_read_of_another_length(
    wire: SimpleNamespace, virtual: Run
) -> None:
    async def story() -> None:
        async with Site(wire) as site:
            await after(0.9)
            for device_id in (1, 2, 3):
                lengths = [frame[4:6] for frame in site.asked(device_id)]
                assert len(lengths) >= 2
                assert lengths[0] != lengths[1]
            before = len(site.port.sent)
            await after(1.0)
            assert len(site.port.sent) - before == 5  # board, two blocks of m1, m2, m3 with its relay

    virtual(story())


def test_requests_to_the_line_keep_the_gap(wire: SimpleNamespace, virtual: Run) -> None:
    async def story() -> None:
        async with Site(wire) as site:
            await after(5.0)
            times = [at for at, _ in site.port.sent]
            answered = site.port.delay_s
            gaps = [later - earlier - answered for earlier, later in pairwise(times)]
            assert min(gaps) >= 3.5 * 11 / 9600 - 1e-9

    virtual(story())


def test_a_command_goes_before_the_next_read_and_is_read_back(wire: SimpleNamespace, virtual: Run) -> None:
    async def story() -> None:
        async with Site(wire) as site:
            await after(1.01)  # a round has just begun
            before = len(site.port.sent)
            result = await site.master.set_output("r2", False)
            assert result == OutputResult(True, False, None)
            write, read_back = [frame for _, frame in site.port.sent[before : before + 2]]
            assert write.hex(" ").startswith("09 05 00 05 00 00")
            assert read_back.hex(" ").startswith("09 01 00 05 00 01")
            assert site.slaves[BOARD_ID].registers[1, 5] == 0
            assert (site.relays[-1].relay_id, site.relays[-1].closed) == ("r2", False)

    virtual(story())


def test_the_meters_own_relay_is_written_by_function_16_and_read_back(wire: SimpleNamespace, virtual: Run) -> None:
    async def story() -> None:
        async with Site(wire) as site:
            await after(0.9)
            assert await site.master.set_output("r3", False) == OutputResult(True, False, None)
            assert site.slaves[3].registers[3, 26] == 0
            assert await site.master.set_output("r3", True) == OutputResult(True, True, None)
            assert site.slaves[3].registers[3, 26] == 1

    virtual(story())


def test_a_state_that_was_just_read_back_needs_no_traffic(wire: SimpleNamespace, virtual: Run) -> None:
    async def story() -> None:
        async with Site(wire) as site:
            await after(0.9)
            before = len(site.port.sent)
            assert await site.master.set_output("r1", True) == OutputResult(True, True, None)
            assert len(site.port.sent) == before

    virtual(story())


def test_a_relay_moved_by_hand_is_seen_within_a_round_and_commanded_again(wire: SimpleNamespace, virtual: Run) -> None:
    async def story() -> None:
        async with Site(wire) as site:
            await after(0.9)
            site.slaves[BOARD_ID].registers[1, 0] = 0
            await after(1.0)
            assert [state.closed for state in site.relays if state.relay_id == "r1"][-1] is False
            assert await site.master.set_output("r1", True) == OutputResult(True, True, None)
            assert site.slaves[BOARD_ID].registers[1, 0] == 1

    virtual(story())


def test_an_old_answer_that_shows_another_state_is_not_believed(wire: SimpleNamespace, virtual: Run) -> None:
    """RTU numbers no request: an old answer of the same length was believed until the next round."""

    async def story() -> None:
        async with Site(wire) as site:
            await after(1.5)
            told = len(site.relays)
            board, sent = site.slaves[BOARD_ID], len(site.asked(BOARD_ID))
            board.registers[(1, 0)] = 0  # what the old answer says
            while len(site.asked(BOARD_ID)) == sent:
                await after(0.001)
            board.registers[(1, 0)] = 1
            await after(1.5)
            assert len(site.relays) > told
            assert all(state.closed for state in site.relays)
            assert site.master.view().errors["relay_state_unknown"] == 1

    virtual(story())


def test_a_relay_that_confirms_and_does_nothing_is_not_believed(wire: SimpleNamespace, virtual: Run) -> None:
    async def story() -> None:
        async with Site(wire) as site:
            await after(0.9)
            site.slaves[BOARD_ID].obeys = False
            assert await site.master.set_output("r1", False) == OutputResult(False, True, "not_obeyed")

    virtual(story())


@pytest.mark.parametrize(
    "fault", ["echo_of_request", "silence", "crc_error", "wrong_unit", "truncated", "noise_before"]
)
def test_no_answer_worth_the_name_leaves_a_command_unconfirmed(wire: SimpleNamespace, virtual: Run, fault: str) -> None:
    async def story() -> None:
        async with Site(wire) as site:
            await after(0.9)
            site.slaves[BOARD_ID].fault = fault
            result = await site.master.set_output("r1", False)
            assert not result.confirmed
            assert result.closed is None
            assert result.reason is not None

    virtual(story())


def test_a_command_whose_confirmation_was_lost_is_still_read_back(wire: SimpleNamespace, virtual: Run) -> None:
    async def story() -> None:
        async with Site(wire) as site:
            await after(0.9)
            board = site.slaves[BOARD_ID]
            answer = board.answer
            board.answer = lambda sent: [] if answer(sent) and sent[1] == 5 else answer(sent)
            assert await site.master.set_output("r1", False) == OutputResult(True, False, None)

    virtual(story())


def test_opening_a_protected_relay_is_refused_and_closing_it_is_not(wire: SimpleNamespace, virtual: Run) -> None:
    async def story() -> None:
        async with Site(wire, protected=frozenset({"r1"})) as site:
            await after(0.9)
            assert await site.master.set_output("r1", False) == OutputResult(False, True, "protected")
            site.slaves[BOARD_ID].registers[1, 0] = 0
            await after(1.0)
            assert await site.master.set_output("r1", False) == OutputResult(False, False, "protected")
            assert await site.master.set_output("r1", True) == OutputResult(True, True, None)
            assert not [frame for frame in site.asked(BOARD_ID) if frame[1] == 5 and frame[4:6] == b"\x00\x00"]

    virtual(story())


def test_a_newer_wish_supersedes_one_that_has_not_begun(wire: SimpleNamespace, virtual: Run) -> None:
    async def story() -> None:
        async with Site(wire) as site:
            await after(1.01)
            results = await asyncio.gather(
                site.master.set_output("r1", False),
                site.master.set_output("r2", False),
                site.master.set_output("r1", True),
            )
            assert [result.reason for result in results] == ["superseded", None, None]
            assert site.slaves[BOARD_ID].registers[1, 0] == 1
            assert site.slaves[BOARD_ID].registers[1, 5] == 0

    virtual(story())


def test_a_cut_that_waits_behind_others_is_not_sent_once_the_supply_is_wanted_again(
    wire: SimpleNamespace, virtual: Run
) -> None:
    """Paid while the cut waits in the line's queue: the newest wish wins before the frame goes out."""

    async def observed(_account_id: str, _connected: bool) -> None:
        """Nobody keeps it here."""

    async def story() -> None:
        async with Site(wire) as site:
            await after(1.01)
            relays = {name: RelayFacts(name, name, site.master, False) for name in ("r1", "r2")}
            actuation = Actuation(relays, observed, observed)  # type: ignore[arg-type]
            for state in site.relays:
                actuation.on_relay(state)
            for name in relays:
                await actuation.want(name, False)
            await asyncio.sleep(0)
            await actuation.want("r2", True)
            await after(2.0)
            opened = [frame[2:4] for frame in site.asked(BOARD_ID) if frame[1] == 5 and frame[4:6] == b"\x00\x00"]
            assert opened == [b"\x00\x00"]  # r1 alone
            assert site.slaves[BOARD_ID].registers[1, 0] == 0
            assert site.slaves[BOARD_ID].registers[1, 5] == 1
            await actuation.want("r2", False)
            await after(2.0)
            assert site.slaves[BOARD_ID].registers[1, 5] == 0  # and a wish after that is a wish like any other

    virtual(story())


def test_an_answer_that_a_stalled_process_has_not_read_yet_is_no_timeout(wire: SimpleNamespace, virtual: Run) -> None:
    async def story() -> None:
        site = Site(wire)
        deliver, loop = site.port.deliver, asyncio.get_running_loop()
        site.port.deliver = lambda data: loop.call_soon(deliver, data)  # seen one turn of the loop late
        site.port.delay_s = 8 * 11 / 9600 + 0.3  # to the moment when the timeout is due
        async with site:
            await after(8.0)
            assert site.master.view().errors == {}
            assert site.of("m1")

    virtual(story())


def test_a_falling_register_is_passed_on_with_its_verdict_once_two_reads_agree(
    wire: SimpleNamespace, virtual: Run
) -> None:
    async def story() -> None:
        async with Site(wire) as site:
            await after(1.5)
            site.slaves[1].hold_float(4, ENERGY, 99.0)
            await after(1.0)
            assert (site.of("m1")[-1].verdict, site.of("m1")[-1].register_wh) == ("confirmed_falling", 99_000)

    virtual(story())


def test_a_jump_is_passed_on_with_its_verdict_once_two_reads_agree(wire: SimpleNamespace, virtual: Run) -> None:
    async def story() -> None:
        async with Site(wire) as site:
            await after(1.5)
            site.slaves[1].hold_float(4, ENERGY, 5_000.0)
            await after(1.0)
            assert (site.of("m1")[-1].verdict, site.of("m1")[-1].register_wh) == ("confirmed_jump", 5_000_000)

    virtual(story())


def test_a_register_that_is_implausible_only_once_is_rejected_and_counted(wire: SimpleNamespace, virtual: Run) -> None:
    async def story() -> None:
        async with Site(wire) as site:
            await after(1.5)
            meter = site.slaves[1]
            answer = meter.answer

            def once(sent: bytes) -> Any:
                parts = answer(sent)
                meter.hold_float(4, ENERGY, 100.0)
                return parts

            meter.answer = once
            meter.hold_float(4, ENERGY, 7_777.0)
            samples = len(site.of("m1"))
            await after(1.0)
            assert len(site.of("m1")) == samples
            assert site.master.view().of_meter("m1").readings_rejected == 1
            await after(1.0)
            assert (site.of("m1")[-1].verdict, site.of("m1")[-1].register_wh) == ("good", 100_000)

    virtual(story())


def test_load_within_the_breaker_is_good_at_any_speed_of_the_accounting_clock(
    wire: SimpleNamespace, virtual: Run
) -> None:
    async def story() -> None:
        async with Site(wire, speed=8640) as site:
            for round_number in range(1, 8):
                site.slaves[1].hold_float(4, ENERGY, 100.0 + 24.0 * round_number)  # 10 kW for 2.4 hours a round
                await after(1.0)
            assert {sample.verdict for sample in site.of("m1")} == {"good"}

    virtual(story())


def test_a_register_that_is_no_number_is_rejected_and_the_relays_are_read_all_the_same(
    wire: SimpleNamespace, virtual: Run
) -> None:
    async def story() -> None:
        async with Site(wire) as site:
            site.slaves[1].registers.update({(4, ENERGY): 0x7FC0, (4, ENERGY + 1): 0})
            await after(2.5)
            status = site.master.view().of_meter("m1")
            assert site.of("m1") == []
            assert status.readings_rejected == 3
            assert status.errors["not_a_number"] == 3
            assert len(site.of("m2")) == 3

    virtual(story())


def test_a_dead_meter_does_not_hold_the_others(wire: SimpleNamespace, virtual: Run) -> None:
    async def story() -> None:
        async with Site(wire) as site:
            await after(2.5)
            dead = site.slaves.pop(1)
            before = len(site.of("m2"))
            await after(100.0)
            assert len(site.of("m2")) - before >= 95
            status = site.master.view().of_meter("m1")
            assert status.silent
            assert site.master.pulse().silent == {status.device_id: status.last_error}
            assert status.last_error == "timeout"
            assert status.errors["timeout"] <= 20  # backed off to one try in 8 seconds
            site.slaves[1] = dead
            samples = len(site.of("m1"))
            await after(9.0)
            assert len(site.of("m1")) > samples
            assert not site.master.view().of_meter("m1").silent
            assert site.master.pulse().silent == {}

    virtual(story())


def test_a_meter_that_comes_back_is_confirmed_before_it_is_believed(wire: SimpleNamespace, virtual: Run) -> None:
    async def story() -> None:
        async with Site(wire) as site:
            await after(1.5)
            meter = site.slaves.pop(2)
            await after(1.0)
            site.slaves[2] = meter
            asked = len(site.asked(2))
            await after(4.0)
            lengths = [frame[4:6] for frame in site.asked(2)[asked:]]
            assert lengths[0] != lengths[1]
            assert site.of("m2")[-1].verdict == "good"

    virtual(story())


def test_a_reading_asked_for_comes_next_whatever_the_turn(wire: SimpleNamespace, virtual: Run) -> None:
    async def story() -> None:
        async with Site(wire) as site:
            await after(1.5)
            before = len(site.of("m2"))
            site.master.request_reading("m2")
            await after(0.1)
            assert len(site.of("m2")) == before + 1

    virtual(story())


def test_a_hole_is_found_in_the_first_visit_and_then_read_around(wire: SimpleNamespace, virtual: Run) -> None:
    async def story() -> None:
        async with Site(wire) as site:
            site.slaves[3].holes = {(3, address) for address in range(2, 8)}
            await after(0.9)
            assert len(site.of("m3")) == 1
            status = site.master.view().of_meter("m3")
            assert status.errors == {"exception_2": 2}  # the hole before the relay is wider, so it is tried first
            assert set(site.of("m3")[0].values) >= {"energy_total", "energy_import_total", "frequency"}
            await after(5.0)
            assert site.master.view().of_meter("m3").errors == {"exception_2": 2}

    virtual(story())


def test_a_point_the_meter_does_not_have_is_dropped_and_the_rest_is_read(wire: SimpleNamespace, virtual: Run) -> None:
    async def story() -> None:
        async with Site(wire) as site:
            site.slaves[3].holes = {(3, 16)}
            await after(3.5)
            assert "power_factor_total" not in site.of("m3")[-1].values
            assert {"frequency", "voltage_l1", "energy_import_total"} <= set(site.of("m3")[-1].values)
            errors = site.master.view().of_meter("m3").errors["exception_2"]
            await after(5.0)
            assert site.master.view().of_meter("m3").errors["exception_2"] == errors

    virtual(story())


def test_a_missing_money_register_is_asked_for_again_and_never_guessed(wire: SimpleNamespace, virtual: Run) -> None:
    async def story() -> None:
        async with Site(wire) as site:
            site.slaves[2].holes = {(4, ENERGY)}
            await after(5.5)
            assert site.of("m2") == []
            site.slaves[2].holes = set()
            await after(1.0)
            assert site.of("m2")[-1].register_wh == 100_000

    virtual(story())


def test_a_lost_port_is_reopened_and_readings_go_on(wire: SimpleNamespace, virtual: Run) -> None:
    async def story() -> None:
        async with Site(wire) as site:
            await after(1.5)
            site.port.lose("/dev/ttyUSB0: the device is gone")
            await after(0.1)
            view = site.master.view()
            assert (view.open, view.last_error) == (False, "/dev/ttyUSB0: the device is gone")
            assert await site.master.set_output("r1", False) == OutputResult(False, None, "line_closed")
            samples = len(site.samples)
            await after(3.0)
            assert site.port.opened == 2
            assert site.master.view().open
            assert len(site.samples) > samples

    virtual(story())


def test_a_command_under_way_when_the_port_is_lost_is_answered(wire: SimpleNamespace, virtual: Run) -> None:
    async def story() -> None:
        async with Site(wire) as site:
            await after(1.5)
            waiting = [asyncio.ensure_future(site.master.set_output(relay, False)) for relay in ("r1", "r2")]
            await after(0.001)
            site.port.lose("gone")
            assert await asyncio.gather(*waiting) == [OutputResult(False, None, "line_closed")] * 2

    virtual(story())


def test_a_port_that_cannot_be_opened_is_tried_again_with_back_off(wire: SimpleNamespace, virtual: Run) -> None:
    async def story() -> None:
        site = Site(wire)
        site.port.refuse_open = "/dev/ttyUSB0: there is no such device"
        async with site:
            await after(600.0)
            assert site.master.view().last_error == "/dev/ttyUSB0: there is no such device"
            site.port.refuse_open = None
            await after(30.0)
            assert site.master.view().open

    virtual(story())


def test_a_bug_in_a_callback_ends_the_run_with_its_error(wire: SimpleNamespace, virtual: Run) -> None:
    async def story() -> None:
        site = Site(wire)
        site.samples = []

        def broken(sample: MeterSample) -> None:
            raise RuntimeError("a bug")

        site.master._work._on_sample = broken
        async with site:
            with pytest.raises(RuntimeError, match="a bug"):
                await asyncio.wait_for(site.task, 5.0)

    virtual(story())


def test_the_view_counts_polls_errors_and_the_time_around(wire: SimpleNamespace, virtual: Run) -> None:
    async def story() -> None:
        async with Site(wire) as site:
            await after(2.5)
            site.slaves[2].fault = "crc_error"
            await after(1.2)
            view = site.master.view()
            assert view.open
            assert view.of_meter("m2").errors == {"crc": 1}
            assert view.of_meter("m2").last_error == "crc"
            assert view.of_meter("m2").last_ok is not None
            assert not view.of_meter("m2").silent
            assert view.polls_failed == 1
            assert view.polls_ok == sum(device.polls_ok for device in view.devices.values())
            assert view.errors == {"crc": 1}
            assert view.cycle_ms is not None
            assert 100 < view.cycle_ms < 1_000
            assert view.devices[BOARD_ID].relay_ids == ("r1", "r2")

    virtual(story())


def test_two_meters_with_one_device_id_are_refused(wire: SimpleNamespace) -> None:
    model = load_model("eastron_sdm120")
    meters = [MeterOnLine("m1", 1, model, POWER_W_MAX), MeterOnLine("m2", 1, model, POWER_W_MAX)]
    with pytest.raises(ValueError, match="meters m1 and m2 both have device id 1"):
        LineMaster(LineSettings("line1", "/dev/x"), meters, [], wire.FakePort({}), wire.LoopClock(), print, print)


def test_one_relay_with_two_owners_is_refused(wire: SimpleNamespace) -> None:
    board = load_model("relay_board_8ch")
    relays = [RelayOnLine("r1", 9, board, 3), RelayOnLine("r2", 9, board, 3)]
    with pytest.raises(ValueError, match="relays r1 and r2 are both channel 3 of device id 9"):
        LineMaster(LineSettings("line1", "/dev/x"), [], relays, wire.FakePort({}), wire.LoopClock(), print, print)


@pytest.mark.parametrize("device_id", [0, 248])
def test_a_device_id_that_does_not_exist_is_refused(wire: SimpleNamespace, device_id: int) -> None:
    relay = RelayOnLine("r1", device_id, load_model("relay_board_8ch"), 0)
    with pytest.raises(ValueError, match=f"device id {device_id}, allowed: 1..247"):
        LineMaster(LineSettings("line1", "/dev/x"), [], [relay], wire.FakePort({}), wire.LoopClock(), print, print)


def test_a_relay_channel_that_does_not_exist_is_refused(wire: SimpleNamespace) -> None:
    relay = RelayOnLine("r9", 9, load_model("relay_board_8ch"), 8)
    with pytest.raises(ValueError, match="relay r9: model relay_board_8ch has 8 relay channels, channel 8"):
        LineMaster(LineSettings("line1", "/dev/x"), [], [relay], wire.FakePort({}), wire.LoopClock(), print, print)


def test_a_point_that_does_not_exist_is_refused(wire: SimpleNamespace) -> None:
    meter = MeterOnLine("m1", 1, load_model("eastron_sdm120"), POWER_W_MAX, points=("voltage_l3",))
    with pytest.raises(ValueError, match="model eastron_sdm120 has no point 'voltage_l3'; its points: voltage_l1"):
        LineMaster(LineSettings("line1", "/dev/x"), [meter], [], wire.FakePort({}), wire.LoopClock(), print, print)
