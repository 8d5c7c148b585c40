"""The seeded world: same seed, same story; what the auditor must find, it finds; old failures stay mended."""

import asyncio
import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edge.cli import main
from hw.sim.world.auditor import Auditor, Circumstances, Terms
from hw.sim.world.faults import FAULTS, spans
from hw.sim.world.keys import WorldKey
from hw.sim.world.mutants import MUTANTS, catch
from hw.sim.world.sometimes import SOMETIMES, Sometimes
from hw.sim.world.world import Report, Setting, run_world

SEEDS_FILE = Path(__file__).resolve().parents[1] / "vectors" / "sim_seeds.txt"
HOUR_MS = 3_600_000
UNIT_NANO = 1_000_000_000
SLOW_DAYS, SLOW_METERS = 20, 16
QUICK_METER_DAYS_MAX = 100  # of an old seed; a longer life is relived in the slow tier
# A landing lives the same few worlds each time; whoever works here draws a hundred meter-years of new ones, which
# takes half an hour on two cores.
LANDING = os.environ.get("WATTGATE_NO_SKIP") == "1"
SLOW_METER_YEARS, SLOW_COUNT = (2.6, 1) if LANDING else (100, 6)  # of one process
LANDING_SEED = 88001
ALL = tuple(FAULTS)


def found(report: Report) -> str:
    """What a failing test shows: enough to run that world again."""
    lines = [f"{entry.true_ms} {entry.rule} {entry.detail}" for entry in report.violations[:10]]
    return f"{report.setting}\n" + "\n".join(lines)


def old_seeds() -> list[Any]:
    """A setting each, as parameters of a test."""
    rows = [
        line.split(maxsplit=4)
        for line in SEEDS_FILE.read_text("utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    settings = []
    for row in rows:
        seed, days, meters = (int(word) for word in row[:3])
        marks = [pytest.mark.slow] if days * meters > QUICK_METER_DAYS_MAX else []
        faults = ALL if row[3] == "all" else tuple(row[3].split(","))
        settings.append(pytest.param((seed, days, meters, faults), marks=marks, id=f"seed {seed}"))
    return settings


def command(*arguments: str, hash_seed: str = "0") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    return subprocess.run(
        [sys.executable, "-m", "edge.cli", "sim", *arguments],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=1200,
    )


# --- the same again --------------------------------------------------------------------------


def test_same_seed_gives_the_same_trace_in_two_processes_with_other_hash_seeds() -> None:
    runs = [command("--seed", "5", "--days", "3", "--meters", "4", "--json", hash_seed=seed) for seed in ("1", "77")]
    first, second = (json.loads(run.stdout) for run in runs)
    assert first == second
    assert len(first["trace_hash"]) == 64


def test_another_seed_gives_another_trace() -> None:
    hashes = {run_world(Setting(seed, 1, 2)).trace_hash for seed in (1, 2)}
    assert len(hashes) == 2


def test_a_world_without_faults_cuts_restores_and_breaks_no_rule() -> None:
    report = run_world(Setting(1, 6, 6))
    assert not report.violations, found(report)
    assert report.cuts > 0
    assert report.restores > 0
    assert report.sometimes["restore_after_payment"] > 0


def test_a_world_with_all_faults_breaks_no_rule() -> None:
    report = run_world(Setting(3, 6, 6, ALL))
    assert not report.violations, found(report)
    assert report.power_cuts > 0


@pytest.mark.parametrize("setting", old_seeds())
def test_seed_that_once_failed_stays_mended(setting: tuple[int, int, int, tuple[str, ...]]) -> None:
    report = run_world(Setting(*setting))
    assert not report.violations, found(report)


def test_a_fault_begins_before_it_ends_and_ends_before_the_world_heals() -> None:
    """Whatever the world's length: a world of 14 days heals in the middle of a slot."""
    for heal_ms in (967_680_000, 4 * 24 * HOUR_MS):
        world: Any = SimpleNamespace(heal_ms=heal_ms)
        for seed in range(500):
            for begin_ms, end_ms in spans(world, random.Random(seed), 4.0, (0.1, 20.0)):
                assert begin_ms <= end_ms < heal_ms


# --- it finds what is there ------------------------------------------------------------------

# Quick ones of SECURITY.md's list; the slow tier plants all of them.
QUICK_MUTANTS = ("ack_before_commit", "no_dedupe", "publish_before_commit", "synchronous_off")
SECURITY_MUTANTS = {
    "ack_before_commit",
    "no_dedupe",
    "register_outside_transaction",
    "stale_reply_accepted",
    "publish_before_commit",
    "synchronous_off",
    "interval_from_wall_clock",
    "cut_on_read_error",
    "relay_fire_and_forget",
    "top_up_undoes_operator_cut",
    "expired_policy_harsher",
    "blockers_skipped_at_restart",
}


def test_every_mutant_of_the_security_list_is_there() -> None:
    assert set(MUTANTS) == SECURITY_MUTANTS


@pytest.mark.parametrize("name", QUICK_MUTANTS)
def test_quick_mutant_is_caught(name: str) -> None:
    assert catch(name) is not None


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(MUTANTS) - set(QUICK_MUTANTS)))
def test_mutant_is_caught(name: str) -> None:
    assert catch(name) is not None


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_world_that_gives_a_mutant_away_is_clean_without_it(name: str) -> None:
    report = run_world(Setting(*MUTANTS[name].worlds[0]))
    assert not report.violations, found(report)


def test_planted_mutant_is_taken_out_again() -> None:
    from edge.agent.gateway import Gateway
    from edge.core import blockers, ledger
    from edge.core.disconnect_control import TRANSITIONS

    before = (Gateway._commit, ledger._APPLY, blockers.BLOCKERS, dict(TRANSITIONS))
    for mutant in MUTANTS.values():
        with mutant.plant():
            pass
    assert (Gateway._commit, ledger._APPLY, blockers.BLOCKERS, dict(TRANSITIONS)) == before


# --- the auditor alone -----------------------------------------------------------------------

TERMS = Terms(
    account_id="A1",
    least_micro=600_000,
    most_micro=600_000,
    opening_nano=0,
    protected=False,
    grace_ms=6 * HOUR_MS,
    lead_ms=HOUR_MS // 2,
    window_min=((540, 1020),),
    threshold_nano=0,
    debt_nano_min=0,
    payment_nano_max=500 * UNIT_NANO,
    cut_share=1000,
    offline_ms_max=None,
    friendly_min=((1080, 1320),),
    emergency_nano=0,
    valid_ms=None,
)
QUIET = Circumstances(
    gateway_runs=True,
    clock_right=True,
    clock_trusted=True,
    clock_wrong_ms=None,
    runs_since_ms=0,
    cloud_heard_ms=0,
    healthy=True,
    dense=True,
)


class Case:
    """An auditor with one account, and records written by hand."""

    def __init__(self, **terms: Any) -> None:
        fields = {name: getattr(TERMS, name) for name in TERMS.__dataclass_fields__} | terms
        self.register_wh = 1000
        self.around = QUIET
        self.auditor = Auditor(
            [Terms(**fields)], lambda _account: self.register_wh, lambda _account: self.around, Sometimes()
        )
        self.seq: Counter[str] = Counter()
        self.shows(1000, 0)
        self.record("led", 0, type="AccountOpened", register_wh=1000, posting_nano=0, balance_nano=0)

    def shows(self, register_wh: int, at_ms: int) -> None:
        self.register_wh = register_wh
        self.auditor.meter_showed("A1", register_wh, at_ms)

    def record(self, stream: str, at_ms: int, **fields: Any) -> None:
        self.seq[stream] += 1
        body = json.dumps({"account": "A1", **fields}).encode()
        self.auditor.recorded(stream, 1, self.seq[stream], body, at_ms)

    def charge(self, register_wh: int, energy_wh: int, amount_nano: int, at_ms: int) -> None:
        lines = [[{"energy_wh": energy_wh, "amount_nano": amount_nano}]]
        self.record("rdg", at_ms, type="ReadingsRecorded", accounts=["A1"], register_wh=[register_wh], lines=lines)

    def in_arrears(self, at_ms: int) -> None:
        """Energy without credit, and both notices handed over."""
        self.shows(2000, at_ms)
        self.charge(2000, 1000, 600_000_000, at_ms)
        for number in (2, 3):
            self.record("led", at_ms, type="NoticeRaised", number=number)
            self.record("led", at_ms, type="NoticeDelivered", number=number)

    def cut(self, at_ms: int) -> None:
        fields = {"trigger": "local_disconnect", "control_state": "ready_for_reconnection", "local_reason": "no_credit"}
        self.record("led", at_ms, type="DisconnectControlChanged", **fields)

    def pay(self, payment_id: str, amount_nano: int, balance_nano: int) -> None:
        self.record(
            "led",
            10,
            type="PaymentApplied",
            payment_id=payment_id,
            amount_nano=amount_nano,
            posting_nano=amount_nano,
            balance_nano=balance_nano,
        )

    def pay_twice(self) -> None:
        self.pay("P1", 5, 5)
        self.pay("P1", 5, 10)

    def answer_twice(self) -> None:
        for _ in range(2):
            self.record("res", 9, type="OrderApplied", cid="c", result="applied")

    @property
    def rules(self) -> set[str]:
        return {entry.rule for entry in self.auditor.violations}


NOON_MS = 12 * HOUR_MS


PURCHASE = (2_000, 500_000, 800_000)  # a limit of 2 kWh


@pytest.mark.parametrize(
    ("energy_wh", "beyond_nano", "holds"), [(3_000, 300_000_000, True), (3_000, 0, False), (3_600, 0, False)]
)
def test_auditor_counts_what_a_payment_buys(energy_wh: int, beyond_nano: int, holds: bool) -> None:
    """1.80 buys 2 kWh at 0.50 and 1 kWh at 0.80, which is 0.30 more than at the first price."""
    case = Case(purchase=PURCHASE, least_micro=500_000, most_micro=500_000)
    case.auditor.payment_made("P1", "A1", 1_800_000_000)
    case.pay("P1", 1_800_000_000, 1_800_000_000)
    posted = {"energy_wh": energy_wh, "rest_nano": 0, "posting_nano": -beyond_nano}
    case.record("led", 10, type="EnergyBought", first_day=5, balance_nano=1_800_000_000 - beyond_nano, **posted)
    assert case.rules == (set() if holds else {"bought_wrong"})


@pytest.mark.parametrize(
    ("peak_w", "days", "nano", "holds"),
    [
        (1_000, 31, 3_000_000_000, True),
        (1_150, 31, 3_750_000_000, True),  # 100 W above 1050 W count again
        (1_150, 31, 3_450_000_000, False),
        (None, 10, 1_000_000_000, True),
        (None, 10, 3_000_000_000, False),
    ],
)
def test_auditor_works_out_what_power_costs(peak_w: int | None, days: int, nano: int, holds: bool) -> None:
    case = Case(contract=(1_000, 3_000_000))
    span = {"first_day": 0, "end_day": days, "power_w_max": peak_w}
    case.record("led", 10, type="DemandChargePosted", posting_nano=-nano, balance_nano=-nano, **span)
    assert case.rules == (set() if holds else {"power_charged_wrong"})


def test_auditor_finds_a_month_of_power_charged_twice() -> None:
    case, span = Case(contract=(1_000, 3_000_000)), {"first_day": 0, "end_day": 31, "power_w_max": None}
    for number in (1, 2):
        balance_nano = -number * 3_000_000_000
        case.record(
            "led", 10, type="DemandChargePosted", posting_nano=-3_000_000_000, balance_nano=balance_nano, **span
        )
    assert case.rules == {"power_charged_wrong"}


def test_auditor_finds_nothing_wrong_with_a_proper_cut() -> None:
    case = Case()
    case.in_arrears(2 * HOUR_MS)
    case.shows(2000, NOON_MS)
    case.cut(NOON_MS)
    assert case.rules == set()


def test_auditor_finds_nothing_wrong_with_proper_money() -> None:
    case = Case()
    case.auditor.payment_made("P1", "A1", 5)
    case.pay("P1", 5, 5)
    case.shows(1500, 20)
    case.charge(1500, 500, 300_000_000, 20)
    assert case.rules == set()


WRONG: dict[str, tuple[str, Callable[[Case], None]]] = {
    "a payment twice": ("payment_counted_twice", lambda case: case.pay_twice()),
    "a payment nobody made": ("payment_nobody_made", lambda case: case.pay("P9", 5, 5)),
    "a balance that is not the sum": ("money_not_conserved", lambda case: case.pay("P1", 5, 6)),
    "energy that is not between the registers": (
        "energy_not_conserved",
        lambda case: case.charge(1000, 5, 3_000_000, 9),
    ),
    "a price there is not": ("price_wrong", lambda case: case.charge(1000, 0, 1, 9)),
    "a register the meter never showed": (
        "wrong_register_charged",
        lambda case: case.charge(1700, 700, 420_000_000, 9),
    ),
    "a register that fell": ("register_fell", lambda case: case.charge(900, -100, -60_000_000, 9)),
    "a read-back that is not so": (
        "read_back_untrue",
        lambda case: case.record("evt", 9, type="OutputStateObserved", connected=False),
    ),
    "a record sent that is nowhere": ("sent_before_commit", lambda case: case.auditor.sent_up("led", 1, 9, [b"{}"], 9)),
    "a contact moved without a decision": (
        "switched_against_decision",
        lambda case: case.auditor.contact_moved("A1", False, "bus", HOUR_MS),
    ),
    "an answer given twice": (
        "answered_twice",
        lambda case: case.answer_twice(),
    ),
    "an operator's cut nobody ordered": (
        "cut_nobody_ordered",
        lambda case: case.record(
            "led",
            9,
            type="DisconnectControlChanged",
            trigger="remote_disconnect",
            control_state="disconnected",
            local_reason=None,
        ),
    ),
}


@pytest.mark.parametrize(("rule", "do"), WRONG.values(), ids=WRONG.keys())
def test_auditor_finds_each_wrong_done_on_purpose(rule: str, do: Callable[[Case], None]) -> None:
    case = Case()
    case.auditor.payment_made("P1", "A1", 5)
    do(case)
    assert rule in case.rules


@pytest.mark.parametrize(
    ("rule", "terms", "change", "at_ms"),
    [
        ("cut_within_grace", {}, {}, 7 * HOUR_MS),
        ("cut_outside_window", {}, {}, 23 * HOUR_MS),
        ("cut_in_friendly_hours", {}, {}, 19 * HOUR_MS),
        ("cut_of_protected", {"protected": True}, {}, NOON_MS),
        ("cut_below_minimum_debt", {"debt_nano_min": UNIT_NANO}, {}, NOON_MS),
        ("cut_with_credit", {"threshold_nano": -UNIT_NANO}, {}, NOON_MS),
        ("cut_on_untrusted_clock", {}, {"clock_trusted": False}, NOON_MS),
        ("cut_against_offline_policy", {"offline_ms_max": HOUR_MS}, {}, NOON_MS),
        ("cut_within_grace", {"valid_ms": HOUR_MS}, {}, NOON_MS),
    ],
)
def test_auditor_finds_a_cut_that_must_not_be(
    rule: str, terms: dict[str, Any], change: dict[str, Any], at_ms: int
) -> None:
    case = Case(**terms)
    case.in_arrears(2 * HOUR_MS)
    case.shows(2000, at_ms)
    case.around = Circumstances(**{name: getattr(QUIET, name) for name in QUIET.__dataclass_fields__} | change)
    case.cut(at_ms)
    assert rule in case.rules


def test_auditor_finds_a_cut_on_an_old_reading() -> None:
    case = Case()
    case.in_arrears(2 * HOUR_MS)
    case.cut(NOON_MS)
    assert case.rules == {"cut_on_old_reading"}


def test_auditor_finds_a_cut_that_is_late() -> None:
    case = Case()
    case.in_arrears(2 * HOUR_MS)
    for after_ms in range(0, 100_000, 10_000):
        case.shows(2000, NOON_MS + after_ms)
        case.auditor.look(NOON_MS + after_ms)
    assert case.rules == {"cut_late"}


def test_auditor_finds_a_restore_that_is_late() -> None:
    case = Case()
    case.in_arrears(2 * HOUR_MS)
    case.shows(2000, NOON_MS)
    case.cut(NOON_MS)
    case.auditor.contact_moved("A1", False, "bus", NOON_MS + 100)
    case.auditor.payment_arrived("A1", UNIT_NANO, NOON_MS + HOUR_MS)
    case.auditor.look(NOON_MS + HOUR_MS + 20_000)
    assert case.rules == {"restore_late"}


def test_auditor_finds_payments_that_came_to_nothing() -> None:
    case = Case()
    case.auditor.payment_made("P1", "A1", 5)
    case.auditor.close(NOON_MS, {"P1": None}, {"A1": 7})
    assert case.rules == {"payment_never_applied", "payment_never_answered", "cloud_has_other_money"}


# --- the command -----------------------------------------------------------------------------


def test_command_prints_what_was_promised() -> None:
    run = command("--seed", "1", "--days", "1", "--meters", "2", "--faults", "none", "--json")
    content = json.loads(run.stdout)
    assert run.returncode == 0
    assert set(content) == {
        "violations",
        "meter_years",
        "power_cuts",
        "payments",
        "relay_switches",
        "cuts",
        "restores",
        "trace_hash",
        "sometimes",
    }
    assert set(content["sometimes"]) == set(SOMETIMES)


@pytest.mark.parametrize(
    "arguments", [("--seed", "x"), ("--days", "0"), ("--meters", "1000"), ("--faults", "noise,rain"), ("--count", "-1")]
)
def test_bad_argument_is_one_sentence_and_status_2(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["sim", *arguments])
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("wattgate sim: error: argument")


def test_help_shows_an_example_and_every_fault() -> None:
    run = command("--help")
    assert "example:" in run.stdout
    assert all(name in run.stdout for name in FAULTS)


# --- the slow tier ---------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_worlds_of_many_meter_years_break_no_rule(capsys: pytest.CaptureFixture[str]) -> None:
    """Two processes at a time. A seed that fails is printed, and belongs into sim_seeds.txt."""
    start = LANDING_SEED if LANDING else random.SystemRandom().randrange(1_000_000_000)
    batch_years = SLOW_DAYS * SLOW_METERS * SLOW_COUNT / 365
    firsts = [start + SLOW_COUNT * number for number in range(int(SLOW_METER_YEARS / batch_years) + 1)]
    with capsys.disabled():
        print(f"\nseeds {start} to {firsts[-1] + SLOW_COUNT - 1}, {SLOW_DAYS} days, {SLOW_METERS} meters")

    def live(first: int) -> subprocess.CompletedProcess[str]:
        size = ("--days", str(SLOW_DAYS), "--meters", str(SLOW_METERS), "--faults", "all", "--jobs", "1")
        return command("--seed", str(first), "--count", str(SLOW_COUNT), *size, "--json")

    with ThreadPoolExecutor(2) as pool:
        contents = [json.loads(run.stdout) for run in pool.map(live, firsts)]
    violations = [entry for content in contents for entry in content["violations"]]
    sometimes: Counter[str] = Counter()
    for content in contents:
        sometimes.update(content["sometimes"])
    assert not violations, json.dumps(violations[:20], indent=1)
    assert sum(content["meter_years"] for content in contents) >= SLOW_METER_YEARS
    never = [name for name in SOMETIMES if not sometimes[name]]
    assert LANDING or never == []


def test_virtual_time_passes_for_nothing() -> None:
    from hw.sim.world.loop import VirtualLoop

    async def wait() -> float:
        await asyncio.sleep(10 * HOUR_MS / 1000)
        return asyncio.get_running_loop().time()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        assert runner.run(wait()) >= 36_000


def test_timers_of_one_instant_ring_in_the_order_they_were_set_and_a_cancelled_one_never() -> None:
    from hw.sim.world.loop import VirtualLoop

    async def ring() -> list[str]:
        loop, rung = asyncio.get_running_loop(), list[str]()
        line_timer = loop.line_timer(lambda when: rung.append(f"line {when:g}"))  # type: ignore[attr-defined]
        line_timer.set(3.0)
        loop.call_at(2.0, rung.append, "first")
        loop.call_at(2.0, rung.append, "second").cancel()
        loop.call_at(2.0, rung.append, "third")
        line_timer.set(1.0)
        over = asyncio.Event()
        loop.call_at(4.0, over.set)
        await over.wait()
        return rung

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        assert runner.run(ring()) == ["line 1", "first", "third"]


def test_a_key_of_a_world_knows_its_own_signatures_and_checks_all_others() -> None:
    key, other = WorldKey("one"), WorldKey("another")
    signature = key.sign(b"said")
    assert key.holds(signature, b"said")
    assert WorldKey("one").holds(signature, b"said")  # one that has not seen it signed
    assert not other.holds(signature, b"said")
    assert not key.holds(signature, b"sai")
