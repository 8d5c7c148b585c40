"""However the demo ends, nothing of it stays behind; and it starts beside whatever runs already."""

import os
import re
import signal
import socket
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(120)

START_S_MAX = 60.0
STOP_S_MAX = 20.0


def test_ctrl_c_stops_all_and_a_busy_port_was_no_obstacle(
    start: Callable[..., Any], check_gone: Callable[[Any, float], None], tmp_path: Path
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        demo = start("demo", "--port", str(port), "--json")
        console = re.search(r"http://127\.0\.0\.1:(\d+)/", demo.wait_for("Console: ", START_S_MAX))
        assert console is not None
        assert port < int(console[1]) <= port + 50
        assert urllib.request.urlopen(console[0], timeout=10).status == 200
    demo.wait_for("notice 1", START_S_MAX)
    assert len(demo.family()) == 5
    demo.process.send_signal(signal.SIGINT)
    assert demo.end(STOP_S_MAX) == 0
    check_gone(demo, 5)
    assert not any("Traceback" in line for line in demo.lines)
    assert list(tmp_path.iterdir()) == []  # it had no --data, so its folder is gone too


def test_two_demos_started_at_once_have_their_own_console_and_broker(
    start: Callable[..., Any], check_gone: Callable[[Any, float], None], tmp_path: Path, port: int
) -> None:
    demos = [start("demo", "--port", str(port), "--data", str(tmp_path / name)) for name in ("one", "two")]
    consoles = {demo.wait_for("Console: ", START_S_MAX) for demo in demos}
    assert len(consoles) == 2
    brokers = {re.search("brokers = .*", (tmp_path / name / "gateway.toml").read_text()) for name in ("one", "two")}
    assert len({found[0] for found in brokers if found is not None}) == 2
    for demo in demos:
        demo.wait_for("cloud link up", START_S_MAX)
        demo.process.send_signal(signal.SIGINT)
        assert demo.end(STOP_S_MAX) == 0
        check_gone(demo, 5)


def test_demo_killed_at_once_takes_its_processes_along(
    start: Callable[..., Any], check_gone: Callable[[Any, float], None], tmp_path: Path, port: int
) -> None:
    demo = start("demo", "--data", str(tmp_path / "data"), "--port", str(port))
    demo.wait_for("cloud link up", START_S_MAX)
    assert len(demo.family()) == 5
    os.kill(demo.process.pid, signal.SIGKILL)
    assert demo.end(STOP_S_MAX) == -signal.SIGKILL
    check_gone(demo, 10)
    assert not (tmp_path / "data" / "street.sock").exists()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("demo", "--seconds", "0"), "--seconds"),
        (("demo", "--seconds", "soon"), "--seconds"),
        (("demo", "--speed", "-1"), "--speed"),
        (("demo", "--speed", "nan"), "--speed"),
        (("demo", "--port", "65536"), "--port"),
        (("demo", "--port", "http"), "--port"),
        (("demo", "--faster"), "--faster"),
        (("demo", "street"), "street"),
        (("run",), "--config"),
        (("walk",), "walk"),
    ],
)
def test_bad_option_is_named_and_ends_with_2(
    start: Callable[..., Any], tmp_path: Path, arguments: tuple[str, ...], named: str
) -> None:
    program = start(*arguments)
    assert program.end(STOP_S_MAX) == 2
    assert any(named in line for line in program.lines if "error:" in line)
    assert list(tmp_path.iterdir()) == []


def test_data_folder_that_cannot_be_one_ends_with_2_and_a_sentence(start: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    program = start("demo", "--data", str(tmp_path / "data"))
    assert program.end(STOP_S_MAX) == 2
    assert len(program.lines) == 1
    assert program.lines[0].startswith("wattgate demo: ")
    assert str(tmp_path / "data") in program.lines[0]


def test_folder_whose_name_is_too_long_for_a_socket_is_refused_at_once(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    demo = start("demo", "--data", str(tmp_path / ("x" * 100)))
    assert demo.end(STOP_S_MAX) == 2
    assert len(demo.lines) == 1
    assert "longer than the 107 bytes" in demo.lines[0]
    assert list(tmp_path.iterdir()) == []
