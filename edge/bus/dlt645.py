"""DL/T 645-2007 as one more framing of a line: data items are asked for where registers are on a Modbus line.

A device id is the number of the meter's twelve-digit address, an address is an identifier, a word is an octet of data
without its offset, least significant first. Every check is that of `edge/dlt645`; the transaction, its drains and its
timers are those of every line. Source: DL/T 645-2007, clauses 5 and 7.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

from edge.bus.frame import Framing, Request
from edge.core.lean import dataclass
from edge.dlt645 import frame as codec
from edge.dlt645.authority import Authority
from edge.dlt645.supply import SupplyCommand, supply_request

METER_DATE: Final = 0x04000101  # YYMMDDWW
METER_TIME: Final = 0x04000102  # hhmmss
ADDRESS_ITEM: Final = 0x04000401
DEVICE_ID_MAX: Final = 999_999_999_998  # the nines are the broadcast
# How long a supply command is worth something on the meter's own clock.
_VALID_FOR: Final = timedelta(hours=1)
_FREEZES: Final = 0x05
_BLOCK: Final = 0xFF
_FRAME_BYTES_MIN: Final = 12
_ADDRESS_BYTES: Final = 6
_ANSWER_BYTES: Final = 20  # of the shortest answer with what leads it


@dataclass(frozen=True, slots=True)
class DataRequest(Request):
    """A request of the bus with what the codec needs to judge its answer."""

    question: codec.Request

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_write", bool(self.words))
        object.__setattr__(self, "good_head", b"")  # only the codec says what is good


@dataclass(frozen=True, slots=True)
class Dlt645Framing(Framing):
    """The framing. With `local_echo` the adapter hears itself and the request stands before each answer."""

    local_echo: bool = False

    @property
    def hears_itself(self) -> bool:
        """Whether each answer stands behind its request."""
        return self.local_echo

    def read(self, device_id: int, function_code: int, address: int, count: int) -> Request:
        """Asks for a data item of `count` octets, or for a block whose answer is a multiple of them."""
        assert function_code == codec.READ
        multiple = is_block(address)
        exactly = None if multiple else count
        question = codec.read_request(address_text(device_id), address, exactly, count if multiple else 1)
        answer_bytes = _ANSWER_BYTES + count
        return DataRequest(device_id, function_code, address, count, (), question.frame, answer_bytes, question)

    def write(self, device_id: int, function_code: int, address: int, words: tuple[int, ...]) -> Request:
        """Nothing is written to such a meter; its relay is commanded by `supply`."""
        raise AssertionError("a meter of DL/T 645 has no registers to write")

    def supply(self, device_id: int, command: int, authority: Authority, meter_clock: datetime) -> Request:
        """The supply command, worth something for an hour from what the meter's clock shows."""
        number = SupplyCommand(command)
        question = supply_request(address_text(device_id), number, authority, meter_clock + _VALID_FOR)
        return DataRequest(device_id, codec.CONTROL, 0, 1, (command,), question.frame, _ANSWER_BYTES, question)

    def search(self, pattern: str) -> Request:
        """Asks those whose address ends so who they are; more than one answer is a collision."""
        if pattern != codec.ANY_ADDRESS:
            return self.read_address(pattern)
        question = codec.address_request()
        return DataRequest(
            0, question.control, ADDRESS_ITEM, _ADDRESS_BYTES, (), question.frame, _ANSWER_BYTES, question
        )

    def read_address(self, pattern: str) -> Request:
        """The same as a read of the item that holds the address, which may be asked of some."""
        question = codec.read_request(pattern, ADDRESS_ITEM, _ADDRESS_BYTES)
        return DataRequest(0, codec.READ, ADDRESS_ITEM, _ADDRESS_BYTES, (), question.frame, _ANSWER_BYTES, question)

    def stamped(self, request: Request, transaction_id: int) -> bytes:
        """Nothing numbers a request; the identifier is repeated in the answer."""
        return request.frame

    def whole_bytes(self, request: Request, received: bytes) -> int:
        """Known once the length has come; until then the least there can be."""
        echo = self._echo_bytes(request)
        whole = codec.whole_bytes(received[echo:])
        return echo + (max(len(received) - echo + 1, _FRAME_BYTES_MIN) if whole is None else whole)

    def good_registers(self, request: Request, sent: bytes, received: bytes) -> tuple[int, ...] | None:
        """No short way: ask the checks."""
        return None

    def first_failure(self, request: Request, sent: bytes, received: bytes) -> str | None:
        """Reason code of the first check that fails; None for an answer that may be believed."""
        if self.local_echo:
            if received == sent:
                return "timeout"
            if not received.startswith(sent):
                return "truncated" if sent.startswith(received) else self._without_echo(request, received)
        found = self._judged(request, received)
        refused = isinstance(found, codec.Refused) and found.reason != "meter_refused"
        return found.reason if isinstance(found, codec.Refused) and refused else None

    def exception(self, request: Request, received: bytes) -> str | None:
        """What a meter said that refuses, in the words of the standard's error byte."""
        found = self._judged(request, received)
        return found.detail if isinstance(found, codec.Refused) else None

    def words(self, request: Request, received: bytes) -> tuple[int, ...]:
        """The octets behind the identifier; nothing for a command."""
        found = self._judged(request, received)
        return () if isinstance(found, codec.Refused) else tuple(found.data)

    def diagnose(self, request: Request, sent: bytes, received: bytes) -> str:
        """As of every framing; an echo that is not whole spoils what stands behind it."""
        if not self.local_echo:
            return Framing.diagnose(self, request, sent, codec.without_lead(received) or received)
        if not received.startswith(sent) or received == sent:
            return (received and self.first_failure(request, sent, received)) or "timeout"
        return DLT645.diagnose(request, sent, received[len(sent) :])

    def _echo_bytes(self, request: Request) -> int:
        return len(request.frame) if self.local_echo else 0

    def _without_echo(self, request: Request, received: bytes) -> str:
        bare = isinstance(_judged(_question(request), received), codec.Answer)
        return "no_local_echo" if bare else "damaged_local_echo"

    def _judged(self, request: Request, received: bytes) -> codec.Answer | codec.Refused:
        return _judged(_question(request), received[self._echo_bytes(request) :])


DLT645: Final = Dlt645Framing("dlt645", 0, 0, ())
DLT645_ECHOED: Final = Dlt645Framing("dlt645", 0, 0, (), local_echo=True)


def address_text(device_id: int) -> str:
    """The twelve digits on the meter."""
    return f"{device_id:012d}"


def is_block(identifier: int) -> bool:
    """Whether an item's length depends on the meter: a block (FF), or a freeze, which has a value for each rate."""
    return identifier >> 24 == _FREEZES or any(identifier >> shift & 0xFF == _BLOCK for shift in (0, 8, 16))


def meter_clock(time: Sequence[int], date: Sequence[int]) -> datetime | None:
    """What the meter's clock shows, from the octets of time and date; None for digits that are no moment."""
    text = bytes((*time, *date[1:])).hex()  # ss mm hh DD MM YY; the day of the week is left out
    try:
        return datetime.strptime(text, "%S%M%H%d%m%y")
    except ValueError:
        return None


@lru_cache(maxsize=16)
def _judged(question: codec.Request, received: bytes) -> codec.Answer | codec.Refused:
    """Asked three times of each answer, judged once."""
    return codec.judge(question, question.frame, received)


def _question(request: Request) -> codec.Request:
    assert isinstance(request, DataRequest)
    return request.question
