"""The newest sample of every meter, in memory: between two rounds nothing of it is written.

Every round the accounting gets the newest one of each meter, together with the one before it,
from which a register at midnight is interpolated. Of an account with several meters (a landlord) it gets
one sample of their sum, while all of them answer. Energy Wh, times of the accounting clock.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

from edge.agent.primary import primary_sample
from edge.bus.records import MeterSample
from edge.core.account import Register
from edge.core.commands import Sample
from edge.core.frozen import quickly
from edge.core.landlord import pooled_sample
from edge.core.lean import dataclass
from edge.core.units import WattHours

POWER_POINT = "power_total"  # of edge.meters


@dataclass(frozen=True, slots=True)
class MeterFacts:
    """What judging a register needs to know of the meter behind an account."""

    account_id: str
    meter_id: str
    power_w_max: int
    step_wh: WattHours
    modulus_wh: WattHours | None


@dataclass(frozen=True, slots=True)
class _Newest:
    sample: MeterSample
    before: Register | None = None


_sample, _made_register, _newest = quickly(Sample), quickly(Register), quickly(_Newest)


class Metering:
    """Takes samples from the lines, gives them to the accounting."""

    def __init__(self, meters: Mapping[str, MeterFacts], ct_ratios: Mapping[str, int] = {}) -> None:
        """Both by meter id. `ct_ratios` of the meters behind current transformers; their facts count with them."""
        self._meters, self._ct_ratios = meters, ct_ratios
        by_account: dict[str, list[str]] = {}
        for meter_id, facts in meters.items():
            by_account.setdefault(facts.account_id, []).append(meter_id)
        # By each meter of an account that has more than one: all of them.
        self._pools = {one: tuple(ids) for ids in by_account.values() if len(ids) > 1 for one in ids}
        self._newest: dict[str, _Newest] = {}
        self._over_since_ms: dict[str, int] = {}  # by meter: time since boot at which its load limit was passed

    def on_sample(self, sample: MeterSample) -> None:
        """Keeps a sample as the newest of its meter; the one it replaces becomes the one before."""
        if sample.meter_id in self._ct_ratios:
            sample = primary_sample(sample, self._ct_ratios[sample.meter_id])
        last = self._newest.get(sample.meter_id)
        before = None if last is None else _register(last.sample)
        self._newest[sample.meter_id] = _newest(sample, before)

    def newest(self, meter_id: str) -> MeterSample | None:
        """The newest sample of a meter since the start."""
        entry = self._newest.get(meter_id)
        return None if entry is None else entry.sample

    def samples(self, account_ids: Container[str], power_w_limits: Mapping[str, int] = {}) -> tuple[Sample, ...]:
        """The newest samples of these accounts' meters. `power_w_limits` by account: load limits to watch."""
        alone = [
            _sample_of(facts, entry, self._seconds_over(power_w_limits.get(facts.account_id), (entry.sample,)))
            for meter_id, entry in self._newest.items()
            if (facts := self._meters.get(meter_id)) is not None
            and facts.account_id in account_ids
            and meter_id not in self._pools
        ]
        pooled = [self._pooled(meter_ids, power_w_limits) for meter_ids in dict.fromkeys(self._pools.values())]
        return (*alone, *(one for one in pooled if one is not None and one.account_id in account_ids))

    def latest(self, meter_id: str) -> Sample | None:
        """The newest sample of the account of a meter, None for a meter without account or sample."""
        if meter_id in self._pools:
            return self._pooled(self._pools[meter_id])
        entry, facts = self._newest.get(meter_id), self._meters.get(meter_id)
        return None if entry is None or facts is None else _sample_of(facts, entry)

    def _pooled(self, meter_ids: tuple[str, ...], power_w_limits: Mapping[str, int] = {}) -> Sample | None:
        """The sum of an account's meters, None until each of them has been read and while one is silent."""
        entries = [(self._meters[one], self._newest[one]) for one in meter_ids if one in self._newest]
        if len(entries) < len(meter_ids):
            return None
        account_id = entries[0][0].account_id
        over_s = self._seconds_over(power_w_limits.get(account_id), [entry.sample for _, entry in entries])
        sample = pooled_sample(account_id, [_sample_of(facts, entry) for facts, entry in entries])
        return None if sample is None else replace(sample, power_over_s=over_s)

    def _seconds_over(self, limit_w: int | None, samples: Sequence[MeterSample]) -> int:
        """How long an account's meters have shown more power than a limit. A restart forgets it: never too early."""
        key, elapsed_ms = samples[0].meter_id, min(sample.clock.elapsed_ms for sample in samples)
        powers_w = [] if limit_w is None else [sample.values.get(POWER_POINT, Decimal(0)) for sample in samples]
        if limit_w is None or sum(powers_w) <= limit_w:
            self._over_since_ms.pop(key, None)
            return 0
        since_ms = self._over_since_ms.setdefault(key, elapsed_ms)
        return (elapsed_ms - since_ms) // 1000


def _register(sample: MeterSample) -> Register:
    return _made_register(sample.clock.at, sample.register_wh)


def _sample_of(facts: MeterFacts, entry: _Newest, power_over_s: int = 0) -> Sample:
    return _sample(
        account_id=facts.account_id,
        at=entry.sample.clock.at,
        register_wh=entry.sample.register_wh,
        before=entry.before,
        confirmed=entry.sample.verdict != "good",
        step_wh=facts.step_wh,
        power_w_max=facts.power_w_max,
        modulus_wh=facts.modulus_wh,
        power_over_s=power_over_s,
        clock=entry.sample.clock,
    )
