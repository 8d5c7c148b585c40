"""The five models against pymodbus's own server, over two pseudo-terminals joined in the middle.

The server's registers are written here by hand from the vendors' tables; nothing of edge.meters is
used to fill them.
"""

import asyncio
import os
import struct
import tty
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from types import SimpleNamespace

import pytest
from pymodbus import FramerType
from pymodbus.server import ModbusSerialServer
from pymodbus.simulator import DataType, SimData, SimDevice

from edge.bus.line import LineMaster, LineSettings, MeterOnLine, MeterSample, OutputResult, RelayOnLine
from edge.meters.model import load_model
from hw.serial_port import serial_opener

WAIT_S = 10.0


def floats(values: Mapping[int, float]) -> dict[int, int]:
    """float32 values by address as registers, high word first."""
    registers: dict[int, int] = {}
    for address, value in values.items():
        registers[address], registers[address + 1] = struct.unpack(">HH", struct.pack(">f", value))
    return registers


# Device id, model, highest address + 1, registers, what must come out.
METERS: dict[str, tuple[int, int, dict[int, int], dict[str, str]]] = {
    "eastron_sdm120": (
        1,
        400,
        floats({0: 230.5, 6: 4.25, 12: 975.0, 30: 0.5, 70: 50.0, 72: 1234.5, 74: 1.5, 342: 1236.0}),
        {"voltage_l1": "230.5", "power_total": "975", "frequency": "50", "energy_import_total": "1234.5"},
    ),
    "eastron_sdm630": (
        2,
        400,
        floats({0: 229.0, 2: 230.0, 4: 231.0, 10: 3.5, 16: 800.0, 52: 2400.0, 62: 0.75, 72: 65536.0078125, 350: 7.5}),
        {
            "voltage_l3": "231",
            "current_l3": "3.5",
            "power_l3": "800",
            "power_total": "2400",
            "energy_import_total": "65536.0078125",
            "energy_import_l3": "7.5",
        },
    ),
    "chint_ddsu666": (
        3,
        0x4010,
        floats({0x2000: 228.0, 0x2002: 1.5, 0x2004: 0.3125, 0x200E: 49.5, 0x4000: 88.25}),
        {"voltage_l1": "228", "power_total": "312.5", "frequency": "49.5", "energy_import_total": "88.25"},
    ),
    "chint_dtsu666": (
        4,
        0x2050,
        floats({0x2006: 2315.0, 0x200C: 4250.0, 0x2012: 9750.0, 0x2044: 5000.0, 0x101E: 4321.125, 0x1020: 1440.375}),
        {
            "voltage_l1": "231.5",
            "current_l1": "4.25",
            "power_total": "975",
            "frequency": "50",
            "energy_import_total": "4321.125",
            "energy_import_l1": "1440.375",
        },
    ),
    "hiking_dds238_2": (
        5,
        64,
        {0: 1, 1: 2, 10: 0, 11: 54321, 12: 2345, 13: 512, 14: 0x10000 - 1200, 16: 950, 17: 5001, 26: 1},
        {
            "energy_total": "655.38",
            "energy_import_total": "543.21",
            "voltage_l1": "234.5",
            "current_l1": "5.12",
            "power_total": "-1200",
            "frequency": "50.01",
        },
    ),
}


@asynccontextmanager
async def pymodbus_line() -> AsyncIterator[str]:
    """pymodbus's server with all five meters and a relay board; the path a gateway opens."""
    loop, ends = asyncio.get_running_loop(), []
    for _ in range(2):
        master, slave = os.openpty()
        tty.setraw(slave)
        ends.append((master, slave))
    (gateway, gateway_slave), (device, device_slave) = ends
    loop.add_reader(gateway, lambda: os.write(device, os.read(gateway, 512)))
    loop.add_reader(device, lambda: os.write(gateway, os.read(device, 512)))
    server = ModbusSerialServer(
        [*(sim_meter(*meter[:3]) for meter in METERS.values()), sim_board()],
        framer=FramerType.RTU,
        port=os.ttyname(device_slave),
        baudrate=9600,
    )
    await server.serve_forever(background=True)
    try:
        yield os.ttyname(gateway_slave)
    finally:
        server.close()
        for master, slave in ends:
            loop.remove_reader(master)
            os.close(master)
            os.close(slave)


def sim_meter(device_id: int, size: int, registers: Mapping[int, int]) -> SimDevice:
    values = [registers.get(address, 0) for address in range(size)]
    return SimDevice(device_id, simdata=[SimData(0, values=values, datatype=DataType.REGISTERS)])


def sim_board() -> SimDevice:
    bits = [SimData(0, values=[True] * 16, datatype=DataType.BITS)]
    words = [SimData(0, values=[0] * 2, datatype=DataType.REGISTERS)]
    return SimDevice(9, simdata=(bits, bits, words, words))


@asynccontextmanager
async def master_of(path: str, wire: SimpleNamespace) -> AsyncIterator[tuple[LineMaster, dict[str, MeterSample]]]:
    """A running master that has read every meter; its samples."""
    samples: dict[str, MeterSample] = {}
    all_read = asyncio.Event()

    def take(sample: MeterSample) -> None:
        samples[sample.meter_id] = sample
        if len(samples) == len(METERS):
            all_read.set()

    master = LineMaster(
        LineSettings("line1", path, baud=9600, poll_interval_ms=200),
        [MeterOnLine(model_id, meter[0], load_model(model_id), 10_000) for model_id, meter in METERS.items()],
        [
            RelayOnLine("own", 5, load_model("hiking_dds238_2")),
            *(RelayOnLine(f"coil {channel}", 9, load_model("relay_board_8ch"), channel) for channel in range(8)),
        ],
        serial_opener(path, 9600),
        wire.LoopClock(),
        take,
        lambda state: None,
    )
    task = asyncio.ensure_future(master.run())
    try:
        await asyncio.wait_for(all_read.wait(), WAIT_S)
        yield master, samples
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.timeout(60)
def test_every_model_is_read_from_a_real_server_to_the_digit(wire: SimpleNamespace) -> None:
    async def story() -> None:
        async with pymodbus_line() as path, master_of(path, wire) as (master, samples):
            for model_id, (_, _, _, values) in METERS.items():
                got = samples[model_id].values
                assert {name: got[name] for name in values} == {name: Decimal(text) for name, text in values.items()}
                exact_wh = Decimal(values["energy_import_total"]) * 1000
                assert samples[model_id].register_wh == int(exact_wh)
                assert set(got) == set(load_model(model_id).points)
            view = master.view()
            assert view.polls_failed == 0, view
            assert {sample.verdict for sample in samples.values()} == {"good"}

    asyncio.run(story())


@pytest.mark.timeout(60)
def test_relays_of_a_real_server_are_switched_and_read_back(wire: SimpleNamespace) -> None:
    async def story() -> None:
        async with pymodbus_line() as path, master_of(path, wire) as (master, _):
            async with asyncio.timeout(WAIT_S):
                for relay_id in ("own", "coil 0", "coil 7"):
                    assert await master.set_output(relay_id, False) == OutputResult(True, False, None)
                    assert await master.set_output(relay_id, True) == OutputResult(True, True, None)
            assert master.view().polls_failed == 0, master.view()

    asyncio.run(story())
