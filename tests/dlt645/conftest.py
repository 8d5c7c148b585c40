"""Virtual DL/T 645 meters behind a fake port on a virtual event loop, and a master that asks them.

Times are seconds. The meters, their frames and the faults are of hw/sim, which knows nothing of the agent's codec.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from edge.bus.line import LineMaster, LineSettings, MeterOnLine, MeterSample, RelayOnLine, RelayState
from edge.core.units import ClockQuality, UnixSeconds
from edge.dlt645.authority import Authority
from edge.meters.model import load_model
from edge.ports import BytePort, ClockReading
from hw.sim.dlt645_faults import FAULTS, Spoiler
from hw.sim.dlt645_meter import Dlt645Meter, collided
from hw.sim.world.loop import VirtualLoop

POWER_W_MAX = 14_000
ADDRESSES = (320_100_000_147, 320_100_000_148, 1)
AUTHORITY = Authority(2, "123456", "00000001")
TIMEOUT_S = 0.7


class LoopClock:
    """The accounting clock of a virtual loop."""

    def read(self) -> ClockReading:
        elapsed_ms = round(asyncio.get_running_loop().time() * 1000)
        return ClockReading(UnixSeconds(1_772_380_800 + elapsed_ms // 1000), elapsed_ms, "boot", ClockQuality.NTP)


class FakePort:
    """A line with meters on it; `choose_fault` names what befalls each answer."""

    def __init__(self, *meters: Dlt645Meter, byte_s: float = 11 / 2400) -> None:
        self.meters, self.byte_s = meters, byte_s
        self.sent: list[tuple[float, bytes]] = []
        self.choose_fault: Callable[[bytes], str] = lambda sent: "none"
        self.faults: list[str] = []
        self.before_answer: Callable[[], None] = lambda: None
        self.variant = 0

    async def __call__(self, on_bytes: Callable[[bytes], None], on_lost: Callable[[str], None]) -> BytePort:
        self._on_bytes = on_bytes
        return self

    def write(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        self.sent.append((loop.time(), data))
        loop.call_later(len(data) * self.byte_s, self._hear, data)

    def close(self) -> None:
        """Nothing is held."""

    def asked(self) -> list[str]:
        """The identifiers asked for so far, control codes of all else."""
        plain = [(data[12], bytes((byte - 0x33) % 256 for byte in data[14:-2])) for _, data in self.sent]
        return [data[::-1].hex() if control == 0x11 else f"control {control:02x}" for control, data in plain]

    def _hear(self, sent: bytes) -> None:
        self.before_answer()
        good = collided([meter.answer(sent) for meter in self.meters])
        if good is None:
            return
        self.variant += 1
        name = self.choose_fault(sent)
        self.faults.append(name)
        has_data = len(good) > 16 and good[12] == 0x91
        fault = FAULTS[name if has_data or not FAULTS[name].of_reads else "none"]
        for delay_s, part in fault.spoil(Spoiler(sent, good, 1.3 * TIMEOUT_S, self.variant)):
            asyncio.get_running_loop().call_later(delay_s, self._on_bytes, part)


@dataclass
class Site:
    """Three meters with their own relays on a line."""

    protected: frozenset[str] = frozenset()
    authority: Authority = AUTHORITY
    poll_interval_ms: float = 10_000
    samples: list[MeterSample] = field(default_factory=list)
    relays: list[RelayState] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.meters = [Dlt645Meter(f"{address:012d}") for address in ADDRESSES]
        self.port = FakePort(*self.meters)
        self.model = load_model("dlt645_2007")
        points = self.model.round_points
        self.master = LineMaster(
            LineSettings("line1", "/dev/ttyUSB0", 2400, "8E1", 1000 * TIMEOUT_S, protocol="dlt645",
                         poll_interval_ms=self.poll_interval_ms, dead_backoff_s_max=60),
            [MeterOnLine(f"m{at}", id_, self.model, POWER_W_MAX, points=points) for at, id_ in enumerate(ADDRESSES, 1)],
            [RelayOnLine(f"r{at}", id_, self.model, 0, self.authority) for at, id_ in enumerate(ADDRESSES, 1)],
            self.port,
            LoopClock(),
            self.samples.append,
            self.relays.append,
            self.protected,
        )  # fmt: skip

    async def live(self, seconds: float, *doing: Awaitable[Any]) -> Any:
        """Lets the master work for so long, and returns what the first of `doing` returned."""
        running = asyncio.ensure_future(self.master.run())
        await asyncio.sleep(0)
        work = [asyncio.ensure_future(one) for one in doing]
        await asyncio.sleep(seconds)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return (await asyncio.gather(*work))[0] if work else None


@pytest.fixture
def virtual() -> Iterator[Callable[[Awaitable[Any]], Any]]:
    """Runs a coroutine on a virtual loop."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        yield runner.run  # type: ignore[misc]


@pytest.fixture(scope="session")
def line() -> SimpleNamespace:
    """The tools of this file by name: test modules cannot import them."""
    return SimpleNamespace(Site=Site, FakePort=FakePort, LoopClock=LoopClock, addresses=ADDRESSES, timeout_s=TIMEOUT_S)
