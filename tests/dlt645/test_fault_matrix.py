"""Every fault of a line against every kind of request, alone and through the master: nothing wrong is believed."""

import asyncio
import heapq
import random
from collections.abc import Awaitable, Callable
from datetime import datetime
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest

from edge.bus.dlt645 import DLT645, DLT645_ECHOED, Dlt645Framing
from edge.bus.frame import Request
from edge.bus.transaction import Outcome, Timing, Transaction
from edge.dlt645.authority import Authority
from hw.sim.dlt645_faults import FAULTS, GOOD, Spoiler
from hw.sim.dlt645_meter import Dlt645Meter

Run = Callable[[Awaitable[Any]], Any]
ADDRESS, LATE_S = 320_100_000_147, 0.9
TIMING = Timing.of_serial(2400, 0.7, 0.55, 5.0)
READ = 0x11
REQUESTS = ("register", "block", "status", "command")
VARIANTS = 8


def request_of(framing: Dlt645Framing, kind: str) -> Request:
    if kind == "command":
        return framing.supply(ADDRESS, 0x1A, Authority(2, "123456", "00000001"), datetime(2026, 3, 2, 11, 40))
    identifier, octets = {"register": (0x00010000, 4), "block": (0x0001FF00, 4), "status": (0x04000503, 2)}[kind]
    return framing.read(ADDRESS, READ, identifier, octets)


def asked(framing: Dlt645Framing, request: Request, fault: str, variant: int, before: bytes = b"") -> Outcome:
    """One request through a Transaction in made-up time, its answer spoiled; `before` is what an adapter says first."""
    meter = Dlt645Meter(f"{ADDRESS:012d}")
    transaction, order = Transaction(framing, TIMING), count()
    coming: list[tuple[float, int, bytes]] = []
    transaction.submit(request, 0.0)
    sent, now = transaction.outgoing(), 0.0
    good = meter.answer(sent)
    assert good is not None
    for delay_s, part in [*([(0.0, before)] if before else []),
                          *FAULTS[fault].spoil(Spoiler(sent, good, LATE_S, variant))]:  # fmt: skip
        heapq.heappush(coming, (delay_s, next(order), part))
    while True:
        deadline = transaction.get_timer()
        assert deadline is not None
        if coming and coming[0][0] <= deadline:
            now, _, data = heapq.heappop(coming)
            outcome = transaction.receive(data, now) if data else None
        else:
            now = max(now, deadline)
            outcome = transaction.handle_timer(now)
        if outcome is not None:
            return outcome


def counted(seconds: float) -> int:
    """Hundredths of a kWh at 6 kW."""
    return int(seconds / 6)


def truth(kind: str) -> bytes:
    meter = Dlt645Meter(f"{ADDRESS:012d}")
    identifier = {"register": "00010000", "block": "0001ff00", "status": "04000503", "command": ""}[kind]
    return meter.item(identifier) or b""


@pytest.mark.parametrize("kind", REQUESTS)
@pytest.mark.parametrize("fault", [name for name in FAULTS if name != "not_decimal"])
def test_every_fault_is_named_and_nothing_wrong_is_believed(kind: str, fault: str) -> None:
    row = FAULTS[fault]
    if row.of_reads and kind == "command":
        kind = "register"
    for variant in range(VARIANTS):
        outcome = asked(DLT645, request_of(DLT645, kind), fault, variant)
        assert (outcome.reason or GOOD) in row.reasons
        if outcome.reason is None:
            assert bytes(outcome.words) == truth(kind)


def test_there_are_at_least_as_many_faults_as_on_a_modbus_line() -> None:
    assert len([row for row in FAULTS.values() if row.reasons != {GOOD}]) >= 27


@pytest.mark.parametrize("kind", REQUESTS)
@pytest.mark.parametrize("bit", range(8))
def test_no_single_flipped_bit_of_any_byte_is_believed(kind: str, bit: int) -> None:
    request = request_of(DLT645, kind)
    good = Dlt645Meter(f"{ADDRESS:012d}").answer(request.frame)
    assert good is not None
    for at in range(4, len(good)):
        damaged = good[:at] + bytes((good[at] ^ 1 << bit,)) + good[at + 1 :]
        assert DLT645.first_failure(request, request.frame, damaged) is not None


@pytest.mark.parametrize("kind", REQUESTS)
def test_an_adapter_that_hears_itself_is_understood_and_its_absence_told(kind: str) -> None:
    request = request_of(DLT645_ECHOED, kind)
    heard = asked(DLT645_ECHOED, request, "none", 0, before=request.frame)
    assert (heard.reason, bytes(heard.words)) == (None, truth(kind))
    assert asked(DLT645_ECHOED, request, "none", 0).reason == "no_local_echo"
    damaged = request.frame[:9] + b"\x00" + request.frame[10:]
    assert asked(DLT645_ECHOED, request, "none", 0, before=damaged).reason == "damaged_local_echo"
    assert asked(DLT645_ECHOED, request, "silence", 0, before=request.frame).reason == "timeout"
    assert asked(DLT645_ECHOED, request, "one_bit", 3, before=request.frame).reason is not None


@pytest.mark.parametrize("fault", [name for name, row in FAULTS.items() if row.reasons != {GOOD}])
def test_through_the_master_no_wrong_register_and_no_wrong_relay_state(
    virtual: Run, line: SimpleNamespace, fault: str
) -> None:
    site, dice = line.Site(), random.Random(fault)
    values: dict[str, list[tuple[float, int]]] = {"m1": [], "m2": [], "m3": []}

    def count_on() -> None:
        now_s = asyncio.get_running_loop().time()
        for name, meter in zip(values, site.meters, strict=True):
            meter.energy_hundredths_kwh = 123_456 + counted(now_s)
            values[name].append((1000 * now_s, 10 * meter.energy_hundredths_kwh))

    site.port.before_answer = count_on
    site.port.choose_fault = lambda sent: fault if dice.random() < 0.3 else "none"
    virtual(site.live(300))
    assert site.port.faults.count(fault) > 10
    assert all(state.closed for state in site.relays)  # nobody moved one
    for sample in site.samples:
        lately = {wh for at, wh in values[sample.meter_id] if 0 <= sample.clock.elapsed_ms - at <= 15_000}
        assert sample.register_wh in lately


def test_with_all_faults_at_once_everything_believed_is_so(virtual: Run, line: SimpleNamespace) -> None:
    site, dice = line.Site(poll_interval_ms=1_000), random.Random(645)
    values: dict[str, set[int]] = {"m1": set(), "m2": set(), "m3": set()}

    def count_on() -> None:
        for name, meter in zip(values, site.meters, strict=True):
            meter.energy_hundredths_kwh = 123_456 + counted(asyncio.get_running_loop().time())
            values[name].add(10 * meter.energy_hundredths_kwh)

    site.port.before_answer = count_on
    site.port.choose_fault = lambda sent: dice.choice(list(FAULTS)) if dice.random() < 0.2 else "none"
    virtual(site.live(3_000))
    assert len(site.samples) > 100
    assert all(sample.register_wh in values[sample.meter_id] for sample in site.samples)
    assert all(state.closed for state in site.relays)
    assert {sample.verdict for sample in site.samples} == {"good"}
