"""A fleet: gateways that are numbers behind the real session, and what is measured of them."""

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import pytest

from cloud_sync.backend.backend import Backend
from cloud_sync.keys import generate_key_directory, generate_keys
from cloud_sync.session import SyncSession
from cloud_sync.transport import BrokerAddress, TransportSettings
from cloud_sync.wire import ZERO_HASH, record_hash
from edge.cli import main
from edge.store.codec import decode_event
from hw.sim.fleet.bench import Measured, arithmetic, as_json
from hw.sim.fleet.commands import wiring_to
from hw.sim.fleet.fleet import LOOK_S, Fleet, Load, Report, gateway_ids
from hw.sim.fleet.gateway import FleetGateway, Wiring
from hw.sim.fleet.journal import FleetJournal
from hw.sim.fleet.stage import ADDRESS, Stage, StageError

KEYS = generate_keys(credit_nano_max=10**12)


def unconnected(gateway_id: str, session: SyncSession) -> TransportSettings:
    return TransportSettings(gateway_id, (BrokerAddress(ADDRESS, 1),), session.topics(), session.will())


def gateway(meters: int = 3, journal: FleetJournal | None = None) -> FleetGateway:
    wiring = Wiring(KEYS[0], unconnected, random.Random(1).random)
    return FleetGateway("fleet-00001", meters, wiring, journal or FleetJournal("fleet-00001", keeps_acknowledged=True))


def commit(found: FleetGateway, slots: int) -> None:
    async def work() -> None:
        for _ in range(slots):
            assert found.commit_slot() == len(found.accounts)

    asyncio.run(work())


def bodies(found: FleetGateway, stream: str) -> list[bytes]:
    return [record.body for record in asyncio.run(found.journal.read(stream, 0, 10_000))]


def test_a_slot_brings_what_the_agent_would_commit() -> None:
    found = gateway()
    commit(found, 4)
    events = [decode_event(body) for body in bodies(found, "led")]
    assert [type(event).__name__ for event in events] == ["RegisterFrozen"] * 9 + ["BillIssued"] * 3
    readings = [decode_event(body) for body in bodies(found, "rdg")]
    assert [type(event).__name__ for event in readings] == ["ReadingsRecorded"] * 4


def test_the_ledger_of_a_fleet_adds_up() -> None:
    found = gateway()
    commit(found, 12)
    sums: dict[str, int] = {}
    for body in bodies(found, "led"):
        said = json.loads(body)
        sums[said["account"]] = sums.get(said["account"], 0) + said.get("posting_nano", 0)
        assert said["balance_nano"] == sums[said["account"]]
    assert sums == found.balances()
    assert len(set(sums.values())) > 1


def test_a_journal_keeps_the_newest_acknowledged_record_and_forgets_those_before() -> None:
    journal = FleetJournal("g")
    previous_hash = ZERO_HASH
    for seq in range(1, 11):
        assert journal.write("led", b"%d" % seq) == seq
        previous_hash = record_hash("g", "led", 1, seq, previous_hash, b"%d" % seq)
    journal.acknowledge("led", 4)
    assert [record.seq for record in asyncio.run(journal.read("led", 3, 3))] == [4, 5, 6]
    assert not journal.is_acknowledged("led")
    assert journal.is_acknowledged("rdg", "evt")
    journal.acknowledge("led", 10)
    assert journal.is_acknowledged()
    assert [record.hash for record in asyncio.run(journal.read("led", 9, 5))] == [previous_hash]
    assert asyncio.run(journal.read("led", 10, 5)) == []


def test_an_order_is_obeyed_once_and_its_result_told_again() -> None:
    found = gateway()
    cloud = Backend(":memory:", *KEYS)
    cloud.enroll(found.gateway_id, 1)
    placed = [
        cloud.credit(found.gateway_id, "M002", "p1", 70, 1000),
        cloud.credit(found.gateway_id, "M099", "p2", 70, 1000),
        cloud.cut(found.gateway_id, "M001", 1000),
    ]
    for _ in range(2):
        for order in placed:
            envelope = cloud.desk.envelope(order.cid)
            assert envelope is not None
            asyncio.run(found._take_order(envelope))
    asyncio.run(found._take_order(b"\1" * 200))
    cloud.close()
    assert found.balances() == {"A001": 0, "A002": 70, "A003": 0}
    results = [json.loads(body) for body in bodies(found, "res")]
    assert [result["result"] for result in results] == ["applied", "rejected", "rejected"] * 2
    assert [result["cid"] for result in results[:3]] == [order.cid for order in placed]
    assert found.unbelieved == 1


# --- against a cloud -------------------------------------------------------------------------


@pytest.mark.needs_program("mosquitto")
def test_both_sides_agree_after_a_fleet_has_worked_and_a_changed_ledger_is_found(tmp_path: Path) -> None:
    load = Load(gateways=4, meters=5, slots=5, at_once=3)
    keys, db = tmp_path / "keys", f"sqlite:///{tmp_path}/cloud.db"
    generate_key_directory(keys)
    with Stage(tmp_path) as stage:
        cloud = Backend.from_directory(db, keys)
        cloud.enroll_all(gateway_ids(4), 0)
        port = stage.start_mosquitto()
        stage.start_backend(db, port, keys, options=["--timer-max", "0.2"])
        fleet = Fleet(load, wiring_to(BrokerAddress(ADDRESS, port), keys))
        cloud.credit("fleet-00002", "M003", "p1", 5_000, 1000)

        async def work() -> None:
            async with fleet.connected(20.0):
                await fleet.run_slots(20.0)
                async with asyncio.timeout(20.0):
                    while not fleet.gateways[1].applied or not fleet.gateways[1].journal.is_acknowledged():
                        await asyncio.sleep(LOOK_S)

        asyncio.run(work())
        memory, seconds = stage.memory_kb(), stage.processor_seconds()
        assert memory.keys() == seconds.keys() == {"mosquitto", "backend"}
        assert min(memory.values()) > 1000
    assert list(fleet.disagreements(cloud.database)) == []
    assert cloud.counts() == {"led": 4 * 5 * 5 + 1, "rdg": 20, "res": 1}
    assert cloud.problems() == []
    report = fleet.report.as_json()
    assert (report["ledger_records"], report["readings"]) == (100, 100)
    assert len(fleet.report.latencies) == 20
    cloud.database.execute("UPDATE account SET money_nano = 1 WHERE gateway = 'fleet-00003' AND account = 'A001'")
    fleet.gateways[0].journal.write("evt", b"{}")
    found = list(fleet.disagreements(cloud.database))
    assert len(found) == 2
    assert "fleet-00001: records here" in found[0]
    assert "fleet-00003 A001" in found[1]
    cloud.close()


@pytest.mark.needs_program("mosquitto")
def test_the_command_starts_a_cloud_of_its_own_and_says_how_it_went(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["fleet", "--gateways", "3", "--meters", "4", "--minutes", "30", "--json"]) == 0
    said = json.loads(capfd.readouterr().out)
    assert (said["gateways"], said["ledger_records"], said["disagreements"]) == (3, 24, [])
    assert main(["fleet", "--gateways", "2", "--meters", "1", "--minutes", "15", "--readings-only"]) == 0
    assert "both sides agree" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--gateways", "0"], "a number from 1 to 50000"),
        (["--minutes", "x"], "a number from 15"),
        (["--broker", "127.0.0.1:1883"], "belong together"),
        (["--broker", "nowhere", "--keys", "k"], "HOST:PORT"),
        (["--broker", "127.0.0.1:1", "--keys", "no-such-folder"], "keyring.json"),
    ],
)
def test_what_no_fleet_can_be_is_refused(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status: Any = main(["fleet", *arguments])
    except SystemExit as ended:
        status = ended.code
    assert status == 2
    assert said in capsys.readouterr().err


def test_a_program_that_does_not_start_is_told_with_its_own_words(tmp_path: Path) -> None:
    generate_key_directory(tmp_path / "keys")
    with Stage(tmp_path) as stage, pytest.raises(StageError, match="no such database"):
        stage.start_backend("mysql://x", 1, tmp_path / "keys")


# --- figures ---------------------------------------------------------------------------------


def test_percentiles_are_of_the_nearest_rank() -> None:
    report = Report(Load(1, 1, 1, 1), latencies=[seconds / 100 for seconds in range(100, 0, -1)])
    assert report.percentiles() == {50: 0.5, 95: 0.95, 99: 0.99}
    assert Report(Load(1, 1, 1, 1)).percentiles() == {50: 0.0, 95: 0.0, 99: 0.0}


def test_the_arithmetic_to_a_hundred_thousand_gateways_is_of_what_was_measured() -> None:
    measured = Measured(
        "postgresql",
        ledger={"ledger_records_per_second": 9_000},
        readings={"readings_per_second": 100_000},
        yardstick_rows_per_second=90_000,
        kb_per_connection={"mosquitto": 5.0, "backend": 1.0},
        ledger_cpu_us={"mosquitto": 1.0, "backend": 40.0, "postgresql": 20.0, "fleet": 1.0},
        reading_cpu_us={"mosquitto": 1.0, "backend": 9.0, "postgresql": 2.0, "fleet": 1.0},
        bytes_per_ledger_record=400.0,
    )
    assert arithmetic(measured) == {
        "readings_per_second": 11_111,
        "ledger_records_per_second": 116,
        "mosquitto_cores": 0.01,
        "backend_cores": 0.1,  # 11,111 x 9 us and 116 x 40 us
        "postgresql_cores": 0.02,
        "mosquitto_gb": 0.5,
        "ledger_gb_per_year": 1460.0,
    }
    assert as_json(measured)["goals"] == {"ledger_required": True, "ledger_goal": False, "readings_goal": True}
