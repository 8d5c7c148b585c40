"""Reads are merged where that is cheaper, holes are remembered, and a dead device holds nobody up."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.bus.plan import BlockMap, ReadBlock, ReadCost, ReadItem, ReadLimits, Rounds, confirming_blocks
from edge.meters.model import load_model

AT_9600 = ReadCost.of_line(byte_s=11 / 9600, gap_s=0.004)
ANY = ReadLimits(max_read_registers=50, even_register_reads_only=False)
EVEN = ReadLimits(max_read_registers=60, even_register_reads_only=True)


def items(*places: tuple[int, int]) -> list[ReadItem]:
    return [ReadItem(f"item {address}", 3, address, count) for address, count in places]


def spans(blocks: Sequence[ReadBlock]) -> list[tuple[int, int, int]]:
    return [(block.function_code, block.address, block.count) for block in blocks]


def model_blocks(model_id: str) -> list[tuple[int, int, int]]:
    model = load_model(model_id)
    limits = ReadLimits(model.link.max_read_registers, model.link.even_register_reads_only)
    wanted = [ReadItem(point.name, point.function_code, point.address, point.count) for point in model.points.values()]
    return spans(BlockMap(wanted, limits, AT_9600).blocks)


@pytest.mark.parametrize(
    ("model_id", "blocks"),
    [
        ("eastron_sdm120", [(4, 0, 32), (4, 70, 6), (4, 342, 2)]),
        ("eastron_sdm630", [(4, 0, 36), (4, 52, 24), (4, 342, 16)]),
        ("chint_ddsu666", [(3, 0x2000, 16), (3, 0x4000, 12)]),
        ("chint_dtsu666", [(3, 4126, 18), (3, 8198, 44), (3, 8260, 2)]),
        ("hiking_dds238_2", [(3, 0, 18)]),
    ],
)
def test_the_models_are_read_in_few_requests_at_9600_baud(model_id: str, blocks: list[tuple[int, int, int]]) -> None:
    assert model_blocks(model_id) == blocks


def test_a_wide_hole_is_not_read_across_and_a_narrow_one_is() -> None:
    assert spans(BlockMap(items((0, 2), (10, 2)), ANY, AT_9600).blocks) == [(3, 0, 12)]
    assert spans(BlockMap(items((0, 2), (45, 2)), ANY, AT_9600).blocks) == [(3, 0, 2), (3, 45, 2)]


def test_a_block_is_never_longer_than_the_device_allows() -> None:
    many = items(*((address, 2) for address in range(0, 200, 2)))
    blocks = BlockMap(many, EVEN, AT_9600).blocks
    assert max(block.count for block in blocks) <= 60
    assert len(blocks) == 4


def test_even_reads_start_and_end_on_even_addresses() -> None:
    assert spans(BlockMap(items((3, 1), (6, 1)), EVEN, AT_9600).blocks) == [(3, 2, 6)]


def test_functions_are_not_mixed_and_coils_are_counted_as_coils() -> None:
    mixed = [ReadItem("relay", 1, 0, 1), ReadItem("other", 1, 7, 1), ReadItem("energy", 4, 0, 2)]
    assert spans(BlockMap(mixed, EVEN, AT_9600).blocks) == [(1, 0, 8), (4, 0, 2)]


def test_a_refused_block_is_split_at_its_widest_hole_and_the_split_is_remembered() -> None:
    blocks = BlockMap(items((0, 2), (4, 2), (20, 2), (22, 2)), ANY, AT_9600)
    (whole,) = blocks.blocks
    blocks.refuse(whole)
    assert spans(blocks.blocks) == [(3, 0, 6), (3, 20, 4)]
    blocks.refuse(whole)  # an answer that belongs to the past changes nothing
    assert spans(blocks.blocks) == [(3, 0, 6), (3, 20, 4)]
    blocks.refuse(blocks.blocks[0])
    assert spans(blocks.blocks) == [(3, 0, 2), (3, 4, 2), (3, 20, 4)]


def test_a_block_without_holes_is_halved_until_the_item_that_does_not_exist_is_dropped() -> None:
    blocks = BlockMap(items((0, 2), (2, 2), (4, 2), (6, 2)), ANY, AT_9600)
    for _ in range(10):
        for block in blocks.blocks:
            if any(item.address == 4 for item in block.items):
                blocks.refuse(block)
    assert [item.name for item in blocks.dropped] == ["item 4"]
    assert sorted(item.address for block in blocks.blocks for item in block.items) == [0, 2, 6]


def test_money_and_relays_are_asked_for_again_whatever_the_device_says() -> None:
    blocks = BlockMap(items((0, 2)), ANY, AT_9600)
    blocks.refuse(blocks.blocks[0], keep=frozenset({"item 0"}))
    assert spans(blocks.blocks) == [(3, 0, 2)]
    assert blocks.dropped == []


def test_two_names_for_one_address_are_dropped_together() -> None:
    blocks = BlockMap([ReadItem("power_l1", 4, 12, 2), ReadItem("power_total", 4, 12, 2)], EVEN, AT_9600)
    blocks.refuse(blocks.blocks[0])
    assert blocks.blocks == ()


@given(
    places=st.lists(st.tuples(st.integers(0, 400), st.sampled_from([1, 2, 4])), min_size=1, max_size=12),
    even=st.booleans(),
    missing=st.sets(st.integers(0, 410), max_size=40),
)
def test_refusals_always_end_and_leave_exactly_the_items_that_exist(
    places: list[tuple[int, int]], even: bool, missing: set[int]
) -> None:
    wanted = [ReadItem(f"item {index}", 3, *place) for index, place in enumerate(places)]
    blocks = BlockMap(wanted, EVEN if even else ANY, AT_9600)
    for _ in range(200):
        refused = [block for block in blocks.blocks if missing & set(range(block.address, block.address + block.count))]
        if not refused:
            break
        blocks.refuse(refused[0])
    else:
        pytest.fail("refused for ever")
    kept = {item.name for block in blocks.blocks for item in block.items}
    assert kept | {item.name for item in blocks.dropped} == {item.name for item in wanted}


@pytest.mark.parametrize("even", [True, False])
@given(address=st.integers(0, 0xFFFC), margin=st.integers(0, 20))
def test_a_confirming_read_has_another_length_and_holds_the_register(even: bool, address: int, margin: int) -> None:
    limits = EVEN if even else ANY
    item = ReadItem("energy_import_total", 4, address - address % 2, 2)
    start = max(0, item.address - 2 * margin)
    first = ReadBlock(4, start, min(item.end + 2 * margin, 0x1_0000) - start, (item,))
    *others, last_resort = confirming_blocks(item, first, limits)
    assert others
    assert last_resort == first
    for block in others:
        assert block.count != first.count
        assert block.address <= item.address
        assert item.end <= block.address + block.count <= 0x1_0000


def visited(rounds: Rounds, now: float) -> list[int]:
    """Everybody who is due now; all of them answer."""
    devices = []
    while (device_id := rounds.next_device(now)) is not None:
        devices.append(device_id)
        rounds.answered(device_id)
    return devices


def test_a_round_takes_everybody_once_in_order_and_the_next_starts_on_the_grid() -> None:
    rounds = Rounds([9, 1, 2], 10.0, 60.0)
    assert visited(rounds, 0.0) == [9, 1, 2]
    assert rounds.due_at() == 10.0
    assert visited(rounds, 9.9) == []
    assert visited(rounds, 10.2) == [9, 1, 2]
    assert rounds.due_at() == 20.0


def test_a_round_that_takes_longer_than_its_interval_is_followed_at_once() -> None:
    rounds = Rounds([1, 2], 1.0, 60.0)
    assert rounds.next_device(0.0) == 1
    assert rounds.next_device(3.0) == 2
    assert rounds.next_device(5.0) == 1
    assert rounds.cycle_s == 5.0


def test_a_device_that_does_not_answer_is_tried_next_round_and_then_twice_as_rarely_each_time() -> None:
    rounds = Rounds([1, 2], 1.0, 8.0)
    tried = []
    for second in range(60):
        while (device_id := rounds.next_device(float(second))) is not None:
            if device_id == 1:
                tried.append(second)
                rounds.did_not_answer(1, float(second))
            else:
                rounds.answered(2)
    assert tried == [0, 1, 3, 7, 15, 23, 31, 39, 47, 55]
    assert rounds.is_silent(1)
    assert not rounds.is_silent(2)


def test_a_device_that_answers_again_is_back_in_every_round() -> None:
    rounds = Rounds([1], 1.0, 60.0)
    for second in range(9):
        if rounds.next_device(float(second)) is not None:
            rounds.did_not_answer(1, float(second))
    rounds.answered(1)
    assert not rounds.is_silent(1)
    assert [visited(rounds, float(second)) for second in (9, 10, 11)] == [[1], [1], [1]]


def test_a_back_off_limit_below_the_poll_interval_means_every_round() -> None:
    rounds = Rounds([1], 100.0, 60.0)
    for tick in range(5):
        assert rounds.next_device(tick * 100.0) == 1
        rounds.did_not_answer(1, tick * 100.0)


def silent_share(rounds: Rounds, dead: set[int], seconds: float) -> float:
    """A line without a pause where an answer takes 0.08 s and a silence 0.85: the share of the time for silences."""
    now = silence_s = 0.0
    while now < seconds:
        device_id = rounds.next_device(now)
        if device_id is None:
            now = rounds.due_at()
        elif device_id in dead:
            now += 0.85
            silence_s += 0.85
            rounds.did_not_answer(device_id, now)
        else:
            now += 0.08
            rounds.answered(device_id)
    return silence_s / now


@pytest.mark.parametrize("seconds", [60.0, 120.0, 600.0])
def test_dead_meters_take_a_twelfth_of_a_busy_line_from_the_first_minute_on(seconds: float) -> None:
    assert silent_share(Rounds(range(1, 33), 0.001, 60.0), {5, 12, 20, 29}, seconds) < 0.10


def test_a_dead_meter_on_a_busy_line_is_tried_again_within_its_back_off_however_many_are_dead() -> None:
    rounds, now, tried = Rounds(range(1, 33), 0.001, 60.0), 0.0, dict.fromkeys(range(1, 17), 0.0)
    while now < 400.0:
        device_id = rounds.next_device(now)
        if device_id is None:
            now = rounds.due_at()
        elif device_id in tried:
            assert now - tried[device_id] < 60.0 + 32 * 0.85  # and the round that is under way
            now += 0.85
            tried[device_id] = now
            rounds.did_not_answer(device_id, now)
        else:
            now += 0.08
            rounds.answered(device_id)
    assert min(tried.values()) > 300.0


def test_a_living_meter_that_missed_once_is_tried_in_the_next_round_of_a_busy_line() -> None:
    rounds = Rounds([1, 2, 3], 0.001, 60.0)
    assert silent_share(rounds, set(), 1.0) == 0.0
    order, now, missed = [], 1.1, False
    for _ in range(7):
        device_id = rounds.next_device(now)
        assert device_id is not None
        order.append(device_id)
        now += 0.85
        if device_id == 2 and not missed:
            missed = True
            rounds.did_not_answer(2, now)
        else:
            rounds.answered(device_id)
    first = order.index(2)
    assert order[first : first + 4] == [2, 3, 1, 2]


def test_the_silence_a_device_wants_before_a_request_is_part_of_its_price() -> None:
    far = items((0, 2), (30, 2))
    assert len(BlockMap(far, ANY, AT_9600).blocks) == 2
    assert len(BlockMap(far, ANY, AT_9600.before(0.2)).blocks) == 1
    assert AT_9600.before(0.001) == AT_9600
