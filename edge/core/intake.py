"""What a step makes of samples: the register to charge by, boundaries on the way, reading records.

The register is the account's own: it goes on rising where the meter's starts over. A register that
cannot be believed holds the account. Energy Wh, Unix seconds. Source: RULES.md 2 and 4.
"""

from collections.abc import Sequence
from dataclasses import replace

from edge.core import commands as cmd
from edge.core import events as ev
from edge.core.account import Account, Register
from edge.core.boundary import cross_boundaries
from edge.core.charge import figures_of
from edge.core.frozen import quickly
from edge.core.reading import DeltaKind, RegisterDelta, delta, plausible_energy
from edge.core.turn import Turn
from edge.core.units import SECONDS_PER_DAY, ClockReading, UnixSeconds, WattHours, believed_seconds, least_seconds

# Where no clock can say how long ago the record was made, a day is believed, of energy by physics and of time by a
# wall that nobody bears out: more is not believed until time is known again, and then charged whole.
ELAPSED_UNKNOWN_S = SECONDS_PER_DAY
READ_BACK_S = 60  # between the last of the load and the read-back of an open relay

_register = quickly(Register)


def accept_sample(turn: Turn, sample: cmd.Sample, clock: ClockReading) -> Register | None:
    """The register to charge by, or None if it cannot be believed. Crosses midnights on the way.

    The register is the account's own: it goes on rising where the meter's starts over.
    """
    account = turn.state.accounts[sample.account_id]
    recorded = account.recorded
    at = _charged_at(account, sample, clock)
    found = _delta(account, sample, at)
    if found.energy_wh is None:
        if account.hold is None and (sample.confirmed or (clock.vouched and _stays_so(account, sample, at))):
            reason = f"register_{found.kind.value}"
            turn.emit(ev.HoldRaised(clock.at, account.account_id, reason, recorded.register_wh, sample.register_wh))
        return None
    if account.hold is not None:
        recovered = ("register_recovered", recorded.at, recorded.register_wh, 0)
        turn.emit(ev.HoldCleared(clock.at, account.account_id, *recovered))
    register = _register(UnixSeconds(at), WattHours(recorded.register_wh + found.energy_wh))
    before = None if found.kind is DeltaKind.ROLLOVER else _moved(sample.before, at - sample.at)
    turn.emit_all(cross_boundaries(turn.state, sample.account_id, before, register, turn.rating))
    return register


def _charged_at(account: Account, sample: cmd.Sample, clock: ClockReading) -> int:
    """The instant a sample is charged at: its own, as far as somebody vouches for it.

    An untrusted clock passes no midnight, and a clock set back waits: energy is charged where time stands. A doubted
    one may be a day past the boot's own time, as after a power cut; a wall further ahead would charge days to come
    (SECURITY.md R10), and until somebody vouches for it time goes on by the boot's own.
    """
    recorded_at, since = account.recorded.at, account.recorded_clock
    if not clock.quality.trusted:
        return recorded_at
    if clock.doubted and since is not None:
        known_at = recorded_at + least_seconds(since, clock)
        if sample.at > known_at + ELAPSED_UNKNOWN_S:
            return known_at
    return max(recorded_at, sample.at)


def _moved(before: Register | None, by_s: int) -> Register | None:
    """The sample before, as far from the sample as it was read."""
    if before is None or by_s >= 0:
        return before
    return _register(UnixSeconds(before.at + by_s), before.register_wh)


def sample_age(sample: cmd.Sample, clock: ClockReading) -> int | None:
    """Seconds since a sample was read; None where the wall clock was set back and is all there is."""
    if sample.clock is not None:
        return believed_seconds(sample.clock, clock)
    age_s = clock.at - sample.at
    return age_s if age_s >= 0 else None


def _elapsed_s(account: Account, sample: cmd.Sample, at: int) -> int:
    """How long the meter has been counting since the record: by the boot's own clock where that goes back so far.

    Else by a wall that both ends vouch for. Where it was set back, or is doubted, nobody knows: then physics is asked
    for a day, unless the line, which knows the reading before, says that this one leaps.
    """
    since, now = account.recorded_clock, sample.clock
    if since is not None and now is not None and since.boot_id == now.boot_id:
        return believed_seconds(since, now)
    doubted = (since is not None and since.doubted) or (now is not None and now.doubted)
    if at > account.recorded.at and not doubted:
        return at - account.recorded.at
    return 0 if sample.confirmed else ELAPSED_UNKNOWN_S


def _stays_so(account: Account, sample: cmd.Sample, at: int) -> bool:
    """Whether the sample before cannot be believed either: after a start the line has nothing to compare with."""
    before = sample.before
    if before is None:
        return False
    earlier = replace(sample, at=before.at, register_wh=before.register_wh, before=None)
    return _delta(account, earlier, at).energy_wh is None


def _delta(account: Account, sample: cmd.Sample, at: int) -> RegisterDelta:
    """What lies between the recorded register and a sample, by physics and the meter's modulus."""
    recorded = account.recorded
    elapsed_s = _elapsed_s(account, sample, at)
    before_wh = recorded.register_wh % sample.modulus_wh if sample.modulus_wh else recorded.register_wh
    plausible_wh = plausible_energy(sample.power_w_max, elapsed_s, sample.step_wh)
    return delta(before_wh, sample.register_wh, plausible_wh, sample.modulus_wh)


def record_readings(turn: Turn, clock: ClockReading, account_ids: Sequence[str]) -> None:
    """A reading record of these accounts at the registers they were judged by: one event for all."""
    figures = [turn.figures[account_id] for account_id in account_ids]
    turn.emit(
        ev.ReadingsRecorded(
            at=clock.at,
            clock=clock,
            accounts=tuple(account_ids),
            register_at=tuple(entry.register.at for entry in figures),
            register_wh=tuple(entry.register.register_wh for entry in figures),
            lines=tuple(entry.fresh.lines for entry in figures),
            cycle_energy_wh=tuple(entry.fresh.cycle_energy_wh for entry in figures),
            cycle_start_at=tuple(UnixSeconds(entry.fresh.cycle_start_at) for entry in figures),
            estimated=tuple(entry.fresh.estimated for entry in figures),
        )
    )


def record_basis(turn: Turn, account: Account, clock: ClockReading) -> None:
    """What is decided rests on what is recorded: a restart must not find the balance better than it was."""
    if account.recorded != turn.figures[account.account_id].register:
        record_readings(turn, clock, [account.account_id])


def bring_up_to(turn: Turn, account_id: str, sample: cmd.Sample | None, clock: ClockReading) -> Register | None:
    """Takes in a sample that came with a command; the figures are the account's at it."""
    register = accept_sample(turn, sample, clock) if sample is not None else None
    registers = {} if register is None else {account_id: register}
    turn.figures = figures_of(turn.rating, [turn.state.accounts[account_id]], registers)
    return register


def register_at_most(account: Account, sample: cmd.Sample, clock: ClockReading) -> WattHours | None:
    """The most the account's register can show at `clock` after a sample; None where the sample is not believed.

    The sample is from before the relay moved: what physics allows since then went through a closed one.
    """
    found = _delta(account, sample, max(account.recorded.at, sample.at))
    if found.energy_wh is None:
        return None
    since_s = (sample_age(sample, clock) or 0) + READ_BACK_S
    possible_wh = plausible_energy(sample.power_w_max, since_s, sample.step_wh)
    return WattHours(account.recorded.register_wh + found.energy_wh + possible_wh)
