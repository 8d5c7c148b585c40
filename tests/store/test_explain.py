"""Why a customer is cut, or is not: the verdict, the records it rests on, and the words in both languages."""

import json
import re
import sqlite3
import string
from collections.abc import Callable
from contextlib import closing
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import pytest

from edge.agent.order_commands import ORDERS
from edge.cli import main
from edge.core import events as ev
from edge.core.account import State
from edge.core.credit_terms import PaymentMode
from edge.core.debt import DebtKind
from edge.core.ledger import apply
from edge.core.units import ClockQuality, ClockReading, MoneyNano, UnixSeconds, WattHours
from edge.store.codec import EVENT_CLASSES, decode_event
from edge.store.explain import BOUNDARY, Explanation, Kept, explain
from edge.store.explain_words import LANGUAGES, ExplainWords
from edge.store.words import load_words

VECTOR = Path(__file__).resolve().parent.parent / "vectors" / "journal_schema_1.db"
AT = 1_772_400_000
HOUR_S = 3600


@pytest.fixture(scope="module")
def recorded() -> list[Kept]:
    """The recorded journal."""
    with closing(sqlite3.connect(f"{VECTOR.as_uri()}?mode=ro&immutable=1", uri=True)) as vector:
        rows = vector.execute("SELECT stream, seq, body FROM record ORDER BY place").fetchall()
    return [Kept(stream, seq, decode_event(body)) for stream, seq, body in rows]


def words(language: str) -> ExplainWords:
    return ExplainWords(language, "CNY", 2, lambda _at: 8 * HOUR_S)


def places(kept: tuple[Kept, ...]) -> list[tuple[str, int]]:
    return [(entry.stream, entry.seq) for entry in kept]


# --- a recorded life -------------------------------------------------------------------------


def test_cut_is_explained_by_its_notices_and_the_cut(recorded: list[Kept]) -> None:
    found = explain(recorded, "A2", None)
    assert (found.verdict.supply, found.verdict.code, found.verdict.reason) == (
        "ready_for_reconnection",
        "cut",
        "no_credit",
    )
    told = [(type(kept.event).__name__, getattr(kept.event, "number", None)) for kept in found.verdict.because]
    assert told == [("NoticeDelivered", 2), ("NoticeRaised", 3), ("DisconnectControlChanged", None)]
    assert places(found.verdict.because) == [("led", 132), ("led", 136), ("led", 138)]
    assert found.verdict.output_connected is False


def test_chain_tells_what_the_balance_was_made_of_and_then_all_that_happened(recorded: list[Kept]) -> None:
    chain = explain(recorded, "A2", UnixSeconds(1_774_650_000)).chain
    kinds = [type(kept.event).__name__ for kept in chain]
    assert kinds[:3] == ["AccountOpened", "PaymentApplied", "RegisterFrozen"]
    assert [getattr(kept.event, "number", None) for kept in chain if isinstance(kept.event, ev.NoticeRaised)] == [
        1,
        2,
        3,
    ]
    assert "DisconnectControlChanged" in kinds
    assert "OutputStateObserved" in kinds
    assert [kept.event.at for kept in chain] == sorted(kept.event.at for kept in chain)


def test_at_every_moment_the_verdict_is_what_the_gateway_knew_then(recorded: list[Kept]) -> None:
    state = State()
    known: set[tuple[str, int]] = set()
    own = [number for number, kept in enumerate(recorded) if type(kept.event).__name__ not in BOUNDARY]
    at = [kept.event.at for kept in recorded]
    last_of_moment = {number for number, following in pairwise(own) if at[following] > at[number]}
    for number, kept in enumerate(recorded):
        state = apply(state, kept.event)
        known.add((kept.stream, kept.seq))
        if number not in last_of_moment:
            continue
        for account_id, account in state.accounts.items():
            found = explain(recorded, account_id, kept.event.at)
            assert found.verdict.supply == account.control_state.value
            assert found.verdict.money_nano == account.money_nano
            assert {*places(found.chain), *places(found.verdict.because)} <= known
            assert places(found.verdict.because)
            assert set(places(found.verdict.because)) <= set(places(found.chain))
            for language in LANGUAGES:
                said = [words(language).verdict(found), *(words(language).sentence(entry) for entry in found.chain)]
                assert all(text and "{" not in text for text in said)


def test_account_that_is_not_opened_yet_is_said_to_be_so(recorded: list[Kept]) -> None:
    found = explain(recorded, "A1", UnixSeconds(1_000_000_000))
    assert (found.verdict.code, found.chain) == ("not_opened", ())
    assert "was not open" in words("en").verdict(found)


# --- every verdict ---------------------------------------------------------------------------


def opened(recorded: list[Kept], **changes: Any) -> ev.AccountOpened:
    first = next(kept.event for kept in recorded if isinstance(kept.event, ev.AccountOpened))
    changes = {"at": UnixSeconds(AT), "account": "A9", "balance_nano": MoneyNano(-5), "protected": False, **changes}
    return replace(first, **changes)


def clock(hours: int) -> ClockReading:
    return ClockReading(UnixSeconds(AT + hours * HOUR_S), hours * HOUR_S * 1000, "b", ClockQuality.NTP)


def raised(number: int, hours: int = 0) -> ev.NoticeRaised:
    at = UnixSeconds(AT + hours * HOUR_S)
    money = MoneyNano(-5)
    return ev.NoticeRaised(at, "A9", number, money, money, MoneyNano(1), at, WattHours(1))


def delivered(number: int, hours: int = 0, grace_s: int = 0) -> ev.NoticeDelivered:
    return ev.NoticeDelivered(clock(hours).at, "A9", number, "local_display", clock(hours), grace_s)


def control(state: str, trigger: str, reason: str, local: str | None, hours: int = 9) -> ev.DisconnectControlChanged:
    return ev.DisconnectControlChanged(
        clock(hours).at, "A9", state, trigger, reason, local, 1, MoneyNano(-5), MoneyNano(-5), WattHours(1)
    )


def observed(connected: bool) -> ev.OutputStateObserved:
    return ev.OutputStateObserved(clock(10).at, "A9", connected, connected)


IN_ARREARS = (raised(1), raised(2), delivered(1), delivered(2))
CUT = control("ready_for_reconnection", "local_disconnect", "no_credit", "no_credit")

# code, events after the opening, what the verdict rests on, words of both languages
VERDICTS: list[tuple[str, tuple[ev.Event, ...], str, str, str]] = [
    ("in_credit", (), "AccountOpened", "not in arrears", "没有欠费"),
    ("reserve_low", (raised(1), delivered(1)), "NoticeRaised", "runs low", "余额偏低"),
    ("notice_not_delivered", (raised(2),), "NoticeRaised", "notice 2 has no receipt", "通知2尚无回执"),
    ("grace_runs", (*IN_ARREARS, delivered(3, 2, 2 * HOUR_S)), "NoticeDelivered", "4 h 0 min of grace", "4小时0分"),
    ("due", (*IN_ARREARS, delivered(3, 6, 6 * HOUR_S)), "NoticeDelivered", "the grace is over", "宽限期已过"),
    (
        "blocked",
        (*IN_ARREARS, ev.CutDeferred(clock(8).at, "A9", (("stale_reading", {"age_s": 90_000}), ("dispute", {})))),
        "CutDeferred",
        "reading too old; dispute",
        "抄表数据过期",
    ),
    (
        "keep_supply",
        (*IN_ARREARS, ev.KeepSupplyChanged(clock(1).at, "A9", True, 1)),
        "KeepSupplyChanged",
        "keep-",
        "保电",
    ),
    (
        "register_hold",
        (*IN_ARREARS, ev.HoldRaised(clock(1).at, "A9", "register_jump", WattHours(1), WattHours(9))),
        "HoldRaised",
        "the register jumped",
        "示数突变",
    ),
    (
        "supply_hold",
        (*IN_ARREARS, ev.SupplyHoldChanged(clock(1).at, "A9", "dispute", "case 7", None, True)),
        "SupplyHoldChanged",
        "dispute",
        "争议中",
    ),
    ("cut", (*IN_ARREARS, raised(3), CUT, observed(False)), "DisconnectControlChanged", "is cut", "停电状态"),
    (
        "cut",
        (control("disconnected", "remote_disconnect", "operator", None),),
        "DisconnectControlChanged",
        "by order of the operator",
        "运营方指令",
    ),
    (
        "ready",
        (CUT, ev.LocalReasonCleared(clock(10).at, "A9", MoneyNano(7))),
        "LocalReasonCleared",
        "may be switched on again",
        "可在现场合闸",
    ),
]


@pytest.mark.parametrize(("code", "events", "rests_on", "english", "chinese"), VERDICTS)
def test_verdict_names_its_reason_and_its_record(
    recorded: list[Kept], code: str, events: tuple[ev.Event, ...], rests_on: str, english: str, chinese: str
) -> None:
    found = story(opened(recorded), *events)
    assert found.verdict.code == code
    assert rests_on in {type(kept.event).__name__ for kept in found.verdict.because}
    assert english in words("en").verdict(found)
    assert chinese in words("zh").verdict(found)


def story(*events: ev.Event) -> Explanation:
    return explain([Kept(event.stream, number, event) for number, event in enumerate(events, 1)], "A9", None)


def test_protected_customer_in_arrears_is_supplied_and_that_is_why(recorded: list[Kept]) -> None:
    found = story(opened(recorded, protected=True), *IN_ARREARS, ev.CaseEscalated(clock(7).at, "A9", MoneyNano(-5)))
    assert found.verdict.code == "protected"
    assert [type(kept.event).__name__ for kept in found.verdict.because] == ["CaseEscalated"]


def test_relay_that_was_read_back_otherwise_is_said(recorded: list[Kept]) -> None:
    assert "commanded is not done" in words("en").verdict(story(opened(recorded), *IN_ARREARS, CUT, observed(True)))
    assert "commanded" not in words("en").verdict(story(opened(recorded), *IN_ARREARS, CUT, observed(False)))


def test_blocker_is_told_with_its_evidence(recorded: list[Kept]) -> None:
    deferred = ev.CutDeferred(clock(8).at, "A9", (("stale_reading", {"age_s": 90_000, "age_s_max": 86_400}),))
    assert words("en").sentence(Kept("evt", 1, deferred)) == (
        "A cut is due and does not happen: reading too old (age_s 90000, age_s_max 86400)."
    )


def test_hold_that_ended_explains_nothing_any_more(recorded: list[Kept]) -> None:
    hold = ev.SupplyHoldChanged(clock(1).at, "A9", "dispute", "case 7", clock(3).at, True)
    found = story(opened(recorded), *IN_ARREARS, hold, delivered(3, 5, 5 * HOUR_S))
    assert found.verdict.code == "grace_runs"


# --- words -----------------------------------------------------------------------------------


def test_both_languages_say_the_same_things_with_the_same_figures() -> None:
    catalogues = [load_words(language) for language in LANGUAGES]
    assert catalogues[0].keys() == catalogues[1].keys()
    for key in catalogues[0]:
        names = [sorted(name for _, name, _, _ in string.Formatter().parse(said[key]) if name) for said in catalogues]
        assert names[0] == names[1], key


def test_every_kind_of_event_has_a_sentence_whose_figures_it_has() -> None:
    not_told = {"ReadingsRecorded", "TariffAccepted"}  # of no single account
    for name, event_class in EVENT_CLASSES.items():
        if "account" not in {entry.name for entry in fields(event_class)} or name in not_told:
            continue
        keys = [key for key in load_words("en") if key == name or key.startswith(f"{name}.")]
        assert keys, f"{name} has no sentence in edge/store/catalogue"
        for key in keys:
            names = {part.split(".")[0] for _, part, _, _ in string.Formatter().parse(load_words("en")[key]) if part}
            assert names <= {entry.name for entry in fields(event_class)}, key


def test_every_blocker_has_words() -> None:
    source = (Path(__file__).resolve().parents[2] / "edge" / "core" / "blockers.py").read_text("utf-8")
    table = source[source.index("_CHECKS") if "_CHECKS" in source else 0 :]
    codes = set(re.findall(r'^\s+\(?"([a-z_]+)"[:,] ', table, re.MULTILINE))
    missing = {code for code in codes if f"blocker.{code}" not in load_words("en")}
    assert not missing
    assert get_args(ev.Event)


def test_every_order_and_what_people_ask_for_on_site_has_words() -> None:
    for language in LANGUAGES:
        said = load_words(language)
        assert {f"order_type.{name}" for name in ORDERS} <= set(said)
        assert {f"debt.{kind.value}" for kind in DebtKind} <= set(said)
        assert {f"mode.{mode.value}" for mode in PaymentMode} <= set(said)


def test_a_field_has_its_own_words_before_those_of_reasons_and_a_person_is_named() -> None:
    mode = ev.PaymentModeChanged(UnixSeconds(AT), "A9", "credit", clock(0), MoneyNano(0))
    assert words("en").sentence(Kept("led", 1, mode)) == (
        "Payment mode billed afterwards from here on: live balance 0.00 CNY."
    )
    pressed = replace(control("connected", "manual_reconnect", "key_press", None), actor="Li")
    assert words("en").sentence(Kept("led", 1, pressed)) == "Switched on by hand: the key was pressed. By Li."
    assert words("zh").sentence(Kept("led", 1, pressed)).startswith("手动合闸")
    assert "Li" in words("zh").sentence(Kept("led", 1, pressed))


# --- the command -----------------------------------------------------------------------------


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*arguments: object) -> tuple[int, str, str]:
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as leaving:
            status = leaving.code if isinstance(leaving.code, int) else 1
        return (status, *capsys.readouterr())

    return run


def test_command_tells_the_story_line_by_line_with_its_records(said: Any) -> None:
    status, text, complaint = said("explain", VECTOR, "A2", "--at", "2026-03-28T04:00")
    assert (status, complaint) == (0, "")
    assert text.startswith("Account A2 is cut at 2026-03-28 04:00: no credit. Live balance -1.25 CNY.\n")
    assert "* 2026-03-28 03:10  led 138    Cut on site: no credit." in text
    status, text, _ = said("explain", VECTOR, "A2", "--at", "2026-03-28T04:00", "--lang", "zh")
    assert "现场停电" in text


def test_command_gives_the_same_as_json(said: Any) -> None:
    status, text, _ = said("explain", VECTOR, "A2", "--at", "1774641600", "--json")
    found = json.loads(text)
    assert status == 0
    assert found["verdict"]["code"] == "cut"
    assert {"stream": "led", "seq": 138} in found["verdict"]["because"]
    assert next(line for line in found["chain"] if (line["stream"], line["seq"]) == ("led", 138))["because"] is True


def test_times_with_and_without_offset_and_in_seconds_are_the_same(said: Any) -> None:
    answers = {
        said("explain", VECTOR, "A2", "--at", time)[1]
        for time in ("2026-03-28T04:00", "2026-03-27T20:00+00:00", "1774641600")
    }
    assert len(answers) == 1


@pytest.mark.parametrize("time", ["soon", "2026-13-01", "99999999999999", "0", "²"])
def test_bad_time_is_status_2_in_one_sentence(said: Any, time: str) -> None:
    status, _, complaint = said("explain", VECTOR, "A2", "--at", time)
    assert status == 2
    assert "Traceback" not in complaint


def test_unknown_account_is_status_2_and_the_known_ones_are_named(said: Any) -> None:
    assert said("explain", VECTOR, "A7") == (
        2,
        "",
        f"wattgate: {VECTOR}: there is no account 'A7'; there are: A1, A2, A3\n",
    )


def test_damaged_store_tells_no_story(said: Any, tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(VECTOR.read_bytes())
    with closing(sqlite3.connect(path, isolation_level=None)) as foreign:
        foreign.execute("DROP TRIGGER record_is_not_updated")
        foreign.execute("UPDATE record SET seq = 999 WHERE stream = 'led' AND seq = 50")
    status, text, complaint = said("explain", path, "A2")
    assert (status, text) == (2, "")
    assert "led 999 does not follow 49" in complaint
    assert complaint.count("\n") == 1
