"""Witness reading and relay test as steps on a line. No I/O and no clock.

The relay test writes the model's own commands, which its file allows, and ends with the contact closed: it is told to
close again whatever came of the opening, and read back. W and exact decimals. Steps as in edge/bus/scan_records.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from edge.bus.frame import Framing, Request
from edge.bus.scan import answer_s_of, careful, examine
from edge.bus.scan_models import key_points
from edge.bus.scan_records import Link, Listen, Talk, ask
from edge.commission.record import RelayTest
from edge.meters.model import MeterModel, Point, ValueRefused

_TRIES_MAX: Final = 3
_SETTLE_S: Final = 1.0
_POWER_SETTLE_S: Final = 3.0  # meters average their power over a second or two
_LOAD_W_MIN: Final = 20
_LEFT_PERCENT_MAX: Final = 10


class NotCommissioned(ValueError):
    """Why there is no record: a code of the catalogue with its values."""

    def __init__(self, code: str, **values: object) -> None:
        super().__init__(code)
        self.code, self.values = code, values


@dataclass(frozen=True, slots=True)
class Seen:
    """A meter as it was read."""

    identity: Mapping[str, str]
    register: Decimal
    voltages: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RelayPlace:
    """The relay under test, and the meter that shows its load."""

    relay_id: str
    device_id: int
    model: MeterModel
    channel: int


def see_meter(framing: Framing, link: Link, device_id: int, model: MeterModel, answer_s: float | None) -> Talk[Seen]:
    """Reads who the meter is and what it counts. Raises NotCommissioned where that is not sure."""
    yield careful(link, answer_s or answer_s_of((model,)))
    money = model.points[model.money_point or ""]
    request = framing.read(device_id, money.function_code, money.address, money.count)
    recognition, health = yield from examine(framing, link, device_id, request, (model,))
    if not any(row.answered for row in health.all):
        raise NotCommissioned("nobody_there", id=device_id)
    if not recognition.models:
        raise NotCommissioned("not_this_model", id=device_id, model=model.id)
    if health.errors:
        raise NotCommissioned("unreliable_line", failed=sum(health.errors.values()), asked=len(health.all))
    register = yield from _value(framing, device_id, model, money)
    if register is None:
        raise NotCommissioned("no_reading", point=money.name)
    voltages: dict[str, str] = {}
    for point in key_points(model):
        if point.unit == "V":
            value = yield from _value(framing, device_id, model, point)
            voltages[point.name] = "" if value is None else f"{value.quantize(Decimal('0.1')):f}"
    return Seen(recognition.identity, register, voltages)


def agrees(register: Decimal, display: Decimal) -> bool:
    """Whether a display shows the register: cut off or rounded at its last digit, and one step on meanwhile."""
    exponent = display.as_tuple().exponent
    assert isinstance(exponent, int)
    step = Decimal(1).scaleb(min(exponent, 0))
    return display - step <= register <= display + 2 * step


def relay_commands(framing: Framing, relay: RelayPlace) -> tuple[Request, Request]:
    """What opens and what closes it; nothing else is written. Raises NotCommissioned without a usable relay."""
    spec = relay.model.relay
    if spec is None:
        raise NotCommissioned("no_relay", model=relay.model.id)
    if not relay.channel < spec.channels:
        raise NotCommissioned("no_channel", model=relay.model.id, channels=spec.channels)
    address = spec.command_address + relay.channel
    assert relay.model.allows_write(spec.command_function_code, address, len(spec.close_words))
    opening, closing = (
        framing.write(relay.device_id, spec.command_function_code, address, spec.command_words(closed))
        for closed in (False, True)
    )
    return opening, closing


def relay_test(framing: Framing, link: Link, relay: RelayPlace, meter_id: int, model: MeterModel,
               answer_s: float | None) -> Talk[RelayTest]:  # fmt: skip
    """Opens, reads back, looks at the load, closes, reads back. The contact must have been closed before."""
    opening, closing = relay_commands(framing, relay)
    yield careful(link, answer_s or answer_s_of((model, relay.model)))
    steps: list[str] = []
    before = yield from read_relay(framing, relay)
    steps.append(f"before:{_word(before)}")
    power_before = yield from _power(framing, meter_id, model)
    if before is not True:
        return RelayTest(relay.relay_id, "failed", steps, power_before, None, None, None)
    opened = yield from _switched(framing, relay, opening)
    steps.append(f"open:{_word(opened)}")
    yield Listen(_POWER_SETTLE_S)
    power_open = yield from _power(framing, meter_id, model)
    closed = yield from _switched(framing, relay, closing)
    steps.append(f"close:{_word(closed)}")
    yield Listen(_POWER_SETTLE_S)
    power_after = yield from _power(framing, meter_id, model)
    switches = switches_load(power_before, power_open)
    good = opened is False and closed is True and switches is not False
    return RelayTest(
        relay.relay_id, "passed" if good else "failed", steps, power_before, power_open, power_after, switches
    )


def close_again(framing: Framing, link: Link, relay: RelayPlace, answer_s: float | None) -> Talk[bool]:
    """Closes a contact after a test that was interrupted; whether it was read back closed."""
    _, closing = relay_commands(framing, relay)
    yield careful(link, answer_s or answer_s_of((relay.model,)))
    return (yield from _switched(framing, relay, closing)) is True


def switches_load(before_w: int | None, open_w: int | None) -> bool | None:
    """Whether the load went away with the contact; None where there was none to be seen."""
    if before_w is None or open_w is None or abs(before_w) < _LOAD_W_MIN:
        return None
    return 100 * abs(open_w) <= _LEFT_PERCENT_MAX * abs(before_w)


def _switched(framing: Framing, relay: RelayPlace, command: Request) -> Talk[bool | None]:
    """The state that is read back after a command; an answer to the command itself proves nothing."""
    spec = relay.model.relay
    assert spec is not None
    wanted = command.words == spec.close_words
    state: bool | None = None
    for _ in range(_TRIES_MAX):
        yield from ask(command, relay.model.link.min_gap_ms / 1000)
        yield Listen(max(_SETTLE_S, spec.settle_ms / 1000))
        state = yield from read_relay(framing, relay)
        if state is wanted:
            break
    return state


def read_relay(framing: Framing, relay: RelayPlace) -> Talk[bool | None]:
    """Whether it is closed; None where it cannot be read."""
    spec = relay.model.relay
    assert spec is not None
    address = spec.readback_address + relay.channel
    request = framing.read(relay.device_id, spec.readback_function_code, address, spec.readback_count)
    for _ in range(_TRIES_MAX):
        exchange = yield from ask(request, relay.model.link.min_gap_ms / 1000)
        if exchange.reason is None:
            return spec.state(exchange.words)
    return None


def _power(framing: Framing, device_id: int, model: MeterModel) -> Talk[int | None]:
    point = model.points.get("power_total")
    if point is None:
        return None
    value = yield from _value(framing, device_id, model, point)
    return None if value is None else round(value)


def _value(framing: Framing, device_id: int, model: MeterModel, point: Point) -> Talk[Decimal | None]:
    request = framing.read(device_id, point.function_code, point.address, point.count)
    for _ in range(_TRIES_MAX):
        exchange = yield from ask(request, model.link.min_gap_ms / 1000)
        if exchange.reason is None:
            try:
                return point.decode(exchange.words)
            except ValueRefused:
                return None
    return None


def _word(closed: bool | None) -> str:
    return {True: "closed", False: "open", None: "unknown"}[closed]
