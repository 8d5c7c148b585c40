"""The bench of the line: its wire takes the time it should, its counts are right, and its goals say what was found."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from edge.bus.frame import RTU
from edge.bus.loop import line_loop
from edge.bus.transaction import State, Timing, Transaction
from hw.sim.bench_bus import __main__ as bench
from hw.sim.bench_bus.processes import OURS, PYMODBUS, WHOLE, Cost, Load, compare
from hw.sim.bench_bus.simulated import DeadCost, line_share, readings, relay_wait, round_s, simulate
from hw.sim.bench_bus.wire import Pace, PacedWire

SOURCE = Path(bench.__file__).parent / "paced_line.c"
PAUSE_S, WAIT_S = 1.0, 0.0012
TIMING = Timing(gap_s=0.004, byte_s=0.001, response_timeout_s=0.3, drain_silence_s=0.5, drain_s_max=2.0)


@pytest.fixture(scope="module")
def line_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The paced line, compiled; the kernel needed a compiler as well."""
    target = tmp_path_factory.mktemp("bench") / "paced_line"
    strict = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Wconversion", "-Werror"]
    subprocess.run(["gcc", *strict, str(SOURCE), "-o", str(target)], check=True)
    return target


def test_the_limit_is_the_formula_of_the_standard() -> None:
    character_s = 11 / 9600
    assert Pace(9600, 0.020).limit_s(8 + 5 + 2 * 10) == pytest.approx(33 * character_s + 0.020 + 3.5 * character_s)
    assert Pace(115_200, 0.001).limit_s(33) == pytest.approx(33 * 11 / 115_200 + 2 * 0.00175)


def test_an_answer_comes_when_its_bytes_have_passed_and_a_request_too_early_is_seen() -> None:
    async def story() -> None:
        loop, came = asyncio.get_running_loop(), []
        pace = Pace(9600, 0.020)
        wire = PacedWire(pace)
        await wire(lambda data: came.append((loop.time(), data)), lambda reason: None)
        request = RTU.read(1, 3, 0, 10)
        await asyncio.sleep(PAUSE_S)
        wire.write(request.frame)
        await asyncio.sleep(PAUSE_S)
        assert came[0][0] == pytest.approx(1.0 + 33 * pace.byte_s + 0.020)
        assert RTU.first_failure(request, request.frame, came[0][1]) is None
        wire.write(request.frame)
        assert wire.tally.gaps_broken == 0
        assert wire.tally.limit_s == pytest.approx(pace.limit_s(33))
        await asyncio.sleep(33 * pace.byte_s + 0.020 + pace.gap_s / 2)
        wire.write(request.frame)
        assert wire.tally.gaps_broken == 1

    simulate(story())


@pytest.mark.parametrize("baud", [9600, 19_200, 115_200])
def test_the_master_uses_the_whole_wire_and_keeps_every_gap(baud: int) -> None:
    share = line_share(Pace(baud, 0.005), run_s=5.0)
    assert 0.9999 < share.share < 1.0001
    assert share.gaps_broken == 0


def test_32_meters_of_each_of_four_lines_are_read_in_under_four_seconds() -> None:
    # 17 bytes each way and back, 50 ms, the gap: 73.5 ms a meter
    assert round_s(0.050) == pytest.approx(32 * Pace(9600, 0.050).limit_s(17), rel=0.001)


def test_points_that_stand_together_take_one_request() -> None:
    assert [(reading.points, reading.requests) for reading in readings(["hiking_dds238_2"])] == [(9, 1)]


@pytest.mark.parametrize("faults", [False, True])
def test_a_relay_command_waits_at_most_one_transaction_and_its_drain(faults: bool) -> None:
    wait = relay_wait(faults, 60)
    assert 0 < wait.longest_s <= wait.limit_s
    assert wait.limit_s == pytest.approx(Pace(9600, 0.050).limit_s(49) + (0.55 if faults else 0))


def test_a_request_that_waits_for_its_gap_gives_way_and_the_gap_is_kept() -> None:
    transaction = Transaction(RTU, TIMING, 10.0)
    read, write = RTU.read(1, 3, 0, 10), RTU.write(2, 5, 0, (0xFF00,))
    transaction.submit(read, 10.0)
    transaction.exchange(write, 10.002)
    assert (transaction.state, transaction.outgoing()) == (State.GAP, b"")
    assert transaction.get_timer() == pytest.approx(10.004)
    transaction.handle_timer(10.0041)
    assert transaction.outgoing() == write.frame


def test_the_line_loop_keeps_short_waits_and_still_sees_a_descriptor_at_once() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, asyncio.Runner(loop_factory=line_loop) as runner:

        async def story() -> tuple[float, float]:
            loop = asyncio.get_running_loop()
            late = []
            for _ in range(40):
                due = loop.time() + WAIT_S
                await asyncio.sleep(WAIT_S)
                late.append(loop.time() - due)
            seen: asyncio.Future[float] = loop.create_future()

            def look() -> None:
                loop.remove_reader(ours)
                seen.set_result(time.monotonic())

            loop.add_reader(ours, look)
            loop.call_later(0.001, theirs.send, b"x")
            loop.call_later(0.018, lambda: None)
            began = time.monotonic()
            return min(late), await seen - began

        least_late_s, waited_s = runner.run(story())
    assert 0 <= least_late_s < 0.0006  # epoll would take 2 ms for 1.2
    assert waited_s < 1.0


def test_clients_are_measured_on_paced_terminals_and_keep_the_gap(line_program: Path) -> None:
    load = Load(2, Pace(115_200, 0.005))
    costs = {cost.client: cost for cost in compare(line_program, [OURS, WHOLE, PYMODBUS], load, 1, 0.5, None)}
    assert {cost.wrong for cost in costs.values()} == {0}
    assert costs[OURS].gaps_broken == costs[WHOLE].gaps_broken == 0
    assert all(0.05 < cost.share <= 1 and cost.cpu_ms_per_1000 > 0 for cost in costs.values())


def cost(client: str, cpu_ms: float, share: float = 1.0, broken: float = 0.0) -> Cost:
    return Cost(client, 8, 9600, 20.0, cpu_ms, cpu_ms, share, broken, 0)


def test_goals_say_what_was_found() -> None:
    met = bench.goals_of_cost([cost(OURS, 40.0), cost(WHOLE, 41.0, 0.9951), cost(PYMODBUS, 100.0, broken=0.9)])
    assert [goal.met for goal in met] == [True, False, True]
    assert [goal.found for goal in met][:2] == ["40%", "41%"]
    missed = bench.goals_of_cost([cost(WHOLE, 41.0, 0.994), cost(WHOLE, 41.0, 1.0, broken=0.01)])
    assert [goal.met for goal in missed] == [False, False]


def test_a_peer_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "PEERS", (PYMODBUS, "a-client-nobody-has"))
    peers, missing = bench.installed(None)
    assert peers == [PYMODBUS]
    assert [sentence.partition(":")[0] for sentence in missing] == ["a-client-nobody-has", "libmodbus"]


def test_a_client_that_believed_a_wrong_value_ends_the_bench_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = replace(cost(OURS, 1.0), wrong=1)
    dead = DeadCost(0.3, 0.08, 0.05)
    said = bench.Simulated([line_share(Pace(9600, 0.02), 1.0)], readings(["hiking_dds238_2"]), {20: 1.0}, [], dead)
    monkeypatch.setattr(bench, "simulate", lambda quick: said)
    monkeypatch.setattr(bench, "go_before_others", lambda: True)
    monkeypatch.setattr(bench, "measure", lambda *_: [wrong])
    assert bench.main(["--line", "/bin/true", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["machine"]["cores"] == os.cpu_count()


def test_help_has_an_example() -> None:
    command = [sys.executable, "-m", "hw.sim.bench_bus", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "example: python3 build.py bench bus" in done.stdout
