"""The terminal twin: it asks a running agent, says the same as the console, and says why it cannot."""

import asyncio
import dataclasses
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.agent.local_socket import serve_local_socket
from edge.cli import main
from edge.console.language import load_languages
from edge.terminal import show
from edge.terminal.ask import SOCKET_FILE


@pytest.fixture
def agent(tmp_path: Path, world: Any) -> Iterator[Any]:
    """The socket of an agent of the troubled street, served beside the test."""
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        path = tmp_path / SOCKET_FILE
        serving = asyncio.ensure_future(serve_local_socket(path, world.source, None, world.ledger))
        while not path.exists():
            await asyncio.sleep(0)
        ready.set()
        try:
            await serving
        except asyncio.CancelledError:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)

    ready = threading.Event()
    task = loop.create_task(serve())
    thread = threading.Thread(target=loop.run_until_complete, args=(task,))
    thread.start()
    assert ready.wait(20)
    yield world
    loop.call_soon_threadsafe(task.cancel)
    thread.join(20)
    loop.close()


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a command on the agent's folder: exit status, what it said, what it complained of."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)

    def run(command: str, *arguments: str) -> tuple[int, str, str]:
        status = main([command, "--data", str(tmp_path), *arguments])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


ALL = [("status",), ("accounts",), ("account", "A-1002"), ("events",), ("watch", "--seconds", "0")]


@pytest.mark.parametrize("command", ALL, ids=lambda command: command[0])
def test_without_an_agent_each_command_says_so_and_exits_2(run: Any, command: tuple[str, ...]) -> None:
    status, out, err = run(*command)
    assert (status, out) == (2, "")
    assert "no agent runs there" in err
    assert err.count("\n") == 1


def test_a_folder_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--data", "/no/such/folder"]) == 2
    assert "/no/such/folder: is not there" in capsys.readouterr().err


def test_a_socket_left_by_a_dead_agent_is_no_agent(run: Any, tmp_path: Path) -> None:
    (tmp_path / SOCKET_FILE).write_bytes(b"")
    status, _, err = run("status")
    assert status == 2
    assert "no agent runs there" in err


def test_before_the_first_round_it_says_that_the_agent_starts(agent: Any, run: Any) -> None:
    agent.source.current = None
    for command in ALL:
        status, _, err = run(*command)
        assert status == 2
        assert "the agent is starting" in err


def test_status_counts_what_the_street_page_counts(agent: Any, run: Any) -> None:
    status, out, _ = run("status")
    assert status == 0
    assert "12: 3 cut" in out
    assert "2026-08-03 14:00 Asia/Shanghai" in out
    assert "510,204 ok, 310 failed" in out


def test_accounts_stand_as_on_the_street_page_and_say_why(agent: Any, run: Any) -> None:
    _, out, _ = run("accounts")
    lines = out.splitlines()
    page = re.findall(r'<li id="account-([^"]+)"', agent.get("/").text)
    assert [re.findall(r"A-\d+", line)[0] for line in lines[1:]] == page
    assert any("-1002" in line and "No credit. Returns once 31.21 is paid." in line for line in lines)


def test_a_condition_leaves_its_accounts(agent: Any, run: Any) -> None:
    assert len(run("accounts", "--show", "cut")[1].splitlines()) == 4
    shown = json.loads(run("accounts", "--show", "silent", "--json")[1])
    assert [one["account_id"] for one in shown] == ["A-1008"]


def test_an_account_says_its_blockers_and_keeps_exact_money_in_json(agent: Any, run: Any) -> None:
    _, out, _ = run("account", "A-1004")
    assert "Notice not delivered" in out
    found = json.loads(run("account", "A-1004", "--json")[1])
    assert found["live_balance_nano"] == -12_345_000_001
    assert found["values"]["voltage_l1"] == "228.4"


def test_an_account_that_is_not_there_is_said_with_those_that_are(agent: Any, run: Any) -> None:
    status, out, err = run("account", "A-9")
    assert (status, out) == (2, "")
    assert "'A-9' is not there" in err
    assert "A-1002" in err


def test_events_are_filtered_and_counted(agent: Any, run: Any) -> None:
    records = [
        json.loads(line) for line in run("events", "--kind", "notices", "--count", "3", "--json")[1].splitlines()
    ]
    assert [record["type"] for record in records] == ["NoticeDelivered", "NoticeDelivered", "NoticeRaised"]
    assert "Notice 2 delivered" in run("events", "--kind", "notices", "--account", "A-1002")[1]


def test_watch_tells_each_account_once_and_then_what_changed(
    agent: Any, run: Any, make_account: Any, accounts: Any
) -> None:
    assert len(run("watch", "--seconds", "0")[1].splitlines()) == 12
    before = agent.source.current
    formats = show_formats(agent)
    agent.publish([make_account(1, hold="register_jump"), *accounts[1:]], version=2)
    after = agent.source.current
    (line,) = show.change_lines(before, after, formats)
    assert "A-1001" in line
    assert show.change_lines(after, after, formats) == []


def test_the_words_follow_the_option_and_the_shell(agent: Any, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "命令为分闸" in run("accounts", "--lang", "zh-CN")[1]
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    assert run("status")[1] == run("status", "--lang", "zh-CN")[1] != run("status", "--lang", "en")[1]


def test_every_text_in_use_is_in_the_chinese_catalogue() -> None:
    source = Path(show.__file__).read_text("utf-8")
    used = set(re.findall(r'\btext\("([^"]+)"\)', source)) | set(re.findall(r'count\("([^"]+)"', source))
    chinese = load_languages()["zh-CN"]
    assert len(used) > 15
    assert [one for one in used if chinese.text(one) == one and chinese.count(one, one, 2) == one.format(n=2)] == []


def test_columns_stand_under_each_other_also_in_chinese() -> None:
    lines = show.table([("断电", "1"), ("ok", "22")], right=(1,))
    assert [show.width(line) for line in lines] == [8, 8]


def test_what_a_terminal_would_obey_is_taken_out(agent: Any, run: Any, make_account: Any) -> None:
    agent.publish([make_account(1, position="\x1b[2Junit\r\n\u202e9")], version=2)
    _, out, _ = run("accounts")
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert len(out.splitlines()) == 2


@pytest.mark.parametrize(
    "arguments", [("events", "--count", "0"), ("events", "--count", "501"), ("watch", "--seconds", "x")]
)
def test_a_number_out_of_range_is_refused_with_what_is_allowed(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert ended.value.code == 2
    assert "is not a number" in capsys.readouterr().err


def show_formats(world: Any) -> Any:
    from edge.console.formats import formats_for

    assert world.source.current is not None
    return formats_for(world.source.current, load_languages()["en"])


@pytest.mark.parametrize(
    ("locale", "kind", "said"),
    [
        ("C.UTF-8", "gpio", ("open, no supply", "on GPIO lines, its contact is read back")),
        ("C.UTF-8", "gpio_commanded", ("told to open, no contact is read back", "on GPIO lines, no contact")),
        ("zh_CN.UTF-8", "gpio_commanded", ("已命令分闸", "没有触点回读")),
    ],
)
def test_an_account_says_what_switches_it(
    agent: Any, run: Any, monkeypatch: pytest.MonkeyPatch, locale: str, kind: str, said: tuple[str, ...]
) -> None:
    agent.publish([dataclasses.replace(agent.source.current.accounts[1], relay_kind=kind)], version=2)
    monkeypatch.setenv("LC_ALL", locale)
    out = run("account", "A-1002")[1]
    assert [sentence for sentence in said if sentence not in out] == []
