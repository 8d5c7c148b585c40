"""What the backend does with signed checkpoints, and what a third party can check: every lie has its refusal."""

import contextlib
import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_sync.backend.backend import Backend
from cloud_sync.backend.checkpoints import NotProvable
from cloud_sync.backend.ingest import Received
from cloud_sync.ed25519 import Ed25519PrivateKey
from cloud_sync.envelope import DOMAIN_ACK, seal
from cloud_sync.keys import KEYRING_FILE, KeyRing, Role, generate_key_directory, generate_keys, load_key_ring
from cloud_sync.proof.checkpoint import Checkpoint, checkpoint_in, device_kid, sign_checkpoint
from cloud_sync.proof.commands import LANGUAGES
from cloud_sync.proof.head import DOMAIN_HEAD, TreeHead, sign_head, verify_head
from cloud_sync.proof.receipt import HeadFile, Proof, ProofRefused, Receipt, Verified, verify_receipt
from cloud_sync.wire import ZERO_HASH, Batch, WireError, encode_payload, record_hash, topic_of

GATEWAY = "gw-1"
DAY = 20_000
AT = DAY * 86_400 + 100
KEYS = generate_keys()


@dataclass
class Device:
    """A gateway's ledger and its key. `sent` counts what went up, by stream."""

    backend: Backend
    gateway_id: str = GATEWAY
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    at: int = AT
    sums: list[int] = field(default_factory=lambda: [0, 0])
    heads: dict[str, tuple[int, bytes]] = field(default_factory=dict)

    @property
    def public_key(self) -> bytes:
        return self.key.public_key().public_bytes_raw()

    def send(self, stream: str, *bodies: str) -> None:
        seq, digest = self.heads.get(stream, (0, ZERO_HASH))
        first, before = seq + 1, digest
        for body in bodies:
            seq += 1
            digest = record_hash(self.gateway_id, stream, 1, seq, digest, body.encode())
        batch = Batch(
            v=1, gw=self.gateway_id, stream=stream, epoch=1, first=first, prev=before.hex(), bodies=tuple(bodies)
        )
        topic = topic_of(self.gateway_id, f"up/{stream}")
        self.backend.take([Received(topic, encode_payload(batch))], self.at, 0.0)
        self.heads[stream] = seq, digest

    def post(self, *amounts_nano: int) -> None:
        self.send("led", *(json.dumps({"account": "A01", "posting_nano": nano}) for nano in amounts_nano))
        self.sums[0] += sum(nano for nano in amounts_nano if nano > 0)
        self.sums[1] += sum(nano for nano in amounts_nano if nano < 0)

    def checkpoint(self, **changes: Any) -> Checkpoint:
        seq, digest = self.heads["led"]
        said: dict[str, Any] = {
            "v": 1, "gw": self.gateway_id, "kid": device_kid(self.key.public_key()), "at": 7, "epoch": 1, "seq": seq,
            "head": digest.hex(), "credits_nano": self.sums[0], "charges_nano": self.sums[1],
            "balances_nano": sum(self.sums),
        }  # fmt: skip
        return Checkpoint(**(said | changes))

    def sign(self, **changes: Any) -> None:
        self.send("evt", noted(sign_checkpoint(self.checkpoint(**changes), self.key)))


def noted(envelope: bytes) -> str:
    return json.dumps({"type": "ConditionNoted", "condition": "checkpoint_signed", "detail": envelope.hex()})


def new_backend(path: Path | str = ":memory:") -> Backend:
    backend = Backend(path, *KEYS)
    backend.enroll(GATEWAY, AT)
    return backend


@contextlib.contextmanager
def device_at(place: str) -> Iterator[Device]:
    with contextlib.closing(new_backend(place)) as backend:
        made = Device(backend)
        backend.pin_device_key(GATEWAY, made.public_key, AT)
        yield made


@pytest.fixture
def device(new_place: Callable[[], str]) -> Iterator[Device]:
    with device_at(new_place()) as made:
        yield made


@pytest.fixture
def sqlite_device() -> Iterator[Device]:
    """For whoever takes the guards away and changes rows, in the words of this engine."""
    with device_at(":memory:") as made:
        yield made


def leaves(device: Device) -> list[tuple[Any, ...]]:
    return device.backend.database.execute(
        "SELECT day, leaf, gateway, seq FROM checkpoint ORDER BY day, leaf"
    ).fetchall()


def alarms(device: Device) -> list[tuple[str, int]]:
    return [(alarm["kind"], alarm["count"]) for alarm in device.backend.alarms()]


# --- taking -----------------------------------------------------------------------------------


def test_checkpoint_is_one_leaf_however_often_it_comes(device: Device) -> None:
    device.post(100, -30)
    device.sign()
    device.sign()
    device.sign(at=8)
    assert leaves(device) == [(DAY, 0, GATEWAY, 2)]
    assert (alarms(device), device.backend.problems()) == ([], [])


def test_each_day_of_the_backends_clock_has_a_tree_of_its_own_that_names_the_one_before(device: Device) -> None:
    for _ in range(3):
        device.post(1)
        device.sign(at=999)  # what the gateway's clock says orders nothing
        device.at += 43_200
    assert leaves(device) == [(DAY, 0, GATEWAY, 1), (DAY, 1, GATEWAY, 2), (DAY + 1, 0, GATEWAY, 3)]
    first, second = (verify_head(device.backend.head(day, AT), KEYS[0]) for day in (DAY, DAY + 1))
    assert (first.size, second.size) == (2, 1)
    assert (first.previous, second.previous) == ("0" * 64, first.root)


def test_clock_that_went_back_changes_no_day_that_is_over(device: Device) -> None:
    device.post(1)
    device.sign()
    device.at -= 3 * 86_400
    device.post(2)
    device.sign()
    assert leaves(device) == [(DAY, 0, GATEWAY, 1), (DAY, 1, GATEWAY, 2)]


def test_day_that_was_changed_behind_the_next_ones_head_is_found_by_the_audit(device: Device) -> None:
    device.post(1)
    device.sign()
    device.at += 86_400
    device.post(2)
    device.sign()
    device.backend.head(DAY + 1, AT)
    assert device.backend.problems() == []
    sql = (
        "INSERT INTO checkpoint SELECT day, 1, 'gw-2', epoch, seq, envelope, received_at FROM checkpoint WHERE day = ?"
    )
    device.backend.database.execute(sql, (DAY,))
    assert f"day {DAY + 1}: the head of size 1 names another day before it than there is" in device.backend.problems()


def test_false_checkpoint_does_not_stand_before_a_true_one(device: Device) -> None:
    """Whoever has the device key can sign nonsense; the next true checkpoint still proves the customer's record."""
    device.post(1)
    device.sign(head="ab" * 32)
    device.post(2)
    device.sign()
    given = device.backend.give_proof(GATEWAY, 1, 1, AT)
    found = verify_receipt(given.receipt, given.proof, HeadFile(given.head.hex()), KEYS[0])
    assert isinstance(found, Verified)
    assert found.checkpoint.seq == 2


def test_two_signed_histories_of_one_place_are_an_alarm_and_the_first_stays(device: Device) -> None:
    device.post(100)
    device.sign()
    device.sign(head="ab" * 32)
    assert len(leaves(device)) == 1
    assert alarms(device) == [("checkpoint_fork", 1)]


def test_checkpoint_that_names_another_head_than_the_records_is_kept_as_evidence_with_an_alarm(device: Device) -> None:
    device.post(100)
    device.sign(head="ab" * 32)
    assert len(leaves(device)) == 1
    assert alarms(device) == [("checkpoint_differs", 1)]
    assert ["names another hash" in problem for problem in device.backend.problems()] == [True]


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"gw": "gw-2"}, "checkpoint_gateway"),
        ({"v": 2}, "checkpoint_version"),
        ({"balances_nano": 1}, "checkpoint_sums"),
    ],
)
def test_checkpoint_that_cannot_be_believed_is_an_alarm_and_no_leaf(
    device: Device, changes: dict[str, Any], kind: str
) -> None:
    device.post(100)
    device.sign(**changes)
    assert leaves(device) == []
    assert alarms(device) == [(kind, 1)]
    assert device.backend.counts() == {"led": 1, "evt": 1}  # the record itself is taken: its chain holds


@pytest.mark.parametrize("detail", ["zz", "01", "00" * 100, "01" * 2000])
def test_record_that_says_it_is_a_checkpoint_and_is_none_is_an_alarm(device: Device, detail: str) -> None:
    device.send("evt", json.dumps({"condition": "checkpoint_signed", "detail": detail}))
    assert leaves(device) == []
    assert len(alarms(device)) == 1


@pytest.mark.parametrize(
    "body", [b"checkpoint_signed", b'{"condition":"x","detail":"checkpoint_signed"}', b"{}", b"[]"]
)
def test_record_of_something_else_is_no_checkpoint(body: bytes) -> None:
    assert checkpoint_in(body) is None


@given(st.integers(0, 2000), st.integers(0, 7))
def test_no_flipped_bit_of_a_checkpoint_makes_a_leaf(place: int, bit: int) -> None:
    with contextlib.closing(new_backend()) as backend:
        device = Device(backend)
        backend.pin_device_key(GATEWAY, device.public_key, AT)
        device.post(100)
        envelope = bytearray(sign_checkpoint(device.checkpoint(), device.key))
        envelope[place % len(envelope)] ^= 1 << bit
        device.send("evt", noted(bytes(envelope)))
        assert leaves(device) == []


def test_checkpoints_from_before_their_key_was_pinned_are_taken_when_it_is() -> None:
    with contextlib.closing(new_backend()) as backend:
        device = Device(backend)
        device.post(5)
        device.sign()
        assert (leaves(device), alarms(device)) == ([], [("checkpoint_unknown_key", 1)])
        backend.pin_device_key(GATEWAY, device.public_key, AT)
        assert len(leaves(device)) == 1
        with pytest.raises(ValueError, match="not enrolled"):
            backend.pin_device_key("gw-9", device.public_key, AT)


def test_sums_that_the_records_do_not_give_are_found_by_the_audit(device: Device) -> None:
    device.post(100, -30)
    device.sign()
    assert device.backend.problems() == []
    device.post(50)
    device.sign(credits_nano=250, balances_nano=220)
    assert device.backend.problems() == [
        f"{GATEWAY} 1: the checkpoint at record 3 states other sums than the records give"
    ]


@pytest.mark.parametrize("table", ["checkpoint", "tree_head"])
@pytest.mark.parametrize("change", ["UPDATE {} SET day = day + 1", "DELETE FROM {}"])
def test_checkpoints_and_heads_given_out_are_never_changed_or_deleted(device: Device, table: str, change: str) -> None:
    device.post(100)
    device.sign()
    device.backend.head(DAY, AT)
    with pytest.raises(device.backend.database.Contradictions, match="never"):
        device.backend.database.execute(change.format(table))


def test_tree_that_was_rewritten_behind_a_given_head_is_found_by_the_audit(sqlite_device: Device) -> None:
    device = sqlite_device
    device.post(100)
    device.sign()
    device.backend.head(DAY, AT)
    database = device.backend.database
    for statement in ("UPDATE checkpoint SET leaf = 3", "DELETE FROM checkpoint", "UPDATE tree_head SET size = 9"):
        with pytest.raises(sqlite3.IntegrityError, match="never"):
            database.execute(statement)
    database.execute("DROP TRIGGER checkpoint_is_never_changed")
    database.execute("UPDATE checkpoint SET envelope = ?", (sign_checkpoint(device.checkpoint(at=8), device.key),))
    assert device.backend.problems() == [f"day {DAY}: the head of size 1 is not the root of its checkpoints"]


@pytest.mark.parametrize(
    "change",
    [
        "checkpoint SET envelope = CAST(replace(CAST(envelope AS TEXT), '\"at\":7', '\"at\":8') AS BLOB)",
        "checkpoint SET gateway = 'gw-2'",
        "checkpoint SET epoch = 2",
        "checkpoint SET seq = 1",
        "checkpoint SET leaf = 1",
        "device_key SET public_key = zeroblob(32)",
        "device_key SET kid = 'abcd'",
        "device_key SET gateway = 'gw-2'",
    ],
)
def test_row_that_somebody_changed_is_found_by_the_audit(sqlite_device: Device, change: str) -> None:
    device = sqlite_device
    device.post(100, -30)
    device.sign()
    device.backend.enroll("gw-2", AT)
    assert device.backend.problems() == []
    device.backend.database.execute("DROP TRIGGER checkpoint_is_never_changed")
    assert device.backend.database.execute(f"UPDATE {change}").rowcount == 1
    assert device.backend.problems() != []


def test_head_of_one_size_is_signed_once(device: Device) -> None:
    device.post(1)
    device.sign()
    first = device.backend.head(DAY, AT)
    assert device.backend.head(DAY, AT + 50) == first
    assert verify_head(device.backend.head(DAY + 5, AT), KEYS[0]).size == 0


def test_database_of_schema_1_gets_the_new_tables(tmp_path: Path) -> None:
    path = tmp_path / "cloud.db"
    with contextlib.closing(new_backend(path)) as backend:
        for table in ("checkpoint", "tree_head", "device_key"):
            backend.database.execute(f"DROP TABLE {table}")
        backend.database.execute("PRAGMA user_version = 1")
    with contextlib.closing(Backend(path, *KEYS)) as backend:
        device = Device(backend)
        backend.pin_device_key(GATEWAY, device.public_key, AT)
        device.post(1)
        device.sign()
        assert len(leaves(device)) == 1


# --- verifying --------------------------------------------------------------------------------


@dataclass
class Case:
    """A receipt with all that belongs to it; each test spoils one part."""

    receipt: Receipt
    proof: Proof
    head: HeadFile
    ring: KeyRing
    device_key: bytes
    earlier: HeadFile | None = None

    def verify(self) -> Verified | ProofRefused:
        return verify_receipt(self.receipt, self.proof, self.head, self.ring, self.device_key, self.earlier)


@pytest.fixture
def case(device: Device) -> Case:
    """The third of five records, under the second of three checkpoints of the day."""
    backend = device.backend
    others = [Device(backend, f"gw-{number}") for number in (2, 3)]
    for other in others:
        backend.enroll(other.gateway_id, AT)
        backend.pin_device_key(other.gateway_id, other.public_key, AT)
        other.post(1)
    others[0].sign()
    earlier = HeadFile(backend.head(DAY, AT).hex())
    device.post(1, 2, 3, -4, 5)
    device.sign()
    others[1].sign()
    given = backend.give_proof(GATEWAY, 1, 3, AT, size_before=1)
    return Case(given.receipt, given.proof, HeadFile(given.head.hex()), KEYS[0], device.public_key, earlier)


def test_true_receipt_is_verified_and_shows_its_record(case: Case) -> None:
    found = case.verify()
    assert isinstance(found, Verified)
    assert json.loads(found.record)["posting_nano"] == 3
    assert (found.checkpoint.seq, found.head.size, found.head.day) == (5, 3, DAY)
    case.receipt = msgspec.structs.replace(case.receipt, hash=case.receipt.hash[:8])  # as the console prints it
    assert isinstance(case.verify(), Verified)


def spoil(part: str, **changes: Any) -> Callable[[Case], None]:
    def change(case: Case) -> None:
        setattr(case, part, msgspec.structs.replace(getattr(case, part), **changes))

    return change


def other_head(role: Role, **changes: Any) -> Callable[[Case], None]:
    """A head of the same tree, signed with the key of a role."""

    def change(case: Case) -> None:
        head = verify_head(bytes.fromhex(case.head.envelope), case.ring)
        signer = KEYS[1][role]
        case.head = HeadFile(sign_head(msgspec.structs.replace(head, kid=signer.kid, **changes), signer).hex())

    return change


def change_a_record(case: Case) -> None:
    records = [*case.proof.records[:1], case.proof.records[1].replace("-4", "-3"), *case.proof.records[2:]]
    case.proof = msgspec.structs.replace(case.proof, records=tuple(records))


def change_its_own_record(case: Case) -> None:
    records = [case.proof.records[0].replace("3", "9"), *case.proof.records[1:]]
    case.proof = msgspec.structs.replace(case.proof, records=tuple(records))


def forge_the_checkpoint(case: Case) -> None:
    envelope = bytearray(bytes.fromhex(case.proof.checkpoint))
    envelope[-2] ^= 1
    case.proof = msgspec.structs.replace(case.proof, checkpoint=bytes(envelope).hex())


def forget_the_last_record(case: Case) -> None:
    case.proof = msgspec.structs.replace(case.proof, records=case.proof.records[:-1])


def trust_nobody(case: Case) -> None:
    case.ring = KeyRing([])


def other_ledger(case: Case) -> None:
    case.receipt = msgspec.structs.replace(case.receipt, gw="gw-2")


def drop_the_path(case: Case) -> None:
    case.proof = msgspec.structs.replace(case.proof, path=case.proof.path[:-1])


def sign_with_another_device(case: Case) -> None:
    other = Ed25519PrivateKey.generate()
    case.proof = msgspec.structs.replace(case.proof, device_key=other.public_key().public_bytes_raw().hex())


def sign_with_another_device_unpinned(case: Case) -> None:
    sign_with_another_device(case)
    case.device_key = None  # type: ignore[assignment]


def rewrite_history(case: Case) -> None:
    before = verify_head(bytes.fromhex(case.head.envelope), case.ring)
    signer = KEYS[1][Role.INGEST]
    rewritten = msgspec.structs.replace(before, size=1, root="ab" * 32)
    case.earlier = HeadFile(sign_head(rewritten, signer).hex())


def compare_with_another_day(case: Case) -> None:
    assert case.earlier is not None
    before = verify_head(bytes.fromhex(case.earlier.envelope), case.ring)
    signer = KEYS[1][Role.INGEST]
    case.earlier = HeadFile(sign_head(msgspec.structs.replace(before, day=before.day - 1), signer).hex())


LIES = [
    (spoil("head", envelope="01" * 1100), "head_size"),
    (spoil("head", envelope="02" * 100), "head_version"),
    (spoil("head", envelope="01" * 100), "head_malformed"),
    (trust_nobody, "head_unknown_key"),
    (other_head(Role.VEND), "head_role"),
    (other_head(Role.INGEST, v=2), "head_version"),
    (sign_with_another_device, "device_key"),
    (sign_with_another_device_unpinned, "checkpoint_unknown_key"),
    (forge_the_checkpoint, "checkpoint_signature"),
    (spoil("proof", checkpoint="01" * 100), "checkpoint_malformed"),
    (spoil("proof", checkpoint="01" * 2000), "checkpoint_size"),
    (other_ledger, "other_ledger"),
    (spoil("receipt", epoch=2), "other_ledger"),
    (spoil("receipt", seq=4), "not_reached"),
    (forget_the_last_record, "not_reached"),
    (spoil("receipt", hash="ab" * 32), "receipt_hash"),
    (spoil("receipt", hash="ab" * 4), "receipt_hash"),
    (change_its_own_record, "receipt_hash"),
    (spoil("proof", previous="ab" * 32), "receipt_hash"),
    (change_a_record, "chain"),
    (spoil("proof", leaf=0), "not_in_tree"),
    (spoil("proof", leaf=7), "not_in_tree"),
    (drop_the_path, "not_in_tree"),
    (other_head(Role.INGEST, root="ab" * 32), "not_in_tree"),
    (other_head(Role.INGEST, size=2), "not_in_tree"),
    (spoil("proof", consistency=()), "earlier_head"),
    (rewrite_history, "earlier_head"),
    (compare_with_another_day, "earlier_head"),
    (spoil("earlier", envelope="01" * 100), "head_malformed"),
]


@pytest.mark.parametrize(("lie", "reason"), LIES, ids=[f"{number}-{reason}" for number, (_, reason) in enumerate(LIES)])
def test_every_lie_is_refused_with_its_reason(case: Case, lie: Callable[[Case], None], reason: str) -> None:
    lie(case)
    found = case.verify()
    assert isinstance(found, ProofRefused)
    assert found.reason == reason


def test_record_after_the_last_checkpoint_cannot_be_proved_yet(device: Device, case: Case) -> None:
    device.post(7)
    for seq, said in ((6, "no checkpoint"), (99, "no checkpoint")):
        with pytest.raises(NotProvable, match=said):
            device.backend.give_proof(GATEWAY, 1, seq, AT)
    with pytest.raises(NotProvable, match="leaves"):
        device.backend.give_proof(GATEWAY, 1, 1, AT, size_before=9)


def test_what_the_ingest_key_signed_as_an_ack_is_no_head(case: Case) -> None:
    content = bytes.fromhex(case.head.envelope)[65:]
    assert verify_head(seal(DOMAIN_HEAD, KEYS[1][Role.INGEST].key, content), case.ring).size == 3
    with pytest.raises(WireError, match="signature"):
        verify_head(seal(DOMAIN_ACK, KEYS[1][Role.INGEST].key, content), case.ring)


# --- command line -----------------------------------------------------------------------------


def wattgate(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge.cli", "proof", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def given_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the operator gave out, and the device's public key in `device`."""
    folder = tmp_path_factory.mktemp("given")
    keys, database = folder / "keys", folder / "cloud.db"
    generate_key_directory(keys)
    with contextlib.closing(Backend.from_directory(database, keys)) as backend:
        backend.enroll(GATEWAY, AT)
        device = Device(backend)
        device.post(1, 2, 3)
        device.sign()
    pinned = wattgate("pin", "--db", str(database), GATEWAY, device.public_key.hex(), "--json")
    assert json.loads(pinned.stdout)["kid"] == device_kid(device.key.public_key())
    ended = wattgate("give", "--db", str(database), "--keys", str(keys), GATEWAY, "2", "--out", str(folder), "--json")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["seq"] == 2
    (folder / "device").write_text(device.public_key.hex())
    return folder


def files_of(folder: Path) -> list[str]:
    return [f"--{name}={folder / name}.json" for name in ("receipt", "head", "proof")]


def test_third_party_verifies_with_the_files_alone(given_out: Path) -> None:
    key = (given_out / "device").read_text()
    ended = wattgate("verify", *files_of(given_out), "--device-key", key, "--json")
    facts = json.loads(ended.stdout)
    assert (ended.returncode, facts["valid"], facts["seq"], facts["device_key_pinned"]) == (0, True, 2, True)
    for language, word in zip(LANGUAGES, ("TRUE", "属实"), strict=True):
        said = wattgate("verify", *files_of(given_out), "--lang", language)
        assert said.returncode == 0
        assert word in said.stdout
        assert key in said.stdout  # it was not compared with a trusted one: people must see it


def test_receipt_can_hold_its_proof_itself(given_out: Path, tmp_path: Path) -> None:
    receipt = json.loads((given_out / "receipt.json").read_text())
    receipt["proof"] = json.loads((given_out / "proof.json").read_text())
    (tmp_path / "receipt.json").write_text(json.dumps(receipt | {"customer": "王"}))
    ended = wattgate("verify", "--receipt", str(tmp_path / "receipt.json"), "--head", str(given_out / "head.json"))
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("language", LANGUAGES)
def test_lie_is_status_3_with_its_reason_for_people_and_programs(
    given_out: Path, tmp_path: Path, language: str
) -> None:
    receipt = json.loads((given_out / "receipt.json").read_text())
    (tmp_path / "receipt.json").write_text(json.dumps(receipt | {"hash": "ab" * 32}))
    arguments = [f"--receipt={tmp_path / 'receipt.json'}", *files_of(given_out)[1:]]
    said = wattgate("verify", *arguments, "--lang", language)
    assert said.returncode == 3
    assert "receipt_hash" in said.stdout
    ended = wattgate("verify", *arguments, "--json")
    assert (ended.returncode, json.loads(ended.stdout)["reason"]) == (3, "receipt_hash")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"receipt": None}, "No such file"),
        ({"receipt": "{}"}, "receipt.json: Object missing required field `gw`"),
        ({"receipt": '{"gw":"gw-1","epoch":1,"seq":0,"hash":"abababab"}'}, "`$.seq`"),
        ({"receipt": '{"gw":"gw-1","epoch":1,"seq":1,"hash":"abab"}'}, "`$.hash`"),
        ({"proof": "[]"}, "proof.json: Expected `object`"),
        ({"head": '{"envelope":"xx"}'}, "`$.envelope`"),
        ({"head": "\x00"}, "head.json"),
        ({"keyring": "{"}, "keyring.json"),
    ],
)
def test_file_that_cannot_be_used_is_status_2_and_named(
    given_out: Path, tmp_path: Path, change: dict[str, str | None], said: str
) -> None:
    for name in ("receipt", "head", "proof", "keyring"):
        (tmp_path / f"{name}.json").write_bytes((given_out / f"{name}.json").read_bytes())
        if name in change:
            (tmp_path / f"{name}.json").unlink()
            if change[name] is not None:
                (tmp_path / f"{name}.json").write_text(str(change[name]))
    ended = wattgate("verify", *files_of(tmp_path))
    assert ended.returncode == 2
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("verify",),
        ("verify", "--receipt", "x", "--head", "y", "--device-key", "abc"),
        ("pin", "--db", "{}/none.db", GATEWAY, "ab"),
        ("pin", "--db", "{}/cloud.db", GATEWAY, "ab"),
        ("pin", "--db", "{}/cloud.db", "gw-9", "ab" * 32),
        ("give", "--db", "{}/cloud.db", "--keys", "{}/keys", GATEWAY, "9", "--out", "{}/x"),
        ("give", "--db", "{}/cloud.db", "--keys", "{}/keys", GATEWAY, "0", "--out", "{}/x"),
        ("give", "--db", "{}/cloud.db", "--keys", "{}/none", GATEWAY, "1", "--out", "{}/x"),
        ("new-key", "{}/device"),
        ("new-key", "{}/keys/ingest-1.pem"),
    ],
)
def test_bad_arguments_are_status_2_without_a_trace(given_out: Path, arguments: tuple[str, ...]) -> None:
    ended = wattgate(*(text.format(given_out) for text in arguments))
    assert ended.returncode == 2
    assert ended.stderr
    assert "Traceback" not in ended.stderr


def test_new_key_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    ended = wattgate("new-key", str(tmp_path / "device.pem"), "--json")
    facts = json.loads(ended.stdout)
    assert len(facts["public_key"]) == 64
    assert (tmp_path / "device.pem").stat().st_mode & 0o777 == 0o600


def test_head_file_says_in_clear_what_its_envelope_says(given_out: Path) -> None:
    said = json.loads((given_out / "head.json").read_text())
    ring = load_key_ring(given_out / KEYRING_FILE)
    assert verify_head(bytes.fromhex(said.pop("envelope")), ring) == msgspec.convert(said, TreeHead)
