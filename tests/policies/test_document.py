"""edge.policies: every template is good, every wrong document is refused with the place of its fault."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge.cli import main
from edge.core.policy import LegalProfile, NoticeProof, Policy
from edge.policies.commands import template_names, template_text
from edge.policies.document import SEGMENTS, PolicyRefused, load_policy, policy_fields

GOOD: dict[str, Any] = {
    "format": 1,
    "policy_id": "p",
    "version": 2,
    "segment": "household",
    "policy": {"grace_hours": 48, "cut_windows": {"windows": [["09:00", "16:00"]], "days": ["mon"]}},
    "risk_levels": {"high": {"grace_hours": 24}},
}


def changed(**changes: Any) -> str:
    return json.dumps({**GOOD, **changes})


def stated(**fields: Any) -> str:
    return changed(policy={**GOOD["policy"], **fields})


@pytest.mark.parametrize("name", template_names())
def test_each_template_is_a_good_policy_in_two_languages(name: str) -> None:
    document = load_policy(template_text(name), "k1")
    assert document.normal.policy_id == name
    assert document.normal.signed_by == "k1"
    title = json.loads(template_text(name))["title"]
    assert all(title[language] for language in ("zh", "en"))


def test_there_is_a_template_for_each_segment() -> None:
    assert {load_policy(template_text(name), "k").segment for name in template_names()} == set(SEGMENTS)


def test_what_is_not_stated_is_the_default_and_a_level_states_only_what_differs() -> None:
    document = load_policy(json.dumps(GOOD), "k1")
    high = document.levels["high"]
    assert (document.normal.grace_hours, high.grace_hours) == (48, 24)
    assert high.cut_windows == document.normal.cut_windows
    assert high.cut_windows is not None
    assert high.cut_windows.weekdays == {0}
    assert document.normal.reserve_days == Policy().reserve_days
    assert document.normal.legal_profile is LegalProfile.PREPAID_BY_AGREEMENT


def test_nested_fields_are_read() -> None:
    text = stated(credit={"emergency_limit_nano": 5}, load_limit={"power_w": 3000, "period_s": 60, "restoration_s": 9})
    normal = load_policy(text, "k").normal
    assert normal.credit.emergency_limit_nano == 5
    assert normal.load_limit is not None
    assert normal.load_limit.power_w == 3000
    assert load_policy(stated(notice_proof="cloud_receipt"), "k").normal.notice_proof is NoticeProof.CLOUD_RECEIPT


WRONG: dict[str, tuple[Callable[[], str], str]] = {
    "no json": (lambda: "{", "/"),
    "a list": (lambda: "[]", "/"),
    "a key twice": (lambda: '{"format": 1, "format": 1}', "/"),
    "deep": (lambda: "[" * 50_000, "/"),
    "too long": (lambda: " " * 70_000, "/"),
    "no version": (lambda: json.dumps({key: GOOD[key] for key in GOOD if key != "version"}), "/"),
    "another format": (lambda: changed(format=2), "/format"),
    "format true": (lambda: changed(format=True), "/format"),
    "unknown head": (lambda: changed(colour="red"), "/colour"),
    "unknown segment": (lambda: changed(segment="castle"), "/segment"),
    "version 0": (lambda: changed(version=0), "/policy"),
    "version text": (lambda: changed(version="2"), "/policy"),
    "id with a line": (lambda: changed(policy_id="a\nb"), "/policy_id"),
    "id number": (lambda: changed(policy_id=7), "/policy_id"),
    "until text": (lambda: changed(valid_until="soon"), "/valid_until"),
    "until true": (lambda: changed(valid_until=True), "/valid_until"),
    "policy a list": (lambda: changed(policy=[]), "/policy"),
    "unknown field": (lambda: stated(grace_hour=1), "/policy/grace_hour"),
    "signed by itself": (lambda: stated(signed_by="me"), "/policy/signed_by"),
    "grace negative": (lambda: stated(grace_hours=-1), "/policy"),
    "grace float": (lambda: stated(grace_hours=1.5), "/policy"),
    "grace NaN": (lambda: stated(grace_hours=float("nan")), "/policy"),
    "profile": (lambda: stated(legal_profile="none"), "/policy"),
    "statutory short": (lambda: stated(statutory_notice_hours=71), "/policy"),
    "evaluate at noonish": (lambda: stated(evaluate_at="25:00"), "/policy"),
    "windows list": (lambda: stated(cut_windows=[]), "/policy/cut_windows"),
    "windows minute": (lambda: stated(cut_windows={"windows": [["09:00", "24:30"]]}), "/policy/cut_windows"),
    "windows three": (lambda: stated(cut_windows={"windows": [["1", "2", "3"]]}), "/policy/cut_windows"),
    "windows day": (lambda: stated(cut_windows={"windows": [], "days": ["mo"]}), "/policy/cut_windows"),
    "windows holiday": (lambda: stated(cut_windows={"windows": [], "holidays": ["2024-02-30"]}), "/policy/cut_windows"),
    "windows field": (lambda: stated(cut_windows={"window": []}), "/policy/cut_windows/window"),
    "credit field": (lambda: stated(credit={"limit": 1}), "/policy/credit/limit"),
    "credit share": (lambda: stated(credit={"old_debt_share": 10_001}), "/policy"),
    "load limit": (lambda: stated(load_limit={"power_w": 0, "period_s": 1, "restoration_s": 1}), "/policy"),
    "load limit part": (lambda: stated(load_limit={"power_w": 1}), "/policy"),
    "level field": (lambda: changed(risk_levels={"high": {"colour": 1}}), "/risk_levels/high/colour"),
    "level value": (lambda: changed(risk_levels={"high": {"grace_hours": -1}}), "/risk_levels/high"),
    "levels list": (lambda: changed(risk_levels=[]), "/risk_levels"),
}


@pytest.mark.parametrize("name", list(WRONG))
def test_a_wrong_document_is_refused_with_the_place(name: str) -> None:
    make, pointer = WRONG[name]
    with pytest.raises(PolicyRefused) as refused:
        load_policy(make(), "k")
    assert (refused.value.pointer or "/") == pointer
    assert "\n" not in str(refused.value)


def test_every_field_of_a_policy_can_be_stated_and_is_listed() -> None:
    listed = policy_fields()
    assert {"grace_hours", "credit", "load_limit"} <= set(listed)
    assert not {"signed_by", "policy_id"} & set(listed)


def test_the_commands_say_what_is_wrong_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*arguments: str) -> tuple[int, str, str]:
        status = main(["policy", *arguments])
        said = capsys.readouterr()
        return status, said.out, said.err

    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(json.dumps(GOOD), "utf-8")
    bad.write_text(stated(grace_hour=1), "utf-8")
    status, out, _ = run("check", str(good), "--json")
    assert (status, json.loads(out)["policy"]) == (0, "p@2")
    for arguments in (("check", str(bad)), ("check", str(tmp_path / "none")), ("templates", "castle")):
        status, out, err = run(*arguments)
        assert (status, out) == (2, "")
        assert err.startswith("wattgate policy: ")
        assert err.count("\n") == 1
    assert run("templates")[1].count("\n") == len(template_names())
    assert json.loads(run("templates", "landlord")[1])["segment"] == "landlord"
