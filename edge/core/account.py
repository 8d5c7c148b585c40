"""What the gateway knows of each account: plain frozen values, changed only by events.

One balance (RULES.md 10): live balance L = money M - estimate E, where E is the exact cost of
the energy since the last issue. Energy Wh, money nano-currency, time Unix seconds. Source:
COSEM Account (class_id 111), Credit (112), Charge (113); RULES.md 2, 5, 6, 7.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from edge.core.disconnect_control import ControlState
from edge.core.policy import Policy
from edge.core.rating import RatedLine
from edge.core.units import ClockReading, MoneyNano, UnixSeconds, WattHours

CUT_MEMORY_S = 3600


@dataclass(frozen=True, slots=True)
class Register:
    """An import register at an instant."""

    at: UnixSeconds
    register_wh: WattHours


@dataclass(frozen=True, slots=True)
class Notice:
    """One of the three notices of an episode. `receipt` is the clock when it was handed over."""

    number: int
    raised_at: UnixSeconds
    receipt: ClockReading | None = None
    proof: str | None = None
    grace_elapsed_s: int = 0  # of the episode's grace clock at the receipt


@dataclass(frozen=True, slots=True)
class Episode:
    """From the first notice until the balance is good again: the three notices and the grace clock.

    `grace_elapsed_s` is what had elapsed since receipt of notice 2 at `grace_clock`; it only
    grows, and time nobody can vouch for counts 0 (RULES.md 6).
    """

    money_at_start_nano: MoneyNano
    notices: tuple[Notice, ...] = ()
    grace_elapsed_s: int = 0
    grace_clock: ClockReading | None = None
    deferred: tuple[str, ...] = ()  # codes of the blockers last recorded against a due cut
    escalated: bool = False

    def notice(self, number: int) -> Notice | None:
        """The notice of that number, or None while it has not been raised."""
        return next((notice for notice in self.notices if notice.number == number), None)


@dataclass(frozen=True, slots=True)
class Hold:
    """A register that cannot be believed: nothing is charged and nobody is cut on it."""

    reason: str  # register_regression | register_jump
    at: UnixSeconds
    seen_wh: WattHours


@dataclass(frozen=True, slots=True)
class Account:
    """One customer's account and supply."""

    account_id: str
    meter_id: str
    policy: Policy
    tariff: str  # id@version
    money_nano: MoneyNano
    issue: Register  # the base of the estimate
    recorded: Register  # newest register in the journal
    frozen: Register  # of the last daily freeze
    estimate_nano: MoneyNano = MoneyNano(0)  # from `issue` to `recorded`
    charged: tuple[RatedLine, ...] = ()  # the same by period and block
    cycle_energy_wh: tuple[int, ...] = (0,)  # block position, and the cycle it was counted in
    cycle_start_at: UnixSeconds | None = None
    mean_energy_wh: WattHours | None = None  # of the last issued bill
    mean_days: int = 0
    episode: Episode | None = None
    hold: Hold | None = None
    protected: bool = False
    keep_supply: bool = False
    operator_hold: str | None = None
    control_state: ControlState = ControlState.CONNECTED
    control_reason: str = "commissioned"
    local_reason: str | None = None  # why a local disconnect stands, until the balance is good
    supply_version: int = 0  # of the last remote supply command
    output_connected: bool | None = None  # last read-back

    @property
    def energy_since_issue_wh(self) -> WattHours:
        """Energy charged since the last issue."""
        return WattHours(sum(line.energy_wh for line in self.charged))


@dataclass(frozen=True, slots=True)
class State:
    """All the gateway decides from. `applied` answers a repeated command with its stored result."""

    accounts: Mapping[str, Account] = field(default_factory=dict)
    applied: Mapping[str, str] = field(default_factory=dict)  # cid -> result, kept for ever
    payments: Mapping[str, str] = field(default_factory=dict)  # payment id -> account, kept for ever
    tariffs: Mapping[str, str] = field(default_factory=dict)  # id@version -> document, JSON text
    pending_tariffs: tuple[tuple[UnixSeconds, str, str], ...] = ()  # (effective_at, account, id@version)
    local_cuts: tuple[UnixSeconds, ...] = ()  # of the last hour, for the batch limit

    def cuts_since(self, now: UnixSeconds) -> int:
        """Local cuts in the hour before `now`."""
        return sum(at > now - CUT_MEMORY_S for at in self.local_cuts)


def merge_lines(charged: tuple[RatedLine, ...], added: tuple[RatedLine, ...]) -> tuple[RatedLine, ...]:
    """Both sets of lines added up by (period, block, price), in that order."""
    if not added:
        return charged
    totals: dict[tuple[str, int, int], tuple[int, int]] = {}
    for line in (*charged, *added):
        key = (line.period, line.block, line.price_micro_per_kwh)
        energy_wh, amount_nano = totals.get(key, (0, 0))
        totals[key] = (energy_wh + line.energy_wh, amount_nano + line.amount_nano)
    return tuple(RatedLine(*key[:2], total[0], key[2], total[1]) for key, total in sorted(totals.items()))
