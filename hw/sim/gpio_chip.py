"""GPIO chips as libgpiod shows them, with relays wired to their lines: the twin for machines that have none.

Stands where `gpiod.Chip` stands and uses gpiod's own enums and settings. What the kernel does is kept: a line has one
holder (EBUSY), only an output can be set (EPERM), a request without a direction changes nothing, `active_low` turns
values round, a chip that is gone answers ENODEV, and a freed output becomes an input unless the chip keeps it. Levels
are True for high. Sources: drivers/gpio/gpiolib-cdev.c, pinctrl-bcm2835.c (`persist_gpio_outputs`). Seconds of `now`.
"""

import errno
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from gpiod import ChipClosedError, ChipInfo, LineInfo, LineSettings, RequestReleasedError
from gpiod.line import Bias, Clock, Direction, Drive, Edge, Value

LineConfig = dict[Iterable[int | str] | int | str, LineSettings | None]


@dataclass(slots=True)
class _Line:
    """One pin. `pull` is the level it has when nobody drives it, `source` what drives it from outside."""

    output: bool = False
    level: bool = False
    active_low: bool = False
    holder: str | None = None
    pull: bool = False
    source: Callable[[], bool] | None = None
    wires: list[Callable[[bool], None]] = field(default_factory=list)

    def read(self) -> bool:
        if self.output:
            return self.level
        return self.pull if self.source is None else self.source()


class VirtualChip:
    """A chip that goes on whoever has it open."""

    def __init__(self, label: str = "pinctrl-bcm2835", num_lines: int = 54, keeps_outputs: bool = False) -> None:
        self.label, self.keeps_outputs = label, keeps_outputs
        self.gone = False
        self.lines = [_Line() for _ in range(num_lines)]

    def wire(self, line: int, listener: Callable[[bool], None]) -> None:
        """Something hangs on this pin and is told each change of its level."""
        self.lines[line].wires.append(listener)

    def drive(self, line: int, source: Callable[[], bool]) -> None:
        """Something drives this pin while it is an input."""
        self.lines[line].source = source

    def hold(self, line: int, holder: str | None) -> None:
        """Another program has it, or gives it back."""
        self.lines[line].holder = holder

    def set_pin(self, line: int, output: bool, level: bool) -> None:
        """Moves a pin as the kernel does, and tells what hangs on it."""
        pin = self.lines[line]
        before = pin.read()
        pin.output, pin.level = output, level
        if pin.read() is not before:
            for listener in pin.wires:
                listener(pin.read())

    def vanish(self) -> None:
        """Unplugged: whoever holds lines gets errors from now on, and no pin is driven any more."""
        self.gone = True
        for number in range(len(self.lines)):
            self.lines[number].holder = None
            self.set_pin(number, False, False)


class VirtualGpio:
    """The chips of a machine by path. `open` stands for `gpiod.Chip`."""

    def __init__(self, chips: Mapping[str, VirtualChip]) -> None:
        self.chips = chips
        self.opened: list[OpenChip] = []

    def open(self, path: str) -> "OpenChip":
        """As `gpiod.Chip(path)`."""
        if path not in self.chips or self.chips[path].gone:
            raise _os_error(errno.ENOENT)
        self.opened.append(OpenChip(self.chips[path]))
        return self.opened[-1]


class OpenChip:
    """As `gpiod.Chip`."""

    def __init__(self, chip: VirtualChip) -> None:
        self._chip: VirtualChip | None = chip

    def __bool__(self) -> bool:
        return self._chip is not None

    def get_info(self) -> ChipInfo:
        chip = self._open()
        return ChipInfo("gpiochip0", chip.label, len(chip.lines))

    def get_line_info(self, line: int | str) -> LineInfo:
        offset = self._offset(line)
        pin = self._open().lines[offset]
        direction = Direction.OUTPUT if pin.output else Direction.INPUT
        return LineInfo(
            offset, f"GPIO{offset}", pin.holder is not None, pin.holder or "", direction.value, pin.active_low,
            Bias.UNKNOWN.value, Drive.PUSH_PULL.value, Edge.NONE.value, Clock.MONOTONIC.value, False, 0,
        )  # fmt: skip

    def request_lines(self, config: LineConfig, consumer: str | None = None) -> "LinesHeld":
        chip, settings = self._open(), _by_line(config)
        offsets = {self._offset(line): found for line, found in settings.items()}
        if any(chip.lines[offset].holder is not None for offset in offsets):
            raise _os_error(errno.EBUSY)
        for offset in offsets:
            chip.lines[offset].holder = consumer or "?"
        held = LinesHeld(chip, tuple(offsets))
        held.configure(offsets)
        return held

    def close(self) -> None:
        """Requests live on."""
        self._chip = None

    def _open(self) -> VirtualChip:
        if self._chip is None:
            raise ChipClosedError
        _check_there(self._chip)
        return self._chip

    def _offset(self, line: int | str) -> int:
        if not isinstance(line, int) or line >= len(self._open().lines):
            raise ValueError("line offset of out range")
        return line


class LinesHeld:
    """As `gpiod.LineRequest`."""

    def __init__(self, chip: VirtualChip, offsets: tuple[int, ...]) -> None:
        self._chip, self._offsets = chip, offsets
        self._released = False

    def get_value(self, line: int | str) -> Value:
        pin = self._pin(line)
        return Value.ACTIVE if pin.read() is not pin.active_low else Value.INACTIVE

    def set_value(self, line: int | str, value: Value) -> None:
        pin = self._pin(line)
        if not pin.output:
            raise _os_error(errno.EPERM)
        assert isinstance(line, int)
        self._chip.set_pin(line, True, (value is Value.ACTIVE) is not pin.active_low)

    def reconfigure_lines(self, config: LineConfig) -> None:
        settings = _by_line(config)
        for offset in self._offsets:
            self._pin(offset)
        self.configure({offset: settings.get(offset, LineSettings()) for offset in self._offsets})

    def release(self) -> None:
        if self._released:
            return
        self._released = True
        for offset in () if self._chip.gone else self._offsets:
            pin = self._chip.lines[offset]
            pin.holder = None
            if not self._chip.keeps_outputs:
                self._chip.set_pin(offset, False, False)

    def configure(self, settings: Mapping[int, LineSettings]) -> None:
        """One line after the other, as the kernel does. Flags of a line without direction are forgotten, as by 6.9."""
        for offset, wanted in settings.items():
            pin = self._chip.lines[offset]
            pin.active_low = wanted.active_low
            if wanted.direction is Direction.OUTPUT:
                self._chip.set_pin(offset, True, (wanted.output_value is Value.ACTIVE) is not wanted.active_low)
            elif wanted.direction is Direction.INPUT:
                pin.pull = wanted.bias is Bias.PULL_UP or (wanted.bias is Bias.AS_IS and pin.pull)
                self._chip.set_pin(offset, False, False)

    def _pin(self, line: int | str) -> _Line:
        if self._released:
            raise RequestReleasedError
        _check_there(self._chip)
        if line not in self._offsets:
            raise _os_error(errno.EINVAL)
        assert isinstance(line, int)
        return self._chip.lines[line]


class WiredRelay:
    """A contact with a coil or two. `welded` keeps it where it is; `both` counts moments with both coils on."""

    def __init__(self, now: Callable[[], float], closed: bool = True) -> None:
        self.closed, self.welded = closed, False
        self.moves: list[tuple[float, bool]] = []
        self.both = 0
        self._now = now
        self._held: bool | None = None  # where the coil or the spring of a monostable relay pulls it

    def come_free(self) -> None:
        """No longer welded: a monostable relay goes at once where it is pulled."""
        self.welded = False
        if self._held is not None:
            self.move(self._held)

    def move(self, closed: bool) -> None:
        """What a coil or a spring wants."""
        if closed is not self.closed and not self.welded:
            self.closed = closed
            self.moves.append((self._now(), closed))

    def with_coil(self, chip: VirtualChip, line: int, closed_when_high: bool) -> "WiredRelay":
        """Monostable: the coil's level is the contact."""

        def pull(level: bool) -> None:
            self._held = level is closed_when_high
            self.move(self._held)

        chip.wire(line, pull)
        return self

    def with_latch(self, chip: VirtualChip, set_line: int, reset_line: int, pulse_s_min: float) -> "WiredRelay":
        """Latching, active high: a coil moves the contact once it has been on for long enough."""
        on_since: dict[int, float] = {}

        def pulse(line: int, closed: bool, level: bool) -> None:
            if level:
                on_since[line] = self._now()
                self.both += len(on_since) > 1
            elif (began := on_since.pop(line, None)) is not None and self._now() - began >= pulse_s_min - 1e-9:
                self.move(closed)

        chip.wire(set_line, lambda level: pulse(set_line, True, level))
        chip.wire(reset_line, lambda level: pulse(reset_line, False, level))
        return self

    def with_contact(self, chip: VirtualChip, line: int, high_when_closed: bool = True) -> "WiredRelay":
        """An auxiliary contact on a line."""
        chip.drive(line, lambda: self.closed is high_when_closed)
        return self


def _by_line(config: LineConfig) -> dict[int, LineSettings]:
    found: dict[int, LineSettings] = {}
    for key, settings in config.items():
        for line in (key,) if isinstance(key, int | str) else key:
            assert isinstance(line, int)
            if line in found:
                raise ValueError(f"line must be configured exactly once - offset {line} repeats")
            found[line] = settings or LineSettings()
    return found


def _check_there(chip: VirtualChip) -> None:
    if chip.gone:
        raise _os_error(errno.ENODEV)


def _os_error(code: int) -> OSError:
    return OSError(code, os.strerror(code))
