"""Kernel RS-485, RTS by the program, the mini-UART and an adapter's latency timer, on sysfs and calls made here."""

import asyncio
import errno
import os
import struct
import termios
from pathlib import Path

import pytest

from hw.line_words import in_language, sentences
from hw.rs485 import (
    NO_KERNEL_MODE,
    OTHER_KERNEL_MODE,
    TIOCGRS485,
    TIOCSERGETLSR,
    TIOCSRS485,
    Direction,
    set_kernel_mode,
)
from hw.serial_facts import NO_PARITY, serial_facts, serial_warnings
from hw.serial_port import serial_opener


class Driver:
    """A driver's side of the calls: what it was told, in order."""

    def __init__(self, refuses: int | None = None, keeps: int | None = None) -> None:
        self.refuses, self.keeps = refuses, keeps
        self.settings = bytes(32)
        self.moves: list[str] = []

    def __call__(self, descriptor: int, call: int, argument: bytes) -> bytes:
        if self.refuses is not None:
            raise OSError(self.refuses, os.strerror(self.refuses))
        if call == TIOCSRS485:
            flags = self.keeps if self.keeps is not None else struct.unpack_from("=I", argument)[0]
            self.settings = struct.pack("=I", flags) + argument[4:]
        elif call in (termios.TIOCMBIS, termios.TIOCMBIC):
            self.moves.append("high" if call == termios.TIOCMBIS else "low")
        elif call == termios.TIOCOUTQ:
            return bytes(4)
        elif call == TIOCSERGETLSR:
            return struct.pack("@I", 1)
        return self.settings if call == TIOCGRS485 else argument


def tty_of(sysfs: Path, name: str, driver: str, latency: str | None = None) -> None:
    device = sysfs / "class" / "tty" / name / "device"
    device.mkdir(parents=True)
    (device / "driver").symlink_to(f"/sys/bus/any/drivers/{driver}")
    if latency is not None:
        (device / "latency_timer").write_text(latency)


@pytest.mark.parametrize(("level", "flags"), [("high", 0b011), ("low", 0b101)])
def test_the_kernel_is_told_the_mode_the_level_and_the_delays(level: str, flags: int) -> None:
    driver = Driver()
    set_kernel_mode(3, Direction("kernel", level, 2, 1), driver)  # type: ignore[arg-type]
    assert struct.unpack("=8I", driver.settings) == (flags, 2, 1, 0, 0, 0, 0, 0)


@pytest.mark.parametrize("number", [errno.ENOTTY, errno.EINVAL])
def test_a_driver_without_the_mode_is_said_with_what_to_do(number: int) -> None:
    with pytest.raises(OSError, match="has no RS-485 mode") as problem:
        set_kernel_mode(3, Direction("kernel"), Driver(refuses=number))
    assert problem.value.strerror == NO_KERNEL_MODE


def test_a_driver_that_takes_other_settings_is_not_believed() -> None:
    with pytest.raises(OSError, match="not these settings") as problem:
        set_kernel_mode(3, Direction("kernel"), Driver(keeps=0))
    assert problem.value.strerror == OTHER_KERNEL_MODE


@pytest.mark.parametrize(("kind", "sentence"), [("kernel", "has no RS-485 mode"), ("rts", "has no RTS to switch")])
def test_a_pseudo_terminal_has_neither_and_says_so(kind: str, sentence: str) -> None:
    async def story() -> None:
        master, slave = os.openpty()
        path = os.ttyname(slave)
        with pytest.raises(OSError, match=f"{path}: .*{sentence}"):
            await serial_opener(path, 9600, "8N1", Direction(kind))(print, print)  # type: ignore[arg-type]
        os.close(master)
        os.close(slave)

    asyncio.run(story())


def test_rts_is_up_while_a_request_leaves_and_down_after_it() -> None:
    async def story() -> None:
        master, slave = os.openpty()
        driver = Driver()
        opener = serial_opener(os.ttyname(slave), 115_200, "8N1", Direction("rts", "high", 1, 1), ioctl=driver)
        port = await opener(print, print)
        assert driver.moves == ["low"]
        port.write(b"\x01\x02")
        assert driver.moves == ["low", "high"]
        async with asyncio.timeout(5):
            while len(driver.moves) < 3:
                await asyncio.sleep(0)
        assert driver.moves == ["low", "high", "low"]
        assert os.read(master, 10) == b"\x01\x02"
        port.close()
        os.close(master)
        os.close(slave)

    asyncio.run(story())


@pytest.mark.parametrize("format", ["8E1", "8O1"])
def test_parity_on_the_mini_uart_is_refused_with_an_explanation(tmp_path: Path, format: str) -> None:
    tty_of(tmp_path, "ttyS0", "bcm2835-aux-uart")
    with pytest.raises(OSError, match="mini-UART, which has no parity") as problem:
        asyncio.run(serial_opener("/dev/ttyS0", 9600, format, sysfs=tmp_path)(print, print))
    assert problem.value.strerror == f"/dev/ttyS0: {NO_PARITY}"
    assert "没有校验位" in in_language(problem.value.strerror, "zh")


def test_an_adapter_that_holds_bytes_back_is_warned_about_with_the_command_that_mends_it(tmp_path: Path) -> None:
    tty_of(tmp_path, "ttyUSB0", "ftdi_sio", "16\n")
    tty_of(tmp_path, "ttyUSB1", "ftdi_sio", "1\n")
    tty_of(tmp_path, "ttyUSB2", "ch341-uart")
    (warning,) = serial_warnings("/dev/ttyUSB0", "8N1", Direction(), tmp_path)
    command = "echo 1 | sudo tee /sys/bus/usb-serial/devices/ttyUSB0/latency_timer"
    assert command in warning.text("en")
    assert command in warning.text("zh")
    assert "16 ms" in warning.text("en")
    for name in ("ttyUSB1", "ttyUSB2", "ttyUSB3"):
        assert serial_warnings(f"/dev/{name}", "8N1", Direction(), tmp_path) == ()


def test_the_hardwares_driver_is_found_behind_the_kernels_own_devices(tmp_path: Path) -> None:
    hardware = tmp_path / "devices" / "3f215040.serial"
    port = hardware / "3f215040.serial:0" / "3f215040.serial:0.0"
    port.mkdir(parents=True)
    (port / "driver").symlink_to("/sys/bus/serial-base/drivers/port")
    (port.parent / "driver").symlink_to("/sys/bus/serial-base/drivers/ctrl")
    (hardware / "driver").symlink_to("/sys/bus/platform/drivers/bcm2835-aux-uart")
    (tmp_path / "class" / "tty" / "ttyS0").mkdir(parents=True)
    (tmp_path / "class" / "tty" / "ttyS0" / "device").symlink_to(port)
    assert serial_facts("/dev/ttyS0", tmp_path).is_mini_uart


def test_every_sentence_of_a_port_has_its_chinese() -> None:
    assert in_language("/dev/x is used by another program: a line can have only one master", "zh").startswith("/dev/x ")
    assert in_language("/dev/x: something of the system", "zh") == "/dev/x: something of the system"
    assert {NO_PARITY, NO_KERNEL_MODE, OTHER_KERNEL_MODE} <= sentences("zh").keys()
