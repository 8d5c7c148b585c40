"""The faults of a world by name: each plans what goes wrong and when, and can be healed.

Plans are drawn before the world begins, so a fault that is left out moves no other. Times are
milliseconds of true time; everything has ended when the world heals.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from edge.core.commands import ChangePaymentMode, Command, SelectEmergencyCredit, SetSupplyHold
from edge.core.credit_terms import PaymentMode
from edge.core.supply_hold import SupplyHold, SupplyHoldKind
from edge.core.units import ClockQuality, ClockReading
from hw.sim.world.clock import START_AT
from hw.sim.world.lines import LineFault, Parts, VirtualLine, with_crc

if TYPE_CHECKING:
    from hw.sim.world.world import World

HOUR_MS = 3_600_000
DAY_MS = 86_400_000
SLOT_MS = 900_000
BEFORE_SLOT_MS = 1_000
DAY_S = 86_400
FORTY_DAYS_S = 40 * DAY_S
LATE_S = 0.35  # after the response timeout of 0.3 s
LATE_S_MAX = 0.5  # the slowest answer any model documents


@dataclass(frozen=True, slots=True)
class Fault:
    """`plan` writes into the script, `heal` makes good whatever stands."""

    plan: Callable[["World", random.Random], None]
    heal: Callable[["World"], None]
    what: str


def spans(
    world: "World", chance: random.Random, per_day: float, hours: tuple[float, float]
) -> Iterator[tuple[int, int]]:
    """(begin, end) of a fault that comes so many times a day and lasts so many hours, until the world heals."""
    at_ms = chance.expovariate(per_day) * DAY_MS
    while at_ms < world.heal_ms:
        end_ms = at_ms + chance.uniform(*hours) * HOUR_MS
        # One that begins in the last slot stops there too: what began after its end would never be healed.
        yield min(_stop(at_ms), world.heal_ms - 1), min(_stop(end_ms), world.heal_ms - 1)
        at_ms += chance.expovariate(per_day) * DAY_MS


def _stop(at_ms: float) -> int:
    """The nearest instant at which the world stops anyway: every other one would cost a round of its own."""
    return int(at_ms) // SLOT_MS * SLOT_MS + SLOT_MS - BEFORE_SLOT_MS


# --- lines and meters ------------------------------------------------------------------------


def _line_fault(world: "World", chance: random.Random, make: Callable[[random.Random], LineFault]) -> None:
    for line_id in sorted(world.lines):
        line = world.lines[line_id]
        for begin_ms, end_ms in spans(world, chance, 0.5, (0.3, 3.0)):
            fault = make(random.Random(chance.getrandbits(64)))
            world.script.at(begin_ms, partial(line.faults.append, fault))
            world.script.at(end_ms, partial(_remove, line, fault))


def _remove(line: VirtualLine, fault: LineFault) -> None:
    if fault in line.faults:
        line.faults.remove(fault)


def _heal_lines(world: "World") -> None:
    for line in world.lines.values():
        line.faults.clear()


def _noise(world: "World", chance: random.Random) -> None:
    def make(own: random.Random) -> LineFault:
        def spoil(_line: VirtualLine, _request: bytes, parts: Parts) -> Parts:
            if not parts or len(parts[0][1]) < 2 or own.random() > 0.25:
                return parts
            world.sometimes.saw("noise")
            delay_s, answer = parts[0]
            kind = own.randrange(5)
            if kind == 0:
                return []
            if kind == 1:
                bit = own.randrange(8 * len(answer))
                spoiled = bytearray(answer)
                spoiled[bit // 8] ^= 1 << bit % 8
                return [(delay_s, bytes(spoiled))]
            if kind == 2:
                return [(delay_s, answer[: own.randrange(1, len(answer))])]
            if kind == 3:
                return [(delay_s * own.random(), own.randbytes(own.randrange(1, 9))), (delay_s, answer)]
            half = own.randrange(1, len(answer))
            return [(delay_s, answer[:half]), (delay_s + 0.01 * own.random(), answer[half:] + own.randbytes(2))]

        return spoil

    _line_fault(world, chance, make)


def _late(world: "World", chance: random.Random) -> None:
    def make(own: random.Random) -> LineFault:
        def delay(_line: VirtualLine, _request: bytes, parts: Parts) -> Parts:
            if not parts or own.random() > 0.3:
                return parts
            world.sometimes.saw("late_reply")
            return [(own.uniform(LATE_S, LATE_S_MAX), part) for _, part in parts]

        return delay

    _line_fault(world, chance, make)


def _stale(world: "World", chance: random.Random) -> None:
    """A converter that repeats its buffer: an old answer ahead of the new one, or in its place."""

    def make(own: random.Random) -> LineFault:
        def repeat(line: VirtualLine, _request: bytes, parts: Parts) -> Parts:
            if not parts or not line.last_answer or own.random() > 0.2:
                return parts
            delay_s, answer = parts[0]
            if answer[0] != line.last_answer[0]:
                world.sometimes.saw("foreign_reply")
            world.sometimes.saw("stale_reply")
            old = [(0.8 * delay_s, line.last_answer)]
            return old if own.random() < 0.5 else [*old, *parts]

        return repeat

    _line_fault(world, chance, make)


def _foreign(world: "World", chance: random.Random) -> None:
    """Another device answers: two meters with one switch set wrong, or a reply meant for another master."""

    def make(own: random.Random) -> LineFault:
        def answer_other(line: VirtualLine, request: bytes, parts: Parts) -> Parts:
            others = [device_id for device_id in line.devices if device_id != request[0]]
            if not parts or not others or own.random() > 0.2:
                return parts
            asked = with_crc(bytes((own.choice(others),)) + request[1:-2])
            other = line.answer(asked) if request[1] in (1, 2, 3, 4) else b""  # nobody obeys what another was told
            if not other:
                return parts
            world.sometimes.saw("foreign_reply")
            return [(parts[0][0], other), *(parts if own.random() < 0.5 else [])]

        return answer_other

    _line_fault(world, chance, make)


def _dead_meter(world: "World", chance: random.Random) -> None:
    for begin_ms, end_ms in spans(world, chance, 0.15 * len(world.houses), (2.0, 40.0)):
        account_id = chance.choice(world.houses).account_id
        world.script.at(begin_ms, partial(_silence, world, account_id, True))
        world.script.at(end_ms, partial(_silence, world, account_id, False))
    for begin_ms, end_ms in spans(world, chance, 0.1, (0.1, 3.0)):
        line_id = chance.choice(sorted(world.lines))
        world.script.at(begin_ms, world.lines[line_id].unplug)
        world.script.at(end_ms, partial(world.plug_in, line_id))


def _silence(world: "World", account_id: str, silent: bool) -> None:
    world.meters[account_id].silent = silent
    if silent:
        world.sometimes.saw("dead_meter")


def _heal_meters(world: "World") -> None:
    for meter in world.meters.values():
        meter.silent = False
    for line_id in world.lines:
        world.plug_in(line_id)


def _bad_register(world: "World", chance: random.Random) -> None:
    """A display that falls back or leaps, and is right again later."""
    for begin_ms, end_ms in spans(world, chance, 0.04 * len(world.houses), (1.0, 20.0)):
        account_id = chance.choice(world.houses).account_id
        shift_wh = chance.choice((-40_000, -700, 3_000_000))
        world.script.at(begin_ms, partial(_shift, world, account_id, shift_wh))
        world.script.at(end_ms, partial(_shift, world, account_id, 0))


def _shift(world: "World", account_id: str, shift_wh: int) -> None:
    world.meters[account_id].shift_wh = shift_wh


def _heal_registers(world: "World") -> None:
    for meter in world.meters.values():
        meter.shift_wh = 0


def _stuck_relay(world: "World", chance: random.Random) -> None:
    for begin_ms, end_ms in spans(world, chance, 0.2 * len(world.houses), (1.0, 20.0)):
        account_id = chance.choice(world.houses).account_id
        world.script.at(begin_ms, partial(_stick, world, account_id, True))
        world.script.at(end_ms, partial(_stick, world, account_id, False))


def _stick(world: "World", account_id: str, stuck: bool) -> None:
    world.meters[account_id].contact.stuck = stuck
    if stuck:
        world.sometimes.saw("stuck_relay")


def _free_relays(world: "World") -> None:
    for meter in world.meters.values():
        meter.contact.stuck = False


def _hand(world: "World", chance: random.Random) -> None:
    """Somebody moves a contact by hand."""
    for begin_ms, _ in spans(world, chance, 0.05 * len(world.houses), (0.1, 1.0)):
        account_id = chance.choice(world.houses).account_id
        closed = chance.random() < 0.5
        world.script.at(begin_ms, partial(_move, world, account_id, closed))


def _move(world: "World", account_id: str, closed: bool) -> None:
    world.sometimes.saw("hand_on_contact")
    world.meters[account_id].contact.by_hand(closed)


# --- power, clock, card ----------------------------------------------------------------------


def _power_cut(world: "World", chance: random.Random) -> None:
    """At one of the next commits, before or after it; sometimes again while the gateway comes up."""
    for begin_ms, _ in spans(world, chance, 1.0, (0.1, 0.2)):
        commits_left, side = chance.choice((0, 0, 0, 1, 2, 5)), chance.randrange(3)
        off_ms = int(chance.choice((0.02, 0.05, 0.5, 3.0)) * HOUR_MS)
        again = [chance.randrange(12) for _ in range(2)] if chance.random() < 0.4 else []
        world.script.at(begin_ms, partial(world.plan_power_cut, commits_left, side, off_ms, again))


def _clock_step(world: "World", chance: random.Random) -> None:
    """The clock, believed to be right, is set weeks forward or back, and right again after hours."""
    for begin_ms, end_ms in spans(world, chance, 0.4, (3.0, 30.0)):
        offset_s = chance.choice((FORTY_DAYS_S, -FORTY_DAYS_S)) + chance.randrange(-7200, 7200)
        world.script.at(begin_ms, partial(_set_clock, world, offset_s))
        world.script.at(end_ms, partial(_set_clock, world, 0))


def _set_clock(world: "World", offset_s: int) -> None:
    if world.clock.quality is not ClockQuality.NTP:
        return  # without the network nobody sets it
    if world.clock.offset_s:
        world.clock_wrong_ms = world.now_ms()
    world.clock.offset_s = offset_s
    if offset_s:
        world.sometimes.saw("clock_forward" if offset_s > 0 else "clock_back")


def _dead_rtc(world: "World", chance: random.Random) -> None:
    """After power cuts the clock begins in 1970, until the network sets it hours later."""
    for begin_ms, end_ms in spans(world, chance, 0.2, (6.0, 48.0)):
        world.script.at(begin_ms, partial(_lose_rtc, world, True))
        world.script.at(end_ms, partial(_lose_rtc, world, False))


def _lose_rtc(world: "World", lost: bool) -> None:
    world.rtc_dead = lost
    if not lost:
        world.set_by_network()


def boot_clock(world: "World") -> None:
    """What the clock shows at power-on."""
    if world.rtc_dead:
        world.sometimes.saw("boot_in_1970")
        world.clock.offset_s = -START_AT - world.now_ms() // 1000
        world.clock.quality = ClockQuality.UNSET


def _heal_clock(world: "World") -> None:
    world.rtc_dead = False
    world.set_by_network()


def _old_card(world: "World", chance: random.Random) -> None:
    """Somebody puts an old copy of the card in, and the right one back hours later."""
    at_ms = int(chance.uniform(0.1, 0.5) * world.heal_ms)
    swap_ms = at_ms + int(chance.uniform(6, 60) * HOUR_MS)
    back_ms = swap_ms + int(chance.uniform(2, 20) * HOUR_MS)
    if back_ms < world.heal_ms:
        world.script.at(at_ms, world.copy_card)
        world.script.at(swap_ms, world.put_old_card_in)
        world.script.at(back_ms, world.put_right_card_back)


# --- network and people ----------------------------------------------------------------------


def _partition(world: "World", chance: random.Random) -> None:
    """Hours, and once more than a week where the world lives long enough."""
    for begin_ms, end_ms in spans(world, chance, 0.3, (0.2, 20.0)):
        world.script.at(begin_ms, world.partition)
        world.script.at(end_ms, world.reconnect)
    week_ms = 7 * DAY_MS + HOUR_MS
    if world.heal_ms > week_ms + DAY_MS:
        begin_ms = chance.randrange(HOUR_MS, world.heal_ms - week_ms)
        world.script.at(begin_ms, partial(world.partition, begin_ms + week_ms))
        world.script.at(begin_ms + week_ms, world.end_long_partition)


def _network(world: "World", chance: random.Random) -> None:
    for begin_ms, end_ms in spans(world, chance, 0.6, (1.0, 12.0)):
        weather = (chance.choice((0.05, 0.3)), chance.choice((0.1, 0.5)), chance.choice((0.3, 5.0)))
        world.script.at(begin_ms, partial(_set_weather, world, *weather))
        world.script.at(end_ms, partial(_set_weather, world, 0.0, 0.0, 0.0))


def _set_weather(world: "World", lost: float, doubled: float, late_s: float) -> None:
    weather = world.broker.weather
    weather.lost, weather.doubled, weather.late_s = lost, doubled, late_s


def _technicians(world: "World", chance: random.Random) -> None:
    """Cuts and restores by order, and orders to keep a supply on."""
    for begin_ms, end_ms in spans(world, chance, 0.06 * len(world.houses), (0.5, 30.0)):
        house, keeps = chance.choice(world.houses), chance.random() < 0.35
        first = ("keep_supply", True) if keeps else ("cut", True)
        last = ("keep_supply", False) if keeps else ("restore", True)
        world.script.at(begin_ms, partial(world.people.order, house, *first))
        world.script.at(end_ms, partial(world.people.order, house, *last))


def _console(world: "World", chance: random.Random) -> None:
    """What people enter on site: reasons against a cut, emergency credit, another mode of payment."""
    for begin_ms, end_ms in spans(world, chance, 0.1 * len(world.houses), (4.0, 40.0)):
        account_id, kind = chance.choice(world.houses).account_id, chance.choice(tuple(SupplyHoldKind))
        hold = SupplyHold(kind, "on site")
        world.script.at(begin_ms, partial(world.submit, partial(_set_hold, account_id, hold, True)))
        world.script.at(end_ms, partial(world.submit, partial(_set_hold, account_id, hold, False)))
    for begin_ms, end_ms in spans(world, chance, 0.04 * len(world.houses), (5.0, 30.0)):
        account_id = chance.choice(world.houses).account_id
        for at_ms, mode in ((begin_ms, PaymentMode.CREDIT), (end_ms, PaymentMode.PREPAYMENT)):
            world.script.at(at_ms, partial(world.submit, partial(_change_mode, account_id, mode)))
    for begin_ms, _ in spans(world, chance, 0.6 * len(world.houses), (1.0, 2.0)):
        account_id = chance.choice(world.houses).account_id
        world.script.at(begin_ms, partial(world.submit, partial(_select_emergency, account_id)))


def _set_hold(account_id: str, hold: SupplyHold, stands: bool, now: ClockReading) -> Command:
    return SetSupplyHold(now, account_id, hold, stands)


def _change_mode(account_id: str, mode: PaymentMode, now: ClockReading) -> Command:
    return ChangePaymentMode(now, account_id, mode)


def _select_emergency(account_id: str, now: ClockReading) -> Command:
    return SelectEmergencyCredit(now, account_id)


def _lift_holds(world: "World") -> None:
    for house in world.houses:
        for kind in SupplyHoldKind:
            if kind.value in world.auditor.books[house.account_id].holds:
                world.submit(partial(_set_hold, house.account_id, SupplyHold(kind, ""), False))


def _attackers(world: "World", chance: random.Random) -> None:
    for begin_ms, _ in spans(world, chance, 4.0, (0.1, 0.2)):
        world.script.at(begin_ms, world.people.attack)


def _nothing(_world: "World") -> None:
    """Leaves nothing behind."""


FAULTS: dict[str, Fault] = {
    "noise": Fault(_noise, _heal_lines, "wrong bits, lost, cut and padded answers"),
    "late": Fault(_late, _heal_lines, "answers after their time"),
    "stale": Fault(_stale, _heal_lines, "old answers again"),
    "foreign": Fault(_foreign, _heal_lines, "answers of other devices"),
    "dead_meter": Fault(_dead_meter, _heal_meters, "silent meters, unplugged lines"),
    "bad_register": Fault(_bad_register, _heal_registers, "registers that fall or leap"),
    "stuck_relay": Fault(_stuck_relay, _free_relays, "contacts that do not obey"),
    "hand": Fault(_hand, _nothing, "contacts moved by hand"),
    "power_cut": Fault(_power_cut, _nothing, "power cuts at any commit, and again in recovery"),
    "old_card": Fault(_old_card, lambda world: world.put_right_card_back(), "an old copy of the card put in"),
    "clock_step": Fault(_clock_step, _heal_clock, "the clock set forty days forward or back"),
    "dead_rtc": Fault(_dead_rtc, _heal_clock, "starts in 1970"),
    "partition": Fault(_partition, lambda world: world.end_long_partition(), "no cloud for hours and for a week"),
    "network": Fault(_network, lambda world: _set_weather(world, 0.0, 0.0, 0.0), "lost, late, doubled, out of order"),
    "technicians": Fault(_technicians, _nothing, "cuts, restores and keep-supply by order"),
    "console": Fault(_console, _lift_holds, "holds, emergency credit and modes entered on site"),
    "attackers": Fault(_attackers, _nothing, "forged, spoiled and replayed orders"),
}
