"""`wattgate bus scan` of DL/T 645 meters: alone, many, alike, and none, by wildcards."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.bus.dlt645 import DLT645
from edge.bus.scan_dlt645 import AddressOrder, search
from edge.bus.scan_records import Exchange, Link, LinkUnusable, Note, Open, Question, ScanReport
from edge.cli import main
from edge.meters.model import load_model
from hw.sim.dlt645_meter import Dlt645Meter, PseudoTerminal, bcd, collided

MODELS = tuple(map(load_model, ("dlt645_2007", "dlt645_2007_3p")))
LINK, OTHER = Link(2400, "8E1"), Link(9600, "8E1")
ADDRESSES = st.lists(st.integers(1, 999_999_999_998), unique=True, max_size=8)


def searched(
    meters: Sequence[Dlt645Meter], links: tuple[Link, ...] = (LINK,), quick: bool = False, spoil: Any = None
) -> ScanReport:
    """The report of a search whose questions are answered at the first link by these meters, without time."""
    talk = search(AddressOrder(DLT645, links, MODELS, quick))
    came: Exchange | None = None
    link = links[0]
    while True:
        try:
            step = talk.send(came)
        except StopIteration as end:
            report: ScanReport = end.value
            return report
        came = None
        if isinstance(step, Open):
            link = step.link
        elif isinstance(step, Question):
            request = step.request
            assert request.frame[12] in (0x11, 0x13), "only reads"
            heard = collided([meter.answer(request.frame) for meter in meters]) if link == links[0] else None
            received = heard or b""
            reason = DLT645.first_failure(request, request.frame, received)
            if reason is None and (refusal := DLT645.exception(request, received)) is not None:
                reason = f"exception_{refusal}"
            words = DLT645.words(request, received) if reason is None else ()
            came = Exchange(request, reason, words, received, 20.0 if received else None)
        else:
            assert isinstance(step, Note)


@given(ADDRESSES)
@settings(max_examples=25)
def test_every_meter_is_found_and_no_other(addresses: list[int]) -> None:
    meters = [Dlt645Meter(f"{address:012d}") for address in addresses]
    assert sorted(row.device_id for row in searched(meters).found) == sorted(addresses)


def test_meters_that_differ_in_their_first_digits_only_are_told_apart() -> None:
    addresses = [320_100_000_147, 330_100_000_147, 320_200_000_147]
    report = searched([Dlt645Meter(f"{address:012d}") for address in addresses])
    assert sorted(row.device_id for row in report.found) == sorted(addresses)
    assert report.diagnoses == ()


def test_one_meter_alone_needs_few_questions_when_quick() -> None:
    report = searched([Dlt645Meter("320100000147")], quick=True)
    (row,) = report.found
    assert report.questions <= 6
    assert row.recognition.identity == {"address": "320100000147"}
    assert row.recognition.values == {"energy_import_total": "1234.56"}
    assert (row.recognition.models, row.health.errors) == (("dlt645_2007",), {})


def test_two_meters_with_one_address_are_a_diagnosis() -> None:
    report = searched([Dlt645Meter("000000000001"), Dlt645Meter("000000000001", energy_hundredths_kwh=99)])
    assert [row.device_id for row in report.found] == [1]  # to the question for the address they say the same
    assert [(row.code, row.device_id) for row in report.diagnoses] == [("two_on_one_address", 1)]


def test_a_link_without_meters_costs_two_questions() -> None:
    report = searched([], links=(LINK, OTHER))
    assert (report.questions, report.found) == (4, ())
    assert [row.code for row in report.diagnoses] == ["silent_line"]


class Mumbling(Dlt645Meter):
    """Says something to everybody that nobody can understand."""

    def answer(self, heard: bytes) -> bytes | None:
        return b"\x68\x00\x13" + bcd(7, 2)


def test_bytes_that_cannot_be_understood_are_a_diagnosis_and_not_an_endless_search() -> None:
    report = searched([Mumbling()])
    assert report.found == ()
    assert [row.code for row in report.diagnoses] == ["garbled_answers"]
    assert report.questions < 1_000
    assert not report.complete


def test_a_port_that_can_be_set_to_no_link_is_an_error() -> None:
    talk = search(AddressOrder(DLT645, (LINK,), MODELS))
    next(talk)
    with pytest.raises(LinkUnusable):
        talk.throw(LinkUnusable("no parity"))


# --- the command -------------------------------------------------------------------------------

Said = Callable[..., tuple[int, str, str]]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    def run(*arguments: str) -> tuple[int, str, str]:
        try:
            status = main(["bus", "scan", *arguments, "--lang", "en"])
        except SystemExit as leaving:
            status = leaving.code if isinstance(leaving.code, int) else 1
        return (status, *capsys.readouterr())

    return run


def test_the_command_finds_the_meters_of_a_terminal(said: Said) -> None:
    with PseudoTerminal(Dlt645Meter("320100000147"), Dlt645Meter("000000000021")) as terminal:
        line = ("--line", terminal.path, "--protocol", "dlt645", "--baud", "19200", "--timeout-ms", "15")
        status, text, _ = said(*line, "--json")
    document = json.loads(text)
    assert (status, document["diagnoses"]) == (0, [])
    assert {row["identity"]["address"] for row in document["found"]} == {"320100000147", "000000000021"}
    assert document["found"][0]["values"] == {"energy_import_total": "1234.56"}


def test_people_see_the_twelve_digits(said: Said) -> None:
    with PseudoTerminal(Dlt645Meter("000000000021")) as terminal:
        line = ("--line", terminal.path, "--protocol", "dlt645", "--baud", "19200", "--timeout-ms", "30")
        status, text, _ = said(*line, "--quick")
    assert status == 0
    assert "000000000021" in text
    assert "dlt645_2007" in text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--line", "/dev/null", "--ids", "1-9"], "--ids: belongs to protocol modbus"),
        (["--line", "tcp://10.0.0.5:502"], "rtu+tcp://host:port"),
        (["--line", "rtu+tcp://10.0.0.5:502", "--baud", "2400"], "set at the server"),
    ],
)
def test_options_of_the_other_protocol_are_refused(said: Said, arguments: list[str], sentence: str) -> None:
    status, text, complaint = said("--protocol", "dlt645", *arguments)
    assert (status, text) == (2, "")
    assert sentence in complaint
