"""How long a device is waited for, and what is counted of its answering times and of the use of the wire."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from edge.bus.answer_times import BOUNDS_S, LEARNT_AFTER, SHORTEST_S, AnswerTimes, WaitLimits, answer_view
from edge.bus.frame import RTU, RTU_ECHOED
from edge.bus.line import LineMaster, LineSettings, MeterOnLine, MeterSample, RelayOnLine
from edge.bus.transaction import Timing, Transaction
from edge.bus.wire_use import WireUse
from edge.meters.model import load_model

TIMING = Timing.of_serial(9_600, 0.3, 0.55, 5.0)
ENERGY = RTU.read(1, 4, 0x48, 2)
ANSWER_BYTES = 9
Run = Callable[[Awaitable[Any]], Any]


def limits(documented_ms: int | None = None, over_network: bool = False, timing: Timing = TIMING) -> WaitLimits:
    return WaitLimits.of_device(timing, documented_ms, over_network)


def heard(times: AnswerTimes, answer_s: float, answers: int = LEARNT_AFTER) -> AnswerTimes:
    for _ in range(answers):
        times.answered(answer_s)
    return times


def wait_ms(times: AnswerTimes, switching: bool = False) -> int:
    return round(times.wait_s(ENERGY, switching) * 1000)


def test_an_unknown_device_is_waited_for_as_long_as_the_line_says() -> None:
    assert wait_ms(AnswerTimes(limits())) == 300
    assert wait_ms(heard(AnswerTimes(limits()), 0.040, LEARNT_AFTER - 1)) == 300


def test_a_known_device_is_waited_for_twice_its_slowest_answer_and_the_answers_own_time_on_the_wire() -> None:
    times = heard(AnswerTimes(limits()), 0.040)
    assert times.wait_s(ENERGY, False) == pytest.approx(0.080 + 0.020 + ANSWER_BYTES * TIMING.byte_s)
    times.answered(0.060)
    assert times.wait_s(ENERGY, False) == pytest.approx(0.120 + 0.020 + ANSWER_BYTES * TIMING.byte_s)
    times.answered(0.250)
    assert wait_ms(times) == 300


def test_a_fast_device_is_given_the_shortest_wait_that_a_busy_machine_allows() -> None:
    fast = Timing.of_serial(115_200, 0.3, 0.55, 5.0)
    assert heard(AnswerTimes(limits(timing=fast)), 0.002).wait_s(ENERGY, False) == SHORTEST_S


@pytest.mark.parametrize("documented_ms", [500, 1_000])
def test_a_device_is_never_waited_for_shorter_than_its_model_documents(documented_ms: int) -> None:
    times = AnswerTimes(limits(documented_ms))
    assert wait_ms(times) == round(1.1 * documented_ms)
    assert wait_ms(heard(times, 0.020)) == round(1.1 * documented_ms)


def test_a_documented_slowest_answer_below_the_lines_time_is_a_floor_for_what_is_learnt() -> None:
    times = AnswerTimes(limits(200))
    assert wait_ms(times) == 300
    assert wait_ms(heard(times, 0.020)) == 220


def test_a_write_is_waited_for_as_if_nothing_had_been_learnt() -> None:
    assert wait_ms(heard(AnswerTimes(limits()), 0.020), switching=True) == 300


@pytest.mark.parametrize("reason", ["timeout", "late_reply", "crc", "truncated", "wrong_unit"])
def test_trouble_forgets_what_was_learnt(reason: str) -> None:
    times = heard(AnswerTimes(limits()), 0.020)
    assert wait_ms(times) < 300
    times.failed(reason)
    assert wait_ms(times) >= 300
    heard(times, 0.020, LEARNT_AFTER - 1)
    assert wait_ms(times) >= 300
    assert wait_ms(heard(times, 0.020, 1)) < 300


def test_answers_that_come_late_lengthen_the_wait_until_the_device_is_heard() -> None:
    times = AnswerTimes(limits())
    times.failed("late_reply")
    assert wait_ms(times) == 550
    for _ in range(20):
        times.failed("late_reply")
    assert wait_ms(times) == 550
    assert wait_ms(heard(times, 0.400)) == 550
    times.failed("timeout")
    assert wait_ms(heard(times, 0.020)) < 300


def test_wait_and_drain_together_outlast_the_slowest_answer_however_fast_the_device_seems() -> None:
    for documented_ms in (None, 40, 300, 500):
        for drain_s in (0.05, 0.2, 0.4, 0.55):
            timing = Timing.of_serial(9_600, 0.6, drain_s, 5.0)
            times = heard(AnswerTimes(limits(documented_ms, timing=timing)), 0.001)
            slowest_s = 0.5 if documented_ms is None else documented_ms / 1000
            assert times.wait_s(ENERGY, False) + drain_s >= slowest_s


def test_on_a_network_nothing_is_shortened() -> None:
    assert wait_ms(heard(AnswerTimes(limits(over_network=True)), 0.002)) == 300


def test_percentiles_are_upper_ends_of_the_classes_they_fall_in_and_the_slowest_is_exact() -> None:
    times = heard(AnswerTimes(limits()), 0.0185, 90)
    heard(times, 0.035, 9)
    heard(times, 0.2345, 1)
    view = answer_view([times])
    assert (view.answers, view.p50_ms, view.p95_ms, view.p99_ms, view.slowest_ms) == (100, 20, 40, 40, 235)
    both = answer_view([times, heard(AnswerTimes(limits()), 9.0, 100)])
    assert (both.answers, both.p50_ms, both.p95_ms, both.slowest_ms) == (200, 250, 9000, 9000)


def test_a_percentile_is_never_above_the_slowest_answer() -> None:
    view = answer_view([heard(AnswerTimes(limits()), 0.021, 3)])
    assert (view.p50_ms, view.p99_ms, view.slowest_ms) == (21, 21, 21)


def test_without_an_answer_there_is_no_percentile() -> None:
    assert answer_view([AnswerTimes(limits())]).p50_ms is None
    assert answer_view([]).slowest_ms is None


def test_the_classes_rise() -> None:
    assert list(BOUNDS_S) == sorted(set(BOUNDS_S))


# --- measured by the transaction --------------------------------------------------------------


def converse(framing: Any, parts: list[tuple[float, bytes]]) -> float | None:
    """The answering time of one read whose answer comes in these parts, seconds from the end of the request."""
    transaction = Transaction(framing, TIMING)
    transaction.submit(ENERGY, 10.0)
    asked_until = 10.0 + len(transaction.outgoing()) * TIMING.byte_s
    outcome = None
    for after_s, part in parts:
        outcome = transaction.receive(part, asked_until + after_s)
    assert outcome is not None
    assert outcome.reason is None
    return outcome.answer_s


def test_the_answering_time_is_measured_from_the_end_of_the_request_less_the_answers_own_bytes(
    wire: SimpleNamespace,
) -> None:
    answer = wire.Slave().good(ENERGY.frame)
    whole_s = 0.030 + len(answer) * TIMING.byte_s
    assert converse(RTU, [(whole_s, answer)]) == pytest.approx(0.030)
    assert converse(RTU, [(0.030, answer[:1]), (whole_s, answer[1:])]) == pytest.approx(0.030)
    assert converse(RTU, [(0.0, answer)]) == 0.0


def test_an_echo_is_no_part_of_the_answering_time(wire: SimpleNamespace) -> None:
    answer = wire.Slave().good(ENERGY.frame)
    echoed = [(0.0, ENERGY.frame), (0.030 + len(answer) * TIMING.byte_s, answer)]
    assert converse(RTU_ECHOED, echoed) == pytest.approx(0.030)


def test_a_refused_answer_has_no_answering_time(wire: SimpleNamespace) -> None:
    transaction = Transaction(RTU, TIMING)
    transaction.submit(ENERGY, 10.0)
    transaction.receive(wire.Slave().good(ENERGY.frame)[:-1] + b"\0", 10.05)
    outcome = transaction.handle_timer(11.0)
    assert outcome is not None
    assert (outcome.reason, outcome.answer_s) == ("crc", None)


def test_the_wait_that_is_given_with_a_request_is_that_requests_own() -> None:
    transaction = Transaction(RTU, TIMING)
    asked_s = len(ENERGY.frame) * TIMING.byte_s
    transaction.submit(ENERGY, 10.0, wait_s=0.080)
    assert transaction.get_timer() == pytest.approx(10.0 + asked_s + 0.080)
    outcome = None
    while outcome is None:
        outcome = transaction.handle_timer(transaction.get_timer() or 0.0)
    assert outcome.reason == "timeout"
    transaction.submit(ENERGY, 12.0)
    assert transaction.get_timer() == pytest.approx(12.0 + asked_s + 0.300)


# --- on a line ----------------------------------------------------------------------------------


async def after(seconds: float) -> None:
    await asyncio.sleep(seconds)


class Line:
    """One meter at 1 and a board at 9 on a virtual loop."""

    def __init__(self, wire: SimpleNamespace, model: str, latency_s: float, **settings: Any) -> None:
        plain: dict[str, Any] = {"poll_interval_ms": 100, "dead_backoff_s_max": 2}
        self.settings = LineSettings("line1", "/dev/ttyUSB0", **(plain | settings))
        self.slaves = {1: wire.Slave(), 9: wire.Slave()}
        meter = load_model(model)
        money = meter.points[meter.money_point or ""]
        for word in range(money.address, money.address + money.count):
            self.slaves[1].registers[money.function_code, word] = 0
        self.slaves[1].latency_s = latency_s
        self.slaves[9].registers.update({(1, coil): 1 for coil in range(8)})
        self.port = wire.FakePort(self.slaves, delay_s=0.0)
        self.samples: list[MeterSample] = []
        self.master = LineMaster(
            self.settings,
            [MeterOnLine("m1", 1, meter, 14_000, points=())],
            [RelayOnLine("r1", 9, load_model("relay_board_8ch"), 0)],
            self.port,
            wire.LoopClock(),
            self.samples.append,
            lambda state: None,
        )

    async def __aenter__(self) -> "Line":
        self.task = asyncio.ensure_future(self.master.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    def status(self) -> Any:
        return self.master.view().devices[1]


def test_a_meter_that_answers_as_slowly_as_its_model_documents_is_read(wire: SimpleNamespace, virtual: Run) -> None:
    async def story() -> None:
        async with Line(wire, "carlo_gavazzi_em111", 0.490) as line:
            await after(30.0)
            assert len(line.samples) > 10
            assert line.status().polls_failed == 0

    virtual(story())


def test_a_meter_slower_than_its_line_waits_is_heard_after_a_late_answer(wire: SimpleNamespace, virtual: Run) -> None:
    async def story() -> None:
        async with Line(wire, "eastron_sdm120", 0.420) as line:
            await after(30.0)
            assert len(line.samples) > 10
            assert line.status().errors == {"late_reply": 1}

    virtual(story())


def test_a_meter_that_dies_is_noticed_by_its_own_time_and_probed_by_the_lines(
    wire: SimpleNamespace, virtual: Run
) -> None:
    async def story() -> None:
        async with Line(wire, "eastron_sdm120", 0.030) as line:
            await after(20.0)
            assert line.master.times().devices[1].wait_ms < 150
            del line.port.slaves[1]
            before = len(line.port.sent)
            await after(20.0)
            sent = [(at, frame[0]) for at, frame in line.port.sent[before:]]
            pauses = [then - at for (at, device_id), (then, _) in pairwise(sent) if device_id == 1]
            assert line.status().errors.keys() == {"timeout"}
            assert pauses[0] < 0.150 + 0.550 + 0.150
            assert all(0.850 <= pause < 0.850 + 0.150 for pause in pauses[1:-1])
            assert len(pauses) > 5
            assert line.master.times().devices[1].wait_ms == 300

    virtual(story())


def test_a_meter_that_becomes_slow_is_read_again_in_the_next_round_and_nothing_wrong_is_believed(
    wire: SimpleNamespace, virtual: Run
) -> None:
    async def story() -> None:
        async with Line(wire, "eastron_sdm120", 0.010) as line:
            await after(20.0)
            line.slaves[1].latency_s = 0.200
            before = len(line.samples)
            await after(20.0)
            assert line.status().errors == {"late_reply": 1}
            assert len(line.samples) - before > 20
            assert {sample.register_wh for sample in line.samples} == {0}

    virtual(story())


def test_times_and_use_of_the_wire_are_told_by_line_and_by_device(wire: SimpleNamespace, virtual: Run) -> None:
    async def story() -> None:
        async with Line(wire, "eastron_sdm120", 0.050, poll_interval_ms=1_000) as line:
            assert line.master.times().used_percent is None
            await after(200.0)
            times = line.master.times()
            meter, board = times.devices[1].answers, times.devices[9].answers
            assert (meter.p50_ms, meter.slowest_ms) == (31, 31)  # 50 less the request and 9 bytes of the answer
            assert board.slowest_ms == 0
            assert times.answers.answers == meter.answers + board.answers == line.master.view().polls_ok
            assert times.used_percent is not None
            assert 5 <= times.used_percent <= 12

    virtual(story())


# --- use of the wire ----------------------------------------------------------------------------


def test_a_wire_that_rests_a_quarter_of_the_time_is_used_for_three() -> None:
    use = WireUse()
    for second in range(0, 240, 4):
        use.works(float(second))
        use.rests(second + 3.0)
    assert use.percent(240.0) == 75


def test_a_wire_that_never_rests_is_full_and_one_that_is_closed_is_idle() -> None:
    use = WireUse()
    assert use.percent(5.0) is None
    use.works(0.0)
    assert use.percent(30.0) == 100
    assert use.percent(600.0) == 100
    use.rests(600.0)
    assert use.percent(1200.0) == 0


def test_use_is_rounded_up() -> None:
    use = WireUse()
    use.works(0.0)
    use.rests(0.001)
    assert use.percent(50.0) == 1
