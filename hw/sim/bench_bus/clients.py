"""One client reads paced lines for some seconds and says what it cost: run as a process of its own.

    python -m hw.sim.bench_bus.clients CLIENT --baud 9600 --seconds 5 PATH...

Every client reads the same block of 18 holding registers of device ids 1 to 4 in turn, one line per terminal, as
quickly as it can. Blocking clients have a thread for each line. Processor time is the process's own, over the
measured seconds only.
"""

import argparse
import asyncio
import ctypes
import json
import resource
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from itertools import cycle
from typing import Any

from edge.bus.frame import RTU
from edge.bus.line import LineMaster, LineSettings, MeterOnLine
from edge.bus.loop import line_loop
from edge.bus.talker import Talker
from edge.bus.transaction import Ask, Outcome, Timing
from edge.meters.model import load_model
from hw.serial_port import serial_opener
from hw.sim.bench_bus.wire import LoopClock

ADDRESS, COUNT = 0, 18
DEVICE_IDS = (1, 2, 3, 4)
EXPECTED = list(range(ADDRESS, ADDRESS + COUNT))
MODEL_ID = "hiking_dds238_2"
FORMAT = "8N1"  # a pseudo-terminal refuses parity; the pace of its bytes is the line's business
WARM_UP_S = 1.5
TIMEOUT_S = 1.0
POWER_W_MAX = 14_000


@dataclass(slots=True)
class Meter:
    """Counts polls while the measured seconds run, and the processor's time over them."""

    seconds: float
    polls: int = 0
    wrong: int = 0
    on: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, good: bool) -> None:
        """One poll has ended. Blocking clients call this from several threads."""
        if self.on:
            with self.lock:
                self.polls += good
                self.wrong += not good

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Between its two ends everything counts."""
        before, began = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
        self.on = True
        yield
        self.on = False
        after, wall_s = resource.getrusage(resource.RUSAGE_SELF), time.monotonic() - began
        used_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        report = {"polls": self.polls, "wrong": self.wrong, "cpu_s": used_s, "wall_s": wall_s}
        print(json.dumps(report), flush=True)

    async def run_on_loop(self, lines: Iterable[Coroutine[Any, Any, object]]) -> None:
        """The lines warm up, then are measured. One that ends by itself ends the run with its error."""
        tasks = [asyncio.ensure_future(line) for line in lines]
        await asyncio.sleep(WARM_UP_S)
        with self.measuring():
            await asyncio.sleep(self.seconds)
        for task in tasks:
            if task.done():
                raise RuntimeError(f"a line ended by itself: {task.result()}")
            task.cancel()

    def run_threads(self, paths: list[str], serve: Callable[[str], None]) -> None:
        """A thread for each line; they die with the process."""
        for path in paths:
            threading.Thread(target=serve, args=(path,), daemon=True).start()
        time.sleep(WARM_UP_S)
        with self.measuring():
            time.sleep(self.seconds)


@dataclass
class Asks:
    """The same reads again and again, for a talker: transaction and strict checks, no plan and no decoding."""

    meter: Meter

    def __post_init__(self) -> None:
        self._asks = cycle([Ask(RTU.read(device_id, 3, ADDRESS, COUNT)) for device_id in DEVICE_IDS])
        self._next = next(self._asks)

    def next_ask(self, now: float) -> Ask | None:
        return self._next

    def due_at(self) -> float | None:
        return None

    def wait_s(self, ask: Ask) -> float | None:
        return None

    def take(self, ask: Ask, outcome: Outcome, now: float) -> None:
        self.meter.count(outcome.reason is None and list(outcome.words) == EXPECTED)
        self._next = next(self._asks)


def run_talker(meter: Meter, paths: list[str], baud: int) -> None:
    """Our transaction with every check, and nothing above it: what the other clients do."""

    async def story() -> None:
        timing = Timing.of_serial(baud, TIMEOUT_S, 0.55, 5.0)
        await meter.run_on_loop(
            Talker(RTU, timing, Asks(meter), lambda: None).serve(serial_opener(path, baud, FORMAT), lambda: None)
            for path in paths
        )

    with asyncio.Runner(loop_factory=line_loop) as runner:
        runner.run(story())


def run_line_master(meter: Meter, paths: list[str], baud: int) -> None:
    """The whole line master: plan, visits, exact values, plausibility of the money register."""

    async def story() -> None:
        model, loop = load_model(MODEL_ID), asyncio.get_running_loop()
        meters = [MeterOnLine(f"m{number}", number, model, POWER_W_MAX) for number in DEVICE_IDS]
        await meter.run_on_loop(
            LineMaster(
                LineSettings(path, path, baud, FORMAT, poll_interval_ms=1),
                meters,
                [],
                serial_opener(path, baud, FORMAT),
                LoopClock(loop),
                lambda sample: meter.count(sample.verdict == "good"),
                lambda state: None,
            ).run()
            for path in paths
        )

    with asyncio.Runner(loop_factory=line_loop) as runner:
        runner.run(story())


def run_pymodbus(meter: Meter, paths: list[str], baud: int) -> None:
    """pymodbus's asynchronous serial client."""
    client_class = import_module("pymodbus.client").AsyncModbusSerialClient

    async def serve(path: str) -> None:
        client = client_class(path, baudrate=baud, timeout=TIMEOUT_S)
        await client.connect()
        for device_id in cycle(DEVICE_IDS):
            answer = await client.read_holding_registers(ADDRESS, count=COUNT, device_id=device_id)
            meter.count(not answer.isError() and answer.registers == EXPECTED)

    asyncio.run(meter.run_on_loop(serve(path) for path in paths))


def run_minimalmodbus(meter: Meter, paths: list[str], baud: int) -> None:
    """minimalmodbus: blocking, keeps the gap by sleeping."""
    module = import_module("minimalmodbus")

    def serve(path: str) -> None:
        instruments = [module.Instrument(path, device_id) for device_id in DEVICE_IDS]
        for instrument in instruments:
            instrument.serial.baudrate, instrument.serial.timeout = baud, TIMEOUT_S
        for instrument in cycle(instruments):
            meter.count(instrument.read_registers(ADDRESS, COUNT) == EXPECTED)

    meter.run_threads(paths, serve)


def run_libmodbus(meter: Meter, paths: list[str], baud: int, library: str) -> None:
    """libmodbus through ctypes, whose calls let other threads run: the price of a call is Python's."""
    modbus = ctypes.CDLL(library)
    modbus.modbus_new_rtu.restype = ctypes.c_void_p

    def serve(path: str) -> None:
        context = ctypes.c_void_p(modbus.modbus_new_rtu(path.encode(), baud, ctypes.c_char(b"N"), 8, 1))
        modbus.modbus_set_response_timeout(context, int(TIMEOUT_S), 0)
        if modbus.modbus_connect(context) != 0:
            raise OSError(f"libmodbus cannot open {path}")
        words = (ctypes.c_uint16 * COUNT)()
        for device_id in cycle(DEVICE_IDS):
            modbus.modbus_set_slave(context, device_id)
            got = modbus.modbus_read_registers(context, ADDRESS, COUNT, words)
            meter.count(got == COUNT and list(words) == EXPECTED)

    meter.run_threads(paths, serve)


CLIENTS: dict[str, Callable[[Meter, list[str], int], None]] = {
    "transaction": run_talker,
    "line master": run_line_master,
    "pymodbus": run_pymodbus,
    "minimalmodbus": run_minimalmodbus,
}


def main() -> None:
    """Reads its arguments, runs one client, prints one JSON object."""
    parser = argparse.ArgumentParser(
        description="Runs one client against paced lines and prints what it cost.",
        epilog="example: python -m hw.sim.bench_bus.clients pymodbus --baud 9600 --seconds 5 /dev/pts/3",
    )
    parser.add_argument("client", choices=[*CLIENTS, "libmodbus"])
    parser.add_argument("--baud", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--library", help="path of libmodbus.so.5")
    parser.add_argument("paths", nargs="+")
    options = parser.parse_args()
    meter = Meter(options.seconds)
    if options.client == "libmodbus":
        run_libmodbus(meter, options.paths, options.baud, options.library)
    else:
        CLIENTS[options.client](meter, options.paths, options.baud)


if __name__ == "__main__":
    main()
