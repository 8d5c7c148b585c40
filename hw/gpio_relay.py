"""Supply relays on GPIO lines: a port of relays (edge/ports.py) over libgpiod's own bindings, the package `gpiod`.

A line is held exclusively, under the name `wattgate`, and is requested as it is: nothing is driven before somebody has
decided. A monostable relay has one coil, which is kept on or off; a latching one has two, of which one gets a pulse.
With a contact line only the contact says how the supply is; without one the value of the coil's line is all there is,
and of a latching relay the last command. What the kernel does with a line comes from Documentation/userspace-api/gpio
and drivers/gpio/gpiolib-cdev.c. Milliseconds (`_ms`) in the settings, seconds (`_s`) of the loop otherwise.
"""

import asyncio
import errno
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, Protocol

from edge.ports import Clock, OutputResult, RelayState, RelayStatus
from hw.serial_facts import LineWarning

if TYPE_CHECKING:
    from gpiod import ChipInfo, LineInfo, LineSettings
    from gpiod.line import Value

CONSUMER: Final = "wattgate"
LOOK_INTERVAL_S: Final = 1.0
_REOPEN_FIRST_S: Final = 1.0
_REOPEN_S_MAX: Final = 30.0
_MS: Final = 1_000

Bias = Literal["as_is", "disabled", "pull_up", "pull_down"]

# Sentences of catalogue/zh.json: what a person can do about it.
NO_CHIP: Final = "there is no such GPIO chip"
NO_GPIO: Final = "this is no GPIO chip"
NO_LINE: Final = "the chip has no such line"
NO_PERMISSION: Final = "no permission; the user must be in the group that owns the chip (often gpio)"
HELD: Final = "another program holds this line: a relay has only one owner"
OTHER_CHIP: Final = "this is another chip than chip_label says: numbers of chips may change at a restart"
GONE: Final = "the GPIO chip is gone"
# Warnings of a configuration that works: what it costs.
OFF_WITHOUT_US: Final = (
    '{relay}: with closed_when = "coil_on" the supply goes off whenever this machine stops, and under kernels that '
    "free a line as an input (Debian's; not Raspberry Pi OS's) whenever this program does; the normally closed contact "
    'with closed_when = "coil_off", or a latching relay, keeps it on'
)
NOT_KNOWN_AT_START: Final = (
    "{relay}: nobody knows the state of a latching relay without contact_line after a start: it is not opened before "
    "it was once told to close"
)
_SENTENCES: Mapping[int, str] = {
    errno.ENOENT: NO_CHIP,
    errno.ENOTTY: NO_GPIO,
    errno.EACCES: NO_PERMISSION,
    errno.EPERM: NO_PERMISSION,
    errno.EBUSY: HELD,
    errno.ENODEV: GONE,
    errno.ENXIO: GONE,
}


class Request(Protocol):
    """Lines that are held: what is used of `gpiod.LineRequest`. OSError when the chip is gone."""

    def get_value(self, line: int | str) -> "Value": ...

    def reconfigure_lines(self, config: "dict[Iterable[int | str] | int | str, LineSettings | None]") -> None: ...

    def release(self) -> None: ...


class Chip(Protocol):
    """A chip that is open: what is used of `gpiod.Chip`. Requests outlive it."""

    def get_info(self) -> "ChipInfo": ...

    def get_line_info(self, line: int | str) -> "LineInfo": ...

    def request_lines(
        self, config: "dict[Iterable[int | str] | int | str, LineSettings | None]", consumer: str | None = None
    ) -> Request: ...

    def close(self) -> None: ...


ChipOpener = Callable[[str], Chip]


def open_chip(path: str) -> Chip:
    """A chip of this machine. OSError if there is none."""
    import gpiod  # only where a site has such relays

    return gpiod.Chip(path)


@dataclass(frozen=True, slots=True)
class Coil:
    """A monostable relay's coil. `closed_when_on` is False where the supply goes over the normally closed contact."""

    line: int
    closed_when_on: bool

    @property
    def lines(self) -> tuple[int, ...]:
        return (self.line,)


@dataclass(frozen=True, slots=True)
class LatchingCoils:
    """A latching relay's coils: a pulse on `set_line` closes the supply, one on `reset_line` opens it."""

    set_line: int
    reset_line: int
    pulse_ms: int = 100

    @property
    def lines(self) -> tuple[int, ...]:
        return (self.set_line, self.reset_line)


@dataclass(frozen=True, slots=True)
class ContactLine:
    """An auxiliary contact that moves with the main one: its line is active while the supply is closed."""

    line: int
    active_low: bool = False
    bias: Bias = "as_is"


@dataclass(frozen=True, slots=True)
class GpioRelay:
    """A relay and where it hangs. After `settle_ms` a contact has moved and no longer bounces."""

    relay_id: str
    chip: str
    coils: Coil | LatchingCoils
    active_low: bool = False
    contact: ContactLine | None = None
    settle_ms: int = 100
    chip_label: str | None = None

    @property
    def place(self) -> str:
        """As people find it."""
        return f"{self.chip} line {', '.join(map(str, self.coils.lines))}"


def gpio_warnings(relays: Iterable[GpioRelay]) -> tuple[LineWarning, ...]:
    """What is worth saying about relays before they are held; nothing is refused for it."""
    found = []
    for relay in relays:
        if isinstance(relay.coils, Coil) and relay.coils.closed_when_on:
            found.append(LineWarning(OFF_WITHOUT_US, {"relay": relay.relay_id}))
        if isinstance(relay.coils, LatchingCoils) and relay.contact is None:
            found.append(LineWarning(NOT_KNOWN_AT_START, {"relay": relay.relay_id}))
    return tuple(found)


class _Unusable(Exception):
    """A relay whose lines cannot be had: where, and a sentence."""


@dataclass(slots=True)
class _Held:
    """The lines of one relay while they are ours."""

    coils: Request
    contact: Request | None
    commanded: bool | None = None  # of a latching relay: what the last whole pulse told it
    told: bool | None = None  # as it was last read twice alike


@dataclass(slots=True)
class _Supply:
    """A relay through all losses of its chip."""

    relay: GpioRelay
    held: _Held | None = None
    fault: str | None = None
    open_at: float = 0.0  # not before
    wait_s: float = _REOPEN_FIRST_S
    ticket: object = field(default_factory=object)  # of the newest command that has not begun


class GpioRelays:
    """The relay port of all GPIO relays of a site. One relay is switched at a time, so that coils do not add up."""

    def __init__(
        self,
        relays: Sequence[GpioRelay],
        clock: Clock,
        on_relay: Callable[[RelayState], None],
        protected: frozenset[str] = frozenset(),
        opener: ChipOpener = open_chip,
    ) -> None:
        self._supplies = {relay.relay_id: _Supply(relay) for relay in relays}
        self._clock, self._on_relay, self._protected, self._opener = clock, on_relay, protected, opener
        self._turn = asyncio.Lock()

    async def run(self) -> None:
        """Looks at every relay once a second, and opens anew what was lost, until cancelled."""
        try:
            while True:
                for supply in self._supplies.values():
                    async with self._turn:
                        await self._look(supply)
                await asyncio.sleep(LOOK_INTERVAL_S)
        finally:
            async with self._turn:  # never in the middle of a pulse
                for supply in self._supplies.values():
                    self._let_go(supply)

    async def set_output(self, relay_id: str, closed: bool) -> OutputResult:
        """Switches and reads back. Reasons: protected, superseded, line_closed, relay_state_unknown, not_obeyed.

        `line_closed` is no attempt: the lines are not ours at present. A relay whose state is not known is not opened.
        """
        supply = self._supplies[relay_id]
        if not closed and relay_id in self._protected:
            return OutputResult(False, None if supply.held is None else supply.held.told, "protected")
        supply.ticket = ticket = object()
        async with self._turn:
            if supply.ticket is not ticket:
                return OutputResult(False, None, "superseded")
            supply.ticket = object()  # from now on it cannot be taken back
            if supply.held is None:
                return OutputResult(False, None, "line_closed")
            try:
                return await self._switch(supply.relay, supply.held, closed)
            except OSError as problem:
                self._lose(supply, _sentence(supply.relay.place, problem))
                return OutputResult(False, None, "relay_state_unknown")

    def withdraw_output(self, relay_id: str) -> None:
        """Takes back a command that still waits for its turn."""
        self._supplies[relay_id].ticket = object()

    def view(self) -> tuple[RelayStatus, ...]:
        """All relays as they were last read."""
        return tuple(
            RelayStatus(
                relay_id,
                supply.relay.place,
                supply.relay.contact is not None,
                None if supply.held is None else supply.held.told,
                supply.fault,
            )
            for relay_id, supply in self._supplies.items()
        )

    async def _look(self, supply: _Supply) -> None:
        now = asyncio.get_running_loop().time()
        try:
            if supply.held is None:
                if now < supply.open_at:
                    return
                supply.held = self._open(supply.relay)
                supply.fault, supply.wait_s = None, _REOPEN_FIRST_S
            await self._read(supply.relay, supply.held)
        except OSError as problem:
            self._lose(supply, _sentence(supply.relay.place, problem))
        except _Unusable as problem:
            self._lose(supply, str(problem))

    def _let_go(self, supply: _Supply) -> None:
        held, supply.held = supply.held, None
        if held is not None:
            _release(held)

    def _lose(self, supply: _Supply, fault: str) -> None:
        self._let_go(supply)
        supply.fault = fault
        supply.open_at = asyncio.get_running_loop().time() + supply.wait_s
        supply.wait_s = min(2 * supply.wait_s, _REOPEN_S_MAX)

    def _open(self, relay: GpioRelay) -> _Held:
        """Requests the lines and drives none of them, except that a pulse somebody left on is ended."""
        chip = self._opener(relay.chip)
        try:
            info = chip.get_info()
            if relay.chip_label is not None and info.label != relay.chip_label:
                raise _Unusable(f"{relay.chip} ({info.label}): {OTHER_CHIP}")
            contact_lines = () if relay.contact is None else (relay.contact.line,)
            for line in (*relay.coils.lines, *contact_lines):
                _check_line(relay.chip, info.num_lines, chip, line)
            left_on = _may_be_left_on(relay, chip)
            held = _Held(chip.request_lines(_as_they_are(relay), CONSUMER), None)
            try:
                if relay.contact is not None:
                    held.contact = chip.request_lines(_as_input(relay.contact), CONSUMER)
                if left_on:
                    held.coils.reconfigure_lines(_driven(relay, None))
            except OSError:
                _release(held)
                raise
            return held
        finally:
            chip.close()

    async def _switch(self, relay: GpioRelay, held: _Held, closed: bool) -> OutputResult:
        before = await self._read(relay, held)
        if before is None and not closed:
            return OutputResult(False, None, "relay_state_unknown")
        if isinstance(relay.coils, Coil):
            on = relay.coils.line if closed is relay.coils.closed_when_on else None
            held.coils.reconfigure_lines(_driven(relay, on))
        elif before is not closed:
            await self._pulse(relay, relay.coils, held, closed)
        await asyncio.sleep(relay.settle_ms / _MS)
        state = await self._read(relay, held)
        if state is None:
            return OutputResult(False, None, "relay_state_unknown")
        return OutputResult(True, state, None) if state is closed else OutputResult(False, state, "not_obeyed")

    async def _pulse(self, relay: GpioRelay, coils: LatchingCoils, held: _Held, closed: bool) -> None:
        """One coil for a while, never both. Whatever happens meanwhile, it is off again."""
        held.commanded = None
        held.coils.reconfigure_lines(_driven(relay, None))
        try:
            held.coils.reconfigure_lines(_driven(relay, coils.set_line if closed else coils.reset_line))
            await asyncio.sleep(coils.pulse_ms / _MS)
        finally:
            held.coils.reconfigure_lines(_driven(relay, None))
        held.commanded = closed

    async def _read(self, relay: GpioRelay, held: _Held) -> bool | None:
        """How the supply is, and tells it. A state that is new is read twice; None while it is not twice the same."""
        state = _state(relay, held)
        if state is not held.told:
            await asyncio.sleep(relay.settle_ms / _MS)
            if _state(relay, held) is not state:
                state = None
        held.told = state
        if state is not None:
            self._on_relay(RelayState(relay.relay_id, self._clock.read(), state))
        return state


def _state(relay: GpioRelay, held: _Held) -> bool | None:
    from gpiod.line import Value

    if relay.contact is not None:
        assert held.contact is not None
        return held.contact.get_value(relay.contact.line) is Value.ACTIVE
    if isinstance(relay.coils, Coil):
        return (held.coils.get_value(relay.coils.line) is Value.ACTIVE) is relay.coils.closed_when_on
    return held.commanded


def _check_line(path: str, count: int, chip: Chip, line: int) -> None:
    """A line that can be had. The kernel refuses one that is held; who holds it only its information says."""
    if line >= count:
        raise _Unusable(f"{path} line {line}: {NO_LINE}")
    info = chip.get_line_info(line)
    if info.used:
        raise _Unusable(f"{path} line {line} ({info.consumer or 'kernel'}): {HELD}")


def _may_be_left_on(relay: GpioRelay, chip: Chip) -> bool:
    """Whether a latching relay's coils are outputs already: a pulse may have no end. To end it switches nothing."""
    from gpiod.line import Direction

    if isinstance(relay.coils, Coil):
        return False
    return any(chip.get_line_info(line).direction is Direction.OUTPUT for line in relay.coils.lines)


def _as_they_are(relay: GpioRelay) -> "dict[Iterable[int | str] | int | str, LineSettings | None]":
    """Neither direction nor value is changed: an output goes on as it is, an input stays one."""
    from gpiod import LineSettings

    return {relay.coils.lines: LineSettings(active_low=relay.active_low)}


def _as_input(contact: ContactLine) -> "dict[Iterable[int | str] | int | str, LineSettings | None]":
    from gpiod import LineSettings
    from gpiod.line import Bias as LineBias
    from gpiod.line import Direction

    bias = LineBias[contact.bias.upper()]
    return {contact.line: LineSettings(direction=Direction.INPUT, active_low=contact.active_low, bias=bias)}


def _driven(relay: GpioRelay, on: int | None) -> "dict[Iterable[int | str] | int | str, LineSettings | None]":
    """One coil on, or none. All lines and all flags at once: older kernels forget the flags of a line left out."""
    from gpiod import LineSettings
    from gpiod.line import Direction, Value

    return {
        line: LineSettings(
            direction=Direction.OUTPUT,
            active_low=relay.active_low,
            output_value=Value.ACTIVE if line == on else Value.INACTIVE,
        )
        for line in relay.coils.lines
    }


def _release(held: _Held) -> None:
    """Gives the lines back as they are; what becomes of an output then is the kernel's."""
    for request in (held.coils, held.contact):
        if request is not None:
            with suppress(OSError):
                request.release()


def _sentence(place: str, problem: OSError) -> str:
    return f"{place}: {_SENTENCES.get(problem.errno or 0, problem.strerror or str(problem))}"
