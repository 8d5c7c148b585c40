"""A street of virtual meters as a process of its own: two RS-485 lines, their meters and relays, and a clock.

    python -m hw.sim.street --spec SPEC.json --directory DIR [--parent-pid PID]

In DIR it writes clock.json (the accounting clock, see hw.sim.clock), a link per line to its pseudo-terminal (named as
the line), street.sock (see hw.sim.control), and registers.json when the load stops and at the end. It survives a kill
of the agent, and ends on SIGTERM, SIGINT, "quit", or when the process that started it is gone. Exit status 2 with one
sentence when the spec or the directory is not usable: nothing was started then.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edge.core.units import ClockQuality
from hw.sim.clock import ScaledClock, start_clock
from hw.sim.control import SOCKET_PATH_BYTES_MAX, ControlServer, StreetControl
from hw.sim.files import write_json
from hw.sim.plant import Plant
from hw.sim.spec import LineSpec, SpecError, StreetSpec, default_street, load_spec

if TYPE_CHECKING:
    from hw.sim.dlt645_line import Dlt645Line
    from hw.sim.line import Line

__all__ = ["CLOCK_FILE", "REGISTERS_FILE", "SOCKET_FILE", "StreetControl", "default_street", "main"]

CLOCK_FILE = "clock.json"
REGISTERS_FILE = "registers.json"
SOCKET_FILE = "street.sock"
TICK_S = 0.05
EXIT_USAGE = 2


def main(arguments: list[str] | None = None) -> int:
    """Runs a street until it is told to end."""
    parser = argparse.ArgumentParser(prog="python -m hw.sim.street", description="A street of virtual meters.")
    parser.add_argument("--spec", type=Path, required=True, help="what the street consists of (JSON)")
    parser.add_argument("--directory", type=Path, required=True, help="where clock, lines and socket appear")
    parser.add_argument("--parent-pid", type=int, default=os.getppid(), help="end when this is no longer the parent")
    options = parser.parse_args(arguments)
    try:
        spec = load_spec(options.spec)
        check_directory(options.directory, spec)
    except SpecError as error:
        print(f"street: {error}", file=sys.stderr)
        return EXIT_USAGE
    asyncio.run(Street(spec, options.directory, options.parent_pid).run())
    return 0


def check_directory(directory: Path, spec: StreetSpec) -> None:
    """Makes the directory. Raises SpecError when it cannot be used or another street lives in it."""
    path = directory / SOCKET_FILE
    if len(os.fsencode(path)) > SOCKET_PATH_BYTES_MAX:
        raise SpecError(f"{path}: too long for a socket, at most {SOCKET_PATH_BYTES_MAX} bytes are allowed")
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpecError(f"{directory}: {error.strerror}") from error
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as probe:
        if probe.connect_ex(str(path)) == 0:
            raise SpecError(f"{directory}: another street is running here")
    for line in spec.lines:
        link = directory / line.id
        if link.exists() and not link.is_symlink():
            raise SpecError(f"{link}: is in the way of the line's link")


class Street:
    """The running process: plant, lines, control socket and clock."""

    def __init__(self, spec: StreetSpec, directory: Path, parent_pid: int) -> None:
        self._spec, self._directory, self._parent_pid = spec, directory, parent_pid
        self._plant = Plant(spec)
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """Opens everything, the socket last, waits for the end, and takes it all away again."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ended.set)
        (self._directory / REGISTERS_FILE).unlink(missing_ok=True)  # an earlier street's would mislead an auditor
        clock_path = self._directory / CLOCK_FILE
        start_clock(clock_path, self._spec.wall_start_at, self._spec.speed, ClockQuality(self._spec.quality))
        self._clock = ScaledClock(clock_path)
        lines = {spec.id: self._line(spec) for spec in self._spec.lines}
        control = ControlServer(self._plant, self._bring_up_to_date, self._write_registers, self._ended.set)
        try:
            for line_id, line in lines.items():
                await line.open()
                link(self._directory / line_id, line.gateway_path)
            await control.open(self._directory / SOCKET_FILE)
            await self._tick_until_ended()
        finally:
            self._bring_up_to_date()
            self._write_registers()
            control.close()
            for line in lines.values():
                await line.close()
            for name in (SOCKET_FILE, *lines):
                (self._directory / name).unlink(missing_ok=True)

    def _line(self, spec: LineSpec) -> "Line | Dlt645Line":
        # They load pymodbus's server, which a script that only steers must not.
        if spec.protocol == "dlt645":
            from hw.sim.dlt645_line import Dlt645Line

            meters = self._plant.meters(spec.id)
            return Dlt645Line(meters, self._bring_up_to_date, self._clock.at, self._spec.utc_offset_s)
        from hw.sim.line import Line

        return Line(self._plant.devices(spec.id), self._bring_up_to_date)

    def _bring_up_to_date(self) -> None:
        self._plant.advance(self._clock.at())

    def _write_registers(self) -> None:
        write_json(self._directory / REGISTERS_FILE, self._plant.registers())

    async def _tick_until_ended(self) -> None:
        """Carries out what is scheduled even when nobody reads, and ends with the parent."""
        while not self._ended.is_set():
            self._bring_up_to_date()
            if os.getppid() != self._parent_pid:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), TICK_S)


def link(path: Path, target: str) -> None:
    """Points `path` to a terminal, replacing what an earlier street left."""
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    new.symlink_to(target)
    os.replace(new, path)


if __name__ == "__main__":
    sys.exit(main())
