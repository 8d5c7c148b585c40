"""GPIO relays on virtual chips that keep the kernel's rules: what is driven, when, and what is believed of it.

No machine without GPIO can run libgpiod itself, so the chips stand at the border of the package `gpiod`, with its own
enums and settings; the driver's own call into the package is tried where there is no chip. Seconds of a virtual loop.
"""

import asyncio
import errno
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

import gpiod
import pytest

from edge.core.units import ClockQuality, UnixSeconds
from edge.ports import ClockReading, OutputResult, RelayPort, RelayState
from hw import gpio_relay
from hw.gpio_relay import Coil, ContactLine, GpioRelay, GpioRelays, LatchingCoils, gpio_warnings, open_chip
from hw.line_words import in_language, sentences
from hw.sim.gpio_chip import LineConfig, LinesHeld, OpenChip, VirtualChip, VirtualGpio, WiredRelay
from hw.sim.world.loop import VirtualLoop

CHIP = "/dev/gpiochip0"
COIL, CONTACT, SET, RESET = 17, 27, 5, 6
MONOSTABLE = GpioRelay("R1", CHIP, Coil(COIL, closed_when_on=True))
WITH_CONTACT = replace(MONOSTABLE, contact=ContactLine(CONTACT))
LATCHING = GpioRelay("R1", CHIP, LatchingCoils(SET, RESET, pulse_ms=60), contact=ContactLine(CONTACT))
BLIND_LATCHING = replace(LATCHING, contact=None)
PULSE_S_MIN = 0.05
# What the stories wait for.
FIRST_OPEN_S, FIRST_LOOK_S, NEXT_LOOK_S, SOME_LOOKS_S, LONG_S = 0.1, 0.5, 1.5, 5.0, 60.0
IN_THE_PULSE_S = 0.01
LOST_S, REOPENED_S = 120.0, 40.0


class Fixed:
    """A clock that stands."""

    def read(self) -> ClockReading:
        return ClockReading(UnixSeconds(1_772_380_800), 0, "boot-1", ClockQuality.NTP)


class Bench:
    """A chip with one relay on it, and the driver over both."""

    def __init__(self, relay: GpioRelay, *, closed: bool = True, protected: bool = False) -> None:
        self.chip = VirtualChip()
        self.gpio = VirtualGpio({CHIP: self.chip})
        self.levels: list[tuple[float, int, bool]] = []
        for line in relay.coils.lines:
            self.chip.wire(line, partial(self.note_level, line))
        self.wired = WiredRelay(self.now, closed)
        if isinstance(relay.coils, Coil):
            self.wired.with_coil(self.chip, COIL, relay.coils.closed_when_on is not relay.active_low)
        else:
            self.wired.with_latch(self.chip, SET, RESET, PULSE_S_MIN)
        self.wired.with_contact(self.chip, CONTACT)
        self.told: list[bool] = []
        self.relay = relay
        self.protected = frozenset({"R1"} if protected else ())

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def note_level(self, line: int, level: bool) -> None:
        self.levels.append((self.now(), line, level))

    def begin(self) -> None:
        """The agent starts."""
        self.driver = GpioRelays([self.relay], Fixed(), self.on_relay, self.protected, self.gpio.open)
        self.task = asyncio.ensure_future(self.driver.run())

    async def end(self) -> None:
        """The agent stops in good order."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    def on_relay(self, state: RelayState) -> None:
        assert state.relay_id == "R1"
        self.told.append(state.closed)

    async def set(self, closed: bool) -> OutputResult:
        return await self.driver.set_output("R1", closed)

    def fault(self) -> str | None:
        return self.driver.view()[0].fault


def on_bench(relay: GpioRelay, story: Callable[[Bench], Awaitable[None]], **how: bool) -> Bench:
    """Runs a story with a driver that has looked at everything once."""
    bench = Bench(relay, **how)

    async def whole() -> None:
        bench.begin()
        await asyncio.sleep(FIRST_LOOK_S)
        await story(bench)
        await bench.end()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(whole())
    return bench


def test_the_driver_is_a_relay_port_and_the_twin_has_the_signatures_of_gpiod() -> None:
    ports: list[RelayPort] = [GpioRelays([MONOSTABLE], Fixed(), lambda _state: None)]
    chips: list[gpio_relay.Chip] = [OpenChip(VirtualChip(num_lines=3))]
    assert (len(ports), chips[0].get_info().num_lines) == (1, 3)
    for twin, real, names in (
        (OpenChip, gpiod.Chip, ("get_info", "get_line_info", "request_lines", "close")),
        (LinesHeld, gpiod.LineRequest, ("get_value", "set_value", "reconfigure_lines", "release")),
    ):
        for name in names:
            ours, theirs = (list(inspect.signature(getattr(one, name)).parameters) for one in (twin, real))
            assert theirs[: len(ours)] == ours, name


@pytest.mark.parametrize("relay", [MONOSTABLE, WITH_CONTACT, LATCHING, BLIND_LATCHING])
def test_nothing_is_driven_before_somebody_decides(relay: GpioRelay) -> None:
    async def story(bench: Bench) -> None:
        await asyncio.sleep(LONG_S)
        assert not any(pin.output for pin in bench.chip.lines)
        assert {bench.chip.lines[line].holder for line in relay.coils.lines} == {"wattgate"}

    bench = on_bench(relay, story)
    assert bench.levels == []
    assert bench.wired.moves == []


@pytest.mark.parametrize("on", [True, False])
def test_an_output_that_another_program_left_on_goes_on_as_it_was(on: bool) -> None:
    bench = Bench(MONOSTABLE, closed=on)

    async def whole() -> None:
        bench.chip.set_pin(COIL, output=True, level=on)
        moves = list(bench.wired.moves)
        bench.begin()
        await asyncio.sleep(LONG_S)
        assert bench.wired.moves == moves
        assert (bench.chip.lines[COIL].output, bench.chip.lines[COIL].level) == (True, on)
        assert set(bench.told) == {on}
        await bench.end()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(whole())


@pytest.mark.parametrize("closed_when_on", [True, False])
@pytest.mark.parametrize("active_low", [True, False])
def test_a_monostable_relay_is_switched_both_ways_in_one_move(closed_when_on: bool, active_low: bool) -> None:
    relay = replace(WITH_CONTACT, coils=Coil(COIL, closed_when_on), active_low=active_low)

    async def story(bench: Bench) -> None:
        for closed in (True, False, True):
            assert await bench.set(closed) == OutputResult(True, closed, None)
            assert bench.wired.closed is closed
            assert bench.chip.lines[COIL].level is ((closed is closed_when_on) is not active_low)
        first = [] if rests_closed else [True]
        assert [closed for _, closed in bench.wired.moves] == [*first, False, True]

    rests_closed = closed_when_on is active_low  # the pin is low at first
    on_bench(relay, story, closed=rests_closed)


@pytest.mark.parametrize("closed_when_on", [True, False])
@pytest.mark.parametrize("active_low", [True, False])
def test_without_a_contact_the_first_look_at_the_line_says_how_the_supply_is(
    closed_when_on: bool, active_low: bool
) -> None:
    rests_closed = closed_when_on is active_low  # the pin is low at first

    async def story(bench: Bench) -> None:
        assert bench.told == [rests_closed] == [bench.wired.closed]

    relay = replace(MONOSTABLE, coils=Coil(COIL, closed_when_on), active_low=active_low)
    on_bench(relay, story, closed=rests_closed)


@pytest.mark.parametrize("closed", [True, False])
def test_a_contact_that_pulls_to_ground_is_read_with_its_pull_up(closed: bool) -> None:
    relay = replace(WITH_CONTACT, contact=ContactLine(CONTACT, active_low=True, bias="pull_up"))
    bench = Bench(relay, closed=closed)
    bench.chip.lines[CONTACT].source = (lambda: False) if closed else None

    async def whole() -> None:
        bench.begin()
        await asyncio.sleep(FIRST_LOOK_S)
        assert set(bench.told) == {closed}
        await bench.end()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(whole())


def test_without_a_contact_the_value_of_the_line_is_read_back_and_the_view_says_so() -> None:
    async def story(bench: Bench) -> None:
        assert bench.told[-1] is False
        bench.wired.welded = True
        assert await bench.set(True) == OutputResult(True, True, None)
        assert bench.wired.closed is False
        (status,) = bench.driver.view()
        assert (status.by_contact, status.closed, status.place) == (False, True, "/dev/gpiochip0 line 17")

    on_bench(MONOSTABLE, story, closed=False)


@pytest.mark.parametrize("relay", [WITH_CONTACT, LATCHING])
def test_with_a_contact_only_the_contact_says_that_a_command_has_worked(relay: GpioRelay) -> None:
    async def story(bench: Bench) -> None:
        assert await bench.set(True) == OutputResult(True, True, None)
        bench.wired.welded = True
        assert await bench.set(False) == OutputResult(False, True, "not_obeyed")
        assert bench.told[-1] is True
        assert bench.driver.view()[0].by_contact
        bench.wired.come_free()
        assert await bench.set(False) == OutputResult(True, False, None)

    on_bench(relay, story, closed=False)


def test_a_hand_on_the_contact_is_seen_within_a_second_or_two() -> None:
    async def story(bench: Bench) -> None:
        assert set(bench.told) == {True}
        bench.wired.closed = False
        await asyncio.sleep(NEXT_LOOK_S)
        assert bench.told[-1] is False

    on_bench(LATCHING, story)


def test_a_contact_that_bounces_is_not_believed_and_opens_nothing() -> None:
    async def story(bench: Bench) -> None:
        pin, calls = bench.chip.lines[CONTACT], 0

        def bouncing() -> bool:
            nonlocal calls
            calls += 1
            return calls % 2 == 0

        pin.source = bouncing
        before = len(bench.told)
        await asyncio.sleep(SOME_LOOKS_S)
        assert bench.told[before:] == []
        assert bench.driver.view()[0].closed is None
        assert await bench.set(False) == OutputResult(False, None, "relay_state_unknown")
        assert bench.levels == []

    on_bench(LATCHING, story)


def test_a_latching_relay_gets_one_pulse_of_its_length_and_never_both_coils() -> None:
    async def story(bench: Bench) -> None:
        for closed in (False, True, True, False):
            assert (await bench.set(closed)).confirmed
        assert bench.wired.both == 0
        ups = [(at, line) for at, line, level in bench.levels if level]
        downs = [(at, line) for at, line, level in bench.levels if not level]
        assert [line for _, line in ups] == [RESET, SET, RESET]
        assert [round(off - on, 6) for (on, _), (off, _) in zip(ups, downs, strict=True)] == [0.06] * 3

    on_bench(LATCHING, story)


def test_a_latching_relay_without_contact_is_not_opened_before_it_was_once_told_to_close() -> None:
    async def story(bench: Bench) -> None:
        assert bench.told == []
        assert await bench.set(False) == OutputResult(False, None, "relay_state_unknown")
        assert bench.levels == []
        assert await bench.set(True) == OutputResult(True, True, None)
        assert await bench.set(False) == OutputResult(True, False, None)
        assert bench.wired.closed is False
        assert bench.told[-1] is False

    on_bench(BLIND_LATCHING, story)


def test_a_pulse_that_a_killed_agent_left_on_is_ended_at_the_start_and_switches_nothing() -> None:
    bench = Bench(LATCHING, closed=False)

    async def whole() -> None:
        bench.chip.set_pin(RESET, output=True, level=True)
        bench.begin()
        await asyncio.sleep(FIRST_LOOK_S)
        assert [(line, level) for _, line, level in bench.levels] == [(RESET, True), (RESET, False)]
        assert bench.wired.moves == []
        await bench.end()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(whole())


def test_a_stop_in_the_middle_of_a_pulse_ends_the_pulse_first() -> None:
    async def story(bench: Bench) -> None:
        command = asyncio.ensure_future(bench.set(False))
        await asyncio.sleep(IN_THE_PULSE_S)
        assert bench.chip.lines[RESET].read()
        await bench.end()
        assert await command == OutputResult(True, False, None)
        assert not bench.chip.lines[RESET].read()
        assert bench.wired.closed is False

    on_bench(LATCHING, story)


def test_a_cancelled_command_leaves_no_coil_on() -> None:
    async def story(bench: Bench) -> None:
        command = asyncio.ensure_future(bench.set(False))
        await asyncio.sleep(IN_THE_PULSE_S)
        command.cancel()
        await asyncio.gather(command, return_exceptions=True)
        assert not bench.chip.lines[RESET].read()
        assert bench.wired.closed is True  # the pulse was too short
        assert (await bench.set(False)).confirmed

    on_bench(LATCHING, story)


def test_after_a_pulse_that_was_not_whole_nobody_claims_to_know_the_state() -> None:
    async def story(bench: Bench) -> None:
        assert (await bench.set(True)).confirmed
        command = asyncio.ensure_future(bench.set(False))
        await asyncio.sleep(IN_THE_PULSE_S)
        command.cancel()
        await asyncio.gather(command, return_exceptions=True)
        assert await bench.set(False) == OutputResult(False, None, "relay_state_unknown")

    on_bench(BLIND_LATCHING, story)


@pytest.mark.parametrize("relay", [MONOSTABLE, WITH_CONTACT, LATCHING])
def test_the_driver_itself_opens_no_protected_customer_and_closes_one(relay: GpioRelay) -> None:
    async def story(bench: Bench) -> None:
        closed = bench.told[-1]
        assert await bench.set(False) == OutputResult(False, closed, "protected")
        assert bench.levels == []
        assert (await bench.set(True)).confirmed

    on_bench(relay, story, closed=isinstance(relay.coils, LatchingCoils), protected=True)


def test_the_newest_wish_wins_and_one_taken_back_is_never_begun() -> None:
    async def story(bench: Bench) -> None:
        first = asyncio.ensure_future(bench.set(False))
        await asyncio.sleep(0)
        waiting = asyncio.ensure_future(bench.set(True))
        await asyncio.sleep(0)
        newest = asyncio.ensure_future(bench.set(True))
        await asyncio.sleep(0)
        assert await first == OutputResult(True, False, None)
        assert (await waiting).reason == "superseded"
        assert (await newest).confirmed
        under_way = asyncio.ensure_future(bench.set(False))
        await asyncio.sleep(0)
        waiting = asyncio.ensure_future(bench.set(True))
        await asyncio.sleep(0)
        bench.driver.withdraw_output("R1")
        assert (await under_way).confirmed
        assert (await waiting).reason == "superseded"
        assert bench.wired.closed is False

    on_bench(LATCHING, story)


def test_a_line_that_another_program_holds_is_named_and_had_once_it_is_free() -> None:
    bench = Bench(WITH_CONTACT, closed=False)

    async def whole() -> None:
        bench.chip.hold(CONTACT, "gpioset")
        bench.begin()
        await asyncio.sleep(FIRST_LOOK_S)
        assert bench.fault() == "/dev/gpiochip0 line 27 (gpioset): " + gpio_relay.HELD
        assert bench.chip.lines[COIL].holder is None
        assert await bench.set(True) == OutputResult(False, None, "line_closed")
        bench.chip.hold(CONTACT, None)
        await asyncio.sleep(REOPENED_S)
        assert bench.fault() is None
        assert (await bench.set(True)).confirmed
        await bench.end()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(whole())


def test_a_line_taken_in_the_last_moment_leaves_none_of_the_others_held() -> None:
    """Between the look at the lines and the request for them another program may come."""

    class Raced(OpenChip):
        def request_lines(self, config: LineConfig, consumer: str | None = None) -> LinesHeld:
            if CONTACT in config:
                raise OSError(errno.EBUSY, "Device or resource busy")
            return super().request_lines(config, consumer)

    bench = Bench(WITH_CONTACT, closed=False)

    async def whole() -> None:
        driver = GpioRelays([bench.relay], Fixed(), bench.on_relay, opener=lambda _path: Raced(bench.chip))
        running = asyncio.ensure_future(driver.run())
        await asyncio.sleep(FIRST_LOOK_S)
        assert driver.view()[0].fault == f"{CHIP} line 17: {gpio_relay.HELD}"
        assert all(pin.holder is None for pin in bench.chip.lines)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(whole())


def test_a_chip_is_open_only_while_its_lines_are_asked_for() -> None:
    async def story(bench: Bench) -> None:
        assert len(bench.gpio.opened) == 1
        assert not any(bench.gpio.opened)

    on_bench(LATCHING, story)


def test_lines_that_cannot_be_had_are_asked_for_with_growing_pauses() -> None:
    bench = Bench(WITH_CONTACT, closed=False)

    async def whole() -> None:
        bench.chip.hold(CONTACT, "gpioset")
        bench.begin()
        await asyncio.sleep(LOST_S)
        assert 5 <= len(bench.gpio.opened) <= 10
        assert not any(bench.gpio.opened)
        await bench.end()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(whole())


def test_while_the_agent_holds_a_line_nobody_else_gets_it_and_afterwards_they_do() -> None:
    async def story(bench: Bench) -> None:
        with pytest.raises(OSError, match="busy") as refused:
            bench.gpio.open(CHIP).request_lines({COIL: None}, "gpioset")
        assert refused.value.errno == errno.EBUSY
        await bench.end()
        bench.gpio.open(CHIP).request_lines({COIL: None}, "gpioset").release()

    on_bench(WITH_CONTACT, story, closed=False)


@pytest.mark.parametrize("relay", [WITH_CONTACT, LATCHING, MONOSTABLE])
def test_a_chip_that_disappears_is_said_and_its_relay_found_again_as_it_is(relay: GpioRelay) -> None:
    async def story(bench: Bench) -> None:
        assert (await bench.set(True)).confirmed
        bench.chip.vanish()
        told = len(bench.told)
        while bench.fault() is None:
            await asyncio.sleep(FIRST_OPEN_S)
        assert bench.fault() == f"{relay.place}: {gpio_relay.GONE}"
        assert bench.driver.view()[0].closed is None
        assert await bench.set(False) == OutputResult(False, None, "line_closed")
        await asyncio.sleep(LOST_S)
        assert bench.fault() == f"{relay.place}: {gpio_relay.NO_CHIP}"
        assert bench.told[told:] == []
        levels = len(bench.levels)
        bench.chip.gone = False
        await asyncio.sleep(REOPENED_S)
        assert bench.fault() is None
        assert bench.told[-1] is bench.wired.closed
        assert bench.levels[levels:] == []
        assert (await bench.set(False)).confirmed

    on_bench(relay, story, closed=isinstance(relay.coils, LatchingCoils))


def test_a_chip_that_disappears_under_a_command_leaves_the_state_unknown() -> None:
    async def story(bench: Bench) -> None:
        command = asyncio.ensure_future(bench.set(False))
        await asyncio.sleep(IN_THE_PULSE_S)
        bench.chip.vanish()
        assert await command == OutputResult(False, None, "relay_state_unknown")
        assert bench.driver.view()[0].closed is None

    on_bench(LATCHING, story)


def test_a_chip_with_another_label_or_too_few_lines_is_left_alone() -> None:
    async def story(bench: Bench) -> None:
        assert bench.fault() is not None
        assert await bench.set(True) == OutputResult(False, None, "line_closed")
        assert all(pin.holder is None for pin in bench.chip.lines)

    bench = on_bench(replace(MONOSTABLE, chip_label="pinctrl-rp1"), story, closed=False)
    assert bench.fault() == f"{CHIP} (pinctrl-bcm2835): {gpio_relay.OTHER_CHIP}"
    bench = on_bench(replace(MONOSTABLE, contact=ContactLine(54)), story, closed=False)
    assert bench.fault() == f"{CHIP} line 54: {gpio_relay.NO_LINE}"


def test_one_relay_without_its_chip_does_not_take_the_others_along() -> None:
    bench = Bench(WITH_CONTACT, closed=False)

    async def whole() -> None:
        other = replace(MONOSTABLE, relay_id="R2", chip="/dev/gpiochip9")
        driver = GpioRelays([other, bench.relay], Fixed(), bench.on_relay, opener=bench.gpio.open)
        running = asyncio.ensure_future(driver.run())
        await asyncio.sleep(FIRST_LOOK_S)
        assert [status.fault is None for status in driver.view()] == [False, True]
        assert (await driver.set_output("R1", True)).confirmed
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(whole())


def test_what_becomes_of_a_coil_at_the_end_is_the_chips_and_a_restart_finds_it() -> None:
    """Kernels differ: one keeps the level of a freed output, another makes an input of it."""
    for keeps in (True, False):
        bench = Bench(WITH_CONTACT, closed=False)
        bench.chip.keeps_outputs = keeps

        async def whole(bench: Bench = bench, keeps: bool = keeps) -> None:
            bench.begin()
            await asyncio.sleep(FIRST_LOOK_S)
            assert (await bench.set(True)).confirmed
            await bench.end()
            assert bench.wired.closed is keeps
            moves = list(bench.wired.moves)
            bench.begin()
            await asyncio.sleep(SOME_LOOKS_S)
            assert bench.told[-1] is keeps
            assert bench.wired.moves == moves
            await bench.end()

        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(whole())


@pytest.mark.parametrize(
    ("path", "sentence"), [("/dev/gpiochip-none", gpio_relay.NO_CHIP), ("/etc/hostname", gpio_relay.NO_GPIO)]
)
def test_the_real_library_is_asked_and_its_refusal_becomes_a_sentence(path: str, sentence: str) -> None:
    async def whole() -> None:
        driver = GpioRelays([replace(MONOSTABLE, chip=path)], Fixed(), lambda _state: None, opener=open_chip)
        running = asyncio.ensure_future(driver.run())
        await asyncio.sleep(FIRST_OPEN_S)
        assert driver.view()[0].fault == f"{path} line 17: {sentence}"
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(whole())


def test_what_a_wiring_costs_is_said_before_anything_starts() -> None:
    safe = replace(MONOSTABLE, coils=Coil(COIL, closed_when_on=False))
    found = gpio_warnings([safe, LATCHING, MONOSTABLE, BLIND_LATCHING])
    assert [warning.sentence for warning in found] == [gpio_relay.OFF_WITHOUT_US, gpio_relay.NOT_KNOWN_AT_START]
    assert found[0].text("en").startswith('R1: with closed_when = "coil_on" the supply goes off')
    assert found[1].text("zh").startswith("R1\N{FULLWIDTH COLON}没有 contact_line")


def test_every_sentence_about_a_chip_is_there_in_chinese() -> None:
    found = {
        text for name, text in vars(gpio_relay).items() if name.isupper() and isinstance(text, str) and " " in text
    }
    assert len(found) == 9
    assert found <= sentences("zh").keys()
    assert in_language(f"{CHIP} line 17: {gpio_relay.NO_CHIP}", "zh").startswith(f"{CHIP} line 17: 没有")
