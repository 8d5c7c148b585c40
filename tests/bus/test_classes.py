"""edge.bus.classes: money and relays in every round, the rest when it is due, and all money at once for a freeze."""

import asyncio
from itertools import pairwise

import pytest

from edge.bus.classes import FREEZE_INTERVAL_S, Deadlines, ReadingClass, Scope, class_of
from edge.bus.plan import Rounds
from edge.bus.records import MeterSample
from edge.meters.model import load_model
from hw.sim.bench_bus.simulated import Site, meters_of, running, simulate
from hw.sim.bench_bus.wire import Pace, PacedWire

MODEL_ID = "eastron_sdm120"  # all its points take three requests
METERS, POLL_S, STEP_S, SPOIL_EVERY = 32, 10, 0.01, 53
PACE = Pace(9600, 0.020)
FREEZE_AT_S = FREEZE_INTERVAL_S - 1_700_000_000 % FREEZE_INTERVAL_S  # of the loop, by the wire's clock


def test_class_is_told_by_name_and_unit() -> None:
    points = load_model("eastron_sdm630").points
    classes = {name: class_of(point, "energy_import_total") for name, point in points.items()}
    assert classes["energy_import_total"] is classes["energy_export_total"] is ReadingClass.MONEY
    assert classes["voltage_l1"] is classes["power_total"] is classes["frequency"] is ReadingClass.POWER_QUALITY
    assert {found for name, found in classes.items() if name.startswith("power_factor")} <= {ReadingClass.POWER_QUALITY}
    assert ReadingClass.OTHER in classes.values()
    assert class_of(points["energy_import_total"], None) is ReadingClass.OTHER


@pytest.mark.parametrize(
    ("reading_class", "scope", "age_ms", "wanted"),
    [
        (ReadingClass.MONEY, Scope.MONEY, 0, True),
        (ReadingClass.RELAY, Scope.MONEY, 0, False),
        (ReadingClass.RELAY, Scope.MONEY, None, True),
        (ReadingClass.RELAY, Scope.URGENT, 0, True),
        (ReadingClass.POWER_QUALITY, Scope.URGENT, 60_000, False),
        (ReadingClass.POWER_QUALITY, Scope.URGENT, None, True),
        (ReadingClass.POWER_QUALITY, Scope.DUE, None, True),
        (ReadingClass.POWER_QUALITY, Scope.DUE, 1_999, False),
        (ReadingClass.POWER_QUALITY, Scope.DUE, 2_000, True),
        (ReadingClass.OTHER, Scope.DUE, 59_999, False),
        (ReadingClass.OTHER, Scope.DUE, 60_000, True),
    ],
)
def test_class_is_asked_for_when_scope_and_age_say_so(
    reading_class: ReadingClass, scope: Scope, age_ms: int | None, wanted: bool
) -> None:
    assert Deadlines(2_000, 60_000).wants(reading_class, scope, age_ms) is wanted


def test_sample_has_all_values_though_some_were_not_asked_for_again() -> None:
    async def story() -> list[tuple[int, MeterSample]]:
        wire, rounds, before = PacedWire(PACE), [], 0
        site = Site(wire, meters_of(MODEL_ID, 1), poll_interval_ms=1_000 * POLL_S, other_interval_ms=60_000)
        async with running(site):
            for number in range(14):
                await asyncio.sleep(POLL_S)
                rounds.append((wire.tally.requests - before, site.samples[number][1]))
                before = wire.tally.requests
        return rounds

    rounds = simulate(story())
    names = set(load_model(MODEL_ID).points)
    assert all(set(sample.values) == names for _, sample in rounds)
    requests = [asked for asked, _ in rounds[1:]]
    assert requests == [2, 2, 2, 2, 2, 3, 2, 2, 2, 3, 2, 3, 2], "once a minute, and a freeze after 100 s"


def test_at_a_freeze_the_meters_are_read_as_close_together_as_the_wire_allows() -> None:
    async def story() -> tuple[list[tuple[float, str]], float]:
        site = Site(PacedWire(PACE), meters_of(MODEL_ID, METERS), poll_interval_ms=20_000)
        registers = site.master._devices[0]._steps[0].block.count  # of the money register's read
        async with running(site):
            await asyncio.sleep(FREEZE_AT_S + 60)
        read = [(at, sample.meter_id) for at, sample in site.samples if at >= FREEZE_AT_S]
        return read, PACE.limit_s(8 + 5 + 2 * registers)

    read, money_s = simulate(story())
    frozen = read[:METERS]
    assert [meter_id for _, meter_id in frozen] == [f"m{number}" for number in range(1, METERS + 1)]
    assert frozen[0][0] - FREEZE_AT_S <= 1 + money_s, "the clock of the wire shows whole seconds"
    assert frozen[-1][0] - frozen[0][0] == pytest.approx((METERS - 1) * money_s, rel=0.001)
    assert read[METERS][0] - frozen[-1][0] > 2 * money_s, "then a round with everything follows"


def test_power_quality_does_not_keep_money_from_its_time() -> None:
    # A round of everything takes more than six seconds, one of money alone less than three.
    async def story() -> list[tuple[float, MeterSample]]:
        site = Site(PacedWire(PACE), meters_of(MODEL_ID, METERS), poll_interval_ms=4_000)
        async with running(site):
            await asyncio.sleep(FREEZE_AT_S - 1)
        return site.samples

    samples = simulate(story())
    for number in range(1, METERS + 1):
        times = [at for at, sample in samples if sample.meter_id == f"m{number}"]
        pauses = [later - earlier for earlier, later in pairwise(times)]
        assert sum(pause > 4.5 for pause in pauses) <= 4, "at most twice as many short rounds after each that is long"
        assert max(pauses) < 12


def test_after_a_long_round_everything_is_asked_of_one_device_in_twelve_in_turn() -> None:
    ids = list(range(1, 31))
    rounds, now = Rounds(ids, 1.0, 60), 0.0
    scopes: list[dict[int, Scope]] = []
    for _ in range(1 + 12 + 1 + 24 + 1):
        scope: dict[int, Scope] = {}
        while len(scope) < len(ids):
            device_id = rounds.next_device(now)
            if device_id is None:
                now = rounds.due_at()
                continue
            scope[device_id] = rounds.scope(device_id)
            now += 0.05 if scope[device_id] is Scope.DUE else 0.01
        scopes.append(scope)
    whole = [number for number, scope in enumerate(scopes) if set(scope.values()) == {Scope.DUE}]
    assert whole == [0, 13, 38]
    asked = [device_id for scope in scopes[1:13] for device_id in scope if scope[device_id] is Scope.DUE]
    assert set(asked) == set(ids)
    assert all(list(scope) == ids for scope in scopes)
    assert rounds.cycle_s == pytest.approx(1.5), "the time of a whole round is what is told"


def test_freeze_leaves_out_the_silent_and_asks_for_money_alone() -> None:
    rounds = Rounds([1, 2, 3], 10.0, 60)
    assert [rounds.next_device(0.0) for _ in range(3)] == [1, 2, 3]
    rounds.did_not_answer(2, 0.1)
    assert rounds.next_device(1.0) is None
    rounds.freeze([1, 2, 3], 2.0)
    assert [rounds.next_device(2.0) for _ in range(2)] == [1, 3]
    assert rounds.scope(3) is Scope.MONEY
    assert rounds.next_device(2.5) == 1, "a round of everything follows at once"
    assert rounds.scope(1) is Scope.DUE


def test_a_reading_that_is_asked_for_reads_more_than_money_though_rounds_are_short() -> None:
    async def story() -> tuple[int, int]:
        site = Site(PacedWire(PACE), meters_of(MODEL_ID, METERS), poll_interval_ms=4_000)
        async with running(site):
            await asyncio.sleep(POLL_S)  # a whole round, which was too long, and a part of a short one
            seen = len(site.samples)
            while len(site.samples) == seen:
                await asyncio.sleep(STEP_S)
            before, number = site.wire.tally.requests, len(site.samples)
            site.master.request_reading("m5")
            while site.samples[-1][1].meter_id != "m5":
                await asyncio.sleep(STEP_S)
        return site.wire.tally.requests - before, len(site.samples) - number

    requests, samples = simulate(story())
    assert (requests, samples) == (4, 2), "the one under way, and then all three of it"


def test_what_a_fault_made_unknown_is_asked_for_at_the_next_visit_though_rounds_are_short() -> None:
    # The current through a meter says whether its relay may be opened: it may not be unknown for a minute.
    async def story() -> list[MeterSample]:
        wire = PacedWire(PACE, spoil_every=SPOIL_EVERY)
        site = Site(wire, meters_of(MODEL_ID, METERS), poll_interval_ms=4_000)
        async with running(site):
            await asyncio.sleep(FREEZE_AT_S - 1)
        return [sample for _, sample in site.samples]

    samples = simulate(story())
    lacking = 0
    for number in range(1, METERS + 1):
        known = ["current_l1" in sample.values for sample in samples if sample.meter_id == f"m{number}"]
        lacking += known.count(False)
        assert (False, False) not in set(pairwise(known))
    assert lacking > 1, "a fault behind the money register leaves its sample without a current"
