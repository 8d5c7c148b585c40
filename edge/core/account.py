"""What the gateway knows of each account: plain frozen values, changed only by events.

One balance (RULES.md 10): live balance L = money M - estimate E, where E is the exact cost of
the energy since the last issue. Energy Wh, money nano-currency, time Unix seconds. Source:
COSEM Account (class_id 111), Credit (112), Charge (113); RULES.md 2, 5, 6, 7.
"""

from collections.abc import Mapping
from dataclasses import field, fields

from edge.core.credit_terms import PaymentMode
from edge.core.debt import Debts
from edge.core.demand import Contracted, DemandMeter
from edge.core.disconnect_control import ControlState
from edge.core.emergency import EmergencyCredit
from edge.core.frozen import quickly
from edge.core.late_charge import OpenBill
from edge.core.lean import dataclass
from edge.core.policy import Policy
from edge.core.purchase_order import PurchaseControl
from edge.core.purchased import Bought
from edge.core.rating import RatedLine
from edge.core.supply_hold import SupplyHold
from edge.core.token import TokenState
from edge.core.units import ClockReading, FreezeQuality, MoneyNano, UnixSeconds, WattHours

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
    raised_clock: ClockReading | None = None
    document_hash: str = ""  # hex SHA-256 of what the customer is handed (edge.core.notice_document)


@dataclass(frozen=True, slots=True)
class Episode:
    """From the first notice until the balance is good again: the three notices and the grace clock.

    `grace_elapsed_s` is what had elapsed since receipt of notice 2 at `grace_clock`; it only
    grows, and time nobody can vouch for counts 0 (RULES.md 6). `vouched_elapsed_s` is what it was at the
    newest record whose clock was vouched for: a doubt that is lifted later gives the time since then back.
    """

    money_at_start_nano: MoneyNano
    notices: tuple[Notice, ...] = ()
    grace_elapsed_s: int = 0
    grace_clock: ClockReading | None = None
    vouched_elapsed_s: int = 0
    vouched_clock: ClockReading | None = None
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
class GrantState:
    """What is left of a granted credit, and what the account had used when its period began."""

    left_nano: MoneyNano
    since_wh: WattHours


@dataclass(frozen=True, slots=False)  # its fields are copied in one piece: see `changed`
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
    supply_holds: tuple[SupplyHold, ...] = ()
    control_state: ControlState = ControlState.CONNECTED
    control_reason: str = "commissioned"
    local_reason: str | None = None  # why a local disconnect stands, until the balance is good
    supply_version: int = 0  # of the last remote supply command
    output_connected: bool | None = None  # last read-back
    control_clock: ClockReading | None = None  # when the control state last moved
    recorded_clock: ClockReading | None = None  # of the newest reading record: what time since then is measured by
    open_register_wh: WattHours | None = None  # while the relay is open: what has been accounted for as bypass
    judged_estimate_nano: MoneyNano | None = None  # of the evaluation that notices go by; None: live, or not yet
    judged_quality: str = FreezeQuality.GATEWAY_SAMPLE.value
    judged_at: UnixSeconds | None = None
    risk_level: str = ""  # the level whose policy is in force; empty: the normal one
    normal_policy: Policy | None = None  # what comes back when the level ends
    risk_until: UnixSeconds | None = None
    known_at: UnixSeconds = UnixSeconds(0)  # has passed: when a policy was known to be over
    arrears_since: UnixSeconds | None = None  # issue of the oldest bill that is not covered
    opened_at: UnixSeconds = UnixSeconds(0)  # of the account, or of its present tenancy
    tenant: str = ""  # who holds it, by a reference the cloud can erase; never a name
    tenancy: int = 0  # how often the tenant changed
    mode: PaymentMode = PaymentMode.PREPAYMENT
    mode_clock: ClockReading | None = None  # when the mode last changed
    debts: Debts = field(default_factory=Debts)
    emergency: EmergencyCredit = field(default_factory=EmergencyCredit)
    reserved_nano: MoneyNano = MoneyNano(0)  # set aside, not part of the balance
    purchase: PurchaseControl = field(default_factory=PurchaseControl)
    standing_nano: MoneyNano = MoneyNano(0)  # standing charges since the issue
    bought: Bought = field(default_factory=Bought)  # under a tariff whose blocks count purchases
    contracted: Contracted = field(default_factory=Contracted)
    meters: int = 1  # it pays for: a landlord's register is their sum
    demand: DemandMeter | None = None  # under a tariff that goes by measured power
    month_nano: MoneyNano = MoneyNano(0)  # demand charges since the issue
    open_bills: tuple[OpenBill, ...] = ()  # not covered, the oldest first; under a tariff with a late charge
    late_nano: MoneyNano = MoneyNano(0)  # what their late days cost, for the next bill
    paid_day: int = 0  # the newest local day a payment was counted on, and what came in on it
    paid_day_nano: MoneyNano = MoneyNano(0)
    consumed_nano: MoneyNano = MoneyNano(0)  # charged ever: energy, standing charges, time debts
    consumed_wh: WattHours = WattHours(0)
    grants: Mapping[str, GrantState] = field(default_factory=dict)  # by name, since their period began
    granted_mark_nano: MoneyNano = MoneyNano(0)  # of `consumed_nano`: up to there grants were spent
    month_energies_wh: tuple[WattHours, ...] = ()  # of the last whole calendar months, the newest last
    month_began_at: UnixSeconds | None = None  # the month being counted, and `consumed_wh` at its start
    month_began_wh: WattHours = WattHours(0)

    @property
    def passed_at(self) -> UnixSeconds:
        """An instant that the record knows to have passed, wherever a clock was set since."""
        return max(self.recorded.at, self.known_at)

    @property
    def threshold_nano(self) -> MoneyNano:
        """The disablement threshold: 0 or the last order's trip threshold, less the overdraft."""
        return MoneyNano((self.purchase.trip_nano or 0) - self.policy.overdraft_nano)

    @property
    def recorded_live_nano(self) -> MoneyNano:
        """The live balance at the recorded register."""
        return MoneyNano(self.money_nano - self.estimate_nano)

    @property
    def energy_since_issue_wh(self) -> WattHours:
        """Energy charged since the last issue."""
        return WattHours(sum([line.energy_wh for line in self.charged]))


@dataclass(frozen=True, slots=True)
class Receipt:
    """What an applied payment gave to debts and how much of it was taken back since."""

    amount_nano: MoneyNano
    tenancy: int = 0
    reversed_nano: MoneyNano = MoneyNano(0)
    payment_debt_nano: MoneyNano = MoneyNano(0)
    accumulated_debt_nano: MoneyNano = MoneyNano(0)
    old_debt_nano: MoneyNano = MoneyNano(0)
    cap_period: int = 0
    bought: tuple[RatedLine, ...] = ()  # under a tariff whose blocks count purchases, in the cycle of this day
    bought_first_day: int = 0
    bought_basis_micro_per_kwh: int = 0

    @property
    def debts_nano(self) -> MoneyNano:
        """What still counts as paid to debts."""
        return MoneyNano(self.payment_debt_nano + self.accumulated_debt_nano + self.old_debt_nano)


@dataclass(frozen=True, slots=True)
class StoredPolicy:
    """A policy document as it came, and the key that vouches for it."""

    document: str  # JSON text
    signed_by: str


@dataclass(frozen=True, slots=True)
class State:
    """All the gateway decides from. `applied` answers a repeated command with its stored result."""

    accounts: Mapping[str, Account] = field(default_factory=dict)
    applied: Mapping[str, str] = field(default_factory=dict)  # cid -> result, kept for ever
    payments: Mapping[str, str] = field(default_factory=dict)  # payment id -> account, kept for ever
    tariffs: Mapping[str, str] = field(default_factory=dict)  # id@version -> document, JSON text
    policies: Mapping[str, StoredPolicy] = field(default_factory=dict)  # id@version -> document
    pending_tariffs: tuple[tuple[UnixSeconds, str, str], ...] = ()  # (effective_at, account, id@version)
    local_cuts: tuple[UnixSeconds, ...] = ()  # of the last hour, for the batch limit
    tokens: TokenState = field(default_factory=TokenState)  # what decoders and doors remember
    receipts: Mapping[str, Receipt] = field(default_factory=dict)  # payment id -> what became of it
    purchase_orders: Mapping[str, str] = field(default_factory=dict)  # account/number -> account, kept for ever
    paid_day: int = 0  # the newest local day a payment was counted on, and what came in on it
    paid_day_nano: MoneyNano = MoneyNano(0)

    def cuts_since(self, now: UnixSeconds) -> int:
        """Local cuts in the hour before `now`."""
        return sum(at > now - CUT_MEMORY_S for at in self.local_cuts)


_FIELD_COUNT = len(fields(Account))
_line = quickly(RatedLine)


def changed(account: Account, **values: object) -> Account:
    """The account with other values of some fields, as `dataclasses.replace` makes it, in a fraction of its time.

    Every reading record changes every account, and there are many fields: they lie in one dictionary, which is copied
    as a whole before anybody sees the new account.
    """
    made = object.__new__(Account)
    content = made.__dict__
    content.update(account.__dict__)
    content.update(values)
    if len(content) != _FIELD_COUNT:
        raise KeyError(f"an account has no {min(content.keys() - account.__dict__.keys())}")
    return made


def merge_lines(charged: tuple[RatedLine, ...], added: tuple[RatedLine, ...]) -> tuple[RatedLine, ...]:
    """Both sets of lines added up by (period, block, price), in that order. `charged` came from here."""
    if not added:
        return charged
    merged = {(line.period, line.block, line.price_micro_per_kwh): line for line in charged}
    for line in added:
        key = (line.period, line.block, line.price_micro_per_kwh)
        before = merged.get(key)
        if before is not None:
            energy_wh, amount_nano = before.energy_wh + line.energy_wh, before.amount_nano + line.amount_nano
            line = _line(line.period, line.block, energy_wh, line.price_micro_per_kwh, amount_nano)
        merged[key] = line
    if len(merged) == len(charged):
        return tuple(merged.values())  # they stand in their order already
    return tuple([merged[key] for key in sorted(merged)])
