"""The bench of the whole agent: its meters answer and count, its site is a good one, its goals say what was found."""

import json
import os
import socket
import subprocess
import sys
import termios
import tty
from pathlib import Path

import pytest

from edge.bootstrap import prepare
from edge.bus.frame import RTU
from edge.config import read_config
from edge.meters.model import load_model
from hw.sim.bench_agent import __main__ as bench
from hw.sim.bench_agent.broker import AGENT
from hw.sim.bench_agent.measure import Cost, Day, Footprint, Start
from hw.sim.bench_agent.peers import COLLECTD, POINTS, THINGSBOARD, write_collectd, write_thingsboard
from hw.sim.bench_agent.processes import Memory, meters_running, running
from hw.sim.bench_agent.site import MODEL, write_site
from hw.sim.bench_agent.site import POINTS as POINT_COUNT

SOURCE = Path(bench.__file__).parent / "meters.c"
ALL_REGISTERS = 0x1B
MEMORY = Memory(rss_mb=41.0, pss_mb=30.0, private_mb=25.0)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The meters, compiled; the kernel needed a compiler as well."""
    target = tmp_path_factory.mktemp("bench") / "meters"
    strict = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Wconversion", "-Werror"]
    subprocess.run(["gcc", *strict, str(SOURCE), "-o", str(target)], check=True)
    return target


def test_meters_answer_on_the_terminal_and_over_tcp_and_count_for_each_client(program: Path) -> None:
    with meters_running(program, lines=1, meters=2, clients=2) as meters:
        terminal, (_, port) = meters.lines[0][0][0], meters.lines[1][0]
        request = RTU.read(2, 3, 0, ALL_REGISTERS)
        line = os.open(terminal, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(line, termios.TCSANOW)
        os.write(line, request.frame)
        answer = b""
        while len(answer) < 5 + 2 * ALL_REGISTERS:
            answer += os.read(line, 100)
        os.close(line)
        assert RTU.first_failure(request, request.frame, answer) is None
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            connection.sendall(bytes.fromhex("0001 0000 0006 01 03 000A 0002"))
            assert connection.recv(100)[:9] == bytes.fromhex("0001 0000 0007 01 03 04")
        first, second = meters.seen(reset=True)
        assert (first.requests, first.values, second.requests, second.values) == (1, POINT_COUNT, 1, 1)
        assert second.first_request_ns <= second.first_answer_ns
        assert [seen.first_value_ns for seen in (first, second)] == [0, 0], "one answer is not yet confirmed"
        assert [seen.requests for seen in meters.seen()] == [0, 0]


def test_a_meter_that_is_not_there_is_silent_and_a_second_answer_is_the_first_value(program: Path) -> None:
    with meters_running(program, lines=1, meters=1) as meters:
        with socket.create_connection(("127.0.0.1", meters.lines[0][0][1]), 5) as connection:
            for device_id in (9, 1, 1):
                connection.sendall(bytes((0, 1, 0, 0, 0, 6, device_id, 3, 0, 0x0A, 0, 2)))
            taken = b""
            while len(taken) < 26:
                taken += connection.recv(100)
            assert {taken[6], taken[19]} == {1}
        (seen,) = meters.seen()
        assert (seen.requests, seen.values) == (2, 2)
        assert 0 < seen.first_answer_ns <= seen.first_value_ns


def test_the_peers_read_what_the_model_has_and_its_relay() -> None:
    model = load_model(MODEL)
    assert len(POINTS) == POINT_COUNT
    found = {(point.address, point.count) for point in model.points.values()}
    assert {(point.address, point.registers) for point in POINTS if point.name != "relay"} == found
    assert model.relay is not None
    assert (POINTS[-1].address, POINTS[-1].registers) == (model.relay.readback_address, model.relay.readback_count)


def test_the_site_is_one_that_the_agent_takes(tmp_path: Path) -> None:
    config = write_site(tmp_path, ["/dev/a", "tcp://127.0.0.1:502"], 1883, console_port=8080)
    prepared = prepare(read_config(config))
    assert len(prepared.book.accounts) == 64
    assert {account.tariff for account in prepared.book.accounts} == set(prepared.documents)


def test_what_the_peers_are_told_names_every_meter(tmp_path: Path) -> None:
    thingsboard = write_thingsboard(Path("python"), tmp_path / "tb", [1502, 1503], 3, 1883, 5)
    told = json.loads((Path(thingsboard.environment["TB_GW_CONFIG_DIR"]) / "modbus.json").read_text("utf-8"))
    assert [(slave["port"], slave["unitId"]) for slave in told["master"]["slaves"]] == [
        (port, unit) for port in (1502, 1503) for unit in (1, 2, 3)
    ]
    collectd = write_collectd(Path("/unpacked"), tmp_path / "c", [1502, 1503], 3, 1883, 5)
    text = Path(collectd.command[-1]).read_text("utf-8")
    assert text.count("<Slave ") == 6
    assert text.count("<Data ") == len(POINTS)


def test_a_program_that_ends_by_itself_is_told_with_its_words(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print('no such line'); raise SystemExit(3)"]
    with pytest.raises(RuntimeError, match="no such line"), running(command, tmp_path / "log", tmp_path) as process:
        process.popen.wait(10)


def test_peer_that_is_not_installed_is_named_and_not_assumed() -> None:
    options = bench.read_arguments(["--meters", "/bin/true", "--thingsboard", "/usr/bin/python3"])
    peers, missing = bench.given_peers(options)
    assert list(peers) == [THINGSBOARD]
    assert missing == [f"{COLLECTD}: not compared, it is not installed"]


def test_goals_are_met_or_not_by_what_was_found() -> None:
    report = bench.Report([cost(AGENT, 10.0), cost(THINGSBOARD, 110.0), cost(COLLECTD, 9.0)], [], [], None, None, [])
    report.footprints = [Footprint(9600, console, MEMORY, 230.0, 10.0) for console in (False, True)]
    report.starts = [
        Start(AGENT, "new", 0.1, 0.1, None, None, 0.1),
        Start(AGENT, "with accounts", 0.1, 0.1, 0.3, 0.5, 0.1),
    ]
    report.day = Day(600, 2_999_999, {}, 0, 0)
    goals = bench.goals_of(report)
    assert [goal.met for goal in goals] == [False, True, True, False, False, True, True]
    assert "NOT MET  128 meters, no console" in bench.as_text(report, goals)


def test_help_has_an_example() -> None:
    command = [sys.executable, "-m", "hw.sim.bench_agent", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "example: python3 build.py bench agent" in done.stdout


def cost(gateway: str, cpu_ms: float) -> Cost:
    return Cost(gateway, cpu_ms, cpu_ms, 0.01, 230.0, 230.4, 1.0, 1.0, 60.0, 1.0, MEMORY)
