"""The codec against the virtual meter, which was written on its own, over a pseudo-terminal."""

import os
import select
from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal

import pytest

from edge.dlt645.authority import Authority
from edge.dlt645.frame import Answer, Refused, Request, address_request, judge, read_request, whole_bytes
from edge.dlt645.supply import SupplyCommand, supply_request
from edge.meters.model import load_model
from hw.sim.dlt645_meter import Dlt645Meter, PseudoTerminal

ADDRESS = "320100000147"
POINTS = load_model("dlt645_2007").points
AUTHORITY = Authority(2, "123456", "00000001")
UNTIL = datetime(2026, 3, 2, 12, 34, 56)
LIMIT_S = 5.0
SILENCE_S = 0.3

Ask = Callable[[Request], Answer | Refused]


@pytest.fixture
def meter() -> Dlt645Meter:
    return Dlt645Meter(ADDRESS)


@pytest.fixture
def ask(meter: Dlt645Meter) -> Iterator[Ask]:
    """One question over the pseudo-terminal; the answer is complete by its own length, or never comes."""
    with PseudoTerminal(meter) as terminal:
        line = os.open(terminal.path, os.O_RDWR | os.O_NOCTTY)

        def asked(request: Request) -> Answer | Refused:
            os.write(line, request.frame)
            received, limit_s = b"", LIMIT_S if request.address in (ADDRESS, "A" * 12) else SILENCE_S
            while (whole := whole_bytes(received)) is None or len(received) < whole:
                if not select.select([line], [], [], limit_s)[0]:
                    break
                received += os.read(line, 256)
            return judge(request, request.frame, received)

        yield asked
        os.close(line)


def value(ask: Ask, name: str) -> Decimal | Refused:
    point = POINTS[name]
    answer = ask(read_request(ADDRESS, point.address))
    return answer if isinstance(answer, Refused) else point.decode(answer.data[: point.count])


def test_meter_is_found_and_read(ask: Ask) -> None:
    found = ask(address_request())
    assert isinstance(found, Answer)
    assert found.address == ADDRESS
    names = ("energy_import_total", "voltage_l1", "current_l1", "power_total", "frequency")
    assert [str(value(ask, name)) for name in names] == ["1234.56", "220.3", "5.012", "1102.4", "50.00"]
    assert value(ask, "day_freeze_time") == Decimal(2603020000)
    assert value(ask, "day_freeze_energy_import") == Decimal("1200.00")


def test_item_the_meter_does_not_have_is_refused_by_it(ask: Ask) -> None:
    assert value(ask, "energy_import_t4") == Refused("meter_refused", "no_such_data")


def test_relay_opens_and_closes_and_is_read_back(ask: Ask) -> None:
    for command, opened in (
        (SupplyCommand.TRIP, True),
        (SupplyCommand.CLOSE_ALLOWED, True),
        (SupplyCommand.DIRECT_CLOSE, False),
    ):
        assert ask(supply_request(ADDRESS, command, AUTHORITY, UNTIL)) == Answer(ADDRESS, b"")
        word = value(ask, "status_word_3")
        assert isinstance(word, Decimal)
        assert bool(int(word) & 0x10) is opened


def test_wrong_password_moves_no_relay(ask: Ask, meter: Dlt645Meter) -> None:
    wrong = Authority(2, "654321", "00000001")
    assert ask(supply_request(ADDRESS, SupplyCommand.TRIP, wrong, UNTIL)) == Refused("meter_refused", "not_authorised")
    assert (meter.closed, meter.commands) == (True, [])


def test_another_meters_address_is_not_answered(ask: Ask) -> None:
    assert ask(read_request("320100000148", POINTS["energy_import_total"].address)) == Refused("timeout")


def test_supply_command_is_as_worked_out_by_hand() -> None:
    # Level 02, password low byte first 56 34 12, operator 01 00 00 00, 1A 00, 56 34 12 02 03 26; 33H on each.
    # Sum of the head: 68 + 01 + 68 + 1C + 10 = FD. Plain data: 02+9C + 01 + 1A + 9C+02+03+26 = 180; 16 * 33 = 330.
    frame = supply_request("000000000001", SupplyCommand.TRIP, AUTHORITY, UNTIL).frame
    assert frame[4:] == bytes.fromhex(
        "68 01 00 00 00 00 00 68 1C 10 35 89 67 45 34 33 33 33 4D 33 89 67 45 35 36 59 AD 16"
    )


@pytest.mark.parametrize(
    ("level", "password", "operator"), [(10, "1" * 6, "1" * 8), (2, "12345", "1" * 8), (2, "1" * 6, "x" * 8)]
)
def test_authority_that_cannot_be_is_refused_and_a_password_is_never_shown(
    level: int, password: str, operator: str
) -> None:
    with pytest.raises(ValueError, match=r"level|password|operator"):
        Authority(level, password, operator)
    assert "123456" not in repr(AUTHORITY)
