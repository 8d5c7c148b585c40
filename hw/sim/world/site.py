"""The site of a world: houses with meters, contacts and accounts, drawn from the seed.

Money nano-currency, energy Wh, prices micro-currency per kWh. A third of the houses pays by time of
use or by blocks, the others a flat price, whose bills the auditor checks to the nano.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cloud_sync.keys import KeyRing
from edge.agent.pricing import load_documents
from edge.bootstrap import Prepared
from edge.config import AccountingSection, CloudSection, Config, GatewaySection, LineSection
from edge.core.calendar import daily_windows
from edge.core.credit_terms import CreditTerms, IssueCycle
from edge.core.policy import OfflinePolicy, Policy
from edge.core.units import MoneyNano, UnixSeconds
from edge.meters.model import MeterModel, load_model
from edge.ports import PortOpener
from edge.store.site_book import AccountEntry, MeterEntry, RelayEntry, Site, SiteBook
from hw.sim.load import PROFILES
from hw.sim.world.clock import START_AT

GATEWAY_ID = "gw-sim"
TIME_ZONE = "Asia/Shanghai"
UTC_OFFSET_S = 8 * 3600
ROUND_MS = 10_000
POLL_MS = 128_000  # in between the world asks for readings, or gives them where nothing is going on
SLOT_MINUTES = 15
DAY_S = 86_400
UNIT_NANO = 1_000_000_000
CHANNELS = 8
BOARD_DEVICE_ID = 200
METERS_PER_LINE = 16
START_WH = 2_000_000
NEIGHBOUR_WH = 700  # registers so close that the one read before could pass for the next reading of this one
POWER_W_MAX = 20_000
OWN_RELAY = "hiking_dds238_2"
MONEY_MODELS = ("eastron_sdm120", "chint_ddsu666", OWN_RELAY)


@dataclass(frozen=True, slots=True)
class Price:
    """A tariff as the world knows it: the lowest and the highest price of any energy."""

    tariff: str
    least_micro: int
    most_micro: int

    @property
    def is_flat(self) -> bool:
        return self.least_micro == self.most_micro


FLAT = Price("sim-flat@1", 600_000, 600_000)
BY_TIME = Price("sim-time@1", 300_000, 900_000)
BY_BLOCK = Price("sim-block@1", 500_000, 800_000)
# Blocks of what is bought in a month: all use is charged at the first price, and purchases cost what is beyond.
BY_PURCHASE = Price("sim-vend@1", 500_000, 500_000)
PURCHASE_LIMIT_WH, PURCHASE_SECOND_MICRO = 20_000, 800_000
# Two parts: energy, and the contract by the month, above 105 % of it the excess again.
BY_POWER = Price("sim-power@1", 600_000, 600_000)
CONTRACT_W, CONTRACT_MICRO_PER_KW = 1_000, 3_000_000
PRICES = (FLAT, BY_TIME, BY_BLOCK, BY_PURCHASE, BY_POWER)
# Houses that pay so, by their number: what is drawn from the seed stays what it was.
_PURCHASE_HOUSE, _POWER_HOUSE, _STREET = 5, 6, 8


@dataclass(frozen=True, slots=True)
class House:
    """One customer: meter, contact, account, terms, and what he is like."""

    number: int
    line_id: str
    device_id: int
    model: str
    channel: int  # of the line's board; 0 for a meter's own contact
    board_id: int
    profile: str
    scale_percent: int
    start_wh: int
    price: Price
    opening_nano: int
    protected: bool
    policy: Policy
    habit: str

    @property
    def account_id(self) -> str:
        return f"A{self.number:03}"

    @property
    def meter_id(self) -> str:
        return f"M{self.number:03}"

    @property
    def relay_id(self) -> str:
        return f"R{self.number:03}"

    @property
    def own_relay(self) -> bool:
        return self.model == OWN_RELAY


def draw_houses(chance: random.Random, meters: int) -> tuple[House, ...]:
    """The customers of a site."""
    return tuple(_with_own_tariff(_draw_house(chance, number)) for number in range(1, meters + 1))


def _with_own_tariff(house: House) -> House:
    own = {_PURCHASE_HOUSE: BY_PURCHASE, _POWER_HOUSE: BY_POWER}.get(house.number % _STREET)
    return house if own is None else replace(house, price=own)


def _draw_house(chance: random.Random, number: int) -> House:
    line, place = divmod(number - 1, METERS_PER_LINE)
    protected = chance.random() < 0.08
    return House(
        number=number,
        line_id=f"line-{line + 1}",
        device_id=place + 1,
        model=chance.choice(MONEY_MODELS),
        channel=place % CHANNELS,
        board_id=BOARD_DEVICE_ID + place // CHANNELS,
        profile=chance.choice(sorted(PROFILES)),
        scale_percent=chance.choice((60, 100, 100, 180)),
        start_wh=START_WH - number * NEIGHBOUR_WH + chance.randrange(NEIGHBOUR_WH),
        price=chance.choice((FLAT, FLAT, FLAT, FLAT, BY_TIME, BY_BLOCK)),
        opening_nano=chance.choice((-5, 0, 2, 10, 40)) * UNIT_NANO,
        protected=protected,
        policy=_draw_policy(chance),
        habit=chance.choice(("careful", "careful", "late", "late", "forgetful", "voucher")),
    )


def _draw_policy(chance: random.Random) -> Policy:
    """Grace of hours to days, so that cuts come in a short run too."""
    windows = (None, None, daily_windows([("09:00", "17:00")]), daily_windows([("20:00", "06:00")]))
    return Policy(
        reserve_days=chance.choice((1, 3, 7)),
        grace_hours=chance.choice((6, 12, 24, 72)),
        cut_windows=chance.choice(windows),
        minimum_debt_nano=MoneyNano(chance.choice((0, 0, 0, 2)) * UNIT_NANO),
        overdraft_nano=MoneyNano(chance.choice((0, 0, 0, 5)) * UNIT_NANO),
        cuts_per_hour_hundredths_of_percent=chance.choice((1000, 2500, 10_000)),
        payment_nano_max=MoneyNano(500 * UNIT_NANO),
        issue_day=chance.choice((0, 5, 12, 20)),
        offline=chance.choice((OfflinePolicy.ENFORCE,) * 4 + (OfflinePolicy.ENFORCE_FOR_HOURS, OfflinePolicy.KEEP)),
        offline_hours=chance.choice((24, 72)),
        friendly_windows=chance.choice((None,) * 4 + (daily_windows([("18:00", "07:00")]),)),
        credit=_draw_credit(chance),
        valid_until=UnixSeconds(START_AT + chance.randrange(2, 7) * DAY_S) if chance.random() < 0.2 else None,
    )


def _draw_credit(chance: random.Random) -> CreditTerms:
    return CreditTerms(
        issue_cycle=chance.choice((IssueCycle.MONTH,) * 3 + (IssueCycle.WEEK, IssueCycle.TEN_DAYS, IssueCycle.VEND)),
        emergency_limit_nano=MoneyNano(chance.choice((0, 0, 3)) * UNIT_NANO),
        emergency_threshold_nano=MoneyNano(2 * UNIT_NANO),
    )


def prepare_site(houses: Sequence[House], openers: dict[str, PortOpener], ring: KeyRing, data_dir: Path) -> Prepared:
    """What `edge.bootstrap.prepare` makes of a site's files, made here without files."""
    line_ids = sorted(openers)
    config = Config(
        gateway=GatewaySection(id=GATEWAY_ID, data_dir="."),
        lines=tuple(LineSection(id=line_id, address=line_id, poll_interval_ms=POLL_MS) for line_id in line_ids),
        accounting=AccountingSection(round_interval_ms=ROUND_MS, slot_minutes=SLOT_MINUTES, local_display=True),
        cloud=CloudSection(brokers=("mqtt://broker:1883",), keyring="keyring.json"),
        file="world",
    )
    boards = sorted({(house.line_id, house.board_id) for house in houses if not house.own_relay})
    book = SiteBook(
        site=Site(time_zone=TIME_ZONE, currency="CNY", minor_digits=2),
        meters=tuple(_meter_entry(house) for house in houses),
        relays=tuple(_relay_entry(house) for house in houses),
        accounts=tuple(_account_entry(house) for house in houses),
    )
    assert all(board in {(relay.line_id, relay.device_id) for relay in book.relays} for board in boards)
    models = {name: _money_only(load_model(name)) for name in MONEY_MODELS}
    models["relay_board_8ch"] = load_model("relay_board_8ch")
    return Prepared(config, book, models, load_documents(DOCUMENTS), ring, openers, data_dir)


def _meter_entry(house: House) -> MeterEntry:
    return MeterEntry(
        meter_id=house.meter_id,
        line_id=house.line_id,
        device_id=house.device_id,
        model=house.model,
        power_w_max=POWER_W_MAX,
        relay_id=house.relay_id,
    )


def _relay_entry(house: House) -> RelayEntry:
    if house.own_relay:
        return RelayEntry(house.relay_id, house.line_id, house.device_id, house.model)
    return RelayEntry(house.relay_id, house.line_id, house.board_id, "relay_board_8ch", house.channel)


def _account_entry(house: House) -> AccountEntry:
    return AccountEntry(
        account_id=house.account_id,
        meter_id=house.meter_id,
        tariff=house.price.tariff,
        opening_nano=MoneyNano(house.opening_nano),
        protected=house.protected,
        policy=house.policy,
        contract_w=CONTRACT_W if house.price == BY_POWER else None,
    )


def _money_only(model: MeterModel) -> MeterModel:
    """Only the money register is read: a world is about money."""
    assert model.money_point is not None
    return replace(model, points={model.money_point: model.points[model.money_point]})


def _document(name: str, **parts: Any) -> str:
    return json.dumps(
        {
            "format": 1,
            "id": name,
            "version": 1,
            "title": name,
            "currency": "CNY",
            "minor_digits": 2,
            "time_zone": TIME_ZONE,
            "valid_from": "2000-01-01",
            "cycle": {"length": "month", "start_day": 1},
            **parts,
        }
    )


_ALL_DAY = [{"name": "all", "windows": [{"from": "00:00", "to": "24:00"}]}]
DOCUMENTS = (
    _document("sim-flat", periods=_ALL_DAY, prices={"table": {"all": ["0.6"]}}),
    _document(
        "sim-time",
        periods=[
            {"name": "day", "windows": [{"from": "08:00", "to": "22:00"}]},
            {"name": "night", "windows": [{"from": "22:00", "to": "08:00"}]},
        ],
        prices={"table": {"day": ["0.9"], "night": ["0.3"]}},
    ),
    _document(
        "sim-block",
        periods=_ALL_DAY,
        blocks={"scope": "cycle", "limits_kwh": ["150"]},
        prices={"table": {"all": ["0.5", "0.8"]}},
    ),
    _document(
        "sim-vend",
        cycle={"length": "vend"},
        periods=_ALL_DAY,
        blocks={"scope": "cycle", "limits_kwh": ["20"]},
        prices={"table": {"all": ["0.5", "0.8"]}},
    ),
    _document(
        "sim-power",
        periods=_ALL_DAY,
        prices={"table": {"all": ["0.6"]}},
        demand=[
            {
                "name": "contract",
                "kind": "contract",
                "unit": "kW",
                "prices": ["3"],
                "window_min": SLOT_MINUTES,
                "slip_min": SLOT_MINUTES,
                "day_divisor": 30,
                "over_contract": {"threshold_percent": "105", "factor": 2},
            }
        ],
    ),
)
