"""What the master of a line makes of the wire's time, in simulated time: no processor is measured here.

Every figure is exact for the pace of its line and the same in every run. Seconds, registers as on the wire.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

from edge.bus.line import LineMaster, LineSettings, MeterOnLine, MeterSample, RelayOnLine
from edge.meters.model import known_models, load_model
from edge.meters.records import MODBUS
from hw.sim.bench_bus.wire import LoopClock, Pace, PacedWire
from hw.sim.world.loop import VirtualLoop

BAUDS = (9600, 19_200, 115_200)
TURNAROUNDS_MS = (5, 20, 50)
METERS = 32
LINES = 4
MODEL_ID = "hiking_dds238_2"  # one block of 18 registers
BOARD_MODEL_ID, BOARD_ID = "relay_board_8ch", 200
POWER_W_MAX = 14_000
DRAIN_S = 0.55  # of a line whose models document no slower answer
WARM_UP_S = 20.0  # first readings are confirmed by a second one
DEAD = frozenset((5, 12, 20, 29))
DEAD_RUN_S = 600.0
READING_RUN_S = 60.0
SECOND_S = 1.0
ROUNDS_RUN_S = 40.0
SEED = 5
FAULT_EVERY = 10

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class LineShare:
    """How much of the wire's limit is used, with the gap kept."""

    baud: int
    turnaround_ms: int
    bits_per_byte: int
    share: float
    gaps_broken: int


@dataclass(frozen=True, slots=True)
class Reading:
    """How many requests the values of a model take in a round; a model's money register alone is one."""

    model: str
    points: int
    requests: int


@dataclass(frozen=True, slots=True)
class RelayWait:
    """From the order to the first byte of the command on the wire, beside what one transaction may take."""

    commands: int
    longest_s: float
    limit_s: float
    faults: bool


@dataclass(frozen=True, slots=True)
class DeadCost:
    """What dead meters cost the living: share of answered requests lost against a line without them."""

    first_minute: float
    ten_minutes: float
    last_minutes: float  # the second half


class Site:
    """One line in a running loop, by default read without a pause and everything in every round."""

    def __init__(
        self,
        wire: PacedWire,
        meters: Sequence[MeterOnLine],
        relays: Sequence[RelayOnLine] = (),
        poll_interval_ms: int = 1,
        other_interval_ms: int = 0,
    ) -> None:
        self.wire = wire
        self.samples: list[tuple[float, MeterSample]] = []
        loop = asyncio.get_running_loop()
        self.master = LineMaster(
            LineSettings(
                "line",
                "/dev/bench",
                baud=wire.pace.baud,
                poll_interval_ms=poll_interval_ms,
                other_interval_ms=other_interval_ms,
            ),
            meters,
            relays,
            wire,
            LoopClock(loop),
            lambda sample: self.samples.append((loop.time(), sample)),
            lambda state: None,
        )


@asynccontextmanager
async def running(*sites: Site) -> AsyncIterator[None]:
    """The masters' tasks, ended at the end."""
    tasks = [asyncio.ensure_future(site.master.run()) for site in sites]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def meters_of(model_id: str, count: int, points: tuple[str, ...] | None = None) -> list[MeterOnLine]:
    """`count` meters of a model at the device ids from 1."""
    model = load_model(model_id)
    return [MeterOnLine(f"m{number}", number, model, POWER_W_MAX, points=points) for number in range(1, count + 1)]


def line_share(pace: Pace, run_s: float) -> LineShare:
    """One line of 32 meters, all their points."""

    async def story() -> LineShare:
        site = Site(PacedWire(pace), meters_of(MODEL_ID, METERS))
        async with running(site):
            await asyncio.sleep(WARM_UP_S)
            tally = site.wire.tally
            began_at, limit_s = tally.latest_at, tally.limit_s
            await asyncio.sleep(run_s)
            share = (tally.limit_s - limit_s) / (tally.latest_at - began_at)
            broken = tally.gaps_broken
        return LineShare(pace.baud, round(pace.turnaround_s * 1000), pace.bits_per_byte, share, broken)

    return simulate(story())


def readings(model_ids: Sequence[str] | None = None) -> list[Reading]:
    """Every model with a money register, all its points, on a line of its own at 9600 baud."""
    found = []
    for model_id in known_models() if model_ids is None else model_ids:
        model = load_model(model_id)
        if model.money_point is not None and model.protocol == MODBUS:
            found.append(_reading(model_id, len(model.points)))
    return found


def round_s(turnaround_s: float) -> float:
    """128 meters on 4 lines at 9600 baud, money registers only: the longest time between two readings of a meter."""

    async def story() -> float:
        pace = Pace(9600, turnaround_s)
        sites = [Site(PacedWire(pace), meters_of(MODEL_ID, METERS, points=())) for _ in range(LINES)]
        async with running(*sites):
            await asyncio.sleep(WARM_UP_S + ROUNDS_RUN_S)
        return max(_longest_pause(site) for site in sites)

    return simulate(story())


def relay_wait(faults: bool, commands: int) -> RelayWait:
    """Commands at any moment of a busy line; with faults every tenth answer is spoiled and the line is drained."""

    async def story() -> RelayWait:
        pace, dice = Pace(9600, 0.050), random.Random(SEED)
        wire = PacedWire(pace, spoil_every=FAULT_EVERY if faults else 0)
        relay = RelayOnLine("r1", BOARD_ID, load_model(BOARD_MODEL_ID))
        site = Site(wire, meters_of(MODEL_ID, METERS), [relay])
        longest_s, loop, closed = 0.0, asyncio.get_running_loop(), True
        async with running(site):
            await asyncio.sleep(WARM_UP_S)
            for _ in range(commands):
                await asyncio.sleep(dice.uniform(1.0, 3.0))
                closed, asked_at, before = not closed, loop.time(), len(wire.tally.writes_at)
                await site.master.set_output("r1", closed)
                if len(wire.tally.writes_at) > before:  # else its state was known and nothing had to be sent
                    longest_s = max(longest_s, wire.tally.writes_at[before] - asked_at)
        longest_read_s = pace.limit_s(8 + 5 + 2 * 18)
        limit_s = longest_read_s + (DRAIN_S if faults else 0.0)
        return RelayWait(commands, longest_s, limit_s, faults)

    return simulate(story())


def dead_cost() -> DeadCost:
    """Four dead meters among 32, at 9600 baud and 20 ms, read without a pause."""
    healthy, burdened = _answered_by_second(frozenset()), _answered_by_second(DEAD)

    def lost(begin_s: int, end_s: int) -> float:
        return 1 - (burdened[end_s] - burdened[begin_s]) / (healthy[end_s] - healthy[begin_s])

    whole = len(healthy) - 1
    return DeadCost(lost(0, 60), lost(0, whole), lost(whole // 2, whole))


def _answered_by_second(dead: frozenset[int]) -> list[int]:
    """Requests answered until each second since the start."""

    async def story() -> list[int]:
        site, answered = Site(PacedWire(Pace(9600, 0.020), dead), meters_of(MODEL_ID, METERS)), [0]
        async with running(site):
            for _ in range(round(DEAD_RUN_S)):
                await asyncio.sleep(SECOND_S)
                answered.append(site.wire.tally.requests - site.wire.tally.unanswered)
        return answered

    return simulate(story())


def _reading(model_id: str, points: int) -> Reading:
    async def story() -> Reading:
        site = Site(PacedWire(Pace(9600, 0.020)), meters_of(model_id, 1))
        async with running(site):
            await asyncio.sleep(WARM_UP_S)
            requests, samples = site.wire.tally.requests, len(site.samples)
            await asyncio.sleep(READING_RUN_S)
            rounds = len(site.samples) - samples
            asked = site.wire.tally.requests - requests
        return Reading(model_id, points, round(asked / rounds))

    return simulate(story())


def _longest_pause(site: Site) -> float:
    longest_s = 0.0
    for number in range(1, METERS + 1):
        times = [at for at, sample in site.samples if sample.meter_id == f"m{number}" and at >= WARM_UP_S]
        longest_s = max([longest_s, *(later - earlier for earlier, later in pairwise(times))])
    return longest_s


def simulate(story: Coroutine[Any, Any, Result]) -> Result:
    """Runs a story on a loop of its own, in simulated time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(story)
