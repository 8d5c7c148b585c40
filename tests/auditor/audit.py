"""An auditor of a finished demo, with books of its own: it shares no code with the agent or its cloud.

    python tests/auditor/audit.py DIRECTORY [--json]

DIRECTORY is what `wattgate demo --seconds N --data DIRECTORY` left: the agent's journal, the cloud's database, the
registers of the virtual meters, and what the street was set up with. Everything is worked out again from these files
by the rules alone, with Python's standard library. Energy Wh, money nano-currency, prices micro-currency per kWh,
times Unix seconds. Exit status 0: all of it holds; 1: something does not, one sentence each; 2: nothing to audit.
"""

import argparse
import hashlib
import json
import sqlite3
import struct
import sys
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

EXIT_GOOD, EXIT_VIOLATIONS, EXIT_UNREADABLE = 0, 1, 2
LED_RECORDS_MIN = 100
SPAN_S_MAX = 400 * 86_400  # no demo is longer
RESERVE_S_MAX = 32 * 86_400  # how far ahead a reserve is priced
SECONDS_PER_DAY = 86_400
SECONDS_PER_HOUR = 3600
NANO_DIGITS = 9
STREAMS = ("led", "res", "evt", "rdg")
WHOLE_STREAMS = ("led", "res", "evt")  # what may not be missing on either side

JsonObject = dict[str, Any]
# What an altered record can make Python say while it is read.
BROKEN = (KeyError, TypeError, ValueError, IndexError, AttributeError, ZeroDivisionError, OverflowError)


class UnreadableError(Exception):
    """The folder holds no finished demo; the text says what is missing."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Audits one folder. Returns the exit status."""
    parser = argparse.ArgumentParser(description="Audits a finished demo with books of its own.")
    parser.add_argument("directory", type=Path, help="what `wattgate demo --data` left")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    try:
        violations, figures = audit(options.directory)
    except UnreadableError as error:
        print(f"audit: {error}", file=sys.stderr)
        return EXIT_UNREADABLE
    if options.json:
        print(json.dumps({"violations": violations, **figures}))
    else:
        print("\n".join(violations) or f"everything holds: {figures}")
    return EXIT_VIOLATIONS if violations else EXIT_GOOD


def audit(directory: Path) -> tuple[list[str], JsonObject]:
    """Every violation as a sentence, and what the books came to. UnreadableError when there is nothing to audit."""
    folder = read_folder(directory)
    books = Books(folder)
    books.read_all()
    violations = [
        *guarded("the chains", chain_violations(folder)),
        *books.violations,
        *guarded("the meters", meter_violations(folder, books)),
        *guarded("the cloud", cloud_violations(folder, books)),
        *guarded("the orders", order_violations(folder, books)),
    ]
    led_records = sum(record.stream == "led" for record in folder.journal)
    if led_records < LED_RECORDS_MIN:
        violations.append(f"there are {led_records} ledger records, fewer than {LED_RECORDS_MIN}")
    figures = {
        "records": len(folder.journal),
        "ledger_records": led_records,
        "accounts": len(books.accounts),
        "payments": len(books.payments),
        "cuts": len(books.cuts),
        "energy_charged_wh": sum(account.charged_ever_wh for account in books.accounts.values()),
    }
    return violations, figures


def guarded(what: str, violations: Iterator[str]) -> Iterator[str]:
    """What cannot even be compared is a violation too."""
    try:
        yield from violations
    except BROKEN as error:
        yield f"{what} cannot be compared: {error!r}"


# --- the folder ------------------------------------------------------------------------------


@lru_cache(maxsize=8192)  # a test audits the same folder again and again, with one record altered
def event_of(body: bytes) -> JsonObject:
    event = json.loads(body)
    if not isinstance(event, dict):
        raise ValueError("is no JSON object")
    return event


@dataclass(frozen=True)
class Record:
    """One row of a ledger. `place` is the journal's order of all streams; the cloud has none."""

    place: int
    stream: str
    epoch: int
    seq: int
    hash: bytes
    body: bytes
    received_at: int | None = None
    gateway_id: str | None = None

    @property
    def name(self) -> str:
        return f"{self.stream} {self.seq}"

    @property
    def event(self) -> JsonObject:
        """What the body says, not to be changed. Raises ValueError when that is no object."""
        return event_of(bytes(self.body))


@dataclass(frozen=True)
class Folder:
    """All that is audited, as it lies on the disk."""

    journal: list[Record]
    identities: list[tuple[str, int]]
    marks: dict[str, tuple[int, int]]
    cloud: dict[str, list[JsonObject]]  # rows by table
    cloud_records: list[Record]
    damage: list[str]
    registers: JsonObject
    street: JsonObject
    site: JsonObject
    tariff_text: str
    keys: list[JsonObject]
    boot_id: str

    @property
    def gateway_id(self) -> str:
        return self.identities[0][0]


CLOUD_TABLES = ("gateway", "stream", "aside", "quarantine", "alarm", "account", "command", "payment")


def read_folder(directory: Path) -> Folder:
    """Reads it whole. UnreadableError says what is not there or no database."""
    try:
        with closing(open_database(directory / "agent" / "journal.db")) as journal:
            rows = journal.execute("SELECT place, stream, epoch, seq, hash, body FROM record ORDER BY place")
            records = [
                Record(place, stream, epoch, seq, digest, body_of(stream, stored))
                for place, stream, epoch, seq, digest, stored in rows
            ]
            identities = [(str(row[0]), int(row[1])) for row in journal.execute("SELECT * FROM identity")]
            mark_rows = journal.execute("SELECT stream, epoch, acked_seq FROM mark")
            marks = {str(row[0]): (int(row[1]), int(row[2])) for row in mark_rows}
            damage = [f"the journal is damaged: {row[0]}" for row in integrity(journal)]
        with closing(open_database(directory / "cloud.db")) as cloud:
            tables = {name: rows_of(cloud, name) for name in CLOUD_TABLES}
            order = "gateway, stream, epoch, seq"
            columns = "0, stream, epoch, seq, hash, body, received_at, gateway"
            found = cloud.execute(f"SELECT {columns} FROM record ORDER BY {order}")
            cloud_records = [Record(*row) for row in found]
            damage += [f"the cloud's database is damaged: {row[0]}" for row in integrity(cloud)]
        if not identities:
            raise UnreadableError(f"{directory}: the journal does not say whose it is")
        tariff_text = (directory / "demo-street.json").read_text("utf-8")
        read = {name: read_json(directory / name) for name in ("registers.json", "street.json", "site.json")}
        return Folder(
            journal=records,
            identities=identities,
            marks=marks,
            cloud=tables,
            cloud_records=cloud_records,
            damage=damage,
            registers=read["registers.json"],
            street=read["street.json"],
            site=read["site.json"],
            tariff_text=tariff_text,
            keys=read_json(directory / "keys" / "keyring.json"),
            boot_id=read_json(directory / "clock.json")["boot_id"],
        )
    except (OSError, sqlite3.Error, *BROKEN) as error:
        raise UnreadableError(f"{directory}: {error}") from error


def body_of(stream: str, stored: bytes) -> bytes:
    """A body of the journal. Readings may be packed: byte 1, CRC-32 of the rest, raw deflate (edge/store/README.md).

    What cannot be unpacked stays as it is: it does not have its hash, and that is said.
    """
    if stream != "rdg" or not isinstance(stored, bytes) or stored[:1] != b"\x01":
        return stored
    crc, content = stored[1:5], stored[5:]
    inflater = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
    try:
        body = inflater.decompress(content)
    except zlib.error:
        return stored
    whole = inflater.eof and not inflater.unused_data and zlib.crc32(content).to_bytes(4, "big") == crc
    return body if whole else stored


def open_database(path: Path) -> sqlite3.Connection:
    if not path.exists():
        raise UnreadableError(f"{path} is missing")
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)


def integrity(database: sqlite3.Connection) -> list[tuple[str]]:
    return [row for row in database.execute("PRAGMA integrity_check") if row[0] != "ok"]


def rows_of(database: sqlite3.Connection, table: str) -> list[JsonObject]:
    cursor = database.execute(f"SELECT * FROM {table}")
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]


def read_json(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


# --- chains ----------------------------------------------------------------------------------


def chain_violations(folder: Folder) -> Iterator[str]:
    """Both ledgers on their own: no holes, every hash right, marks at the end; then one against the other."""
    yield from folder.damage
    if len(folder.identities) != 1:
        yield f"the journal has {len(folder.identities)} identities"
    places = [record.place for record in folder.journal]
    if places != list(range(1, len(places) + 1)):
        yield "the journal's places are not 1 to their number"
    ends = {}
    for where, records in (("journal", folder.journal), ("cloud", folder.cloud_records)):
        for stream in STREAMS:
            of_stream = [record for record in records if record.stream == stream]
            yield from broken_links(where, folder.gateway_id, of_stream)
            ends[where, stream] = of_stream[-1] if of_stream else None
        if {record.stream for record in records} - set(STREAMS):
            yield f"the {where} has a stream that is none of ours"
    for stream in STREAMS:
        yield from unequal_records(folder, stream)
        yield from wrong_marks(folder, stream, ends["journal", stream], ends["cloud", stream])


def broken_links(where: str, gateway_id: str, records: Sequence[Record]) -> Iterator[str]:
    """Holes and wrong hashes of one stream. The hash covers who, which, where and what came before."""
    expected_seq, previous, epoch = 1, bytes(32), None
    for record in records:
        if record.epoch != epoch:
            expected_seq, previous, epoch = 1, bytes(32), record.epoch
        if record.seq != expected_seq:
            yield f"{where}: {record.stream} {expected_seq} is missing before {record.name}"
        header = f'["{gateway_id}","{record.stream}",{record.epoch},{record.seq},"{previous.hex()}"]'
        if hashlib.sha256(header.encode() + b"\n" + bytes(record.body)).digest() != record.hash:
            yield f"{where}: {record.name} does not have the hash of its content"
        expected_seq, previous = record.seq + 1, bytes(record.hash)


def unequal_records(folder: Folder, stream: str) -> Iterator[str]:
    """The cloud has the journal's records byte for byte, all that matter, and no other."""
    here = {(r.epoch, r.seq): r for r in folder.journal if r.stream == stream}
    there = {(r.epoch, r.seq): r for r in folder.cloud_records if r.stream == stream}
    for key, record in there.items():
        own = here.get(key)
        if own is None:
            yield f"the cloud has {record.name}, the journal does not"
        elif (own.body, own.hash) != (record.body, record.hash):
            yield f"{record.name} differs between the journal and the cloud"
        if record.gateway_id != folder.gateway_id:
            yield f"the cloud's {record.name} is of another gateway"
        said_at = event_at(record if own is None else own)
        if record.received_at is None or not said_at <= record.received_at <= folder.registers["at"]:
            yield f"the cloud says it received {record.name} at {record.received_at}, before or after it could"
    missing = sorted(here.keys() - there.keys())
    if missing and (stream in WHOLE_STREAMS or missing[0] <= max(there, default=(0, 0))):
        yield f"the cloud lacks {stream} {missing[0][1]}"


def event_at(record: Record) -> int:
    try:
        return int(record.event["at"])
    except BROKEN:
        return 0


def wrong_marks(folder: Folder, stream: str, last_here: Record | None, last_there: Record | None) -> Iterator[str]:
    """What each side notes of how far it came."""
    heads = [row for row in folder.cloud["stream"] if row["stream"] == stream]
    noted = [(row["gateway"], row["epoch"], row["seq"], row["hash"]) for row in heads]
    last = [] if last_there is None else [(folder.gateway_id, last_there.epoch, last_there.seq, last_there.hash)]
    if noted != last:
        yield f"the cloud's mark of {stream} is not its last record"
    epoch, acked_seq = folder.marks.get(stream, (folder.identities[0][1], 0))
    head_seq = 0 if last_here is None else last_here.seq
    taken_seq = 0 if last_there is None else last_there.seq
    if epoch != folder.identities[0][1] or not 0 <= acked_seq <= taken_seq:
        yield f"the journal's mark says {stream} {acked_seq} was acknowledged, the cloud has {taken_seq}"
    elif stream in WHOLE_STREAMS and acked_seq != head_seq:
        yield f"the journal's mark says {stream} {acked_seq} was acknowledged, not all {head_seq}"


# --- the tariff ------------------------------------------------------------------------------


@dataclass
class Position:
    """How much of the cycle's energy an account has used, and when that cycle began."""

    energy_wh: list[int]
    cycle_start_at: int | None = None


@dataclass
class Rated:
    """The cost of an interval by period and block, and whether energy had to be shared out by seconds."""

    lines: dict[tuple[str, int], int] = field(default_factory=dict)  # energy by period and block
    amount_nano: int = 0
    estimated: bool = False


class Tariff:
    """The tariff document worked out: prices, limits, and the calendar minute by minute.

    Written for what the demo's document uses, periods by time of day and blocks within the calendar month, and for
    blocks of what is bought in it and charges on power.
    """

    def __init__(self, document: JsonObject, zone: ZoneInfo) -> None:
        known = {"format", "id", "version", "title", "currency", "minor_digits", "time_zone", "valid_from"}
        unknown = (
            set(document) - known - {"cycle", "periods", "blocks", "prices", "provenance", "demand", "late_charge"}
        )
        if unknown or document["cycle"] not in ({"length": "month", "start_day": 1}, {"length": "vend"}):
            raise ValueError(f"the tariff has more than this auditor knows: {sorted(unknown) or document['cycle']}")
        self.key = f"{document['id']}@{document['version']}"
        self.zone = zone
        self.names = [str(period["name"]) for period in document["periods"]]
        self.minutes = [self.names[0]] * 1440
        for period in document["periods"]:
            for window in period["windows"]:
                first, end = minute_of(window["from"]), minute_of(window["to"])
                for minute in range(first, end if first < end else end + 1440):
                    self.minutes[minute % 1440] = period["name"]
        self.limits_wh = [exact(limit, 1000) for limit in document["blocks"]["limits_kwh"]]
        if document["blocks"]["scope"] != "cycle":
            raise ValueError("this auditor knows blocks over all periods only")
        base, adders = document["prices"]["base_by_period"], document["prices"]["adder_by_block"]
        self.price_of = {
            (name, block): exact(base[name], 10**6) + exact(adder, 10**6)
            for name in self.names
            for block, adder in enumerate(adders, start=1)
        }
        # Where purchases are counted, use is charged at the first block's price.
        self.sold: tuple[list[int], list[int]] | None = None  # limits and prices
        if document["cycle"]["length"] == "vend":
            [name] = self.names
            prices = [self.price_of[name, block] for block in range(1, len(adders) + 1)]
            self.sold, self.limits_wh, self.price_of = (self.limits_wh, prices), [], {(name, 1): prices[0]}
        self.demands: list[JsonObject] = document.get("demand", [])
        self.measures = any(charge["kind"] == "measured" or "over_contract" in charge for charge in self.demands)
        self.late: JsonObject | None = document.get("late_charge")
        self.starts: list[int] = []
        self.segments: list[tuple[str, int]] = []  # period, and the instant its cycle began
        self.midnights: list[int] = []

    def lay_out(self, first_at: int, end_at: int) -> None:
        """The calendar of a span, by the wall clock of every minute: where a day, a period or a cycle begins."""
        day = cycle_start_at = None
        for at in range(first_at - first_at % 60, end_at, 60):
            local = datetime.fromtimestamp(at, self.zone)
            if local.day != day:
                day = local.day
                self.midnights.append(at)
                cycle_start_at = int(local.replace(day=1, hour=0, minute=0).timestamp())
            assert cycle_start_at is not None
            segment = (self.minutes[local.hour * 60 + local.minute], cycle_start_at)
            if not self.segments or self.segments[-1] != segment:
                self.starts.append(at)
                self.segments.append(segment)

    def rate(self, position: Position, start_at: int, end_at: int, energy_wh: int) -> Rated:
        """Charges energy used between two instants, and moves the position on."""
        rated = Rated()
        parts = self._shares(start_at, end_at, energy_wh)
        rated.estimated = len(parts) > 1 and energy_wh > 0
        for (period, cycle_start_at), energy_of_part_wh in parts:
            share_wh = energy_of_part_wh
            if position.cycle_start_at is None or cycle_start_at > position.cycle_start_at:
                if position.cycle_start_at is not None:
                    position.energy_wh = [0]
                position.cycle_start_at = cycle_start_at
            while share_wh:
                block = 1 + sum(position.energy_wh[0] >= limit for limit in self.limits_wh)
                room_wh = share_wh if block > len(self.limits_wh) else self.limits_wh[block - 1] - position.energy_wh[0]
                taken_wh = min(share_wh, room_wh)
                rated.lines[period, block] = rated.lines.get((period, block), 0) + taken_wh
                rated.amount_nano += taken_wh * self.price_of[period, block]
                position.energy_wh[0] += taken_wh
                share_wh -= taken_wh
        return rated

    def _shares(self, start_at: int, end_at: int, energy_wh: int) -> list[tuple[tuple[str, int], int]]:
        """Whole watt-hours for each segment the interval touches: by seconds, the largest remainders rounded up."""
        first = bisect_right(self.starts, start_at if start_at < end_at else end_at - 1) - 1
        touched = range(first, max(first + 1, bisect_left(self.starts, end_at)))
        if len(touched) == 1:
            return [(self.segments[first], energy_wh)]
        bounds = [*self.starts, sys.maxsize]
        exact_shares = [
            Fraction(energy_wh * (min(end_at, bounds[n + 1]) - max(start_at, bounds[n])), end_at - start_at)
            for n in touched
        ]
        shares = [share.numerator // share.denominator for share in exact_shares]
        order = sorted(range(len(touched)), key=lambda n: (shares[n] - exact_shares[n], n))
        for n in order[: energy_wh - sum(shares)]:
            shares[n] += 1
        return [(self.segments[segment], share) for segment, share in zip(touched, shares, strict=True)]

    def next_midnight(self, at: int) -> int:
        """The first local midnight after an instant."""
        return self.midnights[bisect_right(self.midnights, at)]


@lru_cache(maxsize=16)
def tariff_of(text: str, zone: ZoneInfo, first_at: int, end_at: int) -> Tariff:
    """The tariff of a document, its calendar laid out."""
    tariff = Tariff(json.loads(text), zone)
    tariff.lay_out(first_at, end_at)
    return tariff


def minute_of(text: str) -> int:
    return int(text[:2]) * 60 + int(text[3:])


def exact(text: str, scale: int) -> int:
    """A decimal as a whole number of its smallest unit; what does not come out whole is refused."""
    value = Fraction(text) * scale
    if value.denominator != 1:
        raise ValueError(f"{text} is finer than 1/{scale}")
    return value.numerator


# --- the books -------------------------------------------------------------------------------


@dataclass
class Notice:
    """One notice of an episode. `receipt` is the recorded clock when it was handed over."""

    raised_at: int
    receipt: JsonObject | None = None


@dataclass
class OpenBill:
    """What a bill left open, and what its parts paid late came to: by the days, and with the minimum."""

    amount_nano: int
    due_day: int
    by_days_nano: int = 0
    charged_nano: int = 0


DEBTS = ("payment", "time_1", "time_2", "accumulated", "old")


@dataclass
class Account:
    """One account, kept from its records alone."""

    name: str
    meter_id: str
    policy: JsonObject
    protected: bool
    money_nano: int
    recorded_at: int
    recorded_wh: int
    opening_wh: int
    issue_at: int
    issue_wh: int
    frozen_wh: int
    tariff: Tariff
    position: Position = field(default_factory=lambda: Position([0]))
    estimate_nano: int = 0
    charged: dict[tuple[str, int, int], int] = field(default_factory=dict)  # Wh since the issue
    charged_ever_wh: int = 0
    uncharged_wh: int = 0
    mean: tuple[int, int] | None = None  # energy and days of the last bill
    due: tuple[str, int] | None = None  # the record that must come next, and what it is about
    episode: dict[int, Notice] | None = None
    hold: bool = False
    keep_supply: bool = False
    holds: dict[str, int | None] = field(default_factory=dict)  # stated reasons against cuts: kind and end
    normal_policy: JsonObject | None = None  # while a risk level stands
    risk: tuple[str, int] | None = None  # that level and its end
    policy_over: bool = False
    control_state: str = "connected"
    armed: bool = False  # a person on site must press the key
    local_reason: str | None = None
    output: bool | None = None
    frozen_live_nano: int | None = None
    frozen_at: int | None = None
    led_seq: int = 0
    last_at: int | None = None
    last_register_wh: int | None = None
    debts_nano: dict[str, int] = field(default_factory=lambda: dict.fromkeys(DEBTS, 0))
    standing_nano: int = 0  # standing charges since the issue
    minimum_nano: int = 0  # of a bill, to be posted next
    billed_for_change: bool = False  # out of its cycle: a change of tenant or a payment must follow
    charged_to_day: dict[str, int] = field(default_factory=dict)  # by charge and name: the first day not charged
    instalments: list[JsonObject] = field(default_factory=list)  # parts still to fall due
    instalment: int = 1  # number of the next one
    emergency: bool = False
    emergency_used_nano: int = 0
    reserved_nano: int = 0
    granted_nano: dict[str, int] = field(default_factory=dict)  # what is left of each granted credit
    purchase_orders: set[int] = field(default_factory=set)
    trip_nano: int = 0
    credit_mode: bool = False
    credit_nano: int = 0  # of the newest payment: what did not pay debts
    bought_wh: int = 0  # in the month that began on `bought_first_day`
    bought_first_day: int = 0
    bought_rest_nano: int = 0
    bought_nano: int = 0  # posted for blocks since the issue
    month_nano: int = 0  # posted for power since the issue
    opened_day: int = 0
    power_w_max: int | None = None  # between two reading records since the month began
    pending: list[tuple[int, str]] = field(default_factory=list)  # tariffs to come, and from when
    basis_micro: int = 0  # what the energy in the balance is charged at, where purchases are counted
    open_bills: list[OpenBill] = field(default_factory=list)  # the oldest first
    late_nano: int = 0  # for bills paid late, not posted yet
    late_posted_nano: int = 0  # for the bill that comes next
    raised_nano: int = 0  # by the newest payment
    paid_at: int = 0  # the newest payment
    power_base: tuple[str, int, int] | None = None  # boot, time since boot and register at the first of the two

    @property
    def live_nano(self) -> int:
        """Balance at the recorded register."""
        return self.money_nano - self.estimate_nano

    @property
    def threshold_nano(self) -> int:
        """Below it there is no credit: the last order's trip threshold or 0, less the overdraft."""
        return self.trip_nano - int(self.policy["overdraft_nano"])

    @property
    def cut_below_nano(self) -> int:
        """Below it the account may be cut: never in credit mode, and selected emergency credit comes first."""
        if self.credit_mode:
            return -sys.maxsize
        return self.threshold_nano - (int(self.policy["credit"]["emergency_limit_nano"]) if self.emergency else 0)


# What comes between a freeze and the bill of its midnight, between a bill and its rounding, a payment and its result.
MIDNIGHT_CHARGES = {"DailyChargePosted", "InstalmentDue", "MinimumBillPosted", "DemandChargePosted", "LateChargePosted"}
MIDNIGHT_CHARGES |= {"GrantedCreditSpent", "GrantedCreditLapsed", "CreditPeriodBegan"}
OF_A_PAYMENT = {"PaymentAllocated", "EnergyBought", "EmergencyCreditGivenBack", "BillsSettled"}
OPEN_BILLS_MAX = 60
POWER_WINDOW_MS, POWER_EARLY_MS, MS_PER_HOUR = 900_000, 60_000, 3_600_000

# control_state and trigger: the next state. A trigger that is not here moves nothing.
SUPPLY: Mapping[tuple[str, str], str] = {
    ("connected", "local_disconnect"): "ready_for_reconnection",
    ("ready_for_reconnection", "local_reconnect"): "connected",
    ("connected", "remote_disconnect"): "disconnected",
    ("ready_for_reconnection", "remote_disconnect"): "disconnected",
    ("disconnected", "remote_reconnect"): "ready_for_reconnection",
    ("ready_for_reconnection", "manual_reconnect"): "connected",
}
CLOCK_GRAIN_S = 1  # recorded clocks are cut off to whole seconds
FREEZE_QUALITIES = ("meter_freeze", "gateway_sample", "interpolated")


class Books:
    """Reads the journal record by record and complains about everything that does not follow."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.violations: list[str] = []
        self.accounts: dict[str, Account] = {}
        self.payments: dict[str, tuple[str, int]] = {}  # payment id: account and amount
        self.answers: dict[str, JsonObject] = {}  # command id: the result's record
        self.result_bodies: dict[str, bytes] = {}
        self.cuts: list[tuple[int, str]] = []
        self.clock: JsonObject | None = None  # the newest one recorded
        self.reversed: dict[str, int] = {}  # payment id: what was taken back of it
        self.paid: JsonObject | None = None  # a payment whose result must be the next record
        self.bought: dict[str, list[JsonObject]] = {}  # payment id: what energy stays bought by it
        self.bought_days: dict[str, int] = {}
        self.taken_nano = 0  # by the newest reversal, of what had not paid debts
        self.record: Record | None = None
        self.tariffs: dict[str, Tariff] = {}
        self.policies: dict[str, JsonObject] = {}  # documents, by id and version
        self.receipt_of: str | None = None  # account of a receipt from the cloud: its order's result must be next
        self.bought_basis: dict[str, int] = {}  # payment id: the first block's price it bought at
        try:
            site = folder.site["site"]["1"]
            self.zone = ZoneInfo(site["time_zone"])
            self.minor_nano = 10 ** (NANO_DIGITS - site["minor_digits"])
            self.site_accounts = {row["account_id"]: row for row in folder.site["accounts"].values()}
            first_at = int(folder.street["wall_start_at"])
            end_at = min(int(folder.registers["at"]), first_at + SPAN_S_MAX)
            self.span = (first_at - SECONDS_PER_DAY, end_at + RESERVE_S_MAX)
            self.tariff = tariff_of(folder.tariff_text, self.zone, *self.span)  # the street's: others come by order
        except BROKEN as error:
            raise UnreadableError(f"site book, tariff or registers: {error!r}") from error

    def complain(self, text: str) -> None:
        name = "" if self.record is None else f"{self.record.name}: "
        self.violations.append(name + text)

    def expect(self, what: str, found: object, wanted: object) -> None:
        if found != wanted:
            self.complain(f"{what} is {found!r}, by these books {wanted!r}")

    def read_all(self) -> None:
        """Every record in the order it was written, then what must be true at the end."""
        for record in self.folder.journal:
            self.record = record
            try:
                self._read(record, record.event)
            except BROKEN as error:
                self.complain(f"cannot be read: {error!r}")
        self.record = None
        for account in self.accounts.values():
            if account.due is not None:
                self.complain(f"{account.name}: {account.due[0]} is missing at the end")
            if account.billed_for_change:
                self.complain(f"{account.name}: was billed out of its cycle for no reason")
        if self.paid is not None:
            self.complain("the last payment has no result")
        self.expect("the list of accounts", sorted(self.accounts), sorted(self.site_accounts))

    def _read(self, record: Record, event: JsonObject) -> None:
        kind = event["type"]
        stream, handler = HANDLERS.get(kind, (record.stream, Books.never_here))
        self.expect("the stream", record.stream, stream)
        if self.paid is not None and kind != "OrderApplied" and kind not in OF_A_PAYMENT:
            self.complain("comes between a payment and its result")
            self.paid = None
        if self.receipt_of is not None:
            answer = (kind, event.get("order_type"), event.get("account"))
            self.expect("the order behind a receipt", answer, ("OrderApplied", "notice_receipt", self.receipt_of))
            self.receipt_of = None
        account = self.accounts.get(event.get("account", ""))
        if account is not None and record.stream == "led":
            account.led_seq, account.last_at = record.seq, event["at"]
            account.last_register_wh = event.get("register_wh", account.last_register_wh)
            if account.due is not None and account.due[0] != kind and kind not in MIDNIGHT_CHARGES:
                self.complain(f"comes where {account.due[0]} of {account.name} was due")
                account.due = None
            if "posting_nano" in event:
                account.money_nano += event["posting_nano"]
            if "balance_nano" in event:
                self.expect("balance_nano", event["balance_nano"], account.money_nano)
        handler(self, event)

    # --- accounts, money ---

    def account_opened(self, event: JsonObject) -> None:
        name = event["account"]
        row = self.site_accounts[name]
        if name in self.accounts:
            self.complain(f"{name} is opened again")
        for key, wanted in (("meter", "meter_id"), ("tariff", "tariff"), ("protected", "protected")):
            self.expect(f"{key} of {name}", event[key], row[wanted])
        self.expect(f"policy of {name}", event["policy"], row["policy"])
        self.expect(f"the opening of {name}", event["posting_nano"], row["opening_nano"])
        self.expect("balance_nano", event["balance_nano"], event["posting_nano"])
        self.expect("tariff", event["tariff"] in self.tariffs, True)
        self.expect("positions", event["positions"], 1)
        at, register_wh = event["register_at"], event["register_wh"]
        meter = self.folder.registers["meters"][row["meter_id"]]
        self.expect(f"the opening register of {name}", register_wh, meter["start_register_wh"])
        self.accounts[name] = Account(
            name, row["meter_id"], row["policy"], row["protected"], event["posting_nano"],
            at, register_wh, register_wh, at, register_wh, register_wh, self.tariffs[event["tariff"]],
        )  # fmt: skip
        account = self.accounts[name]
        assert self.record is not None
        account.led_seq, account.last_at, account.last_register_wh = self.record.seq, event["at"], register_wh
        account.opened_day = self.local_day(at)
        contracted = event.get("contracted") or {}
        for key in ("contract_w", "capacity_va"):
            self.expect(f"{key} of {name}", contracted.get(key), row.get(key))

    def payment_applied(self, event: JsonObject) -> None:
        payment_id, amount_nano = event["payment_id"], event["amount_nano"]
        if payment_id in self.payments:
            self.complain(f"payment {payment_id} is applied a second time")
        self.payments[payment_id] = (event["account"], amount_nano)
        self.expect("posting_nano", event["posting_nano"], amount_nano)
        account = self.accounts[event["account"]]
        account.billed_for_change, account.credit_nano = False, amount_nano
        account.raised_nano, account.paid_at = amount_nano, min(event["paid_at"], event["at"])
        self.expect("a payment within its limits", 0 < amount_nano <= account.policy["payment_nano_max"], True)
        self.expect("a door we know", event["door"] in ("cloud", "voucher"), True)
        self.expect("paid before it was applied", event["paid_at"] <= event["at"], True)
        self.paid = event

    def payment_refused(self, event: JsonObject) -> None:
        known = event["payment_id"] in self.payments
        self.expect("a refusal as duplicate", event["reason"] == "duplicate", known)

    def payment_reversed(self, event: JsonObject) -> None:
        payment_id = event["payment_id"]
        account, amount_nano = self.payments[payment_id]
        self.expect("account", event["account"], account)
        left_nano = amount_nano - self.reversed.get(payment_id, 0)
        self.expect("a reversal of at most the payment", -left_nano <= event["posting_nano"] < 0, True)
        self.reversed[payment_id] = self.reversed.get(payment_id, 0) - event["posting_nano"]
        self.taken_nano = -event["posting_nano"]

    # --- credits and debts ---

    def payment_allocated(self, event: JsonObject) -> None:
        """Parts add up to the payment, none pays more than is owed, and what is owed first is paid first."""
        account, amount_nano = self.accounts[event["account"]], event["amount_nano"]
        self.expect("the payment", self.payments[event["payment_id"]], (account.name, amount_nano))
        if self.paid is not None:
            self.expect("the payment before", event["payment_id"], self.paid["payment_id"])
        debts = [("payment", "payment_debt_nano"), ("accumulated", "accumulated_debt_nano"), ("old", "old_debt_nano")]
        rest_nano = amount_nano
        for debt, part in debts:
            owed_nano = account.debts_nano[debt]
            self.expect(f"{part} within what is owed and left", 0 <= event[part] <= min(owed_nano, rest_nano), True)
            if debt == "accumulated":
                self.expect("accumulated_debt_nano", event[part], min(owed_nano, rest_nano))
            account.debts_nano[debt] -= event[part]
            rest_nano -= event[part]
        share = account.policy["credit"]["old_debt_share"]
        self.expect("old debt within its share", event["old_debt_nano"] <= amount_nano * share // 10_000, True)
        credit = [event[part] for part in ("below_threshold_nano", "emergency_nano", "token_nano")]
        self.expect("parts to the balance", (min(credit) >= 0, sum(credit)), (True, rest_nano))
        self.expect("posting_nano", event["posting_nano"], rest_nano - amount_nano)
        account.credit_nano = account.raised_nano = rest_nano
        self.expect("emergency credit that is repaid", account.emergency or event["emergency_nano"] == 0, True)
        account.emergency_used_nano = event["emergency_used_nano"]

    def allocation_reversed(self, event: JsonObject) -> None:
        account = self.accounts[event["account"]]
        self.expect("a reversal before it", event["payment_id"] in self.reversed, True)
        again_nano = 0
        for debt, part in (
            ("payment", "payment_debt_nano"), ("accumulated", "accumulated_debt_nano"), ("old", "old_debt_nano")
        ):  # fmt: skip
            self.expect(f"{part} of at least 0", event[part] >= 0, True)
            account.debts_nano[debt] += event[part]
            again_nano += event[part]
        self.expect("posting_nano", event["posting_nano"], again_nano)
        self.taken_nano -= again_nano

    def energy_bought(self, event: JsonObject) -> None:
        """The credit that just came in, through the blocks of what is bought in the calendar month."""
        account = self.accounts[event["account"]]
        sold = account.tariff.sold
        assert sold is not None
        moment = datetime.fromtimestamp(max(event["at"], account.recorded_at), self.zone)
        first_day = max(account.bought_first_day, moment.replace(day=1).toordinal() - datetime(1970, 1, 1).toordinal())
        before_wh = account.bought_wh if first_day == account.bought_first_day else 0
        left_nano, position_wh, wanted = account.credit_nano + account.bought_rest_nano, before_wh, []
        for block, (limit_wh, price) in enumerate(zip([*sold[0], sys.maxsize], sold[1], strict=True), start=1):
            part_wh = max(0, min(limit_wh - position_wh, left_nano // price))
            if part_wh:
                wanted.append((block, part_wh, price, part_wh * price))
            left_nano, position_wh = left_nano - part_wh * price, position_wh + part_wh
            if position_wh < limit_wh:
                break
        fields = ("block", "energy_wh", "price_micro_per_kwh", "amount_nano")
        self.expect("the lines", [tuple(line[name] for name in fields) for line in event["lines"]], wanted)
        self.expect("the place in the blocks", (event["first_day"], event["before_wh"]), (first_day, before_wh))
        self.expect("energy_wh", event["energy_wh"], position_wh - before_wh)
        self.expect("basis_micro_per_kwh", event["basis_micro_per_kwh"], sold[1][0])
        self.expect("rest_nano", event["rest_nano"], left_nano)
        beyond_nano = sum(wh * (price - sold[1][0]) for _, wh, price, _ in wanted)
        self.expect("posting_nano", event["posting_nano"], -beyond_nano)
        account.bought_wh, account.bought_first_day = position_wh, first_day
        account.bought_rest_nano, account.credit_nano = left_nano, 0
        account.bought_nano += beyond_nano
        account.raised_nano -= beyond_nano
        account.basis_micro = self.bought_basis[event["payment_id"]] = sold[1][0]
        self.bought[event["payment_id"]], self.bought_days[event["payment_id"]] = event["lines"], first_day

    def bought_energy_returned(self, event: JsonObject) -> None:
        """What stays bought is the first that was, as far as the money that stays goes."""
        account, payment_id = self.accounts[event["account"]], event["payment_id"]
        basis_micro = account.basis_micro or self.bought_basis[payment_id]  # what the balance is worth Wh by
        before = self.bought[payment_id]
        left_nano = max(0, sum(line["amount_nano"] for line in before) - self.taken_nano)
        wanted = []
        for line in before:
            part_wh = min(line["energy_wh"], left_nano // line["price_micro_per_kwh"])
            left_nano -= part_wh * line["price_micro_per_kwh"]
            if part_wh:
                amount_nano = part_wh * line["price_micro_per_kwh"]
                wanted.append({**line, "energy_wh": part_wh, "amount_nano": amount_nano})
            if part_wh < line["energy_wh"]:
                break
        self.expect("what stays bought", event["lines"], wanted)
        gone_wh = sum(line["energy_wh"] for line in before) - sum(line["energy_wh"] for line in wanted)
        self.expect("energy_wh", event["energy_wh"], gone_wh)
        self.expect("basis_micro_per_kwh", event["basis_micro_per_kwh"], basis_micro)
        beyond = [
            sum(line["energy_wh"] * (line["price_micro_per_kwh"] - basis_micro) for line in lines)
            for lines in (before, wanted)
        ]
        self.expect("posting_nano", event["posting_nano"], beyond[0] - beyond[1])
        self.expect("first_day", event["first_day"], self.bought_days[payment_id])
        if event["first_day"] == account.bought_first_day:
            account.bought_wh -= gone_wh
        account.bought_nano -= event["posting_nano"]
        self.bought[payment_id] = wanted

    def bought_energy_repriced(self, event: JsonObject) -> None:
        """The whole watt-hours that the balance held at the price before are held at the new one."""
        account = self.accounts[event["account"]]
        self.expect("a change of tariff before it", account.due, ("BoughtEnergyRepriced", event["at"]))
        account.due = None
        before, after = account.basis_micro, account.tariff.sold[1][0] if account.tariff.sold else 0
        bases = (event["basis_before_micro_per_kwh"], event["basis_micro_per_kwh"])
        self.expect("the prices", bases, (before, after))
        held_nano = account.live_nano - event["posting_nano"]
        self.expect("live_balance_nano", event["live_balance_nano"], held_nano)
        whole_wh = held_nano // before if before and after and held_nano > 0 else 0
        self.expect("posting_nano", event["posting_nano"], whole_wh * after - whole_wh * before)
        account.basis_micro = after
        account.bought_nano -= event["posting_nano"]
        if account.frozen_at == event["at"]:
            account.frozen_live_nano = account.live_nano

    # --- bills paid late ---

    def left_open(self, account: Account, at: int, bill_nano: int, after_nano: int) -> tuple[int, int]:
        """(what the money after a bill does not cover of it, its due day). A late charge in it bears none."""
        if account.tariff.late is None or account.policy["credit"]["unit"] != "money":
            return 0, 0
        owed_nano = -account.policy["overdraft_nano"] - after_nano - account.late_posted_nano
        owed_nano -= sum(bill.amount_nano for bill in account.open_bills)
        open_nano = max(0, min(bill_nano - account.late_posted_nano, owed_nano))
        return open_nano, self.local_day(at) + account.policy["payment_due_days"] if open_nano else 0

    def bills_settled(self, event: JsonObject) -> None:
        """The newest payment goes to the oldest bills; days after a due date count, the day of payment with them."""
        account = self.accounts[event["account"]]
        days = {self.local_day(account.paid_at), self.local_day(min(account.paid_at, account.recorded_at))}
        self.expect("a day of payment that is known", event["paid_day"] in days, True)
        below_nano = account.raised_nano - account.money_nano - account.policy["overdraft_nano"]
        excess_nano = sum(bill.amount_nano for bill in account.open_bills) - max(0, below_nano)
        left_nano, wanted = account.raised_nano, []
        for bill in list(account.open_bills):
            if (free_nano := min(bill.amount_nano, max(0, excess_nano))) > 0:
                excess_nano -= free_nano
                bill.amount_nano -= free_nano
                wanted.append((free_nano, bill.due_day, 0, 0, 0, 0))
            if (paid_nano := min(bill.amount_nano, left_nano)) > 0:
                left_nano -= paid_nano
                wanted.append((paid_nano, bill.due_day, *self.late_part(account, bill, paid_nano, event["paid_day"])))
                bill.amount_nano -= paid_nano
        account.open_bills = [bill for bill in account.open_bills if bill.amount_nano]
        names = ("amount_nano", "due_day", "days_same_year", "days_later_years", "share_nano", "late_nano")
        self.expect("the parts", [tuple(part[name] for name in names) for part in event["parts"]], wanted)
        account.late_nano += sum(part[-1] for part in wanted)

    def late_part(self, account: Account, bill: OpenBill, paid_nano: int, day: int) -> tuple[int, int, int, int]:
        """(days in the year the bill was first overdue in, later days, their share, what is charged for it)."""
        late = account.tariff.late
        if late is None or day <= bill.due_day:
            return 0, 0, 0, 0
        epoch = datetime(1970, 1, 1).toordinal()
        years = [datetime.fromordinal(epoch + one).year for one in range(bill.due_day + 1, day + 1)]
        same = years.count(years[0])
        first_rate = Fraction(late["same_year_per_mille"])
        later_rate = Fraction(str(late.get("later_year_per_mille", late["same_year_per_mille"])))
        share_nano = half_away(paid_nano * (same * first_rate + (len(years) - same) * later_rate) / 1000)
        bill.by_days_nano += share_nano
        due_nano = max(bill.by_days_nano, exact(late.get("minimum", "0"), 10**NANO_DIGITS))
        charge_nano = max(0, due_nano - bill.charged_nano)
        bill.charged_nano += charge_nano
        return same, len(years) - same, share_nano, charge_nano

    def late_charge_posted(self, event: JsonObject) -> None:
        account = self.accounts[event["account"]]
        self.expect("posting_nano", event["posting_nano"], -account.late_nano)
        self.expect("a late charge of something", account.late_nano > 0, True)
        account.month_nano += account.late_nano
        account.late_posted_nano, account.late_nano = account.late_nano, 0
        if account.frozen_at == event["at"]:
            account.frozen_live_nano = account.live_nano

    # --- power ---

    def demand_charge_posted(self, event: JsonObject) -> None:
        """Each charge on power of the tariff, for the calendar month or the account's part of it."""
        account = self.accounts[event["account"]]
        end_day = self.local_day(event["at"])
        month = datetime.fromordinal(end_day - 1 + datetime(1970, 1, 1).toordinal()).replace(day=1)
        month_day = month.toordinal() - datetime(1970, 1, 1).toordinal()
        first_day = max(month_day, account.opened_day)
        self.expect("a month of the calendar", account.policy["issue_day"], 0)
        whole = first_day == month_day and datetime.fromtimestamp(event["at"], self.zone).day == 1
        self.expect("the days", (event["first_day"], event["end_day"]), (first_day, end_day))
        self.expect("power_w_max", event["power_w_max"], account.power_w_max)
        row, lines = self.site_accounts[account.name], []
        for charge in account.tariff.demands:
            price, days = exact(charge["prices"][0], 10**6), None if whole else end_day - first_day
            if charge["kind"] == "measured":
                basis_w, days = account.power_w_max, None
            else:
                basis_w = row["capacity_va" if charge["kind"] == "capacity" else "contract_w"]
            if not basis_w:
                continue
            power_w, over = Fraction(basis_w), charge.get("over_contract")
            if over is not None and account.power_w_max is not None:
                threshold_w = basis_w * Fraction(over["threshold_percent"]) / 100
                if account.power_w_max > threshold_w:
                    excess_w = account.power_w_max - threshold_w
                    power_w = Fraction(account.power_w_max + half_away((over["factor"] - 1) * excess_w))
            divisor = None if days is None else charge["day_divisor"]
            amount_nano = half_away(power_w * price * (1 if days is None else Fraction(days, charge["day_divisor"])))
            lines.append((charge["name"], charge["kind"], int(power_w), basis_w, days, divisor, amount_nano))
        fields = ("name", "kind", "power_w", "basis_w", "days", "day_divisor", "amount_nano")
        self.expect("the lines", [tuple(line[name] for name in fields) for line in event["lines"]], lines)
        self.expect("posting_nano", event["posting_nano"], -sum(line[-1] for line in lines))
        account.power_w_max = None
        account.month_nano -= event["posting_nano"]
        if account.frozen_at == event["at"]:
            account.frozen_live_nano = account.live_nano

    def measure_power(self, account: Account, clock: JsonObject) -> None:
        """The mean power between two reading records about a window apart, by time since boot."""
        now = (clock["boot_id"], clock["elapsed_ms"], account.recorded_wh)
        base = account.power_base
        if base is None or base[0] != now[0] or now[2] < base[2]:
            account.power_base = now
            return
        passed_ms = now[1] - base[1]
        if passed_ms < POWER_WINDOW_MS - POWER_EARLY_MS:
            return
        if passed_ms <= 2 * POWER_WINDOW_MS:
            power_w = (now[2] - base[2]) * MS_PER_HOUR // passed_ms
            account.power_w_max = max(power_w, account.power_w_max or 0)
        account.power_base = now

    def debt_set(self, event: JsonObject) -> None:
        account, debt = self.accounts[event["account"]], event["debt"]
        account.debts_nano[debt] += event["change_nano"]
        self.expect(f"the debt {debt}", event["amount_nano"], account.debts_nano[debt])

    def instalments_agreed(self, event: JsonObject) -> None:
        account = self.accounts[event["account"]]
        self.expect("no plan before it", account.instalments, [])
        total_nano = sum(part["amount_nano"] for part in event["parts"])
        self.expect("a plan within the old debt", 0 < total_nano <= account.debts_nano["old"], True)
        account.instalments, account.instalment = list(event["parts"]), 1

    def instalment_due(self, event: JsonObject) -> None:
        account = self.accounts[event["account"]]
        part = account.instalments.pop(0)
        self.expect("number", event["number"], account.instalment)
        self.expect("due_day", event["due_day"], part["due_day"])
        self.expect("due by then", event["due_day"] <= self.local_day(event["at"]), True)
        self.expect("change_nano", event["change_nano"], min(part["amount_nano"], account.debts_nano["old"]))
        account.instalment += 1
        account.debts_nano["old"] -= event["change_nano"]
        account.debts_nano["accumulated"] += event["change_nano"]

    def daily_charge_posted(self, event: JsonObject) -> None:
        """Each charge once for each day; what is not taken from the money is owed as accumulated debt."""
        account, charge = self.accounts[event["account"]], event["charge"]
        key, end_day = f"{charge}/{event['name']}", self.local_day(event["at"])
        self.expect("the midnight", event["at"], account.frozen_at)
        first_day = event["first_day"]
        self.expect("days not charged before", account.charged_to_day.get(key, first_day) <= first_day < end_day, True)
        account.charged_to_day[key] = end_day
        self.expect("count", 1 <= event["count"] <= end_day - first_day, True)
        amount_nano, accumulated_nano = event["amount_nano"], event["accumulated_nano"]
        self.expect("parts of the charge", 0 <= accumulated_nano <= amount_nano, True)
        self.expect("posting_nano", event["posting_nano"], accumulated_nano - amount_nano)
        account.debts_nano["accumulated"] += accumulated_nano
        if charge in DEBTS:
            self.expect(f"{charge} within what is owed", amount_nano <= account.debts_nano[charge], True)
            account.debts_nano[charge] -= amount_nano
        else:
            self.expect("charge", charge, "standing")
            account.standing_nano += amount_nano
        account.frozen_live_nano = account.live_nano

    def minimum_bill_posted(self, event: JsonObject) -> None:
        account = self.accounts[event["account"]]
        self.expect("the minimum of the bill before", event["posting_nano"], -account.minimum_nano)
        account.minimum_nano = 0

    def emergency_selected(self, event: JsonObject) -> None:
        account = self.accounts[event["account"]]
        terms = account.policy["credit"]
        self.expect("limit_nano", event["limit_nano"], terms["emergency_limit_nano"])
        self.expect_figures(event, account)
        offered = account.live_nano < terms["emergency_threshold_nano"] and not account.emergency
        self.expect("emergency credit that is offered", offered and event["limit_nano"] > 0, True)
        account.emergency = True

    def emergency_drawn(self, event: JsonObject) -> None:
        account = self.accounts[event["account"]]
        self.expect_figures(event, account)
        self.expect("change_nano", event["change_nano"], event["used_nano"] - account.emergency_used_nano)
        limit_nano = account.policy["credit"]["emergency_limit_nano"] if account.emergency else 0
        self.expect("used_nano within the limit", 0 <= event["used_nano"] <= limit_nano, True)
        account.emergency_used_nano = event["used_nano"]

    def emergency_given_back(self, event: JsonObject) -> None:
        account = self.accounts[event["account"]]
        reached = event["live_balance_nano"] >= account.policy["credit"]["emergency_threshold_nano"]
        self.expect("a balance at the emergency threshold", account.emergency and reached, True)
        self.expect("a balance within the account", event["live_balance_nano"] <= account.live_nano, True)
        account.emergency, account.emergency_used_nano = False, 0

    def purchase_order_applied(self, event: JsonObject) -> None:
        account, number = self.accounts[event["account"]], event["number"]
        if number in account.purchase_orders:
            self.complain(f"purchase order {number} is applied a second time")
        account.purchase_orders.add(number)
        account.credit_nano = event["posting_nano"]
        self.expect_figures(event, account)
        self.expect("unit", event["unit"], account.policy["credit"]["unit"])
        account.trip_nano = account.trip_nano if event["trip_nano"] is None else event["trip_nano"]
        if event["operation"] == "append":
            self.expect("posting_nano", event["posting_nano"], event["value_nano"])
        else:
            self.expect("what is left", account.live_nano, event["value_nano"])

    def tenant_changed(self, event: JsonObject) -> None:
        account = self.accounts[event["account"]]
        former = {
            "payment": event["former_payment_debt_nano"],
            "time_1": event["former_time_1_nano"],
            "time_2": event["former_time_2_nano"],
            "accumulated": event["former_accumulated_nano"],
            "old": event["former_old_debt_nano"],
        }
        self.expect("the former tenant's debts", former, account.debts_nano)
        self.expect("his balance", event["former_balance_nano"], account.money_nano - event["posting_nano"])
        self.expect("his reserved credit", event["former_reserved_nano"], account.reserved_nano)
        self.expect("register_wh", event["register_wh"], account.recorded_wh)
        self.expect("a last bill", account.estimate_nano, 0)
        account.billed_for_change = False
        account.debts_nano, account.instalments = dict.fromkeys(DEBTS, 0), []
        account.bought_wh = account.bought_first_day = account.bought_rest_nano = 0
        account.open_bills, account.late_nano = [], 0
        account.opened_day = self.local_day(event["register_at"])
        account.reserved_nano = account.standing_nano = account.emergency_used_nano = 0
        account.granted_nano = {}
        account.emergency, account.mean, account.episode, account.trip_nano = False, None, None, 0
        account.position.energy_wh = [0]
        account.issue_at, account.issue_wh = event["register_at"], event["register_wh"]

    def payment_mode_changed(self, event: JsonObject) -> None:
        account = self.accounts[event["account"]]
        self.see_clock(event["clock"])
        self.expect_figures(event, account)
        account.emergency, account.emergency_used_nano, account.episode = False, 0, None
        account.credit_mode = event["mode"] == "credit"

    def correction_posted(self, event: JsonObject) -> None:
        self.expect("two signatures", len(set(event["signed_by"])) > 1 and "" not in event["signed_by"], True)
        self.expect("a correction that names a record", bool(event["reference"] and event["posting_nano"]), True)

    def reserved_credit_moved(self, event: JsonObject) -> None:
        account = self.accounts[event["account"]]
        account.reserved_nano += event["change_nano"]
        self.expect(
            "reserved_nano", (event["reserved_nano"], account.reserved_nano >= 0), (account.reserved_nano, True)
        )
        self.expect("posting_nano", event["posting_nano"], -event["change_nano"])

    def granted_credit_spent(self, event: JsonObject) -> None:
        account = self.accounts[event["account"]]
        for name, amount_nano in event["spent"]:
            account.granted_nano[name] = account.granted_nano.get(name, 0) - amount_nano
            self.expect(f"{name} within what is left of it", account.granted_nano[name] >= 0 < amount_nano, True)

    def granted_credit_lapsed(self, event: JsonObject) -> None:
        account = self.accounts[event["account"]]
        self.expect("posting_nano", event["posting_nano"], -account.granted_nano.get(event["credit"], 0))
        account.granted_nano[event["credit"]] = 0
        account.frozen_live_nano = account.live_nano

    def credit_period_began(self, event: JsonObject) -> None:
        account, name = self.accounts[event["account"]], event["credit"]
        grants = {grant["name"]: grant for grant in account.policy["credit"]["grants"]}
        self.expect("a grant of the policy, or none", event["posting_nano"] in (0, grants[name]["amount_nano"]), True)
        account.granted_nano[name] = account.granted_nano.get(name, 0) + event["posting_nano"]
        account.frozen_live_nano = account.live_nano

    def local_day(self, at: int) -> int:
        """Days from 1970-01-01 to the local date at an instant."""
        return datetime.fromtimestamp(at, self.zone).toordinal() - datetime(1970, 1, 1).toordinal()

    def order_answered(self, event: JsonObject) -> None:
        cid = event["cid"]
        if cid in self.answers:
            self.complain(f"order {cid} is answered a second time")
        self.answers[cid] = event
        assert self.record is not None
        self.result_bodies[cid] = bytes(self.record.body)
        if event["type"] == "OrderApplied" and event["order_type"] == "credit":
            paid = self.paid or {}
            self.expect("the payment behind it", (event["account"], event["at"]), (paid.get("account"), paid.get("at")))
        elif self.paid is not None:
            self.complain("answers another order than the payment before it")
        obeyed = "revoked" if event["order_type"] == "revoke" else "applied"
        wanted = obeyed if event["type"] == "OrderApplied" else "rejected"
        self.expect("result", event["result"], wanted)
        self.paid = None

    # --- energy ---

    def readings_recorded(self, event: JsonObject) -> None:
        self.expect("at", event["at"], event["clock"]["at"])
        self.see_clock(event["clock"])
        self.expect("each account once", len(set(event["accounts"])), len(event["accounts"]))
        columns = ("register_at", "register_wh", "lines", "cycle_energy_wh", "cycle_start_at", "estimated")
        rows = zip(event["accounts"], *(event[name] for name in columns), strict=True)
        for name, at, register_wh, lines, cycle_energy_wh, cycle_start_at, estimated in rows:
            account = self.accounts[name]
            if account.tariff.next_midnight(account.recorded_at) <= at:
                self.complain(f"{name}: is recorded over a midnight without a freeze")
            self.charge(account, at, register_wh, lines, (cycle_energy_wh, cycle_start_at, estimated))
            if account.tariff.measures:
                self.measure_power(account, event["clock"])

    def register_frozen(self, event: JsonObject) -> None:
        account, at = self.accounts[event["account"]], event["at"]
        midnight_at = account.tariff.next_midnight(account.recorded_at)
        change_at = min((max(at, account.recorded_at + 1) for at, _ in account.pending), default=midnight_at)
        daily = at == midnight_at
        self.expect("the midnight or the change of tariff", at, min(midnight_at, change_at))
        self.expect("occasion", event["occasion"], "daily" if daily else "tariff_change")
        self.expect("a quality we know", event["quality"] in FREEZE_QUALITIES, True)
        self.expect("energy_wh", event["energy_wh"], event["register_wh"] - account.recorded_wh)
        self.expect("day_energy_wh", event["day_energy_wh"], event["register_wh"] - account.frozen_wh)
        after = (event["cycle_energy_wh"], event["cycle_start_at"], event["estimated"])
        self.charge(account, at, event["register_wh"], event["lines"], after)
        self.expect("estimate_nano", event["estimate_nano"], account.estimate_nano)
        self.expect("live_balance_nano", event["live_balance_nano"], account.live_nano)
        if not daily:
            return
        account.frozen_at, account.frozen_wh = at, event["register_wh"]
        account.frozen_live_nano = event["live_balance_nano"]
        day = datetime.fromtimestamp(at, self.zone).day
        if day == account.policy["issue_day"] + 1 and at > account.issue_at:
            account.due = ("BillIssued", at)

    def charge(self, account: Account, at: int, register_wh: int, lines: list[JsonObject], after: object) -> None:
        """Moves an account to a register, with what that must cost."""
        position, energy_wh = account.position, register_wh - account.recorded_wh
        if (at, energy_wh) == (account.recorded_at, 0) and position.cycle_start_at is not None:
            if lines or after != (position.energy_wh, position.cycle_start_at, False):
                self.complain(f"{account.name}: the same reading is recorded again, and not the same")
            return
        if energy_wh < 0 or at < account.recorded_at:
            self.complain(f"{account.name}: goes back from {account.recorded_wh} to {register_wh} Wh")
            return
        if account.hold and energy_wh:
            self.complain(f"{account.name}: is charged while its register cannot be believed")
        rated = account.tariff.rate(position, account.recorded_at, at, energy_wh)
        wanted = self.lines_of(account.tariff, rated)
        if lines != wanted:
            self.complain(f"{account.name}: the cost of {energy_wh} Wh is {lines}, by these books {wanted}")
        reached = (position.energy_wh, position.cycle_start_at, rated.estimated)
        if after != reached:
            self.complain(f"{account.name}: the cycle is at {after}, by these books {reached}")
        account.recorded_at, account.recorded_wh = at, register_wh
        account.estimate_nano += rated.amount_nano
        account.charged_ever_wh += energy_wh
        for (period, block), share_wh in rated.lines.items():
            key = (period, block, account.tariff.price_of[period, block])
            account.charged[key] = account.charged.get(key, 0) + share_wh

    def lines_of(self, tariff: Tariff, rated: Rated) -> list[JsonObject]:
        """As a record must list them: in the order of the tariff's periods, then of the blocks."""
        if not rated.lines:
            return []
        names = tariff.names
        lines = []
        for (period, block), share_wh in sorted(rated.lines.items(), key=lambda line: (names.index(line[0][0]), line)):
            price = tariff.price_of[period, block]
            lines.append(
                {
                    "period": period,
                    "block": block,
                    "energy_wh": share_wh,
                    "price_micro_per_kwh": price,
                    "amount_nano": share_wh * price,
                }
            )
        return lines

    def bill_issued(self, event: JsonObject) -> None:
        account, at = self.accounts[event["account"]], event["at"]
        if account.due is None:  # up to a reading, for the change of tenant or the payment that follows
            self.expect("a bill up to the newest reading", at, account.recorded_at)
            account.billed_for_change = True
        else:
            self.expect("the freeze before the bill", account.due, ("BillIssued", at))
        wanted = [
            (period, block, wh, price, wh * price) for (period, block, price), wh in sorted(account.charged.items())
        ]
        fields = ("period", "block", "energy_wh", "price_micro_per_kwh", "amount_nano")
        self.expect("the lines", [tuple(line[name] for name in fields) for line in event["lines"]], wanted)
        amount_nano = sum(line[4] for line in wanted)
        self.expect("amount_nano", event["amount_nano"], amount_nano)
        self.expect("what was estimated before", account.estimate_nano, amount_nano)
        self.expect("posting_nano", event["posting_nano"], -amount_nano)
        self.expect("energy_wh", event["energy_wh"], sum(account.charged.values()))
        self.expect("energy_wh", event["energy_wh"], account.recorded_wh - account.issue_wh - account.uncharged_wh)
        self.expect("issued_from", event["issued_from"], account.issue_at)
        self.expect("register_from_wh", event["register_from_wh"], account.issue_wh)
        self.expect("register_to_wh", event["register_to_wh"], account.recorded_wh)
        self.expect("days", event["days"], max(1, (at - account.issue_at) // SECONDS_PER_DAY))
        self.expect("estimate_nano", event["estimate_nano"], 0)
        minimum_nano = event.get("minimum_nano", 0)
        self.expect("standing_nano", event.get("standing_nano", 0), account.standing_nano)
        self.expect("minimum_nano of at least 0", minimum_nano >= 0, True)
        self.expect("bought_nano", event.get("bought_nano", 0), account.bought_nano)
        self.expect("month_nano", event.get("month_nano", 0), account.month_nano)
        total_nano = amount_nano + account.standing_nano + account.bought_nano + account.month_nano + minimum_nano
        bill_minor = half_away(Fraction(total_nano, self.minor_nano))
        self.expect("bill_minor", event["bill_minor"], bill_minor)
        rounding_nano = total_nano - bill_minor * self.minor_nano
        after_nano = account.money_nano - minimum_nano + rounding_nano
        open_nano, due_day = self.left_open(account, at, bill_minor * self.minor_nano, after_nano)
        found = (event.get("open_nano", 0), event.get("due_day", 0))
        self.expect("what the bill leaves open", found, (open_nano, due_day))
        if open_nano:
            account.open_bills.append(OpenBill(open_nano, due_day))
        if len(account.open_bills) > OPEN_BILLS_MAX:  # the two oldest are one from here on
            oldest = account.open_bills.pop(0)
            one = account.open_bills[0]
            one.amount_nano += oldest.amount_nano
            one.due_day = max(one.due_day, oldest.due_day)
            one.by_days_nano += oldest.by_days_nano
            one.charged_nano += oldest.charged_nano
        account.late_posted_nano = 0
        account.minimum_nano, account.standing_nano, account.bought_nano, account.month_nano = minimum_nano, 0, 0, 0
        account.due = ("RoundingPosted", rounding_nano) if rounding_nano else None
        account.mean = (event["energy_wh"], event["days"])
        account.issue_at, account.issue_wh, account.uncharged_wh = at, account.recorded_wh, 0
        account.estimate_nano, account.charged = 0, {}

    def rounding_posted(self, event: JsonObject) -> None:
        account = self.accounts[event["account"]]
        self.expect("the rounding of the bill before", account.due, ("RoundingPosted", event["posting_nano"]))
        self.expect("a balance in whole minor units", account.money_nano % self.minor_nano, 0)
        account.due = None

    def hold_raised(self, event: JsonObject) -> None:
        account = self.accounts[event["account"]]
        self.expect("recorded_wh", event["recorded_wh"], account.recorded_wh)
        account.hold = True

    def hold_cleared(self, event: JsonObject) -> None:
        account = self.accounts[event["account"]]
        self.expect("uncharged_wh", event["uncharged_wh"], event["register_wh"] - account.recorded_wh)
        account.uncharged_wh += event["uncharged_wh"]
        account.frozen_wh += event["uncharged_wh"]
        account.recorded_at, account.recorded_wh = event["register_at"], event["register_wh"]
        account.hold = False

    def tariff_accepted(self, event: JsonObject) -> None:
        """The street's own document as it lies there; another by its own text, once for each version."""
        key, text = event["tariff"], event["document"]
        if key in self.tariffs:
            self.complain(f"tariff {key} is accepted a second time")
        if key == self.tariff.key:
            self.expect("the tariff document", text, self.folder.tariff_text)
        tariff = tariff_of(text, self.zone, *self.span)
        self.expect("the name of the tariff", key, tariff.key)
        self.tariffs[key] = tariff

    def tariff_scheduled(self, event: JsonObject) -> None:
        self.expect("a tariff that was accepted", event["tariff"] in self.tariffs, True)
        pending = self.accounts[event["account"]].pending
        if (event["effective_at"], event["tariff"]) not in pending:
            pending.append((event["effective_at"], event["tariff"]))

    def tariff_activated(self, event: JsonObject) -> None:
        """A tariff that was scheduled takes over at a freeze. Blocks go on; power is measured on or anew."""
        account, key, at = self.accounts[event["account"]], event["tariff"], event["at"]
        due = [entry for entry in account.pending if entry[1] == key and entry[0] <= at]
        self.expect("a tariff that was scheduled, from here on", bool(due), True)
        account.pending = [entry for entry in account.pending if entry not in due]
        self.expect("a freeze before it", at, account.recorded_at)
        self.expect("cycle_energy_wh", event["cycle_energy_wh"], account.position.energy_wh)
        before, account.tariff = account.tariff, self.tariffs[key]
        self.expect("demand_window_s", event.get("demand_window_s", 0) > 0, account.tariff.measures)
        if before.measures != account.tariff.measures:
            account.power_w_max = account.power_base = None
        basis_micro = account.tariff.sold[1][0] if account.tariff.sold else 0
        if basis_micro != account.basis_micro and account.policy["credit"]["unit"] == "money":
            account.due = ("BoughtEnergyRepriced", at)

    # --- notices ---

    def notice_raised(self, event: JsonObject) -> None:
        account, number = self.accounts[event["account"]], event["number"]
        threshold_nano = account.threshold_nano
        self.expect_figures(event, account)
        register = (event["register_at"], event["register_wh"])
        self.expect("the register", register, (account.recorded_at, account.recorded_wh))
        self.expect("reserve_nano", event["reserve_nano"], self.reserve_nano(account))
        episode = account.episode
        if number == 1:
            fits = episode is None and threshold_nano <= account.live_nano < event["reserve_nano"]
        elif number == 2:
            fits = 2 not in (episode or {}) and account.live_nano < threshold_nano
        else:
            wait_s = self.grace_s(account) - 60 * account.policy["pre_cut_notice_minutes"]
            fits = number == 3 and 3 not in (episode or {}) and account.live_nano < threshold_nano
            fits = fits and self.passed_since(account, 2, event["at"]) >= wait_s - CLOCK_GRAIN_S
        self.expect(f"the ground for notice {number}", fits, True)
        account.episode = {**(episode or {}), number: Notice(event["at"])}

    def reserve_nano(self, account: Account) -> int:
        """What the mean day's energy will cost for the reserve's days, from the recorded register on."""
        days = account.policy["reserve_days"]
        passed_s = account.recorded_at - account.issue_at
        if account.mean is not None:
            energy_wh = account.mean[0] * days // account.mean[1]
        elif passed_s < SECONDS_PER_DAY:
            energy_wh = account.policy["daily_energy_default_wh"] * days
        else:
            energy_wh = sum(account.charged.values()) * days * SECONDS_PER_DAY // passed_s
        position = Position(list(account.position.energy_wh), account.position.cycle_start_at)
        end_at = account.recorded_at + days * SECONDS_PER_DAY
        return account.tariff.rate(position, account.recorded_at, end_at, energy_wh).amount_nano

    def notice_delivered(self, event: JsonObject) -> None:
        account, number = self.accounts[event["account"]], event["number"]
        notice = (account.episode or {})[number]
        self.see_clock(event["receipt"])
        self.expect("a first receipt", notice.receipt, None)
        self.expect("raised before it was delivered", notice.raised_at <= event["at"] == event["receipt"]["at"], True)
        if event["proof"] == "cloud_receipt":
            self.receipt_of = account.name
        elif account.policy["notice_proof"] == "cloud_receipt" or not event.get("actor"):
            self.expect("proof", event["proof"], account.policy["notice_proof"])
        grace_s = event["grace_elapsed_s"]
        most_s = self.passed_since(account, 2, event["at"]) + CLOCK_GRAIN_S if number == 3 else 0
        self.expect("a grace that was not shortened", 0 <= grace_s <= most_s, True)
        notice.receipt = event["receipt"]

    def episode_closed(self, event: JsonObject) -> None:
        account = self.accounts[event["account"]]
        restored = 2 in (account.episode or {})
        self.expect("an episode to close", account.episode is not None, True)
        self.expect("reason", event["reason"], "balance_restored" if restored else "reserve_restored")
        self.expect("a balance that closes it", account.threshold_nano <= event["live_balance_nano"], True)
        self.expect("a balance within the account", event["live_balance_nano"] <= account.live_nano, True)
        account.episode = None

    def case_escalated(self, event: JsonObject) -> None:
        account = self.accounts[event["account"]]
        self.expect_figures(event, account)
        passed_s = self.passed_since(account, 2, event["at"])
        self.expect("the ground for it", account.protected and passed_s >= self.grace_s(account) - CLOCK_GRAIN_S, True)

    def expect_figures(self, event: JsonObject, account: Account) -> None:
        self.expect("live_balance_nano", event["live_balance_nano"], account.live_nano)

    def grace_s(self, account: Account) -> int:
        return int(account.policy["grace_hours"]) * SECONDS_PER_HOUR

    def passed_since(self, account: Account, number: int, at: int) -> int:
        """Seconds since receipt of a notice: the least of wall time and time since boot. -1 without a receipt."""
        notice = (account.episode or {}).get(number)
        if notice is None or notice.receipt is None or self.clock is None:
            return -1
        receipt, clock = notice.receipt, self.clock
        wall_s = at - int(receipt["at"])
        if clock["boot_id"] != receipt["boot_id"]:
            trusted = all(reading["quality"] in ("ntp", "rtc") for reading in (clock, receipt))
            return wall_s if trusted else 0
        boot_s = (int(clock["elapsed_ms"]) - int(receipt["elapsed_ms"])) // 1000 + at - int(clock["at"])
        return min(wall_s, boot_s)

    def see_clock(self, clock: JsonObject) -> None:
        """Within a boot, wall time and time since boot go on together: this street's clock is never set."""
        last = self.clock
        self.expect("boot", clock["boot_id"], self.folder.boot_id)
        if last is not None and last["boot_id"] == clock["boot_id"]:
            passed_ms = clock["elapsed_ms"] - last["elapsed_ms"]
            apart_ms = abs(passed_ms - 1000 * (clock["at"] - last["at"]))
            self.expect("a clock that goes on", apart_ms <= 1000 * CLOCK_GRAIN_S, True)
            if passed_ms < 0:
                return  # taken before, written after: the newer one stays
        self.clock = clock

    # --- supply ---

    def disconnect_control_changed(self, event: JsonObject) -> None:
        account, trigger = self.accounts[event["account"]], event["trigger"]
        wanted = SUPPLY.get((account.control_state, trigger))
        self.expect(f"{trigger} of a supply that is {account.control_state}", event["control_state"], wanted)
        if trigger == "local_reconnect" and account.armed:
            self.complain(f"{account.name} is armed and is switched on by nobody")
        if trigger == "local_disconnect":
            self.cut(event, account)
        elif trigger == "local_reconnect":
            self.expect("a local reason that stands", account.local_reason, None)
            self.expect("local_reason", event["local_reason"], None)
            self.expect("a balance to reconnect on", event["live_balance_nano"] >= account.cut_below_nano, True)
            self.expect("a balance within the account", event["live_balance_nano"] <= account.live_nano, True)
            self.expect("a register that goes on", event["register_wh"] >= account.recorded_wh, True)
        elif trigger == "manual_reconnect":
            self.key_press(event, account)
        elif account.protected or (account.keep_supply and account.control_state == "connected"):
            self.complain(f"{account.name} is protected or kept and is switched by {trigger}")
        account.armed = trigger == "remote_reconnect" and event["reason"] == "armed"
        account.control_state = event["control_state"]

    def key_press(self, event: JsonObject, account: Account) -> None:
        """A person with a name, no local reason, and credit or a grace that still runs."""
        self.expect("somebody who pressed the key", bool(event.get("actor")), True)
        self.expect("a local reason that stands", account.local_reason, None)
        grace = account.policy["legal_profile"] != "prepayment_immediate"
        in_grace = grace and self.passed_since(account, 2, event["at"]) < self.grace_s(account) + CLOCK_GRAIN_S
        self.expect("credit or grace", account.live_nano >= account.cut_below_nano or in_grace, True)

    def cut(self, event: JsonObject, account: Account) -> None:
        """A cut for want of credit: everything that must have come before it."""
        at, policy = event["at"], account.policy
        if account.protected or account.keep_supply or account.hold:
            self.complain(f"{account.name} is cut although it is protected, kept or on hold")
        standing = sorted(kind for kind, until in account.holds.items() if until is None or at < until)
        self.expect("reasons against this cut", standing, [])
        self.expect("a policy that is over", account.policy_over, False)
        self.expect_figures(event, account)
        self.expect("a balance to cut on", account.live_nano < account.cut_below_nano, True)
        self.expect("register_wh", event["register_wh"], account.recorded_wh)
        fresh = 0 <= at - account.recorded_at <= policy["cut_reading_age_s_max"]
        self.expect("a reading just before the cut", fresh, True)
        self.expect("the grace", self.passed_since(account, 2, at) >= self.grace_s(account) - CLOCK_GRAIN_S, True)
        lead_s = 60 * policy["pre_cut_notice_minutes"]
        self.expect("the last notice", self.passed_since(account, 3, at) >= lead_s - CLOCK_GRAIN_S, True)
        share = policy["cuts_per_hour_hundredths_of_percent"]
        most = max(1, len(self.accounts) * share // 10_000)
        recent = sum(earlier > at - SECONDS_PER_HOUR for earlier, _ in self.cuts)
        self.expect("the number of cuts in an hour", recent < most, True)
        account.local_reason = event["local_reason"]
        self.expect("local_reason", event["local_reason"], "no_credit")
        self.cuts.append((at, account.name))

    def local_reason_cleared(self, event: JsonObject) -> None:
        account = self.accounts[event["account"]]
        self.expect("a local reason to clear", account.local_reason is not None, True)
        self.expect("a balance that clears it", event["live_balance_nano"] >= account.cut_below_nano, True)
        self.expect("a balance within the account", event["live_balance_nano"] <= account.live_nano, True)
        account.local_reason = None

    def keep_supply_changed(self, event: JsonObject) -> None:
        self.accounts[event["account"]].keep_supply = event["keep"]

    def supply_hold_changed(self, event: JsonObject) -> None:
        account, kind = self.accounts[event["account"]], event["kind"]
        self.expect("a reason with a reference", bool(event["reference"]), True)
        account.holds.pop(kind, None)
        if event["stands"]:
            self.expect("an end of the weather", kind != "weather_hold" or event["until"] is not None, True)
            account.holds[kind] = event["until"]

    # --- policies ---

    def policy_accepted(self, event: JsonObject) -> None:
        """Stored once, as an ops key signed it, under its own name."""
        document = json.loads(event["document"])
        roles = {key["kid"]: key["role"] for key in self.folder.keys}
        self.expect("a policy of an ops key", roles.get(event["signed_by"]), "ops")
        self.expect("its name", event["policy"], f"{document['policy_id']}@{document['version']}")
        self.expect("a policy that was not stored", event["policy"] in self.policies, False)
        self.policies[event["policy"]] = document

    def policy_set(self, event: JsonObject) -> None:
        """Whatever whole numbers its document states are in force, the risk level's before the normal ones."""
        account, policy, level = self.accounts[event["account"]], event["policy"], event["risk_level"]
        document = self.policies[f"{policy['policy_id']}@{policy['version']}"]
        stated = [bool(level), event["risk_policy"] is not None, event["risk_until"] is not None]
        self.expect("a risk level with policy and end, or none", len(set(stated)), 1)
        terms = {"policy": (policy, document.get("policy", {}))}
        if level:
            harsher = document.get("policy", {}) | document["risk_levels"][level]
            terms[f"risk level {level}"] = (event["risk_policy"], harsher)
        for name, (found, wanted) in terms.items():
            numbers = {key: value for key, value in wanted.items() if type(value) is int and key in found}
            self.expect(f"the {name}", {key: found[key] for key in numbers}, numbers)
            self.expect("the unit", found["credit"]["unit"], account.policy["credit"]["unit"])
        account.policy, account.policy_over = event["risk_policy"] or policy, False
        account.normal_policy, account.risk = (policy, (level, event["risk_until"])) if level else (None, None)

    def policy_ended(self, event: JsonObject) -> None:
        """Known to be over for good: no cut until another one is set."""
        account = self.accounts[event["account"]]
        policy = account.policy
        wanted = (f"{policy['policy_id']}@{policy['version']}", policy["valid_until"])
        self.expect("the policy that ended", (event["policy"], event["valid_until"]), wanted)
        self.expect("an end that has passed", event["known_at"] >= event["valid_until"], True)
        account.policy_over = True

    def risk_level_expired(self, event: JsonObject) -> None:
        account = self.accounts[event["account"]]
        level, until = account.risk or ("", sys.maxsize)
        self.expect("a risk level that is over", (event["risk_level"], event["at"] >= until), (level, True))
        account.policy = account.normal_policy or account.policy
        account.normal_policy = account.risk = None

    def output_state_observed(self, event: JsonObject) -> None:
        account = self.accounts[event["account"]]
        self.expect("wanted", event["wanted"], account.control_state == "connected")
        self.expect("a change of the output", event["connected"] is not account.output, True)
        if account.protected:
            self.expect(f"the supply of {account.name}, which is protected,", event["connected"], True)
        account.output = event["connected"]

    def noted(self, event: JsonObject) -> None:
        """Says what happened and moves nothing."""

    def never_here(self, event: JsonObject) -> None:
        """Whatever these books do not know: the site book is not rewritten in this street's story, no meter changed."""
        self.complain(f"{event['type']} has no place in this story")


def half_away(value: Fraction) -> int:
    """To the nearest whole number, half away from zero."""
    whole = (2 * abs(value) + 1) // 2
    return whole if value >= 0 else -whole


HANDLERS: Mapping[str, tuple[str, Any]] = {
    "AccountOpened": ("led", Books.account_opened),
    "PaymentApplied": ("led", Books.payment_applied),
    "PaymentReversed": ("led", Books.payment_reversed),
    "PaymentRefused": ("evt", Books.payment_refused),
    "RegisterFrozen": ("led", Books.register_frozen),
    "BillIssued": ("led", Books.bill_issued),
    "RoundingPosted": ("led", Books.rounding_posted),
    "NoticeRaised": ("led", Books.notice_raised),
    "NoticeDelivered": ("led", Books.notice_delivered),
    "EpisodeClosed": ("led", Books.episode_closed),
    "CaseEscalated": ("led", Books.case_escalated),
    "CutDeferred": ("evt", Books.noted),
    "DisconnectControlChanged": ("led", Books.disconnect_control_changed),
    "LocalReasonCleared": ("led", Books.local_reason_cleared),
    "KeepSupplyChanged": ("led", Books.keep_supply_changed),
    "SupplyHoldChanged": ("led", Books.supply_hold_changed),
    "PolicyAccepted": ("led", Books.policy_accepted),
    "PolicySet": ("led", Books.policy_set),
    "RiskLevelExpired": ("led", Books.risk_level_expired),
    "PolicyEnded": ("led", Books.policy_ended),
    "HoldRaised": ("led", Books.hold_raised),
    "HoldCleared": ("led", Books.hold_cleared),
    "TariffAccepted": ("led", Books.tariff_accepted),
    "ReadingsRecorded": ("rdg", Books.readings_recorded),
    "OrderApplied": ("res", Books.order_answered),
    "OrderRefused": ("res", Books.order_answered),
    "OutputStateObserved": ("evt", Books.output_state_observed),
    "ConditionNoted": ("evt", Books.noted),
    "PaymentAllocated": ("led", Books.payment_allocated),
    "AllocationReversed": ("led", Books.allocation_reversed),
    "EnergyBought": ("led", Books.energy_bought),
    "BoughtEnergyReturned": ("led", Books.bought_energy_returned),
    "BoughtEnergyRepriced": ("led", Books.bought_energy_repriced),
    "TariffScheduled": ("led", Books.tariff_scheduled),
    "TariffActivated": ("led", Books.tariff_activated),
    "BillsSettled": ("led", Books.bills_settled),
    "LateChargePosted": ("led", Books.late_charge_posted),
    "DemandChargePosted": ("led", Books.demand_charge_posted),
    "DebtSet": ("led", Books.debt_set),
    "InstalmentsAgreed": ("led", Books.instalments_agreed),
    "InstalmentDue": ("led", Books.instalment_due),
    "DailyChargePosted": ("led", Books.daily_charge_posted),
    "MinimumBillPosted": ("led", Books.minimum_bill_posted),
    "EmergencyCreditSelected": ("led", Books.emergency_selected),
    "EmergencyCreditDrawn": ("led", Books.emergency_drawn),
    "EmergencyCreditGivenBack": ("led", Books.emergency_given_back),
    "PurchaseOrderApplied": ("led", Books.purchase_order_applied),
    "TenantChanged": ("led", Books.tenant_changed),
    "PaymentModeChanged": ("led", Books.payment_mode_changed),
    "CorrectionPosted": ("led", Books.correction_posted),
    "ReservedCreditMoved": ("led", Books.reserved_credit_moved),
    "GrantedCreditSpent": ("led", Books.granted_credit_spent),
    "GrantedCreditLapsed": ("led", Books.granted_credit_lapsed),
    "CreditPeriodBegan": ("led", Books.credit_period_began),
    "MonthCounted": ("led", Books.noted),
    "RequestRefused": ("evt", Books.noted),
}


# --- the meters ------------------------------------------------------------------------------

# The billed register of each model, from the vendors' documents: function code, address, type, Wh per unit.
BILLED = {
    "eastron_sdm120": (4, 72, "f32", 1000),
    "eastron_sdm630": (4, 72, "f32", 1000),
    "chint_ddsu666": (3, 0x4000, "f32", 1000),
    "chint_dtsu666": (3, 0x101E, "f32", 1000),
    "hiking_dds238_2": (3, 10, "u32", 10),
}
FORMATS = {"f32": ">f", "u32": ">I"}


def meter_violations(folder: Folder, books: Books) -> Iterator[str]:
    """The virtual registers against the street they belong to, and against what the books charged."""
    meters = folder.registers["meters"]
    wanted = {meter["meter_id"]: (line["id"], meter) for line in folder.street["lines"] for meter in line["devices"]}
    area = folder.street["area_meter"]
    if folder.registers["area_meter_id"] != area["meter_id"] or meters.keys() != wanted.keys() | {area["meter_id"]}:
        yield "the meters that were read out are not those of the street"
        return
    for meter_id, (line_id, spec) in [*wanted.items(), (area["meter_id"], (area["line"], area))]:
        try:
            yield from (f"{meter_id}: {text}" for text in reading_violations(meters[meter_id], line_id, spec))
        except (struct.error, *BROKEN) as error:
            yield f"{meter_id}: its registers cannot be read: {error!r}"
    for account in books.accounts.values():
        yield from (f"{account.name}: {text}" for text in supply_violations(folder, account, meters[account.meter_id]))
    yield from area_violations(folder, area, wanted)


def reading_violations(found: JsonObject, line_id: str, spec: JsonObject) -> Iterator[str]:
    """One meter as it was read out: where it hangs, how its register is coded, what the bytes say."""
    place = (found["line"], found["device_id"], found["model"], found["start_wh"])
    if place != (line_id, spec["device_id"], spec["model"], spec["start_wh"]):
        yield f"is {place}, not what the street was made of"
    coding = (found["function_code"], found["address"], found["type"], found["wh_per_unit"])
    if coding != BILLED[spec["model"]]:
        yield f"codes its register as {coding}, {spec['model']} does not"
    if found["register_wh"] != floor(decoded_wh(spec["model"], found["registers"])):
        yield f"registers {found['registers']} are not {found['register_wh']} Wh"
    if found["start_register_wh"] != floor(decoded_wh(spec["model"], encoded(spec["model"], spec["start_wh"]))):
        yield f"began at {spec['start_wh']} Wh, which its register does not show as {found['start_register_wh']} Wh"
    if found["silent"] or found["power_w"]:
        yield "is silent or draws power at the end"
    if found["register_wh"] < found["start_register_wh"]:
        yield "stands lower than it began"


def supply_violations(folder: Folder, account: Account, meter: JsonObject) -> Iterator[str]:
    """One account against its meter and its contact."""
    charged_wh = account.opening_wh + account.charged_ever_wh
    if not account.hold and (charged_wh, account.recorded_wh) != (meter["register_wh"], meter["register_wh"]):
        yield f"was charged up to {charged_wh} Wh, its meter stands at {meter['register_wh']} Wh"
    connected = account.control_state == "connected"
    if not account.output is connected is meter["relay_closed"]:
        yield f"is {account.control_state}, read back {account.output}, its contact is closed: {meter['relay_closed']}"
    if account.frozen_at is None or not 0 <= folder.registers["at"] - account.frozen_at < 2 * SECONDS_PER_DAY:
        yield f"was last frozen at {account.frozen_at}"
    if account.frozen_live_nano != account.live_nano:
        yield f"had {account.frozen_live_nano} at its last freeze, {account.live_nano} at the end"


def area_violations(folder: Folder, area: JsonObject, wanted: Mapping[str, Any]) -> Iterator[str]:
    """The area meter has counted all customers and the loss, as close as the steps of their registers tell."""
    meters = folder.registers["meters"]
    factor = Fraction(100 + area["loss_percent"], 100)
    try:
        bounds = [counted_wh(spec, meters[meter_id]["registers"]) for meter_id, (_, spec) in wanted.items()]
        low, high = counted_wh(area, meters[area["meter_id"]]["registers"])
    except (struct.error, *BROKEN) as error:
        yield f"{area['meter_id']}: cannot be compared: {error!r}"
        return
    if meters[area["meter_id"]]["relay_closed"] is not None:
        yield f"{area['meter_id']}: has no contact"
    if low > sum(bound[1] for bound in bounds) * factor or high < sum(bound[0] for bound in bounds) * factor:
        yield f"{area['meter_id']}: counted {floor(low)} to {floor(high)} Wh, not what the customers took"


def counted_wh(spec: JsonObject, registers: str) -> tuple[Fraction, Fraction]:
    """What a meter's counter can have risen by, from the least to the most that its register admits."""
    value, step = decoded_wh(spec["model"], registers), step_wh(spec["model"], registers)
    return value - step - spec["start_wh"], value + step + 1 - spec["start_wh"]


def decoded_wh(model: str, registers: str) -> Fraction:
    _, _, kind, wh_per_unit = BILLED[model]
    (value,) = struct.unpack(FORMATS[kind], bytes.fromhex(registers))
    return Fraction(value) * wh_per_unit


def encoded(model: str, energy_wh: int) -> str:
    _, _, kind, wh_per_unit = BILLED[model]
    value = energy_wh / wh_per_unit if kind == "f32" else energy_wh // wh_per_unit
    return struct.pack(FORMATS[kind], value).hex()


def step_wh(model: str, registers: str) -> Fraction:
    """How far the next value of the register is."""
    following = (int(registers, 16) + 1).to_bytes(4, "big").hex()
    return decoded_wh(model, following) - decoded_wh(model, registers)


def floor(value: Fraction) -> int:
    return value.numerator // value.denominator


# --- the cloud -------------------------------------------------------------------------------


def cloud_violations(folder: Folder, books: Books) -> Iterator[str]:
    """What the cloud made of the records: its accounts, its roster, and no alarm."""
    for table in ("aside", "quarantine", "alarm"):
        for row in folder.cloud[table]:
            yield f"the cloud has a row in {table}: {row}"
    rows = {(row["gateway"], row["account"]): row for row in folder.cloud["account"]}
    wanted = {(folder.gateway_id, account.name): account for account in books.accounts.values()}
    if rows.keys() != wanted.keys():
        yield "the cloud's accounts are not those of the journal"
    for key in rows.keys() & wanted.keys():
        row, account = rows[key], wanted[key]
        for column, value in (
            ("money_nano", account.money_nano),
            ("estimate_nano", account.estimate_nano),
            ("register_wh", account.last_register_wh),
            ("at", account.last_at),
            ("seq", account.led_seq),
        ):
            if row[column] != value:
                yield f"the cloud has {column} {row[column]} for {account.name}, by these books {value}"
        if row["money_nano"] - (row["estimate_nano"] or 0) != account.frozen_live_nano:
            yield f"the cloud's live balance of {account.name} is not that of the last freeze"
    gateways = folder.cloud["gateway"]
    known = [(row["id"], row["epoch"], row["boot"], row["clock"]) for row in gateways]
    if known != [(*folder.identities[0], folder.boot_id, folder.street["quality"])]:
        yield "the cloud's gateway is not the journal's"
    for row in gateways:
        times = [folder.street["wall_start_at"], row["enrolled_at"], row["hello_at"], folder.registers["at"]]
        if times != sorted(times):
            yield "the cloud's gateway was enrolled or last heard when it could not be"
    roster = [{"meter": account["meter_id"], "account": name} for name, account in books.site_accounts.items()]
    if [json.loads(row["roster"] or "[]") for row in gateways] != [roster]:
        yield "the cloud's roster is not that of the site book"


def order_violations(folder: Folder, books: Books) -> Iterator[str]:
    """Every order of the cloud is signed and answered, and every payment it took is on the account, once."""
    commands = {row["cid"]: row for row in folder.cloud["command"]}
    payments = {row["payment_id"]: row for row in folder.cloud["payment"]}
    credits = [cid for cid, row in commands.items() if row["type"] == "credit"]
    if sorted(row["cid"] for row in payments.values()) != sorted(credits):
        yield "the cloud's payments and its commands do not belong together"
    for cid, row in commands.items():
        try:
            order = opened_order(folder, bytes(row["envelope"]))
        except BROKEN as error:
            yield f"order {cid}: {error}"
            continue
        columns = {"cid": cid, "gw": row["gateway"], "meter": row["meter"], "type": row["type"],
                   "sv": row["supply_version"], "nbf": row["created_at"]}  # fmt: skip
        for name, value in columns.items():
            if order.get(name) != value:
                yield f"order {cid}: {name} is {value!r} in the table and {order.get(name)!r} in what was signed"
        payment = payments.get(order["args"].get("payment_id"), {})
        booked = tuple(payment.get(name) for name in ("gateway", "meter", "amount_nano", "cid", "created_at"))
        paid = (order["gw"], order["meter"], order["args"].get("amount_nano"), cid, order["nbf"])
        if order["type"] == "credit" and booked != paid:
            yield f"order {cid}: is not what was paid"
        answer = books.answers.get(cid, {})
        if (row["result"], bytes(row["result_body"] or b"")) != (answer.get("result"), books.result_bodies.get(cid)):
            yield f"order {cid}: its result is not the journal's"
        elif not answer["at"] <= row["result_at"] <= folder.registers["at"] or row["sent_count"] < 1:
            yield f"order {cid}: was answered before it was sent, or before the journal did"
        if (row["document"] is not None) is not (order["type"] in ("set_tariff", "set_policy")):
            yield f"order {cid}: carries a document and is a {order['type']}, or the other way round"
    for payment_id, row in payments.items():
        account = {name: entry for name, entry in books.accounts.items() if entry.meter_id == row["meter"]}
        applied = books.payments.get(payment_id)
        if applied not in [(name, row["amount_nano"]) for name in account]:
            yield f"payment {payment_id}: the cloud took {row['amount_nano']} for {row['meter']}, applied: {applied}"


OPS_ORDERS = frozenset(("refund", "reverse", "cut", "restore", "arm", "keep_supply", "supply_hold", "notice_receipt"))
OPS_ORDERS |= {"set_debt", "instalments", "purchase_order", "change_tenant", "payment_mode", "correction"}
OPS_ORDERS |= {"reserved_credit", "set_policy", "revoke", "resync"}
ORDER_KEYS = {"credit": "vend", "set_tariff": "tariff", **dict.fromkeys(OPS_ORDERS, "ops")}
OF_TWO_PERSONS = frozenset(("refund", "reverse", "set_debt", "purchase_order", "change_tenant", "correction"))


def opened_order(folder: Folder, envelope: bytes) -> JsonObject:
    """The order in an envelope. ValueError when the right key, or a second one where two must, did not sign it."""
    keys = {key["kid"]: key for key in folder.keys}
    order = opened(keys, envelope, b"mg/1/cmd\0")
    key = keys[order["kid"]]
    if key["role"] != ORDER_KEYS.get(order["type"]):
        raise ValueError(f"is a {order['type']} of a {key['role']} key")
    if order["type"] == "credit" and order["args"]["amount_nano"] > key["credit_nano_max"]:
        raise ValueError("is above what its key may credit")
    if order["type"] in OF_TWO_PERSONS:
        approval = opened(keys, bytes.fromhex(order["args"]["approval"]), b"mg/1/approve\0")
        second = keys[approval["kid"]]
        if second["role"] not in ("ops", "tariff") or second["public_key"] == key["public_key"]:
            raise ValueError("is approved by nobody else")
        args = {name: value for name, value in order["args"].items() if name != "approval"}
        same = {name: order[name] for name in ("v", "cid", "gw", "meter", "type")} | {"args": args}
        if approval != same | {"kid": approval["kid"]}:
            raise ValueError("is not what was approved")
    return order


def opened(keys: Mapping[str, JsonObject], envelope: bytes, domain: bytes) -> JsonObject:
    """What a key of the ring signed for this purpose. ValueError when it did not."""
    content = envelope[65:]
    said: JsonObject = json.loads(content)
    public_key = bytes.fromhex(keys[said["kid"]]["public_key"])
    if envelope[0] != 1 or not signature_holds(public_key, envelope[1:65], domain + content):
        raise ValueError("is not signed by the key it names")
    return said


# --- Ed25519 (RFC 8032, 5.1), plainly and slowly ---------------------------------------------

PRIME = 2**255 - 19
GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493
CURVE_D = -121665 * pow(121666, -1, PRIME) % PRIME
ROOT_OF_MINUS_ONE = pow(2, (PRIME - 1) // 4, PRIME)
Point = tuple[int, int, int, int]  # extended coordinates: X, Y, Z and T = XY/Z


@lru_cache(maxsize=64)
def signature_holds(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether the signature is this key's over this message."""
    key, commitment = decompressed(public_key), decompressed(signature[:32])
    scalar = int.from_bytes(signature[32:], "little")
    base = decompressed((4 * pow(5, -1, PRIME) % PRIME).to_bytes(32, "little"))
    if key is None or commitment is None or base is None or len(signature) != 64 or scalar >= GROUP_ORDER:
        return False
    digest = hashlib.sha512(signature[:32] + public_key + message).digest()
    challenge = int.from_bytes(digest, "little") % GROUP_ORDER
    left, right = multiplied(scalar, base), added(commitment, multiplied(challenge, key))
    same_x = (left[0] * right[2] - right[0] * left[2]) % PRIME == 0
    return same_x and (left[1] * right[2] - right[1] * left[2]) % PRIME == 0


def decompressed(text: bytes) -> Point | None:
    """The point of 32 bytes, None when there is none."""
    number = int.from_bytes(text, "little")
    y, sign = number % 2**255, number >> 255
    square = (y * y - 1) * pow(CURVE_D * y * y + 1, -1, PRIME) % PRIME
    x = pow(square, (PRIME + 3) // 8, PRIME)
    if (x * x - square) % PRIME:
        x = x * ROOT_OF_MINUS_ONE % PRIME
    if len(text) != 32 or y >= PRIME or (x * x - square) % PRIME or (x == 0 and sign):
        return None
    x = PRIME - x if x % 2 != sign else x
    return x, y, 1, x * y % PRIME


def added(p: Point, q: Point) -> Point:
    """The sum of two points."""
    a, b = (p[1] - p[0]) * (q[1] - q[0]), (p[1] + p[0]) * (q[1] + q[0])
    c, d = 2 * p[3] * q[3] * CURVE_D, 2 * p[2] * q[2]
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % PRIME, g * h % PRIME, f * g % PRIME, e * h % PRIME


def multiplied(scalar: int, point: Point) -> Point:
    """A multiple of a point."""
    total: Point = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            total = added(total, point)
        point = added(point, point)
        scalar >>= 1
    return total


if __name__ == "__main__":
    sys.exit(main())
