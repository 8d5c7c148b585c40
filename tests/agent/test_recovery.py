"""A store put back, lost or foreign: noticed at the start, before any charge and any switch (SECURITY R8).

The real agent on real files, with a meter whose relay is its own, and which counts what it is asked.
"""

import asyncio
import shutil
import struct
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cloud_sync import orders
from cloud_sync.acks import sign_ack
from cloud_sync.keys import KeyRing, Role, Signer, generate_keys
from cloud_sync.session import HelloFacts, SessionSettings, SyncSession
from cloud_sync.wire import CONTRACT_VERSION, Ack, Mark, Order, decode_hello, record_hash, topic_of
from edge.agent.cloud_link import CloudLink, LinkEvents
from edge.agent.recovery import SilentJournal, StandBy
from edge.bootstrap import (
    Prepared,
    RecoverRefused,
    _Checks,
    anchor_advice,
    open_journal,
    prepare,
    recover,
    run_gateway,
)
from edge.bus.frame import crc16
from edge.cli import _EventPrinter, main
from edge.config import CloudSection, read_config
from edge.core.events import Event
from edge.core.units import ClockQuality, ClockReading, UnixSeconds
from edge.ports import Anchor, AnchorError, AnchorState, BytePort
from edge.store.event_log import JournalEventLog
from edge.store.site_book import AccountEntry, MeterEntry, RelayEntry, Site, SiteBook, write_site_book
from edge.store.verify import verify_store
from hw.file_anchor import FileAnchor

GATEWAY = "gw-1"
START_AT = 1_772_380_800
SECONDS_PER_REAL_SECOND = 3600
TARIFF = Path(__file__).resolve().parents[2] / "edge" / "tariffs" / "demo-street.json"
CONFIG = """
[gateway]
id = "gw-1"
data_dir = "data"
tariffs = ["tariff.json"]

[accounting]
round_interval_ms = 20

[[lines]]
id = "line-1"
address = "rtu+tcp://127.0.0.1:1"
drain_silence_ms = 20
poll_interval_ms = 10
"""
READS = (1, 2, 3, 4)
LOOK_S = 0.01


class Meter:
    """A meter with a relay on channel 0 of a board; both on one line. Opens as a port."""

    def __init__(self) -> None:
        self.import_kwh = 100.0
        self.asked: list[int] = []  # function codes
        self.closed = True

    async def __call__(self, on_bytes: Callable[[bytes], None], on_lost: Callable[[str], None]) -> BytePort:
        meter = self

        class Port:
            def write(self, data: bytes) -> None:
                answer = meter.answer(data)
                asyncio.get_running_loop().call_soon(on_bytes, answer + crc16(answer).to_bytes(2, "little"))

            def close(self) -> None:
                pass

        return Port()

    def answer(self, request: bytes) -> bytes:
        unit, function = request[:2]
        self.asked.append(function)
        address, count = struct.unpack(">HH", request[2:6])
        if function in (1, 2):
            return bytes((unit, function, 1, int(self.closed)))
        if function in (3, 4):
            cells = b"".join(self.cell(address + at) for at in range(count))
            return bytes((unit, function, len(cells))) + cells
        self.closed = count == 0xFF00
        return request[:6]

    def cell(self, address: int) -> bytes:
        value = struct.pack(">f", self.import_kwh) if address in (0x48, 0x49) else struct.pack(">f", 1.0)
        return value[:2] if address % 2 == 0 else value[2:]


class FastClock:
    """An hour a second, and time enough between two lives."""

    def __init__(self, at: int, boot_id: str) -> None:
        self._at, self._boot_id, self._started = at, boot_id, time.monotonic()

    def read(self) -> ClockReading:
        elapsed = time.monotonic() - self._started
        at = UnixSeconds(self._at + int(elapsed * SECONDS_PER_REAL_SECOND))
        return ClockReading(at, int(elapsed * SECONDS_PER_REAL_SECOND * 1000), self._boot_id, ClockQuality.NTP)


class Site1:
    """The files of one gateway, and its lives."""

    def __init__(self, folder: Path, ring: KeyRing | None) -> None:
        self.folder, self.ring = folder, ring
        self.meter = Meter()
        self.lives = 0
        self.told: list[str] = []
        self.anchor: Anchor | None = None
        self.cloud: CloudSection | None = None
        (folder / "tariff.json").write_text(TARIFF.read_text("utf-8"), "utf-8")
        meter = MeterEntry("M01", "line-1", 1, "eastron_sdm120", relay_id="R01")
        relay = RelayEntry("R01", "line-1", 9, "relay_board_8ch", 0)
        account = AccountEntry("A01", "M01", "demo-street@1")
        write_site_book(folder / "site.json", SiteBook(Site("Asia/Shanghai", "CNY"), (meter,), (relay,), (account,)))
        (folder / "gateway.toml").write_text(CONFIG, "utf-8")

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def prepared(self) -> Prepared:
        prepared = prepare(read_config(self.folder / "gateway.toml"))
        config = msgspec.structs.replace(prepared.config, cloud=self.cloud)
        return replace(prepared, config=config, openers={"line-1": self.meter}, ring=self.ring)

    def live(self, until: Callable[[Any], bool] | None = None, rounds: int = 5) -> list[Any]:
        """Runs the agent until something is in its snapshot, or for some rounds. Returns the snapshots."""
        self.told = []
        return asyncio.run(self._live(until, rounds))

    def _hear(self, events: Sequence[Event]) -> None:
        self.told.extend(type(event).__name__ for event in events)

    def types(self) -> list[str]:
        """Classes of the events since the agent was started."""
        return self.told

    async def _live(self, until: Callable[[Any], bool] | None, rounds: int) -> list[Any]:
        stop, seen = asyncio.Event(), []
        self.lives += 1
        clock = FastClock(START_AT + self.lives * 86_400, f"boot-{self.lives}")
        running = asyncio.ensure_future(run_gateway(self.prepared(), clock, stop, self._hear, anchor=self.anchor))
        try:
            async with asyncio.timeout(30):
                while True:
                    snapshot = await self._status(running)
                    if snapshot is not None:
                        seen.append(snapshot)
                        if until(snapshot) if until is not None else snapshot["version"] >= rounds:
                            break
        finally:
            stop.set()
            await running
        return seen

    async def _status(self, running: "asyncio.Future[None]") -> Any:
        """What the local socket says."""
        await asyncio.sleep(LOOK_S)
        assert not running.done(), running.exception()
        try:
            reader, writer = await asyncio.open_unix_connection(str(self.data / "agent.sock"))
            writer.write(b'{"do": "status"}\n')
            answer = await reader.readline()
        except OSError:
            return None  # not up yet, or going from RECOVERY to work
        writer.close()
        return msgspec.json.decode(answer)["status"] if answer else None

    def records(self) -> list[tuple[str, int, int, str]]:
        """(stream, epoch, seq, body) of the journal as it lies there."""
        journal = open_journal(self.prepared())
        try:
            return [(r.stream, r.epoch, r.seq, r.body.decode()) for r in journal.replay()]
        finally:
            journal._connection.close()

    def keep(self) -> None:
        shutil.copyfile(self.data / "journal.db", self.folder / "kept.db")

    def put_back(self) -> None:
        shutil.copyfile(self.folder / "kept.db", self.data / "journal.db")


def opened(snapshot: Any) -> bool:
    return bool(snapshot["accounts"]) and snapshot["accounts"][0]["reading_at"] is not None


@pytest.fixture(scope="module")
def signers() -> tuple[KeyRing, Any]:
    return generate_keys()


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory, signers: tuple[KeyRing, Any]) -> Site1:
    """A gateway that ran twice, with a night between; `kept.db` is its journal after the first time."""
    site = Site1(tmp_path_factory.mktemp("lived"), signers[0])
    site.live(opened)
    site.keep()
    site.meter.import_kwh += 3.0
    frozen_in: list[int] = []

    def checkpointed(snapshot: Any) -> bool:
        """The checkpoint is written after the round of the freeze: two rounds later it is there."""
        if opened(snapshot) and "RegisterFrozen" in site.types():
            frozen_in.append(snapshot["version"])
        return bool(frozen_in) and snapshot["version"] >= frozen_in[0] + 2

    site.live(checkpointed)
    return site


@pytest.fixture
def site(tmp_path: Path, lived: Site1) -> Site1:
    """A copy of it, to be spoilt."""
    site = Site1(tmp_path, lived.ring)
    site.lives, site.meter.import_kwh = lived.lives, lived.meter.import_kwh
    shutil.copytree(lived.data, site.data)
    shutil.copyfile(lived.folder / "kept.db", site.folder / "kept.db")
    return site


def permit(signers: tuple[KeyRing, Any], epoch: Any = 2, cid: str = "c-1", **changes: Any) -> bytes:
    """A signed order to open an epoch."""
    role = changes.pop("role", Role.OPS)
    signer: Signer = signers[1][role]
    order = Order(
        v=CONTRACT_VERSION,
        cid=cid,
        gw=changes.pop("gw", GATEWAY),
        meter="",
        type=changes.pop("type", "resync"),
        args={"epoch": epoch},
        nbf=0,
        kid=signer.kid,
        **changes,
    )
    return orders.sign_order(order, signer)


def test_newest_store_starts_without_a_word(site: Site1) -> None:
    last = site.live(opened)[-1]
    assert last["recovery"] is None
    assert last["version"] >= 1
    assert FileAnchor(site.data / "anchor.json").read().boots >= 3  # type: ignore[union-attr]


def test_store_of_a_real_agent_is_good_and_has_its_checkpoint(site: Site1) -> None:
    report = verify_store(site.data, record_hash, FileAnchor(site.data / "anchor.json"))
    assert (report.problems, report.anchor) == ([], "agrees")
    assert report.checkpoints >= 1
    journal = open_journal(site.prepared())
    restored = JournalEventLog(journal).restore()
    journal._connection.close()
    assert restored.replayed < report.place


def test_anchor_that_cannot_be_written_is_told_once_and_stops_nobody(site: Site1) -> None:
    """Payments go on; the next start may find a store further on than its anchor, which is good."""
    site.anchor = SilentAnchor(site.data / "anchor.json")
    site.live(lambda snapshot: opened(snapshot) and "RegisterFrozen" in site.types())
    noted = [body for _, _, _, body in site.records() if "anchor_fails" in body]
    assert len(noted) == 1
    assert "no answer" in noted[0]
    site.anchor = None
    assert site.live(opened)[-1]["recovery"] is None


class SilentAnchor(FileAnchor):
    """It can be read, and takes nothing."""

    def write(self, state: AnchorState) -> None:
        raise AnchorError("no answer")


def test_store_put_back_is_noticed_and_nothing_is_charged_or_switched(site: Site1) -> None:
    site.put_back()
    before = [record for record in site.records() if record[0] != "evt"]
    anchor = (site.data / "anchor.json").read_bytes()
    site.meter.asked.clear()
    site.meter.import_kwh += 50.0
    seen = site.live(rounds=20)
    assert {snapshot["recovery"]["reason"] for snapshot in seen} == {"journal_behind"}
    assert site.types() == ["ConditionNoted"]  # who listens to the agent's events is told, once
    assert seen[-1]["recovery"]["epoch_min"] == 2
    assert set(site.meter.asked) <= set(READS)  # read, and never told anything
    assert 4 in site.meter.asked
    assert site.meter.closed
    assert [record for record in site.records() if record[0] != "evt"] == before
    assert any('"recovery"' in body and "journal_behind" in body for _, _, _, body in site.records())
    assert (site.data / "anchor.json").read_bytes() == anchor


def test_recovery_outlives_a_new_start_and_the_right_store_ends_it(site: Site1) -> None:
    shutil.copyfile(site.data / "journal.db", site.folder / "newest.db")
    site.put_back()
    for _ in range(2):
        assert site.live(rounds=2)[-1]["recovery"]["reason"] == "journal_behind"
    shutil.copyfile(site.folder / "newest.db", site.data / "journal.db")
    assert site.live(opened)[-1]["recovery"] is None


def test_store_that_went_on_by_itself_is_another_history(site: Site1, tmp_path: Path) -> None:
    (tmp_path / "twin").mkdir()
    twin = Site1(tmp_path / "twin", site.ring)
    twin.lives = 7
    twin.data.mkdir()
    shutil.copyfile(site.folder / "kept.db", twin.data / "journal.db")
    shutil.copyfile(site.data / "anchor.json", twin.data / "anchor.json")
    asyncio.run(_write_many(twin.data / "journal.db"))
    assert twin.live(rounds=2)[-1]["recovery"]["reason"] == "other_history"


async def _write_many(path: Path) -> None:
    from edge.store.journal import SqliteJournal

    journal = SqliteJournal.open(path, GATEWAY, record_hash)
    await journal.append([("evt", b'{"type":"ConditionNoted","at":1,"condition":"x","account":"","detail":""}')] * 500)
    await journal.close()


def lose_journal(site: Site1) -> None:
    (site.data / "journal.db").unlink()


def lose_anchor(site: Site1) -> None:
    (site.data / "anchor.json").unlink()


def spoil_anchor(site: Site1) -> None:
    text = (site.data / "anchor.json").read_text("utf-8")
    (site.data / "anchor.json").write_text(text.replace('"boots": ', '"boots": 1'), "utf-8")


def swap_anchor(site: Site1) -> None:
    anchor = FileAnchor(site.data / "anchor.json")
    state = anchor.read()
    assert state is not None
    anchor.write(replace(state, gateway_id="gw-2"))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lose_journal, "journal_missing"),
        (lose_anchor, "anchor_missing"),
        (spoil_anchor, "anchor_unreadable"),
        (swap_anchor, "other_gateway"),
    ],
)
def test_store_that_cannot_be_shown_to_be_the_newest_is_not_gone_on_with(
    site: Site1, damage: Callable[[Site1], None], reason: str
) -> None:
    damage(site)
    site.meter.asked.clear()
    assert site.live(rounds=5)[-1]["recovery"]["reason"] == reason
    assert set(site.meter.asked) <= set(READS)


def test_cloud_hears_the_real_heads_and_gets_no_record(site: Site1, signers: Any) -> None:
    """A record sent from a store that is not the newest would be a second history under a used number."""
    site.put_back()
    journal = open_journal(site.prepared())
    silent = SilentJournal(journal)
    sent: list[tuple[str, bytes]] = []

    class Broker:
        def publish(self, topic: str, payload: bytes, qos: int, retain: bool) -> bool:
            sent.append((topic.rpartition("/")[2], payload))
            return True

        def leave(self, reason: str) -> None:
            raise AssertionError(reason)

        async def run(self, events: LinkEvents) -> None:
            events.connected()
            await asyncio.sleep(LOOK_S * 10)
            events.disconnected("over")

    async def link_up() -> None:
        session = SyncSession(GATEWAY, "b", "0", journal.heads(), signers[0], lambda: 0.0, SessionSettings())
        nobody = (lambda: HelloFacts(1, "ntp", ()), StandBy.take_order, StandBy.take_order, print)
        link = CloudLink(session, Broker(), silent, *nobody)  # type: ignore[arg-type]
        running = asyncio.ensure_future(link.run())
        await asyncio.sleep(LOOK_S * 20)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert list(await silent.read("led", 0, 10)) == []
        await journal.close()

    asyncio.run(link_up())
    assert {channel for channel, _ in sent} == {"st", "hello"}
    hello = decode_hello(next(payload for channel, payload in sent if channel == "hello"), GATEWAY)
    assert hello.heads["led"].seq == journal.heads()["led"].seq > 0


# --- how it ends -----------------------------------------------------------------------------


def run(work: Awaitable[Any]) -> Any:
    async def bounded() -> Any:
        return await work

    return asyncio.run(bounded())


def test_signed_permit_opens_an_epoch_and_the_accounting_goes_on(site: Site1, signers: Any) -> None:
    site.put_back()
    clock = FastClock(START_AT + 40 * 86_400, "boot-r")
    assert run(recover(site.prepared(), clock, permit(signers), None)) == "epoch 2 is open"
    last = site.live(lambda snapshot: opened(snapshot) and "RegisterFrozen" in site.types())[-1]
    assert last["recovery"] is None
    records = site.records()
    fresh = [record for record in records if record[1] == 2]
    assert {stream: min(r[2] for r in fresh if r[0] == stream) for stream in ("led", "res", "evt")} == {
        "led": 1,
        "res": 1,
        "evt": 1,
    }
    assert "journal_behind" in fresh[0][3]
    assert records.index(fresh[0]) == len(records) - len(fresh)  # nothing of the old epoch comes after


def test_permit_counts_once(site: Site1, signers: Any) -> None:
    site.put_back()
    clock = FastClock(START_AT + 40 * 86_400, "boot-r")
    used = permit(signers)
    run(recover(site.prepared(), clock, used, None))
    site.put_back()  # the same old store again, with the anchor of the new epoch
    with pytest.raises(RecoverRefused, match="epoch_used"):
        run(recover(site.prepared(), clock, used, None))
    assert run(recover(site.prepared(), clock, permit(signers, 3, "c-2"), None)) == "epoch 3 is open"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"epoch": 1}, "epoch_used"),
        ({"epoch": "2"}, "arguments"),
        ({"epoch": True}, "arguments"),
        ({"epoch": 2**40}, "arguments"),
        ({"gw": "gw-2"}, "wrong_gateway"),
        ({"role": Role.VEND}, "role"),
        ({"type": "set_config"}, "arguments"),
        ({"type": "revoke"}, "arguments"),
    ],
)
def test_permit_that_does_not_hold_opens_nothing(
    site: Site1, signers: Any, changes: dict[str, Any], reason: str
) -> None:
    site.put_back()
    clock = FastClock(START_AT + 40 * 86_400, "boot-r")
    with pytest.raises(RecoverRefused, match=reason):
        run(recover(site.prepared(), clock, permit(signers, **changes), None))
    assert site.live(rounds=2)[-1]["recovery"]["reason"] == "journal_behind"


def test_permit_with_any_bit_flipped_opens_nothing(site: Site1, signers: Any) -> None:
    good = permit(signers)
    checks = _Checks(signers[0], GATEWAY)
    clock = FastClock(START_AT, "b").read()
    assert isinstance(checks.order(good, clock), Order)
    for bit in range(0, 8 * len(good), 3):
        spoiled = bytearray(good)
        spoiled[bit // 8] ^= 1 << bit % 8
        assert not isinstance(checks.order(bytes(spoiled), clock), Order)


def test_where_no_keys_are_pinned_the_person_at_the_command_line_decides(site: Site1, signers: Any) -> None:
    site.put_back()
    clock = FastClock(START_AT + 40 * 86_400, "boot-r")
    with pytest.raises(RecoverRefused, match="pins keys"):
        run(recover(site.prepared(), clock, None, 2))
    site.ring = None
    with pytest.raises(RecoverRefused, match="allowed is 2 or more"):
        run(recover(site.prepared(), clock, None, 1))
    with pytest.raises(RecoverRefused, match="journal_behind"):
        run(recover(site.prepared(), clock, None, None))
    assert run(recover(site.prepared(), clock, None, 2)) == "epoch 2 is open"
    assert run(recover(site.prepared(), clock, None, None)).startswith("good")
    with pytest.raises(RecoverRefused, match="not in RECOVERY"):
        run(recover(site.prepared(), clock, None, 3))


class Cloud:
    """A broker with the cloud behind it: it acknowledges what it has, and sends orders once that was seen."""

    def __init__(self, site: Site1, signers: Any, orders_to_send: Sequence[bytes]) -> None:
        self.site, self.signers, self.orders_to_send = site, signers, orders_to_send
        self.published: list[str] = []
        self.seen = asyncio.Event()

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool) -> bool:
        self.published.append(topic.partition(GATEWAY + "/")[2])
        return True

    def leave(self, reason: str) -> None:
        raise AssertionError(reason)

    async def run(self, events: LinkEvents) -> None:
        events.connected()
        signer = self.signers[1][Role.INGEST]
        mark = Mark(epoch=1, seq=4711, hash="ab" * 32)
        ack = Ack(CONTRACT_VERSION, GATEWAY, signer.kid, START_AT, {"led": mark})
        for envelope in (b"noise", sign_ack(ack, signer)):
            events.message(topic_of(GATEWAY, "dn/ack"), envelope)
        await self.seen.wait()
        for envelope in self.orders_to_send:
            events.message(topic_of(GATEWAY, "dn/cmd"), envelope)
        await asyncio.Event().wait()


def test_permit_from_the_cloud_ends_recovery_without_a_new_start(
    site: Site1, signers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the cloud says it has is shown; then its orders come: one that must wait, noise, and the permit."""
    site.put_back()
    sent = (permit(signers, type="revoke"), b"noise", permit(signers), permit(signers))
    cloud = Cloud(site, signers, sent)
    monkeypatch.setattr("edge.bootstrap._transport", lambda *_: cloud)
    site.cloud = CloudSection(brokers=("mqtt://127.0.0.1:1",), keyring="keyring.json")
    marks: list[Any] = []

    def working_again(snapshot: Any) -> bool:
        if snapshot["recovery"] is not None and snapshot["recovery"]["cloud"]:
            marks.append(snapshot["recovery"]["cloud"])
            cloud.seen.set()
        return snapshot["recovery"] is None and opened(snapshot)

    last = site.live(working_again)[-1]
    assert marks[0] == {"led": 4711}
    assert {"st", "up/hello"} <= set(cloud.published)
    assert last["recovery"] is None
    site.cloud = None
    assert run(recover(site.prepared(), FastClock(START_AT, "b"), None, None)).startswith("good")


def test_start_after_recovery_begins_from_the_same_state(site: Site1, signers: Any) -> None:
    site.put_back()
    run(recover(site.prepared(), FastClock(START_AT + 40 * 86_400, "boot-r"), permit(signers), None))
    journal = open_journal(site.prepared())
    state = JournalEventLog(journal).restore().state
    journal._connection.close()
    assert state.applied["c-1"] == "applied"


# --- the command -----------------------------------------------------------------------------


def test_command_says_how_it_stands_and_what_is_wrong_with_a_permit(
    site: Site1, signers: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    config = ("recover", "--config", str(site.folder / "gateway.toml"))
    assert main(config) == 0
    assert capsys.readouterr().out.startswith("good: ")
    site.put_back()
    assert main(config) == 2
    assert "RECOVERY: journal_behind" in capsys.readouterr().err
    (site.folder / "permit.bin").write_bytes(permit(signers))
    assert main((*config, "--permit", str(site.folder / "permit.bin"))) == 2
    assert "pins no keys" in capsys.readouterr().err  # this configuration has no cloud
    assert main((*config, "--permit", str(site.folder / "nowhere.bin"))) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main((*config, "--epoch", "2")) == 0
    assert capsys.readouterr().out == "epoch 2 is open\n"


def test_command_makes_no_store_where_there_is_none(site: Site1, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(site.data)
    assert main(("recover", "--config", str(site.folder / "gateway.toml"))) == 2
    assert "there is no journal" in capsys.readouterr().err
    assert not site.data.exists()


# --- where the anchor is ----------------------------------------------------------------------


@pytest.fixture
def apart(tmp_path: Path, signers: tuple[KeyRing, Any]) -> Site1:
    """A gateway whose anchor is in another folder, as on a stick."""
    (tmp_path / "stick").mkdir()
    site = Site1(tmp_path, signers[0])
    config = CONFIG.replace('data_dir = "data"\n', 'data_dir = "data"\nanchor = "stick/anchor.json"\n')
    (site.folder / "gateway.toml").write_text(config, "utf-8")
    return site


def test_a_whole_data_folder_put_back_is_noticed_by_an_anchor_elsewhere(apart: Site1) -> None:
    apart.live(opened)
    shutil.copytree(apart.data, apart.folder / "card")
    apart.live(rounds=10)
    shutil.rmtree(apart.data)
    shutil.copytree(apart.folder / "card", apart.data)  # the journal, its log and whatever lay beside it
    assert not (apart.data / "anchor.json").exists()
    assert apart.live(rounds=2)[-1]["recovery"]["reason"] == "journal_behind"
    apart.meter.asked.clear()
    apart.live(rounds=5)
    assert set(apart.meter.asked) <= set(READS)


def test_a_store_that_lacks_nothing_but_a_reading_record_is_noticed(apart: Site1) -> None:
    """Its next reading would be another record under a number that the cloud knows already."""
    apart.live(opened)
    shutil.copytree(apart.data, apart.folder / "card")

    async def slot() -> None:
        journal = open_journal(apart.prepared())
        await journal.append([("rdg", b'{"type":"ReadingsRecorded"}')])
        journal._connection.close()  # the power goes: no orderly end

    asyncio.run(slot())
    shutil.rmtree(apart.data)
    shutil.copytree(apart.folder / "card", apart.data)
    assert apart.live(rounds=2)[-1]["recovery"]["reason"] == "journal_behind"


def test_an_anchor_on_the_journals_own_disk_is_said_in_both_languages(site: Site1, capsys: Any) -> None:
    prepared = site.prepared()
    said = anchor_advice(prepared)
    assert said is not None
    assert "same disk" in said
    assert "gateway.anchor" in said
    assert "同一存储卡" in str(anchor_advice(prepared, "zh"))
    assert main(["recover", "--config", str(site.folder / "gateway.toml")]) == 0
    assert "same disk" in capsys.readouterr().out


def test_an_anchor_on_another_disk_needs_no_advice_and_a_missing_folder_does(
    apart: Site1, monkeypatch: pytest.MonkeyPatch
) -> None:
    disks = {"stick": 2}
    monkeypatch.setattr("edge.bootstrap._disk_of", lambda path: disks.get(path.name, 1))
    assert anchor_advice(apart.prepared()) is None
    (apart.folder / "stick").rmdir()
    assert "not there" in str(anchor_advice(apart.prepared()))


def test_whoever_starts_it_is_told_where_the_anchor_is(site: Site1, capsys: Any) -> None:
    _EventPrinter(anchor_advice(site.prepared()), as_json=True).ready(None)
    said = capsys.readouterr()
    assert "same disk" in said.err
    assert msgspec.json.decode(said.out) == {"type": "Ready", "console": None}  # programs read one object a line
