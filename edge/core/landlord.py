"""One payer, several meters: a landlord's account runs on the sum of its meters' registers.

So one balance pays for all rooms and the blocks count what they use together; who holds the contract
is data of the site. The sum of the registers rises by what all meters count, to the watt-hour, and a
meter that starts over or goes back shows in the sum as it would alone. Energy Wh, power W, time s.
"""

from collections.abc import Sequence

from edge.core.account import Register
from edge.core.commands import Sample
from edge.core.units import ClockReading, UnixSeconds, WattHours

SPREAD_S_MAX = 900  # as old as a reading may be that somebody is cut on


def pooled_sample(account_id: str, samples: Sequence[Sample], spread_s_max: int = SPREAD_S_MAX) -> Sample | None:
    """The sample of an account with several meters, at the newest reading.

    None while the readings lie further apart: a silent meter leaves the account unread, and an
    account that is not read is not cut. `samples` are all meters of the account, each with its newest.
    """
    first_at, newest_at = min(sample.at for sample in samples), max(sample.at for sample in samples)
    if newest_at - first_at > spread_s_max:
        return None
    moduli = {sample.modulus_wh for sample in samples}
    modulus_wh = moduli.pop() if len(moduli) == 1 else None
    total_wh = sum(sample.register_wh for sample in samples)
    return Sample(
        account_id,
        UnixSeconds(newest_at),
        WattHours(total_wh % modulus_wh if modulus_wh else total_wh),
        before=None if modulus_wh else _pooled_before(samples),
        confirmed=any(sample.confirmed for sample in samples),
        step_wh=WattHours(sum(max(1, sample.step_wh) for sample in samples)),
        power_w_max=sum(sample.power_w_max for sample in samples),
        modulus_wh=modulus_wh,
        clock=_oldest_clock(samples),
    )


def _oldest_clock(samples: Sequence[Sample]) -> ClockReading | None:
    """When the oldest of them was read, where each says so."""
    clocks = [sample.clock for sample in samples if sample.clock is not None]
    return min(clocks, key=lambda clock: clock.elapsed_ms) if len(clocks) == len(samples) else None


def _pooled_before(samples: Sequence[Sample]) -> Register | None:
    """The sum of the samples before, where each meter has one."""
    known = [sample.before for sample in samples if sample.before is not None]
    if len(known) < len(samples):
        return None
    total_wh = sum(register.register_wh for register in known)
    return Register(UnixSeconds(max(register.at for register in known)), WattHours(total_wh))
