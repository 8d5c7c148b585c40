"""The auditor fails when one row of a finished demo is altered, in the journal, the cloud or the registers.

Every column of every table is altered once, in a row chosen by a fixed seed, and so is every field of the registers.
Then a forger who can do more: he alters a record and makes both ledgers' hashes right again.
"""

import hashlib
import json
import random
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from edge.store.packing import body_of

pytestmark = pytest.mark.timeout(225)

JOURNAL, CLOUD = "agent/journal.db", "cloud.db"
AUDITED = (JOURNAL, CLOUD, "registers.json", "street.json", "site.json", "demo-street.json", "clock.json")
STREAMS = ("led", "res", "evt", "rdg")
Event = dict[str, Any]


@pytest.fixture(scope="module")
def finished(demo: Any) -> Path:
    """The long demo's folder, ended and good."""
    demo.result()
    folder: Path = demo.data
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """A copy of it, to be altered."""
    copy = tmp_path / "copy"
    for name in (*AUDITED, "keys/keyring.json"):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(finished / name, copy / name)
    return copy


@pytest.fixture
def violations(auditor: Any, folder: Path) -> Callable[[], list[str]]:
    """What the auditor finds in the copy."""

    def find() -> list[str]:
        found: list[str] = auditor.audit(folder)[0]
        return found

    return find


def opened(path: Path) -> sqlite3.Connection:
    """A database whose guards are gone, as they are for somebody with the file in hand."""
    database = sqlite3.connect(path, isolation_level=None)
    for pragma in ("synchronous = OFF", "journal_mode = MEMORY", "locking_mode = EXCLUSIVE"):
        database.execute(f"PRAGMA {pragma}")
    for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        database.execute(f"DROP TRIGGER {name}")
    return database


def altered(value: object) -> object:
    """Another value of the same kind, as near as can be told apart everywhere."""
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case bytes() if value:
            return value[:-1] + bytes((value[-1] ^ 1,))
        case str() if value:
            return value[:-1] + ("0" if value[-1] != "0" else "1")
    return 1


def test_copy_that_nobody_altered_is_good(violations: Callable[[], list[str]]) -> None:
    assert violations() == []


# --- every column of every table -------------------------------------------------------------

# Nothing follows from these: what the gateway last said of itself, how often an order had to be sent, and how far
# the readings were acknowledged or when within the possible a record came.
FREE = {"gateway.online", "gateway.software", "gateway.enrolled_at", "gateway.hello_at", "command.sent_count"}
FREE |= {"mark.acked_seq of rdg", "record.received_at", "command.result_at"}
# The gateway's proofs to itself, which no other books follow: `wattgate verify` does (tests/store/test_verify.py).
FREE |= {"seal.place", "seal.hash", "mark.hash", "snapshot.place", "snapshot.state"}
FREE |= {"checkpoint.place", "checkpoint.hash", "checkpoint.body"}
# The cloud's proofs to outsiders: its own audit follows them (tests/cloud_sync/test_proof_backend.py).
FREE |= {f"checkpoint.{name}" for name in ("day", "leaf", "gateway", "epoch", "seq", "envelope", "received_at")}
FREE |= {f"device_key.{name}" for name in ("gateway", "kid", "public_key", "pinned_at")}


def columns_of(file: str) -> dict[str, tuple[str, ...]]:
    """The tables of a database that hold rows after a demo."""
    return {
        JOURNAL: {
            "record": ("place", "stream", "epoch", "seq", "hash", "body"),
            "mark": ("stream", "epoch", "acked_seq"),
            "identity": ("gateway_id", "epoch"),
        },
        CLOUD: {
            "record": ("gateway", "stream", "epoch", "seq", "hash", "body"),
            "stream": ("gateway", "stream", "epoch", "seq", "hash"),
            "account": ("gateway", "account", "money_nano", "estimate_nano", "register_wh", "at", "seq"),
            "command": (
                "cid", "gateway", "meter", "type", "supply_version", "envelope", "document", "created_at",
                "result", "result_body",
            ),
            "payment": ("payment_id", "gateway", "meter", "amount_nano", "cid", "created_at"),
            "gateway": ("id", "epoch", "boot", "clock", "roster"),
        },
    }[file]  # fmt: skip


CELLS = [
    (file, table, column)
    for file in (JOURNAL, CLOUD)
    for table, columns in columns_of(file).items()
    for column in columns
]


@pytest.mark.parametrize(("file", "table", "column"), CELLS)
def test_one_altered_cell_is_found(
    folder: Path, violations: Callable[[], list[str]], file: str, table: str, column: str
) -> None:
    with closing(opened(folder / file)) as database:
        names = [entry[1] for entry in database.execute(f"PRAGMA table_info({table})")]
        where = "WHERE stream = 'led'" if "stream" in names else ""
        rows = database.execute(f"SELECT * FROM {table} {where}").fetchall()
        row = dict(zip(names, random.Random(f"{file} {table} {column}").choice(rows), strict=True))
        database.execute("PRAGMA ignore_check_constraints = ON")
        this_row = " AND ".join(f"{name} IS ?" for name in names)
        done = database.execute(
            f"UPDATE {table} SET {column} = ? WHERE {this_row}", (new_cell(column, row[column]), *row.values())
        )
        assert done.rowcount == 1
    assert violations() != []


def new_cell(column: str, value: object) -> object:
    """One that no other row has in a unique column, and that the column's type admits."""
    if column in ("place", "seq"):
        return int(str(value)) + 1_000_000
    if value is None:
        return b"1" if column == "document" else 1
    if column == "body":
        return other_digit(value, random.Random(column))
    return altered(value)


def other_digit(body: Any, dice: random.Random) -> bytes:
    """The record with one of its digits one higher."""
    at = dice.choice([found.start() for found in re.finditer(rb"[0-9]", body)])
    changed: bytes = body[:at] + str((int(body[at : at + 1]) + 1) % 10).encode() + body[at + 1 :]
    return changed


def test_every_column_is_either_altered_or_free(finished: Path) -> None:
    for file in (JOURNAL, CLOUD):
        with closing(sqlite3.connect(finished / file)) as database:
            tables = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            for table in tables:
                if database.execute(f"SELECT count(*) FROM {table}").fetchone()[0] == 0:
                    continue
                for entry in database.execute(f"PRAGMA table_info({table})"):
                    assert (file, table, entry[1]) in CELLS or f"{table}.{entry[1]}" in FREE


# --- records ---------------------------------------------------------------------------------


@pytest.mark.parametrize("file", [JOURNAL, CLOUD])
@pytest.mark.parametrize("stream", STREAMS)
def test_one_digit_of_one_record_is_found(
    folder: Path, violations: Callable[[], list[str]], file: str, stream: str
) -> None:
    dice = random.Random(f"{file} {stream}")
    with closing(opened(folder / file)) as database:
        rows = database.execute("SELECT seq, body FROM record WHERE stream = ? ORDER BY seq", (stream,)).fetchall()
        seq, body = dice.choice(rows)
        changed = other_digit(body, dice)
        database.execute("UPDATE record SET body = ? WHERE stream = ? AND seq = ?", (changed, stream, seq))
    found = violations()
    where = "journal" if file == JOURNAL else "cloud"
    assert f"{where}: {stream} {seq} does not have the hash of its content" in found
    assert f"{stream} {seq} differs between the journal and the cloud" in found


@pytest.mark.parametrize("file", [JOURNAL, CLOUD])
@pytest.mark.parametrize("stream", STREAMS)
def test_one_missing_record_is_found(folder: Path, violations: Callable[[], list[str]], file: str, stream: str) -> None:
    with closing(sqlite3.connect(folder / CLOUD)) as cloud:  # it may lack the very last readings
        seqs = [row[0] for row in cloud.execute("SELECT seq FROM record WHERE stream = ? ORDER BY seq", (stream,))]
    with closing(opened(folder / file)) as database:
        seq = random.Random(f"{file} {stream}").choice([seqs[0], seqs[len(seqs) // 2], seqs[-1]])
        database.execute("DELETE FROM record WHERE stream = ? AND seq = ?", (stream, seq))
    sentence = {JOURNAL: f"the cloud has {stream} {seq}, the journal does not", CLOUD: f"{stream} {seq}"}[file]
    found = violations()
    assert any(sentence in text for text in found) or f"the cloud's mark of {stream} is not its last record" in found


def test_record_that_only_the_journal_has_is_found(folder: Path, violations: Callable[[], list[str]]) -> None:
    with closing(opened(folder / JOURNAL)) as database:
        seq, previous = database.execute(
            "SELECT seq, hash FROM record WHERE stream = 'evt' ORDER BY seq DESC LIMIT 1"
        ).fetchone()
        body = b'{"type":"ConditionNoted","at":1783000000,"condition":"noise","account":"","detail":""}'
        digest = record_hash("evt", seq + 1, previous, body)
        values = ("evt", 1, seq + 1, digest, body)
        database.execute("INSERT INTO record (stream, epoch, seq, hash, body) VALUES (?, ?, ?, ?, ?)", values)
    assert f"the cloud lacks evt {seq + 1}" in violations()


def test_two_records_in_each_other_s_place_are_found(folder: Path, violations: Callable[[], list[str]]) -> None:
    with closing(opened(folder / JOURNAL)) as database:
        first, second = [
            row[0]
            for row in database.execute(
                "SELECT place FROM record WHERE iif(stream = 'led', json_extract(CAST(body AS TEXT), '$.type'), '')"
                " IN ('BillIssued', 'RoundingPosted') ORDER BY place LIMIT 2"
            )
        ]
        for old, new in ((first, -1), (second, first), (-1, second)):
            database.execute("UPDATE record SET place = ? WHERE place = ?", (new, old))
    assert violations() != []


def test_alarm_of_the_cloud_is_a_violation(folder: Path, violations: Callable[[], list[str]]) -> None:
    with closing(opened(folder / CLOUD)) as database:
        database.execute("INSERT INTO alarm VALUES (1, 'demo-street', 'fork', '{}', 1, 1, 1)")
    assert len(violations()) == 1


# --- registers and documents -----------------------------------------------------------------


def rewrite(path: Path, change: Callable[[Any], None]) -> None:
    content = json.loads(path.read_text("utf-8"))
    change(content)
    path.write_text(json.dumps(content), "utf-8")


METERS = [*(f"M{number:02}" for number in range(1, 13)), "AREA"]
FIELDS = (  # register_wh and registers are altered in every meter, below
    "line", "device_id", "model", "start_wh", "start_register_wh", "function_code", "address", "type", "wh_per_unit",
    "relay_closed", "power_w", "silent",
)  # fmt: skip


@pytest.mark.parametrize("field", FIELDS)
def test_one_altered_field_of_a_meter_is_found(folder: Path, violations: Callable[[], list[str]], field: str) -> None:
    meter_id = random.Random(field).choice(METERS)

    def change(registers: Any) -> None:
        registers["meters"][meter_id][field] = altered(registers["meters"][meter_id][field])

    rewrite(folder / "registers.json", change)
    assert any(text.startswith((f"{meter_id}: ", f"A{meter_id[1:]}: ")) for text in violations())


@pytest.mark.parametrize(
    ("meter_id", "field"),
    [*((meter_id, "register_wh") for meter_id in METERS), *((meter_id, "registers") for meter_id in METERS[::4])],
)
def test_one_watt_hour_or_one_bit_of_a_register_is_found(
    folder: Path, violations: Callable[[], list[str]], meter_id: str, field: str
) -> None:
    def change(registers: Any) -> None:
        meter = registers["meters"][meter_id]
        meter[field] = meter[field] + 1 if field == "register_wh" else f"{int(meter[field], 16) ^ 0x100:08x}"

    rewrite(folder / "registers.json", change)
    assert any(text.startswith(f"{meter_id}: registers ") for text in violations())


@pytest.mark.parametrize("meter_id", ["M01", "M05", "M10"])  # float32, tens of watt-hours, an old float32
def test_register_and_its_reading_altered_together_are_found_in_the_books(
    folder: Path, violations: Callable[[], list[str]], auditor: Any, meter_id: str
) -> None:
    def change(registers: Any) -> None:
        meter = registers["meters"][meter_id]
        # The step of a young meter's float32 is less than a hundredth of a watt-hour.
        meter["registers"] = f"{int(meter['registers'], 16) + 0x100:08x}"
        meter["register_wh"] = auditor.floor(auditor.decoded_wh(meter["model"], meter["registers"]))

    rewrite(folder / "registers.json", change)
    found = violations()
    assert len([text for text in found if f"A{meter_id[1:]}: was charged up to" in text]) == 1


def put(*path: str | int, value: object) -> Callable[[Any], None]:
    """Sets one value deep in a document."""

    def change(content: Any) -> None:
        for step in path[:-1]:
            content = content[step]
        assert content[path[-1]] != value
        content[path[-1]] = value

    return change


DOCUMENTS = {
    "a price": ("demo-street.json", put("prices", "adder_by_block", 0, value="0.52")),
    "a period's price": ("demo-street.json", put("prices", "base_by_period", "valley", value="-0.11")),
    "a block limit": ("demo-street.json", put("blocks", "limits_kwh", 0, value="169")),
    "a window": ("demo-street.json", put("periods", value=[
        {"name": "peak", "windows": [{"from": "09:00", "to": "22:00"}]},
        {"name": "valley", "windows": [{"from": "22:00", "to": "09:00"}]},
    ])),
    "an opening balance": ("site.json", put("accounts", "3", "opening_nano", value=150_000_000_001)),
    "a protected customer": ("site.json", put("accounts", "1", "protected", value=True)),
    "the grace": ("site.json", put("accounts", "1", "policy", "grace_hours", value=96)),
    "the time zone": ("site.json", put("site", "1", "time_zone", value="Asia/Tokyo")),
    "the minor unit": ("site.json", put("site", "1", "minor_digits", value=3)),
    "a meter's beginning": ("street.json", put("lines", 0, "devices", 0, "start_wh", value=1_234_568)),
    "a meter's model": ("street.json", put("lines", 0, "devices", 0, "model", value="hiking_dds238_2")),
    "the boot": ("clock.json", put("boot_id", value="another")),
    "the vend key": ("keys/keyring.json", put(2, "public_key", value="00" * 32)),
}  # fmt: skip


@pytest.mark.parametrize("what", DOCUMENTS)
def test_altered_document_does_not_fit_the_books(folder: Path, violations: Callable[[], list[str]], what: str) -> None:
    name, change = DOCUMENTS[what]
    rewrite(folder / name, change)
    assert violations() != []


# --- a forger ---------------------------------------------------------------------------------


def record_hash(stream: str, seq: int, previous: bytes, body: bytes) -> bytes:
    return hashlib.sha256(f'["demo-street","{stream}",1,{seq},"{previous.hex()}"]\n'.encode() + body).digest()


def forge(folder: Path, make_change: Callable[[], Callable[[Event], bool]]) -> int:
    """Alters the same in both ledgers and makes every hash right again. Returns how many records it altered."""
    counts = []
    for file in (JOURNAL, CLOUD):
        with closing(opened(folder / file)) as database:
            change = make_change()
            counts.append(sum(forge_stream(database, stream, change) for stream in STREAMS))
    assert counts[0] == counts[1]
    return counts[0]


def forge_stream(database: sqlite3.Connection, stream: str, change: Callable[[Event], bool]) -> int:
    previous, count = bytes(32), 0
    rows = database.execute("SELECT seq, body FROM record WHERE stream = ? ORDER BY seq", (stream,)).fetchall()
    database.execute("BEGIN")
    for seq, stored in rows:
        body = body_of(stream, stored)
        event = json.loads(body)
        if change(event):
            count += 1
            body = json.dumps(event, separators=(",", ":")).encode()
        previous = record_hash(stream, seq, previous, body)
        values = (body, previous, stream, seq)
        database.execute("UPDATE record SET body = ?, hash = ? WHERE stream = ? AND seq = ?", values)
    if database.execute("SELECT count(*) FROM sqlite_master WHERE name = 'stream'").fetchone()[0]:
        database.execute("UPDATE stream SET hash = ? WHERE stream = ?", (previous, stream))
    database.execute("COMMIT")
    return count


class Once:
    """A change to the first event of a type that fits."""

    def __init__(self, kind: str, change: Callable[[Event], None], **fields: object) -> None:
        self._kind, self._change, self._fields = kind, change, fields

    def __call__(self) -> Callable[[Event], bool]:
        seen: dict[str, int] = {}

        def alter(event: Event) -> bool:
            fits = event["type"] == self._kind and all(event.get(name) == v for name, v in self._fields.items())
            if not fits or (event["type"] == "ReadingsRecorded" and not any(event["lines"])):
                return False
            seen[self._kind] = seen.get(self._kind, 0) + 1
            if seen[self._kind] == 1:
                self._change(event)
            return seen[self._kind] == 1

        return alter


def more(name: str, by: int = 1) -> Callable[[Event], None]:
    def change(event: Event) -> None:
        event[name] += by

    return change


def other(name: str, value: object) -> Callable[[Event], None]:
    def change(event: Event) -> None:
        event[name] = value

    return change


def cheaper_line(event: Event) -> None:
    line = next(lines[0] for lines in event["lines"] if lines)
    line["price_micro_per_kwh"] -= 10_000
    line["amount_nano"] = line["price_micro_per_kwh"] * line["energy_wh"]


def less_energy(event: Event) -> None:
    line = next(lines[0] for lines in event["lines"] if lines)
    line["energy_wh"] -= 1
    line["amount_nano"] = line["price_micro_per_kwh"] * line["energy_wh"]


def lower_register(event: Event) -> None:
    number = next(index for index, lines in enumerate(event["lines"]) if lines)
    event["register_wh"][number] -= 1


def later_receipt(event: Event) -> None:
    event["at"] += 7200
    event["receipt"]["at"] += 7200
    event["receipt"]["elapsed_ms"] += 7_200_000


FORGERIES = {
    "a cheaper line": (Once("ReadingsRecorded", cheaper_line), "the cost of"),
    "a watt-hour less in a line": (Once("ReadingsRecorded", less_energy), "the cost of"),
    "a watt-hour less in a register": (Once("ReadingsRecorded", lower_register), "the cost of"),
    "a later reading": (Once("ReadingsRecorded", more("at")), "at is"),
    "a higher payment": (Once("PaymentApplied", more("amount_nano")), "posting_nano is"),
    "a better balance": (Once("PaymentApplied", more("balance_nano")), "balance_nano is"),
    "a payment's other id": (Once("PaymentApplied", other("payment_id", "P-other"), door="cloud"), "the cloud took"),
    "a payment's other account": (Once("PaymentApplied", other("account", "A07"), door="cloud"), "balance_nano is"),
    "a lower estimate": (Once("RegisterFrozen", more("estimate_nano", -1)), "estimate_nano is"),
    "a better live balance": (Once("RegisterFrozen", more("live_balance_nano")), "live_balance_nano is"),
    "a freeze at another time": (Once("RegisterFrozen", more("at")), "the midnight or the change of tariff is"),
    "a freeze of another day's energy": (Once("RegisterFrozen", more("day_energy_wh")), "day_energy_wh is"),
    "a lower bill": (Once("BillIssued", more("bill_minor", -1)), "bill_minor is"),
    "a bill over less": (Once("BillIssued", more("amount_nano", -1)), "amount_nano is"),
    "a bill without its line": (Once("BillIssued", other("lines", [])), "the lines is"),
    "another rounding": (Once("RoundingPosted", more("posting_nano")), "the rounding"),
    "a notice nobody needed": (Once("NoticeRaised", more("reserve_nano"), number=1), "reserve_nano is"),
    "a receipt that was later": (Once("NoticeDelivered", later_receipt, number=2, account="A01"), "the grace"),
    "a last notice that was later": (Once("NoticeDelivered", later_receipt, number=3), "the last notice"),
    "another notice's receipt": (Once("NoticeDelivered", other("number", 1), number=2), "a first receipt"),
    "a cut of somebody else": (
        Once("DisconnectControlChanged", other("account", "A04"), trigger="local_disconnect"), "protected"),
    "a cut by nobody": (
        Once("DisconnectControlChanged", other("trigger", "remote_reconnect"), account="A01"), "remote_reconnect of"),
    "a cut on credit": (
        Once("DisconnectControlChanged", other("live_balance_nano", 5), trigger="local_disconnect"), "live_balance"),
    "a relay that was never open": (Once("OutputStateObserved", other("connected", True), connected=False), "a change"),
    "an order answered otherwise": (Once("OrderApplied", other("result", "rejected")), "result is"),
    "a refusal without ground": (Once("PaymentRefused", other("reason", "amount")), "a refusal as duplicate"),
    "another opening register": (Once("AccountOpened", more("register_wh")), "the opening register"),
    "another opening balance": (Once("AccountOpened", more("posting_nano")), "the opening of"),
    "a milder policy": (Once("AccountOpened", other("policy", {})), "policy of"),
    "another tariff": (Once("TariffAccepted", other("document", "{}")), "the tariff document"),
    "an event nobody knows": (Once("ConditionNoted", other("type", "CreditGiven")), "has no place"),
}  # fmt: skip


@pytest.mark.parametrize("what", FORGERIES)
def test_forged_record_with_right_hashes_is_found_by_the_books(
    folder: Path, violations: Callable[[], list[str]], what: str
) -> None:
    change, sentence = FORGERIES[what]
    assert forge(folder, change) == 1
    found = violations()
    assert not any("does not have the hash of its content" in text for text in found)
    assert any(sentence in text for text in found), found[:5]


def test_forger_who_alters_nothing_is_not_accused(folder: Path, violations: Callable[[], list[str]]) -> None:
    assert forge(folder, lambda: lambda event: False) == 0
    assert violations() == []


# --- nothing to audit ------------------------------------------------------------------------


@pytest.fixture(params=AUDITED)
def incomplete(folder: Path, request: pytest.FixtureRequest) -> Path:
    """A folder without one of its files."""
    (folder / request.param).unlink()
    return folder


def test_folder_without_one_of_its_files_cannot_be_read(
    incomplete: Path, auditor: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert auditor.main([str(incomplete)]) == auditor.EXIT_UNREADABLE == 2
    assert capsys.readouterr().err.startswith("audit: ")


def test_violations_are_told_one_a_line_with_status_1(
    folder: Path, auditor: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(opened(folder / CLOUD)) as database:
        database.execute("UPDATE account SET money_nano = money_nano + 1 WHERE account = 'A03'")
    assert auditor.main([str(folder)]) == auditor.EXIT_VIOLATIONS == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert all("A03" in line for line in lines)
    assert auditor.main([str(folder), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["violations"] == lines
