"""The auditor: keeps its own books of every account from what the world saw, and believes nobody.

It shares no code with the accounting core: own money, own rating, own rules for when a cut is
allowed, on true time. It sees the records that reached the card, the contacts as they moved, what
the meters showed, what people paid and ordered, and what went over the broker. Money nano-currency,
energy Wh, times milliseconds of true time.
"""

import bisect
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from hw.sim.world.sometimes import Sometimes

HOUR_MS = 3_600_000
SECOND_MS = 1_000
MINOR_NANO = 10_000_000
UTC_OFFSET_MIN = 8 * 60
DAY_MIN = 1440
CUT_LATE_MS_MAX = 60_000
RESTORE_LATE_MS_MAX = 10_000
NORMAL_GRACE_MS = 72 * HOUR_MS
READING_AGE_MS_MAX = 900_000
SLACK_MS = 2_000
SWITCH_SLACK_MS = 8_000  # a command on the wire when the wish changes
SEEN_MS = 30_000  # how old a read-back may be when it is recorded
SHOWN_MAX = 64
MONTH_DAYS_MAX = 31
LEAP_WH = 1_000_000  # more than any breaker here lets through while a meter is silent
UNCHARGED_WH_MAX = 15_000  # what two slots and a round can hold


@dataclass(frozen=True, slots=True)
class Terms:
    """An account's terms as plain numbers."""

    account_id: str
    least_micro: int  # lowest and highest price of a kWh; equal where the price is flat
    most_micro: int
    opening_nano: int
    protected: bool
    grace_ms: int
    lead_ms: int
    window_min: tuple[tuple[int, int], ...]  # of the local day; empty: always
    threshold_nano: int
    debt_nano_min: int
    payment_nano_max: int
    cut_share: int  # hundredths of a percent of the site an hour
    offline_ms_max: int | None  # None: cuts go on while the cloud is out of reach
    friendly_min: tuple[tuple[int, int], ...]  # of the local day: nobody is cut
    emergency_nano: int  # what the customer may go below the threshold once he has selected it
    valid_ms: int | None  # until when these terms hold; then the normal ones, never harsher
    purchase: tuple[int, int, int] | None = None  # of what is bought in a month: limit in Wh, price below and above it
    contract: tuple[int, int] | None = None  # power in W, and its price in micro per kW and month


@dataclass(slots=True)
class Book:
    """One account as the auditor has it."""

    terms: Terms
    opened: bool = False
    money_nano: int = 0
    issue_wh: int = 0
    recorded_wh: int = 0
    true_least_wh: int = -LEAP_WH  # what the register truly is at least: as it was when somebody looked
    uncharged_wh: int = 0  # since the issue: energy no bill may hold
    estimate_nano: int = 0
    estimate_claimed: bool = True
    applied: dict[str, int] = field(default_factory=dict)
    delivered: dict[int, int] = field(default_factory=dict)  # notice -> when handed over
    raised: dict[int, int] = field(default_factory=dict)
    control_state: str = "connected"
    control_before: str = "connected"
    control_at: int = -HOUR_MS
    local_reason: bool = False
    operator_cut: bool = False
    keep_supply: bool = False
    held: bool = False
    holds: set[str] = field(default_factory=set)  # reasons people gave against a cut
    emergency: bool = False
    credit_mode: bool = False
    mode_ms: int | None = None  # when it last changed
    disobeyed: bool = False  # the gateway has said that it gave up on this contact
    by_hand: bool = False  # somebody moved the contact, and nothing over the bus since
    contact: list[tuple[int, bool]] = field(default_factory=lambda: [(-1, True)])
    shown: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=SHOWN_MAX))  # (when, Wh)
    credit_nano: int = 0  # of the newest payment: what did not pay debts
    bought_day: int = 0  # on which the month of what is bought began
    bought_wh: int = 0
    bought_rest_nano: int = 0
    power_day: int = 0  # up to which power is charged
    due_since: int | None = None  # since when nothing stands against the cut that is due
    restore_by: int | None = None

    @property
    def is_flat(self) -> bool:
        return self.terms.least_micro == self.terms.most_micro

    def contact_closed(self) -> bool:
        return self.contact[-1][1]

    @property
    def threshold_nano(self) -> int:
        """Below this there is no credit of any kind."""
        return self.terms.threshold_nano - (self.terms.emergency_nano if self.emergency else 0)

    def live_most_nano(self, register_wh: int) -> int:
        """The best balance the customer can have at a register."""
        energy_wh = max(0, register_wh - self.recorded_wh)
        return self.money_nano - self.estimate_nano - energy_wh * self.terms.least_micro


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that must never happen, and when it did."""

    true_ms: int
    rule: str
    detail: str


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What the world is like at a moment, for judging a cut."""

    gateway_runs: bool
    clock_right: bool  # wall time as it should be
    clock_trusted: bool
    clock_wrong_ms: int | None  # when the gateway's wall time was last wrong
    runs_since_ms: int
    cloud_heard_ms: int | None  # of the newest acknowledgement since the start of the gateway
    healthy: bool  # line, meter and relay of the account do what they should
    dense: bool  # the gateway has looked at its accounts every few seconds for a minute


class ReadLine(msgspec.Struct):
    """Energy of a reading record at one price."""

    energy_wh: int
    amount_nano: int


class Readings(msgspec.Struct, tag_field="type", tag="ReadingsRecorded"):
    """What the auditor reads of a reading record: there is one for every slot, and little else is as long."""

    accounts: list[str]
    register_wh: list[int]
    lines: list[list[ReadLine]]


_READINGS = msgspec.json.Decoder(Readings)


class Auditor:
    """Takes what happened, and keeps a list of what must not have."""

    def __init__(
        self,
        terms: list[Terms],
        true_wh: Callable[[str], int],
        circumstances: Callable[[str], Circumstances],
        sometimes: Sometimes,
    ) -> None:
        self.books = {entry.account_id: Book(entry, money_nano=0) for entry in terms}
        self.violations: list[Violation] = []
        self.paid: dict[str, tuple[str, int]] = {}  # payment id -> account, amount
        self.cut_orders: dict[str, tuple[str, str]] = {}  # cid -> account, type
        self.results: dict[str, str] = {}
        self.durable: dict[tuple[str, int, int], bytes] = {}
        self.local_cuts: list[tuple[int, str]] = []
        self.cuts = self.restores = self.switches = 0
        self._true_wh, self._circumstances, self._sometimes = true_wh, circumstances, sometimes

    def find(self, true_ms: int, rule: str, detail: str) -> None:
        """Writes down a violation."""
        self.violations.append(Violation(true_ms, rule, detail))

    # --- what people do ---

    def payment_made(self, payment_id: str, account_id: str, amount_nano: int) -> None:
        self.paid[payment_id] = (account_id, amount_nano)

    def order_made(self, cid: str, account_id: str, order_type: str) -> None:
        self.cut_orders[cid] = (account_id, order_type)

    def door_answered(self, payment_id: str, accepted: bool, true_ms: int) -> None:
        """The gateway told a customer that his voucher counts: from now on it must, for ever."""
        account_id, _ = self.paid[payment_id]
        if accepted and payment_id not in self.books[account_id].applied:
            self.find(true_ms, "answered_before_commit", f"{account_id} {payment_id}")

    # --- what the plant shows ---

    def meter_showed(self, account_id: str, register_wh: int, true_ms: int) -> None:
        self.books[account_id].shown.append((true_ms, register_wh))

    def contact_moved(self, account_id: str, closed: bool, cause: str, true_ms: int) -> None:
        """A contact opened or closed. Over the bus only what was decided and committed may happen."""
        book = self.books[account_id]
        book.contact.append((true_ms, closed))
        book.by_hand = cause != "bus"
        if book.by_hand:
            return
        self.switches += 1
        self.cuts += not closed
        self.restores += closed
        wanted = book.control_state == "connected"
        changing = true_ms - book.control_at <= SWITCH_SLACK_MS
        if closed is not wanted and not (changing and closed is (book.control_before == "connected")):
            self.find(true_ms, "switched_against_decision", f"{account_id} {'closed' if closed else 'opened'}")
        if not closed and book.terms.protected:
            self.find(true_ms, "protected_cut", account_id)

    # --- what went over the broker ---

    def sent_up(self, stream: str, epoch: int, first: int, bodies: list[bytes], true_ms: int) -> None:
        """A record leaves the gateway: it must be on the card, word for word."""
        for seq, body in enumerate(bodies, start=first):
            if self.durable.get((stream, epoch, seq)) != body:
                self.find(true_ms, "sent_before_commit", f"{stream} {seq}")

    # --- what reached the card ---

    def forgotten(self, stream: str, seq: int, true_ms: int) -> None:
        """A record that a commit had promised is gone."""
        self.find(true_ms, "committed_record_lost", f"{stream} {seq}")

    def recorded_on_old_card(self, stream: str, body: bytes, true_ms: int) -> None:
        """A store that is not the newest one takes no money and decides nothing."""
        if stream != "evt":
            self.find(true_ms, "old_card_used", f"{stream} {body[:80]!r}")

    def recorded(self, stream: str, epoch: int, seq: int, body: bytes, true_ms: int) -> None:
        """A record is on the card."""
        if self.durable.setdefault((stream, epoch, seq), body) != body:
            self.find(true_ms, "record_rewritten", f"{stream} {epoch} {seq}")
        if stream == "rdg":
            self._readings(_READINGS.decode(body), true_ms)
            return
        fields = msgspec.json.decode(body)
        account_id = fields.get("account") or ""
        if stream == "led" and account_id and account_id not in self.books:
            self.find(true_ms, "unknown_account", account_id)
            return
        take = _RECORDS.get(fields["type"])
        if fields.get("condition") == "relay_disobeys" and account_id in self.books:
            self.books[account_id].disobeyed = True
        if take is not None:
            take(self, self.books.get(account_id), fields, true_ms)
        if "posting_nano" in fields:
            self._post(self.books[account_id], fields, true_ms)

    def _post(self, book: Book, fields: Mapping[str, Any], true_ms: int) -> None:
        book.money_nano += fields["posting_nano"]
        if fields.get("balance_nano") != book.money_nano:
            detail = f"{book.terms.account_id} {fields['type']}: {fields.get('balance_nano')}, own {book.money_nano}"
            self.find(true_ms, "money_not_conserved", detail)
            book.money_nano = fields.get("balance_nano", book.money_nano)

    def _opened(self, book: Book, fields: Mapping[str, Any], true_ms: int) -> None:
        if book.opened or fields["posting_nano"] != book.terms.opening_nano:
            self.find(true_ms, "opened_wrong", book.terms.account_id)
        book.opened = True
        book.issue_wh = book.recorded_wh = fields["register_wh"]
        self._check_register(book, fields["register_wh"], true_ms, exact=True)

    def _payment_applied(self, book: Book, fields: Mapping[str, Any], true_ms: int) -> None:
        payment_id, account_id = fields["payment_id"], book.terms.account_id
        if payment_id in book.applied:
            self.find(true_ms, "payment_counted_twice", f"{account_id} {payment_id}")
        if self.paid.get(payment_id) != (account_id, fields["amount_nano"]):
            self.find(true_ms, "payment_nobody_made", f"{account_id} {payment_id}")
        if fields["posting_nano"] != fields["amount_nano"]:
            self.find(true_ms, "payment_posted_otherwise", f"{account_id} {payment_id}")
        book.applied[payment_id] = book.credit_nano = fields["amount_nano"]
        if book.operator_cut:
            self._sometimes.saw("payment_while_operator_cut")

    def _allocated(self, book: Book, fields: Mapping[str, Any], _true_ms: int) -> None:
        book.credit_nano += fields["posting_nano"]

    def _bought(self, book: Book, fields: Mapping[str, Any], true_ms: int) -> None:
        """A payment bought whole watt-hours, those below the month's limit first; what is beyond costs more."""
        self._sometimes.saw("energy_bought")
        account_id, day = book.terms.account_id, fields["first_day"]
        if book.terms.purchase is None or day < book.bought_day:
            self.find(true_ms, "bought_wrong", f"{account_id}: in the month of day {day}")
            return
        limit_wh, low_micro, high_micro = book.terms.purchase
        before_wh = book.bought_wh if day == book.bought_day else 0
        purse_nano = book.credit_nano + book.bought_rest_nano
        low_wh = min(max(0, limit_wh - before_wh), purse_nano // low_micro)
        purse_nano -= low_wh * low_micro
        high_wh = purse_nano // high_micro if before_wh + low_wh >= limit_wh else 0
        purse_nano -= high_wh * high_micro
        own = (low_wh + high_wh, purse_nano, -high_wh * (high_micro - low_micro))
        if (fields["energy_wh"], fields["rest_nano"], fields["posting_nano"]) != own:
            self.find(true_ms, "bought_wrong", f"{account_id}: {fields['energy_wh']} Wh, own {own}")
        if high_wh:
            self._sometimes.saw("energy_bought_above_limit")
        book.bought_day, book.bought_wh, book.bought_rest_nano = day, before_wh + low_wh + high_wh, purse_nano
        book.credit_nano = 0

    def _power_charged(self, book: Book, fields: Mapping[str, Any], true_ms: int) -> None:
        """A month of contracted power: no day twice, the excess above 105 % again, a part of it by the thirtieth."""
        self._sometimes.saw("demand_charged")
        account_id, first_day, end_day = book.terms.account_id, fields["first_day"], fields["end_day"]
        if book.terms.contract is None or not book.power_day <= first_day < end_day:
            self.find(true_ms, "power_charged_wrong", f"{account_id}: days {first_day} to {end_day}")
            return
        book.power_day = end_day
        contract_w, micro_per_kw = book.terms.contract
        peak_w, days = fields["power_w_max"] or 0, end_day - first_day
        power_w = contract_w
        if peak_w * 100 > contract_w * 105:
            power_w = peak_w + (peak_w * 100 - contract_w * 105 + 50) // 100
            self._sometimes.saw("demand_above_contract")
        month_nano = power_w * micro_per_kw
        own = {-month_nano} if days > MONTH_DAYS_MAX - 4 else set()
        if days < MONTH_DAYS_MAX:
            own.add(-((2 * month_nano * days + 30) // 60))
        if fields["posting_nano"] not in own:
            self.find(true_ms, "power_charged_wrong", f"{account_id}: {fields['posting_nano']}, own {sorted(own)}")

    def _frozen(self, book: Book, fields: Mapping[str, Any], true_ms: int) -> None:
        amount = sum(line["amount_nano"] for line in fields["lines"])
        energy = sum(line["energy_wh"] for line in fields["lines"])
        self._charge(book, fields["register_wh"], energy, amount, true_ms, exact=False)
        if fields["estimate_nano"] != book.estimate_nano:
            detail = f"{book.terms.account_id}: {fields['estimate_nano']}, own {book.estimate_nano}"
            self.find(true_ms, "estimate_wrong", detail)

    def _readings(self, record: "Readings", true_ms: int) -> None:
        for account_id, register_wh, lines in zip(record.accounts, record.register_wh, record.lines, strict=True):
            amount = energy = 0
            for line in lines:
                amount += line.amount_nano
                energy += line.energy_wh
            self._charge(self.books[account_id], register_wh, energy, amount, true_ms, exact=True)

    def _charge(
        self, book: Book, register_wh: int, energy_wh: int, amount_nano: int, true_ms: int, *, exact: bool
    ) -> None:
        """Energy was charged up to a register: it is what lies between, at a price that exists."""
        account_id, terms = book.terms.account_id, book.terms
        if register_wh - book.recorded_wh != energy_wh:
            detail = f"{account_id}: {energy_wh} Wh from {book.recorded_wh} to {register_wh}"
            self.find(true_ms, "energy_not_conserved", detail)
        if not terms.least_micro * energy_wh <= amount_nano <= terms.most_micro * energy_wh:
            self.find(true_ms, "price_wrong", f"{account_id}: {amount_nano} for {energy_wh} Wh")
        self._check_register(book, register_wh, true_ms, exact=exact)
        book.recorded_wh = register_wh
        book.estimate_nano += amount_nano

    def _check_register(self, book: Book, register_wh: int, true_ms: int, *, exact: bool) -> None:
        """A register that is charged was shown by this very meter; one between two readings lies between."""
        if exact and book.shown and book.shown[-1][1] == register_wh:
            right = True  # as nearly always
        elif exact:
            right = register_wh == book.recorded_wh or any(wh == register_wh for _, wh in reversed(book.shown))
        else:
            right = any(wh >= register_wh for _, wh in reversed(book.shown))
        if not right:
            detail = f"{book.terms.account_id}: {register_wh}, the meter showed {list(book.shown)[-3:]}"
            self.find(true_ms, "wrong_register_charged", detail)
        if register_wh > book.true_least_wh + LEAP_WH:
            book.true_least_wh = self._true_wh(book.terms.account_id)
        if register_wh > book.true_least_wh + LEAP_WH:
            self.find(true_ms, "impossible_jump_charged", f"{book.terms.account_id}: {register_wh}")
        if register_wh < book.recorded_wh:
            detail = f"{book.terms.account_id}: {register_wh} after {book.recorded_wh}"
            self.find(true_ms, "register_fell", detail)

    def _bill(self, book: Book, fields: Mapping[str, Any], true_ms: int) -> None:
        account_id = book.terms.account_id
        self._sometimes.saw("bill_issued")
        if (fields["register_from_wh"], fields["register_to_wh"]) != (book.issue_wh, book.recorded_wh):
            self.find(true_ms, "bill_of_other_energy", f"{account_id}: {fields['register_from_wh']}")
        if fields["amount_nano"] != book.estimate_nano or fields["posting_nano"] != -fields["amount_nano"]:
            self.find(true_ms, "bill_amount_wrong", f"{account_id}: {fields['amount_nano']}")
        energy_wh = book.recorded_wh - book.issue_wh - book.uncharged_wh
        if book.is_flat and fields["amount_nano"] != energy_wh * book.terms.least_micro:
            self.find(true_ms, "bill_amount_wrong", f"{account_id}: {fields['amount_nano']} for {energy_wh} Wh")
        book.issue_wh, book.estimate_nano, book.uncharged_wh = book.recorded_wh, 0, 0

    def _rounding(self, book: Book, fields: Mapping[str, Any], true_ms: int) -> None:
        if abs(fields["posting_nano"]) * 2 > MINOR_NANO:
            self.find(true_ms, "rounding_too_large", f"{book.terms.account_id}: {fields['posting_nano']}")

    def _notice_raised(self, book: Book, fields: Mapping[str, Any], true_ms: int) -> None:
        number = fields["number"]
        book.raised[number] = true_ms
        if number >= 2 and self._live(book) >= book.terms.threshold_nano:
            self.find(true_ms, "notice_with_credit", f"{book.terms.account_id} notice {number}")

    def _live(self, book: Book) -> int:
        return book.live_most_nano(self._true_wh(book.terms.account_id))

    def _notice_delivered(self, book: Book, fields: Mapping[str, Any], true_ms: int) -> None:
        book.delivered[fields["number"]] = true_ms

    def _episode_closed(self, book: Book, _fields: Mapping[str, Any], _true_ms: int) -> None:
        book.raised.clear()
        book.delivered.clear()
        book.due_since = None

    def _control(self, book: Book, fields: Mapping[str, Any], true_ms: int) -> None:
        """The control state moved: only as the rules allow."""
        trigger, target = fields["trigger"], fields["control_state"]
        book.control_before, book.control_state, book.control_at = book.control_state, target, true_ms
        book.local_reason = fields["local_reason"] is not None
        account_id = book.terms.account_id
        if trigger == "local_disconnect":
            self._sometimes.saw("local_cut")
            self._judge_cut(book, true_ms)
            self.local_cuts.append((true_ms, account_id))
        elif trigger == "remote_disconnect":
            self._sometimes.saw("operator_cut")
            book.operator_cut = True
            if not any(entry == (account_id, "cut") for entry in self.cut_orders.values()):
                self.find(true_ms, "cut_nobody_ordered", account_id)
            if book.terms.protected or book.keep_supply:
                self.find(true_ms, "cut_of_protected", account_id)
        elif trigger == "remote_reconnect":
            book.operator_cut = False
            if not any(entry == (account_id, "restore") for entry in self.cut_orders.values()):
                self.find(true_ms, "restore_nobody_ordered", account_id)
        if target == "connected":
            if book.operator_cut:
                self.find(true_ms, "operator_cut_undone", account_id)
            if trigger == "local_reconnect" and book.control_before != "connected":
                self._sometimes.saw("restore_after_payment")
            if self._live(book) < book.threshold_nano and book.local_reason:
                self.find(true_ms, "restored_without_credit", account_id)

    def _judge_cut(self, book: Book, true_ms: int) -> None:
        """A prepayment cut: every reason why it must not be, each by the auditor's own rule."""
        account_id = book.terms.account_id
        for reason in self._against(book, self._circumstances(account_id), true_ms):
            self.find(true_ms, f"cut_{reason}", account_id)

    def _against(self, book: Book, around: Circumstances, true_ms: int, slack_ms: int = SLACK_MS) -> list[str]:
        """What stands against a cut at this moment. `slack_ms` is how much too early a deadline may be."""
        terms, found = book.terms, []
        live = self._live(book)
        if live >= book.threshold_nano:
            found.append("with_credit")
        elif -live < terms.debt_nano_min:
            found.append("below_minimum_debt")
        if terms.protected:
            found.append("of_protected")
        if book.keep_supply:
            found.append("against_keep_supply")
        if book.held:
            found.append("on_held_register")
        if book.holds:
            found.append("against_hold")
        if book.credit_mode:
            found.append("in_credit_mode")
        if book.mode_ms is not None and true_ms - book.mode_ms < terms.grace_ms - slack_ms:
            found.append("after_change_of_mode")
        expired = terms.valid_ms is not None and true_ms > terms.valid_ms + SLACK_MS
        grace_ms = max(terms.grace_ms, NORMAL_GRACE_MS) if expired else terms.grace_ms
        for number, wait_ms in ((2, grace_ms), (3, terms.lead_ms)):
            delivered = book.delivered.get(number)
            if delivered is None:
                found.append(f"without_notice_{number}")
            elif true_ms - delivered < wait_ms - slack_ms:
                found.append("within_grace" if number == 2 else "too_soon_after_notice_3")
        if not around.clock_trusted:
            found.append("on_untrusted_clock")
        if around.clock_right and terms.window_min and not _inside(terms.window_min, true_ms):
            found.append("outside_window")
        if around.clock_right and _inside(terms.friendly_min, true_ms):
            found.append("in_friendly_hours")
        if not book.shown or true_ms - book.shown[-1][0] > READING_AGE_MS_MAX + slack_ms:
            found.append("on_old_reading")
        if self._cuts_in_hour(true_ms - slack_ms, true_ms) >= self._cuts_max(terms):
            found.append("above_batch_limit")
        if terms.offline_ms_max is not None:
            heard = around.cloud_heard_ms if around.cloud_heard_ms is not None else around.runs_since_ms
            if true_ms - heard > terms.offline_ms_max + SEEN_MS:
                found.append("against_offline_policy")
        return found

    def _cuts_in_hour(self, since_end_ms: int, until_ms: int) -> int:
        first = bisect.bisect_right(self.local_cuts, (since_end_ms - HOUR_MS + SLACK_MS + SECOND_MS, "~"))
        return sum(at <= until_ms for at, _ in self.local_cuts[first:])

    def _cuts_max(self, terms: Terms) -> int:
        opened = sum(book.opened for book in self.books.values())
        return max(1, opened * terms.cut_share // 10_000)

    def _local_reason_cleared(self, book: Book, _fields: Mapping[str, Any], true_ms: int) -> None:
        book.local_reason = False
        silent = not book.shown or true_ms - book.shown[-1][0] > READING_AGE_MS_MAX
        live_nano = book.live_most_nano(book.recorded_wh) if silent else self._live(book)
        no_credit = live_nano < book.threshold_nano and not book.credit_mode
        if no_credit and book.is_flat:
            self.find(true_ms, "cleared_without_credit", book.terms.account_id)

    def _keep_supply(self, book: Book, fields: Mapping[str, Any], true_ms: int) -> None:
        book.keep_supply = fields["keep"]
        if not any(entry == (book.terms.account_id, "keep_supply") for entry in self.cut_orders.values()):
            self.find(true_ms, "keep_supply_nobody_ordered", book.terms.account_id)

    def _hold_raised(self, book: Book, _fields: Mapping[str, Any], _true_ms: int) -> None:
        book.held = True
        self._sometimes.saw("register_hold")

    def _hold_cleared(self, book: Book, fields: Mapping[str, Any], _true_ms: int) -> None:
        book.held = False
        book.recorded_wh += fields["uncharged_wh"]
        book.uncharged_wh += fields["uncharged_wh"]

    def _people_hold(self, book: Book, fields: Mapping[str, Any], _true_ms: int) -> None:
        book.holds = book.holds | {fields["kind"]} if fields["stands"] else book.holds - {fields["kind"]}

    def _emergency_selected(self, book: Book, fields: Mapping[str, Any], true_ms: int) -> None:
        book.emergency = True
        self._sometimes.saw("emergency_credit")
        if fields["limit_nano"] != book.terms.emergency_nano:
            self.find(true_ms, "emergency_limit_wrong", book.terms.account_id)

    def _emergency_given_back(self, book: Book, _fields: Mapping[str, Any], _true_ms: int) -> None:
        book.emergency = False

    def _mode(self, book: Book, fields: Mapping[str, Any], true_ms: int) -> None:
        book.credit_mode, book.mode_ms = fields["mode"] == "credit", true_ms
        book.emergency = False  # what was selected in one mode is not selected in the other

    def _deferred(self, _book: Book | None, fields: Mapping[str, Any], _true_ms: int) -> None:
        for code, _ in fields["blockers"]:
            self._sometimes.saw(f"blocker_{code}")

    def _escalated(self, _book: Book | None, _fields: Mapping[str, Any], _true_ms: int) -> None:
        self._sometimes.saw("protected_escalated")

    def _refused(self, _book: Book | None, fields: Mapping[str, Any], _true_ms: int) -> None:
        self._sometimes.saw("voucher_twice" if fields["reason"] == "duplicate" else "payment_refused")

    def _result(self, _book: Book | None, fields: Mapping[str, Any], true_ms: int) -> None:
        """The answer to an order: one, for ever, and for orders that were really made."""
        cid = fields["cid"]
        if cid in self.results:
            self.find(true_ms, "answered_twice", cid)
        self.results[cid] = fields["result"]

    def _observed(self, book: Book, fields: Mapping[str, Any], true_ms: int) -> None:
        """What the gateway says of a contact was true a moment ago."""
        seen = [closed for at, closed in book.contact if at > true_ms - SEEN_MS]
        before = [closed for at, closed in book.contact if at <= true_ms - SEEN_MS]
        if fields["connected"] not in (*before[-1:], *seen):
            self.find(true_ms, "read_back_untrue", f"{book.terms.account_id} {fields['connected']}")

    def _condition(self, _book: Book | None, fields: Mapping[str, Any], _true_ms: int) -> None:
        self._sometimes.saw(fields["condition"])

    # --- what must happen ---

    def look(self, true_ms: int) -> None:
        """Liveness, looked at after each round: cuts that are overdue, restores that are."""
        for book in self.books.values():
            account_id = book.terms.account_id
            if book.restore_by is not None:
                self._look_at_restore(book, true_ms)
            if len(book.delivered) < 2 or book.control_state != "connected":
                book.due_since = None
                continue
            around = self._circumstances(account_id)
            able = around.gateway_runs and around.healthy and around.dense
            able = able and (around.clock_wrong_ms is None or around.clock_wrong_ms < min(book.delivered.values()))
            able = able and (book.terms.valid_ms is None or true_ms < book.terms.valid_ms)
            if not able or self._against(book, around, true_ms, -5 * SECOND_MS):
                book.due_since = None
            elif book.due_since is None:
                book.due_since = true_ms
            elif true_ms - book.due_since > CUT_LATE_MS_MAX:
                self.find(true_ms, "cut_late", account_id)
                book.due_since = true_ms

    def payment_arrived(self, account_id: str, amount_nano: int, true_ms: int) -> None:
        """A credit reached a gateway that runs: if it suffices, supply is back within seconds."""
        book = self.books[account_id]
        if amount_nano > book.terms.payment_nano_max:
            return
        worst_nano = self._live_least(book) + amount_nano
        if book.terms.purchase is not None:
            _, low_micro, high_micro = book.terms.purchase
            worst_nano = self._live_least(book) + amount_nano * low_micro // high_micro
        if book.local_reason and not book.operator_cut and worst_nano >= book.terms.threshold_nano and not book.held:
            book.restore_by = true_ms + RESTORE_LATE_MS_MAX

    def _live_least(self, book: Book) -> int:
        energy_wh = max(0, self._true_wh(book.terms.account_id) - book.recorded_wh)
        return book.money_nano - book.estimate_nano - energy_wh * book.terms.most_micro

    def _look_at_restore(self, book: Book, true_ms: int) -> None:
        assert book.restore_by is not None
        around = self._circumstances(book.terms.account_id)
        able = around.gateway_runs and around.healthy and around.runs_since_ms < book.restore_by - RESTORE_LATE_MS_MAX
        if book.contact_closed() or not able or book.operator_cut:
            book.restore_by = None
        elif true_ms > book.restore_by:
            self.find(true_ms, "restore_late", book.terms.account_id)
            book.restore_by = None

    def next_due_ms(self, true_ms: int) -> int | None:
        """When the next cut can be due: from shortly before that the world looks closely."""
        found = []
        for book in self.books.values():
            if book.control_state == "connected" and 2 in book.delivered and 3 in book.delivered:
                found.append(max(book.delivered[2] + book.terms.grace_ms, book.delivered[3] + book.terms.lead_ms))
        return min((due_ms for due_ms in found if due_ms > true_ms), default=None)

    def in_question(self, account_id: str) -> bool:
        """Whether something about this supply may be decided or switched soon."""
        book = self.books[account_id]
        return 2 in book.delivered or book.contact_closed() is not (book.control_state == "connected")

    def close(self, true_ms: int, results: Mapping[str, str | None], balances: Mapping[str, int]) -> None:
        """After everything healed: every payment is applied once and answered, and the cloud's ledger is ours.

        `results` by payment id, `balances` (money) by account, both as the cloud has them.
        """
        for payment_id, (account_id, amount_nano) in self.paid.items():
            book = self.books[account_id]
            allowed = amount_nano <= book.terms.payment_nano_max
            if allowed and payment_id not in book.applied:
                self.find(true_ms, "payment_never_applied", f"{account_id} {payment_id}")
            if payment_id in results and results[payment_id] is None:
                self.find(true_ms, "payment_never_answered", f"{account_id} {payment_id}")
        for account_id, book in self.books.items():
            self._close_supply(account_id, book, true_ms)
            if balances.get(account_id) != book.money_nano:
                detail = f"{account_id}: {balances.get(account_id)}, own {book.money_nano}"
                self.find(true_ms, "cloud_has_other_money", detail)

    def _close_supply(self, account_id: str, book: Book, true_ms: int) -> None:
        """After a healthy day all energy is charged, no register is held, and contacts are as decided."""
        around = self._circumstances(account_id)
        if not (around.gateway_runs and around.healthy and book.opened):
            return
        if book.held:
            self.find(true_ms, "register_held_for_ever", account_id)
        elif self._true_wh(account_id) - book.recorded_wh > UNCHARGED_WH_MAX:
            self.find(true_ms, "energy_never_charged", f"{account_id}: recorded {book.recorded_wh}")
        settled = true_ms - book.control_at > HOUR_MS and not book.disobeyed and not book.by_hand
        if settled and book.contact_closed() is not (book.control_state == "connected"):
            self.find(true_ms, "contact_not_as_decided", account_id)


def _inside(windows_min: tuple[tuple[int, int], ...], true_ms: int) -> bool:
    """Whether the local minute lies in a window; the world begins at a local midnight."""
    minute = true_ms // 60_000 % DAY_MIN
    return any(first <= minute < end if first < end else minute >= first or minute < end for first, end in windows_min)


_RECORDS: Mapping[str, Callable[..., None]] = {
    "AccountOpened": Auditor._opened,
    "PaymentApplied": Auditor._payment_applied,
    "PaymentRefused": Auditor._refused,
    "PaymentAllocated": Auditor._allocated,
    "EnergyBought": Auditor._bought,
    "DemandChargePosted": Auditor._power_charged,
    "RegisterFrozen": Auditor._frozen,
    "BillIssued": Auditor._bill,
    "RoundingPosted": Auditor._rounding,
    "NoticeRaised": Auditor._notice_raised,
    "NoticeDelivered": Auditor._notice_delivered,
    "EpisodeClosed": Auditor._episode_closed,
    "DisconnectControlChanged": Auditor._control,
    "LocalReasonCleared": Auditor._local_reason_cleared,
    "KeepSupplyChanged": Auditor._keep_supply,
    "HoldRaised": Auditor._hold_raised,
    "HoldCleared": Auditor._hold_cleared,
    "SupplyHoldChanged": Auditor._people_hold,
    "EmergencyCreditSelected": Auditor._emergency_selected,
    "EmergencyCreditGivenBack": Auditor._emergency_given_back,
    "PaymentModeChanged": Auditor._mode,
    "CutDeferred": Auditor._deferred,
    "CaseEscalated": Auditor._escalated,
    "OrderApplied": Auditor._result,
    "OrderRefused": Auditor._result,
    "OutputStateObserved": Auditor._observed,
    "ConditionNoted": Auditor._condition,
}
