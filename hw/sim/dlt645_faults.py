"""All the ways a line spoils the answers of DL/T 645 meters: a table of what comes back instead of the right answer.

Each row makes (seconds from the request, bytes) parts out of the right answer, and names the reason codes under which
it may be reported ("good": the answer is right all the same, and may be believed). Nothing here uses the agent's codec.
Source: DL/T 645-2007, clause 5.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from hw.sim.dlt645_meter import bcd, frame_of

Parts = list[tuple[float, bytes]]

GOOD: Final = "good"
ANSWER_S: Final = 0.05  # 20 to 500 ms are allowed
_LEAD: Final = 4
_OFFSET: Final = 0x33


@dataclass(slots=True)
class Spoiler:
    """What a fault may work with: the request, the right answer, and when it is too late."""

    sent: bytes
    good: bytes
    late_s: float
    variant: int = 0

    @property
    def address(self) -> bytes:
        """The meter's address as it is on the wire."""
        return self.good[_LEAD + 1 : _LEAD + 7]

    @property
    def control(self) -> int:
        """The control code of the right answer."""
        return self.good[_LEAD + 8]

    @property
    def data(self) -> bytes:
        """The data of the right answer, without offset."""
        return bytes((byte - _OFFSET) % 256 for byte in self.good[_LEAD + 10 : -2])

    def other(self, address: bytes | None = None, control: int | None = None, data: bytes | None = None) -> bytes:
        """A whole frame like the right answer but for what is given."""
        return frame_of(
            self.address if address is None else address,
            self.control if control is None else control,
            self.data if data is None else data,
        )

    def lie(self) -> bytes:
        """Data of the same length that is not so; of an answer without data none."""
        return self.data[:4] + bcd(77, 4)[: max(0, len(self.data) - 4)].ljust(max(0, len(self.data) - 4), b"\x10")


Spoil = Callable[[Spoiler], Parts]


@dataclass(frozen=True, slots=True)
class Fault:
    """One row. `of_reads`: it needs data in the answer, which a command's has not."""

    spoil: Spoil
    reasons: frozenset[str]
    of_reads: bool = False


def at_once(data: bytes) -> Parts:
    """One piece, after the usual time."""
    return [(ANSWER_S, data)]


def _flipped(frame: bytes, bit: int) -> bytes:
    return bytes(byte ^ (1 << bit % 8) if at == bit // 8 else byte for at, byte in enumerate(frame))


def _one_bit(spoiler: Spoiler) -> Parts:
    """A bit of the frame itself; of what leads it none matters."""
    bits = 8 * (len(spoiler.good) - _LEAD)
    return at_once(_flipped(spoiler.good, 8 * _LEAD + spoiler.variant * 7 % bits))


def _truncated(spoiler: Spoiler) -> Parts:
    return at_once(spoiler.good[: _LEAD + spoiler.variant * 3 % (len(spoiler.good) - _LEAD)])


def _byte_lost(spoiler: Spoiler) -> Parts:
    at = _LEAD + 1 + spoiler.variant % (len(spoiler.good) - _LEAD - 2)
    return at_once(spoiler.good[:at] + spoiler.good[at + 1 :])


def _byte_doubled(spoiler: Spoiler) -> Parts:
    at = _LEAD + 1 + spoiler.variant % (len(spoiler.good) - _LEAD - 1)
    return at_once(spoiler.good[:at] + spoiler.good[at - 1 :])


def _in_pieces(spoiler: Spoiler) -> Parts:
    half = len(spoiler.good) // 2
    return [(ANSWER_S, spoiler.good[:half]), (ANSWER_S + 0.2, spoiler.good[half:])]


def _pause(spoiler: Spoiler) -> Parts:
    half = _LEAD + 6
    return [(ANSWER_S, spoiler.good[:half]), (ANSWER_S + 2 * spoiler.late_s, spoiler.good[half:])]


def _other_address(spoiler: Spoiler) -> bytes:
    first = spoiler.address[0]
    return bytes((first + 1 if first % 16 < 9 else first - 1, *spoiler.address[1:]))


def _other_identifier(spoiler: Spoiler) -> bytes:
    data = spoiler.lie()
    return spoiler.other(data=bytes((data[0], data[1], data[2] ^ 2, data[3])) + data[4:])


def _refusal(spoiler: Spoiler, error: int) -> bytes:
    return spoiler.other(control=spoiler.control | 0x40, data=bytes((error,)))


def _row(spoil: Spoil, reasons: str, *, of_reads: bool = False) -> Fault:
    return Fault(spoil, frozenset(reasons.split()), of_reads)


_DAMAGED: Final = (
    "not_a_frame truncated trailing_bytes no_end checksum wrong_address wrong_control wrong_length wrong_identifier "
    "noise_before late_reply"
)

FAULTS: Final[dict[str, Fault]] = {
    "none": _row(lambda s: at_once(s.good), GOOD),
    "no_lead": _row(lambda s: at_once(s.good[_LEAD:]), GOOD),
    "long_lead": _row(lambda s: at_once(b"\xfe" * 4 + s.good), GOOD),
    "endless_lead": _row(lambda s: at_once(b"\xfe" * 60 + s.good), "not_a_frame noise_before"),
    "in_pieces": _row(_in_pieces, GOOD),
    "silence": _row(lambda s: [], "timeout"),
    "late": _row(lambda s: [(s.late_s, s.good)], "late_reply"),
    "late_twice": _row(lambda s: [(s.late_s, s.good), (1.1 * s.late_s, s.good)], "trailing_bytes noise_before"),
    "late_of_another_item": _row(lambda s: [(s.late_s, _other_identifier(s))], "wrong_identifier", of_reads=True),
    "pause_inside": _row(_pause, "truncated late_reply"),
    "twice_in_one_piece": _row(lambda s: at_once(s.good + s.good), "trailing_bytes noise_before"),
    "another_item_before": _row(
        lambda s: at_once(_other_identifier(s) + s.good), "wrong_identifier trailing_bytes noise_before", of_reads=True
    ),
    "another_item_behind": _row(lambda s: at_once(s.good + _other_identifier(s)), "trailing_bytes", of_reads=True),
    "another_item": _row(lambda s: at_once(_other_identifier(s)), "wrong_identifier", of_reads=True),
    "another_meter": _row(lambda s: at_once(s.other(address=_other_address(s), data=s.lie())), "wrong_address"),
    "another_meter_before": _row(
        lambda s: at_once(s.other(address=_other_address(s), data=s.lie()) + s.good), "trailing_bytes noise_before"
    ),
    "another_control": _row(lambda s: at_once(s.other(control=s.control ^ 0x02)), "wrong_control"),
    "a_masters_frame": _row(lambda s: at_once(s.other(control=s.control & 0x7F)), "wrong_control"),
    "echo_only": _row(lambda s: at_once(s.sent), "echo_of_request"),
    "echo_before": _row(lambda s: at_once(s.sent + s.good), "echo_of_request"),
    "echo_without_lead": _row(lambda s: at_once(s.sent[_LEAD:]), "echo_of_request"),
    "noise_before": _row(lambda s: at_once(b"\x00\xff\x55" + s.good), "noise_before"),
    "start_byte_before": _row(lambda s: at_once(b"\x68" + s.good), _DAMAGED),
    "noise_behind": _row(lambda s: at_once(s.good + b"\x00\x68"), "trailing_bytes"),
    "noise_only": _row(lambda s: at_once(b"\x81\x00\xfc\x68\x13"), "not_a_frame"),
    "one_bit": _row(_one_bit, _DAMAGED),
    "truncated": _row(_truncated, "timeout truncated not_a_frame"),
    "byte_lost": _row(_byte_lost, _DAMAGED),
    "byte_doubled": _row(_byte_doubled, _DAMAGED),
    "wrong_sum": _row(lambda s: at_once(s.good[:-2] + bytes((s.good[-2] ^ 0x55, 0x16))), "checksum"),
    "wrong_end": _row(lambda s: at_once(s.good[:-1] + b"\x17"), "no_end"),
    "one_octet_more": _row(lambda s: at_once(s.other(data=s.data + b"\x00")), "wrong_length"),
    "one_octet_less": _row(lambda s: at_once(s.other(data=s.data[:-1])), "wrong_length", of_reads=True),
    "no_data": _row(lambda s: at_once(s.other(data=s.data[:4])), "wrong_length", of_reads=True),
    "first_part_only": _row(lambda s: at_once(s.other(control=s.control | 0x20)), f"wrong_control {GOOD}"),
    "no_such_data": _row(lambda s: at_once(_refusal(s, 2)), "exception_no_such_data"),
    "not_authorised": _row(lambda s: at_once(_refusal(s, 4)), "exception_not_authorised"),
    "other_error": _row(lambda s: at_once(_refusal(s, 0)), "exception_other_error"),
    "refusal_of_another_meter": _row(
        lambda s: at_once(s.other(address=_other_address(s), control=s.control | 0x40, data=b"\x02")), "wrong_address"
    ),
    "without_offset": _row(
        lambda s: at_once(s.good[: _LEAD + 10] + s.data + s.good[-2:]), "checksum", of_reads=True
    ),
    "two_meters_at_once": _row(
        lambda s: at_once(bytes(a & b for a, b in zip(s.good, s.other(address=_other_address(s), data=s.lie()),
                                                    strict=True))), _DAMAGED, of_reads=True
    ),
    # Right in form: only whoever reads the digits can tell.
    # Right in form: only whoever reads the digits can tell.
    "not_decimal": _row(
        lambda s: at_once(s.other(data=s.data[:4] + b"\xff" * (len(s.data) - 4))), GOOD, of_reads=True
    ),
}  # fmt: skip
