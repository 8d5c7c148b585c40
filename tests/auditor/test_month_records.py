"""The auditor against records of power and of energy bought by blocks: a true story holds, an altered one does not."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from edge.core import commands as cmd
from edge.core.account import Register, State
from edge.core.calendar import fixed_zone
from edge.core.charge import Rating
from edge.core.debt import DebtKind
from edge.core.demand import Contracted
from edge.core.policy import Policy
from edge.core.purchased import as_used, purchase_blocks
from edge.core.rating import reference_rate
from edge.core.step import step
from edge.core.tariff import compile_tariff, load_tariff
from edge.core.units import ClockQuality, ClockReading, MoneyNano, UnixSeconds, WattHours
from edge.store.codec import encode_event

NANO = 1_000_000_000
DAY_S = 86_400
SLOT_S = 900
START_AT = 1_711_900_800  # 2024-04-01 00:00 in Shanghai
STREET: dict[str, Any] = {
    "format": 1,
    "id": "street",
    "version": 1,
    "currency": "CNY",
    "minor_digits": 2,
    "time_zone": "Asia/Shanghai",
    "valid_from": "2020-01-01",
    "cycle": {"length": "month", "start_day": 1},
    "periods": [{"name": "all", "windows": [{"from": "00:00", "to": "24:00"}]}],
    "blocks": {"scope": "cycle", "limits_kwh": ["170"]},
    "prices": {"base_by_period": {"all": "0"}, "adder_by_block": ["0.51", "0.56"]},
}
POWER = {
    **STREET,
    "demand": [
        {"name": "transformer", "kind": "capacity", "unit": "kVA", "prices": ["23.5"], "day_divisor": 30},
        {
            "name": "contract",
            "kind": "contract",
            "unit": "kW",
            "prices": ["38"],
            "window_min": 15,
            "slip_min": 1,
            "day_divisor": 30,
            "over_contract": {"threshold_percent": "105", "factor": 2},
        },
    ],
}
VEND = {**STREET, "cycle": {"length": "vend"}}
DEARER = {**VEND, "version": 2, "prices": {"base_by_period": {"all": "0"}, "adder_by_block": ["0.53", "0.60"]}}
USED = {**STREET, "version": 3}
LATE = {
    **STREET,
    "late_charge": {
        "class": "other", "same_year_per_mille": "2", "later_year_per_mille": "3.5", "minimum": "1.00"
    },
}  # fmt: skip
POLICY = Policy(reserve_days=0)
CONTRACTED = Contracted(contract_w=3_000, capacity_va=9_000)


class Story:
    """Commands in, journal bodies out."""

    def __init__(self, document: dict[str, Any], contracted: Contracted, *later: dict[str, Any]) -> None:
        self.state, self.bodies, self.count = State(), list[tuple[str, bytes]](), 0
        zone, documents = fixed_zone("Asia/Shanghai", 8 * 3600, START_AT + 900 * DAY_S), (document, *later)
        tariffs = {f"street@{entry['version']}": load_tariff(entry) for entry in documents}
        span = (START_AT - 40 * DAY_S, START_AT + 500 * DAY_S)
        compiled = [compile_tariff([as_used(tariff)], zone, *span) for tariff in tariffs.values()]
        blocks = {key: purchase_blocks(tariff) for key, tariff in tariffs.items()}
        self.rating = Rating(
            rate=reference_rate(compiled),
            indexes={key: index for index, key in enumerate(tariffs)},
            positions=dict.fromkeys(tariffs, 1),
            valid_from=dict.fromkeys(tariffs, 0),
            zone=zone,
            minor_nano=10_000_000,
            terms={key: tariff.terms for key, tariff in tariffs.items()},
            purchases={key: sold for key, sold in blocks.items() if sold is not None},
        )
        for entry in documents:
            self.do(cmd.AcceptTariff, 0, f"street@{entry['version']}", json.dumps(entry))
        opened = Register(UnixSeconds(START_AT), WattHours(0))
        self.do(cmd.OpenAccount, 0, "A1", "M1", POLICY, "street@1", opened, MoneyNano(NANO), contracted=contracted)

    def do(self, make: Any, second: int, *fields: Any, **named: Any) -> None:
        clock = ClockReading(UnixSeconds(START_AT + second), second * 1000, "boot", ClockQuality.NTP)
        stepped = step(self.state, make(clock, *fields, **named), self.rating)
        self.state = stepped.state
        self.bodies.extend(encode_event(event) for event in stepped.events)

    def order(self, make: Any, second: int, *fields: Any, **named: Any) -> None:
        self.count += 1
        self.do(make, second, *fields, cid=f"c-{self.count}", **named)

    def read(self, second: int, register_wh: int) -> None:
        sample = cmd.Sample("A1", UnixSeconds(START_AT + second), WattHours(register_wh))
        self.do(cmd.TakeRound, second, (sample,), record=True)

    def pay(self, second: int, name: str, nano: int) -> None:
        self.order(cmd.ApplyPayment, second, "A1", name, MoneyNano(nano), "cloud", UnixSeconds(START_AT + second))


def power_story() -> list[tuple[str, bytes]]:
    """A month with a peak above the contract, and one without; then a tenant leaves."""
    story = Story(POWER, CONTRACTED)
    for number, register_wh in enumerate((0, 250, 1_250, 1_300), start=8):
        story.read(4 * DAY_S + number * SLOT_S, register_wh)
    story.read(31 * DAY_S + 60, 50_000)
    story.order(cmd.ChangeTenant, 41 * DAY_S, "A1", "tenant-2", MoneyNano(NANO))
    story.read(50 * DAY_S, 60_001)
    story.order(cmd.ChangeTenant, 50 * DAY_S + 60, "A1", "tenant-3", MoneyNano(NANO))
    story.read(62 * DAY_S + 60, 70_001)
    return story.bodies


def vend_story() -> list[tuple[str, bytes]]:
    """Purchases over the limit, one taken back in part, one that paid a debt first, and the next month."""
    story = Story(VEND, Contracted())
    story.pay(DAY_S, "P1", 60 * NANO)
    story.pay(2 * DAY_S, "P2", 50 * NANO)
    story.order(cmd.SetDebt, 2 * DAY_S, "A1", DebtKind.ACCUMULATED, MoneyNano(5 * NANO), "agreement")
    story.pay(3 * DAY_S, "P3", 20 * NANO)
    story.read(9 * DAY_S, 90_000)
    signed_by = ("ops-1", "tariff-1")
    story.order(cmd.ReversePayment, 10 * DAY_S, "P2", MoneyNano(21 * NANO), signed_by=signed_by)
    story.read(31 * DAY_S, 150_000)
    story.pay(32 * DAY_S, "P4", 9 * NANO)
    story.order(cmd.ReversePayment, 33 * DAY_S, "P3", MoneyNano(18 * NANO), signed_by=signed_by)
    story.read(62 * DAY_S, 180_000)
    return story.bodies


def repriced_story() -> list[tuple[str, bytes]]:
    """A vend tariff with a new price in the middle of a day, one at a midnight back, then one without purchases."""
    story = Story(VEND, Contracted(), DEARER, USED)
    story.pay(DAY_S, "P1", 120 * NANO)
    story.order(cmd.ScheduleTariff, 2 * DAY_S, "street@2", UnixSeconds(START_AT + 5 * DAY_S + 40_000), ())
    story.order(cmd.ScheduleTariff, 2 * DAY_S, "street@1", UnixSeconds(START_AT + 31 * DAY_S), ())
    story.read(5 * DAY_S, 30_000)
    story.read(6 * DAY_S, 40_000)
    story.pay(7 * DAY_S, "P2", 31 * NANO)
    signed_by = ("ops-1", "tariff-1")
    story.order(cmd.ReversePayment, 10 * DAY_S, "P1", MoneyNano(50 * NANO), signed_by=signed_by)
    story.read(32 * DAY_S, 60_000)
    story.pay(33 * DAY_S, "P3", 20 * NANO)
    story.order(cmd.ScheduleTariff, 34 * DAY_S, "street@3", UnixSeconds(START_AT + 40 * DAY_S), ())
    story.read(41 * DAY_S, 70_000)
    story.order(cmd.ReversePayment, 42 * DAY_S, "P3", MoneyNano(15 * NANO), signed_by=signed_by)
    story.read(62 * DAY_S, 90_000)
    return story.bodies


def late_story() -> list[tuple[str, bytes]]:
    """Bills paid in parts, early and late and over the end of a year, one put right by a correction."""
    story = Story(LATE, Contracted())
    story.read(30 * DAY_S, 1_500_000)
    story.pay(35 * DAY_S, "P1", 300 * NANO)
    story.read(61 * DAY_S, 1_900_000)
    story.pay(62 * DAY_S, "P2", 600 * NANO)
    story.read(91 * DAY_S, 2_000_000)
    story.pay(100 * DAY_S, "P3", 10 * NANO)
    correction = (MoneyNano(20 * NANO), "B3", "meter", ("ops-1", "tariff-1"))
    story.order(cmd.PostCorrection, 101 * DAY_S, "A1", *correction)
    story.read(122 * DAY_S, 2_100_000)
    story.pay(280 * DAY_S, "P4", 500 * NANO)
    story.read(307 * DAY_S, 2_100_000)
    return story.bodies


STORIES: dict[str, tuple[dict[str, Any], Contracted, Callable[[], list[tuple[str, bytes]]]]] = {
    "power": (POWER, CONTRACTED, power_story),
    "vend": (VEND, Contracted(), vend_story),
    "repriced": (VEND, Contracted(), repriced_story),
    "late": (LATE, Contracted(), late_story),
}
FIGURES = {
    ("power", "DemandChargePosted"): ("first_day", "end_day", "power_w_max", "posting_nano", "balance_nano"),
    ("power", "BillIssued"): ("month_nano", "bill_minor"),
    ("vend", "EnergyBought"): ("before_wh", "energy_wh", "first_day", "rest_nano", "posting_nano", "balance_nano"),
    ("vend", "BoughtEnergyReturned"): ("energy_wh", "posting_nano", "basis_micro_per_kwh", "first_day"),
    ("vend", "BillIssued"): ("bought_nano",),
    ("repriced", "TariffScheduled"): ("effective_at",),
    ("repriced", "TariffActivated"): ("at",),
    ("repriced", "BoughtEnergyRepriced"): (
        "basis_before_micro_per_kwh",
        "basis_micro_per_kwh",
        "live_balance_nano",
        "posting_nano",
        "balance_nano",
    ),
    ("repriced", "BoughtEnergyReturned"): ("posting_nano", "basis_micro_per_kwh"),
    ("late", "BillsSettled"): ("paid_day",),
    ("late", "LateChargePosted"): ("posting_nano", "balance_nano"),
    ("late", "BillIssued"): ("open_nano", "due_day", "month_nano", "bill_minor"),
}


@pytest.fixture(scope="module")
def complaints(auditor: Any) -> Callable[[str, list[tuple[str, bytes]]], list[str]]:
    """What the auditor's books complain of when they read a story's bodies."""

    def read(name: str, bodies: list[tuple[str, bytes]]) -> list[str]:
        document, contracted, _ = STORIES[name]
        policy = msgspec.json.decode(msgspec.json.encode(POLICY))
        row = {"account_id": "A1", "meter_id": "M1", "tariff": "street@1", "protected": False, "opening_nano": NANO}
        row |= {"policy": policy, "contract_w": contracted.contract_w, "capacity_va": contracted.capacity_va}
        folder = auditor.Folder(
            journal=[auditor.Record(n, stream, 1, n, b"", body) for n, (stream, body) in enumerate(bodies, 1)],
            identities=[("G1", 1)],
            marks={},
            cloud={},
            cloud_records=[],
            damage=[],
            registers={
                "at": START_AT + (320 if name == "late" else 70) * DAY_S,
                "meters": {"M1": {"start_register_wh": 0}},
            },
            street={"wall_start_at": START_AT},
            site={"site": {"1": {"time_zone": "Asia/Shanghai", "minor_digits": 2}}, "accounts": {"1": row}},
            tariff_text=json.dumps(document),
            keys=[],
            boot_id="boot",
        )
        books = auditor.Books(folder)
        books.read_all()
        return list(books.violations)

    return read


@pytest.mark.parametrize("name", STORIES)
def test_a_true_story_holds(name: str, complaints: Any) -> None:
    assert complaints(name, STORIES[name][2]()) == []


def test_the_stories_have_what_is_to_be_audited() -> None:
    power = [json.loads(body) for _, body in power_story()]
    charges = [event for event in power if event["type"] == "DemandChargePosted"]
    assert [event["power_w_max"] for event in charges] == [4_000, None, None, None]
    assert [line["power_w"] for line in charges[0]["lines"]] == [9_000, 4_850]
    vend = [json.loads(body) for _, body in vend_story()]
    assert sum(event["type"] == "BoughtEnergyReturned" for event in vend) == 2
    blocks = [[line["block"] for line in event["lines"]] for event in vend if event["type"] == "EnergyBought"]
    assert blocks == [[1], [1, 2], [2], [1]]


@pytest.mark.parametrize(
    ("name", "kind", "field"), [(*key, field) for key, fields in FIGURES.items() for field in fields]
)
def test_one_figure_that_is_altered_is_noticed(name: str, kind: str, field: str, complaints: Any) -> None:
    bodies, altered = STORIES[name][2](), []
    for stream, body in bodies:
        event = json.loads(body)
        if event["type"] == kind and event.get(field) is not None:
            event[field] += 1
        altered.append((stream, json.dumps(event).encode()))
    assert altered != bodies
    assert complaints(name, altered) != []


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("power", "DemandChargePosted"),
        ("vend", "EnergyBought"),
        ("repriced", "BoughtEnergyRepriced"),
        ("repriced", "TariffActivated"),
        ("late", "BillsSettled"),
        ("late", "LateChargePosted"),
    ],
)
def test_a_record_that_comes_twice_or_not_at_all_is_noticed(name: str, kind: str, complaints: Any) -> None:
    bodies = STORIES[name][2]()
    for times in (0, 2):
        changed = [item for item in bodies for _ in range(times if json.loads(item[1])["type"] == kind else 1)]
        assert len(changed) != len(bodies)
        assert complaints(name, changed) != []
