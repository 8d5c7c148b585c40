"""The accounting clock: one file, the same time everywhere."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from edge.core.units import ClockQuality
from edge.ports import Clock
from hw.sim.clock import ScaledClock, start_clock

READ_IN_ANOTHER_PROCESS = """
import sys
from hw.sim.clock import ScaledClock
reading = ScaledClock(sys.argv[1], lambda: int(sys.argv[2])).read()
print(reading.at, reading.elapsed_ms, reading.boot_id, reading.quality.value)
now = ScaledClock(sys.argv[1]).elapsed_ns()
print(now)
assert "pymodbus" not in sys.modules
"""


def test_two_processes_read_the_same_time_from_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "clock.json"
    start_clock(path, 1_782_662_400, 8640.25, ClockQuality.NTP)
    instant_ns = json.loads(path.read_text())["monotonic_start_ns"] + 98_765_432_109
    mine = ScaledClock(path, lambda: instant_ns).read()
    before_ns = ScaledClock(path).elapsed_ns()
    other = subprocess.run(
        [sys.executable, "-c", READ_IN_ANOTHER_PROCESS, path, str(instant_ns)],
        check=True, capture_output=True, text=True,
    ).stdout.split()  # fmt: skip
    assert other[:4] == [str(mine.at), str(mine.elapsed_ms), mine.boot_id, mine.quality.value]
    assert before_ns <= int(other[4]) <= ScaledClock(path).elapsed_ns()


def test_wall_time_and_time_since_boot_are_both_scaled_and_floored(tmp_path: Path) -> None:
    path = tmp_path / "clock.json"
    start_clock(path, 1000, 8640, ClockQuality.RTC)
    start_ns = json.loads(path.read_text())["monotonic_start_ns"]
    clock: Clock = ScaledClock(path, lambda: start_ns + 10_000_000_000 - 1)
    reading = clock.read()
    assert reading.at == 1000 + 86_400 - 1
    assert reading.elapsed_ms == 86_400_000 - 1
    assert reading.quality is ClockQuality.RTC


@given(st.floats(0.001, 1_000_000), st.lists(st.integers(0, 10**15), min_size=2, max_size=2))
def test_time_never_goes_back(speed: float, instants_ns: list[int]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "clock.json"
        start_clock(path, 5, speed, ClockQuality.NTP)
        start_ns = json.loads(path.read_text())["monotonic_start_ns"]
        earlier, later = (ScaledClock(path, standing_at(start_ns + ns)) for ns in sorted(instants_ns))
        assert earlier.read().elapsed_ms <= later.read().elapsed_ms
        assert earlier.at() == earlier.read().at <= later.at()


def standing_at(instant_ns: int) -> Callable[[], int]:
    return lambda: instant_ns


def test_every_start_is_a_boot_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "clock.json"
    start_clock(path, 0, 1, ClockQuality.NTP)
    first = ScaledClock(path).read().boot_id
    assert ScaledClock(path).read().boot_id == first
    start_clock(path, 0, 1, ClockQuality.NTP)
    assert ScaledClock(path).read().boot_id != first


def test_a_script_learns_how_long_to_wait_in_real_time(tmp_path: Path) -> None:
    path = tmp_path / "clock.json"
    start_clock(path, 1000, 100, ClockQuality.NTP)
    start_ns = json.loads(path.read_text())["monotonic_start_ns"]
    clock = ScaledClock(path, lambda: start_ns + 1_000_000_000)
    assert clock.real_seconds_until(1000 + 300) == 2.0
    assert clock.real_seconds_until(1000 + 50) == 0.0


def test_a_reader_that_has_the_file_open_still_sees_a_whole_one(tmp_path: Path) -> None:
    path = tmp_path / "clock.json"
    start_clock(path, 111, 1, ClockQuality.NTP)
    with path.open() as already_open:
        start_clock(path, 222, 1, ClockQuality.NTP)
        assert json.load(already_open)["wall_start_at"] == 111
    assert json.loads(path.read_text())["wall_start_at"] == 222
    assert [entry.name for entry in tmp_path.iterdir()] == ["clock.json"]
