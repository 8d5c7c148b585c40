"""What happened: past tense, frozen, and all the journal holds. Replaying them gives the state.

Each class names the stream it travels in (CONTRACT.md): led is money and decisions, res the
results of orders, evt observations, rdg reading records. `posting_nano` is the change of money
on the account, `balance_nano` the money after it; an event never needs rating again.
"""

from collections.abc import Mapping
from dataclasses import field
from typing import ClassVar

from edge.core.demand import Contracted, DemandLine
from edge.core.instalment import Instalment
from edge.core.late_charge import SettledPart
from edge.core.lean import dataclass
from edge.core.policy import Policy
from edge.core.rating import RatedLine
from edge.core.token import DecoderCommissioned, KeySectionAccepted, TokenAccepted, TokenRefused, TokenRelayed
from edge.core.units import ClockReading, MoneyNano, UnixSeconds, WattHours


@dataclass(frozen=True, slots=True)
class AccountOpened:
    """An account began at a register; nothing before it is charged."""

    stream: ClassVar[str] = "led"
    at: UnixSeconds
    account: str
    meter: str
    policy: Policy
    tariff: str
    positions: int  # how many block positions the tariff counts
    register_at: UnixSeconds
    register_wh: WattHours
    protected: bool
    posting_nano: MoneyNano
    balance_nano: MoneyNano
    contracted: Contracted = field(default_factory=Contracted)
    demand_window_s: int = 0  # power is measured over such windows; 0: it is not
    meters: int = 1  # it pays for: a landlord's register is their sum


@dataclass(frozen=True, slots=True)
class TermsChanged:
    """The account goes on under another policy, or protected, or no longer, or under another contract."""

    stream: ClassVar[str] = "led"
    at: UnixSeconds
    account: str
    policy: Policy
    protected: bool
    contracted: Contracted = field(default_factory=Contracted)
    meters: int = 1  # it pays for: a landlord's register is their sum


@dataclass(frozen=True, slots=True)
class PolicyAccepted:
    """A policy document is stored, word for word, with the key that signed it."""

    stream: ClassVar[str] = "led"
    at: UnixSeconds
    policy: str  # id@version
    document: str
    signed_by: str


@dataclass(frozen=True, slots=True)
class PolicySet:
    """A signed policy is in force, under a risk level (with its end) or under none."""

    stream: ClassVar[str] = "led"
    at: UnixSeconds
    account: str
    policy: Policy
    risk_level: str
    risk_policy: Policy | None
    risk_until: UnixSeconds | None


@dataclass(frozen=True, slots=True)
class PolicyEnded:
    """The policy in force is known to be over: from here on no clock brings it back. Nobody is cut under it."""

    stream: ClassVar[str] = "led"
    at: UnixSeconds
    account: str
    policy: str  # id@version
    valid_until: UnixSeconds
    known_at: UnixSeconds  # an instant that has passed, by a trusted wall or by the backend's time


@dataclass(frozen=True, slots=True)
class RiskLevelExpired:
    """A risk level is over: the normal policy is in force again."""

    stream: ClassVar[str] = "led"
    at: UnixSeconds
    account: str
    risk_level: str


@dataclass(frozen=True, slots=True)
class PaymentApplied:
    """Money came in under a payment id, which counts once for ever."""

    stream: ClassVar[str] = "led"
    at: UnixSeconds
    account: str
    payment_id: str
    amount_nano: MoneyNano
    door: str
    paid_at: UnixSeconds
    posting_nano: MoneyNano
    balance_nano: MoneyNano
    limit_day: int = 0  # the local day it counts on against the limits of a day


@dataclass(frozen=True, slots=True)
class PaymentReversed:
    """Money of an applied payment was taken back."""

    stream: ClassVar[str] = "led"
    at: UnixSeconds
    account: str
    payment_id: str
    posting_nano: MoneyNano
    balance_nano: MoneyNano
    signed_by: tuple[str, ...] = ()  # the keys of both persons; records from before that was asked for have none


@dataclass(frozen=True, slots=True)
class PaymentRefused:
    """A payment that was not applied, and why: the reasons of edge.core.credit."""

    stream: ClassVar[str] = "evt"
    at: UnixSeconds
    account: str
    payment_id: str
    amount_nano: MoneyNano
    door: str
    reason: str


@dataclass(frozen=True, slots=True)
class RegisterFrozen:
    """A register at a boundary (local midnight, change of tariff) with all charged since the issue."""

    stream: ClassVar[str] = "led"
    at: UnixSeconds
    account: str
    occasion: str  # daily | tariff_change
    register_wh: WattHours
    quality: str
    energy_wh: WattHours  # since the last record
    day_energy_wh: WattHours  # since the last daily freeze
    lines: tuple[RatedLine, ...]  # of that energy
    estimated: bool
    estimate_nano: MoneyNano  # since the issue
    cycle_energy_wh: tuple[int, ...]
    cycle_start_at: UnixSeconds | None
    balance_nano: MoneyNano
    live_balance_nano: MoneyNano


@dataclass(frozen=True, slots=True)
class BillIssued:
    """The bill of a period, exact; its rounding is the line that follows."""

    stream: ClassVar[str] = "led"
    at: UnixSeconds
    account: str
    issued_from: UnixSeconds
    register_from_wh: WattHours
    register_to_wh: WattHours
    energy_wh: WattHours
    days: int
    lines: tuple[RatedLine, ...]
    amount_nano: MoneyNano
    bill_minor: int
    estimate_nano: MoneyNano  # 0: the bill takes the estimate's place
    posting_nano: MoneyNano
    balance_nano: MoneyNano
    standing_nano: MoneyNano = MoneyNano(0)  # of the period, posted by the day; part of `bill_minor`
    minimum_nano: MoneyNano = MoneyNano(0)  # to the minimum bill, the line that follows; part of `bill_minor`
    bought_nano: MoneyNano = MoneyNano(0)  # for blocks of purchases, posted with each; part of `bill_minor`
    month_nano: MoneyNano = MoneyNano(0)  # demand and late charges, posted before; part of `bill_minor`
    open_nano: MoneyNano = MoneyNano(0)  # not covered, where the tariff has a late charge
    due_day: int = 0  # local day up to which that is paid in time


@dataclass(frozen=True, slots=True)
class RoundingPosted:
    """What brings the money to the minor unit after a bill."""

    stream: ClassVar[str] = "led"
    at: UnixSeconds
    account: str
    posting_nano: MoneyNano
    balance_nano: MoneyNano


@dataclass(frozen=True, slots=True)
class NoticeRaised:
    """Notice 1, 2 or 3 became due, on the reading named here."""

    stream: ClassVar[str] = "led"
    at: UnixSeconds
    account: str
    number: int
    balance_nano: MoneyNano
    live_balance_nano: MoneyNano
    reserve_nano: MoneyNano
    register_at: UnixSeconds
    register_wh: WattHours
    clock: ClockReading | None = None
    document_hash: str = ""


@dataclass(frozen=True, slots=True)
class NoticeDelivered:
    """A notice was handed over; notice 2 starts the grace clock."""

    stream: ClassVar[str] = "led"
    at: UnixSeconds
    account: str
    number: int
    proof: str
    receipt: ClockReading
    grace_elapsed_s: int
    document_hash: str = ""
    actor: str = ""  # who saw it handed over on site


@dataclass(frozen=True, slots=True)
class EpisodeClosed:
    """The balance is good again: notices and grace are over."""

    stream: ClassVar[str] = "led"
    at: UnixSeconds
    account: str
    reason: str  # balance_restored | reserve_restored
    live_balance_nano: MoneyNano


@dataclass(frozen=True, slots=True)
class CutDeferred:
    """A cut is due and these blockers stand, each with its code and evidence. Written when the codes change."""

    stream: ClassVar[str] = "evt"
    at: UnixSeconds
    account: str
    blockers: tuple[tuple[str, Mapping[str, int | str]], ...]


@dataclass(frozen=True, slots=True)
class CaseEscalated:
    """A protected customer in arrears after the grace: a person decides, the relay never does."""

    stream: ClassVar[str] = "led"
    at: UnixSeconds
    account: str
    live_balance_nano: MoneyNano


@dataclass(frozen=True, slots=True)
class DisconnectControlChanged:
    """The control state moved. What the relay did is OutputStateObserved."""

    stream: ClassVar[str] = "led"
    at: UnixSeconds
    account: str
    control_state: str
    trigger: str
    reason: str
    local_reason: str | None
    supply_version: int
    balance_nano: MoneyNano
    live_balance_nano: MoneyNano | None
    register_wh: WattHours | None
    clock: ClockReading | None = None
    actor: str = ""  # who pressed the key


@dataclass(frozen=True, slots=True)
class LocalReasonCleared:
    """The balance is good again: nothing local keeps this supply open any more."""

    stream: ClassVar[str] = "led"
    at: UnixSeconds
    account: str
    live_balance_nano: MoneyNano


@dataclass(frozen=True, slots=True)
class KeepSupplyChanged:
    """A keep-supply order came or went."""

    stream: ClassVar[str] = "led"
    at: UnixSeconds
    account: str
    keep: bool
    supply_version: int


@dataclass(frozen=True, slots=True)
class BalanceEvaluated:
    """Once a day at the policy's hour: the balance that notices go by until the next one."""

    stream: ClassVar[str] = "evt"
    at: UnixSeconds
    account: str
    estimate_nano: MoneyNano
    live_balance_nano: MoneyNano


@dataclass(frozen=True, slots=True)
class SupplyHoldChanged:
    """A stated reason against cuts was set or lifted."""

    stream: ClassVar[str] = "led"
    at: UnixSeconds
    account: str
    kind: str
    reference: str
    until: UnixSeconds | None
    stands: bool


@dataclass(frozen=True, slots=True)
class HoldRaised:
    """A register cannot be believed: no charge, no refund, no cut on it."""

    stream: ClassVar[str] = "led"
    at: UnixSeconds
    account: str
    reason: str
    recorded_wh: WattHours
    seen_wh: WattHours


@dataclass(frozen=True, slots=True)
class HoldCleared:
    """`register_wh` is the base from here on; what lies between it and the old one is not charged."""

    stream: ClassVar[str] = "led"
    at: UnixSeconds
    account: str
    reason: str  # register_recovered | accepted by a person
    register_at: UnixSeconds
    register_wh: WattHours
    uncharged_wh: int


@dataclass(frozen=True, slots=True)
class MeterExchanged:
    """The account goes on at another meter. Block position and money are the customer's and stay."""

    stream: ClassVar[str] = "led"
    at: UnixSeconds
    account: str
    meter_before: str
    meter: str
    last_wh: WattHours
    register_at: UnixSeconds
    first_wh: WattHours
    actor: str
    last_source: str = "read"  # read | typed | estimated
    estimated_wh: int = 0  # charged on top of last_wh, for the time between the two meters
    record: str = ""  # SHA-256 of the signed record of the exchange, hexadecimal


@dataclass(frozen=True, slots=True)
class TariffAccepted:
    """A tariff document is stored, word for word."""

    stream: ClassVar[str] = "led"
    at: UnixSeconds
    tariff: str
    document: str


@dataclass(frozen=True, slots=True)
class TariffScheduled:
    """A stored tariff takes over for an account at an instant."""

    stream: ClassVar[str] = "led"
    at: UnixSeconds
    account: str
    tariff: str
    effective_at: UnixSeconds


@dataclass(frozen=True, slots=True)
class TariffActivated:
    """A tariff took over for an account."""

    stream: ClassVar[str] = "led"
    at: UnixSeconds
    account: str
    tariff: str
    cycle_energy_wh: tuple[int, ...]  # carried over: a change of price does not reset the blocks
    demand_window_s: int = 0


@dataclass(frozen=True, slots=True)
class ReadingsRecorded:
    """The reading record of a slot, in columns: what a restart resumes from (CONTRACT.md)."""

    stream: ClassVar[str] = "rdg"
    at: UnixSeconds
    clock: ClockReading
    accounts: tuple[str, ...]
    register_at: tuple[UnixSeconds, ...]
    register_wh: tuple[WattHours, ...]
    lines: tuple[tuple[RatedLine, ...], ...]
    cycle_energy_wh: tuple[tuple[int, ...], ...]
    cycle_start_at: tuple[UnixSeconds | None, ...]
    estimated: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class OrderApplied:
    """The stored result of an order that was obeyed."""

    stream: ClassVar[str] = "res"
    at: UnixSeconds
    cid: str
    order_type: str
    account: str
    result: str = "applied"


@dataclass(frozen=True, slots=True)
class OrderRefused:
    """The stored result of an order that was not, and why."""

    stream: ClassVar[str] = "res"
    at: UnixSeconds
    cid: str
    order_type: str
    account: str
    reason: str
    result: str = field(default="rejected")


@dataclass(frozen=True, slots=True)
class OutputStateObserved:
    """Relay feedback: what was read back, and what was wanted. A difference is an alarm."""

    stream: ClassVar[str] = "evt"
    at: UnixSeconds
    account: str
    connected: bool
    wanted: bool
    register_wh: WattHours | None = None
    commanded: str = ""  # open | closed: of a relay without a contact nothing but the command is known


@dataclass(frozen=True, slots=True)
class EnergyWhileDisconnected:
    """The register went on while the relay was read back open: a bypass (SECURITY.md R18). It is charged too."""

    stream: ClassVar[str] = "evt"
    at: UnixSeconds
    account: str
    energy_wh: WattHours
    register_wh: WattHours


@dataclass(frozen=True, slots=True)
class ConditionNoted:
    """Something worth remembering that changes no account."""

    stream: ClassVar[str] = "evt"
    at: UnixSeconds
    condition: str
    account: str
    detail: str


# --- credits and debts: edge.core.money and edge.core.daily_charges -----------------------------


@dataclass(frozen=True, slots=True)
class PaymentAllocated:
    """Where the payment before went (RULES.md 5). What paid debts leaves the money again; the parts add up."""

    stream: ClassVar[str] = "led"
    at: UnixSeconds
    account: str
    payment_id: str
    amount_nano: MoneyNano
    payment_debt_nano: MoneyNano
    accumulated_debt_nano: MoneyNano
    old_debt_nano: MoneyNano
    below_threshold_nano: MoneyNano
    emergency_nano: MoneyNano
    token_nano: MoneyNano
    cap_period: int
    emergency_used_nano: MoneyNano  # after it
    posting_nano: MoneyNano
    balance_nano: MoneyNano


@dataclass(frozen=True, slots=True)
class EnergyBought:
    """What a purchase bought by the blocks of its month. Posted is what that costs beyond the first block's price."""

    stream: ClassVar[str] = "led"
    at: UnixSeconds
    account: str
    payment_id: str  # empty: the purchase order before
    first_day: int  # local day on which the cycle began
    before_wh: WattHours  # bought in it before this
    energy_wh: WattHours
    lines: tuple[RatedLine, ...]
    basis_micro_per_kwh: int  # of the first block: what each Wh is charged at when it is used
    rest_nano: MoneyNano  # too little for one more Wh: credit, counted with the next purchase
    posting_nano: MoneyNano
    balance_nano: MoneyNano


@dataclass(frozen=True, slots=True)
class BoughtEnergyReturned:
    """A payment taken back buys less: what its blocks had cost comes back. `lines` are what stays bought by it."""

    stream: ClassVar[str] = "led"
    at: UnixSeconds
    account: str
    payment_id: str
    first_day: int
    energy_wh: WattHours  # no longer bought
    lines: tuple[RatedLine, ...]
    basis_micro_per_kwh: int  # what the energy in the balance is charged at
    posting_nano: MoneyNano
    balance_nano: MoneyNano


@dataclass(frozen=True, slots=True)
class BoughtEnergyRepriced:
    """The first block's price changed: the balance moves, so that it holds as many whole watt-hours as before."""

    stream: ClassVar[str] = "led"
    at: UnixSeconds
    account: str
    basis_before_micro_per_kwh: int
    basis_micro_per_kwh: int
    live_balance_nano: MoneyNano  # before it
    posting_nano: MoneyNano
    balance_nano: MoneyNano


@dataclass(frozen=True, slots=True)
class AllocationReversed:
    """A payment taken back is owed again where it had paid debts; that much comes back to the money."""

    stream: ClassVar[str] = "led"
    at: UnixSeconds
    account: str
    payment_id: str
    payment_debt_nano: MoneyNano
    accumulated_debt_nano: MoneyNano
    old_debt_nano: MoneyNano
    cap_period: int
    posting_nano: MoneyNano
    balance_nano: MoneyNano


@dataclass(frozen=True, slots=True)
class DebtSet:
    """A debt is `amount_nano` from here on, `change_nano` more than before. No money moves."""

    stream: ClassVar[str] = "led"
    at: UnixSeconds
    account: str
    debt: str  # payment | time_1 | time_2 | accumulated | old
    change_nano: MoneyNano
    amount_nano: MoneyNano
    share: int
    cap_nano: MoneyNano | None
    cap_days: int
    daily_nano: MoneyNano
    reference: str


@dataclass(frozen=True, slots=True)
class InstalmentsAgreed:
    """Old debt is to be paid in these parts."""

    stream: ClassVar[str] = "led"
    at: UnixSeconds
    account: str
    plan_id: str
    parts: tuple[Instalment, ...]


@dataclass(frozen=True, slots=True)
class InstalmentDue:
    """A part of a plan fell due: so much of the old debt is accumulated debt now."""

    stream: ClassVar[str] = "led"
    at: UnixSeconds
    account: str
    plan_id: str
    number: int  # from 1
    due_day: int
    change_nano: MoneyNano


@dataclass(frozen=True, slots=True)
class DailyChargePosted:
    """A standing charge or time debt of the days up to this midnight: from the money, or onto accumulated debt."""

    stream: ClassVar[str] = "led"
    at: UnixSeconds
    account: str
    charge: str  # standing | time_1 | time_2
    name: str
    first_day: int
    count: int  # days, or months begun
    amount_nano: MoneyNano
    accumulated_nano: MoneyNano
    posting_nano: MoneyNano  # minus what is not accumulated
    balance_nano: MoneyNano


@dataclass(frozen=True, slots=True)
class MinimumBillPosted:
    """What the bill before lacked to the minimum."""

    stream: ClassVar[str] = "led"
    at: UnixSeconds
    account: str
    posting_nano: MoneyNano
    balance_nano: MoneyNano


@dataclass(frozen=True, slots=True)
class DemandChargePosted:
    """What the power of a billing month costs, by the lines named; the measuring begins anew."""

    stream: ClassVar[str] = "led"
    at: UnixSeconds
    account: str
    first_day: int  # of the month, or of the account in it
    end_day: int  # not in it
    power_w_max: int | None  # measured
    lines: tuple[DemandLine, ...]
    posting_nano: MoneyNano
    balance_nano: MoneyNano


@dataclass(frozen=True, slots=True)
class BillsSettled:
    """What a payment settled of issued bills, the oldest first. No money moves: late days wait for the next bill."""

    stream: ClassVar[str] = "led"
    at: UnixSeconds
    account: str
    payment_id: str
    paid_day: int  # local day of the payment, as far as it is known
    parts: tuple[SettledPart, ...]


@dataclass(frozen=True, slots=True)
class LateChargePosted:
    """What the late parts in `BillsSettled` since the issue before cost; part of the bill after it."""

    stream: ClassVar[str] = "led"
    at: UnixSeconds
    account: str
    posting_nano: MoneyNano
    balance_nano: MoneyNano


@dataclass(frozen=True, slots=True)
class EmergencyCreditSelected:
    """The customer may draw on the emergency credit from here on."""

    stream: ClassVar[str] = "led"
    at: UnixSeconds
    account: str
    limit_nano: MoneyNano
    live_balance_nano: MoneyNano
    actor: str = ""


@dataclass(frozen=True, slots=True)
class EmergencyCreditDrawn:
    """How much emergency credit is used at a freeze or issue. It follows from the live balance; no money moves."""

    stream: ClassVar[str] = "led"
    at: UnixSeconds
    account: str
    change_nano: MoneyNano
    used_nano: MoneyNano
    live_balance_nano: MoneyNano


@dataclass(frozen=True, slots=True)
class EmergencyCreditGivenBack:
    """A payment reached the emergency threshold: all of it may be selected again."""

    stream: ClassVar[str] = "led"
    at: UnixSeconds
    account: str
    live_balance_nano: MoneyNano


@dataclass(frozen=True, slots=True)
class PurchaseOrderApplied:
    """A purchase order, which counts once for ever by its number."""

    stream: ClassVar[str] = "led"
    at: UnixSeconds
    account: str
    number: int
    operation: str  # append | refresh
    unit: str
    value_nano: MoneyNano
    alarm_nano: MoneyNano | None
    trip_nano: MoneyNano | None
    live_balance_nano: MoneyNano  # after it
    limit_day: int
    posting_nano: MoneyNano
    balance_nano: MoneyNano


@dataclass(frozen=True, slots=True)
class TenantChanged:
    """The snapshot of the former tenant, whose balance and debts leave with him, and the new one's opening."""

    stream: ClassVar[str] = "led"
    at: UnixSeconds
    account: str
    tenant: str
    former_tenant: str
    register_at: UnixSeconds
    register_wh: WattHours
    former_balance_nano: MoneyNano
    former_payment_debt_nano: MoneyNano
    former_time_1_nano: MoneyNano
    former_time_2_nano: MoneyNano
    former_accumulated_nano: MoneyNano
    former_old_debt_nano: MoneyNano
    former_reserved_nano: MoneyNano
    posting_nano: MoneyNano
    balance_nano: MoneyNano


@dataclass(frozen=True, slots=True)
class PaymentModeChanged:
    """Prepayment or credit from here on. `clock` is when, for the grace that follows."""

    stream: ClassVar[str] = "led"
    at: UnixSeconds
    account: str
    mode: str
    clock: ClockReading
    live_balance_nano: MoneyNano


@dataclass(frozen=True, slots=True)
class CorrectionPosted:
    """Money put right by a new entry with two signatures."""

    stream: ClassVar[str] = "led"
    at: UnixSeconds
    account: str
    reference: str
    reason: str
    signed_by: tuple[str, ...]
    posting_nano: MoneyNano
    balance_nano: MoneyNano


@dataclass(frozen=True, slots=True)
class ReservedCreditMoved:
    """Money was set aside, or given back to the balance."""

    stream: ClassVar[str] = "led"
    at: UnixSeconds
    account: str
    change_nano: MoneyNano
    reserved_nano: MoneyNano
    posting_nano: MoneyNano
    balance_nano: MoneyNano


@dataclass(frozen=True, slots=True)
class GrantedCreditSpent:
    """How much of each granted credit the charges up to this midnight used. No money moves: it is in the balance."""

    stream: ClassVar[str] = "led"
    at: UnixSeconds
    account: str
    spent: tuple[tuple[str, MoneyNano], ...]
    consumed_nano: MoneyNano


@dataclass(frozen=True, slots=True)
class GrantedCreditLapsed:
    """What was not spent of a granted credit by the end of its period."""

    stream: ClassVar[str] = "led"
    at: UnixSeconds
    account: str
    credit: str
    posting_nano: MoneyNano
    balance_nano: MoneyNano


@dataclass(frozen=True, slots=True)
class CreditPeriodBegan:
    """A period of a time- or consumption-based credit began, with what is granted at it (0: nothing)."""

    stream: ClassVar[str] = "led"
    at: UnixSeconds
    account: str
    credit: str
    kind: str
    consumed_nano: MoneyNano
    consumed_wh: WattHours
    posting_nano: MoneyNano
    balance_nano: MoneyNano


@dataclass(frozen=True, slots=True)
class MonthCounted:
    """A calendar month ended: its energy chooses the band from here on, if it was counted from its start."""

    stream: ClassVar[str] = "led"
    at: UnixSeconds
    account: str
    energy_wh: WattHours
    whole: bool
    consumed_wh: WattHours


@dataclass(frozen=True, slots=True)
class RequestRefused:
    """Something asked for on site (no signed order) that was not done, and why."""

    stream: ClassVar[str] = "evt"
    at: UnixSeconds
    account: str
    request: str
    reason: str


MoneyEvent = (
    PaymentAllocated
    | EnergyBought
    | BoughtEnergyReturned
    | BoughtEnergyRepriced
    | AllocationReversed
    | DebtSet
    | InstalmentsAgreed
    | InstalmentDue
    | DailyChargePosted
    | MinimumBillPosted
    | DemandChargePosted
    | BillsSettled
    | LateChargePosted
    | EmergencyCreditSelected
    | EmergencyCreditDrawn
    | EmergencyCreditGivenBack
    | PurchaseOrderApplied
    | TenantChanged
    | PaymentModeChanged
    | CorrectionPosted
    | ReservedCreditMoved
    | GrantedCreditSpent
    | GrantedCreditLapsed
    | CreditPeriodBegan
    | MonthCounted
    | RequestRefused
)

Event = (
    AccountOpened
    | TermsChanged
    | PaymentApplied
    | PaymentReversed
    | PaymentRefused
    | RegisterFrozen
    | BillIssued
    | RoundingPosted
    | NoticeRaised
    | NoticeDelivered
    | EpisodeClosed
    | CutDeferred
    | CaseEscalated
    | DisconnectControlChanged
    | LocalReasonCleared
    | KeepSupplyChanged
    | HoldRaised
    | HoldCleared
    | TariffAccepted
    | TariffScheduled
    | TariffActivated
    | ReadingsRecorded
    | OrderApplied
    | OrderRefused
    | OutputStateObserved
    | EnergyWhileDisconnected
    | SupplyHoldChanged
    | PolicyAccepted
    | PolicySet
    | PolicyEnded
    | RiskLevelExpired
    | MeterExchanged
    | DecoderCommissioned
    | TokenAccepted
    | KeySectionAccepted
    | TokenRefused
    | TokenRelayed
    | BalanceEvaluated
    | ConditionNoted
    | MoneyEvent
)
