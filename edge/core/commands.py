"""What the core can be told: imperative, frozen, and the only way to change an account.

Every command carries the clock it is judged by; the core has no other. `received` is that
clock, `paid_at` and the like are wall times told by somebody else and move no deadline
(RULES.md 10, Times).
"""

from dataclasses import field

from edge.core.account import Register
from edge.core.credit_terms import CreditUnit, PaymentMode
from edge.core.debt import DebtKind
from edge.core.demand import Contracted
from edge.core.disconnect_control import Trigger
from edge.core.lean import dataclass
from edge.core.policy import Policy
from edge.core.purchase_order import PurchaseOrder
from edge.core.supply_hold import SupplyHold
from edge.core.token import KEY_EXPIRY_MAX, EnterToken
from edge.core.units import ClockReading, MoneyNano, UnixSeconds, WattHours


@dataclass(frozen=True, slots=True)
class Sample:
    """A register just read. `before` is the sample before it, if the gateway still knows it.

    `confirmed` says that an implausible value was read twice and is what the meter shows.
    """

    account_id: str
    at: UnixSeconds
    register_wh: WattHours
    before: Register | None = None
    confirmed: bool = False
    step_wh: WattHours = WattHours(0)  # resolution of the register here
    power_w_max: int = 20_000
    modulus_wh: WattHours | None = None
    power_over_s: int = 0  # how long power has been above the account's load limit, as far as was seen
    clock: ClockReading | None = None  # when it was read; without it wall time is all there is


@dataclass(frozen=True, slots=True)
class OpenAccount:
    """Starts an account at a register read on site. Nothing before it is charged."""

    received: ClockReading
    account_id: str
    meter_id: str
    policy: Policy
    tariff: str
    register: Register
    opening_nano: MoneyNano = MoneyNano(0)
    protected: bool = False
    contracted: Contracted = field(default_factory=Contracted)
    meters: int = 1  # it pays for: a landlord's register is their sum


@dataclass(frozen=True, slots=True)
class ChangeTerms:
    """The site book says otherwise than the account: another policy, protected or no longer, another contract."""

    received: ClockReading
    account_id: str
    policy: Policy
    protected: bool
    contracted: Contracted = field(default_factory=Contracted)
    meters: int = 1  # it pays for: a landlord's register is their sum


@dataclass(frozen=True, slots=True)
class AcceptPolicy:
    """A verified policy document is stored; nobody is under it until it is set.

    A version that is stored already stays as it is, whatever this one says.
    """

    received: ClockReading
    policy: str  # id@version
    document: str
    signed_by: str


@dataclass(frozen=True, slots=True)
class SetPolicy:
    """A verified policy takes effect for accounts (empty: all), under a risk level until its end or under none.

    All of them or none: one that cannot be under it refuses the whole order.
    """

    received: ClockReading
    account_ids: tuple[str, ...]
    policy: Policy
    risk_level: str = ""
    risk_policy: Policy | None = None
    risk_until: UnixSeconds | None = None
    cid: str | None = None


@dataclass(frozen=True, slots=True)
class TakeRound:
    """The newest samples of all meters, and what is needed to judge cuts by.

    `record` asks for a reading record (once a slot). `cloud_silent_s` is how long the cloud
    has not been heard, None if it never was configured; `server_at` its time, carried on since.
    """

    received: ClockReading
    samples: tuple[Sample, ...]
    record: bool = False
    cloud_silent_s: int | None = None
    server_at: UnixSeconds | None = None


@dataclass(frozen=True, slots=True)
class ApplyPayment:
    """Money for an account. `cid` is set when a signed order carried it, by whatever door."""

    received: ClockReading
    account_id: str
    payment_id: str
    amount_nano: MoneyNano
    door: str  # cloud | voucher | token
    paid_at: UnixSeconds
    cid: str | None = None
    sample: Sample | None = None
    unit: CreditUnit = CreditUnit.MONEY


@dataclass(frozen=True, slots=True)
class ReversePayment:
    """Takes back a payment that was applied. It opens an episode, it never cuts at once.

    Two keys vouch for it, as for every correction (SECURITY.md R6).
    """

    received: ClockReading
    payment_id: str
    amount_nano: MoneyNano
    cid: str
    signed_by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ConfirmNotice:
    """A notice was handed over: receipt with its proof (RULES.md 6).

    `document_hash` names the document that was handed over; under formal notices it must be the notice's own.
    `raised_at` names the very notice: a receipt of an earlier episode proves nothing about this one.
    """

    received: ClockReading
    account_id: str
    number: int
    proof: str
    document_hash: str = ""
    raised_at: UnixSeconds | None = None  # None: whichever of that number stands
    cid: str | None = None
    actor: str = ""  # who saw it handed over on site


@dataclass(frozen=True, slots=True)
class SwitchSupply:
    """An operator's order or a key press: one trigger of the disconnect control.

    A remote one carries `cid`, supply version and end of validity (CONTRACT.md). `arm` makes a remote reconnection
    end at ready for reconnection, whatever the mode could do: somebody on site presses the key.
    """

    received: ClockReading
    account_id: str
    trigger: Trigger
    reason: str
    cid: str | None = None
    supply_version: int | None = None
    expires_at: UnixSeconds | None = None
    arm: bool = False
    actor: str = ""  # who pressed the key


@dataclass(frozen=True, slots=True)
class KeepSupply:
    """Keep-supply order on or off: while it stands every trip is refused."""

    received: ClockReading
    account_id: str
    keep: bool
    cid: str | None = None
    supply_version: int | None = None


@dataclass(frozen=True, slots=True)
class SetSupplyHold:
    """A stated reason against cuts, set or lifted: for one account, or for all (empty: the weather)."""

    received: ClockReading
    account_id: str
    hold: SupplyHold
    stands: bool
    cid: str | None = None


@dataclass(frozen=True, slots=True)
class ObserveOutputState:
    """What the relay was read back as, and the newest sample of its meter. `commanded`: it has no contact to read."""

    received: ClockReading
    account_id: str
    connected: bool
    sample: Sample | None = None
    commanded: bool = False


@dataclass(frozen=True, slots=True)
class AcceptTariff:
    """A verified tariff document is stored; it prices nothing until it is scheduled.

    A version that is stored already stays as it is, whatever this one says.
    """

    received: ClockReading
    tariff: str
    document: str


@dataclass(frozen=True, slots=True)
class ScheduleTariff:
    """A stored tariff takes effect for accounts at an instant (empty: all accounts)."""

    received: ClockReading
    tariff: str
    effective_at: UnixSeconds
    account_ids: tuple[str, ...] = ()
    cid: str | None = None


@dataclass(frozen=True, slots=True)
class ClearHold:
    """A technician looked: the register seen is the new base, the energy between is not charged."""

    received: ClockReading
    account_id: str
    register: Register
    actor: str


@dataclass(frozen=True, slots=True)
class ExchangeMeter:
    """A technician changed the meter: last register of the old one, first of the new one (RULES.md 4).

    Between the two nothing is charged, unless somebody says how much went unmeasured: `estimated_wh`.
    """

    received: ClockReading
    account_id: str
    meter_id: str  # the new one
    last: Register
    first: Register
    actor: str
    last_source: str = "read"  # read | typed | estimated
    estimated_wh: int = 0  # used between last and first, at most what the breaker lets through in that time
    power_w_max: int = 20_000
    record: str = ""  # SHA-256 of the signed record of the exchange, hexadecimal


@dataclass(frozen=True, slots=True)
class CommissionDecoder:
    """A meter's token decoder begins: STS from a TID (its base year given), OpenPAYGO from a count. No key is here."""

    received: ClockReading
    decoder: str
    base_year: int | None = None
    key_expiry: int = KEY_EXPIRY_MAX
    tid: int | None = None
    count: int | None = None


@dataclass(frozen=True, slots=True)
class RefuseOrder:
    """An order that failed before it reached an account: its refusal is a stored result."""

    received: ClockReading
    cid: str
    order_type: str
    reason: str


@dataclass(frozen=True, slots=True)
class RevokeOrder:
    """An order that has no result yet is never to be obeyed."""

    received: ClockReading
    revoked_cid: str
    cid: str


@dataclass(frozen=True, slots=True)
class NoteCondition:
    """Something worth remembering that changes no account: a silent meter, the link, a start."""

    received: ClockReading
    condition: str
    account_id: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class SelectEmergencyCredit:
    """The customer selects the emergency credit that is offered."""

    received: ClockReading
    account_id: str
    cid: str | None = None
    sample: Sample | None = None
    actor: str = ""  # who asked for it on site


@dataclass(frozen=True, slots=True)
class SetDebt:
    """One of the debts is this much from here on, under these terms. Those that do not concern its kind are ignored."""

    received: ClockReading
    account_id: str
    kind: DebtKind
    amount_nano: MoneyNano
    reference: str
    cid: str | None = None
    share: int = 0  # payment debt: of each payment, hundredths of a percent
    cap_nano: MoneyNano | None = None  # payment debt: at most this much in `cap_days`
    cap_days: int = 7
    daily_nano: MoneyNano = MoneyNano(0)  # time debts
    sample: Sample | None = None


@dataclass(frozen=True, slots=True)
class AgreeInstalments:
    """Old debt is to be paid in parts: (local day due, share in hundredths of a percent), 100 % together."""

    received: ClockReading
    account_id: str
    plan_id: str
    total_nano: MoneyNano
    shares: tuple[tuple[int, int], ...]
    cid: str | None = None
    sample: Sample | None = None


@dataclass(frozen=True, slots=True)
class TakePurchaseOrder:
    """A purchase order of the head end or of a card."""

    received: ClockReading
    account_id: str
    order: PurchaseOrder
    cid: str | None = None
    sample: Sample | None = None


@dataclass(frozen=True, slots=True)
class ChangeTenant:
    """Another customer takes over the meter: a last bill and a snapshot of the former one, and a new start."""

    received: ClockReading
    account_id: str
    tenant: str  # a reference that the cloud can erase, never a name
    opening_nano: MoneyNano = MoneyNano(0)
    cid: str | None = None
    sample: Sample | None = None


@dataclass(frozen=True, slots=True)
class ChangePaymentMode:
    """Prepayment or credit. It never cuts."""

    received: ClockReading
    account_id: str
    mode: PaymentMode
    cid: str | None = None
    sample: Sample | None = None


@dataclass(frozen=True, slots=True)
class PostCorrection:
    """Money put right by a new entry with two signatures (SECURITY.md R6). Nothing is edited."""

    received: ClockReading
    account_id: str
    amount_nano: MoneyNano  # below 0: to the customer's debit
    reference: str  # of the record that is put right
    reason: str
    signed_by: tuple[str, ...]
    cid: str | None = None
    sample: Sample | None = None


@dataclass(frozen=True, slots=True)
class MoveReservedCredit:
    """Sets money of the balance aside (above 0), or gives it back (below 0)."""

    received: ClockReading
    account_id: str
    amount_nano: MoneyNano
    cid: str | None = None
    sample: Sample | None = None


MoneyCommand = (
    SelectEmergencyCredit
    | SetDebt
    | AgreeInstalments
    | TakePurchaseOrder
    | ChangeTenant
    | ChangePaymentMode
    | PostCorrection
    | MoveReservedCredit
)

Command = (
    OpenAccount
    | ChangeTerms
    | AcceptPolicy
    | SetPolicy
    | TakeRound
    | ApplyPayment
    | ReversePayment
    | ConfirmNotice
    | SwitchSupply
    | KeepSupply
    | SetSupplyHold
    | ObserveOutputState
    | AcceptTariff
    | ScheduleTariff
    | ClearHold
    | ExchangeMeter
    | CommissionDecoder
    | EnterToken
    | RefuseOrder
    | RevokeOrder
    | NoteCondition
    | MoneyCommand
)
