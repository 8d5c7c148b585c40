"""`wattgate tariff`: what each command prints, and that whatever is wrong is one sentence and status 2."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edge.cli import main
from edge.core.tariff import load_tariff
from edge.tariffs.billing import BillingError, bill_readings, open_rate
from edge.tariffs.presets import preset_names
from edge.tariffs.readings import parse_readings

MONTH = "at,import_wh\n2024-04-01T00:00:00+08:00,1000000\n2024-05-01T00:00:00+08:00,1300000\n"


class Shell:
    """The command line in a folder of its own."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys

    def write(self, name: str, content: str | dict[str, Any]) -> str:
        path = self.folder / name
        path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
        return str(path)

    def preset(self, name: str) -> str:
        return self.write(f"{name}.json", self.answer("presets", name))

    def answer(self, *arguments: str) -> str:
        status = main(["tariff", *arguments])
        printed = self._capsys.readouterr()
        assert (status, printed.err) == (0, "")
        return printed.out

    def refusal(self, *arguments: str) -> str:
        try:
            status = main(["tariff", *arguments])
        except SystemExit as stopped:
            status = int(stopped.code or 0)
        printed = self._capsys.readouterr()
        assert (status, printed.out) == (2, "")
        assert "Traceback" not in printed.err
        return printed.err


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(tmp_path, capsys)


@pytest.fixture
def household(shell: Shell) -> str:
    return shell.preset("cn-heilongjiang")


def test_presets_lists_names_and_prints_documents_that_check(shell: Shell) -> None:
    names = shell.answer("presets").split()
    assert names == preset_names()
    assert {"cn-heilongjiang", "cn-zhejiang-tou", "gb-cap-2024q3", "ke-domestic-2025", "cn-two-part"} <= set(names)
    for name in names:
        assert f"good, tariff {name}" in shell.answer("check", shell.preset(name))


def test_unknown_preset_names_those_there_are(shell: Shell) -> None:
    assert "cn-zhejiang-tou" in shell.refusal("presets", "cn-atlantis")


def test_check_refuses_with_the_pointer(shell: Shell, household: str) -> None:
    document = json.loads(Path(household).read_text("utf-8"))
    document["blocks"]["limits_kwh"] = ["260", "170"]
    path = shell.write("wrong.json", document)
    assert shell.refusal("check", path).startswith(f"wattgate: {path}: tariff refused at /blocks/limits_kwh/1: found")


def test_file_is_a_path_and_never_a_presets_name(shell: Shell) -> None:
    assert "no readable file" in shell.refusal("check", "cn-heilongjiang")


def test_rate_prints_a_table_or_one_json_object(shell: Shell, household: str) -> None:
    readings = shell.write("r.csv", MONTH)
    assert "169.50" in shell.answer("rate", household, "--readings", readings)
    bill = json.loads(shell.answer("rate", household, "--readings", readings, "--json"))
    assert (bill["energy_wh"], bill["charge_nano"], bill["bill_minor"]) == (300_000, 169_500_000_000, 16_950)
    assert bill["lines"][2] == {
        "kind": "energy",
        "period": "all",
        "block": 3,
        "energy_wh": 40_000,
        "price_micro_per_kwh": 810_000,
        "amount_nano": 32_400_000_000,
        "version": 1,
    }


def test_the_block_position_goes_from_one_bill_into_the_next_and_a_new_month_begins_at_zero(
    shell: Shell, household: str
) -> None:
    rows = MONTH.splitlines()
    middle = "2024-04-20T00:00:00+08:00,1200000"
    first = shell.write("1.csv", "\n".join([*rows[:2], middle]))
    second = shell.write("2.csv", "\n".join([rows[0], middle, rows[2]]))
    one = json.loads(shell.answer("rate", household, "--readings", first, "--json"))
    assert one["cycle_energy_wh"] == 200_000
    position = str(one["cycle_energy_wh"])
    two = json.loads(shell.answer("rate", household, "--readings", second, "--cycle-energy-wh", position, "--json"))
    assert one["charge_nano"] + two["charge_nano"] == 169_500_000_000
    assert two["cycle_energy_wh"] == 0


def test_explain_speaks_two_languages_and_draws(shell: Shell, household: str) -> None:
    readings, plot = shell.write("r.csv", MONTH), shell.folder / "plot.svg"
    assert "To pay" in shell.answer("explain", household, "--readings", readings)
    assert "应付" in shell.answer("explain", household, "--readings", readings, "--lang", "zh", "--svg", str(plot))
    assert plot.read_text("utf-8").startswith("<svg")
    assert json.loads(shell.answer("explain", household, "--readings", readings, "--json"))["lines"][0]["text"]
    nowhere = str(shell.folder / "none" / "plot.svg")
    assert "cannot be written" in shell.refusal("explain", household, "--readings", readings, "--svg", nowhere)


def test_what_a_terminal_cannot_show_is_spelled_out(
    household: str, shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    readings = shell.write("r.csv", MONTH)
    with (tmp_path / "out.txt").open("w", encoding="ascii") as out:
        monkeypatch.setattr(sys, "stdout", out)
        assert main(["tariff", "explain", household, "--readings", readings, "--lang", "zh"]) == 0
    assert "\\u5e94\\u4ed8" in (tmp_path / "out.txt").read_text("ascii")


NEEDS = {
    "bands": ("ke-domestic-2025", (), "give --history-kwh with the energy of the last 3 months"),
    "demand": ("cn-two-part", (), "the demand charge contract_demand needs max_demand_w: add a column max_demand_w"),
    "unknown raise": ("cn-heilongjiang", ("--raise", "big_family"), "raises big_family"),
    "half of the arrears": ("cn-two-part", ("--arrears", "10"), "belong together"),
    "no late charge": (
        "gb-cap-2024q3",
        ("--arrears", "10", "--overdue-from", "2024-04-01", "--paid-on", "2024-04-02"),
        "has no late charge for --arrears",
    ),
    "position by period": ("cn-heilongjiang", ("--cycle-energy-wh", "all=5"), "its block position is one number"),
    "position too high": ("cn-heilongjiang", ("--cycle-energy-wh", "90000000000"), "cycle_energy_kwh_max"),
    "months": ("cn-zhejiang", ("--months-in-service", "13"), "allowed is a whole number of 1 to 12"),
    "negative position": ("cn-zhejiang", ("--cycle-energy-wh=-1",), "allowed is a whole number of 0 to"),
    "history of words": ("ke-domestic-2025", ("--history-kwh", "much"), "found 'much'; allowed is a number"),
    "day of no calendar": ("cn-two-part", ("--paid-on", "2024-02-30"), "allowed is a date like 2024-04-01"),
}


@pytest.mark.parametrize(("preset", "options", "sentence"), NEEDS.values(), ids=NEEDS.keys())
def test_what_a_tariff_needs_or_an_option_may_not_be_is_said(
    preset: str, options: tuple[str, ...], sentence: str, shell: Shell
) -> None:
    readings = shell.write("r.csv", MONTH.replace("+08:00", "+03:00"))
    refusal = shell.refusal("rate", shell.preset(preset), "--readings", readings, *options)
    assert sentence in refusal
    assert refusal.splitlines()[-1].startswith("wattgate")


MISMATCHES = {
    "before the tariff": (
        "at,import_wh\n1999-04-01T00:00:00+08:00,0\n2024-04-01T00:00:00+08:00,1\n",
        "line 3, column at: is",
    ),
    "before it is valid": (
        "at,import_wh\n2011-04-01T00:00:00+08:00,0\n2013-04-01T00:00:00+08:00,1\n",
        "line 2, column at: lies before the tariff cn-heilongjiang is valid",
    ),
    "another period": (
        "at,import_wh,rate_peak_wh\n2024-04-01T00:00:00+08:00,0,0\n2024-04-02T00:00:00+08:00,1,1\n",
        "line 1, column rate_peak_wh: allowed are rate_all_wh",
    ),
    "too much": (
        "at,import_wh\n2024-04-01T00:00:00+08:00,0\n2024-04-02T00:00:00+08:00,999999999999\n",
        "line 3, column import_wh: 999999999999 Wh are used",
    ),
    "one instant": (
        "at,import_wh,meter\n2024-04-01T00:00:00+08:00,0,a\n2024-04-01T00:00:00+08:00,0,b\n",
        "are of one instant",
    ),
}


@pytest.mark.parametrize(("text", "sentence"), MISMATCHES.values(), ids=MISMATCHES.keys())
def test_readings_that_do_not_fit_the_tariff_are_refused(
    text: str, sentence: str, shell: Shell, household: str
) -> None:
    readings = shell.write("r.csv", text)
    refusal = shell.refusal("rate", household, "--readings", readings)
    assert refusal.startswith(f"wattgate: {readings}: ")
    assert sentence in refusal
    assert refusal.count("\n") == 1


def test_energy_of_a_period_that_does_not_come_in_its_season_is_refused(shell: Shell) -> None:
    """A meter's valley register in the heating season is of another price than in summer."""
    head = "at,import_wh,rate_peak_wh,rate_valley_wh,rate_heating_valley_wh"
    tariff = shell.preset("cn-shandong-tou")

    def rows(month: str, valley: int, heating_valley: int) -> str:
        first, last = f"2024-{month}-01T00:00:00+08:00,0,0,0,0", f"2024-{month}-28T00:00:00+08:00,30"
        return shell.write(
            "r.csv", f"{head}\n{first}\n{last},{30 - valley - heating_valley},{valley},{heating_valley}\n"
        )

    shell.answer("rate", tariff, "--readings", rows("01", 0, 20))
    shell.answer("rate", tariff, "--readings", rows("07", 20, 0))
    shell.answer("rate", tariff, "--readings", rows("10", 20, 0))
    refusal = shell.refusal("rate", tariff, "--readings", rows("01", 20, 0))
    assert "line 3, column rate_valley_wh: 20 Wh of a period that does not come in these days" in refusal
    assert "those that do are heating_valley, peak" in refusal


@pytest.mark.parametrize("zone", ["Mars/Base", "Asia"])
def test_a_zone_that_is_none_is_refused_when_it_is_needed(zone: str, shell: Shell, household: str) -> None:
    document = {**json.loads(Path(household).read_text("utf-8")), "time_zone": zone}
    refusal = shell.refusal("rate", shell.write("t.json", document), "--readings", shell.write("r.csv", MONTH))
    assert f'/time_zone: found "{zone}"' in refusal
    with pytest.raises(BillingError, match=f"there is no time zone {zone} here"):
        bill_readings([load_tariff(document)], parse_readings(MONTH, "r.csv"), "r.csv")


def test_two_meters_without_a_second_reading_cost_nothing(shell: Shell) -> None:
    rows = "at,import_wh,max_demand_w,rate_peak_wh,meter\n"
    rows += "2024-04-01T00:00:00+08:00,0,,0,a\n2024-04-02T00:00:00+08:00,9,,9,b\n"
    readings, zero = (
        shell.write("r.csv", rows),
        shell.write("z.csv", rows.replace("b\n", "a\n").replace("9,,9", "0,5,0")),
    )
    tariff = shell.preset("cn-zhejiang-tou")
    for name in (readings, zero):
        assert json.loads(shell.answer("rate", tariff, "--readings", name, "--json"))["bill_minor"] == 0


def test_a_reading_within_a_minute_of_a_change_of_price_stands_for_it(shell: Shell, household: str) -> None:
    document = json.loads(Path(household).read_text("utf-8"))
    later = {
        **document,
        "version": 2,
        "valid_from": "2024-04-16",
        "prices": {"table": {"all": ["0.53", "0.58", "0.83"]}},
    }
    for part in (document, later):
        del part["provenance"]
    both = shell.write("both.json", {"format": 1, "versions": [document, later]})
    for second, estimated, charge_nano in (("59", False, 93_900_000_000), ("00", False, 93_900_000_000)):
        rows = MONTH.replace("1300000", "1180000").splitlines()
        at = "2024-04-15T23:59:59" if second == "59" else "2024-04-16T00:01:00"
        text = "\n".join([*rows[:2], f"{at}+08:00,1100000", rows[2]])
        bill = json.loads(shell.answer("rate", both, "--readings", shell.write("r.csv", text), "--json"))
        assert (bill["charge_nano"], bill["estimated"]) == (charge_nano, estimated)
    far = "\n".join([*rows[:2], "2024-04-16T00:01:01+08:00,1100000", rows[2]])
    assert json.loads(shell.answer("rate", both, "--readings", shell.write("f.csv", far), "--json"))["estimated"]


def test_urdb_rate_becomes_a_document_that_checks(shell: Shell) -> None:
    rate = {
        "label": "example",
        "name": "Example",
        "energyratestructure": [[{"max": 300, "rate": 0.1, "adj": 0.01}, {"rate": 0.15, "adj": 0.01}]],
        "energyweekdayschedule": [[0] * 24] * 12,
        "energyweekendschedule": [[0] * 24] * 12,
    }
    source, out = shell.write("urdb.json", rate), str(shell.folder / "tariff.json")
    assert shell.answer("import-urdb", source, "-o", out, "--time-zone", "America/New_York").startswith(
        f"{out}: written"
    )
    assert json.loads(Path(out).read_text("utf-8"))["time_zone"] == "America/New_York"
    shell.answer("check", out)
    refusal = shell.refusal("import-urdb", shell.write("no.json", {**rate, "energyratestructure": []}), "-o", out)
    assert "/energyratestructure" in refusal
    assert "--time-zone: found 'Mars/Base'" in shell.refusal(
        "import-urdb", source, "-o", out, "--time-zone", "Mars/Base"
    )
    assert refusal.count("\n") == 1


@pytest.mark.parametrize("command", [[], ["check"], ["rate"], ["explain"], ["import-urdb"], ["presets"]], ids=" ".join)
def test_help_has_an_example_of_every_command(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["tariff", *command, "--help"])
    assert stopped.value.code == 0
    assert " ".join(["  wattgate tariff", *command]) in capsys.readouterr().out


def test_without_a_command_below_it_tariff_prints_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tariff"]) == 2
    assert "import-urdb" in capsys.readouterr().out


def test_without_a_compiled_kernel_the_reference_rates(
    monkeypatch: pytest.MonkeyPatch, shell: Shell, household: str
) -> None:
    readings = shell.write("r.csv", MONTH)
    with_kernel = shell.answer("rate", household, "--readings", readings, "--json")
    monkeypatch.setitem(sys.modules, "native.kernel", None)  # its import fails then
    assert open_rate([]).__qualname__.startswith("reference_rate")
    assert shell.answer("rate", household, "--readings", readings, "--json") == with_kernel


def test_the_agent_does_not_load_what_only_this_command_needs() -> None:
    load = "import sys; from edge.cli_parser import parser_for; parser_for(['run'])"
    code = f"{load}; sys.exit('edge.tariffs' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
