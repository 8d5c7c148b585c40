"""`wattgate notices`, as a person and a program use it."""

import json
from pathlib import Path
from typing import Any

import pytest

from cloud_sync.backend.backend import Backend
from cloud_sync.keys import generate_key_directory, load_signers
from edge.cli import main


@pytest.fixture
def place(tmp_path: Path) -> list[str]:
    """The options of a backend's database and keys, with gw-1 enrolled."""
    ring = generate_key_directory(tmp_path / "keys")
    backend = Backend(tmp_path / "cloud.db", ring, load_signers(tmp_path / "keys"))
    backend.enroll("gw-1", at=1000)
    backend.close()
    return ["--db", str(tmp_path / "cloud.db")]


def test_contacts_are_added_listed_and_removed(place: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    contacts = ["notices", "contacts", *place]
    assert main([*contacts, "add", "gw-1", "A01", "sms", "+8613800138000", "--language", "en", "--verified"]) == 0
    assert main([*contacts, "add", "gw-1", "A01", "email", "a@example.org", "--preference", "2"]) == 0
    capsys.readouterr()
    assert main(["notices", "contacts", *place, "--json", "list"]) == 0
    said = json.loads(capsys.readouterr().out)["contacts"]
    assert [(one["channel"], one["verified_at"] is not None) for one in said] == [("sms", True), ("email", False)]
    assert main([*contacts, "remove", "gw-1", "A01", "sms"]) == 0
    assert main([*contacts, "remove", "gw-1", "A01", "sms"]) == 2
    assert "no address for sms" in capsys.readouterr().err


def test_a_bad_address_or_gateway_is_refused_with_what_is_allowed(
    place: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    contacts = ["notices", "contacts", *place]
    assert main([*contacts, "add", "gw-1", "A01", "sms", "138"]) == 2
    assert "+8613800138000" in capsys.readouterr().err
    assert main([*contacts, "add", "gw-9", "A01", "sms", "+8613800138000"]) == 2
    assert "gw-9" in capsys.readouterr().err


def test_one_run_says_what_it_did(
    place: list[str], tmp_path: Path, provider: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "notices.json"
    config.write_text(json.dumps({"zone": "Asia/Shanghai", "sms": {"url": provider.url}}))
    run = ["notices", "run", *place, "--keys", str(tmp_path / "keys"), "--config", str(config), "--once", "--json"]
    assert main(run) == 0
    assert json.loads(capsys.readouterr().out)["read"] == 0
    config.write_text("{}")
    assert main(run) == 2
    assert "zone" in capsys.readouterr().err


def test_only_a_notice_that_is_there_is_sent_again(place: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["notices", "resend", *place, "gw-1", "A01", "2", "1798646400"]) == 2
    assert "no such notice" in capsys.readouterr().err
    assert main(["notices", "list", *place]) == 0
    assert "no notices" in capsys.readouterr().out


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["notices", "run", "--help"])
    assert "wattgate notices run --db cloud.db" in capsys.readouterr().out
