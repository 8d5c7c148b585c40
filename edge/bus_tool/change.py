"""Gives a meter another address or baud rate with a witness before and after, or puts it back. No I/O and no clock.

Only registers that the model's file names under `settings` as `address`, `baud` and `unlock` are ever built as a
write, with the function code it names, and never where it forbids one. The meter is known again by its serial number,
else by its energy register, which nothing here can change. Steps as in edge/bus/scan_records.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Final, Literal

from edge.bus.frame import FRAMINGS, Framing, Request
from edge.bus.scan import answer_s_of, careful, examine
from edge.bus.scan_records import Exchange, Link, Listen, Talk, ask
from edge.bus.scan_wiring import shared_address
from edge.meters.model import MeterModel, Register, ValueRefused

Status = Literal["confirmed", "rolled_back", "refused", "lost", "other_device", "rollback_failed"]
Sight = Literal["same", "other", "nobody", "unreadable"]
_WRITABLE: Final = ("unlock", "address", "baud")
_LOOKS_MIN: Final = 3
_LOOK_EVERY_S: Final = 1.0
_TARGET_TRIES: Final = 3
_ENERGY_KWH_MAX: Final = Decimal(10)  # more than a meter counts while its address is changed


class CannotChange(ValueError):
    """Why this change is not made: a code of the catalogue with its values."""

    def __init__(self, code: str, **values: object) -> None:
        super().__init__(code)
        self.code, self.values = code, values


@dataclass(frozen=True, slots=True)
class Place:
    """Where a meter answers."""

    device_id: int
    link: Link


@dataclass(frozen=True, slots=True)
class Witness:
    """What a meter is known again by."""

    identity: Mapping[str, str]
    serial: str | None
    energy: Decimal | None  # of the register that is charged, in its unit


@dataclass(frozen=True, slots=True)
class ChangePlan:
    """One change, ready to be made. All of it is written at `before`."""

    model: MeterModel
    setting: Literal["address", "baud"]
    before: Place
    after: Place
    number: int  # what is written for the new setting
    old_number: int | None  # what puts the old one back; None where the model's file does not say
    answer_s: float  # how long an answer may take

    @property
    def activation(self) -> str | None:
        """What the model wants besides the write."""
        return self.model.commissioning.activation


@dataclass(slots=True)
class ChangeReport:
    """What became of it."""

    status: Status
    reason: str | None = None  # of the write that failed
    seen_at: Place | None = None
    identity: Mapping[str, str] = field(default_factory=dict)


def plan_address(model: MeterModel, before: Place, new_id: int) -> ChangePlan:
    """The change of an address. Raises CannotChange."""
    register = _setting(model, "address")
    low, high = register.low or 1, register.high or 247
    if not low <= new_id <= high:
        raise CannotChange("address_out_of_range", model=model.id, low=low, high=high)
    if new_id == before.device_id:
        raise CannotChange("nothing_to_change")
    after = replace(before, device_id=new_id)
    return ChangePlan(model, "address", before, after, new_id, before.device_id, answer_s_of((model,)))


def plan_baud(model: MeterModel, before: Place, new_baud: int) -> ChangePlan:
    """The change of a baud rate. Raises CannotChange."""
    register = _setting(model, "baud")
    numbers = _numbers_of_bauds(register)
    if not numbers:
        raise CannotChange("baud_numbers_unknown", model=model.id)
    if new_baud not in numbers:
        allowed = ", ".join(map(str, sorted(numbers)))
        raise CannotChange("baud_unknown", model=model.id, baud=new_baud, allowed=allowed)
    if new_baud == before.link.baud:
        raise CannotChange("nothing_to_change")
    after = replace(before, link=replace(before.link, baud=new_baud))
    return ChangePlan(
        model, "baud", before, after, numbers[new_baud], numbers.get(before.link.baud), answer_s_of((model,))
    )


def writes(plan: ChangePlan, framing: Framing, number: int) -> tuple[Request, ...]:
    """What is written at the old place to set `number`: a password where the model has one, then the setting."""
    device_id, settings = plan.before.device_id, plan.model.settings
    unlock = settings.get("unlock")
    requests = []
    if unlock is not None and unlock.write_value is not None:
        requests.append(_write(plan.model, framing, device_id, "unlock", unlock.write_value))
    return (*requests, _write(plan.model, framing, device_id, plan.setting, number))


def all_writes(plan: ChangePlan, framing: Framing) -> tuple[Request, ...]:
    """Everything this change may ever write, putting it back included."""
    back = () if plan.old_number is None else writes(plan, framing, plan.old_number)
    return (*writes(plan, framing, plan.number), *back)


def take_witness(framing: Framing, plan: ChangePlan) -> Talk[Witness]:
    """Reads who is there before anything is written. Raises CannotChange if it is not sure who that is."""
    model, place = plan.model, plan.before
    yield careful(place.link, plan.answer_s)
    money = _money_request(framing, model, place)
    recognition, health = yield from examine(framing, place.link, place.device_id, money, (model,))
    if not any(row.answered or row.garbled for row in health.all):
        raise CannotChange("nobody_there", id=place.device_id)
    if shared_address(health, (), FRAMINGS[framing.name]) is not None:
        raise CannotChange("shared_address", id=place.device_id)
    if health.errors:
        failed, asked = sum(health.errors.values()), len(health.all)
        raise CannotChange("unreliable_line", failed=failed, asked=asked, errors=", ".join(health.errors))
    if not recognition.models:
        raise CannotChange("not_this_model", id=place.device_id, model=model.id)
    exchange = yield from _twice(money, model)
    yield from _check_target(framing, plan)
    return Witness(recognition.identity, recognition.identity.get("serial"), _decoded(model, exchange))


def carry_out(framing: Framing, plan: ChangePlan, witness: Witness, wait_s: float) -> Talk[ChangeReport]:
    """Writes, looks for the meter at its new place, and puts the old setting back if it does not come."""
    yield careful(plan.before.link, plan.answer_s)
    for request in writes(plan, framing, plan.number):
        exchange = yield from ask(request, plan.model.link.min_gap_ms / 1000)
        if exchange.reason is not None and exchange.answered:  # the meter said no: nothing is changed
            return ChangeReport("refused", exchange.reason, plan.before)
    looks, waited_s = 0, 0.0
    while True:
        sight = yield from look(framing, plan, plan.after, witness)
        if sight == "same":
            return ChangeReport("confirmed", None, plan.after, witness.identity)
        if sight == "other":
            return ChangeReport("other_device", None, plan.after)
        looks += 1
        if looks >= _LOOKS_MIN and waited_s >= wait_s:
            break
        yield Listen(_LOOK_EVERY_S)
        waited_s += _LOOK_EVERY_S
    return (yield from _put_back(framing, plan, witness))


def look(framing: Framing, plan: ChangePlan, place: Place, witness: Witness) -> Talk[Sight]:
    """Who answers at a place: the meter of the witness, another one, nobody, or somebody who cannot be read."""
    model = plan.model
    yield careful(place.link, plan.answer_s)
    serial = model.identity.get("serial")
    if witness.serial is not None and serial is not None and serial.function_code is not None:
        request = framing.read(place.device_id, serial.function_code, serial.address, serial.count)
        exchange = yield from _twice(request, model)
        if exchange.reason is None:
            return "same" if f"{serial.decode(exchange.words)}" == witness.serial else "other"
    else:
        exchange = yield from _twice(_money_request(framing, model, place), model)
        energy = _decoded(model, exchange)
        if energy is not None and witness.energy is not None:
            return "same" if witness.energy <= energy <= witness.energy + _ENERGY_KWH_MAX else "other"
    return "nobody" if exchange.reason == "timeout" else "unreadable"


def stored_number(framing: Framing, plan: ChangePlan) -> Talk[int | None]:
    """The setting as its register says at the old place; None if it cannot be read."""
    register = plan.model.settings[plan.setting]
    if register.function_code is None:
        return None
    request = framing.read(plan.before.device_id, register.function_code, register.address, register.count)
    exchange = yield from _twice(request, plan.model)
    if exchange.reason is not None:
        return None
    value = register.decode(exchange.words)
    return int(value) if isinstance(value, Decimal) and value == int(value) else None


def _put_back(framing: Framing, plan: ChangePlan, witness: Witness) -> Talk[ChangeReport]:
    """The meter did not come to its new place: writes the old setting where it still answers."""
    sight = yield from look(framing, plan, plan.before, witness)
    if sight != "same":
        return ChangeReport("lost" if sight in ("nobody", "unreadable") else "other_device", None, None)
    if plan.old_number is None:
        return ChangeReport("rollback_failed", None, plan.before)
    reason: str | None = None
    for request in writes(plan, framing, plan.old_number):
        reason = (yield from ask(request, plan.model.link.min_gap_ms / 1000)).reason
    stored = yield from stored_number(framing, plan)
    good = stored == plan.old_number or (stored is None and reason is None)
    return ChangeReport("rolled_back" if good else "rollback_failed", reason, plan.before)


def _check_target(framing: Framing, plan: ChangePlan) -> Talk[None]:
    """Nobody may answer at the new place, however it is asked."""
    place = plan.after
    yield careful(place.link, plan.answer_s)
    requests = (
        _money_request(framing, plan.model, place),
        framing.read(place.device_id, 3, 0, 2),
        framing.read(place.device_id, 4, 0, 2),
    )
    for request in requests[:_TARGET_TRIES]:
        exchange = yield from ask(request)
        if exchange.answered or exchange.garbled:
            raise CannotChange("target_taken", id=place.device_id)


def _twice(request: Request, model: MeterModel) -> Talk[Exchange]:
    gap_s = model.link.min_gap_ms / 1000
    exchange = yield from ask(request, gap_s)
    if not exchange.answered:
        exchange = yield from ask(request, gap_s)
    return exchange


def _decoded(model: MeterModel, exchange: Exchange) -> Decimal | None:
    point = model.points[model.money_point or ""]
    if exchange.reason is not None or len(exchange.words) != point.count:
        return None
    try:
        return point.decode(exchange.words)
    except ValueRefused:
        return None


def _money_request(framing: Framing, model: MeterModel, place: Place) -> Request:
    point = model.points[model.money_point or ""]
    return framing.read(place.device_id, point.function_code, point.address, point.count)


def _setting(model: MeterModel, name: str) -> Register:
    """The register of a setting that may be written. Raises CannotChange."""
    if model.incomplete is not None or model.money_point is None:
        raise CannotChange("model_unusable", model=model.id)
    register = model.settings.get(name)
    if register is None:
        combined = [row.name for row in model.settings.values() if name in row.name]
        code = "setting_in_words" if combined else "no_such_setting"
        raise CannotChange(code, model=model.id, setting=name, note=model.commissioning.note or "")
    if register.write_function_code is None or register.confidence == "unverified":
        raise CannotChange("setting_unverified", model=model.id, setting=name)
    return register


def _numbers_of_bauds(register: Register) -> dict[int, int]:
    return {int(baud): number for number, baud in (register.meanings or {}).items() if f"{baud}".isdigit()}


def _write(model: MeterModel, framing: Framing, device_id: int, name: str, number: int) -> Request:
    """The only place where a write is built."""
    register = model.settings[name]
    assert name in _WRITABLE
    assert register.write_function_code is not None
    words = register.encode(number)
    for row in model.write_forbidden:
        touched = row.function_code in (None, register.write_function_code) and (
            register.address < row.address + row.count and row.address < register.address + len(words)
        )
        assert not touched, f"{model.id}: {row.reason}"
    return framing.write(device_id, register.write_function_code, register.address, words)
