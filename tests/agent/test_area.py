"""A transformer area through its days: samples in, records out."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from edge import bootstrap
from edge.agent.area import AreaFacts, AreaWatch
from edge.agent.metering import Metering
from edge.bus.records import MeterSample
from edge.config import LineSection
from edge.core.account import State
from edge.core.area import Area
from edge.core.calendar import fixed_zone
from edge.core.commands import NoteCondition
from edge.core.events import ConditionNoted
from edge.core.units import ClockQuality, ClockReading, UnixSeconds, WattHours
from edge.core.watch import Thresholds
from edge.meters.model import load_model
from edge.store.site_book import (
    AccountEntry,
    AreaEntry,
    MeterEntry,
    Site,
    SiteBook,
    SiteBookError,
    read_site_book,
    write_site_book,
)

START_AT = 1_772_380_800  # 2026-03-02 00:00 in Shanghai
HOUR_S, DAY_S = 3600, 86_400
ZONE = fixed_zone("Asia/Shanghai", 8 * HOUR_S, START_AT + 400 * DAY_S)
AREA = Area("T1", ("S1",), ("M1", "M2"), ct_ratio=10)


@dataclass
class Street:
    """Two customers behind a supply meter of ratio 10. Powers are what each meter's own register sees."""

    powers_w: dict[str, int] = field(default_factory=lambda: {"M1": 1_000, "M2": 2_000, "S1": 315})
    values: dict[str, dict[str, Decimal]] = field(default_factory=dict)
    thresholds: Thresholds = field(default_factory=Thresholds)
    silent: set[str] = field(default_factory=set)
    earlier_s: dict[str, int] = field(default_factory=dict)  # a meter's samples, before the end of each step
    quality: ClockQuality = ClockQuality.NTP
    at: int = START_AT - 2 * HOUR_S
    notes: list[NoteCondition] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.metering = Metering({})
        self.watch = AreaWatch([AreaFacts(AREA, self.thresholds)], {"M1": "A1", "M2": "A2"})
        self.watt_seconds = dict.fromkeys(self.powers_w, 3_600_000_000)

    def run(self, hours: float, step_s: int = 600) -> list[NoteCondition]:
        """Lets time pass; the records of it."""
        first = len(self.notes)
        for _ in range(round(hours * HOUR_S / step_s)):
            self.at += step_s
            clock = ClockReading(UnixSeconds(self.at), (self.at - START_AT + DAY_S) * 1000, "boot-1", self.quality)
            for meter, power_w in self.powers_w.items():
                self.watt_seconds[meter] += power_w * step_s
                if meter not in self.silent:
                    register_wh = WattHours(self.watt_seconds[meter] // 3600)
                    values, before_s = self.values.get(meter, {}), self.earlier_s.get(meter, 0)
                    sampled = replace(
                        clock, at=UnixSeconds(clock.at - before_s), elapsed_ms=clock.elapsed_ms - 1000 * before_s
                    )
                    self.metering.on_sample(MeterSample(meter, sampled, register_wh, values, "good"))
            self.notes += self.watch.look(clock, lambda: ZONE, self.metering, State())
        return self.notes[first:]


def told(notes: list[NoteCondition]) -> list[tuple[str, str]]:
    return [(note.condition, note.account_id) for note in notes]


def test_a_day_between_two_frozen_midnights_has_its_loss() -> None:
    street = Street()
    notes = street.run(3)  # the first midnight: there is none before it
    assert told(notes) == [("line_loss", ""), ("line_loss_incomplete", "")]
    notes = street.run(24)
    assert told(notes) == [("line_loss", ""), ("line_loss_complete", "")]
    assert notes[0].detail == "T1: 4.76 %: 75.600 - 72.000 kWh, 100.00 %"
    assert [entry.loss.rate_hundredths for entry in street.watch.history("T1")] == [None, 476]


def test_the_spread_of_a_day_is_from_the_first_to_the_last_of_the_samples_next_to_its_freeze() -> None:
    street = Street(earlier_s={"M1": 3, "S1": 40})
    street.run(27)
    assert [entry.spread_ms for entry in street.watch.history("T1")] == [40_000, 40_000]


def test_a_sample_shortly_after_the_freeze_counts_for_the_spread_and_not_the_one_long_before() -> None:
    street = Street(earlier_s={"M1": 580, "S1": 20})  # 20 s after midnight, 20 s before it
    street.run(3)
    assert [entry.spread_ms for entry in street.watch.history("T1")] == [40_000]


def test_meters_that_were_not_read_at_the_freeze_have_no_spread() -> None:
    street = Street(silent={"M1", "M2"})
    street.run(3)
    assert [entry.spread_ms for entry in street.watch.history("T1")] == [None]


def test_a_meter_silent_over_midnight_leaves_the_day_incomplete_and_is_named() -> None:
    street = Street()
    street.run(20)
    street.silent = {"M2"}
    notes = street.run(12)
    assert ("line_loss", "") in told(notes)
    loss = street.watch.history("T1")[-1].loss
    assert (loss.incomplete, loss.missing, loss.coverage_hundredths) == (True, ("M2",), 6_666)
    assert "line_loss_negative" not in [name for name, _ in told(street.notes)]


def test_more_sold_than_supplied_is_told() -> None:
    street = Street()
    street.powers_w["S1"] = 290
    assert ("line_loss_negative", "") in told(street.run(27))


def test_a_high_loss_is_told_once_while_it_lasts() -> None:
    street = Street()
    street.powers_w["S1"] = 350
    assert [name for name, _ in told(street.run(75))].count("line_loss_high") == 1


def test_reverse_energy_is_taken_off_the_supply() -> None:
    street = Street()
    street.values["S1"] = {"energy_export_total": Decimal("5.0")}
    street.run(10)
    street.values["S1"] = {"energy_export_total": Decimal("5.1")}
    street.run(17)
    assert street.watch.history("T1")[-1].loss.supply_wh == 75_600 - 100 * 10


def test_an_untrusted_clock_passes_no_midnight_and_is_told() -> None:
    street = Street(quality=ClockQuality.UNSET)
    assert told(street.run(27)) == [("clock_wrong", "")]


def test_a_silent_supply_meter_is_told_by_its_name_and_an_accounts_is_left_to_the_gateway() -> None:
    street = Street()
    street.run(3)
    street.silent = {"S1", "M1"}
    notes = street.run(1)
    assert [(note.condition, note.detail[:4]) for note in notes] == [("meter_silent", "S1: ")]
    street.silent = set()
    assert told(street.run(1)) == [("meter_answers", "")]


def test_load_and_demand_of_the_supply_meter_count_with_its_ratio() -> None:
    street = Street(thresholds=Thresholds(rated_w=3_000, contract_w=3_100))
    street.values["S1"] = {"power_total": Decimal("315.9")}
    names = {note.condition: note.detail for note in street.run(1)}
    assert names == {"overloaded": "S1: 3159 / 3000 W", "demand_over_contract": "S1: 3150 / 3100 W"}


def test_a_voltage_below_the_band_is_told_with_the_account_and_spoils_the_qualified_rate() -> None:
    street = Street()
    street.values["M1"] = {"voltage_l1": Decimal("197.5")}
    notes = street.run(3)
    assert ("voltage_out_of_band", "A1") in told(notes)
    assert ("voltage_unqualified", "A1") in told(notes)
    assert next(note.detail for note in notes if note.account_id) == "197.5 V"


def test_usage_that_stops_is_told_after_a_whole_day_and_its_return_too() -> None:
    street = Street()
    street.run(51)
    power_w, street.powers_w["M1"] = street.powers_w["M1"], 0
    assert ("usage_stopped", "A1") in told(street.run(48))
    street.powers_w["M1"] = power_w
    assert ("usage_resumed", "A1") in told(street.run(48))


@pytest.mark.parametrize(
    ("values", "condition", "back"),
    [
        ({"cover_open": "1"}, "cover_opened", {"cover_open": "0"}),
        ({"phase_sequence_reversed": "1"}, "phase_sequence_reversed", {"phase_sequence_reversed": "0"}),
        ({"status_word_7": "1"}, "phase_sequence_reversed", {"status_word_7": "2"}),
    ],
)
def test_what_a_meter_says_of_itself_is_told_with_its_account_once_and_its_end_too(
    values: dict[str, str], condition: str, back: dict[str, str]
) -> None:
    street = Street()
    street.values["M1"] = {name: Decimal(value) for name, value in values.items()}
    assert told(street.run(1)) == [(condition, "A1")]
    street.values["M1"] = {name: Decimal(value) for name, value in back.items()}
    assert [account_id for _, account_id in told(street.run(0.5))] == ["A1"]


def clock_values(at: int) -> dict[str, Decimal]:
    """Date and time as a DL/T 645 meter in Shanghai shows them."""
    local = datetime.fromtimestamp(at, timezone(timedelta(hours=8)))
    weekday = local.isoweekday() % 7
    return {"meter_date": Decimal(f"{local:%y%m%d}{weekday:02d}"), "meter_time": Decimal(f"{local:%H%M%S}")}


@pytest.mark.parametrize(("ahead_s", "names"), [(0, []), (299, []), (-301, ["clock_wrong"]), (86_400, ["clock_wrong"])])
def test_a_meters_clock_is_compared_with_the_gateways_own(ahead_s: int, names: list[str]) -> None:
    street = Street()
    for _ in range(30):
        street.values["M1"] = clock_values(street.at + 60 + ahead_s)
        street.run(1 / 60, step_s=60)
    notes = [note for note in street.notes if note.account_id == "A1"]
    assert [note.condition for note in notes] == names
    assert [note.detail for note in notes] == [f"{ahead_s} s" for _ in names]


def test_a_meter_without_a_date_has_a_wrong_clock_and_an_untrusted_gateway_judges_none() -> None:
    street = Street()
    street.values["M1"] = {"meter_date": Decimal("00000000"), "meter_time": Decimal("000000")}
    assert told(street.run(1)) == [("clock_wrong", "A1")]
    street = Street(quality=ClockQuality.UNSET)
    street.values["M1"] = clock_values(0)
    assert [note for note in street.run(1) if note.account_id] == []


def test_without_an_area_nothing_is_looked_at() -> None:
    def no_zone() -> Any:
        raise AssertionError("the zone is asked only where there is an area")

    clock = ClockReading(UnixSeconds(START_AT), 0, "boot-1", ClockQuality.NTP)
    assert AreaWatch([], {}).look(clock, no_zone, Metering({}), State()) == []


def book(**areas: Any) -> SiteBook:
    meters = tuple(
        MeterEntry(meter_id, "line-1", number, "eastron_sdm630")
        for number, meter_id in enumerate(("S1", "M1", "M2"), 1)
    )
    area = replace_entry(AreaEntry("T1", ("S1",)), **areas)
    return SiteBook(Site("Asia/Shanghai", "CNY"), meters, (), (AccountEntry("A1", "M1", "demo-street@1"),), (area,))


def replace_entry(entry: AreaEntry, **changes: Any) -> AreaEntry:
    return msgspec.structs.replace(entry, **changes)


def test_an_area_of_the_site_book_reads_as_written_and_sells_through_all_accounts(tmp_path: Path) -> None:
    written = book(ct_ratio=60, thresholds=Thresholds(rated_w=400_000))
    write_site_book(tmp_path / "site.json", written)
    read = read_site_book(tmp_path / "site.json")
    assert read == written
    assert read.sale_meter_ids(read.areas[0]) == ("M1",)
    assert read.sale_meter_ids(book(meter_ids=("M2",)).areas[0]) == ("M2",)


def two_areas() -> SiteBook:
    """Meters of two areas, one of no area and one of another line, in no order."""
    numbers = enumerate(("M1", "N1", "X1", "S2", "M2", "S1", "N2"), 1)
    meters = tuple(MeterEntry(meter_id, "line-1", number, "eastron_sdm630") for number, meter_id in numbers)
    elsewhere = MeterEntry("M3", "line-2", 1, "eastron_sdm630")
    areas = (AreaEntry("T1", ("S1",), ("M2",), ("M1", "M3")), AreaEntry("T2", ("S2",), (), ("N1", "N2")))
    return msgspec.structs.replace(book(), meters=(elsewhere, *meters), accounts=(), areas=areas)


def test_a_round_takes_the_meters_of_an_area_next_to_each_other_and_those_of_none_last() -> None:
    of_line = two_areas().meters_of_line("line-1")
    assert [meter.meter_id for meter in of_line] == ["M1", "M2", "S1", "N1", "S2", "N2", "X1"]
    assert [meter.meter_id for meter in two_areas().meters_of_line("line-2")] == ["M3"]


def test_the_line_of_a_gateway_reads_in_this_order() -> None:
    ready: Any = SimpleNamespace(
        book=two_areas(),
        config=SimpleNamespace(lines=(LineSection("line-1", "/dev/ttyUSB0"),)),
        models={"eastron_sdm630": load_model("eastron_sdm630")},
        openers={"line-1": None},
        authorities={},
    )
    clock: Any = None
    lines = bootstrap._make_lines(ready, clock, Metering({}), lambda _state: None)
    read = [device.meter_ids for device in lines["line-1"].view().devices.values()]
    assert read == [("M1",), ("M2",), ("S1",), ("N1",), ("S2",), ("N2",), ("X1",)]


def test_a_meter_that_feeds_an_area_has_one_ratio_and_not_two(tmp_path: Path) -> None:
    written = book(ct_ratio=60)
    meters = tuple(msgspec.structs.replace(meter, ct_ratio=60) for meter in written.meters)
    customers = msgspec.structs.replace(written, meters=(written.meters[0], *meters[1:]))
    write_site_book(tmp_path / "site.json", customers)
    assert read_site_book(tmp_path / "site.json") == customers
    write_site_book(tmp_path / "site.json", msgspec.structs.replace(written, meters=meters))
    with pytest.raises(SiteBookError, match="meter S1 feeds it and has a ct_ratio of its own: 60, and the area's 60"):
        read_site_book(tmp_path / "site.json")


BAD: list[tuple[dict[str, Any], str]] = [
    ({"supply_meter_ids": ("S9",)}, "area T1: meter 'S9' is not in table meters"),
    ({"meter_ids": ("M1", "S1")}, "area T1: meter 'S1' already counts in area T1"),
    ({"generation_meter_ids": ("M1",)}, "area T1: has no customer's meter"),
    ({"supply_meter_ids": ()}, r"row 1: .*length >= 1"),
    ({"ct_ratio": 0}, r"row 1: .*>= 1"),
    ({"thresholds": replace(Thresholds(), hold_s=-1)}, r"row 1: thresholds\.hold_s: is -1"),
]


@pytest.mark.parametrize(("change", "said"), BAD)
def test_an_area_that_cannot_be_is_refused_by_name(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    write_site_book(tmp_path / "site.json", book(**change))
    with pytest.raises(SiteBookError, match=said):
        read_site_book(tmp_path / "site.json")


def test_the_gateway_journals_what_its_area_tells(virtual: Callable[..., Any], kit: Any) -> None:
    async def scenario() -> Any:
        world = kit.World(*(kit.House(number, opening_nano=10**12) for number in (1, 2)))
        area = AreaFacts(Area("T1", ("M02",), ("M01",)))
        world.start()._areas = AreaWatch([area], {"M01": "A01", "M02": "A02"})
        await world.live(50)
        return world

    losses = [event for event in virtual(scenario()).log.of(ConditionNoted) if event.condition == "line_loss"]
    assert [event.detail for event in losses][-1] == "T1: 0.00 %: 14.400 - 14.400 kWh, 100.00 %"
