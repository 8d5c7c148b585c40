"""A change of address or speed without a port: what is written, when, and where the meter is afterwards."""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import pytest

from edge.bus.frame import RTU, Request, crc16
from edge.bus.scan_records import Exchange, Link, Listen, Open, Question, Talk
from edge.bus_tool.change import (
    CannotChange,
    ChangePlan,
    ChangeReport,
    Place,
    Witness,
    all_writes,
    carry_out,
    look,
    plan_address,
    plan_baud,
    take_witness,
    writes,
)
from edge.meters.model import ForbiddenWrite, MeterModel, known_models, load_model

LINK = Link(9600, "8N1")
SDM120, SDM630, EM111 = (load_model(name) for name in ("eastron_sdm120", "eastron_sdm630", "carlo_gavazzi_em111"))
BAUDS = {0: 2400, 1: 4800, 2: 9600}


def framed(body: bytes) -> bytes:
    return body + crc16(body).to_bytes(2, "little")


def floated(value: float) -> tuple[int, int]:
    high, low = struct.unpack(">2H", struct.pack(">f", value))
    return high, low


@dataclass
class FakeMeter:
    """An SDM120 or SDM630: floats from 0 on, settings that count at once, after a power cycle, or never."""

    device_id: int = 1
    baud: int = 9600
    serial: int = 4711
    obeys: str = "at_once"  # power_cycle, never, refuses, dies
    answers_write: bool = True
    settings: dict[int, tuple[int, int]] = field(default_factory=lambda: {20: floated(1), 28: floated(2)})
    written: list[tuple[int, int, tuple[int, ...]]] = field(default_factory=list)
    silent: bool = False

    def answer(self, request: Request, link: Link) -> bytes:
        if self.silent or request.device_id != self.device_id or link.baud != self.baud:
            return b""
        if request.is_write:
            return self.take(request)
        words = [self.word(request.function_code, request.address + index) for index in range(request.count)]
        if None in words:
            return framed(bytes((request.device_id, request.function_code | 0x80, 2)))
        data = struct.pack(f">{len(words)}H", *words)
        return framed(bytes((request.device_id, request.function_code, len(data))) + data)

    def word(self, function_code: int, address: int) -> int | None:
        if function_code == 3 and address - address % 2 in self.settings:
            return self.settings[address - address % 2][address % 2]
        if function_code == 3 and address in (64512, 64513):
            return (self.serial >> 16, self.serial & 0xFFFF)[address - 64512]
        if function_code == 4 and (address < 80 or 342 <= address < 352):
            even = address - address % 2
            value = {0: 230.0, 2: 231.0, 4: 229.0, 70: 50.0, 72: 1234.5}.get(even, 0.0)
            return floated(value)[address % 2]
        return None

    def take(self, request: Request) -> bytes:
        self.written.append((request.function_code, request.address, request.words))
        if self.obeys == "refuses":
            return framed(bytes((request.device_id, request.function_code | 0x80, 3)))
        if request.address in self.settings:
            self.settings[request.address] = (request.words[0], request.words[1])
            if self.obeys == "at_once":
                self.power_cycle()
            self.silent = self.obeys == "dies"
        return framed(request.frame[:6]) if self.answers_write else b""

    def power_cycle(self) -> None:
        number = struct.unpack(">f", struct.pack(">2H", *self.settings[20]))[0]
        speed = struct.unpack(">f", struct.pack(">2H", *self.settings[28]))[0]
        self.device_id, self.baud = int(number), BAUDS[int(speed)]


@dataclass
class Line:
    """Meters on one line, and what is done in the pauses of a change."""

    meters: list[FakeMeter]
    in_pause: Callable[[float], None] = lambda waited_s: None
    spoil: Callable[[Request, bytes], bytes] = lambda request, answer: answer
    link: Link = LINK
    waited_s: float = 0.0
    asked: list[Request] = field(default_factory=list)

    def run(self, talk: Talk[Any]) -> Any:
        came: Exchange | bytes | None = None
        while True:
            try:
                step = talk.send(came)
            except StopIteration as end:
                return end.value
            came = None
            match step:
                case Open():
                    self.link = step.link
                case Listen():
                    self.waited_s += step.seconds
                    self.in_pause(self.waited_s)
                    came = b""
                case Question():
                    came = self.exchange(step.request)

    def exchange(self, request: Request) -> Exchange:
        self.asked.append(request)
        received = self.spoil(request, b"".join(meter.answer(request, self.link) for meter in self.meters))
        if not received:
            return Exchange(request, "timeout", (), b"", None)
        reason = RTU.first_failure(request, request.frame, received)
        exception = RTU.exception(request, received) if reason is None else None
        reason = f"exception_{exception}" if exception is not None else reason
        words = RTU.words(request, received) if reason is None else ()
        return Exchange(request, reason, words, received, 5.0)

    def change(self, plan: ChangePlan, wait_s: float = 0.0) -> ChangeReport:
        witness: Witness = self.run(take_witness(RTU, plan))
        report: ChangeReport = self.run(carry_out(RTU, plan, witness, wait_s))
        return report


def to_seven(model: MeterModel = SDM120) -> ChangePlan:
    return plan_address(model, Place(1, LINK), 7)


def refused(line: Line, plan: ChangePlan) -> str:
    with pytest.raises(CannotChange) as refusal:
        line.change(plan)
    return refusal.value.code


def test_an_address_is_written_once_and_confirmed_by_the_serial_number() -> None:
    line = Line([FakeMeter()])
    report = line.change(to_seven())
    assert (report.status, report.seen_at) == ("confirmed", Place(7, LINK))
    assert line.meters[0].written == [(16, 20, floated(7))]


def test_a_model_with_a_password_gets_it_first() -> None:
    line = Line([FakeMeter()])
    assert line.change(to_seven(SDM630)).status == "confirmed"
    assert line.meters[0].written == [(16, 24, floated(1000)), (16, 20, floated(7))]


def test_a_speed_is_confirmed_at_the_new_speed() -> None:
    line = Line([FakeMeter()])
    report = line.change(plan_baud(SDM120, Place(1, LINK), 2400))
    assert (report.status, report.seen_at) == ("confirmed", Place(1, Link(2400, "8N1")))
    assert line.meters[0].written == [(16, 28, floated(0))]


def test_a_meter_that_changes_before_it_answers_is_found_all_the_same() -> None:
    assert Line([FakeMeter(answers_write=False)]).change(to_seven()).status == "confirmed"


def test_a_power_cycle_in_the_waiting_time_brings_the_change_about() -> None:
    meter = FakeMeter(obeys="power_cycle")
    line = Line([meter], in_pause=lambda waited_s: meter.power_cycle() if waited_s >= 20 else None)
    assert line.change(to_seven(), wait_s=60).status == "confirmed"
    assert 20 <= line.waited_s < 60


def test_a_meter_that_does_not_come_gets_its_old_setting_back() -> None:
    line = Line([FakeMeter(obeys="never")])
    report = line.change(to_seven())
    assert (report.status, report.seen_at) == ("rolled_back", Place(1, LINK))
    assert [words for _, _, words in line.meters[0].written] == [floated(7), floated(1)]
    line.meters[0].power_cycle()
    assert line.meters[0].device_id == 1


def test_an_old_setting_that_does_not_go_back_is_told() -> None:
    meter = FakeMeter(obeys="never")

    def spoil(request: Request, answer: bytes) -> bytes:
        return (
            b""
            if request.is_write and len(meter.written) > 1 and meter.settings.update({20: floated(7)}) is None
            else answer
        )

    report = Line([meter], spoil=spoil).change(to_seven())
    assert (report.status, report.seen_at) == ("rollback_failed", Place(1, LINK))


def test_a_meter_that_refuses_is_left_as_it_is() -> None:
    line = Line([FakeMeter(obeys="refuses")])
    report = line.change(to_seven())
    assert (report.status, report.reason) == ("refused", "exception_3")
    assert len(line.meters[0].written) == 1


def test_a_meter_that_answers_nowhere_is_lost_and_nothing_more_is_written() -> None:
    line = Line([FakeMeter(obeys="dies")])
    assert line.change(to_seven()).status == "lost"
    assert len(line.meters[0].written) == 1


def test_another_device_at_the_new_place_is_not_touched() -> None:
    stranger, meter = FakeMeter(device_id=7, serial=1, silent=True), FakeMeter(obeys="never")

    def wake(waited_s: float) -> None:
        stranger.silent = False

    line = Line([stranger, meter], in_pause=wake)
    assert line.change(to_seven()).status == "other_device"
    assert stranger.written == []
    assert len(meter.written) == 1


def test_nothing_is_written_while_the_new_address_is_taken() -> None:
    line = Line([FakeMeter(), FakeMeter(device_id=7, serial=2)])
    assert refused(line, to_seven()) == "target_taken"
    assert not any(request.is_write for request in line.asked)


def test_nothing_is_written_while_two_devices_share_the_address() -> None:
    line = Line([FakeMeter(serial=1), FakeMeter(serial=2)])
    assert refused(line, to_seven()) == "shared_address"
    assert not any(request.is_write for request in line.asked)


def test_nothing_is_written_on_a_line_that_loses_answers() -> None:
    count = 0

    def spoil(request: Request, answer: bytes) -> bytes:
        nonlocal count
        count += 1
        return b"" if count % 5 == 4 else answer

    line = Line([FakeMeter()], spoil=spoil)
    assert refused(line, to_seven()) == "unreliable_line"
    assert not any(request.is_write for request in line.asked)


def test_nothing_is_written_to_nobody_and_to_no_other_model() -> None:
    assert refused(Line([]), to_seven()) == "nobody_there"
    line = Line([FakeMeter()])
    assert refused(line, plan_address(EM111, Place(1, LINK), 7)) == "not_this_model"
    assert not any(request.is_write for request in line.asked)


def test_without_a_serial_number_the_energy_register_is_the_witness() -> None:
    pzem = load_model("peacefair_pzem016")
    place = Place(7, LINK)
    plan = plan_address(pzem, Place(1, LINK), 7)
    words = {(4, 0): 2300, (4, 5): 1234, (4, 6): 0}

    def answer(request: Request, energy: int) -> bytes:
        registers = words | {(4, 5): energy}
        found = [registers.get((request.function_code, request.address + index), 0) for index in range(request.count)]
        data = struct.pack(f">{len(found)}H", *found)
        return framed(bytes((request.device_id, request.function_code, len(data))) + data)

    sights = {
        energy: Line([], spoil=lambda request, _, energy=energy: answer(request, energy)).run(  # type: ignore[misc]
            look(RTU, plan, place, Witness({}, None, Decimal("1.234")))
        )
        for energy in (1233, 1234, 1300, 20_000)
    }
    assert sights == {1233: "other", 1234: "same", 1300: "same", 20_000: "other"}
    assert Line([]).run(look(RTU, plan, place, Witness({}, None, Decimal(1)))) == "nobody"


@pytest.mark.parametrize(
    ("model_id", "code"),
    [
        ("hiking_dds238_2", "setting_in_words"),
        ("acrel_ddsy1352", "setting_in_words"),
        ("abb_b23", "no_such_setting"),
        ("schneider_iem3155", "no_such_setting"),
        ("acrel_dtsy1352", "model_unusable"),
        ("relay_board_8ch", "model_unusable"),
    ],
)
def test_a_model_without_a_register_for_it_is_not_written(model_id: str, code: str) -> None:
    with pytest.raises(CannotChange) as refusal:
        plan_address(load_model(model_id), Place(1, LINK), 7)
    assert refusal.value.code == code


@pytest.mark.parametrize(
    ("model_id", "baud", "code"),
    [
        ("fineco_em115", 19200, "baud_numbers_unknown"),
        ("chint_ddsu666", 4800, "setting_unverified"),
        ("eastron_sdm120", 115_200, "baud_unknown"),
        ("eastron_sdm120", 9600, "nothing_to_change"),
        ("peacefair_pzem016", 4800, "no_such_setting"),
    ],
)
def test_a_speed_that_the_model_file_does_not_name_is_not_written(model_id: str, baud: int, code: str) -> None:
    with pytest.raises(CannotChange) as refusal:
        plan_baud(load_model(model_id), Place(1, LINK), baud)
    assert refusal.value.code == code


def test_only_the_settings_of_the_model_file_are_ever_built_as_a_write() -> None:
    """Every model, both settings: function code and address are those of its file, and none is forbidden."""
    built = 0
    for model in map(load_model, known_models()):
        for make, targets in ((plan_address, (2, 247)), (plan_baud, model.link.bauds)):
            for target in targets:
                try:
                    plan = make(model, Place(1, Link(model.link.default_baud, "8N1")), target)
                except CannotChange:
                    continue
                known = {
                    (row.write_function_code, row.address, row.count)
                    for name, row in model.settings.items()
                    if name in ("address", "baud", "unlock")
                }
                for request in all_writes(plan, RTU):
                    built += 1
                    assert (request.function_code, request.address, request.count) in known
                    assert request.device_id == 1
                    assert not any(
                        row.function_code in (None, request.function_code)
                        and request.address < row.address + row.count
                        and row.address < request.address + request.count
                        for row in model.write_forbidden
                    )
    assert built > 50


def test_a_forbidden_register_cannot_be_built_even_if_a_file_named_it() -> None:
    model = replace(SDM120, write_forbidden=(ForbiddenWrite(20, 2, "erases the counter"),))
    with pytest.raises(AssertionError, match="erases the counter"):
        writes(plan_address(model, Place(1, LINK), 7), RTU, 7)


@pytest.mark.parametrize("new_id", [0, 1, 248])
def test_an_address_out_of_range_or_the_same_is_refused(new_id: int) -> None:
    with pytest.raises(CannotChange):
        plan_address(SDM120, Place(1, LINK), new_id)
