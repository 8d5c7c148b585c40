"""The command line: each command explains itself with an example, and its exit status says what became of it."""

import json
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from edge import VERSION
from edge.cli import main
from edge.store.site_book import AccountEntry, MeterEntry, Site, SiteBook, write_site_book

TARIFF = Path(__file__).resolve().parent.parent / "edge" / "tariffs" / "demo-street.json"

CONFIG = """
[gateway]
id = "gw-1"
data_dir = "data"
tariffs = ["tariff.json"]

[[lines]]
id = "line-1"
address = "tcp://127.0.0.1:1"
"""


CAPACITY = {"name": "kva", "kind": "capacity", "unit": "kVA", "prices": ["23"]}
CONTRACT = {"name": "kw", "kind": "contract", "unit": "kW", "prices": ["38"]}
MEASURED = {"name": "peak", "kind": "measured", "unit": "kW", "prices": ["40"], "window_min": 15, "slip_min": 15}


def with_terms(**terms: Any) -> str:
    """The street's tariff with more terms."""
    return json.dumps({**json.loads(TARIFF.read_text("utf-8")), **terms})


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration with all its files, none of them wrong."""
    (tmp_path / "tariff.json").write_text(TARIFF.read_text("utf-8"), "utf-8")
    meter = MeterEntry("M01", "line-1", 1, "eastron_sdm120")
    account = AccountEntry("A01", "M01", "demo-street@1")
    write_site_book(tmp_path / "site.json", SiteBook(Site("Asia/Shanghai", "CNY"), (meter,), (), (account,)))
    path = tmp_path / "gateway.toml"
    path.write_text(CONFIG, "utf-8")
    return path


def test_a_console_that_cannot_listen_is_told_in_one_sentence_and_ends_the_agent(config: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        console = f'\n[console]\nhost = "127.0.0.1"\nport = {port}\n'
        config.write_text(config.read_text("utf-8") + console, "utf-8")
        command = [sys.executable, "-m", "edge.cli", "run", "--config", str(config)]
        done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 70
    assert f"the console cannot listen on 127.0.0.1 port {port}: another program already listens there" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command; (exit status, what it printed, what it complained about)."""

    def run(*arguments: str) -> tuple[int, str, str]:
        try:
            status = main(arguments)
        except SystemExit as leaving:
            status = leaving.code if isinstance(leaving.code, int) else 1
        return (status, *capsys.readouterr())

    return run


def test_help_lists_commands_and_each_has_an_example(said: Any) -> None:
    status, text, _ = said("--help")
    assert status == 0
    listed = [line.split()[0] for line in text.split("COMMAND\n")[1].splitlines() if line.startswith("    ")]
    assert "run" in listed
    for command in listed:
        status, text, _ = said(command, "--help")
        assert status == 0
        assert "example:" in text
        assert f"wattgate {command}" in text.split("example:")[1]


def test_version_is_told(said: Any) -> None:
    assert said("--version") == (0, f"wattgate {VERSION}\n", "")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("fly",),
        ("run",),
        ("run", "--config"),
        ("run", "--config", "x.toml", "--quickly"),
        ("demo", "--seconds", "0"),
        ("demo", "--seconds", "nan"),
        ("demo", "--speed", "-1"),
        ("demo", "--port", "0"),
        ("demo", "--port", "65536"),
        ("demo", "--port", "²"),
    ],
)
def test_bad_arguments_are_status_2(said: Any, arguments: tuple[str, ...]) -> None:
    status, text, complaint = said(*arguments)
    assert status == 2
    assert "usage: wattgate" in text + complaint


def test_good_files_are_checked_and_nothing_is_started(said: Any, config: Path) -> None:
    before = sorted(config.parent.iterdir())
    assert said("run", "--config", str(config), "--check") == (0, f"{config}: good\n", "")
    assert sorted(config.parent.iterdir()) == before


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("gateway.toml", None, "gateway.toml: No such file"),
        ("gateway.toml", CONFIG.replace('"gw-1"', '"gw 1"'), "gateway.toml: "),
        ("gateway.toml", CONFIG.replace("tcp://127.0.0.1:1", "tcp://nowhere"), "line-1: address: "),
        ("gateway.toml", CONFIG.replace('"line-1"', '"line-7"'), "line 'line-1' is none of ['line-7']"),
        ("gateway.toml", CONFIG.replace('["tariff.json"]', "[]"), "tariff 'demo-street@1' is none of none"),
        ("site.json", None, "site.json: there is no site book"),
        ("site.json", "{}", "site.json: table site has 0 rows"),
        ("tariff.json", with_terms(demand=[CAPACITY]), "account A01: capacity_va: is missing; demo-street@1 goes"),
        ("tariff.json", with_terms(demand=[CONTRACT]), "account A01: contract_w: is missing; demo-street@1 goes"),
        (
            "tariff.json",
            with_terms(power_factor={"standard": "0.90", "base": ["energy"]}),
            "a power-factor adjustment (no meter model here has reactive_import_total and reactive_export_total)",
        ),
        ("tariff.json", None, "tariff.json"),
        ("tariff.json", "{}", "tariff.json"),
        ("tariff.json", "[" * 100_000, "tariff.json"),
    ],
)
def test_bad_file_is_status_2_with_one_sentence_and_nothing_is_started(
    said: Any, config: Path, file: str, content: str | None, sentence: str
) -> None:
    path = config.parent / file
    if content is None:
        path.unlink()
    else:
        path.write_text(content, "utf-8")
    status, text, complaint = said("run", "--config", str(config))
    assert (status, text) == (2, "")
    assert complaint.startswith("wattgate: ")
    assert sentence in complaint
    assert complaint.count("\n") == 1
    assert not (config.parent / "data").exists()


def test_power_is_not_measured_by_records_further_apart_than_its_window(said: Any, config: Path) -> None:
    (config.parent / "tariff.json").write_text(with_terms(demand=[MEASURED]), "utf-8")
    assert said("run", "--config", str(config), "--check")[0] == 0
    config.write_text(CONFIG + "\n[accounting]\nslot_minutes = 30\n", "utf-8")
    status, _, complaint = said("run", "--config", str(config), "--check")
    assert status == 2
    assert "accounting.slot_minutes: found 30, demo-street@1 measures power over 15 minutes" in complaint


def test_agent_that_cannot_use_its_journal_is_status_70(said: Any, config: Path) -> None:
    data = config.parent / "data"
    data.mkdir()
    with closing(sqlite3.connect(data / "journal.db")) as foreign:
        foreign.execute("CREATE TABLE recipe (name TEXT)")
    status, text, complaint = said("run", "--config", str(config))
    assert (status, text) == (70, "")
    assert complaint == f"wattgate: stopped: {data / 'journal.db'}: is not a Wattgate journal (application id 0x0)\n"
