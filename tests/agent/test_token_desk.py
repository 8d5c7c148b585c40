"""Typed tokens through the real gateway, the real decoders and the real journal: never lost, never twice."""

import asyncio
import os
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from cloud_sync.wire import record_hash
from edge.agent.customer_desk import CustomerDesk
from edge.agent.facts import SiteFacts
from edge.agent.gateway import Gateway
from edge.agent.metering import Metering
from edge.agent.pricing import Pricing
from edge.agent.recovery import StandBy
from edge.agent.token_desk import DecoderFacts, TokenDesk, door_of
from edge.bootstrap import Prepared, _Door, prepare, run_gateway
from edge.bus.frame import crc16
from edge.config import ConfigError, read_config
from edge.core import commands as cmd
from edge.core import events as ev
from edge.core.account import Register
from edge.core.credit_terms import NANO_PER_SECOND, NANO_PER_WATT_HOUR, CreditTerms, CreditUnit
from edge.core.policy import Policy
from edge.core.rating import reference_rate
from edge.core.token import DecoderCommissioned, Memory, TokenKind, TokenRead, TokenRefused, TokenRelayed
from edge.core.units import ClockQuality, ClockReading, MoneyNano, UnixSeconds, WattHours
from edge.ports import BytePort, CommandDoor, DoorAnswer
from edge.store.event_log import JournalEventLog
from edge.store.journal import SqliteJournal
from edge.store.site_book import AccountEntry, DecoderEntry, MeterEntry, Site, SiteBook, write_site_book
from edge.tokens.openpaygo_scheme import PaygoDevice, issue_paygo
from edge.tokens.reader import PaygoReader, RelayReader, StsReader
from edge.tokens.sts import tid_from_time
from edge.tokens.sts_issue import NewKey, issue_credit, issue_key_change, issue_test
from edge.zone import zone_offsets

KEY = 0xF94B6ED353C3BFDB113E2D3A7EA3C41D  # STS.md's: no device has it
NEW_KEY = 0x0123_4567_89AB_CDEF_FEDC_BA98_7654_3210
DEVICE = PaygoDevice("bc41ec9530f6dac86b1a29ab82edc5fb", 123_456_789)
START_AT = 1_772_380_800
BEGAN = tid_from_time(UnixSeconds(START_AT), 2014)
ENERGY = replace(Policy(), credit=CreditTerms(unit=CreditUnit.ENERGY))
TIME = replace(Policy(), credit=CreditTerms(unit=CreditUnit.TIME))
TOKEN = issue_credit(KEY, BEGAN + 60, 250, 3)  # 25.0 kWh, issued an hour after commissioning
TOKEN_NANO = 25_000 * NANO_PER_WATT_HOUR
LOOK_S = 0.02
NEXT_TOKEN = issue_credit(KEY, BEGAN + 61, 100, 4)
WRONG = f"{int(TOKEN) ^ 1:020}"
Story = Callable[["Life"], Awaitable[Any]]


class PowerCut(Exception):
    """The gateway is gone."""


class CountedReader:
    """A reader that counts how often it was asked."""

    def __init__(self, reader: Any) -> None:
        self.reader, self.asked = reader, 0

    def read(self, text: str, memory: Memory | None) -> TokenRead:
        self.asked += 1
        read: TokenRead = self.reader.read(text, memory)
        return read


class CuttingLog:
    """The journal's log; the power goes before or after its n-th append, and nothing is appended any more."""

    def __init__(self, log: JournalEventLog, cut: tuple[int, str] | None) -> None:
        self.log, self.cut, self.appends = log, cut, 0

    async def append(self, events: Sequence[ev.Event]) -> None:
        self.appends += 1
        if self.cut == (self.appends, "before"):
            raise PowerCut
        await self.log.append(events)
        if self.cut == (self.appends, "after"):
            raise PowerCut


class Life:
    """One life of a gateway, from start to its end or to a power cut."""

    def __init__(self, rig: "Rig", journal: SqliteJournal, cut: tuple[int, str] | None) -> None:
        self.rig, self.journal = rig, journal
        restored = JournalEventLog(journal).restore()
        self.log = CuttingLog(JournalEventLog(journal), cut)
        site = SiteFacts("gw-1", "1.0", "Asia/Shanghai", "CNY", 2, (), True, 1.0, 900)
        pricing = Pricing("Asia/Shanghai", 2, reference_rate, zone_offsets)
        documents = {rig.kit.tariff_key: rig.kit.tariff}
        self.events: list[ev.Event] = []
        self.gateway = Gateway(
            site, restored.state, self.log, journal, rig, pricing, documents, Metering({}), self.events.extend
        )
        self.desk = TokenDesk(rig.decoders, rig.read, lambda: self.gateway.state, self.gateway.submit)

    async def begin(self) -> None:
        """What bootstrap and the first round do: decoders, tariff, account."""
        await self.desk.commission()
        await self.gateway.submit(cmd.AcceptTariff(self.rig.read(), self.rig.kit.tariff_key, self.rig.kit.tariff))
        opening = cmd.OpenAccount(
            received=self.rig.read(),
            account_id="A01",
            meter_id="M01",
            policy=self.rig.policy,
            tariff=self.rig.kit.tariff_key,
            register=Register(UnixSeconds(START_AT), WattHours(1000)),
            opening_nano=MoneyNano(0),
            protected=False,
        )
        if "A01" not in self.gateway.state.accounts:
            await self.gateway.submit(opening)

    async def enter(self, text: str, door: str = "kiosk") -> DoorAnswer:
        return await self.desk.enter_token("A01", text, door)

    @property
    def money(self) -> int:
        return self.gateway.state.accounts["A01"].money_nano

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


class Rig:
    """The gateway's disk and clock, which outlive its lives."""

    def __init__(self, kit: Any, folder: Path) -> None:
        self.kit, self.folder, self.lives = kit, folder, 0
        self.policy = ENERGY
        self.reader = CountedReader(StsReader(KEY))
        self.decoders = {"M01": DecoderFacts(self.reader, base_year=2014, tid=BEGAN)}
        self.at_s, self.up_s, self.quality = 0, 0, ClockQuality.NTP
        self.folder.mkdir(exist_ok=True)

    def read(self) -> ClockReading:
        at = UnixSeconds(START_AT + 7200 + self.at_s)
        return ClockReading(at, self.up_s * 1000, f"boot-{self.lives}", self.quality)

    def passes(self, seconds: int) -> None:
        self.at_s, self.up_s = self.at_s + seconds, self.up_s + seconds

    def live(self, story: Story, cut: tuple[int, str] | None = None) -> Any:
        """One life. After a power cut the next one has what was on the disk at that moment, and no more."""
        self.lives, self.up_s = self.lives + 1, 0
        return asyncio.run(self._live(story, cut))

    async def _live(self, story: Story, cut: tuple[int, str] | None) -> Any:
        journal = SqliteJournal.open(self.folder / "journal.db", "gw-1", record_hash)
        try:
            life = Life(self, journal, cut)
            await life.begin()
            return await story(life)
        except PowerCut:
            disk = self.folder.with_name(f"{self.folder.name}-{self.lives}")
            shutil.copytree(self.folder, disk)
            self.folder = disk
            return PowerCut
        finally:
            await journal.close()


@pytest.fixture
def rig(kit: Any, tmp_path: Path) -> Rig:
    return Rig(kit, tmp_path / "disk")


def test_a_token_is_credit_and_the_answer_says_amount_unit_and_balance(rig: Rig) -> None:
    async def story(life: Life) -> None:
        answer = await life.enter("-".join(TOKEN[at : at + 4] for at in range(0, 20, 4)))
        assert answer.accepted
        assert answer.code == "applied"
        assert answer.params == {
            "account": "A01",
            "unit": "energy",
            "amount": 25_000,
            "payment_id": f"sts:M01:2014:{BEGAN + 60}",
            "balance_nano": TOKEN_NANO,
            "live_balance_nano": TOKEN_NANO,
        }

    rig.live(story)


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("append", range(1, 9))
def test_a_power_cut_at_any_commit_loses_no_token_and_counts_none_twice(rig: Rig, append: int, side: str) -> None:
    answered: list[str] = []

    async def types_all(life: Life) -> int:
        for text in (TOKEN, WRONG, NEXT_TOKEN):
            answer = await life.enter(text)
            answered.append(answer.code)
            rig.passes(60)
        return life.log.appends

    async def types_again(life: Life) -> None:
        rig.passes(60)
        for text, before in zip((TOKEN, NEXT_TOKEN), answered[0:1] + answered[2:3] + ["", ""], strict=False):
            answer = await life.enter(text)
            assert answer.code == "used" if before == "applied" else answer.code in ("applied", "used")
        assert life.money == TOKEN_NANO + 10_000 * NANO_PER_WATT_HOUR

    outcome = rig.live(types_all, cut=(append, side))
    assert (outcome is PowerCut) is (append <= 6)  # decoder, tariff, account, and one for each entry
    rig.live(types_again)


def test_cut_between_accept_and_answer_shows_the_customer_that_it_counted(rig: Rig) -> None:
    assert rig.live(lambda life: life.enter(TOKEN), cut=(4, "after")) is PowerCut

    async def story(life: Life) -> None:
        answer = await life.enter(TOKEN)
        assert (answer.accepted, answer.code) == (False, "used")
        assert life.money == TOKEN_NANO

    rig.live(story)


def test_cut_before_the_commit_leaves_the_token_good(rig: Rig) -> None:
    assert rig.live(lambda life: life.enter(TOKEN), cut=(4, "before")) is PowerCut
    answer = rig.live(lambda life: life.enter(TOKEN))
    assert (answer.accepted, answer.params["balance_nano"]) == (True, TOKEN_NANO)


def test_lock_out_outlives_a_restart_and_a_locked_door_decodes_and_journals_nothing(rig: Rig) -> None:
    wrong = rig.live(lambda life: life.enter(WRONG))
    assert (wrong.code, wrong.params["wait_s"]) == ("crc", 60)
    rig.passes(10)

    async def story(life: Life) -> None:
        asked, appends = rig.reader.asked, life.log.appends
        locked = await life.enter(TOKEN)
        assert (locked.accepted, locked.code, locked.params["wait_s"]) == (False, "locked", 50)
        assert locked.params["open_at"] == rig.read().at + 50
        assert (rig.reader.asked, life.log.appends) == (asked, appends)
        rig.passes(50)
        assert (await life.enter(TOKEN)).accepted

    rig.live(story)


def test_without_a_trusted_clock_a_restart_shortens_no_wait(rig: Rig) -> None:
    rig.live(lambda life: life.enter(WRONG))
    rig.passes(3600)
    rig.quality = ClockQuality.UNSET
    answer = rig.live(lambda life: life.enter(TOKEN))
    assert (answer.code, answer.params["wait_s"]) == ("locked", 60)


def test_waits_double_over_restarts(rig: Rig) -> None:
    waits = []
    for _ in range(4):
        answer = rig.live(lambda life: life.enter(WRONG))
        waits.append(answer.params["wait_s"])
        rig.passes(answer.params["wait_s"])
    assert waits == [60, 120, 240, 480]


def test_each_door_has_its_own_lock(rig: Rig) -> None:
    async def story(life: Life) -> None:
        await life.enter(WRONG, door_of("kiosk"))
        assert (await life.enter(TOKEN, door_of("kiosk"))).code == "locked"
        assert (await life.enter(TOKEN, door_of("wang"))).accepted

    rig.live(story)
    assert (door_of("kiosk"), door_of("wang")) == ("kiosk", "console:wang")


def test_two_entries_at_once_count_once(rig: Rig) -> None:
    async def story(life: Life) -> None:
        answers = await asyncio.gather(*(life.enter(TOKEN, door) for door in ("kiosk", "console:a", "console:b")))
        assert sorted(answer.code for answer in answers) == ["applied", "used", "used"]
        assert life.money == TOKEN_NANO

    rig.live(story)


def test_of_many_guesses_at_once_one_is_decoded(rig: Rig) -> None:
    async def story(life: Life) -> None:
        asked = rig.reader.asked
        answers = await asyncio.gather(*(life.enter(f"{int(WRONG) + 2 * guess:020}") for guess in range(20)))
        assert [answer.code for answer in answers] == ["crc"] + ["locked"] * 19
        assert rig.reader.asked == asked + 1
        assert len(life.of(TokenRefused)) == 1

    rig.live(story)


def test_a_flood_of_what_is_no_token_leaves_one_record_a_minute_and_no_lock(rig: Rig) -> None:
    async def story(life: Life) -> None:
        assert (await life.enter(TOKEN)).accepted
        for text in ["", "7", "hello", "9" * 20, "1" * 8000, "\ud800", TOKEN, issue_test(0, 1)] * 3:
            assert (await life.enter(text)).code in ("malformed", "used", "unknown")
        assert len(life.of(TokenRefused)) == 1
        rig.passes(60)
        assert (await life.enter(TOKEN)).code == "used"
        assert len(life.of(TokenRefused)) == 2
        assert (await life.enter(NEXT_TOKEN)).accepted

    rig.live(story)


def test_decoders_are_commissioned_once_and_what_is_older_is_spent(rig: Rig) -> None:
    async def story(life: Life) -> DoorAnswer:
        await life.desk.commission()
        commissioned.extend(life.of(DecoderCommissioned))
        return await life.enter(issue_credit(KEY, BEGAN - 1, 100, 1))

    commissioned: list[Any] = []
    assert [rig.live(story).code for _ in range(2)] == ["old", "old"]
    assert [event.tid for event in commissioned] == [BEGAN]


def test_a_site_book_with_another_scheme_than_the_journal_is_said_and_takes_no_token(rig: Rig) -> None:
    rig.live(lambda life: life.enter(TOKEN))
    rig.decoders = {"M01": DecoderFacts(PaygoReader(DEVICE), count=1)}

    async def story(life: Life) -> None:
        assert [event.condition for event in life.of(ev.ConditionNoted)] == ["decoder_refused"]
        assert (await life.enter(issue_paygo(TokenKind.CREDIT, 5, DEVICE, 1)[0])).code == "unknown"

    rig.live(story)


def test_a_key_change_is_answered_part_by_part_and_holds_over_a_restart(rig: Rig) -> None:
    async def change(life: Life) -> None:
        codes = [await life.enter(text) for text in issue_key_change(KEY, NewKey(NEW_KEY, 255, 2, 2, 1, 123_457))]
        assert [answer.code for answer in codes] == ["key_section"] * 3 + ["key_changed"]
        assert [answer.params["section"] for answer in codes] == [1, 2, 3, 4]

    rig.live(change)
    answer = rig.live(lambda life: life.enter(issue_credit(NEW_KEY, BEGAN + 70, 100, 1)))
    assert answer.accepted
    assert rig.live(lambda life: life.enter(TOKEN)).code == "crc"


def test_openpaygo_tokens_are_time_and_a_counter_sync_adds_nothing(rig: Rig) -> None:
    rig.policy, rig.decoders = TIME, {"M01": DecoderFacts(PaygoReader(DEVICE), count=3)}
    text, count = issue_paygo(TokenKind.CREDIT, 2, DEVICE, 3)

    async def story(life: Life) -> None:
        answer = await life.enter(text)
        assert (answer.code, answer.params["unit"], answer.params["amount"]) == ("applied", "time", 2 * 86_400)
        assert life.money == 2 * 86_400 * NANO_PER_SECOND
        sync = await life.enter(issue_paygo(TokenKind.COUNT_SYNC, None, DEVICE, count)[0])
        assert (sync.accepted, sync.code) == (True, "count_sync")
        assert life.money == 2 * 86_400 * NANO_PER_SECOND

    rig.live(story)
    assert rig.live(lambda life: life.enter(text)).code == "used"


def test_an_energy_token_of_a_money_account_is_refused_and_not_spent(rig: Rig) -> None:
    rig.policy = Policy()

    async def story(life: Life) -> None:
        answer = await life.enter(TOKEN)
        assert (answer.accepted, answer.code, life.money) == (False, "unit", 0)
        await life.gateway.submit(cmd.ChangeTerms(rig.read(), "A01", ENERGY, protected=False))
        assert (await life.enter(TOKEN)).accepted

    rig.live(story)


def test_a_limit_is_answered_with_its_name_and_the_token_stays_good(rig: Rig) -> None:
    rig.policy = replace(ENERGY, payment_nano_max=MoneyNano(TOKEN_NANO - 1))
    answer = rig.live(lambda life: life.enter(TOKEN))
    assert (answer.accepted, answer.code) == (False, "above_limit")


def test_relayed_digits_are_kept_and_nobody_claims_that_the_meter_has_them(rig: Rig) -> None:
    rig.decoders = {"M01": DecoderFacts(RelayReader())}

    async def story(life: Life) -> None:
        answer = await life.enter(TOKEN)
        assert (answer.accepted, answer.code, life.money) == (False, "not_handed_over", 0)
        assert [event.digits for event in life.of(TokenRelayed)] == [TOKEN]
        notes = [(event.condition, event.account, event.detail) for event in life.of(ev.ConditionNoted)]
        assert notes == [("token_not_handed_over", "A01", "M01")]
        assert (await life.enter("123")).code == "malformed"
        assert life.of(DecoderCommissioned) == []

    rig.live(story)


def test_accounts_that_take_no_tokens_are_told_so_and_nothing_is_journaled(rig: Rig) -> None:
    rig.decoders = {}

    async def story(life: Life) -> None:
        appends = life.log.appends
        assert (await life.enter(TOKEN)).code == "no_decoder"
        assert (await life.desk.enter_token("A99", TOKEN, "kiosk")).code == "unknown_account"
        door = _Door(None, life.desk, object.__new__(CustomerDesk))
        assert (await door.enter_token("A01", TOKEN, "console")).code == "no_decoder"
        assert life.log.appends == appends

    rig.live(story)


def test_a_store_that_may_have_forgotten_takes_no_token() -> None:
    door: CommandDoor = object.__new__(StandBy)
    assert asyncio.run(door.enter_token("A01", TOKEN, "console")) == DoorAnswer(False, "recovery", {})


# --- from the files ---------------------------------------------------------------------------

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
"""
KEYS = '[tokens]\nkeys = "keys.json"\n'
STS_ENTRY = {"scheme": "sts", "base_year": 2014, "commissioned_at": "2026-03-01T00:00:00+08:00"}


@pytest.fixture
def files(kit: Any, tmp_path: Path) -> Callable[..., Path]:
    """Writes the files of a gateway: one meter with a decoder, and a key file with a mode."""

    def write(entry: Any, keys: str | None, mode: int = 0o600, config: str = CONFIG) -> Path:
        (tmp_path / "tariff.json").write_text(kit.tariff, "utf-8")
        decoder = None if entry is None else msgspec.convert(entry, DecoderEntry)
        meter = MeterEntry("M01", "line-1", 1, "eastron_sdm120", decoder=decoder)
        account = AccountEntry("A01", "M01", kit.tariff_key, policy=ENERGY)
        write_site_book(tmp_path / "site.json", SiteBook(Site("Asia/Shanghai", "CNY"), (meter,), (), (account,)))
        (tmp_path / "gateway.toml").write_text(config + (KEYS if keys is not None else ""), "utf-8")
        if keys is not None:
            (tmp_path / "keys.json").write_text(keys, "utf-8")
            os.chmod(tmp_path / "keys.json", mode)
        return tmp_path / "gateway.toml"

    return write


def prepared(path: Path) -> Prepared:
    return prepare(read_config(path))


def test_decoder_and_key_come_from_site_book_and_key_file(files: Callable[..., Path]) -> None:
    facts = prepared(files(STS_ENTRY, f'{{"M01": "{KEY:032X}"}}')).decoders["M01"]
    assert facts.reader == StsReader(KEY)
    assert (facts.base_year, facts.key_expiry) == (2014, 255)
    assert facts.tid == tid_from_time(UnixSeconds(1_772_294_400), 2014)
    assert f"{KEY:x}" not in repr(facts)
    entry = {"scheme": "openpaygo", "count": 7, "starting_code": 5, "seconds_per_step": 3600}
    facts = prepared(files(entry, f'{{"M01": "{DEVICE.key_hex}"}}')).decoders["M01"]
    assert facts.reader == PaygoReader(PaygoDevice(DEVICE.key_hex, 5, 3600))
    assert (facts.base_year, facts.count) == (None, 7)


def test_a_meter_with_its_own_decoder_needs_no_key(files: Callable[..., Path]) -> None:
    facts = prepared(files({"scheme": "relay"}, None)).decoders["M01"]
    assert facts.relayed
    assert facts.reader == RelayReader()


@pytest.mark.parametrize(
    ("keys", "mode", "sentence"),
    [
        (None, 0o600, r"gateway\.toml: tokens\.keys: is missing; meter M01 has a decoder that needs a key"),
        ("{}", 0o600, r"keys\.json: meter M01 has a token decoder in the site book but no key here"),
        ('{"M01": "SECRET"}', 0o644, r"keys\.json: its mode is 0644, so others may use the keys; allowed is 0600"),
        ('{"M01": "SECRET"}', 0o640, r"its mode is 0640"),
        ('{"M01": "SECRET"}', 0o602, r"its mode is 0602"),
        ('{"M01": "SECRET"}', 0o600, r"keys\.json: meter M01: its key must be 32 hexadecimal digits"),
        ('{"M01": 5}', 0o600, r"keys\.json: meter M01: its key must be 32 hexadecimal digits"),
        (f'{{"M01": "{KEY:x}", "M9": "SECRET"}}', 0o600, r"meter 'M9' has a key, but no sts or openpaygo decoder"),
        (f'{{"M01": "{KEY:x}", "M01": "SECRET"}}', 0o600, r"keys\.json: is not JSON with each meter once"),
        ('{"M01": "SECRET', 0o600, r"keys\.json: is not JSON with each meter once"),
        ("[" * 100_000, 0o600, r"keys\.json: is not JSON with each meter once"),
        ('["SECRET"]', 0o600, r"keys\.json: must be an object of keys by meter id"),
    ],
)
def test_what_is_wrong_with_keys_is_one_sentence_that_quotes_none(
    files: Callable[..., Path], keys: str | None, mode: int, sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence) as refused:
        prepared(files(STS_ENTRY, keys, mode))
    assert "SECRET" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_key_file_that_is_not_there_is_named(files: Callable[..., Path], tmp_path: Path) -> None:
    path = files(STS_ENTRY, "{}")
    (tmp_path / "keys.json").unlink()
    with pytest.raises(ConfigError, match=r"keys\.json: No such file or directory"):
        prepared(path)


def test_a_site_without_decoders_loads_no_scheme(files: Callable[..., Path]) -> None:
    path = files(None, None)
    text = (
        "import sys\nfrom pathlib import Path\n"
        "from edge.bootstrap import prepare\nfrom edge.config import read_config\n"
        f"prepare(read_config(Path({str(path)!r})))\n"
        "print([name for name in sys.modules if name.startswith(('edge.tokens', 'openpaygo'))])\n"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "[]"


def test_the_agent_commissions_the_decoders_of_its_site_book_once(files: Callable[..., Path], rig: Rig) -> None:
    ready = prepared(files(STS_ENTRY, f'{{"M01": "{KEY:x}"}}'))

    async def no_line(on_bytes: Callable[[bytes], None], on_lost: Callable[[str], None]) -> BytePort:
        raise OSError("nothing there")

    async def run() -> list[ev.Event]:
        stop = asyncio.Event()
        told: list[ev.Event] = []

        def hear(events: Sequence[ev.Event]) -> None:
            told.extend(events)
            if any(getattr(event, "condition", "") == "gateway_started" for event in events):
                stop.set()

        async with asyncio.timeout(20):
            await run_gateway(replace(ready, openers={"line-1": no_line}), rig, stop, hear)
        return told

    counts = [sum(isinstance(event, DecoderCommissioned) for event in asyncio.run(run())) for _ in range(2)]
    assert counts == [1, 0]


class MeterPort:
    """A line with one meter that has counted 100 kWh."""

    async def __call__(self, on_bytes: Callable[[bytes], None], on_lost: Callable[[str], None]) -> BytePort:
        class Port:
            def write(self, data: bytes) -> None:
                count = int.from_bytes(data[4:6], "big")
                start = int.from_bytes(data[2:4], "big")
                cells = struct.pack(">f", 100.0)
                content = b"".join(cells[(start + at) % 2 * 2 :][:2] for at in range(count))
                answer = data[:2] + bytes([len(content)]) + content
                asyncio.get_running_loop().call_soon(on_bytes, answer + crc16(answer).to_bytes(2, "little"))

            def close(self) -> None:
                """Nothing is held."""

        return Port()


def test_digits_typed_in_a_browser_become_credit_in_the_running_agent(files: Callable[..., Path], rig: Rig) -> None:
    config = CONFIG + "drain_silence_ms = 20\npoll_interval_ms = 10\n[console]\nport = 0\n"
    ready = replace(prepared(files(STS_ENTRY, f'{{"M01": "{KEY:x}"}}', config=config)), openers={"line-1": MeterPort()})

    async def browse(address: str) -> list[str]:
        pages = []
        async with httpx.AsyncClient(base_url=address, headers={"origin": address.rstrip("/")}) as browser:
            for text in (TOKEN, TOKEN):
                form = await browser.get("/token")
                while 'value="A01"' not in form.text:
                    await asyncio.sleep(LOOK_S)
                    form = await browser.get("/token")
                proof = re.search(r'name="form_token" value="([^"]+)"', form.text)
                assert proof is not None
                sent = {"account": "A01", "digits": text, "form_token": proof[1]}
                pages.append((await browser.post("/token", data=sent, follow_redirects=True)).text)
        return pages

    async def run() -> list[str]:
        stop, up = asyncio.Event(), asyncio.get_running_loop().create_future()
        running = asyncio.ensure_future(run_gateway(ready, rig, stop, on_ready=up.set_result))
        try:
            async with asyncio.timeout(20):
                return await browse(await up)
        finally:
            stop.set()
            await running

    first, second = asyncio.run(run())
    assert "The credit is on the account." in first
    assert "25.000 kWh" in first
    assert "This token was already used." in second
