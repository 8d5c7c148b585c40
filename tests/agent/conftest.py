"""A street in memory on virtual time: what stands behind the agent's ports in these tests.

The loop's `select()` moves the clock, so nothing waits; an hour of accounting time is one second of
the loop. Meters count what their relays let through, relays do what they are told unless they are
broken, and the log keeps bytes. All of it outlives the gateway, as the real street does.
"""

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cloud_sync.wire import Order
from edge.agent.actuation import Actuation, RelayFacts, SwitchingRules
from edge.agent.facts import AccountFacts, SiteFacts
from edge.agent.gateway import Gateway
from edge.agent.metering import MeterFacts, Metering
from edge.agent.order_desk import OrderDesk, Refused
from edge.agent.pricing import Pricing
from edge.bus.records import DeviceStatus, LinePulse, LineStatus, MeterSample, OutputResult, RelayState
from edge.core import events as ev
from edge.core.account import State
from edge.core.ledger import apply
from edge.core.policy import Policy
from edge.core.rating import reference_rate
from edge.core.units import ClockQuality, ClockReading, MoneyNano, UnixSeconds, WattHours
from edge.policies.document import load_policy
from edge.ports import StreamHead
from edge.store.codec import decode_event, encode_event
from edge.zone import zone_offsets

LINE = "line-1"
START_AT = 1_772_380_800  # Monday 2026-03-02 00:00 in Shanghai
SECONDS_PER_LOOP_SECOND = 3600
STEP_S = 0.5  # of the loop, between two readings and between two rounds
COMMIT_S = 0.001
COMMAND_S = 0.01

TARIFF_FILE = Path(__file__).resolve().parents[2] / "edge" / "tariffs" / "demo-street.json"
TARIFF = TARIFF_FILE.read_text("utf-8")
TARIFF_KEY = "demo-street@1"
POLICY = Policy(reserve_days=1, grace_hours=6, pre_cut_notice_minutes=30, cut_reading_age_s_max=3600)


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop whose time passes only when everybody waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self._selector = self
        self._clock_resolution = 1e-6  # above the spacing of floats, or the loop would spin for ever

    def time(self) -> float:
        return self.now

    def select(self, timeout: float | None) -> tuple[()]:
        if timeout is None:
            raise RuntimeError("deadlock: nobody is ready and nobody waits for a time")
        self.now += max(timeout, 0.0)
        return ()

    def _process_events(self, _events: object) -> None:
        pass

    def _write_to_self(self) -> None:
        pass


class MemoryLog:
    """The journal in memory, as bytes. It can fail at the n-th append, or take the process down."""

    def __init__(self) -> None:
        self.crashed = asyncio.Event()
        self.lost: list[asyncio.Future[None]] = []  # commits nobody will hear of
        self.bodies: list[bytes] = []
        self.events: list[ev.Event] = []
        self.appends = 0
        self.fail_at: int | None = None
        self.crash_before: int | None = None
        self.crash_after: int | None = None

    async def append(self, events: Sequence[ev.Event]) -> None:
        """Like a commit in a thread: once begun it is done, whatever becomes of whoever waits for it."""
        self.appends += 1
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(COMMIT_S, self._commit, self.appends, list(events), done)
        await done

    def _commit(self, point: int, events: Sequence[ev.Event], done: "asyncio.Future[None]") -> None:
        if point == self.crash_before:
            self.crashed.set()
            self.lost.append(done)
            return
        if self.fail_at is not None and point >= self.fail_at:
            if not done.done():
                done.set_exception(OSError("disk full"))
            return
        for event in events:
            body = encode_event(event)[1]
            self.bodies.append(body)
            self.events.append(decode_event(body))
        if point == self.crash_after:
            self.crashed.set()
            self.lost.append(done)
        elif not done.done():
            done.set_result(None)

    def replay(self) -> State:
        state = State()
        for body in self.bodies:
            state = apply(state, decode_event(body))
        return state

    def heads(self) -> Mapping[str, StreamHead]:
        count = sum(event.stream == "led" for event in self.events)
        return {"led": StreamHead("led", 1, count, bytes(32), 0)}

    def names(self, *wanted: str) -> list[str]:
        """Class names of the events, in order; only the wanted ones if there are any."""
        names = [type(event).__name__ for event in self.events]
        return [name for name in names if name in wanted] if wanted else names

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


@dataclass
class House:
    """A meter with its relay, and the account behind it."""

    number: int
    power_w: int = 600
    opening_nano: int = 0
    protected: bool = False
    policy: Policy = POLICY
    closed: bool = True
    energy_ws: int = 1_000_000 * 3600
    counted_at: int = START_AT
    silent: bool = False
    obeys: bool = True
    commands: list[bool] = field(default_factory=list)

    @property
    def account_id(self) -> str:
        return f"A{self.number:02}"

    @property
    def meter_id(self) -> str:
        return f"M{self.number:02}"

    @property
    def relay_id(self) -> str:
        return f"R{self.number:02}"

    def register_wh(self, at: int) -> int:
        if self.closed:
            self.energy_ws += self.power_w * (at - self.counted_at)
        self.counted_at = at
        return self.energy_ws // 3600

    def switch(self, closed: bool, at: int) -> None:
        self.register_wh(at)
        self.closed = closed

    def facts(self) -> AccountFacts:
        return AccountFacts(
            account_id=self.account_id,
            meter_id=self.meter_id,
            line_id=LINE,
            device_id=self.number,
            model_id="eastron_sdm120",
            position=f"cabinet {self.number}",
            tariff=TARIFF_KEY,
            opening_nano=MoneyNano(self.opening_nano),
            protected=self.protected,
            policy=self.policy,
        )

    def status(self, at: ClockReading) -> DeviceStatus:
        return DeviceStatus(
            device_id=self.number,
            meter_ids=(self.meter_id,),
            relay_ids=(self.relay_id,),
            polls_ok=10,
            polls_failed=0,
            readings_rejected=0,
            errors={},
            last_ok=at,
            last_error="timeout" if self.silent else None,
            silent=self.silent,
        )


class World:
    """The street, the log and the cloud, and one gateway after the other on them."""

    def __init__(self, *houses: House, slot_s: int = 6 * 3600) -> None:
        self.houses = {house.account_id: house for house in houses}
        self.by_relay = {house.relay_id: house for house in houses}
        self.slot_s = slot_s
        self.log = MemoryLog()
        self.boot_id = "boot-1"
        self.quality = ClockQuality.NTP
        self.clock_offset_s = 0
        self.elapsed_ms_more = 0
        self.pricing = Pricing("Asia/Shanghai", 2, reference_rate, zone_offsets)
        self.starts = 0
        self.reading = True
        self.on_events: Callable[[Sequence[ev.Event]], None] | None = None

    # --- ports ---

    def read(self) -> ClockReading:
        """The Clock port."""
        elapsed_ms = round(asyncio.get_running_loop().time() * SECONDS_PER_LOOP_SECOND * 1000)
        at = UnixSeconds(START_AT + elapsed_ms // 1000 + self.clock_offset_s)
        return ClockReading(at, elapsed_ms + self.elapsed_ms_more, self.boot_id, self.quality)

    @property
    def physical_at(self) -> int:
        """Seconds as they really pass, whatever the clock says."""
        return START_AT + int(asyncio.get_running_loop().time() * SECONDS_PER_LOOP_SECOND)

    def view(self) -> LineStatus:
        """The line's counters."""
        now = self.read()
        return LineStatus(
            line_id=LINE,
            address="/dev/ttyUSB0",
            open=True,
            last_error=None,
            polls_ok=10,
            polls_failed=0,
            readings_rejected=0,
            errors={},
            cycle_ms=100,
            devices={house.number: house.status(now) for house in self.houses.values()},
        )

    def pulse(self) -> LinePulse:
        """As the line's."""
        view = self.view()
        silent = {number: status.last_error or "" for number, status in view.devices.items() if status.silent}
        return LinePulse(view.open, view.cycle_ms, view.poll_interval_ms, silent)

    async def set_output(self, relay_id: str, closed: bool) -> OutputResult:
        """The RelayPort: what is on the wire is done, whatever becomes of the gateway."""
        house = self.by_relay[relay_id]
        house.commands.append(closed)
        await asyncio.sleep(COMMAND_S)
        if house.silent:
            return OutputResult(False, None, "timeout")
        if house.obeys:
            house.switch(closed, self.physical_at)
        return OutputResult(house.closed is closed, house.closed, None if house.closed is closed else "not_obeyed")

    async def run(self) -> None:
        """`poll` reads the relays."""

    def withdraw_output(self, relay_id: str) -> None:
        """Every command is on the wire at once here."""

    # --- a gateway on it ---

    def start(self, read_relays: bool = True) -> Gateway:
        """A new gateway from what the log holds, as after a crash. Its memory is empty."""
        self.starts += 1
        payers = self.accounts_by_meter()
        self.metering = Metering(
            {meter_id: MeterFacts(payer, meter_id, 20_000, WattHours(1), None) for meter_id, payer in payers.items()}
        )
        gateway = Gateway(
            self.site(), self.log.replay(), self.log, self.log, self, self.pricing,  # type: ignore[arg-type]
            {TARIFF_KEY: TARIFF}, self.metering, self.on_events,
        )  # fmt: skip
        relays = {
            house.relay_id: RelayFacts(house.relay_id, house.account_id, self, house.protected)
            for house in self.houses.values()
            if payers[house.meter_id] == house.account_id
        }
        self.actuation = Actuation(relays, gateway.output_observed, gateway.output_disobeyed, SwitchingRules(0.01))
        gateway.connect({LINE: self}, self.actuation, None)  # type: ignore[dict-item]
        self.desk = OrderDesk(
            Trusting(),
            payers,
            self.read,
            lambda: gateway.state,
            gateway.newest_sample,
            gateway.submit,
            load_policy,
        )
        self.gateway = gateway
        return gateway

    def accounts_by_meter(self) -> dict[str, str]:
        """Who pays for each meter."""
        return {house.meter_id: house.account_id for house in self.houses.values()}

    def site(self) -> SiteFacts:
        return SiteFacts(
            gateway_id="gw-1",
            software_version="1.0",
            time_zone="Asia/Shanghai",
            currency="CNY",
            minor_digits=2,
            accounts=tuple(house.facts() for house in self.houses.values()),
            local_display=True,
            round_interval_s=STEP_S,
            slot_s=self.slot_s,
        )

    async def poll(self) -> None:
        """The line for ever: every meter and relay that answers, just before each round."""
        while True:
            self.poll_once()
            await asyncio.sleep(STEP_S)

    def poll_once(self) -> None:
        clock = self.read()
        for house in self.houses.values():
            register_wh = WattHours(house.register_wh(self.physical_at))
            if self.reading and not house.silent:
                self.metering.on_sample(MeterSample(house.meter_id, clock, register_wh, {}, "good"))
                self.actuation.on_relay(RelayState(house.relay_id, clock, house.closed))

    async def live(self, hours: float, *also: Coroutine[Any, Any, None]) -> None:
        """Lets the street live with its gateway; after each crash the next gateway starts on the same log."""
        if not hasattr(self, "gateway"):
            self.start()
        tasks = [asyncio.ensure_future(part) for part in (self.poll(), *also)]
        end = asyncio.get_running_loop().time() + hours
        try:
            while asyncio.get_running_loop().time() < end:
                await self._run_one(end)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _run_one(self, end: float) -> None:
        """One process: until it is killed, ends by itself, or the time is over."""
        parts = [asyncio.ensure_future(self.gateway.run()), asyncio.ensure_future(self.log.crashed.wait())]
        pause_s = end - asyncio.get_running_loop().time()
        await asyncio.wait(parts, timeout=pause_s, return_when=asyncio.FIRST_COMPLETED)
        killed = self.log.crashed.is_set()
        for part in parts:
            part.cancel()
        for commit in self.log.lost:
            commit.cancel()
        (ended, _) = await asyncio.gather(*parts, return_exceptions=True)
        if isinstance(ended, Exception):
            if self.gateway._failure.done():
                self.gateway._failure.exception()  # looked at, so that the loop does not complain at the end
            raise ended
        if killed:
            self.log.crashed.clear()
            self.start()

    async def pay(self, account_id: str, amount_nano: int, at_hour: float, payment_id: str = "P1") -> None:
        """The cloud sends a credit at an hour, and again until its result is there."""
        await asyncio.sleep(at_hour)
        order = credit(self.houses[account_id].meter_id, amount_nano, payment_id)
        asked = []
        while order.cid not in self.log.replay().applied:
            asked.append(asyncio.ensure_future(self.desk.take_order(seal(order), "cloud")))
            await asyncio.sleep(STEP_S / 2)


class Trusting:
    """Checks that believe every envelope; the signatures have tests of their own."""

    def __init__(self) -> None:
        self.refusal: str | None = None

    def order(self, envelope: bytes, _clock: ClockReading) -> Order | Refused:
        return msgspec.json.decode(envelope, type=Order)

    def signed_by(self, order: Order) -> tuple[str, ...]:
        return (order.kid, "second-1")

    def document(self, envelope: bytes) -> Any:
        return envelope

    def voucher(self, text: str) -> bytes | Refused:
        return text.encode()


def seal(order: Order) -> bytes:
    return msgspec.json.encode(order)


def credit(meter_id: str, amount_nano: int, payment_id: str) -> Order:
    return Order(
        v=1,
        cid=f"cid-{payment_id}",
        gw="gw-1",
        meter=meter_id,
        type="credit",
        args={"payment_id": payment_id, "amount_nano": amount_nano},
        nbf=START_AT,
        kid="vend-1",
    )


def tariff_document(**changes: Any) -> str:
    return json.dumps({**json.loads(TARIFF), **changes})


@pytest.fixture
def virtual() -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Runs a coroutine on virtual time."""

    def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            return runner.run(coroutine)

    return run


@pytest.fixture(scope="session")
def kit() -> Any:
    """The classes and helpers above, for tests to build their own street with."""

    @dataclass(frozen=True)
    class Kit:
        World: type[World]
        House: type[House]
        MemoryLog: type[MemoryLog]
        policy: Policy
        start_at: int
        tariff: str
        tariff_key: str
        seal: Callable[[Order], bytes]
        credit: Callable[[str, int, str], Order]
        tariff_document: Callable[..., str]

    return Kit(World, House, MemoryLog, POLICY, START_AT, TARIFF, TARIFF_KEY, seal, credit, tariff_document)
