"""How fast the pure step is: rounds with a reading record each, no disk, no bus, no loop.

    python -m hw.sim.world.step_bench [--meters 100] [--days 2] [--profile]

Prints meter-years a second of one core: a meter-year is 35,040 slots of a quarter of an hour.
"""

import argparse
import cProfile
import pstats
import random
import time
from collections.abc import Sequence
from functools import partial

from edge.agent.pricing import Pricing, load_documents
from edge.core.account import Register, State
from edge.core.charge import Rating
from edge.core.commands import AcceptTariff, OpenAccount, Sample, TakeRound
from edge.core.rating_arrays import array_rate
from edge.core.step import step
from edge.core.units import ClockQuality, ClockReading, MoneyNano, UnixSeconds, WattHours
from edge.zone import zone_offsets
from hw.sim.world.clock import START_AT
from hw.sim.world.site import DOCUMENTS, POWER_W_MAX, TIME_ZONE, House, draw_houses
from native.kernel import TariffKernel

SLOT_S = 900
SLOTS_PER_DAY = 96
SLOTS_PER_YEAR = 365 * SLOTS_PER_DAY
SLOT_WH = 120
TOP_SHOWN = 25


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the rounds and prints what came of them."""
    parser = argparse.ArgumentParser(prog="python -m hw.sim.world.step_bench", description="Speed of the pure step.")
    parser.add_argument("--meters", type=int, default=100, help="accounts in one state (100)")
    parser.add_argument("--days", type=int, default=2, help="days of 96 slots (2)")
    parser.add_argument("--profile", action="store_true", help="show what costs most")
    options = parser.parse_args(arguments)
    houses = draw_houses(random.Random(1), options.meters)
    slots = options.days * SLOTS_PER_DAY
    profile = cProfile.Profile() if options.profile else None
    started = time.process_time()
    if profile is not None:
        profile.enable()
    live(houses, slots)
    if profile is not None:
        profile.disable()
    spent_s = time.process_time() - started
    years = len(houses) * slots / SLOTS_PER_YEAR
    print(f"{years / spent_s:.3f} meter-years a second; {spent_s / len(houses) / slots * 1e6:.1f} us a meter and slot")
    if profile is not None:
        pstats.Stats(profile).sort_stats("tottime").print_stats(TOP_SHOWN)
    return 0


def live(houses: Sequence[House], slots: int) -> State:
    """Opens the accounts and takes a round a slot."""
    pricing = Pricing(TIME_ZONE, 2, partial(array_rate, TariffKernel), zone_offsets)
    documents = load_documents(DOCUMENTS)
    state = State()
    for key, document in documents.items():
        state = step(state, AcceptTariff(_clock(0), key, document), _rating(pricing, state, documents, 0)).state
    for house in houses:
        command = OpenAccount(
            received=_clock(0),
            account_id=house.account_id,
            meter_id=house.meter_id,
            policy=house.policy,
            tariff=house.price.tariff,
            register=Register(UnixSeconds(START_AT), WattHours(house.start_wh)),
            opening_nano=_much(),
        )
        state = step(state, command, _rating(pricing, state, documents, 0)).state
    for slot in range(1, slots + 1):
        samples = tuple(_sample(house, slot) for house in houses)
        command_of_round = TakeRound(_clock(slot), samples, True, None)
        state = step(state, command_of_round, _rating(pricing, state, documents, slot)).state
    return state


def _much() -> MoneyNano:
    return MoneyNano(10**13)


def _rating(pricing: Pricing, state: State, documents: dict[str, str], slot: int) -> Rating:
    return pricing.rating(state, UnixSeconds(START_AT + slot * SLOT_S), documents)


def _clock(slot: int) -> ClockReading:
    return ClockReading(UnixSeconds(START_AT + slot * SLOT_S), slot * SLOT_S * 1000, "boot-1", ClockQuality.NTP)


def _sample(house: House, slot: int) -> Sample:
    return Sample(
        account_id=house.account_id,
        at=UnixSeconds(START_AT + slot * SLOT_S),
        register_wh=WattHours(house.start_wh + slot * SLOT_WH),
        step_wh=WattHours(10),
        power_w_max=POWER_W_MAX,
    )


if __name__ == "__main__":
    raise SystemExit(main())
