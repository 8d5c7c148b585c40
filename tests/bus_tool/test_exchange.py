"""`wattgate commission exchange`: an account's meter changed on a pseudo-terminal, whole or not at all."""

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge.agent.pricing import Pricing
from edge.bootstrap import open_journal, prepare, run_gateway
from edge.commission import exchange_store
from edge.commission.exchange_commands import finish_exchange
from edge.commission.exchange_record import SignedExchange, exchange_holds, read_any, record_hash
from edge.commission.page import LANGUAGES
from edge.config import read_config
from edge.core import commands as cmd
from edge.core import events as ev
from edge.core.account import Register, State
from edge.core.rating_arrays import array_rate
from edge.core.step import step
from edge.core.units import ClockQuality, ClockReading, MoneyNano, UnixSeconds, WattHours
from edge.store.event_log import JournalEventLog
from edge.store.journal import SqliteJournal
from edge.store.site_book import (
    AccountEntry,
    AreaEntry,
    MeterEntry,
    RelayEntry,
    Site,
    SiteBook,
    read_site_book,
    write_site_book,
)
from edge.zone import zone_offsets
from hw.sim.clock import ScaledClock, start_clock
from hw.sim.meter import Meter
from hw.sim.models import MODELS
from hw.sim.relay_board import RelayBoard
from native.kernel import TariffKernel

ROOT = Path(__file__).resolve().parent.parent.parent
TARIFF = ROOT / "edge" / "tariffs" / "demo-street.json"
NOW_AT, OPENED_AT = 1_790_000_000, 1_790_000_000 - 7_200
OPENED_WH, OLD_WH, NEW_WH = 1_230_000, 1_236_000, 2_500
Run = Callable[..., tuple[int, str, str]]


class Draw:
    """A load that has used 2 kWh."""

    energy_ws, power_w = 7_200_000, 500


class Place:
    """A stopped gateway with an account at M07, on address 7 of a line, behind channel 6 of a board at 20."""

    def __init__(
        self, line: Any, said: Run, folder: Path, model: str = "eastron_sdm120", own_relay: bool = False
    ) -> None:
        self.line, self.said, self.folder = line, said, folder
        self.config, self.out, self.page = folder / "gateway.toml", folder / "M07B.json", folder / "M07B.html"
        self.key, self.book = folder / "installer.pem", folder / "site.json"
        self.board = RelayBoard()
        self.old = Meter("M07", 7, MODELS[model], OLD_WH - 2_000, Draw(), None, lambda: 0)
        line.devices.update({7: self.old, 20: self.board})
        start_clock(folder / "clock.json", NOW_AT, 1.0, ClockQuality.NTP)
        (folder / "tariff.json").write_text(TARIFF.read_text("utf-8"), "utf-8")
        self.config.write_text(
            '[gateway]\nid = "gw-1"\ndata_dir = "data"\ntariffs = ["tariff.json"]\n'
            '[clock]\nsource = "scaled"\nfile = "clock.json"\n'
            f'[accounting]\nround_interval_ms = 100\n[[lines]]\nid = "line-1"\naddress = "{line.path}"\nbaud = 9600\n'
            "poll_interval_ms = 100\n",
            "utf-8",
        )
        relay = RelayEntry("R07", "line-1", *((7, model, 0) if own_relay else (20, "relay_board_8ch", 6)))
        meter = MeterEntry("M07", "line-1", 7, model, "house 7", relay_id="R07")
        account = AccountEntry("A07", "M07", "demo-street@1", MoneyNano(100 * 10**9))
        self.write_book(SiteBook(Site("Asia/Shanghai", "CNY"), (meter,), (relay,), (account,)))
        (folder / "data").mkdir()
        asyncio.run(self._open())
        assert said("commission", "key", "--out", str(self.key))[0] == 0

    def write_book(self, book: SiteBook) -> None:
        write_site_book(self.book, book)
        self.book_before = self.book.read_bytes()

    def mount(self, model: str = "eastron_sdm120", meter_id: str = "M07B", device_id: int = 7) -> None:
        """The new meter hangs where the old one did."""
        self.line.devices.pop(7, None)
        self.line.devices[device_id] = Meter(
            meter_id, device_id, MODELS[model], NEW_WH - 2_000, Draw(), None, lambda: 0
        )

    def exchange(self, *more: str, meter_id: str = "M07B", out: Path | None = None) -> tuple[int, str, str]:
        return self.said(
            *("commission", "exchange", "A07", "--config", str(self.config), "--meter-id", meter_id),
            *("--timeout-ms", "200", "--installer", "Li Wei", "--key", str(self.key), "--out", str(out or self.out)),
            *more,
        )

    @property
    def record(self) -> Any:
        signed = read_any(self.out)
        assert isinstance(signed, SignedExchange)
        assert exchange_holds(signed)
        return signed.record

    def events(self) -> list[Any]:
        """All that the journal has."""
        return asyncio.run(self._with_journal(lambda log: list(log.replay())))

    @property
    def state(self) -> State:
        state: State = asyncio.run(self._with_journal(lambda log: log.restore().state))
        return state

    def nothing_has_changed(self) -> bool:
        account = self.state.accounts["A07"]
        files = [path.exists() for path in (self.out, self.page, exchange_store.note_path(self.folder / "data"))]
        unmoved = (account.meter_id, account.recorded.register_wh) == ("M07", OPENED_WH)
        return unmoved and self.book.read_bytes() == self.book_before and not any(files)

    async def _with_journal(self, look: Callable[[JournalEventLog], Any]) -> Any:
        journal = open_journal(prepare(read_config(self.config)))
        try:
            return look(JournalEventLog(journal))
        finally:
            await journal.close()

    async def _open(self) -> None:
        """The account was opened two hours ago."""
        prepared = prepare(read_config(self.config))
        journal = open_journal(prepared)
        clock = ClockReading(UnixSeconds(OPENED_AT), 5_000, "boot-0", ClockQuality.NTP)
        pricing = Pricing("Asia/Shanghai", 2, partial(array_rate, TariffKernel), zone_offsets)
        (key, document), state = next(iter(prepared.documents.items())), State()
        register = Register(UnixSeconds(OPENED_AT), WattHours(OPENED_WH))
        for command in (
            cmd.AcceptTariff(clock, key, document),
            cmd.OpenAccount(
                clock, "A07", "M07", prepared.book.accounts[0].policy, key, register, MoneyNano(100 * 10**9)
            ),
        ):
            stepped = step(state, command, pricing.rating(state, clock.at, prepared.documents))
            await JournalEventLog(journal).append(stepped.events)
            state = stepped.state
        await journal.close()


@pytest.fixture
def place(sim_line: Any, said: Run, tmp_path: Path) -> Place:
    """See Place."""
    return Place(sim_line(), said, tmp_path)


class Technician:
    """Changes the meter when asked to, and presses Enter."""

    def __init__(self, change: Callable[[], object]) -> None:
        self.change, self.asked = change, 0

    def readline(self) -> str:
        self.asked += 1
        self.change()
        return "\n"


DEAD = ("--last", "1236.0")


def test_a_meter_is_exchanged_with_both_registers_read_and_charged_once(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    technician = Technician(place.mount)
    monkeypatch.setattr(sys, "stdin", technician)
    status, text, steps = place.exchange("--display", "2.5", "--page", str(place.page))
    assert (status, technician.asked) == (0, 1)
    assert "A07: M07 is exchanged for M07B" in text
    assert [line[:2] for line in steps.splitlines()] == ["1.", "2.", "3."]
    account = place.state.accounts["A07"]
    assert (account.meter_id, account.recorded.register_wh) == ("M07B", NEW_WH)
    assert sum(account.cycle_energy_wh) == OLD_WH - OPENED_WH
    record = place.record
    assert (record.old.last_wh, record.old.source, record.old.relay) == (OLD_WH, "read", "closed")
    assert (record.new.first_wh, record.new.relay, record.new.witness.agree) == (NEW_WH, "closed", True)
    assert (record.recorded_wh, record.estimated_wh, record.installer) == (OPENED_WH, 0, "Li Wei")
    [exchanged] = [event for event in place.events() if isinstance(event, ev.MeterExchanged)]
    signed = read_any(place.out)
    assert isinstance(signed, SignedExchange)
    assert (exchanged.record, exchanged.actor) == (record_hash(signed), "Li Wei")


def test_the_site_book_has_the_new_meter_in_the_old_ones_place(place: Place) -> None:
    book = read_site_book(place.book)
    supply = MeterEntry("S1", "line-1", 30, "eastron_sdm630")
    place.write_book(
        msgspec.structs.replace(book, meters=(*book.meters, supply), areas=(AreaEntry("T1", ("S1",), (), ("M07",)),))
    )
    place.mount("eastron_sdm630", device_id=9)
    assert place.exchange(*DEAD, "--model", "eastron_sdm630", "--device-id", "9")[0] == 0
    book = read_site_book(place.book)
    serial = place.record.new.serial
    assert book.meters[0] == MeterEntry("M07B", "line-1", 9, "eastron_sdm630", "house 7", serial, relay_id="R07")
    assert serial
    assert [row.meter_id for row in book.accounts] == ["M07B"]
    assert book.areas[0].meter_ids == ("M07B",)
    assert [(row.relay_id, row.device_id) for row in book.relays] == [("R07", 20)]


def test_a_dead_meter_is_ended_at_what_was_typed_and_by_whom(place: Place) -> None:
    place.mount()
    assert place.exchange("--last", "1235.5", "--last-at", "2026-09-21T20:00+08:00")[0] == 0
    old = place.record.old
    assert (old.register, old.last_wh, old.source, old.at) == (
        *("1235.5", 1_235_500, "typed"),
        "2026-09-21T12:00:00+00:00",
    )
    account = place.state.accounts["A07"]
    assert sum(account.cycle_energy_wh) == 5_500


def test_an_estimate_is_marked_and_the_gap_costs_only_what_was_estimated(place: Place) -> None:
    place.mount()
    more = ("--last", "1236", "--estimated", "--gap", "0.75", "--last-at", "2026-09-21T21:00+08:00")
    assert place.exchange(*more, "--page", str(place.page))[0] == 0
    record = place.record
    assert (record.old.source, record.estimated_wh) == ("estimated", 750)
    assert sum(place.state.accounts["A07"].cycle_energy_wh) == OLD_WH - OPENED_WH + 750
    [exchanged] = [event for event in place.events() if isinstance(event, ev.MeterExchanged)]
    assert (exchanged.last_source, exchanged.estimated_wh) == ("estimated", 750)
    page = place.page.read_text("utf-8")
    assert "ESTIMATED by the installer" in page
    assert "安装人员估计" in page


def test_a_display_that_cuts_off_what_was_charged_already_ends_the_meter_there(place: Place) -> None:
    place.mount()
    assert place.exchange("--last", "1229.9")[0] == 2
    assert place.nothing_has_changed()
    assert place.exchange("--last", "1230")[0] == 0
    assert sum(place.state.accounts["A07"].cycle_energy_wh) == 0


@pytest.mark.parametrize(("ct_ratio", "last"), [(1, "1236"), (3, "412")])
def test_the_agent_goes_on_at_the_new_meters_first_register(place: Place, ct_ratio: int, last: str) -> None:
    book = read_site_book(place.book)
    meter = msgspec.structs.replace(book.meters[0], ct_ratio=ct_ratio)
    place.write_book(msgspec.structs.replace(book, meters=(meter,)))
    place.mount()
    assert place.exchange("--last", last)[0] == 0
    before = place.state.accounts["A07"]
    stop, told = asyncio.Event(), list[Any]()

    def tell(events: Any) -> None:
        told.extend(events)
        if any(isinstance(event, ev.ReadingsRecorded) for event in events):
            stop.set()

    async def live() -> None:
        async with asyncio.timeout(30):
            await run_gateway(prepare(read_config(place.config)), ScaledClock(place.folder / "clock.json"), stop, tell)

    asyncio.run(live())
    account = place.state.accounts["A07"]
    assert (account.recorded.register_wh, account.hold, account.meter_id) == (NEW_WH * ct_ratio, None, "M07B")
    assert account.cycle_energy_wh == before.cycle_energy_wh


def test_json_is_the_signed_record_and_nothing_else(place: Place) -> None:
    place.mount()
    status, text, _ = place.exchange(*DEAD, "--json")
    assert status == 0
    assert json.loads(text) == json.loads(place.out.read_text("utf-8"))
    assert place.said("commission", "verify", str(place.out))[0] == 0
    place.out.write_text(place.out.read_text("utf-8").replace("Li Wei", "Li Wai"), "utf-8")
    assert place.said("commission", "verify", str(place.out))[0] == 1


def test_behind_current_transformers_both_registers_count_with_the_ratio(place: Place) -> None:
    book = read_site_book(place.book)
    meter = msgspec.structs.replace(book.meters[0], ct_ratio=3, power_w_max=60_000)
    place.write_book(msgspec.structs.replace(book, meters=(meter,)))
    place.mount()
    assert place.exchange("--last", "409")[0] == 2  # 1,227,000 Wh: less than was charged
    assert place.nothing_has_changed()
    assert place.exchange("--last", "415")[0] == 0
    account = place.state.accounts["A07"]
    assert sum(account.cycle_energy_wh) == 415_000 * 3 - OPENED_WH
    assert account.recorded.register_wh == NEW_WH * 3
    assert (place.record.old.ct_ratio, place.record.new.ct_ratio, place.record.new.first_wh) == (3, 3, NEW_WH * 3)
    assert read_site_book(place.book).meters[0].ct_ratio == 3


def test_other_current_transformers_at_the_same_meter_are_an_exchange_too(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", Technician(lambda: None))
    assert place.exchange("--ct-ratio", "4", "--page", str(place.page))[0] == 0
    account = place.state.accounts["A07"]
    assert sum(account.cycle_energy_wh) == OLD_WH - OPENED_WH
    assert account.recorded.register_wh == OLD_WH * 4
    assert (place.record.old.ct_ratio, place.record.new.ct_ratio) == (1, 4)
    assert "1 → 4" in place.page.read_text("utf-8")
    assert read_site_book(place.book).meters[0].ct_ratio == 4


# --- the relay --------------------------------------------------------------------------------


def test_a_relay_that_is_not_as_it_shall_be_is_told(place: Place) -> None:
    place.board.relays[6].closed = False
    place.mount()
    status, _, complaint = place.exchange(*DEAD)
    assert (status, place.record.new.relay, place.record.control_state) == (0, "open", "connected")
    assert "The relay is open and shall be closed" in complaint


def test_a_relay_that_cannot_be_read_back_leaves_everything_as_it_was(place: Place) -> None:
    del place.line.devices[20]
    place.mount()
    status, _, complaint = place.exchange(*DEAD)
    assert status == 2
    assert "R07 cannot be read back" in complaint
    assert place.nothing_has_changed()


def test_a_meters_own_relay_moves_with_it(sim_line: Any, said: Run, tmp_path: Path) -> None:
    place = Place(sim_line(), said, tmp_path, "hiking_dds238_2", own_relay=True)
    place.line.devices.pop(7)
    own = RelayBoard().relays[0]
    place.line.devices[8] = Meter("M07B", 8, MODELS["hiking_dds238_2"], NEW_WH - 2_000, Draw(), own, lambda: 0)
    more = (*DEAD, "--device-id", "8", "--serial", "77")
    status, _, complaint = place.exchange(*more)
    assert status == 0, complaint
    assert [(row.relay_id, row.device_id, row.model) for row in read_site_book(place.book).relays] == [
        ("R07", 8, "hiking_dds238_2")
    ]
    assert (place.record.old.relay, place.record.new.relay) == ("unknown", "closed")


def test_a_model_without_a_relay_cannot_stand_in_for_one_that_switched(
    sim_line: Any, said: Run, tmp_path: Path
) -> None:
    place = Place(sim_line(), said, tmp_path, "hiking_dds238_2", own_relay=True)
    status, _, complaint = place.exchange(*DEAD, "--model", "eastron_sdm120")
    assert status == 2
    assert "model eastron_sdm120 has no relay" in complaint
    assert place.nothing_has_changed()


GPIO_RELAY = """
[[gpio_relays]]
id = "G07"
chip = "/dev/gpiochip0"
kind = "monostable"
coil_line = 17
closed_when = "coil_off"
"""


def test_a_gpio_relay_stays_at_its_place_and_its_state_is_left_to_the_agent(place: Place) -> None:
    place.config.write_text(place.config.read_text("utf-8") + GPIO_RELAY, "utf-8")
    book = read_site_book(place.book)
    meter = msgspec.structs.replace(book.meters[0], relay_id="G07")
    place.write_book(msgspec.structs.replace(book, meters=(meter,), relays=()))
    place.mount()
    assert place.exchange(*DEAD)[0] == 0
    assert (place.record.relay_id, place.record.old.relay, place.record.new.relay) == ("G07", "unknown", "unknown")
    assert read_site_book(place.book, None).meters[0].relay_id == "G07"


# --- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "what"),
    [
        (("--last", "1100"), "--last: 1100 kWh is less than the 1230 kWh that were charged already"),
        (("--last", "9999"), "the exchange is refused: last register 9999000 Wh of M07 cannot be believed"),
        ((*DEAD, "--gap", "99"), "the exchange is refused: estimated 99000 Wh between the meters"),
        ((*DEAD, "--display", "9.9"), "the register says 2.5 kWh, the display 9.9"),
        ((*DEAD, "--serial", "12"), "the meter says its serial number is"),
        ((*DEAD, "--device-id", "11"), "nobody answers at address 11"),
        ((*DEAD, "--model", "nothing"), "model 'nothing' is not known"),
        ((*DEAD, "--last-at", "2099-01-01T00:00+08:00"), "is still to come"),
        (("--estimated",), "--estimated and --last-at belong to --last"),
        ((*DEAD, "--last-at", "yesterday"), "is not a time with its zone"),
        (("--last", "-3"), "is not a reading such as 1234.5"),
        ((*DEAD, "--installer", " "), "a name is needed"),
        ((*DEAD, "--page", "/nowhere/there/page.html"), "its folder is not there"),
        ((*DEAD, "--key", "/nowhere.pem"), "/nowhere.pem: "),
        ((*DEAD, "--config", "/nowhere.toml"), "/nowhere.toml: "),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence_and_changes_nothing(
    place: Place, more: tuple[str, ...], what: str
) -> None:
    place.mount()
    status, text, complaint = place.exchange(*more)
    assert (status, text) == (2, "")
    assert what in complaint
    assert place.nothing_has_changed()


def test_an_unknown_account_and_a_taken_meter_id_are_refused(place: Place) -> None:
    place.mount()
    assert place.exchange(*DEAD, meter_id="M07")[0] == 2
    status, _, complaint = place.said(
        *(
            "commission",
            "exchange",
            "A99",
            "--config",
            str(place.config),
            "--meter-id",
            "M07B",
            "--installer",
            "Li Wei",
        ),
        *("--key", str(place.key), "--out", str(place.out)),
    )
    assert (status, "no account A99; it has: A07" in complaint) == (2, True)
    assert place.nothing_has_changed()


def test_the_old_meter_is_not_taken_for_the_new_one(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Technician(lambda: None))
    status, _, complaint = place.exchange()
    assert status == 2
    assert "is the old meter still" in complaint
    assert place.nothing_has_changed()


def test_without_somebody_to_say_that_the_meter_was_changed_nothing_happens(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    status, _, complaint = place.exchange()
    assert (status, "nobody said that the meter was changed" in complaint) == (2, True)
    assert place.nothing_has_changed()


def test_while_the_agent_runs_nothing_is_touched(place: Place) -> None:
    place.mount()
    prepared = prepare(read_config(place.config))
    journal = open_journal(prepared)
    (place.folder / "data" / "agent.sock").touch()
    status, _, complaint = place.exchange(*DEAD)
    asyncio.run(journal.close())
    assert (status, "the agent is running: stop it" in complaint) == (2, True)
    assert place.nothing_has_changed()


def test_another_user_than_the_agents_leaves_no_files_that_it_could_not_write(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.mount()
    monkeypatch.setattr("os.geteuid", lambda: os.getuid() + 1)
    status, _, complaint = place.exchange(*DEAD)
    assert (status, "journal.db belongs to" in complaint) == (2, True)
    assert place.nothing_has_changed()


def test_an_exchange_that_was_done_is_not_done_again(place: Place) -> None:
    place.mount()
    assert place.exchange(*DEAD)[0] == 0
    events = len(place.events())
    assert place.exchange(*DEAD, out=place.folder / "again.json")[0] == 2
    assert len(place.events()) == events


# --- the power goes ----------------------------------------------------------------------------


class PowerCut(BaseException):
    """Nothing runs any more."""


def cut(*_: Any) -> Any:
    raise PowerCut


def then_cut(real: Callable[..., Any], times: int = 1) -> Callable[..., Any]:
    """Does what was asked, so often, and then the power goes."""
    done = 0

    def act(*given: Any) -> Any:
        nonlocal done
        result = real(*given)
        done += 1
        if done == times:
            raise PowerCut
        return result

    return act


async def _append_then_cut(self: Any, events: Any) -> None:
    await _APPEND(self, events)
    raise PowerCut


_APPEND = JournalEventLog.append

MOMENTS: dict[str, tuple[Any, str, Callable[[Any], Any], bool]] = {
    "before the note": (exchange_store, "write_file", lambda real: cut, False),
    "after the note": (exchange_store, "write_file", lambda real: then_cut(real), False),
    "before the journal": (SqliteJournal, "append", lambda real: cut, False),
    "after the journal": (JournalEventLog, "append", lambda real: _append_then_cut, True),
    "before the site book": (exchange_store, "write_site_book", lambda real: cut, True),
    "after the site book": (exchange_store, "write_site_book", lambda real: then_cut(real), True),
    "after the record": (exchange_store, "write_file", lambda real: then_cut(real, 2), True),
    "after the page": (exchange_store, "write_file", lambda real: then_cut(real, 3), True),
    "before the note goes": (exchange_store, "_forget", lambda real: cut, True),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_power_cut_leaves_the_old_meter_or_the_new_one_and_a_start_brings_all_files_there(
    place: Place, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    owner, name, change, happened = MOMENTS[moment]
    place.mount()
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, change(getattr(owner, name)))
        with pytest.raises(PowerCut):
            place.exchange(*DEAD, "--page", str(place.page))
    config = read_config(place.config)
    outcome = finish_exchange(config, "en")
    assert outcome == ("finished" if happened else "nothing" if moment == "before the note" else "undone")
    assert finish_exchange(config, "en") == "nothing"
    if not happened:
        assert place.nothing_has_changed()
        assert place.exchange(*DEAD, "--page", str(place.page))[0] == 0
    account = place.state.accounts["A07"]
    assert (account.meter_id, account.recorded.register_wh) == ("M07B", NEW_WH)
    assert sum(account.cycle_energy_wh) == OLD_WH - OPENED_WH
    assert [row.meter_id for row in read_site_book(place.book).accounts] == ["M07B"]
    assert place.record.new.meter_id == "M07B"
    assert "M07B" in place.page.read_text("utf-8")


def test_a_model_of_another_protocol_is_refused_by_name_before_anything_is_asked(place: Place) -> None:
    status, _, complaint = place.exchange("--model", "dlt645_2007")
    assert status == 2
    assert "dlt645_2007" in complaint
    assert "speaks dlt645" in complaint
    assert place.nothing_has_changed()


def test_a_command_that_is_killed_while_it_waits_has_changed_nothing(place: Place) -> None:
    command = [
        *(sys.executable, "-m", "edge.cli", "commission", "exchange", "A07", "--config", str(place.config)),
        *("--meter-id", "M07B", "--timeout-ms", "200", "--installer", "Li Wei", "--key", str(place.key)),
        *("--out", str(place.out)),
    ]
    environment = {**os.environ, "LANG": "C.UTF-8"}
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as wizard:
        assert wizard.stderr is not None
        told = [wizard.stderr.readline(), wizard.stderr.readline()]
        wizard.send_signal(signal.SIGKILL)
    assert [line[:2] for line in told] == ["1.", "2."]
    assert place.nothing_has_changed()


def test_the_agents_start_ends_an_exchange_that_was_cut_off(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.mount()
    with monkeypatch.context() as patch:
        patch.setattr(exchange_store, "write_site_book", cut)
        with pytest.raises(PowerCut):
            place.exchange(*DEAD)
    monkeypatch.setattr("edge.bootstrap.run_gateway", _ended_at_once)
    status, _, complaint = place.said("run", "--config", str(place.config))
    assert (status, "interrupted is finished now" in complaint) == (0, True)
    assert [row.meter_id for row in read_site_book(place.book).accounts] == ["M07B"]


async def _ended_at_once(*_: Any) -> None:
    """A gateway that is stopped at once."""


def test_a_record_that_has_no_place_any_more_stops_no_agent_and_is_kept(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.mount()
    folder = place.folder / "stick"
    folder.mkdir()
    place.out = folder / "M07B.json"
    with monkeypatch.context() as patch:
        patch.setattr(exchange_store, "write_site_book", cut)
        with pytest.raises(PowerCut):
            place.exchange(*DEAD)
    folder.rmdir()
    config = read_config(place.config)
    assert [finish_exchange(config, "en"), finish_exchange(config, "en")] == ["unrecorded", "unrecorded"]
    assert [row.meter_id for row in read_site_book(place.book).accounts] == ["M07B"]
    folder.mkdir()
    assert finish_exchange(config, "en") == "finished"
    assert place.record.account == "A07"


def test_a_note_that_somebody_touched_is_refused_by_name(place: Place) -> None:
    note = exchange_store.note_path(place.folder / "data")
    note.write_text("{}", "utf-8")
    status, _, complaint = place.said("run", "--config", str(place.config))
    assert (status, "exchange.json: is no note of an exchange" in complaint) == (2, True)


# --- words -------------------------------------------------------------------------------------


def test_the_wizard_speaks_both_languages(place: Place) -> None:
    assert LANGUAGES == ("en", "zh")
    place.mount()
    status, text, complaint = place.exchange(*DEAD, "--lang", "zh")
    assert status == 0
    assert "M07 已换为 M07B" in text
    assert "止码 1236.0 kWh" in complaint
