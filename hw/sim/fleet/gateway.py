"""One gateway of a fleet: real session, real link, and a street of meters that is only numbers.

Each slot of a quarter of an hour it commits what the agent would: a reading record in columns and, for each account, a
ledger record; every fourth slot a bill. Orders are checked as on site and applied once. Times are Unix seconds of the
fleet's own calendar, money nano-currency, energy Wh.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from cloud_sync.keys import KeyRing
from cloud_sync.orders import OrderRefused as Unbelieved
from cloud_sync.orders import verify_order
from cloud_sync.session import HelloFacts, SessionSettings, SyncSession
from cloud_sync.transport import TransportSettings
from cloud_sync.wire import Order, RosterEntry
from edge.agent.cloud_link import CloudLink
from edge.core.events import (
    BillIssued,
    Event,
    OrderApplied,
    OrderRefused,
    PaymentApplied,
    ReadingsRecorded,
    RegisterFrozen,
)
from edge.core.rating import RatedLine
from edge.core.units import ClockQuality, ClockReading, MoneyNano, UnixSeconds, WattHours
from edge.store.codec import encode_event
from hw.sim.fleet.connection import WatchedTransport
from hw.sim.fleet.journal import FleetJournal

SLOT_SECONDS: Final = 900
SLOTS_PER_BILL: Final = 4
BEGAN_AT: Final = 1_790_000_100  # of the calendar: a quarter of an hour of September 2026
_PRICE_MICRO_PER_KWH: Final = 560_000
_SLOT_WH: Final = 125  # what a household takes in a slot, and some of its number


@dataclass(slots=True)
class _Account:
    """What an account has taken and paid so far."""

    register_wh: int = 0
    register_billed_wh: int = 0
    balance_nano: int = 0

    @property
    def cycle_energy_wh(self) -> int:
        return self.register_wh - self.register_billed_wh

    @property
    def estimate_nano(self) -> int:
        return self.cycle_energy_wh * _PRICE_MICRO_PER_KWH

    @property
    def lines(self) -> tuple[RatedLine, ...]:
        energy_wh = self.cycle_energy_wh
        return (RatedLine("all", 1, energy_wh, _PRICE_MICRO_PER_KWH, energy_wh * _PRICE_MICRO_PER_KWH),)


@dataclass(frozen=True, slots=True)
class Wiring:
    """How the gateways of a fleet reach their cloud."""

    ring: KeyRing
    transport: Callable[[str, SyncSession], TransportSettings]
    random_share: Callable[[], float]
    session: SessionSettings = SessionSettings()
    transport_class: type[WatchedTransport] = WatchedTransport


@dataclass(slots=True)
class FleetGateway:
    """Runs until cancelled. `commit_slot` is what a quarter of an hour brings."""

    gateway_id: str
    meters: int
    wiring: Wiring
    journal: FleetJournal
    boot_id: str = "boot-1"
    slot: int = 0
    clock: ClockReading | None = None  # what the hello says instead of the calendar
    applied: dict[str, Event] = field(default_factory=dict)  # command id -> the result that was stored
    unbelieved: int = 0
    fenced: set[str] = field(default_factory=set)
    accounts: dict[str, _Account] = field(init=False)
    session: SyncSession = field(init=False)
    link: CloudLink = field(init=False)
    transport: WatchedTransport = field(init=False)

    def __post_init__(self) -> None:
        self.accounts = {f"A{number:03d}": _Account() for number in range(1, self.meters + 1)}
        self._boot()

    def _boot(self) -> None:
        wiring = self.wiring
        heads = self.journal.heads()
        self.session = SyncSession(
            self.gateway_id, self.boot_id, "fleet", heads, wiring.ring, wiring.random_share, wiring.session
        )
        settings = wiring.transport(self.gateway_id, self.session)
        self.transport = wiring.transport_class(settings, wiring.random_share)
        self.link = CloudLink(
            self.session,
            self.transport,
            self.journal,
            self._facts,
            self._take_order,
            _take_document,
            lambda _at: None,
            self.fenced.add,
        )

    async def run(self) -> None:
        """Keeps its connection up."""
        await self.link.run()

    def restart(self, boot_id: str) -> None:
        """What a power cut leaves: the journal and the accounts. `run` was cancelled."""
        self.boot_id = boot_id
        self._boot()

    @property
    def at(self) -> UnixSeconds:
        return UnixSeconds(BEGAN_AT + self.slot * SLOT_SECONDS)

    def commit_slot(self, has_ledger: bool = True) -> int:
        """A quarter of an hour later, with or without what money moved: how many ledger records it brought."""
        self.slot += 1
        for number, account in enumerate(self.accounts.values()):
            account.register_wh += _SLOT_WH + (self.slot * 7 + number * 13) % 50
        if has_ledger:
            is_bill = self.slot % SLOTS_PER_BILL == 0
            for name, account in self.accounts.items():
                self._write(self._bill(name, account) if is_bill else self._frozen(name, account))
        self._write(self._readings())
        self.link.notify_appended()
        return len(self.accounts) if has_ledger else 0

    def balances(self) -> dict[str, int]:
        """Money on each account, as its ledger has it."""
        return {name: account.balance_nano for name, account in self.accounts.items()}

    # --- what is committed ---

    def _write(self, event: Event) -> None:
        self.journal.write(*encode_event(event))

    def _frozen(self, name: str, account: _Account) -> RegisterFrozen:
        return RegisterFrozen(
            at=self.at,
            account=name,
            occasion="daily",
            register_wh=WattHours(account.register_wh),
            quality="measured",
            energy_wh=WattHours(account.cycle_energy_wh),
            day_energy_wh=WattHours(account.cycle_energy_wh),
            lines=account.lines,
            estimated=False,
            estimate_nano=MoneyNano(account.estimate_nano),
            cycle_energy_wh=(account.cycle_energy_wh,),
            cycle_start_at=UnixSeconds(BEGAN_AT),
            balance_nano=MoneyNano(account.balance_nano),
            live_balance_nano=MoneyNano(account.balance_nano - account.estimate_nano),
        )

    def _bill(self, name: str, account: _Account) -> BillIssued:
        amount_nano = account.estimate_nano
        account.balance_nano -= amount_nano
        bill = BillIssued(
            at=self.at,
            account=name,
            issued_from=UnixSeconds(self.at - SLOTS_PER_BILL * SLOT_SECONDS),
            register_from_wh=WattHours(account.register_billed_wh),
            register_to_wh=WattHours(account.register_wh),
            energy_wh=WattHours(account.cycle_energy_wh),
            days=1,
            lines=account.lines,
            amount_nano=MoneyNano(amount_nano),
            bill_minor=amount_nano // 10_000_000,
            estimate_nano=MoneyNano(0),
            posting_nano=MoneyNano(-amount_nano),
            balance_nano=MoneyNano(account.balance_nano),
        )
        account.register_billed_wh = account.register_wh
        return bill

    def _readings(self) -> ReadingsRecorded:
        accounts = self.accounts.values()
        return ReadingsRecorded(
            at=self.at,
            clock=ClockReading(self.at, self.slot * SLOT_SECONDS * 1000, self.boot_id, ClockQuality.NTP),
            accounts=tuple(self.accounts),
            register_at=(self.at,) * len(accounts),
            register_wh=tuple(WattHours(account.register_wh) for account in accounts),
            lines=tuple(account.lines for account in accounts),
            cycle_energy_wh=tuple((account.cycle_energy_wh,) for account in accounts),
            cycle_start_at=(UnixSeconds(BEGAN_AT),) * len(accounts),
            estimated=(False,) * len(accounts),
        )

    # --- what the cloud orders ---

    async def _take_order(self, envelope: bytes) -> None:
        """In one commit: the command id, the money, the result. A repeated one gets its stored result again."""
        order = verify_order(envelope, self.wiring.ring, self.gateway_id)
        if isinstance(order, Unbelieved):
            self.unbelieved += 1
            if order.order is None or order.order.cid in self.applied:
                return
            results: Iterable[Event] = (_refused(self.at, order.order, order.reason),)
        elif order.cid in self.applied:
            results = (self.applied[order.cid],)
        else:
            results = self._obey(order)
        for event in results:
            if isinstance(event, OrderApplied | OrderRefused):
                self.applied[event.cid] = event
            self._write(event)
        self.link.notify_appended()

    def _obey(self, order: Order) -> Iterator[Event]:
        name = order.meter.replace("M", "A", 1)
        if order.type != "credit":
            yield _refused(self.at, order, "unknown_type")
        elif name not in self.accounts:
            yield _refused(self.at, order, "unknown_account")
        else:
            amount_nano = MoneyNano(order.args["amount_nano"])
            account = self.accounts[name]
            account.balance_nano += amount_nano
            balance_nano = MoneyNano(account.balance_nano)
            paid_at = UnixSeconds(order.args["paid_at"])
            payment_id = order.args["payment_id"]
            yield PaymentApplied(self.at, name, payment_id, amount_nano, "cloud", paid_at, amount_nano, balance_nano)
            yield OrderApplied(self.at, order.cid, order.type, name)

    def _facts(self) -> HelloFacts:
        roster = tuple(RosterEntry(name.replace("A", "M", 1), name) for name in self.accounts)
        clock = self.clock or ClockReading(self.at, 0, self.boot_id, ClockQuality.NTP)
        return HelloFacts(at=clock.at, clock_quality=clock.quality.value, roster=roster)


def _refused(at: UnixSeconds, order: Order, reason: str) -> OrderRefused:
    return OrderRefused(at, order.cid, order.type, "", reason)


async def _take_document(_envelope: bytes) -> None:
    await asyncio.sleep(0)  # no street of a fleet has a tariff of its own
