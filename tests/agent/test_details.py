"""What is made on demand: devices of lines, the store, prices and terms in force."""

from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge.agent.area import AreaFacts, AreaWatch
from edge.agent.details import look_at_store, make_details
from edge.agent.snapshot import AnswerTimesView, SiteDetails, StoreView
from edge.bus.records import AnswerView, DeviceTimes, LineSettings, LineTimes
from edge.core.account import State
from edge.core.area import Area
from edge.core.policy import LegalProfile
from edge.ports import StreamHead

Run = Callable[[Coroutine[Any, Any, Any]], Any]
STORE = StoreView(0, 1, 1, None, False, ())
TIMES = LineTimes(AnswerView(300, 25, 40, 80, 212), 93, {1: DeviceTimes(AnswerView(100, 20, 25, 40, 61), 142)})


@pytest.fixture
def details(virtual: Run, kit: Any) -> SiteDetails:
    """The details of one house after an hour."""

    async def scenario() -> SiteDetails:
        world = kit.World(kit.House(1, opening_nano=10**10))
        await world.live(1)
        settings = LineSettings("line-1", "/dev/ttyUSB0", poll_interval_ms=120_000, dead_backoff_s_max=60)
        lines = [(settings, line.view(), TIMES) for line in world.gateway._lines.values()]
        areas = AreaWatch([AreaFacts(Area("a", ("S",), ("M01",)))], {"M01": "A01"})
        return make_details(world.gateway.state, world.gateway.read_clock(), lines, areas, STORE)

    found = virtual(scenario())
    assert isinstance(found, SiteDetails)
    return found


def test_a_line_has_its_devices_and_how_long_a_silent_one_is_left_alone(details: SiteDetails) -> None:
    (line,) = details.lines
    assert (line.poll_interval_ms, line.backoff_s_max) == (120_000, 120)  # never shorter than the interval
    assert {meter_id for device in line.devices for meter_id in device.meter_ids} == {"M01"}
    assert sum(device.polls_ok for device in line.devices) == line.line.polls_ok


def test_tariffs_and_policies_in_force_are_counted(details: SiteDetails) -> None:
    assert sum(tariff.accounts for tariff in details.tariffs) == 1
    (policy,) = details.policies
    assert (policy.accounts, policy.notices_needed, policy.grace_hours) == (1, True, 6)  # the hours of the kit
    assert all(len(one.prices_micro_per_kwh) == len(one.limits_wh) + 1 for one in details.tariffs[0].periods)


def test_the_grace_of_a_statutory_policy_is_its_own(virtual: Run, kit: Any) -> None:
    async def scenario() -> Any:
        world = kit.World(kit.House(1, opening_nano=10**10))
        await world.live(1)
        account = world.gateway.state.accounts["A01"]
        policy = replace(account.policy, legal_profile=LegalProfile.POSTPAID_STATUTORY, statutory_notice_hours=96)
        state = State(accounts={"A01": replace(account, policy=policy)})
        return make_details(state, world.gateway.read_clock(), [], None, STORE)

    found = virtual(scenario())
    assert found.policies[0].grace_hours == 96
    assert found.tariffs == ()  # its document is in no state of ours


def test_a_line_tells_how_busy_it_is_and_how_fast_its_devices_answer(details: SiteDetails) -> None:
    (line,) = details.lines
    assert (line.used_percent, line.answers) == (93, AnswerTimesView(25, 40, 80, 212))
    assert (line.devices[0].wait_ms, line.devices[0].answers) == (142, AnswerTimesView(20, 25, 40, 61))


def test_an_area_begins_without_history(details: SiteDetails) -> None:
    (area,) = details.areas
    assert (area.area_id, area.standing, area.history) == ("a", (), ())


def test_the_journal_is_measured_with_its_log(tmp_path: Path) -> None:
    journal = tmp_path / "journal.db"
    journal.write_bytes(b"x" * 100)
    (tmp_path / "journal.db-wal").write_bytes(b"x" * 20)
    heads = {"led": StreamHead("led", 2, 7, b"\xab" * 32, 5)}
    store = look_at_store(journal, heads, "gone", True)
    assert store.journal_bytes == 120
    assert 0 < store.disk_free_bytes <= store.disk_bytes
    assert (store.anchor_fault, store.anchor_on_same_disk) == ("gone", True)
    assert [(one.stream, one.epoch, one.seq, one.acked_seq, one.hash) for one in store.streams] == [
        ("led", 2, 7, 5, "ab" * 32)
    ]


def test_a_folder_that_is_gone_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        look_at_store(tmp_path / "gone" / "journal.db", {}, None, False)
