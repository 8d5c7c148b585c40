"""The relay board: eight coils, three functions."""

from hw.sim.device import ExceptionCode
from hw.sim.relay_board import RelayBoard


def test_all_contacts_are_found_closed() -> None:
    assert RelayBoard().read(1, 0, 8) == [1] * 8


def test_one_coil_or_several_can_be_written_and_are_read_back() -> None:
    board = RelayBoard()
    assert board.write(5, 3, [0]) is None
    assert board.read(1, 0, 8) == [1, 1, 1, 0, 1, 1, 1, 1]
    assert board.write(15, 2, [0, 1, 0]) is None
    assert board.read(1, 0, 8) == [1, 1, 0, 1, 0, 1, 1, 1]
    assert [relay.closed for relay in board.relays] == [True, True, False, True, False, True, True, True]


def test_a_coil_that_is_not_there_is_refused_and_none_moves() -> None:
    board = RelayBoard()
    assert board.write(5, 8, [0]) is ExceptionCode.ILLEGAL_DATA_ADDRESS
    assert board.write(15, 7, [0, 0]) is ExceptionCode.ILLEGAL_DATA_ADDRESS
    assert board.read(1, 0, 9) is ExceptionCode.ILLEGAL_DATA_ADDRESS
    assert board.read(1, 0, 8) == [1] * 8


def test_registers_are_not_its_business() -> None:
    board = RelayBoard()
    assert board.read(3, 0, 1) is ExceptionCode.ILLEGAL_FUNCTION
    assert board.write(6, 0, [0]) is ExceptionCode.ILLEGAL_FUNCTION


def test_a_stuck_contact_moves_by_hand_only() -> None:
    board = RelayBoard()
    board.relays[0].stuck = True
    assert board.write(5, 0, [0]) is None
    assert board.read(1, 0, 1) == [1]
    board.relays[0].closed = False
    assert board.write(5, 0, [1]) is None
    assert board.read(1, 0, 1) == [0]
