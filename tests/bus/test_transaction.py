"""The line's one conversation, in time that only the test moves."""

from types import SimpleNamespace

import pytest

from edge.bus.frame import MBAP, RTU
from edge.bus.transaction import TRANSITIONS, Outcome, State, Timing, Transaction, Trigger, following_transaction_id

TIMING = Timing(gap_s=0.004, byte_s=0.001, response_timeout_s=0.3, drain_silence_s=0.5, drain_s_max=2.0)
VOLTAGE = RTU.read(5, 4, 0x0000, 2)
ENERGY = RTU.read(5, 4, 0x0048, 2)


def sent(transaction: Transaction, now: float) -> bytes:
    """Submits a request on a quiet line and returns what goes out."""
    transaction.submit(ENERGY, now)
    return transaction.outgoing()


@pytest.mark.parametrize(("state", "trigger"), [(state, trigger) for state in State for trigger in Trigger])
def test_only_the_rows_of_the_table_exist(state: State, trigger: Trigger) -> None:
    expected = {
        (State.IDLE, Trigger.SUBMITTED): State.GAP,
        (State.IDLE, Trigger.SUBMITTED_TO_NOISE): State.DRAINING,
        (State.IDLE, Trigger.UNASKED_BYTES): State.DRAINING,
        (State.GAP, Trigger.GAP_OVER): State.WAITING,
        (State.GAP, Trigger.EXCHANGED): State.IDLE,
        (State.GAP, Trigger.UNASKED_BYTES): State.DRAINING,
        (State.WAITING, Trigger.PART_ARRIVED): State.RECEIVING,
        (State.WAITING, Trigger.ACCEPTED): State.IDLE,
        (State.WAITING, Trigger.REFUSED): State.DRAINING,
        (State.WAITING, Trigger.TIMED_OUT): State.DRAINING,
        (State.RECEIVING, Trigger.PART_ARRIVED): State.RECEIVING,
        (State.RECEIVING, Trigger.ACCEPTED): State.IDLE,
        (State.RECEIVING, Trigger.REFUSED): State.DRAINING,
        (State.DRAINING, Trigger.MORE_NOISE): State.DRAINING,
        (State.DRAINING, Trigger.SILENT): State.IDLE,
        (State.DRAINING, Trigger.SILENT_UNSENT): State.GAP,
        (State.DRAINING, Trigger.NEVER_SILENT): State.IDLE,
    }
    assert TRANSITIONS[state].get(trigger) == expected.get((state, trigger))


def test_a_whole_answer_is_believed_in_the_call_that_brings_it(wire: SimpleNamespace) -> None:
    transaction = Transaction(RTU, TIMING)
    assert sent(transaction, 10.0) == ENERGY.frame
    outcome = transaction.receive(wire.Slave().good(ENERGY.frame), 10.05)
    assert outcome == Outcome(ENERGY, None, wire.Slave().truth(4, 0x48, 2), True)
    assert transaction.idle
    assert transaction.get_timer() is None


def test_an_answer_may_come_byte_by_byte(wire: SimpleNamespace) -> None:
    transaction = Transaction(RTU, TIMING)
    sent(transaction, 0.0)
    outcomes = []
    for index, byte in enumerate(wire.Slave().good(ENERGY.frame)):
        now = 0.1 + index * 0.25  # each byte in time, the whole slower than a first byte may be
        assert transaction.handle_timer(now) is None
        outcomes.append(transaction.receive(bytes((byte,)), now))
    assert outcomes[:-1] == [None] * 8
    assert outcomes[-1] is not None
    assert outcomes[-1].reason is None


def test_the_gap_is_kept_after_an_answer_and_after_opening(wire: SimpleNamespace) -> None:
    transaction = Transaction(RTU, TIMING, opened_at=1.0)
    transaction.submit(ENERGY, 1.001)
    assert transaction.outgoing() == b""
    assert transaction.get_timer() == pytest.approx(1.004)
    assert transaction.handle_timer(1.003) is None
    assert transaction.outgoing() == b""
    transaction.handle_timer(1.004)
    assert transaction.outgoing() == ENERGY.frame
    transaction.receive(wire.Slave().good(ENERGY.frame), 1.1)
    transaction.submit(VOLTAGE, 1.1, gap_s=0.060)
    assert transaction.get_timer() == pytest.approx(1.160)


def test_the_timeout_runs_from_the_end_of_the_request_on_the_wire() -> None:
    transaction = Transaction(RTU, TIMING)
    sent(transaction, 0.0)
    assert transaction.get_timer() == pytest.approx(8 * 0.001 + 0.3)


def test_a_late_answer_is_drained_and_named_and_never_the_next_value(wire: SimpleNamespace) -> None:
    transaction = Transaction(RTU, TIMING)
    sent(transaction, 0.0)
    assert transaction.handle_timer(0.31) is None
    assert transaction.state is State.DRAINING
    assert transaction.receive(wire.Slave().good(ENERGY.frame), 0.7) is None
    assert transaction.get_timer() == pytest.approx(1.2)
    assert transaction.handle_timer(1.1) is None
    assert transaction.handle_timer(1.2) == Outcome(ENERGY, "late_reply", (), True)
    transaction.submit(VOLTAGE, 1.2)
    assert transaction.outgoing() == VOLTAGE.frame


@pytest.mark.parametrize("state", [State.IDLE, State.GAP])
def test_bytes_nobody_asked_for_hold_the_next_request_back(state: State) -> None:
    transaction = Transaction(RTU, TIMING, opened_at=0.0)
    if state is State.GAP:
        transaction.submit(ENERGY, 0.0)
    assert transaction.state is state
    transaction.receive(b"\x00\x00", 0.001)
    assert transaction.unasked_bytes == 2
    assert transaction.state is State.DRAINING
    assert transaction.handle_timer(0.5) is None
    assert transaction.handle_timer(0.501) is None
    if state is State.GAP:
        assert transaction.outgoing() == ENERGY.frame
    else:
        assert transaction.idle


def test_nothing_is_ever_sent_on_a_line_that_babbles() -> None:
    transaction = Transaction(RTU, TIMING)
    now, outcomes = 0.0, []
    transaction.receive(b"\x55", now)
    for _ in range(1_000):
        now += 0.05
        if transaction.idle:
            transaction.submit(ENERGY, now)
        transaction.receive(b"\x55", now)
        outcomes.append(transaction.handle_timer(now))
        assert transaction.outgoing() == b""
    ended = [outcome for outcome in outcomes if outcome is not None]
    assert len(ended) > 10
    assert {outcome.reason for outcome in ended} == {"line_busy"}
    assert not any(outcome.sent for outcome in ended)


def test_a_line_that_calms_down_is_used_again() -> None:
    transaction = Transaction(RTU, TIMING)
    transaction.receive(b"\x55", 0.0)
    for tick in range(1, 41):
        transaction.receive(b"\x55", tick * 0.05)
        transaction.handle_timer(tick * 0.05)
    assert transaction.idle  # the drain has given up
    transaction.submit(ENERGY, 2.5)
    assert transaction.state is State.DRAINING
    transaction.handle_timer(3.0)
    assert transaction.outgoing() == ENERGY.frame


def test_an_exception_is_an_answer_and_needs_no_drain(wire: SimpleNamespace) -> None:
    transaction = Transaction(RTU, TIMING)
    sent(transaction, 0.0)
    outcome = transaction.receive(wire.with_crc(b"\x05\x84\x02"), 0.05)
    assert outcome == Outcome(ENERGY, "exception_2", (), True)
    assert transaction.idle


def test_a_broken_exception_is_no_exception(wire: SimpleNamespace) -> None:
    transaction = Transaction(RTU, TIMING)
    sent(transaction, 0.0)
    assert transaction.receive(b"\x05\x84\x02\x12\x34", 0.05) is None
    assert transaction.handle_timer(0.55) == Outcome(ENERGY, "crc", (), True)


def test_transaction_ids_rise_with_every_request_and_never_are_0(wire: SimpleNamespace) -> None:
    transaction = Transaction(MBAP, Timing(0.0, 0.0, 0.3, 0.5, 2.0))
    slave, asked, ids = wire.Slave(MBAP), MBAP.read(5, 4, 0x48, 2), []
    for _ in range(3):
        transaction.submit(asked, 0.0)
        frame = transaction.outgoing()
        ids.append(int.from_bytes(frame[:2], "big"))
        transaction.receive(slave.good(frame), 0.0)
    assert ids == [1, 2, 3]
    assert [following_transaction_id(number) for number in (0, 1, 0xFFFE, 0xFFFF)] == [1, 2, 0xFFFF, 1]


@pytest.mark.parametrize(("baud", "gap_s"), [(1_200, 0.0321), (9_600, 0.00401), (19_200, 0.002005), (115_200, 0.00175)])
def test_the_gap_is_three_and_a_half_characters_up_to_19200_baud(baud: int, gap_s: float) -> None:
    assert Timing.of_serial(baud, 0.3, 0.5, 5.0).gap_s == pytest.approx(gap_s, rel=1e-3)
