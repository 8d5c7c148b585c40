"""One RS-485 line: pymodbus's own server in RTU framing behind a pair of pseudo-terminals.

    gateway <-> pty <-> this process, byte by byte <-> pty <-> pymodbus's server <-> devices

The middle is where a fault spoils, delays or drops bytes. Times in seconds. pymodbus frames, decodes, encodes and
sends; only what a device answers is ours, because its own register memory has no silent device (an unknown device id
answers exception 4) and no per-device functions. Source: pymodbus 3.16.1, Modbus over Serial Line V1.02.
"""

import asyncio
import contextlib
import logging
import os
import tty
from collections.abc import Callable, Mapping, Sequence
from typing import cast

from pymodbus import FramerType
from pymodbus.constants import ExcCodes
from pymodbus.datastore import ModbusServerContext
from pymodbus.exceptions import NoSuchIdException
from pymodbus.pdu import ExceptionResponse, ModbusPDU
from pymodbus.pdu.bit_message import (
    ReadCoilsResponse,
    ReadDiscreteInputsResponse,
    WriteMultipleCoilsResponse,
    WriteSingleCoilResponse,
)
from pymodbus.pdu.register_message import (
    ReadHoldingRegistersResponse,
    ReadInputRegistersResponse,
    WriteMultipleRegistersResponse,
    WriteSingleRegisterResponse,
)
from pymodbus.server import ModbusSerialServer
from pymodbus.simulator import DataType, SimData, SimDevice

from hw.sim.device import Device, ExceptionCode

# What goes in comes out as (delay in seconds, bytes) parts: none drops it, other bytes spoil it.
Fault = Callable[[bytes], Sequence[tuple[float, bytes]]]

READ_SIZE = 4096
SILENCE_S = 0.02  # a pause that ends a frame: 3.5 characters are 4 ms at 9600 baud, a busy computer needs more
EXCEPTION_BIT = 0x80

BIT_READS: dict[int, type[ModbusPDU]] = {1: ReadCoilsResponse, 2: ReadDiscreteInputsResponse}
REGISTER_READS: dict[int, type[ModbusPDU]] = {3: ReadHoldingRegistersResponse, 4: ReadInputRegistersResponse}
SINGLE_COIL, SINGLE_REGISTER, COILS, REGISTERS = 5, 6, 15, 16


class Line:
    """A running line. `before_request` is called ahead of every request, to bring the street up to date."""

    def __init__(
        self, devices: Mapping[int, Device], before_request: Callable[[], None], silence_s: float = SILENCE_S
    ) -> None:
        self.fault_to_devices: Fault | None = None
        self.fault_to_gateway: Fault | None = None
        self.gateway_path = ""
        self._devices = devices
        self._before_request = before_request
        self._silence_s = silence_s
        self._descriptors: list[int] = []
        self._server: ModbusSerialServer | None = None
        self._heard_at = 0.0
        self._burst = 0

    async def open(self) -> None:
        """Starts the server; afterwards `gateway_path` is the device a gateway opens.

        The gateway's end stays open here too: without that, a killed gateway would leave a dead terminal behind.
        """
        logging.getLogger("pymodbus").setLevel(logging.CRITICAL)  # noise on a line is not news
        gateway_master, self.gateway_path = self._open_pair()
        device_master, device_path = self._open_pair()
        self._server = ModbusSerialServer(
            SimDevice(0, simdata=SimData(0, datatype=DataType.REGISTERS)),  # never asked: see AnsweredRequest
            framer=FramerType.RTU,
            port=device_path,
            ignore_missing_devices=True,
            trace_pdu=self._take_request,
            trace_packet=self._frame_by_silence,
        )
        await self._server.serve_forever(background=True)
        loop = asyncio.get_running_loop()
        loop.add_reader(gateway_master, self._copy_to_devices, gateway_master, device_master)
        loop.add_reader(device_master, self._copy_to_gateway, device_master, gateway_master)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        loop = asyncio.get_running_loop()
        for descriptor in self._descriptors:
            loop.remove_reader(descriptor)
            os.close(descriptor)
        self._descriptors.clear()

    def _open_pair(self) -> tuple[int, str]:
        master, slave = os.openpty()
        tty.setraw(slave)
        os.set_blocking(master, False)
        self._descriptors += [master, slave]
        return master, os.ttyname(slave)

    def _copy_to_devices(self, source: int, target: int) -> None:
        self._copy(source, self.fault_to_devices, lambda data: self._put_to_devices(target, data))

    def _copy_to_gateway(self, source: int, target: int) -> None:
        self._copy(source, self.fault_to_gateway, lambda data: put(target, data))

    def _copy(self, source: int, fault: Fault | None, deliver: Callable[[bytes], None]) -> None:
        try:
            data = os.read(source, READ_SIZE)
        except BlockingIOError:
            return
        parts: Sequence[tuple[float, bytes]] = [(0.0, data)] if fault is None else fault(data)
        for delay_s, part in parts:
            if delay_s > 0:
                asyncio.get_running_loop().call_later(delay_s, deliver, part)
            else:
                deliver(part)

    def _put_to_devices(self, target: int, data: bytes) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._heard_at > self._silence_s:
            self._burst = 0
        self._heard_at = now
        self._burst += len(data)
        put(target, data)

    def _frame_by_silence(self, sending: bool, data: bytes) -> bytes:
        """Gives the framer only what came since the last silence.

        pymodbus waits for the rest of a broken request for ever, and so loses the good one after it; a device on a
        real line starts afresh after 3.5 characters of silence.
        """
        if sending:
            self._burst = 0
            return data
        return data[-self._burst :]

    def _take_request(self, sending: bool, pdu: ModbusPDU) -> ModbusPDU:
        if sending:
            return pdu
        self._before_request()
        return AnsweredRequest(pdu, self._devices.get(pdu.dev_id))


def put(target: int, data: bytes) -> None:
    """Writes what fits. When nobody reads, bytes are lost, as on a wire."""
    with contextlib.suppress(BlockingIOError, OSError):
        os.write(target, data)


class AnsweredRequest(ModbusPDU):
    """A request that is answered by one of our devices instead of by pymodbus's memory."""

    def __init__(self, request: ModbusPDU, device: Device | None) -> None:
        super().__init__(dev_id=request.dev_id, transaction_id=request.transaction_id)
        self.function_code = request.function_code
        self._request, self._device = request, device

    async def datastore_update(self, context: ModbusServerContext, device_id: int) -> ModbusPDU:
        """The answer. NoSuchIdException makes the server say nothing at all."""
        if self._device is None or self._device.silent or self.function_code >= EXCEPTION_BIT:
            raise NoSuchIdException(f"device {device_id} does not answer")
        answer = answer_of(self._device, self._request)
        if isinstance(answer, ExceptionCode):
            return ExceptionResponse(self.function_code, ExcCodes(answer))
        return answer


def answer_of(device: Device, request: ModbusPDU) -> ModbusPDU | ExceptionCode:
    """Asks the device, and dresses what it says. Functions without a row are refused."""
    function_code, address, count = request.function_code, request.address, request.count
    if function_code in BIT_READS or function_code in REGISTER_READS:
        values = device.read(function_code, address, count)
        if isinstance(values, ExceptionCode):
            return values
        if function_code in BIT_READS:
            return BIT_READS[function_code](bits=[bool(value) for value in values])
        return REGISTER_READS[function_code](registers=list(values))
    if function_code in (SINGLE_COIL, COILS):
        written = [int(bit) for bit in request.bits]
    elif function_code in (SINGLE_REGISTER, REGISTERS):
        written = list(request.registers)
    else:
        return ExceptionCode.ILLEGAL_FUNCTION
    if function_code in (COILS, REGISTERS) and len(written) != count:
        return ExceptionCode.ILLEGAL_DATA_VALUE
    return device.write(function_code, address, written) or echo_of(request)


def echo_of(request: ModbusPDU) -> ModbusPDU:
    """The answer to a write that was taken: it repeats the request, whatever the contact really does."""
    address, count = request.address, request.count
    if request.function_code == SINGLE_COIL:
        return WriteSingleCoilResponse(address=address, bits=request.bits)
    if request.function_code == SINGLE_REGISTER:
        return WriteSingleRegisterResponse(address=address, registers=cast(list[int], request.registers))
    if request.function_code == COILS:
        return WriteMultipleCoilsResponse(address=address, count=count)
    return WriteMultipleRegistersResponse(address=address, count=count)
