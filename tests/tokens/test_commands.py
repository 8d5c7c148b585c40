"""`wattgate token`: what it prints, its exit status, and one sentence where it cannot go on."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge.cli import main
from edge.tokens import commands as token_commands
from edge.tokens.words import _WORDS, LANGUAGES, language_of

KEY = "f94b6ed353c3bfdb113e2d3a7ea3c41d"
FIRST = "59386323472137426967"
PAYGO = "--scheme openpaygo --key bc41ec9530f6dac86b1a29ab82edc5fb --starting-code 516959010"
STS = f"--scheme sts --key {KEY} --base 1993"
VENDING = (
    "token key --vending-key abababababababab949494949494949401234567 --pan 600727000000000009 --sgc 123457 "
    "--key-type 2 --ti 01 --krn 1 --base 1993"
)

Run = Callable[[str], tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command line; returns exit status, output and error output."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)

    def run(line: str) -> tuple[int, str, str]:
        try:
            status = main(shlex.split(line))
        except SystemExit as stop:
            status = int(stop.code or 0)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def objects(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def test_key_is_printed_as_described(run: Run) -> None:
    assert run(f"{VENDING} --json") == (0, f'{{"decoder_key": "{KEY}"}}\n', "")
    assert run(VENDING) == (0, f"decoder key {KEY}\n", "")


def test_short_group_code_and_index_are_filled_with_zeros(run: Run) -> None:
    short = VENDING.replace("--ti 01", "--ti 1").replace("--sgc 123457", "--sgc 7")
    long = VENDING.replace("--sgc 123457", "--sgc 000007")
    assert run(short)[1] == run(long)[1] != run(VENDING)[1]


def test_decode_prints_an_object_a_line_and_3_when_any_was_refused(run: Run) -> None:
    status, output, _ = run(f'token decode {STS} --json {FIRST} "5938 6323 4721 3742 6967"')
    assert (status, [line.get("reason") for line in objects(output)]) == (3, [None, "used"])
    assert run(f"token decode {STS} --json {FIRST}")[0] == 0


def test_decode_takes_key_expiry_and_commissioning(run: Run) -> None:
    assert objects(run(f"token decode {STS} --key-expiry 88 --json {FIRST}")[1])[0]["reason"] == "expired_key"
    assert objects(run(f"token decode {STS} --key-expiry 89 --json {FIRST}")[1])[0]["ok"]
    later = f"token decode {STS} --commissioned-at 2004-03-01T15:01+02:00 --json {FIRST}"
    assert objects(run(later)[1])[0]["reason"] == "old"


def test_decode_speaks_openpaygo(run: Run) -> None:
    status, output, _ = run(f"token decode {PAYGO} --count 1 --json 588224011 588224011 123456789012")
    assert status == 3
    assert objects(output) == [
        {"token": "588224011", "ok": True, "value": 1, "type": "ADD_TIME", "count": 2},
        {"token": "588224011", "ok": False, "reason": "used"},
        {"token": "123456789012", "ok": False, "reason": "unknown"},
    ]


def test_decode_knows_the_used_counts_it_is_told(run: Run) -> None:
    token = objects(run(f"token issue {PAYGO} --count 6 --type ADD_TIME --value 3 --json")[1])[0]
    assert token["count"] == 8
    line = f"token decode {PAYGO} --count 10 --json {token['token']}"
    assert run(line)[0] == 0
    assert run(f"{line} --used-counts 8,10")[0] == 3


@pytest.mark.parametrize("form", ["", "--extended", "--restricted", "--extended --restricted"])
def test_what_is_issued_for_openpaygo_is_decoded(run: Run, form: str) -> None:
    issued = objects(run(f"token issue {PAYGO} --count 7 --type SET_TIME --value 31 {form} --json")[1])[0]
    decoded = objects(run(f"token decode {PAYGO} --count 7 --json {issued['token']}")[1])[0]
    assert decoded == {"token": issued["token"], "ok": True, "value": 31, "type": "SET_TIME", "count": 9}
    assert decoded["count"] == issued["count"]


def test_what_is_issued_for_sts_is_decoded(run: Run) -> None:
    line = f"token issue {STS} --issued-at 2004-03-01T13:00 --random 5 --amount-tenths 1 --json"
    issued = objects(run(line)[1])
    assert issued[0]["token"] == FIRST
    assert objects(run(f"token decode {STS} --json {FIRST}")[1]) == [{**issued[0], "ok": True}]


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ("--tid 7 --amount-tenths 20000 --subclass 2", {"class": 0, "subclass": 2, "tid": 7, "amount_tenths": 20004}),
        ("--class 1 --control 800", {"class": 1, "subclass": 0, "tid": None, "random": None, "control": "00000000800"}),
        ("--class 2 --subclass 1 --tid 7 --value 65535", {"class": 2, "value": 65535, "amount_tenths": None}),
        ("--class 2 --tid 7 --value 5000", {"class": 2, "subclass": 0, "value": 5000}),
    ],
)
def test_every_kind_of_sts_token_can_be_issued(run: Run, options: str, fields: dict[str, Any]) -> None:
    status, output, _ = run(f"token issue {STS} {options} --json")
    assert status == 0
    assert fields.items() <= objects(output)[0].items()


def test_random_part_is_chosen_where_none_is_given(run: Run) -> None:
    tokens = {run(f"token issue {STS} --tid 7 --amount-tenths 1")[1] for _ in range(60)}
    assert 4 < len(tokens) <= 16


def test_key_change_is_issued_as_four_tokens_that_bring_the_new_key(run: Run) -> None:
    new = "00112233445566778899aabbccddeeff"
    change = f"token issue {STS} --new-key {new} --ken 200 --krn 2 --key-type 2 --ti 01 --sgc 123457 --json"
    sections = objects(run(f"{change} --rollover")[1])
    assert [line["section"] for line in sections] == [1, 2, 3, 4]
    assert (sections[3]["decoder_key"], sections[3]["base"], sections[3]["ken"]) == (new, 2014, 200)
    tokens = " ".join(line["token"] for line in sections)
    credit = objects(run(f"token issue --scheme sts --key {new} --base 2014 --tid 7 --amount-tenths 1 --json")[1])[0]
    lines = objects(run(f"token decode {STS} --json {tokens} {credit['token']}")[1])
    assert all(line["ok"] for line in lines)
    assert lines[-1]["issued_at"] == "2014-01-01T00:07:00Z"
    other = objects(run(f"{change} --section-order 1342")[1])
    assert (other[2]["key_bits"], other[3]["key_bits"]) == (sections[3]["key_bits"], sections[2]["key_bits"])


def test_words_are_of_the_language_asked_for(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    line = f"token decode {STS} {FIRST} {FIRST} 56493153725450313471"
    english, chinese = run(line)[1].splitlines(), run(f"{line} --lang zh")[1].splitlines()
    assert english[0] == f"{FIRST}  electricity 0.1 kWh, issued 2004-03-01T13:00:00Z"
    assert english[1] == f"{FIRST}  refused: used before"
    assert chinese[1] == f"{FIRST}  被拒绝:已使用过"
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    assert run(line)[1].splitlines() == chinese
    assert run(f"{line} --lang en")[1].splitlines() == english


def test_every_kind_of_line_has_its_words(run: Run) -> None:
    change = f"--new-key {KEY} --krn 2 --key-type 2 --ti 01 --sgc 123457"
    tokens = [line.split()[0] for line in run(f"token issue {STS} {change}")[1].splitlines()]
    for options in ("--class 2 --subclass 5 --tid 7 --value 0", "--subclass 3 --tid 8 --amount-tenths 1"):
        tokens.append(run(f"token issue {STS} {options}")[1].split()[0])
    paygo = [
        run(f"token issue {PAYGO} --count {count} --type {kind}")[1].split()[0]
        for count, kind in ((2, "DISABLE_PAYG"), (4, "COUNTER_SYNC"))
    ]
    for language in LANGUAGES:
        lines = run(f"token decode {STS} --lang {language} {' '.join([*tokens, '1'])}")[1].splitlines()
        lines += run(f"token decode {PAYGO} --count 1 --lang {language} {' '.join(paygo)} 588224011")[1].splitlines()
        assert len(lines) == len(tokens) + 1 + 3
        assert not [line for line in lines if "{" in line or "None" in line]


def test_both_languages_say_the_same_things_with_the_same_values() -> None:
    english, chinese = (_WORDS[language] for language in LANGUAGES)
    assert english.keys() == chinese.keys()
    fields = re.compile(r"\{\w+\}")
    assert {key: set(fields.findall(text)) for key, text in english.items()} == {
        key: set(fields.findall(text)) for key, text in chinese.items()
    }


@pytest.mark.parametrize(
    ("environment", "language"),
    [({}, "en"), ({"LANG": "C.UTF-8"}, "en"), ({"LANG": "zh_CN.UTF-8"}, "zh"),
     ({"LC_ALL": "en_GB", "LANG": "zh_CN"}, "en"), ({"LC_ALL": "", "LANG": "zh_TW"}, "zh")],
)  # fmt: skip
def test_language_is_that_of_the_environment(environment: dict[str, str], language: str) -> None:
    assert language_of(environment) == language


def test_key_may_stand_in_a_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{KEY.upper()}\n")
    assert run(f"token decode --scheme sts --key @{tmp_path}/key --base 1993 {FIRST}")[0] == 0
    status, _, error = run(f"token decode --scheme sts --key @{tmp_path}/none --base 1993 {FIRST}")
    assert (status, "cannot be read" in error) == (2, True)


BAD = [
    ("token", ""),
    ("token decode", "required"),
    (f"token decode {STS}", "TOKEN"),
    (VENDING.replace("600727000000000009", "60072700000000000"), "--pan"),
    (VENDING.replace("600727000000000009", "60072700000000000x"), "--pan"),
    (VENDING.replace("--krn 1", "--krn 0"), "--krn"),
    (VENDING.replace("--krn 1", "--krn 10"), "--krn"),
    (VENDING.replace("--key-type 2", "--key-type 4"), "--key-type"),
    (VENDING.replace("--ti 01", "--ti 100"), "--ti"),
    (VENDING.replace("--sgc 123457", "--sgc 1234567"), "--sgc"),
    (VENDING.replace("--base 1993", "--base 1994"), "--base"),
    (VENDING.replace("01234567 ", "0123456 "), "--vending-key"),
    (VENDING.replace("01234567 ", "0123456g "), "--vending-key"),
    (f"token decode --scheme sts --key {KEY} {FIRST}", "--base"),
    (f"token decode --scheme sts --key {KEY}00 --base 1993 {FIRST}", "--key"),
    (f"token decode --scheme morse --key {KEY} --base 1993 {FIRST}", "--scheme"),
    (f"token decode {STS} --key-expiry 256 {FIRST}", "--key-expiry"),
    (f"token decode {STS} --key-expiry -1 {FIRST}", "--key-expiry"),
    (f"token decode {STS} --count 1 {FIRST}", "--count"),
    (f"token decode {STS} --commissioned-at 1992-01-01 {FIRST}", "--commissioned-at"),
    (f"token decode {STS} --commissioned-at soon {FIRST}", "--commissioned-at"),
    (f"token decode {PAYGO} 588224011", "--count"),
    (f"token decode {PAYGO} --count 100001 588224011", "--count"),
    (f"token decode {PAYGO} --count 1 --base 1993 588224011", "--base"),
    (f"token decode {PAYGO} --count 1 --used-counts 1,x 588224011", "--used-counts"),
    (f"token decode {PAYGO.replace('516959010', '1000000000')} --count 1 588224011", "--starting-code"),
    (f"token issue {STS} --amount-tenths 1", "--tid or --issued-at"),
    (f"token issue {STS} --amount-tenths 1 --tid 1 --issued-at 2004-03-01", "--tid or --issued-at"),
    (f"token issue {STS} --tid 1", "--amount-tenths"),
    (f"token issue {STS} --tid 1 --amount-tenths 18201625", "--amount-tenths"),
    (f"token issue {STS} --tid 16777216 --amount-tenths 1", "--tid"),
    (f"token issue {STS} --issued-at 2024-11-24T20:16 --amount-tenths 1", "--issued-at"),
    (f"token issue {STS} --tid 1 --amount-tenths 1 --value 2", "--value"),
    (f"token issue {STS} --tid 1 --amount-tenths 1 --subclass 4", "--subclass"),
    (f"token issue {STS} --tid 1 --class 2 --subclass 3 --value 1", "--subclass"),
    (f"token issue {STS} --tid 1 --class 2 --subclass 1 --value 65536", "--value"),
    (f"token issue {STS} --class 1", "--control"),
    (f"token issue {STS} --class 1 --control 100000000000", "--control"),
    (f"token issue {STS} --class 1 --control g", "--control"),
    (f"token issue {STS} --class 3 --tid 1 --value 1", "--class"),
    (f"token issue {STS} --new-key {KEY} --krn 1 --key-type 2 --ti 1", "--sgc"),
    (f"token issue {STS} --new-key {KEY} --krn 1 --key-type 2 --ti 1 --sgc 1 --tid 3", "--tid"),
    (f"token issue {STS.replace('1993', '2035')} --new-key {KEY} --krn 1 --key-type 2 --ti 1 --sgc 1 --rollover",
     "--rollover"),
    (f"token issue {PAYGO} --count 1", "--type"),
    (f"token issue {PAYGO} --count 1 --type ADD_TIME", "--value"),
    (f"token issue {PAYGO} --count 1 --type ADD_TIME --value 996", "--value"),
    (f"token issue {PAYGO} --count 1 --type ADD_TIME --value 1000000 --extended", "--value"),
    (f"token issue {PAYGO} --count 1 --type DISABLE_PAYG --value 1", "--value"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "named"), BAD, ids=[str(number) for number in range(len(BAD))])
def test_bad_arguments_are_named_in_a_sentence(run: Run, line: str, named: str) -> None:
    status, output, error = run(line)
    assert status == 2
    assert named in error.splitlines()[-1] if named else output.startswith("usage:")
    assert "Traceback" not in error
    assert KEY not in error.splitlines()[-1] if error else True


@pytest.mark.parametrize("command", ["token", "token key", "token decode", "token issue"])
def test_help_has_an_example(run: Run, command: str) -> None:
    status, output, _ = run(f"{command} --help")
    assert status == 0
    assert "example:\n  wattgate token" in output


@pytest.mark.parametrize("name", ["TOKEN_EXAMPLE", "DECODE_EXAMPLE", "ISSUE_EXAMPLE"])
def test_examples_of_the_help_work(run: Run, name: str) -> None:
    text = getattr(token_commands, name).partition("example:\n")[2].replace("\\\n", " ")
    text = text.replace("--key OLD", f"--key {KEY}").replace("NEW", KEY)
    lines = [line.partition("   the four")[0] for line in text.splitlines() if line.strip().startswith("wattgate ")]
    assert len(lines) >= 2
    for line in lines:
        status, output, error = run(line.strip().removeprefix("wattgate "))
        assert status in (0, 3), error
        assert output


def test_sts_does_not_load_the_openpaygo_library() -> None:
    program = (
        "import sys\nfrom edge.cli import main\n"
        f"status = main('token decode {STS} {FIRST}'.split())\n"
        "print(status, 'openpaygo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "0 False"
