"""The scan without a port: a table answers its questions, so every fault can be put where it is wanted."""

import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest

from edge.bus.frame import MBAP, RTU, Framing, Request, crc16
from edge.bus.scan import FIRST_IDS, ScanOrder, all_bauds, factory_links, measured_timeout_s, scan
from edge.bus.scan_models import DeviceReader, key_points, recognise
from edge.bus.scan_records import (
    Diagnosis,
    Exchange,
    Found,
    Link,
    LinkUnusable,
    Listen,
    Note,
    Open,
    Question,
    ScanReport,
    Talk,
    percentile,
)
from edge.bus.scan_wiring import answers_in, foreign_frames
from edge.meters.model import MeterModel, Point, Register, known_models, load_model
from edge.meters.point import BCD_TYPES, BINARY_TYPES, MOD10_TYPES

LINK, SLOW, FAST = Link(9600, "8N1"), Link(2400, "8N1"), Link(19200, "8N1")
MODELS = tuple(model for model in map(load_model, known_models()) if model.protocol == "modbus")
METERS = tuple(model for model in MODELS if model.points)
Device = Callable[[Request], bytes]


def framed(body: bytes) -> bytes:
    return body + crc16(body).to_bytes(2, "little")


def refusal(request: Request, code: int = 2) -> bytes:
    return framed(bytes((request.device_id, request.function_code | 0x80, code)))


def image_of(registers: dict[tuple[int, int], int], lowest_hole: int = 2) -> Device:
    """A device with these registers, (function code, address): word; it refuses every other address."""

    def answer(request: Request) -> bytes:
        places = [(request.function_code, request.address + index) for index in range(request.count)]
        if not all(place in registers for place in places):
            return refusal(request, lowest_hole)
        words = struct.pack(f">{len(places)}H", *(registers[place] for place in places))
        return framed(bytes((request.device_id, request.function_code, len(words))) + words)

    return answer


def eastron(serial: int = 4711, model_code: int | None = None, phases: int = 1) -> dict[tuple[int, int], int]:
    """What Eastron meters have in common, in two-register floats from address 0 on."""
    values = dict.fromkeys(range(0, 80, 2), 0.0) | {0: 230.5, 70: 50.0, 72: 1234.5, 342: 1234.5}
    if phases == 3:
        values |= {2: 231.0, 4: 229.0}
    registers: dict[tuple[int, int], int] = {}
    for address, value in values.items():
        high, low = struct.unpack(">2H", struct.pack(">f", value))
        registers |= {(4, address): high, (4, address + 1): low}
    registers |= {(3, 64512): serial >> 16, (3, 64513): serial & 0xFFFF}
    if model_code is not None:
        registers[3, 64514] = model_code
    return registers


@dataclass
class Table:
    """Answers a scan's steps. `spoil` may change what comes back; `heard` is what nobody asked for."""

    devices: dict[tuple[Link, int], Device] = field(default_factory=dict)
    framing: Framing = RTU
    spoil: Callable[[Link, Request, bytes], bytes] = lambda link, request, answer: answer
    heard: Callable[[Link], bytes] = lambda link: b""
    unusable: tuple[Link, ...] = ()
    latency_ms: Callable[[Request], float] = lambda request: 12.0
    asked: list[tuple[Link, Request]] = field(default_factory=list)
    opened: list[Open] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    def run(self, talk: Talk[Any]) -> Any:
        came: Exchange | bytes | None = None
        problem: LinkUnusable | None = None
        while True:
            try:
                step = talk.send(came) if problem is None else talk.throw(problem)
            except StopIteration as end:
                return end.value
            came, problem = None, None
            match step:
                case Open():
                    self.opened.append(step)
                    problem = LinkUnusable(22, "no such parity") if step.link in self.unusable else None
                case Listen():
                    came = self.heard(self.opened[-1].link)
                case Note():
                    self.notes.append(step)
                case Question():
                    came = self.exchange(self.opened[-1].link, step.request)

    def exchange(self, link: Link, request: Request) -> Exchange:
        self.asked.append((link, request))
        device = self.devices.get((link, request.device_id))
        received = self.spoil(link, request, device(request) if device else b"")
        latency = self.latency_ms(request) if received else None
        framing = self.framing
        if not received:
            return Exchange(request, "timeout", (), b"", None)
        if framing.first_failure(request, request.frame, received) is not None:
            return Exchange(request, framing.diagnose(request, request.frame, received), (), received, latency)
        exception = framing.exception(request, received)
        if exception is not None:
            return Exchange(request, f"exception_{exception}", (), received, latency)
        return Exchange(request, None, framing.words(request, received), received, latency)

    def scan(self, *links: Link, ids: tuple[int, ...] = tuple(range(1, 31)), **more: Any) -> ScanReport:
        order = ScanOrder(self.framing, links or (LINK,), ids, more.pop("models", MODELS), **more)
        report: ScanReport = self.run(scan(order))
        return report


def row(report: ScanReport, device_id: int) -> Found:
    return next(found for found in report.found if found.device_id == device_id)


def diagnosis(report: ScanReport, code: str) -> Diagnosis:
    return next(found for found in report.diagnoses if found.code == code)


def codes(report: ScanReport) -> list[str]:
    return [found.code for found in report.diagnoses]


# --- who is asked, and when -------------------------------------------------------------------


def test_common_ids_are_asked_at_every_link_before_any_other_id() -> None:
    table = Table()
    table.scan(LINK, SLOW, ids=tuple(range(1, 248)))
    order = [(link, request.device_id) for link, request in table.asked]
    first = {*FIRST_IDS, 126}
    quick = order[: next(index for index, (_, device_id) in enumerate(order) if device_id not in first)]
    assert {link for link, _ in quick} == {LINK, SLOW}
    assert {device_id for _, device_id in quick} == first
    assert set(order) == {(link, number) for link in (LINK, SLOW) for number in range(1, 248)}


def test_no_id_is_asked_twice_for_the_same_thing() -> None:
    table = Table()
    table.scan(LINK, ids=tuple(range(1, 60)))
    times = Counter((request.device_id, request.function_code) for _, request in table.asked)
    assert set(times.values()) == {1}


def test_a_scan_only_ever_reads() -> None:
    devices: dict[tuple[Link, int], Device] = {(LINK, 1): image_of(eastron()), (LINK, 2): image_of(eastron(phases=3))}
    table = Table(devices, spoil=lambda link, request, answer: answer[:-1] if request.device_id == 2 else answer)
    table.scan()
    assert {request.function_code for _, request in table.asked} <= {1, 2, 3, 4}
    assert not any(request.is_write for _, request in table.asked)


def test_the_full_pass_waits_as_long_as_measured_answers_need() -> None:
    table = Table({(LINK, 1): image_of(eastron())}, latency_ms=lambda request: 60.0)
    table.scan(LINK, SLOW, ids=tuple(range(1, 40)))
    full = [step.timeout_s for step in table.opened if step.link == LINK][1]
    unmeasured = [step.timeout_s for step in table.opened if step.link == SLOW][1]
    assert full == pytest.approx(0.17)
    assert unmeasured == pytest.approx(0.2)


@pytest.mark.parametrize(("latencies", "expected"), [([], 0.2), ([1.0], 0.06), ([40.0, 80.0], 0.22), ([900.0], 0.5)])
def test_a_measured_timeout_has_a_floor_and_a_ceiling(latencies: list[float], expected: float) -> None:
    assert measured_timeout_s(latencies, 0.2) == pytest.approx(expected)


def test_who_answers_too_late_is_asked_again_with_time() -> None:
    """The answer of 12 comes while 13 is asked: neither of them is lost."""
    late: list[bytes] = []

    def spoil(link: Link, request: Request, answer: bytes) -> bytes:
        if table.opened[-1].timeout_s >= 0.5:
            return answer
        came = late.pop() if late else answer
        if request.device_id == 12:
            late.append(answer)
            return b""
        return came

    devices: dict[tuple[Link, int], Device] = {(LINK, number): image_of(eastron(number)) for number in (12, 13)}
    table = Table(devices, spoil=spoil)
    assert [found.device_id for found in table.scan().found] == [12, 13]


def test_a_quick_scan_ends_after_the_common_ids() -> None:
    table = Table()
    report = table.scan(LINK, ids=tuple(range(1, 248)), quick_only=True)
    assert {request.device_id for _, request in table.asked} == {*FIRST_IDS, 126}
    assert report.complete


def test_given_first_ids_are_the_ones_that_are_asked() -> None:
    table = Table()
    table.scan(LINK, ids=(40, 41), first_ids=(40, 41), quick_only=True)
    assert {request.device_id for _, request in table.asked} == {40, 41}


def test_a_link_the_port_cannot_take_is_named_and_the_others_are_scanned() -> None:
    table = Table({(LINK, 3): image_of(eastron())}, unusable=(FAST,))
    report = table.scan(FAST, LINK)
    assert (report.unusable, [found.device_id for found in report.found]) == ((FAST,), [3])


def test_a_port_that_takes_no_link_at_all_is_an_error() -> None:
    with pytest.raises(LinkUnusable):
        Table(unusable=(FAST,)).scan(FAST)


def test_a_meter_that_answers_at_two_links_is_one_meter() -> None:
    both = image_of(eastron(99))
    report = Table({(LINK, 3): both, (Link(9600, "8N2"), 3): both}).scan(LINK, Link(9600, "8N2"))
    assert [(found.device_id, found.link, found.also_at) for found in report.found] == [(3, LINK, (Link(9600, "8N2"),))]


def test_two_meters_with_one_id_at_two_speeds_are_two() -> None:
    report = Table({(LINK, 3): image_of(eastron(99)), (SLOW, 3): image_of(eastron(98))}).scan(LINK, SLOW)
    assert [(found.link, found.recognition.identity["serial"]) for found in report.found] == [
        (LINK, "99"),
        (SLOW, "98"),
    ]


def test_factory_links_are_those_of_the_models_most_frequent_first() -> None:
    links = factory_links(MODELS)
    assert links[0] == LINK
    assert {(model.link.default_baud, model.link.default_format) for model in MODELS} == {
        (link.baud, link.format) for link in links
    }
    assert all_bauds(MODELS)[0] == 9600
    assert {1200, 2400, 115200} <= set(all_bauds(MODELS))


def test_progress_tells_phase_and_counts() -> None:
    table = Table({(LINK, 3): image_of(eastron())})
    table.scan(LINK, ids=tuple(range(1, 60)))
    assert [note.phase for note in table.notes if note.done == 0] == ["quick", "full", "recognise"]
    assert all(0 <= note.done < note.total for note in table.notes)


# --- which model it is -------------------------------------------------------------------------


def test_an_expected_identity_recognises_the_model_for_certain() -> None:
    found = row(Table({(LINK, 1): image_of(eastron(4711, model_code=32))}).scan(), 1)
    assert (found.recognition.models, found.recognition.confidence) == (("eastron_sdm120",), "certain")
    assert found.recognition.identity["serial"] == "4711"


def test_another_identity_proves_nothing_and_several_models_are_listed() -> None:
    found = row(Table({(LINK, 1): image_of(eastron(model_code=77))}).scan(), 1)
    assert found.recognition.confidence == "possible"
    assert len(found.recognition.models) > 1
    assert "eastron_sdm120" in found.recognition.models
    assert found.recognition.evidence["eastron_sdm120"]["model_code"] == "other"


def test_three_phases_with_voltage_are_not_a_single_phase_meter() -> None:
    everything = eastron(phases=3) | {(4, address): 0 for address in range(80, 400) if address not in (342, 343)}
    found = row(Table({(LINK, 1): image_of(everything)}).scan(), 1)
    assert {load_model(name).phases for name in found.recognition.models} == {3}


def test_an_identity_with_impossible_values_is_not_certain() -> None:
    registers = eastron(model_code=32) | {(4, 0): 0, (4, 1): 0}
    found = row(Table({(LINK, 1): image_of(registers)}).scan(), 1)
    assert (found.recognition.models, found.recognition.confidence) == (("eastron_sdm120",), "probable")
    assert found.recognition.evidence["eastron_sdm120"]["voltage_l1"] == "implausible"


@pytest.mark.parametrize(("address", "value"), [(0, 400.0), (0, 12.0), (70, 30.0), (70, 400.0), (72, -1.0), (72, 1e9)])
def test_a_value_that_cannot_be_rules_a_model_out(address: int, value: float) -> None:
    high, low = struct.unpack(">2H", struct.pack(">f", value))
    found = row(Table({(LINK, 1): image_of(eastron() | {(4, address): high, (4, address + 1): low})}).scan(), 1)
    assert found.recognition.models == ()
    assert found.recognition.confidence is None


def test_a_device_of_no_known_model_is_found_and_not_named() -> None:
    found = row(Table({(LINK, 9): refusal}).scan(), 9)
    assert (found.recognition.models, found.health.errors) == ((), {})


def encoded(place: Point | Register, value: Decimal) -> list[int]:
    """A value as the registers of its type hold it."""
    number = value / place.scale
    if place.type in BINARY_TYPES:
        count, form = BINARY_TYPES[place.type]
        raw = struct.pack(form, float(number) if "f" in place.type else int(number))
        words = list(struct.unpack(f">{count}H", raw))
    else:
        count = (BCD_TYPES | MOD10_TYPES)[place.type]
        digits = f"{int(number):0{4 * count}d}"
        base = 16 if place.type in BCD_TYPES else 10
        words = [int(digits[4 * index : 4 * index + 4], base) for index in range(count)]
    return words if place.order == "msw" else words[::-1]


def image_of_model(model: MeterModel) -> dict[tuple[int, int], int]:
    """A device just as the model's file describes it, under voltage."""
    of_unit = {"V": Decimal(231), "Hz": Decimal(50), "kWh": Decimal(1234)}
    registers: dict[tuple[int, int], int] = {}
    for point in model.points.values():
        words = encoded(point, of_unit.get(point.unit, Decimal(0)))
        registers |= {(point.function_code, point.address + index): word for index, word in enumerate(words)}
    for register in model.identity.values():
        assert register.function_code is not None
        words = [0] * register.count
        if register.expect and isinstance(register.expect[0], str):
            raw = register.expect[0].encode().ljust(2 * register.count)
            words = list(struct.unpack(f">{register.count}H", raw))
        elif register.expect:
            words = encoded(register, Decimal(register.expect[0]))
        registers |= {(register.function_code, register.address + index): word for index, word in enumerate(words)}
    return registers


@pytest.mark.parametrize("model", METERS, ids=lambda model: model.id)
def test_a_device_that_is_as_its_model_file_says_is_recognised(model: MeterModel) -> None:
    table = Table({(LINK, 5): image_of(image_of_model(model))})
    table.opened.append(Open(LINK, 0.5, 0.5))
    recognition = table.run(recognise(RTU, 5, MODELS))
    assert model.id in recognition.models
    assert (len(recognition.models) == 1) == (recognition.confidence in ("certain", "probable"))


def test_most_models_are_told_apart_from_all_others() -> None:
    alone = []
    for model in METERS:
        table = Table({(LINK, 5): image_of(image_of_model(model))})
        table.opened.append(Open(LINK, 0.5, 0.5))
        alone += [model.id] if table.run(recognise(RTU, 5, MODELS)).models == (model.id,) else []
    assert len(alone) >= 20


def test_each_place_is_read_once_whatever_number_of_models_wants_it() -> None:
    table = Table({(LINK, 5): image_of(eastron())})
    table.opened.append(Open(LINK, 0.5, 0.5))
    table.run(recognise(RTU, 5, MODELS))
    times = Counter((request.function_code, request.address, request.count) for _, request in table.asked)
    assert max(times.values()) == 1


def test_a_function_code_that_is_never_answered_is_given_up() -> None:
    def only_holding(request: Request) -> bytes:
        return refusal(request) if request.function_code == 3 else b""

    table = Table({(LINK, 5): only_holding})
    table.opened.append(Open(LINK, 0.5, 0.5))
    reader = DeviceReader(RTU, 5)
    reasons = [table.run(reader.words(4, address, 2, 0.0)) for address in range(0, 20, 2)]
    assert reasons == ["timeout"] * 10
    assert len(table.asked) == 4


@pytest.mark.parametrize("model_id", ["chint_ddsu666", "hiking_dds238_2", "wago_879_30x0", "eastron_sdm120"])
def test_a_device_that_says_nothing_where_it_has_nothing_is_recognised(model_id: str) -> None:
    registers = image_of_model(load_model(model_id)) | {(3, 0): 1, (3, 1): 1}
    loud = image_of(registers)

    def silent(request: Request) -> bytes:
        answer = loud(request)
        return b"" if answer[1] & 0x80 else answer

    found = row(Table({(LINK, 5): silent}).scan(), 5)
    assert model_id in found.recognition.models
    assert found.recognition.confidence is not None


def test_every_model_is_judged_by_voltage_and_the_register_that_is_charged() -> None:
    for model in METERS:
        names = [point.name for point in key_points(model)]
        assert names[0] == "voltage_l1"
        assert names[-1] == model.money_point


# --- two on one address ------------------------------------------------------------------------


def test_two_answers_to_one_question_are_two_devices() -> None:
    one, other = image_of(eastron(1)), image_of(eastron(2))
    report = Table({(LINK, 4): lambda request: one(request) + other(request)}).scan()
    found = diagnosis(report, "two_on_one_address")
    assert (found.confidence, found.device_id) == ("certain", 4)
    assert found.evidence["two_answers_to_one_question"] > 0


def test_a_serial_number_that_changes_is_two_devices() -> None:
    takes = [image_of(eastron(1)), image_of(eastron(2))]

    def either(request: Request) -> bytes:
        takes.reverse()
        return takes[0](request)

    found = diagnosis(Table({(LINK, 4): either}).scan(), "two_on_one_address")
    assert (found.confidence, found.evidence["different_serials"]) == ("certain", 1)


def test_spoiled_answers_at_one_address_of_a_clean_line_are_probably_two_devices() -> None:
    devices: dict[tuple[Link, int], Device] = {(LINK, number): image_of(eastron(number)) for number in (3, 4, 5)}

    def spoil(link: Link, request: Request, answer: bytes) -> bytes:
        return (
            bytes((answer[0], *(byte & 0x5A for byte in answer[1:]))) if request.device_id == 4 and answer else answer
        )

    report = Table(devices, spoil=spoil).scan()
    found = diagnosis(report, "two_on_one_address")
    assert (found.confidence, found.device_id, found.evidence["others_failed"]) == ("probable", 4, 0)
    assert {found.device_id for found in report.found} == {3, 4, 5}


def collided(request: Request, *devices: Device) -> bytes:
    """Two drivers on one pair: a zero of either wins."""
    frames = [device(request) for device in devices]
    return bytes(byte & other for byte, other in zip(*frames, strict=True))


def test_garbage_from_the_only_address_of_a_quiet_line_may_be_two_new_meters() -> None:
    one, other = image_of(eastron(0x1234_5678)), image_of(eastron(0x6F0F_3C21) | {(4, 1): 0x7777})
    devices: dict[tuple[Link, int], Device] = {
        (LINK, 1): lambda request: collided(request, one, other) if request.address else b"\x01\x03\x00\x11"
    }
    report = Table(devices).scan()
    found = diagnosis(report, "two_on_one_address")
    assert (found.confidence, found.device_id, found.evidence["others_asked"]) == ("possible", 1, 0)
    noisy = Table(devices, heard=lambda link: b"\x91\x02\xfe").scan()
    assert "two_on_one_address" not in codes(noisy)


def test_a_line_that_spoils_everybody_is_no_second_device() -> None:
    devices: dict[tuple[Link, int], Device] = {(LINK, number): image_of(eastron(number)) for number in (3, 4, 5)}
    count = 0

    def spoil(link: Link, request: Request, answer: bytes) -> bytes:
        nonlocal count
        count += 1
        return answer[:-1] + bytes((answer[-1] ^ 1,)) if count % 3 == 0 and answer else answer

    assert "two_on_one_address" not in codes(Table(devices, spoil=spoil).scan())


# --- wires ---------------------------------------------------------------------------------------


def test_a_line_without_a_byte_is_silent_and_nothing_else() -> None:
    report = Table().scan()
    assert codes(report) == ["silent_line"]
    assert diagnosis(report, "silent_line").evidence == {"asked": 32, "links": 1}


def test_inverted_answers_are_crossed_wires_for_certain() -> None:
    def spoil(link: Link, request: Request, answer: bytes) -> bytes:
        return bytes(byte ^ 0xFF for byte in answer)

    devices: dict[tuple[Link, int], Device] = {(LINK, number): image_of(eastron(number)) for number in range(1, 7)}
    report = Table(devices, spoil=spoil).scan()
    found = diagnosis(report, "swapped_wires")
    assert (found.confidence, report.found, report.complete) == ("certain", (), False)
    assert found.evidence["inverted_frames"] >= 2


def test_garbage_at_every_speed_is_probably_crossed_wires() -> None:
    table = Table(spoil=lambda link, request, answer: b"\x7f\x00\xd5")
    report = table.scan(LINK, SLOW, FAST, ids=tuple(range(1, 248)))
    found = diagnosis(report, "swapped_wires")
    assert (found.confidence, found.evidence["links"], report.complete) == ("probable", 3, False)
    assert {request.device_id for _, request in table.asked} == {*FIRST_IDS, 126}


def test_garbage_at_the_only_speed_that_was_tried_may_be_the_speed() -> None:
    report = Table(spoil=lambda link, request, answer: b"\x7f\x00\xd5").scan()
    assert codes(report) == ["garbled_answers"]


def test_a_pair_that_idles_as_a_break_is_probably_crossed() -> None:
    report = Table(heard=lambda link: bytes(30)).scan()
    assert codes(report) == ["swapped_wires"]
    assert diagnosis(report, "swapped_wires").evidence["unasked_zero_bytes"] == 30


def test_noise_with_nobody_asked_is_noise() -> None:
    report = Table({(LINK, 1): image_of(eastron(model_code=32))}, heard=lambda link: b"\x91\x02\xfe\x33").scan()
    assert codes(report) == ["noise"]
    assert diagnosis(report, "noise").evidence == {"unasked_bytes": 4, "links_noisy": 1, "links_heard": 1}


def test_one_stray_byte_is_no_noise() -> None:
    report = Table({(LINK, 1): image_of(eastron(model_code=32))}, heard=lambda link: b"\xfe").scan()
    assert codes(report) == []


def test_somebody_elses_conversation_is_another_master() -> None:
    heard = RTU.read(7, 4, 0, 2).frame + framed(b"\x07\x04\x04\x43\x66\x80\x00")
    report = Table(heard=lambda link: heard).scan()
    assert codes(report) == ["another_master"]
    assert diagnosis(report, "another_master").evidence["foreign_frames"] == 2


def test_an_adapter_that_hears_itself_is_named_and_the_full_pass_left_out() -> None:
    devices: dict[tuple[Link, int], Device] = {(LINK, 2): image_of(eastron())}
    table = Table(devices, spoil=lambda link, request, answer: request.frame + answer)
    report = table.scan(ids=tuple(range(1, 248)))
    assert codes(report) == ["local_echo"]
    assert diagnosis(report, "local_echo").evidence["answers_behind_echo"] > 0
    assert not report.complete


def test_a_few_bytes_behind_good_answers_are_a_missing_termination() -> None:
    table = Table(
        {(LINK, 1): image_of(eastron(model_code=32))},
        spoil=lambda link, request, answer: answer + b"\xff\xfe" if answer else answer,
    )
    report = table.scan()
    found = diagnosis(report, "no_termination")
    assert found.evidence["answers_with_a_tail"] >= 8
    assert "two_on_one_address" not in codes(report)


def test_long_answers_that_fail_where_short_ones_do_not_are_a_missing_termination() -> None:
    table = Table(
        {(LINK, 1): image_of(eastron(model_code=32))},
        spoil=lambda link, request, answer: answer[:-1] + b"\x00" if len(answer) > 30 else answer,
    )
    found = diagnosis(table.scan(), "no_termination")
    assert (found.evidence["short_failed"], found.evidence["long_failed"]) == (0, 8)


def test_errors_that_rise_with_the_speed_are_a_missing_termination() -> None:
    count = 0

    def spoil(link: Link, request: Request, answer: bytes) -> bytes:
        nonlocal count
        count += 1
        return answer[:-1] + bytes((answer[-1] ^ 1,)) if link == FAST and count % 2 and answer else answer

    devices: dict[tuple[Link, int], Device] = {
        (SLOW, 1): image_of(eastron(1, model_code=32)),
        (FAST, 2): image_of(eastron(2, model_code=32)),
    }
    report = Table(devices, spoil=spoil).scan(SLOW, FAST)
    found = diagnosis(report, "no_termination")
    assert found.evidence["error_percent_at_lowest_speed"] == 0
    assert found.evidence["error_percent_at_highest"] >= 25


def test_a_clean_line_has_no_diagnosis() -> None:
    devices: dict[tuple[Link, int], Device] = {(LINK, number): image_of(eastron(number)) for number in range(1, 9)}
    assert codes(Table(devices).scan()) == []


def test_frames_are_found_only_where_a_length_fits() -> None:
    request = RTU.read(1, 4, 0, 2)
    good = framed(b"\x01\x04\x04\x43\x66\x80\x00")
    assert answers_in(request, b"\x00" + good + b"\xff" + good) == (good, good)
    assert answers_in(request, good[:-1]) == ()
    assert foreign_frames(b"\x00\x01" + request.frame + b"\x55") == (request.frame,)
    assert foreign_frames(bytes(range(64))) == ()


# --- Modbus TCP ------------------------------------------------------------------------------------


def tcp(pdu: Callable[[Request], bytes]) -> Device:
    def answer(request: Request) -> bytes:
        body = bytes((request.device_id,)) + pdu(request)
        return request.frame[:4] + struct.pack(">H", len(body)) + body

    return answer


@pytest.mark.parametrize("code", [4, 10, 11])
def test_a_gateway_that_says_nobody_is_there_is_believed(code: int) -> None:
    device = tcp(lambda request: bytes((request.function_code | 0x80, code)))
    behind = Link(9600, "")
    report = Table({(behind, number): device for number in range(1, 31)}, framing=MBAP).scan(behind)
    assert report.found == ()


def test_a_device_that_says_it_has_failed_is_there_on_a_wire_of_our_own() -> None:
    report = Table({(LINK, 9): lambda request: refusal(request, 4)}).scan()
    assert [found.device_id for found in report.found] == [9]


def test_a_server_that_answers_for_every_id_is_named_and_looked_at_once() -> None:
    device = tcp(lambda request: bytes((request.function_code | 0x80, 2)))
    table = Table({(LINK, number): device for number in range(1, 31)}, framing=MBAP)
    report = table.scan()
    assert "answers_every_address" in codes(report)
    assert len({request.device_id for _, request in table.asked if request.count != 2 or request.address}) == 1


@pytest.mark.parametrize(("percent", "expected"), [(50, 3.0), (95, 5.0), (100, 5.0), (1, 1.0)])
def test_percentiles_are_nearest_ranks(percent: int, expected: float) -> None:
    assert percentile((1.0, 2.0, 3.0, 4.0, 5.0), percent) == expected
    assert percentile((), percent) is None
