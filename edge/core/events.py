"""What happened: past tense, frozen, and all the journal holds. Replaying them gives the state.

Each class names the stream it travels in (CONTRACT.md): led is money and decisions, res the
results of orders, evt observations, rdg reading records. `posting_nano` is the change of money
on the account, `balance_nano` the money after it; an event never needs rating again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from edge.core.policy import Policy
from edge.core.rating import RatedLine
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


@dataclass(frozen=True, slots=True)
class TermsChanged:
    """The account goes on under another policy, or protected, or no longer."""

    stream: ClassVar[str] = "led"
    at: UnixSeconds
    account: str
    policy: Policy
    protected: bool


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


@dataclass(frozen=True, slots=True)
class PaymentReversed:
    """Money of an applied payment was taken back."""

    stream: ClassVar[str] = "led"
    at: UnixSeconds
    account: str
    payment_id: str
    posting_nano: MoneyNano
    balance_nano: MoneyNano


@dataclass(frozen=True, slots=True)
class PaymentRefused:
    """A payment that was not applied, and why: duplicate | amount | above_limit | unknown_account."""

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


@dataclass(frozen=True, slots=True)
class ConditionNoted:
    """Something worth remembering that changes no account."""

    stream: ClassVar[str] = "evt"
    at: UnixSeconds
    condition: str
    account: str
    detail: str


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
    | ConditionNoted
)
