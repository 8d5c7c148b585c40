"""A street to show: rich fake data behind the three things a console reads or calls."""

import asyncio
import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from edge.agent.snapshot import (
    AccountView,
    AnswerTimesView,
    AreaDetail,
    BlockerView,
    CloudView,
    CommunicationView,
    DayLossView,
    DeviceView,
    EmergencyView,
    LineDetail,
    LineView,
    NoticeView,
    PeriodView,
    PolicyView,
    SiteDetails,
    SnapshotSource,
    StoreView,
    StreamView,
    StreetSnapshot,
    TariffView,
)
from edge.console.app import create_app
from edge.console.security import FORM_COOKIE
from edge.console.settings import ConsoleSettings
from edge.core.units import MoneyNano, UnixSeconds, WattHours
from edge.ports import DoorAnswer

NOW = 1_785_736_800  # Mon 3 Aug 2026, 14:00 in Shanghai
HOUR = 3600
DAY = 86_400
UNIT = 1_000_000_000
ORIGIN = "http://localhost"


def account(number: int, **changes: Any) -> AccountView:
    """An account in good order; `changes` make it interesting."""
    good = CommunicationView("good", 86_300 + number, 12, 0, UnixSeconds(NOW - 20), None)
    plain = AccountView(
        account_id=f"A-{1000 + number}",
        position=f"Building 3, unit {number}",
        meter_id=f"2026{number:08d}",
        line_id="line-1" if number % 2 else "line-2",
        model_id="sdm120",
        protected=False,
        money_nano=MoneyNano(60 * UNIT),
        estimate_nano=MoneyNano(20 * UNIT),
        live_balance_nano=MoneyNano(40 * UNIT + number * 7_370_000_000 + 1),
        days_left=11 + number,
        suggested_top_up_nano=MoneyNano(0),
        control_state="connected",
        control_reason="commissioned",
        output_connected=True,
        switching=False,
        hold=None,
        grace_ends_at=None,
        notices=(),
        blockers=(),
        register_wh=WattHours(1_234_567 + number * 1013),
        reading_at=UnixSeconds(NOW - 20),
        values={
            "voltage_l1": Decimal("228.4"),
            "current_l1": Decimal("1.82"),
            "power_total": Decimal("402.7"),
            "power_factor_total": Decimal("0.97"),
            "frequency": Decimal("50.01"),
        },
        communication=good,
    )
    return dataclasses.replace(plain, **changes)


def street(accounts: Sequence[AccountView], version: int = 1, **changes: Any) -> StreetSnapshot:
    """A snapshot of these accounts."""
    plain = StreetSnapshot(
        version=version,
        gateway_id="GW-0007",
        at=UnixSeconds(NOW),
        utc_offset_s=8 * HOUR,
        time_zone="Asia/Shanghai",
        clock_quality="ntp",
        currency="CNY",
        minor_digits=2,
        accounts=tuple(accounts),
        lines=(
            LineView("line-1", "/dev/ttyUSB0", True, None, 510_204, 310, {"timeout": 300, "crc": 10}, 640),
            LineView("line-2", "tcp://10.0.0.9:502", True, None, 498_811, 22, {"timeout": 22}, 655),
        ),
        cloud=CloudView(True, UnixSeconds(NOW - 40), {"led": 0, "res": 0, "evt": 2, "rdg": 1}),
        software_version="0.1.0",
        journal_seq=18_402,
        journal_head="9f2c51ab77e0" + "0" * 52,
    )
    return dataclasses.replace(plain, **changes)


def device(number: int, **changes: Any) -> DeviceView:
    """A meter of the street that answers; `changes` make it interesting."""
    meter_ids = (f"2026{number:08d}",)
    plain = DeviceView(number, meter_ids, (), 86_300 + number, 0, 0, {}, UnixSeconds(NOW - 20), None, False)
    return dataclasses.replace(plain, **changes)


def policy_view(**changes: Any) -> PolicyView:
    """The usual policy of an agreement."""
    plain = PolicyView(
        policy_id="normal",
        version=1,
        accounts=12,
        signed_by="site_book",
        valid_until=None,
        legal_profile="prepaid_by_agreement",
        notices_needed=True,
        grace_hours=72,
        pre_cut_notice_minutes=30,
        notice_proof="local_display",
        deemed_after_hours=24,
        offline="enforce",
        offline_hours=720,
        cut_windows=((480, 1200),),
        cut_weekdays=(0, 1, 2, 3, 4),
        cut_holidays=9,
        friendly_windows=False,
    )
    return dataclasses.replace(plain, **changes)


def site_details(**changes: Any) -> SiteDetails:
    """A place with a busy line, a line to spare, an area, and a store on one disk with its anchor."""
    lines = street(()).lines
    silent = {"silent": True, "last_ok_at": UnixSeconds(NOW - 26 * HOUR), "errors": {"timeout": 900}}
    weak = {"polls_failed": 9_000, "readings_rejected": 41, "errors": {"crc": 8_990, "wrong_unit": 10}}
    board = {"meter_ids": (), "relay_ids": ("R-1", "R-2")}
    quick = {"answers": AnswerTimesView(20, 25, 40, 61), "wait_ms": 142}
    all_of_line = AnswerTimesView(25, 40, 80, 212)
    losses = [
        DayLossView(20_660 + day, 480_000 + day * 1000, 455_000, 25_000 + day * 1000, 520 + day * 19, 10_000, ())
        for day in range(9)
    ]
    part = DayLossView(20_669, 480_000, 390_000, 90_000, 1875, 9_230, ("202600000008",))
    plain = SiteDetails(
        at=UnixSeconds(NOW),
        clock_doubted=False,
        lines=(
            LineDetail(
                lines[0],
                500,
                60,
                41,
                (device(1, **quick), device(7, **weak), device(3), device(33, **board)),
                93,
                all_of_line,
            ),
            LineDetail(lines[1], 10_000, 60, 0, (device(2), device(8, polls_failed=900, **silent))),
        ),
        areas=(AreaDetail("area-3", ("currents_imbalanced", "overloaded"), (*losses, part)),),
        store=StoreView(
            81_264_640,
            31_914_983_424,
            24_696_061_952,
            None,
            True,
            tuple(StreamView(name, 1, 18_402, 18_400, "9f2c51ab" * 8) for name in ("led", "res", "evt", "rdg")),
        ),
        tariffs=(
            TariffView(
                "demo-street@1",
                "Household blocks",
                12,
                (
                    PeriodView("peak", (170_000, 260_000), (540_000, 590_000, 840_000)),
                    PeriodView("valley", (), (-390_050,)),
                ),
            ),
        ),
        policies=(policy_view(),),
    )
    return dataclasses.replace(plain, **changes)


def _notice(number: int, raised_days_ago: int, *, receipt: bool = True) -> NoticeView:
    raised = NOW - raised_days_ago * DAY
    return NoticeView(
        number,
        UnixSeconds(raised),
        UnixSeconds(raised + 2 * HOUR) if receipt else None,
        "cloud_receipt" if receipt else None,
    )


def troubled_accounts() -> list[AccountView]:
    """One account of each kind a technician may meet."""
    silent = CommunicationView("silent", 80_000, 900, 0, UnixSeconds(NOW - 26 * HOUR), "timeout")
    weak = CommunicationView("degraded", 80_000, 9_000, 41, UnixSeconds(NOW - 20), "crc")
    owing = {"days_left": None, "live_balance_nano": MoneyNano(-12_345_000_001), "notices": (_notice(1, 9),)}
    full = (_notice(1, 12), _notice(2, 4), _notice(3, 1))
    return [
        account(1),
        account(
            2,
            live_balance_nano=MoneyNano(-31_204_400_000),
            money_nano=MoneyNano(10 * UNIT),
            estimate_nano=MoneyNano(41_204_400_000),
            suggested_top_up_nano=MoneyNano(61_210_000_000),
            days_left=None,
            control_state="ready_for_reconnection",
            control_reason="no_credit",
            output_connected=False,
            notices=full,
            grace_ends_at=UnixSeconds(NOW - DAY),
            emergency=EmergencyView("selectable", MoneyNano(10 * UNIT), MoneyNano(0)),
        ),
        account(3, control_state="disconnected", control_reason="operator", output_connected=False),
        account(
            4,
            **owing | {"notices": (_notice(1, 9), _notice(2, 1, receipt=False))},
            blockers=(
                BlockerView("notice_not_delivered", {"number": 2}),
                BlockerView("window_closed", {"opens_at": NOW + DAY}),
            ),
        ),
        account(
            5,
            **owing,
            grace_ends_at=UnixSeconds(NOW + 2 * DAY),
            blockers=(BlockerView("notice_not_delivered", {"number": 3}),),
        ),
        account(
            6,
            **owing,
            protected=True,
            position="Health station",
            blockers=(BlockerView("protected", {}),),
        ),
        account(7, hold="register_regression", communication=weak),
        account(8, communication=silent, reading_at=UnixSeconds(NOW - 26 * HOUR)),
        account(9, live_balance_nano=MoneyNano(9_100_000_000), days_left=3, notices=(_notice(1, 1),)),
        account(
            10,
            live_balance_nano=MoneyNano(-88_000_000_000),
            days_left=None,
            control_state="ready_for_reconnection",
            control_reason="no_credit",
            output_connected=True,
            notices=full,
        ),
        account(11, output_connected=None, communication=weak),
        account(12),
    ]


def ledger_records(account_id: str) -> list[dict[str, Any]]:
    """A month of one account, newest first."""
    records: list[dict[str, Any]] = [
        {
            "type": "AccountOpened",
            "at": NOW - 31 * DAY,
            "meter": "202600000002",
            "register_wh": 1_100_000,
            "posting_nano": 50 * UNIT,
            "balance_nano": 50 * UNIT,
        }
    ]
    for day in range(30, 0, -1):
        records.append(
            {
                "type": "RegisterFrozen",
                "at": NOW - day * DAY - 14 * HOUR,
                "occasion": "daily",
                "register_wh": 1_100_000 + (31 - day) * 4210,
                "energy_wh": 4210,
                "quality": "gateway_sample",
                "estimate_nano": (31 - day) * 2_220_000_000,
                "balance_nano": 50 * UNIT,
                "live_balance_nano": (50 if day > 8 else 70) * UNIT - (31 - day) * 2_600_000_000,
            }
        )
    records += [
        {"type": "NoticeRaised", "at": NOW - 12 * DAY, "number": 1, "live_balance_nano": 9 * UNIT},
        {"type": "NoticeRaised", "at": NOW - 4 * DAY, "number": 2, "live_balance_nano": -UNIT},
        {"type": "NoticeDelivered", "at": NOW - 4 * DAY + 2 * HOUR, "number": 2, "proof": "cloud_receipt"},
        {
            "type": "DisconnectControlChanged",
            "at": NOW - DAY,
            "control_state": "ready_for_reconnection",
            "trigger": "local_disconnect",
            "reason": "no_credit",
            "balance_nano": 50 * UNIT,
            "live_balance_nano": -12 * UNIT,
        },
        {
            "type": "PaymentApplied",
            "at": NOW - 9 * DAY - HOUR,
            "payment_id": "P-77120",
            "amount_nano": 20 * UNIT,
            "door": "voucher",
            "posting_nano": 20 * UNIT,
            "balance_nano": 70 * UNIT,
        },
    ]
    records.sort(key=lambda record: int(record["at"]))
    return [
        {**record, "account": account_id, "seq": seq, "hash": f"{seq * 7919:064x}"[::-1]}
        for seq, record in reversed(list(enumerate(records, 100)))
    ]


@dataclass
class FakeLedger:
    """A LedgerReader over lists."""

    extra: list[dict[str, Any]] = field(default_factory=list)

    async def account_records(self, account_id: str, count_max: int) -> Sequence[Mapping[str, Any]]:
        return [*self.extra, *ledger_records(account_id)][:count_max]

    async def event_records(self, count_max: int, before_order: int | None = None) -> Sequence[Mapping[str, Any]]:
        records: list[dict[str, Any]] = []
        for account_id in ("A-1002", "A-1005"):
            records += [{**record, "stream": "led"} for record in ledger_records(account_id)]
        records += [
            {"type": "OutputStateObserved", "at": NOW - 9, "account": "A-1002", "connected": False, "stream": "evt"},
            {"type": "OrderRefused", "at": NOW - 8, "account": "A-1005", "cid": "c-9", "order_type": "cut",
             "reason": "protected", "stream": "res"},
            {"type": "SomethingNew", "at": NOW - 7, "detail_wh": 1500, "stream": "evt"},
        ]  # fmt: skip
        records.sort(key=lambda record: int(record["at"]))
        ordered = [{"seq": order, **record, "order": order} for order, record in enumerate(records, 1)]
        return [record for record in reversed(ordered) if before_order is None or record["order"] < before_order][
            :count_max
        ]

    async def balance_history(self, account_id: str, since: UnixSeconds) -> Sequence[tuple[UnixSeconds, int]]:
        frozen = [
            (UnixSeconds(int(record["at"])), int(record["live_balance_nano"]))
            for record in reversed(ledger_records(account_id))
            if record["type"] == "RegisterFrozen" and int(record["at"]) >= since
        ]
        paid_at = UnixSeconds(NOW - 9 * DAY - HOUR)
        before = [point for point in frozen if point[0] <= paid_at]
        step = [(paid_at, before[-1][1]), (paid_at, before[-1][1] + 20 * UNIT)]
        return [*before, *step, *frozen[len(before) :]]


APPLIED = DoorAnswer(
    True, "applied", {"account": "A-1002", "amount_nano": 50 * UNIT, "live_balance_nano": 18_795_600_000}
)


@dataclass
class FakeDoor:
    """A CommandDoor that remembers what came in and answers what it is told to."""

    answer: DoorAnswer = field(default_factory=lambda: APPLIED)
    entered: list[tuple[str, str]] = field(default_factory=list)
    typed: list[tuple[str, str, str]] = field(default_factory=list)
    selected: list[tuple[str, str]] = field(default_factory=list)
    pressed: list[tuple[str, str]] = field(default_factory=list)
    confirmed: list[tuple[str, int, int, str]] = field(default_factory=list)

    async def enter_voucher(self, text: str, actor: str) -> DoorAnswer:
        self.entered.append((text, actor))
        return self.answer

    async def select_emergency_credit(self, account_id: str, actor: str) -> DoorAnswer:
        self.selected.append((account_id, actor))
        return self.answer

    async def press_key(self, account_id: str, actor: str) -> DoorAnswer:
        self.pressed.append((account_id, actor))
        return self.answer

    async def confirm_notice(self, account_id: str, number: int, raised_at: int, actor: str) -> DoorAnswer:
        self.confirmed.append((account_id, number, raised_at, actor))
        return self.answer

    async def enter_token(self, account_id: str, text: str, actor: str) -> DoorAnswer:
        self.typed.append((account_id, text, actor))
        return self.answer


@dataclass
class World:
    """A console and what stands behind it."""

    source: SnapshotSource
    ledger: FakeLedger
    door: FakeDoor
    settings: ConsoleSettings
    app: Starlette

    def request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """One request to the application, without a socket."""

        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url=ORIGIN) as client:
                return await client.request(method, path, **arguments)

        return asyncio.run(ask())

    def get(self, path: str, **arguments: Any) -> httpx.Response:
        return self.request("GET", path, **arguments)

    def open_form(self, path: str = "/voucher") -> tuple[str, str]:
        """Opens a form as a browser does: its cookie and its token."""
        page = self.get(path)
        token = re.search(r'name="form_token" value="([^"]+)"', page.text)
        assert token is not None
        return page.cookies[FORM_COOKIE], token[1]

    def enter(self, text: str, path: str = "/voucher", **changes: Any) -> httpx.Response:
        """Sends a form as a browser does; `changes` are what is wrong with it."""
        cookie, token = self.open_form(path)
        fields = {"voucher": text} if path == "/voucher" else {"digits": text, "account": "A-1002"}
        data = {**fields, "form_token": token} | changes.pop("data", {})
        headers = {"origin": ORIGIN, "cookie": f"{FORM_COOKIE}={cookie}"} | changes.pop("headers", {})
        headers = {name: value for name, value in headers.items() if value is not None}
        return self.request("POST", path, **({"data": data} | changes), headers=headers)

    def publish(self, accounts: Sequence[AccountView], version: int = 1, **changes: Any) -> None:
        self.source.publish(street(accounts, version, **changes))


MakeWorld = Callable[..., World]


@pytest.fixture
def make_world() -> MakeWorld:
    """Makes a console; keyword arguments are settings."""
    return build_world


def build_world(**settings: Any) -> World:
    source, ledger, door = SnapshotSource(details=site_details), FakeLedger(), FakeDoor()
    chosen = ConsoleSettings(**({"token_accounts": frozenset({"A-1002", "A-1004"})} | settings))
    return World(source, ledger, door, chosen, create_app(source, ledger, door, chosen))


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    """A console over the troubled street."""
    made = make_world()
    made.publish(troubled_accounts())
    return made


@pytest.fixture
def make_account() -> Callable[..., AccountView]:
    return account


@pytest.fixture
def details() -> Callable[..., SiteDetails]:
    return site_details


@pytest.fixture
def make_device() -> Callable[..., DeviceView]:
    return device


@pytest.fixture
def make_policy() -> Callable[..., PolicyView]:
    return policy_view


@pytest.fixture
def accounts() -> list[AccountView]:
    return troubled_accounts()
