"""Reads under fault by the million: a line's transactions, visits and plausibility without a loop and without waiting.

    python -m hw.sim.faulted_reads --reads 1000000 --seed 1

Everything that decides in the agent is the real thing (`Transaction`, `Work`, `Device`, `RegisterWatch`); what is
between it and the meters is made here from a seed: at most requests one of the faults of `wire_faults.py`, or bits
turned at random, or noise under a right head, or the answer to the request before. A register is charged only if a
sample passes it on, so a sample whose register the meter did not show is a wrong register charged. Times are seconds
of a clock that jumps, energy is Wh.
"""

import argparse
import heapq
import random
import struct
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Final

from edge.bus.answer_times import AnswerTimes, WaitLimits
from edge.bus.classes import Deadlines
from edge.bus.device import Device
from edge.bus.frame import FRAMINGS, Framing
from edge.bus.plan import ReadCost, Rounds
from edge.bus.records import MeterOnLine, MeterSample, RelayOnLine, RelayState
from edge.bus.transaction import Ask, Outcome, Timing, Transaction
from edge.bus.work import Work
from edge.core.units import ClockQuality, ClockReading, UnixSeconds
from edge.meters.model import load_model
from hw.sim.wire_faults import FAULTS, GOOD, Kind, Parts, ScriptedDevice
from hw.sim.world.lines import with_crc

FAULTED_SHARE: Final = 0.6
LATE_S: Final = 0.4
METERS: Final = (1, 2, 3)
MONEY_ONLY: Final = 2
BOARD: Final = 9
MONEY: Final = 0x0048
POWER_W_MAX: Final = 14_000
POLL_S: Final = 1.0
# A register that really jumps or falls (a meter was exchanged), once in so many samples.
APART: Final = 12  # requests: longer than a visit
EXCHANGED_ONCE_IN: Final = 2_000
FRAMING_NAMES: Final = ("rtu", "rtu_echoed", "mbap")


@dataclass
class Tally:
    """What came of a run."""

    seed: int
    faulted_reads: int = 0
    requests: int = 0
    samples: int = 0
    wrong_frames_believed: int = 0  # passed every check of the framing: what plausibility is there for
    wrong_registers: int = 0  # passed on as a sample: would be charged
    wrong_relay_states: int = 0
    readings_rejected: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)

    def text(self) -> str:
        """One line for people, with the seed that shows it again."""
        return (
            f"seed {self.seed}: {self.faulted_reads} reads under fault of {self.requests} requests, {self.samples} "
            f"samples ({dict(sorted(self.verdicts.items()))}); wrong frames believed {self.wrong_frames_believed}, "
            f"readings rejected {self.readings_rejected}, wrong relay states {self.wrong_relay_states}, "
            f"WRONG REGISTERS {self.wrong_registers}"
        )


def run(seed: int, faulted_reads: int) -> Tally:
    """So many reads under fault, shared between RTU, RTU behind a local echo and Modbus TCP."""
    tally = Tally(seed)
    for index, name in enumerate(FRAMING_NAMES):
        site = _Site(FRAMINGS[name], name, random.Random(f"{seed} {name}"), tally)
        site.run(faulted_reads * (index + 1) // len(FRAMING_NAMES))
    return tally


class _Clock:
    """The accounting clock: as fast as the line's."""

    def __init__(self) -> None:
        self.now = 0.0

    def read(self) -> ClockReading:
        milliseconds = round(self.now * 1000)
        return ClockReading(UnixSeconds(1_700_000_000 + milliseconds // 1000), milliseconds, "boot", ClockQuality.NTP)


class _Site:
    """Three meters and a relay board on one line, and whoever asks them."""

    def __init__(self, framing: Framing, name: str, chance: random.Random, tally: Tally) -> None:
        self.kind: Kind = "mbap" if name == "mbap" else "rtu"
        self.echo, self.chance, self.tally = name == "rtu_echoed", chance, tally
        self.devices = {device_id: ScriptedDevice(self.kind) for device_id in (*METERS, BOARD)}
        self.energy_wh = {device_id: 1_000_000 * device_id for device_id in METERS}
        for device_id, device in self.devices.items():
            device.late_s = LATE_S
            if device_id in METERS:
                self._show(device_id)
        self.devices[BOARD].registers.update({(1, coil): chance.getrandbits(1) for coil in range(8)})
        self.answer_before = b""
        self.fitted_at = 0
        self.clock = _Clock()
        serial = Timing.of_serial(9_600, 0.3, 0.55, 5.0)
        timing = Timing(0.0, 0.0, 0.3, 0.55, 5.0) if self.kind == "mbap" else serial
        self.transaction = Transaction(framing, timing)
        self.faults = [fault for fault in FAULTS.values() if fault.reasons(self.kind) - {GOOD}]
        model, board = load_model("eastron_sdm120"), load_model("relay_board_8ch")
        cost = ReadCost.of_line(serial.byte_s, serial.gap_s)
        points = ("voltage_l1", "current_l1", "power_total", "frequency")
        read = {
            at: () if at == MONEY_ONLY else points for at in METERS
        }  # whose visit is one read and takes a short way
        meters = [
            Device(at, MeterOnLine(str(at), at, model, POWER_W_MAX, points=read[at]), [], framing, cost, Deadlines())
            for at in METERS
        ]
        relays = [RelayOnLine(str(channel), BOARD, board, channel) for channel in range(8)]
        self.bus = [Device(BOARD, None, relays, framing, cost, Deadlines()), *meters]
        rounds = Rounds([device.device_id for device in self.bus], POLL_S, 4.0)
        limits = WaitLimits.of_device(timing, None, over_network=False)
        times = {device.device_id: AnswerTimes(limits) for device in self.bus}
        self.work = Work(self.bus, rounds, self.clock, self._take_sample, self._take_relay, times)

    def run(self, faulted_reads: int) -> None:
        """Rounds until the tally has so many reads under fault."""
        while self.tally.faulted_reads < faulted_reads:
            ask = self.work.next_ask(self.clock.now)
            if ask is None:
                self.clock.now = max(self.clock.now, self.work.due_at())
                continue
            outcome = self._ask(ask)
            self.tally.requests += 1
            self._judge(outcome)
            self.work.take(ask, outcome, self.clock.now)
        self.tally.readings_rejected += sum(device.readings_rejected for device in self.bus)

    def _ask(self, ask: Ask) -> Outcome:
        """One request to its end; bytes come when they come, timers when they are due."""
        transaction, coming, order = self.transaction, list[tuple[float, int, bytes]](), count()
        transaction.submit(ask.request, self.clock.now, ask.gap_s, self.work.wait_s(ask))
        while True:
            sent = transaction.outgoing()
            for delay_s, part in self._answer(sent) if sent else []:
                heapq.heappush(coming, (self.clock.now + delay_s, next(order), part))
            deadline = transaction.get_timer()
            assert deadline is not None
            if coming and coming[0][0] <= deadline:
                self.clock.now, _, part = heapq.heappop(coming)
                outcome = transaction.receive(part, self.clock.now)
            else:
                self.clock.now = deadline
                outcome = transaction.handle_timer(deadline)
            if outcome is not None:
                self.clock.now = max([self.clock.now, *(at for at, _, _ in coming)])  # nothing is left on the wire
                return outcome

    def _answer(self, sent: bytes) -> Parts:
        device = self.devices[sent[0] if self.kind == "rtu" else sent[6]]
        before, self.answer_before = self.answer_before, device.good(sent)
        parts: Parts = [(0.0, self.answer_before)]
        if self.chance.random() < FAULTED_SHARE:
            self.tally.faulted_reads += 1
            device.variant = self.chance.getrandbits(16)
            parts = self._spoiled(device, sent, before)
        return [(0.0, sent), *parts] if self.echo else parts

    def _spoiled(self, device: ScriptedDevice, sent: bytes, before: bytes) -> Parts:
        kinds: list[Callable[[bytes, bytes], bytes]] = []
        if device is not self.devices[BOARD]:  # see the README of edge/bus: in a relay state nothing could tell
            kinds.append(self._old_answer)
            if self.kind == "rtu" and self.tally.requests - self.fitted_at > APART:
                kinds.append(self._checksum_of_chance)
        if self.kind == "rtu":
            kinds += [self._bits_turned, self._noise_under_the_head]
        choice = self.chance.randrange(12)
        if choice < len(kinds):
            return [(0.0, kinds[choice](self.answer_before, before))]
        row = self.chance.choice(self.faults)
        function_code = device.pdu(sent)[0]
        while not row.spoils(self.kind, function_code):
            row = self.chance.choice(self.faults)
        return row.spoil(device, sent)

    def _old_answer(self, answer: bytes, before: bytes) -> bytes:
        """A line that is one answer behind."""
        return before

    def _bits_turned(self, answer: bytes, before: bytes) -> bytes:
        frame = bytearray(answer)
        for _ in range(1 + self.chance.randrange(12)):
            place = self.chance.randrange(8 * len(frame))
            frame[place // 8] ^= 1 << place % 8
        return bytes(frame)

    def _noise_under_the_head(self, answer: bytes, before: bytes) -> bytes:
        """Data and checksum by chance: one in 65,536 fits."""
        return answer[:3] + self.chance.randbytes(len(answer) - 3)

    def _checksum_of_chance(self, answer: bytes, before: bytes) -> bytes:
        """Noise whose checksum fits, as if one chance in 65,536 had come to pass; never under two reads of a visit.

        That would be one in four thousand million, and there half of all noise is a float32 near 0: two of them agree.
        """
        self.fitted_at = self.tally.requests
        return with_crc(answer[:3] + self.chance.randbytes(len(answer) - 5))

    def _judge(self, outcome: Outcome) -> None:
        self.tally.reasons[outcome.reason or GOOD] += 1
        request = outcome.request
        device = self.devices[request.device_id]
        if outcome.reason is None:
            truth = device.truth(request.function_code, request.address, request.count)
            self.tally.wrong_frames_believed += outcome.words != truth

    def _take_sample(self, sample: MeterSample) -> None:
        device_id = int(sample.meter_id)
        self.tally.samples += 1
        self.tally.verdicts[sample.verdict] += 1
        self.tally.wrong_registers += sample.register_wh != self._shown_wh(device_id)
        if self.chance.randrange(EXCHANGED_ONCE_IN) == 0:
            self.energy_wh[device_id] = self.chance.randrange(20_000_000)
        self.energy_wh[device_id] += self.chance.randrange(3)  # 14 kW make 3.9 Wh a second
        self._show(device_id)

    def _take_relay(self, state: RelayState) -> None:
        contact = self.devices[BOARD].registers[1, int(state.relay_id)]
        self.tally.wrong_relay_states += state.closed is not bool(contact)

    def _show(self, device_id: int) -> None:
        self.devices[device_id].hold_float(4, MONEY, self.energy_wh[device_id] / 1000)

    def _shown_wh(self, device_id: int) -> int:
        """What the register holds, exactly: a float32 of kWh, rounded down to Wh."""
        words = self.devices[device_id].truth(4, MONEY, 2)
        shown_kwh: float = struct.unpack(">f", struct.pack(">HH", *words))[0]
        numerator, denominator = shown_kwh.as_integer_ratio()
        return 1000 * numerator // denominator


def main() -> int:
    """Runs a campaign from the command line; status 1 if a wrong register would have been charged."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reads", type=int, default=1_000_000, metavar="N", help="reads under fault (1000000)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="chance starts here (1)")
    options = parser.parse_args()
    tally = run(options.seed, options.reads)
    print(tally.text())
    return 1 if tally.wrong_registers else 0


if __name__ == "__main__":
    sys.exit(main())
