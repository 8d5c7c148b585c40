"""A world: one gateway, its site, cloud and people on virtual time, with faults, and an auditor.

Quiet time is skipped: once a round is over, nothing is under way and nothing is due, the accounting
clock (not the loop) moves on to the next slot, the next thing in the script, or shortly before the
next cut that can be due. Around those every round of the product's own ten seconds takes place.
"""

import asyncio
import gc
import hashlib
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from pathlib import Path

from cloud_sync.backend import commands as desk_commands
from cloud_sync.backend import ingest
from cloud_sync.backend.backend import Backend
from cloud_sync.wire import decode_batch, parse_topic
from edge.core.commands import Command
from edge.core.frozen import quickly
from edge.core.policy import OfflinePolicy
from edge.core.units import ClockQuality, ClockReading
from edge.ports import StoredRecord
from hw.sim.device import Device
from hw.sim.load import Load
from hw.sim.relay_board import RelayBoard
from hw.sim.world.auditor import Auditor, Circumstances, Terms, Violation
from hw.sim.world.broker import Broker, Cloud
from hw.sim.world.clock import START_AT, WorldClock
from hw.sim.world.disk import SYNCED, Card, WorldAnchor
from hw.sim.world.faults import FAULTS, boot_clock
from hw.sim.world.keys import seeded_keys
from hw.sim.world.lines import VirtualLine, WorldMeter
from hw.sim.world.loop import VirtualLoop
from hw.sim.world.machine import PAGES_EVERY, Machine, Wiring, swapped
from hw.sim.world.mutants import MUTANTS
from hw.sim.world.people import People
from hw.sim.world.script import Script
from hw.sim.world.site import (
    BY_POWER,
    BY_PURCHASE,
    CONTRACT_MICRO_PER_KW,
    CONTRACT_W,
    GATEWAY_ID,
    PRICES,
    PURCHASE_LIMIT_WH,
    PURCHASE_SECOND_MICRO,
    ROUND_MS,
    UTC_OFFSET_S,
    House,
    draw_houses,
    prepare_site,
)
from hw.sim.world.sometimes import Sometimes

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
MINUTE_MS = 60_000
SLOT_MS = 900_000
BEFORE_SLOT_MS = 1_000
CLOSE_MS = 15_000  # before something is due the world looks closely
AFTER_MS = 75_000  # and for so long after it
BUSY_MS = 11_000
DENSE_MS = 60_000
CATCH_UP_MS = 60_000
HEALED_MS = 900_000
HAND_MS = 6 * HOUR_MS  # the world reads contacts seldom, so the gateway is slow to see a hand
HEAL_MS_MIN = DAY_MS
OBJECTS_BETWEEN_SWEEPS = 50_000


@dataclass(frozen=True, slots=True)
class Setting:
    """Which world: everything in it follows from this."""

    seed: int
    days: int = 12
    meters: int = 8
    faults: tuple[str, ...] = ()
    mutant: str | None = None
    until_found: bool = False  # ends with the first violation


@dataclass(slots=True)
class Report:
    """What a world came to."""

    setting: Setting
    violations: list[Violation]
    meter_years: float
    power_cuts: int
    payments: int
    relay_switches: int
    cuts: int
    restores: int
    trace_hash: str
    sometimes: dict[str, int]
    rounds: int = 0
    transactions: int = 0


def run_world(setting: Setting) -> Report:
    """Runs a world to its end. The same setting gives the same report, to the byte."""
    with ExitStack() as stack:
        stack.enter_context(_seldom_swept())
        stack.enter_context(_seeded_tokens(setting.seed))
        stack.enter_context(swapped(ingest, "decode_batch", _decoded_batch))
        if setting.mutant is not None:
            stack.enter_context(MUTANTS[setting.mutant].plant())
        wiring = Wiring()
        stack.enter_context(wiring.in_place())
        runner = stack.enter_context(asyncio.Runner(loop_factory=VirtualLoop))
        return runner.run(_live(setting, wiring))


async def _live(setting: Setting, wiring: Wiring) -> Report:
    world = World(setting, wiring)
    try:
        await world.live()
        return world.report()
    finally:
        world.card.close()


@contextmanager
def _seldom_swept() -> Iterator[None]:
    """Python looks for rings of dead objects less often: a world makes few, and much that lives."""
    before = gc.get_threshold()
    gc.set_threshold(OBJECTS_BETWEEN_SWEEPS)
    try:
        yield
    finally:
        gc.set_threshold(*before)


@contextmanager
def _seeded_tokens(seed: int) -> Iterator[None]:
    """The desk's random command ids come from the seed."""
    with swapped(desk_commands, "secrets", _Tokens(random.Random(f"{seed} tokens"))):
        yield


@dataclass(frozen=True, slots=True)
class _Tokens:
    chance: random.Random

    def token_hex(self, count: int) -> str:
        return self.chance.randbytes(count).hex()


_circumstances = quickly(Circumstances)
_decoded_batch = lru_cache(maxsize=64)(decode_batch)  # the auditor sees what the cloud decodes a moment later


class Side(Enum):
    """On which side of a commit the power goes."""

    BEFORE_COMMIT = "power_cut_before_commit"
    BEFORE_ANCHOR = "power_cut_before_anchor"
    AFTER_COMMIT = "power_cut_after_commit"


SIDES = tuple(Side)


@dataclass(slots=True)
class PowerPlan:
    """Where the power will go: at which commit from here on, and on which side of it."""

    commits_left: int
    side: Side
    off_ms: int
    in_recovery: bool = False


@dataclass(slots=True)
class Skips:
    """Why time may not be skipped."""

    busy_until_ms: int = 0
    dense_since_ms: int = 0
    catch_up_until_ms: int = 0
    rounds: int = 0
    rounds_at_skip: int = -1
    rounds_read: int = -1


class World:
    """Builds everything from a setting and lives it."""

    def __init__(self, setting: Setting, wiring: Wiring) -> None:
        self.setting = setting
        self._wiring = wiring
        self.end_ms = setting.days * DAY_MS
        self.heal_ms = self.end_ms - max(HEAL_MS_MIN, self.end_ms // 5)
        self.pay_until_ms = self.end_ms - HEAL_MS_MIN // 2
        self.sometimes = Sometimes()
        self.script = Script()
        self.clock = WorldClock(asyncio.get_running_loop())
        self.houses = draw_houses(self.chance("houses"), setting.meters)
        self.house_of = {house.account_id: house for house in self.houses}
        self.auditor = Auditor(
            [terms_of(house) for house in self.houses], self.true_wh, self.circumstances, self.sometimes
        )
        self.card = Card()
        self.anchor = WorldAnchor()
        self._hash = hashlib.sha256(repr(setting).encode())
        self._build_plant()
        self._build_cloud()
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        loop.before_job, loop.after_job = self._before_job, self._after_job
        self.machine: Machine | None = None
        self.power_plan: PowerPlan | None = None
        self.power_cuts = 0
        self.clock_wrong_ms: int | None = None
        self.rtc_dead = False
        self._asked_syncing = False
        self._old_image: Path | None = None
        self._right_image: Path | None = None
        self._records_of_money = self._records_at_copy = 0
        self._hand_ms: dict[str, int] = {}
        self._partition_until_ms = 0
        self._cut_again: list[int] = []
        self._skips = Skips()
        self._pulse = asyncio.Event()
        self._heard_ms: int | None = None
        self._ended: list[Machine] = []
        self._vouchers: list[asyncio.Task[None]] = []
        self.people = People(self, self.chance("people"))

    def chance(self, name: str) -> random.Random:
        """A source of chance of its own for each purpose: a new fault does not move the others."""
        return random.Random(f"{self.setting.seed} {name}")

    # --- what it consists of ---

    def _build_plant(self) -> None:
        devices: dict[str, dict[int, Device]] = {}
        self.meters: dict[str, WorldMeter] = {}
        self.boards: dict[tuple[str, int], RelayBoard] = {}
        for house in self.houses:
            on_line = devices.setdefault(house.line_id, {})
            meter = self._meter(house)
            on_line[house.device_id] = meter
            self.meters[house.account_id] = meter
            if not house.own_relay:
                board = self.boards.setdefault((house.line_id, house.board_id), RelayBoard())
                on_line[house.board_id] = board
                relays = list(board.relays)
                relays[house.channel] = meter.contact
                board.relays = tuple(relays)
        self.lines = {line_id: VirtualLine(on_line, self.chance(line_id)) for line_id, on_line in devices.items()}
        self.ring, self.signers = seeded_keys(f"{self.setting.seed} ours")
        _, self.strangers = seeded_keys(f"{self.setting.seed} strangers")
        self.prepared = prepare_site(self.houses, dict(self.lines), self.ring, self.card.path)

    def _meter(self, house: House) -> WorldMeter:
        account_id = house.account_id
        return WorldMeter(
            house.meter_id,
            house.device_id,
            house.model,
            house.start_wh,
            Load(house.profile, house.number, UTC_OFFSET_S, house.scale_percent),
            self.clock.true_at,
            lambda register_wh: self.auditor.meter_showed(account_id, register_wh, self.now_ms()),
            lambda closed, cause: self._contact_moved(account_id, closed, cause),
        )

    def _build_cloud(self) -> None:
        backend = Backend(":memory:", self.ring, self.signers)
        backend.enroll(GATEWAY_ID, START_AT)
        self.cloud = Cloud(backend, self.clock)
        self.broker = Broker(self.chance("broker"), self.cloud, self._sent_up)
        self.broker.on_down = self._came_down
        self.cloud.connect(self.broker)

    # --- what the parts ask and tell ---

    def now_ms(self) -> int:
        return self.clock.true_ms()

    def true_wh(self, account_id: str) -> int:
        """What a perfect reader would read of a meter now."""
        return self.meters[account_id].true_wh()

    def circumstances(self, account_id: str) -> Circumstances:
        """What the world is like for an account now."""
        house, meter, now_ms = self.house_of[account_id], self.meters[account_id], self.now_ms()
        board = None if house.own_relay else self.boards[house.line_id, house.board_id]
        line = self.lines[house.line_id]
        untouched = now_ms - self._hand_ms.get(account_id, -DAY_MS) > HAND_MS
        able = (
            untouched
            and line.open
            and not line.faults
            and not meter.silent
            and not meter.shift_wh
            and not meter.contact.stuck
        )
        return _circumstances(
            gateway_runs=self.machine is not None and not self.machine.dead and not self.machine.recovering,
            clock_right=self.clock.offset_s == 0,
            clock_trusted=self.clock.quality.trusted,
            clock_wrong_ms=now_ms if self.clock.offset_s else self.clock_wrong_ms,
            runs_since_ms=self.clock.boot_ms,
            cloud_heard_ms=self._heard_ms,
            healthy=able and (board is None or not board.silent),
            dense=now_ms - self._skips.dense_since_ms >= DENSE_MS,
        )

    def trace(self, *what: object) -> None:
        """Everything that can be seen from outside, in one hash."""
        self._hash.update(f"{self.now_ms()} {what}\n".encode())

    def busy(self, for_ms: int = BUSY_MS) -> None:
        """Something is going on: look at every round."""
        self._skips.busy_until_ms = max(self._skips.busy_until_ms, self.now_ms() + for_ms)

    def catch_up(self, for_ms: int = CATCH_UP_MS) -> None:
        """The cloud is back: look closely until it has everything, within reason."""
        self._skips.catch_up_until_ms = self.now_ms() + for_ms

    def _contact_moved(self, account_id: str, closed: bool, cause: str) -> None:
        self.trace("contact", account_id, closed, cause)
        self.auditor.contact_moved(account_id, closed, cause, self.now_ms())
        if cause == "hand":
            self._hand_ms[account_id] = self.now_ms()
        self.busy()

    def _sent_up(self, topic: str, payload: bytes) -> None:
        parsed = parse_topic(topic)
        assert parsed is not None
        self.trace("up", parsed.channel, hashlib.sha256(payload).hexdigest())
        stream = parsed.channel.removeprefix("up/")
        if stream in ("led", "res", "evt", "rdg"):
            if self._right_image is not None:
                self.auditor.find(self.now_ms(), "old_card_sent", stream)
            batch = _decoded_batch(payload, GATEWAY_ID, stream)
            bodies = [body.encode() for body in batch.bodies]
            self.auditor.sent_up(stream, batch.epoch, batch.first, bodies, self.now_ms())

    def _came_down(self, topic: str, payload: bytes) -> None:
        self.trace("down", topic, hashlib.sha256(payload).hexdigest())
        if topic.endswith("dn/ack"):
            self._heard_ms = self.now_ms()
            return
        self.busy()
        money = self.broker.money.get(payload)
        if money is not None and self.machine is not None and not self.machine.dead:
            if money[2] in self.auditor.results:
                self.sometimes.saw("duplicate_order")
            else:
                self.auditor.payment_arrived(money[0], money[1], self.now_ms())

    def submit(self, make: Callable[[ClockReading], Command]) -> None:
        """Somebody enters something at the gateway's console."""
        machine = self.machine
        if machine is not None and machine.gateway is not None and not machine.dead:
            command = make(machine.gateway.read_clock())
            task = asyncio.get_running_loop().create_task(_submitted(machine, command))
            self._vouchers.append(task)
            self.busy()

    def enter_voucher(self, payment_id: str, text: str) -> None:
        """A customer types a voucher at the gateway."""
        self._vouchers = [task for task in self._vouchers if not task.done()]
        self._vouchers.append(asyncio.get_running_loop().create_task(self._enter_voucher(payment_id, text)))
        self.busy()

    async def _enter_voucher(self, payment_id: str, text: str) -> None:
        machine = self.machine
        assert machine is not None
        if machine.desk is None:
            return
        try:
            answer = await machine.desk.take_voucher(text)
        except Exception:
            if not machine.dead:
                raise
        if machine.dead:
            return  # the display went dark before it said anything
        self.trace("voucher", payment_id, answer.code)
        self.auditor.door_answered(payment_id, answer.accepted, self.now_ms())
        if answer.code == "duplicate":
            self.sometimes.saw("voucher_twice")
        self.people.voucher_settled(payment_id)

    # --- power ---

    def plan_power_cut(self, commits_left: int, side: int, off_ms: int, again: list[int]) -> None:
        """The power will go at a commit to come; `again`: at these commits of the recoveries that follow."""
        if self.machine is not None and self.power_plan is None:
            self.power_plan = PowerPlan(commits_left, SIDES[side], off_ms)
            self._cut_again = list(again)

    def boot(self) -> None:
        """Power on."""
        if self.machine is not None:
            return
        self.clock.boot()
        boot_clock(self)
        if self._cut_again:
            commits_left = self._cut_again.pop()
            self.power_plan = PowerPlan(commits_left, SIDES[commits_left % 3], SLOT_MS // 10, in_recovery=True)
        self._heard_ms = None
        self.anchor.works, self._asked_syncing = True, False
        self.machine = self._wiring.machine = Machine(
            self.prepared,
            self.clock,
            self.anchor,
            self.broker,
            self.chance(f"machine {self.clock.boots}"),
            self._round_over,
            self._gateway_failed,
        )
        self.trace("boot", self.clock.boots)
        self.machine.start()
        self.busy(20_000)

    def cut_power(self, off_ms: int) -> None:
        """Power off, and on again after a while."""
        if self.machine is None or self.machine.dead:
            return
        self.power_cuts += 1
        self.trace("power cut", self.power_cuts)
        self.machine.cut_power()
        for line in self.lines.values():
            line.hang_up()
        for record in self.card.cut_power():
            self.auditor.forgotten(record.stream, record.seq, self.now_ms())
        self._ended.append(self.machine)
        self.machine = None
        self.power_plan = None
        self.script.at(self.now_ms() + off_ms, self.boot)
        self._pulse.set()

    def _before_job(self, name: str) -> bool:
        """Whether the power holds until the disk begins with a job."""
        plan = self.power_plan
        if plan is None or not name.startswith("_commit"):
            return True
        plan.commits_left -= 1
        if plan.commits_left >= 0:
            return True
        self.anchor.works = plan.side is not Side.BEFORE_ANCHOR
        if plan.side is not Side.BEFORE_COMMIT:
            return True
        self._cut_at_commit(plan)
        return False

    def _after_job(self, name: str, result: object) -> bool:
        """Whether the power holds until the gateway hears of it. What is on the card, the auditor sees."""
        if not name.startswith("_commit"):
            return True
        now_ms, records = self.now_ms(), [entry for entry in _listed(result) if isinstance(entry, StoredRecord)]
        assert self.machine is not None
        for record in records:
            self.trace(record.stream, record.seq, record.hash.hex())
            if self._right_image is not None:
                self.sometimes.saw("old_card")
                self.auditor.recorded_on_old_card(record.stream, record.body, now_ms)
            else:
                self._records_of_money += record.stream in ("led", "res")
                self.auditor.recorded(record.stream, record.epoch, record.seq, record.body, now_ms)
        if not self._asked_syncing:
            self._note_syncing()
        self.card.committed(records)
        plan = self.power_plan
        if plan is None or plan.commits_left >= 0:
            return True
        self._cut_at_commit(plan)
        return False

    def _note_syncing(self) -> None:
        """What SQLite was told about syncing is what this disk does."""
        assert self.machine is not None
        assert self.machine.journal is not None
        (level,) = self.machine.journal._connection.execute("PRAGMA synchronous").fetchone()
        self.card.syncs, self._asked_syncing = level >= SYNCED, True

    def _cut_at_commit(self, plan: PowerPlan) -> None:
        self.sometimes.saw("power_cut_in_recovery" if plan.in_recovery else plan.side.value)
        self.cut_power(plan.off_ms)

    def _gateway_failed(self, error: BaseException) -> None:
        self.auditor.find(self.now_ms(), "gateway_stopped", repr(error)[:300])
        self.cut_power(SLOT_MS)

    def _round_over(self) -> bool:
        self._skips.rounds += 1
        self._pulse.set()
        return self._skips.rounds % PAGES_EVERY == 0

    # --- cards ---

    def copy_card(self) -> None:
        """Somebody makes an image, at a power cut."""
        if self.machine is not None and not self.machine.recovering:
            self.cut_power(SLOT_MS)
            self._old_image, self._records_at_copy = self.card.copy(), self._records_of_money

    def put_old_card_in(self) -> None:
        """The image goes into the gateway; the right card lies in a drawer."""
        if self._old_image is None or self.machine is None or self.machine.recovering:
            return
        if self._records_of_money == self._records_at_copy:
            return  # the anchor moves with money and results: a copy that lacks only readings is not noticed
        self.cut_power(SLOT_MS)
        self._right_image = self.card.copy()
        self.card.put_in(self._old_image)
        self._old_image = None

    def put_right_card_back(self) -> None:
        """The mistake is noticed."""
        if self._right_image is None:
            return
        if self.machine is not None:
            self.cut_power(SLOT_MS)
        self.card.put_in(self._right_image)
        self._right_image = None

    # --- clock, network, lines, as faults want them ---

    def set_by_network(self) -> None:
        """The clock is right again."""
        if self.clock.offset_s:
            self.clock_wrong_ms = self.now_ms()
        self.clock.offset_s = 0
        self.clock.quality = ClockQuality.NTP

    def partition(self, until_ms: int = 0) -> None:
        """The cloud is out of reach, at least until then."""
        self._partition_until_ms = max(self._partition_until_ms, until_ms)
        if until_ms:
            self.sometimes.saw("partition_over_7_days")
        self.trace("partition")
        self.broker.partition()

    def reconnect(self) -> None:
        """The cloud is in reach again, unless a longer partition stands."""
        if self.now_ms() >= self._partition_until_ms and not self.broker.reachable:
            self.trace("reconnected")
            self.broker.heal()
            self.catch_up()

    def end_long_partition(self) -> None:
        """Whatever stands is over."""
        self._partition_until_ms = 0
        self.reconnect()

    def plug_in(self, line_id: str) -> None:
        """The adapter is back."""
        self.lines[line_id].open = True

    # --- time ---

    async def live(self) -> None:
        """From the first second to the last, then the reckoning."""
        for name in self.setting.faults:
            FAULTS[name].plan(self, random.Random(f"{self.setting.seed} fault {name}"))
        self.script.at(self.heal_ms, self.heal)
        self.people.begin()
        self.boot()
        while self._goes_on():
            await self._wait()
            for machine in self._ended:
                await machine.end()
            self._ended.clear()
            self.script.run_due(self.now_ms())
            self.auditor.look(self.now_ms())
            target_ms = self._skip_target()
            if target_ms is not None:
                self.clock.skip_to(target_ms)
                self._skips.dense_since_ms = self.now_ms()
                self._skips.rounds_at_skip = self._skips.rounds
                self.script.run_due(self.now_ms())
            self._read_meters(skipped=target_ms is not None)
        if self.now_ms() >= self.end_ms:
            self._reckon()
        if self.machine is not None:
            self.machine.cut_power()
            await self.machine.end()

    def _goes_on(self) -> bool:
        """Until the end; then until the cloud has everything, within reason."""
        now_ms = self.now_ms()
        if self.setting.until_found and self.auditor.violations:
            return False
        if now_ms < self.end_ms:
            return True
        return now_ms < self.end_ms + HEALED_MS and self._behind()

    async def _wait(self) -> None:
        """Until a round is over, or the next thing in the script is due."""
        next_ms = self.script.next_ms()
        pause_s = None if next_ms is None else max(0, next_ms - self.now_ms()) / 1000 + 1e-3
        if self.machine is None:
            return
        if self.machine.recovering:
            pause_s = min(pause_s or ROUND_MS / 1000, ROUND_MS / 1000)
        timer = asyncio.get_running_loop().call_later(pause_s, self._pulse.set) if pause_s is not None else None
        await self._pulse.wait()
        self._pulse.clear()
        if timer is not None:
            timer.cancel()

    def _read_meters(self, *, skipped: bool) -> None:
        """The next round finds fresh readings: over the bus where something is going on, else given."""
        machine, rounds = self.machine, self._skips.rounds
        if machine is None or self._skips.rounds_read == rounds:
            return
        self._skips.rounds_read = rounds
        now_ms, given = self.now_ms(), []
        for house in self.houses:
            account_id, line = house.account_id, self.lines[house.line_id]
            meter = self.meters[account_id]
            if line.faults or not line.open or (not skipped and self.auditor.in_question(account_id)):
                machine.ask_reading(house.line_id, meter.meter_id)
            elif not meter.silent and not meter.shift_wh:
                register_wh = meter.true_wh()
                self.auditor.meter_showed(account_id, register_wh, now_ms)
                given.append((meter.meter_id, register_wh))
        machine.give_readings(given)

    def _skip_target(self) -> int | None:
        """Where time may go at once, or None: something is going on."""
        now_ms, next_ms = self.now_ms(), self.script.next_ms()
        if self.machine is None:
            return next_ms
        if self.machine.recovering:
            return next_ms if now_ms >= self._skips.busy_until_ms else None
        loop_s = asyncio.get_running_loop().time()
        lines_busy = any(line.busy_until >= loop_s for line in self.lines.values())
        if now_ms >= self.end_ms or self._skips.rounds == self._skips.rounds_at_skip:
            return None  # what the last skip led to has not been looked at
        if now_ms < self._skips.busy_until_ms or lines_busy or self.broker.orders_in_flight:
            return None
        if now_ms < self._skips.catch_up_until_ms and self._behind():
            return None
        due_ms = self.auditor.next_due_ms(now_ms - AFTER_MS)
        if due_ms is not None and due_ms - CLOSE_MS <= now_ms:
            return None
        slot_ms = (now_ms + BEFORE_SLOT_MS) // SLOT_MS * SLOT_MS + SLOT_MS - BEFORE_SLOT_MS
        targets = [slot_ms, *([next_ms] if next_ms is not None else [])]
        targets += [due_ms - CLOSE_MS] if due_ms is not None else []
        target_ms = min(targets)
        return target_ms if target_ms > now_ms else None

    def _behind(self) -> bool:
        """Whether the cloud lacks something, or something lacks an answer."""
        if self.machine is None or self.broker.orders_in_flight or self.cloud.busy:
            return True
        pending = self.cloud.backend.database.execute("SELECT 1 FROM command WHERE result IS NULL LIMIT 1").fetchone()
        return pending is not None or self.machine.backlog() > 0

    def heal(self) -> None:
        """Everything works again: from here on things must happen, and in time."""
        self.trace("healed")
        for name in self.setting.faults:
            FAULTS[name].heal(self)
        self.catch_up(HEALED_MS)

    def _reckon(self) -> None:
        backend = self.cloud.backend
        if self.machine is None or self.machine.backlog():
            self.auditor.find(
                self.now_ms(), "ledger_not_in_cloud", f"{self.machine and self.machine.backlog()} records"
            )
        results = {payment_id: backend.result_of(cid) for payment_id, cid in self.people.cid_of.items()}
        late = {payment_id for payment_id in results if payment_id in self.people.recent(self.end_ms)}
        balances = {balance.account_id: balance.money_nano for balance in backend.balances()}
        self.auditor.close(self.now_ms(), {key: value for key, value in results.items() if key not in late}, balances)
        for problem in backend.problems():
            self.auditor.find(self.now_ms(), "cloud_contradicts_itself", problem)
        for alarm in backend.alarms():
            self.auditor.find(self.now_ms(), "cloud_alarm", f"{alarm['kind']} {alarm['detail']}")

    def report(self) -> Report:
        """What it came to."""
        self.sometimes.counts["message_lost"] += self.broker.lost
        self.sometimes.counts["message_doubled"] += self.broker.doubled
        auditor = self.auditor
        return Report(
            setting=self.setting,
            violations=auditor.violations,
            meter_years=self.setting.meters * self.now_ms() / DAY_MS / 365,
            power_cuts=self.power_cuts,
            payments=self.people.payments,
            relay_switches=auditor.switches,
            cuts=auditor.cuts,
            restores=auditor.restores,
            trace_hash=self._hash.hexdigest(),
            sometimes=self.sometimes.listed(),
            rounds=self._skips.rounds,
            transactions=sum(line.transactions for line in self.lines.values()),
        )


async def _submitted(machine: Machine, command: Command) -> None:
    """Enters a command. What became of it at a power cut nobody hears."""
    assert machine.gateway is not None
    try:
        await machine.gateway.submit(command)
    except Exception:
        if not machine.dead:
            raise


def _listed(result: object) -> list[object]:
    return result if isinstance(result, list) else []


_PURCHASE = (PURCHASE_LIMIT_WH, BY_PURCHASE.least_micro, PURCHASE_SECOND_MICRO)


def terms_of(house: House) -> Terms:
    """An account's terms as plain numbers, for somebody who shares no code with the core."""
    policy = house.policy
    price = {entry.tariff: entry for entry in PRICES}[house.price.tariff]
    offline = {
        OfflinePolicy.ENFORCE: None,
        OfflinePolicy.ENFORCE_FOR_HOURS: policy.offline_hours * HOUR_MS,
        OfflinePolicy.KEEP: MINUTE_MS,  # answered within the last round, however long one may be
    }
    return Terms(
        account_id=house.account_id,
        least_micro=price.least_micro,
        most_micro=price.most_micro,
        opening_nano=house.opening_nano,
        protected=house.protected,
        grace_ms=policy.grace_hours * HOUR_MS,
        lead_ms=policy.pre_cut_notice_minutes * 60_000,
        window_min=() if policy.cut_windows is None else policy.cut_windows.windows,
        threshold_nano=-policy.overdraft_nano,
        debt_nano_min=policy.minimum_debt_nano,
        payment_nano_max=policy.payment_nano_max,
        cut_share=policy.cuts_per_hour_hundredths_of_percent,
        offline_ms_max=offline[policy.offline],
        friendly_min=() if policy.friendly_windows is None else policy.friendly_windows.windows,
        emergency_nano=policy.credit.emergency_limit_nano,
        purchase=_PURCHASE if price == BY_PURCHASE else None,
        contract=(CONTRACT_W, CONTRACT_MICRO_PER_KW) if price == BY_POWER else None,
        valid_ms=None if policy.valid_until is None else (policy.valid_until - START_AT) * 1000,
    )
