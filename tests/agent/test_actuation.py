"""Relays: told once, read back, tried a few times with growing pauses, and left alone when they disobey."""

import asyncio
from collections.abc import Callable, Coroutine
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest

from edge.agent.actuation import ATTEMPTS_MAX, FIRST_READ_S, PAUSE_S_MAX, Actuation, RelayFacts, SwitchingRules
from edge.bus.records import OutputResult, RelayState
from edge.core.units import ClockQuality, ClockReading, UnixSeconds

Run = Callable[[Coroutine[Any, Any, Any]], Any]

CLOCK = ClockReading(UnixSeconds(1_772_380_800), 0, "boot-1", ClockQuality.NTP)
COMMAND_S = 0.2
ROUND_S = 0.5


class Relay:
    """A relay under the test's hand, the actuation over it, and rounds that repeat a wish."""

    def __init__(self, *, protected: bool = False, pause_s: float = 1.0) -> None:
        self.closed = True
        self.answer: Callable[[bool], OutputResult] = self.obey
        self.commands: list[tuple[float, bool]] = []
        self.in_flight = self.in_flight_max = 0
        self.line_busy = asyncio.Event()
        self.waiting: asyncio.Future[OutputResult | None] | None = None
        self.observed: list[bool] = []
        self.disobeyed: list[str] = []
        relays = {"R1": RelayFacts("R1", "A1", self, protected)}
        self.actuation = Actuation(relays, self.on_observed, self.on_disobeyed, SwitchingRules(pause_s))

    async def set_output(self, relay_id: str, closed: bool) -> OutputResult:
        assert relay_id == "R1"
        if self.line_busy.is_set():
            self.waiting = asyncio.get_running_loop().create_future()
            if (result := await self.waiting) is not None:
                return result
        self.commands.append((asyncio.get_running_loop().time(), closed))
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self.in_flight)
        await asyncio.sleep(COMMAND_S)
        self.in_flight -= 1
        return self.answer(closed)

    async def run(self) -> None:
        """This port has nothing to read by itself."""

    def withdraw_output(self, relay_id: str) -> None:
        assert relay_id == "R1"
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_result(OutputResult(False, None, "superseded"))

    def line_is_free(self) -> None:
        """What waits in the line's queue goes out."""
        self.line_busy.clear()
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_result(None)

    def obey(self, closed: bool) -> OutputResult:
        self.closed = closed
        return OutputResult(True, closed, None)

    def disobey(self, closed: bool) -> OutputResult:
        return OutputResult(self.closed is closed, self.closed, "not_obeyed")

    async def on_observed(self, account_id: str, connected: bool) -> None:
        assert account_id == "A1"
        self.observed.append(connected)

    async def on_disobeyed(self, account_id: str, reason: str) -> None:
        assert account_id == "A1"
        self.disobeyed.append(reason)

    def read(self) -> None:
        self.actuation.on_relay(RelayState("R1", CLOCK, self.closed))

    async def rounds(self, wish: bool, seconds: float, *, read: bool = True) -> None:
        for _ in range(round(seconds / ROUND_S)):
            if read:
                self.read()
            await self.actuation.want("A1", wish)
            await asyncio.sleep(ROUND_S)

    def wishes(self) -> list[bool]:
        return [closed for _, closed in self.commands]

    def pauses(self) -> list[float]:
        """Between the end of a command and the beginning of the next, to the half second of a round."""
        times = [at for at, _ in self.commands]
        return [round(after - before - COMMAND_S, 3) for before, after in pairwise(times)]


class Street:
    """Several relays that obey, and the rules they are switched by."""

    def __init__(self, count: int, rules: SwitchingRules, current_a: Decimal | None = None) -> None:
        self.commands: list[tuple[float, str, bool]] = []
        self.delayed: list[tuple[str, str]] = []
        self.current_a = current_a
        relays = {f"R{n}": RelayFacts(f"R{n}", f"A{n}", self, False, 60) for n in range(count)}
        self.actuation = Actuation(
            relays, self.on_observed, self.on_disobeyed, rules, lambda _account: self.current_a, self.on_delayed
        )
        self.state = dict.fromkeys(relays, False)

    async def set_output(self, relay_id: str, closed: bool) -> OutputResult:
        self.commands.append((asyncio.get_running_loop().time(), relay_id, closed))
        self.state[relay_id] = closed
        return OutputResult(True, closed, None)

    async def run(self) -> None:
        """This port has nothing to read by itself."""

    def withdraw_output(self, relay_id: str) -> None:
        """Nothing waits here."""

    async def on_observed(self, account_id: str, connected: bool) -> None:
        assert self.state["R" + account_id[1:]] is connected

    async def on_disobeyed(self, account_id: str, reason: str) -> None:
        raise AssertionError(f"{account_id}: {reason}")

    async def on_delayed(self, account_id: str, current_a: str) -> None:
        self.delayed.append((account_id, current_a))

    async def rounds(self, wish: bool, seconds: float, remote: bool = False) -> None:
        for _ in range(round(seconds / ROUND_S)):
            for relay_id, closed in self.state.items():
                self.actuation.on_relay(RelayState(relay_id, CLOCK, closed))
                await self.actuation.want("A" + relay_id[1:], wish, remote)
            await asyncio.sleep(ROUND_S)


def no_answer(_closed: bool) -> OutputResult:
    return OutputResult(False, None, "timeout")


def test_relay_that_is_as_wanted_is_not_touched(virtual: Run) -> None:
    async def scenario() -> Relay:
        relay = Relay()
        await relay.rounds(True, 20)
        return relay

    relay = virtual(scenario())
    assert relay.commands == []
    assert set(relay.observed) == {True}


def test_a_supply_is_settled_once_it_is_wanted_and_read_back_so(virtual: Run) -> None:
    async def life() -> list[bool]:
        relay = Relay()
        found = [relay.actuation.settled("A1", True)]
        relay.actuation.on_relay(RelayState("R1", CLOCK, True))
        found.append(relay.actuation.settled("A1", True))
        await relay.actuation.want("A1", True)
        found += [relay.actuation.settled("A1", True), relay.actuation.settled("A1", False)]
        relay.actuation.on_relay(RelayState("R1", CLOCK, False))
        return [*found, relay.actuation.settled("A1", True), relay.actuation.settled("nobody", True)]

    assert virtual(life()) == [False, False, True, False, False, True]


def test_relay_is_switched_once_and_read_back(virtual: Run) -> None:
    async def scenario() -> Relay:
        relay = Relay()
        await relay.rounds(True, 2)
        await relay.rounds(False, 10)
        return relay

    relay = virtual(scenario())
    assert relay.wishes() == [False]
    assert relay.actuation.observed("A1") is False
    assert relay.observed[-1] is False
    assert relay.disobeyed == []


def test_only_what_was_read_back_is_reported(virtual: Run) -> None:
    """The command was answered, the contact stayed: nobody hears of an open supply."""

    async def scenario() -> Relay:
        relay = Relay()
        relay.answer = relay.disobey
        await relay.rounds(False, 60)
        return relay

    relay = virtual(scenario())
    assert set(relay.observed) == {True}
    assert relay.actuation.observed("A1") is True


def test_relay_that_disobeys_is_tried_with_growing_pauses_and_then_left_alone(virtual: Run) -> None:
    async def scenario() -> Relay:
        relay = Relay()
        relay.answer = relay.disobey
        await relay.rounds(False, 600)
        return relay

    relay = virtual(scenario())
    assert relay.wishes() == [False] * ATTEMPTS_MAX
    pauses = relay.pauses()
    assert all(
        wanted <= pause < wanted + ROUND_S + COMMAND_S for wanted, pause in zip([1, 2, 4, 8], pauses, strict=True)
    )
    assert relay.disobeyed == ["not_obeyed"]


def test_pauses_have_an_end(virtual: Run) -> None:
    async def scenario() -> Relay:
        relay = Relay(pause_s=40.0)
        relay.answer = relay.disobey
        await relay.rounds(False, 400)
        return relay

    assert max(virtual(scenario()).pauses()) < PAUSE_S_MAX + ROUND_S + COMMAND_S


def test_new_wish_begins_anew_after_giving_up(virtual: Run) -> None:
    async def scenario() -> Relay:
        relay = Relay()
        relay.answer = relay.disobey
        await relay.rounds(False, 60)
        await relay.rounds(True, 10)  # it is closed: nothing to do
        relay.answer = relay.obey
        await relay.rounds(False, 5)
        return relay

    relay = virtual(scenario())
    assert relay.wishes() == [False] * (ATTEMPTS_MAX + 1)
    assert relay.closed is False


def test_relay_that_obeys_late_is_tried_from_the_first_attempt_next_time(virtual: Run) -> None:
    async def scenario() -> Relay:
        relay = Relay()
        relay.answer = relay.disobey
        await relay.rounds(False, 4)
        relay.answer = relay.obey
        await relay.rounds(False, 20)
        return relay

    relay = virtual(scenario())
    assert len(relay.commands) < ATTEMPTS_MAX
    assert relay.closed is False
    assert relay.disobeyed == []


def test_unexpected_change_is_put_right_and_reported(virtual: Run) -> None:
    async def scenario() -> Relay:
        relay = Relay()
        await relay.rounds(False, 5)
        relay.closed = True  # somebody's hand
        await relay.rounds(False, 5)
        return relay

    relay = virtual(scenario())
    assert relay.wishes() == [False, False]
    assert True in relay.observed[2:]
    assert relay.observed[-1] is False


# --- protection ------------------------------------------------------------------------------


def test_protected_relay_never_gets_an_open(virtual: Run) -> None:
    async def scenario() -> Relay:
        relay = Relay(protected=True)
        await relay.rounds(False, 300)
        relay.closed = False
        await relay.rounds(True, 10)
        return relay

    relay = virtual(scenario())
    assert relay.wishes() == [True]
    assert relay.closed is True


# --- one command at a time -------------------------------------------------------------------


def test_one_command_is_in_flight_however_often_it_is_wanted(virtual: Run) -> None:
    async def scenario() -> Relay:
        relay = Relay()
        relay.read()
        for number in range(200):
            await relay.actuation.want("A1", number // 20 % 2 == 1)
            await asyncio.sleep(COMMAND_S / 10)
        await relay.actuation.close()
        return relay

    relay = virtual(scenario())
    assert len(relay.commands) > 3
    assert relay.in_flight_max == 1


def test_wish_that_changes_on_the_wire_wins_in_the_end(virtual: Run) -> None:
    async def scenario() -> Relay:
        relay = Relay()
        relay.read()
        await relay.actuation.want("A1", False)
        await asyncio.sleep(COMMAND_S / 2)
        await relay.actuation.want("A1", True)  # paid while the command is on the wire
        await asyncio.sleep(COMMAND_S)
        await relay.rounds(True, 5, read=False)
        return relay

    relay = virtual(scenario())
    assert relay.wishes() == [False, True]
    assert relay.closed is True
    assert relay.in_flight_max == 1
    assert relay.disobeyed == []


def test_a_cut_that_still_waits_for_the_line_is_taken_back_when_the_customer_pays(virtual: Run) -> None:
    async def scenario() -> Relay:
        relay = Relay()
        relay.line_busy.set()
        relay.read()
        await relay.actuation.want("A1", False)
        await asyncio.sleep(COMMAND_S)
        await relay.actuation.want("A1", True)
        relay.line_is_free()
        await relay.rounds(True, 5)
        assert relay.wishes() == []
        await relay.rounds(False, 5)
        return relay

    relay = virtual(scenario())
    assert relay.wishes() == [False]  # a later cut is one like any other
    assert relay.closed is False
    assert relay.disobeyed == []


def test_a_cut_that_is_wanted_again_before_the_line_has_let_go_of_it_goes_out_once(virtual: Run) -> None:
    async def scenario() -> Relay:
        relay = Relay()
        relay.line_busy.set()
        relay.read()
        await relay.actuation.want("A1", False)
        await asyncio.sleep(COMMAND_S)
        await relay.actuation.want("A1", True)
        await relay.actuation.want("A1", False)
        relay.line_is_free()
        await relay.rounds(False, 5)
        return relay

    relay = virtual(scenario())
    assert relay.wishes() == [False]
    assert relay.closed is False


def test_command_of_an_old_wish_that_was_not_answered_delays_the_new_one_by_nothing(virtual: Run) -> None:
    """It was cut after all, though nobody said so, and the payment is there: the light comes back at once."""

    async def scenario() -> Relay:
        relay = Relay()

        def executed_in_silence(closed: bool) -> OutputResult:
            relay.closed = closed
            return OutputResult(False, None, "timeout")

        relay.answer = executed_in_silence
        relay.read()
        await relay.actuation.want("A1", False)
        await asyncio.sleep(COMMAND_S / 2)
        await relay.actuation.want("A1", True)
        await asyncio.sleep(COMMAND_S)
        relay.answer = relay.obey
        relay.read()
        await relay.actuation.want("A1", True)
        await asyncio.sleep(COMMAND_S * 2)
        return relay

    relay = virtual(scenario())
    assert relay.wishes() == [False, True]
    assert relay.closed is True


def test_result_of_an_old_wish_counts_as_no_attempt_of_the_new_one(virtual: Run) -> None:
    async def scenario() -> Relay:
        relay = Relay()
        relay.answer = relay.disobey
        relay.read()
        await relay.actuation.want("A1", False)
        await asyncio.sleep(COMMAND_S / 2)
        await relay.actuation.want("A1", True)
        await asyncio.sleep(COMMAND_S)
        await relay.rounds(False, 600)
        return relay

    assert virtual(scenario()).wishes() == [False] * (1 + ATTEMPTS_MAX)


def test_close_waits_for_what_is_on_the_wire(virtual: Run) -> None:
    async def scenario() -> Relay:
        relay = Relay()
        relay.read()
        await relay.actuation.want("A1", False)
        await relay.actuation.close()
        return relay

    relay = virtual(scenario())
    assert relay.closed is False
    assert relay.observed[-1] is False


# --- lines that are closed, relays that do not answer ----------------------------------------


def test_closed_line_is_no_attempt_and_the_command_goes_out_when_it_opens(virtual: Run) -> None:
    async def scenario() -> Relay:
        relay = Relay()
        relay.read()
        relay.answer = lambda closed: OutputResult(False, None, "line_closed")
        await relay.rounds(False, 3600, read=False)
        assert relay.disobeyed == []
        relay.answer = relay.obey
        await relay.rounds(False, 5)
        return relay

    assert virtual(scenario()).closed is False


def test_relay_that_never_answered_is_given_up_and_tried_anew_when_it_is_heard(virtual: Run) -> None:
    """A board without power for an hour must not leave a customer who has paid in the dark."""

    async def scenario() -> Relay:
        relay = Relay()
        await relay.rounds(False, 5)
        relay.answer = no_answer
        await relay.rounds(True, 3600, read=False)
        assert relay.wishes() == [False] + [True] * ATTEMPTS_MAX
        assert relay.disobeyed == ["timeout"]
        relay.answer = relay.obey
        await relay.rounds(True, 5)
        return relay

    assert virtual(scenario()).closed is True


def test_relay_that_answers_reads_but_no_commands_is_given_up_for_good(virtual: Run) -> None:
    async def scenario() -> Relay:
        relay = Relay()
        relay.answer = no_answer
        await relay.rounds(False, 3600)
        return relay

    relay = virtual(scenario())
    assert relay.wishes() == [False] * ATTEMPTS_MAX
    assert relay.disobeyed == ["timeout"]


# --- start -----------------------------------------------------------------------------------


def test_relay_is_read_before_it_is_switched_after_a_start(virtual: Run) -> None:
    async def scenario() -> Relay:
        relay = Relay()
        relay.closed = False
        await relay.rounds(False, 3, read=False)
        assert relay.commands == []
        await relay.rounds(False, 60)  # it is as it should be
        return relay

    assert virtual(scenario()).commands == []


def test_relay_that_was_read_otherwise_is_switched_at_once(virtual: Run) -> None:
    async def scenario() -> Relay:
        relay = Relay()
        await relay.rounds(False, 1, read=False)
        await relay.rounds(False, 1)
        return relay

    ((at, closed),) = virtual(scenario()).commands
    assert (at, closed) == (1.0, False)


def test_relay_that_cannot_be_read_is_switched_after_a_while_all_the_same(virtual: Run) -> None:
    async def scenario() -> Relay:
        relay = Relay()
        relay.answer = no_answer
        await relay.rounds(False, 600, read=False)
        return relay

    relay = virtual(scenario())
    assert relay.commands[0][0] == FIRST_READ_S
    assert relay.disobeyed == ["timeout"]


def test_unknown_accounts_and_relays_are_nobodys_business(virtual: Run) -> None:
    async def scenario() -> Relay:
        relay = Relay()
        await relay.actuation.want("A9", False)
        relay.actuation.on_relay(RelayState("R9", CLOCK, True))
        assert relay.actuation.observed("A9") is None
        return relay

    assert virtual(scenario()).commands == []


def test_bug_in_the_driver_ends_the_round_and_is_not_repeated_in_silence(virtual: Run) -> None:
    async def scenario() -> None:
        relay = Relay()

        def bug(_closed: bool) -> OutputResult:
            raise KeyError("bug")

        relay.answer = bug
        with pytest.raises(KeyError):
            await relay.rounds(False, 5)
        assert len(relay.commands) == 1

    virtual(scenario())


def test_a_relay_is_being_switched_until_it_was_read_back_or_given_up(virtual: Run) -> None:
    async def scenario() -> list[bool]:
        relay, seen = Relay(), []
        await relay.rounds(True, 2)
        seen.append(relay.actuation.switching("A1"))
        await relay.actuation.want("A1", False)
        seen.append(relay.actuation.switching("A1"))
        await asyncio.sleep(COMMAND_S * 2)
        seen.append(relay.actuation.switching("A1"))
        relay.answer = relay.disobey
        await relay.rounds(True, 1)
        seen.append(relay.actuation.switching("A1"))
        await relay.rounds(True, 10 * PAUSE_S_MAX)
        seen.append(relay.actuation.switching("A1"))
        return seen

    assert virtual(scenario()) == [False, True, False, True, False]


def test_many_closings_are_spaced_and_the_first_is_at_once(virtual: Run) -> None:
    async def scenario() -> Street:
        street = Street(8, SwitchingRules(closing_spacing_s=2.0))
        await street.rounds(True, 20)
        return street

    street = virtual(scenario())
    times = [at for at, _, _ in street.commands]
    assert times[0] == 0.0
    assert len(street.commands) == 8
    assert all(after - before >= 2.0 for before, after in pairwise(times))


def test_an_operators_cut_waits_its_share_of_the_delay_and_a_local_one_does_not(virtual: Run) -> None:
    shares = iter([0.0, 0.25, 0.5, 0.75])

    async def scenario() -> Street:
        street = Street(4, SwitchingRules(remote_cut_delay_s_max=60.0, random_share=lambda: next(shares)))
        await street.rounds(True, 1)
        await street.rounds(False, 60, remote=True)
        return street

    street = virtual(scenario())
    cuts = [(at, relay_id) for at, relay_id, closed in street.commands if not closed]
    assert cuts == [(1.0, "R0"), (16.0, "R1"), (31.0, "R2"), (46.0, "R3")]


def test_a_restore_in_the_delay_leaves_the_relay_alone(virtual: Run) -> None:
    async def scenario() -> Street:
        street = Street(1, SwitchingRules(remote_cut_delay_s_max=60.0, random_share=lambda: 0.5))
        await street.rounds(True, 1)
        await street.rounds(False, 20, remote=True)
        await street.rounds(True, 60)
        return street

    assert [closed for _, _, closed in virtual(scenario()).commands] == [True]


def test_a_relay_waits_until_it_may_break_the_current(virtual: Run) -> None:
    async def scenario() -> Street:
        street = Street(1, SwitchingRules(), Decimal("60.1"))
        street.state["R0"] = True
        await street.rounds(False, 5)
        assert street.commands == []
        street.current_a = Decimal(60)
        await street.rounds(False, 5)
        return street

    street = virtual(scenario())
    assert street.delayed == [("A0", "60.1")]
    assert [(relay_id, closed) for _, relay_id, closed in street.commands] == [("R0", False)]


def test_closings_are_spaced_by_their_rule_and_not_by_the_rounds(virtual: Run) -> None:
    async def scenario() -> Street:
        street = Street(8, SwitchingRules(closing_spacing_s=0.05))
        await street.rounds(True, 1)
        return street

    times = [at for at, _, _ in virtual(scenario()).commands]
    assert len(times) == 8
    assert times == pytest.approx([number * 0.05 for number in range(8)])


def test_a_closing_that_waits_its_turn_is_not_begun_when_the_wish_changes_or_the_agent_ends(virtual: Run) -> None:
    async def scenario() -> tuple[Street, Street]:
        changed, ended = (Street(3, SwitchingRules(closing_spacing_s=60.0)) for _ in range(2))
        for street in (changed, ended):
            await street.rounds(True, 1)
        await ended.actuation.close()
        await changed.rounds(False, 200)
        assert [relay for _, relay, _ in ended.commands] == ["R0"]
        return changed, ended

    changed, ended = virtual(scenario())
    assert [relay for _, relay, closed in changed.commands if closed] == ["R0"]
    assert [relay for _, relay, closed in ended.commands if closed] == ["R0"]
