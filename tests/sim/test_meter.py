"""One meter with its load and contact, on driven time."""

import struct
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.sim.device import ExceptionCode
from hw.sim.load import Load
from hw.sim.meter import Meter, MeteredLoad
from hw.sim.models import MODELS
from hw.sim.relay_board import Relay

NOON_AT = 1_782_662_400 + 12 * 3600
UTC_OFFSET_S = 28_800


class Bench:
    """A meter on a bench: its clock is `at`."""

    def __init__(self, model_id: str, start_wh: int = 1_000_000, scale_percent: int = 100) -> None:
        self.at = NOON_AT
        self.relay = Relay()
        self.load = MeteredLoad(Load("shop", 3, UTC_OFFSET_S, scale_percent), self.relay, self.at)
        model = MODELS[model_id]
        own_relay = self.relay if model.relay_address is not None else None
        self.meter = Meter("M", 17, model, start_wh, self.load, own_relay, lambda: self.at)

    def run(self, seconds: int) -> None:
        self.at += seconds
        self.load.advance(self.at)

    def floats(self, function_code: int, address: int, count: int = 1) -> tuple[float, ...]:
        return struct.unpack(f">{count}f", self.words(function_code, address, 2 * count))

    def words(self, function_code: int, address: int, count: int) -> bytes:
        words = self.meter.read(function_code, address, count)
        assert not isinstance(words, ExceptionCode), words
        return b"".join(word.to_bytes(2, "big") for word in words)


@pytest.fixture(params=sorted(MODELS))
def bench(request: pytest.FixtureRequest) -> Bench:
    return Bench(request.param)


def test_the_register_follows_the_load(bench: Bench) -> None:
    bench.run(7 * 3600)
    drawn_wh = bench.load.energy_ws // 3600
    assert drawn_wh > 10_000
    assert abs(bench.meter.register_wh_exact - (1_000_000 + drawn_wh)) < 10


def test_an_open_contact_stops_energy_power_and_current_but_not_voltage(bench: Bench) -> None:
    assert bench.meter.quantities()["current_l1"] > 1000
    bench.relay.closed = False
    before = bench.meter.register_bytes
    bench.run(3600)
    quantities = bench.meter.quantities()
    assert bench.meter.register_bytes == before
    assert (quantities["power_total"], quantities["current_l1"]) == (0, 0)
    assert 198_000 <= quantities["voltage_l1"] <= 235_400
    bench.relay.closed = True
    bench.run(3600)
    assert bench.meter.register_bytes > before
    assert bench.meter.quantities()["current_l1"] > 1000


def test_a_stopped_load_draws_nothing_with_the_contact_closed(bench: Bench) -> None:
    bench.load.stopped = True
    bench.run(3600)
    assert bench.load.energy_ws == 0
    assert bench.meter.quantities()["power_total"] == 0


@settings(max_examples=30)
@given(
    st.sampled_from(sorted(MODELS)),
    st.sampled_from([0, 16_384_000, 65_700_120, 600_000_000]),
    st.lists(st.tuples(st.integers(0, 5000), st.booleans()), max_size=30),
)
def test_no_register_falls_whatever_the_contact_does(
    model_id: str, start_wh: int, steps: Sequence[tuple[int, bool]]
) -> None:
    bench = Bench(model_id, start_wh)
    last_wh = bench.meter.register_wh_exact
    for seconds, closed in steps:
        bench.run(seconds)
        bench.relay.command(closed)
        assert bench.meter.register_wh_exact >= last_wh
        last_wh = bench.meter.register_wh_exact


@pytest.mark.parametrize("model_id", ["eastron_sdm630", "chint_dtsu666"])
def test_three_phases_add_up_to_the_whole(model_id: str) -> None:
    bench = Bench(model_id)
    bench.run(12_345)
    quantities = bench.meter.quantities()
    for name in ("power", "energy_import"):
        assert sum(quantities[f"{name}_l{phase}"] for phase in (1, 2, 3)) == quantities[f"{name}_total"]


def test_power_is_voltage_times_current_times_power_factor() -> None:
    bench = Bench("eastron_sdm120")
    voltage, _, _, current, _, _, power = bench.floats(4, 0, 7)
    (power_factor,) = bench.floats(4, 30)
    assert power == bench.load.power_w
    assert voltage * current * power_factor == pytest.approx(power, rel=0.001)


def test_a_block_is_the_same_as_its_registers_one_by_one() -> None:
    bench = Bench("hiking_dds238_2")
    bench.run(5000)
    assert bench.words(3, 0, 18) == b"".join(bench.words(3, address, 1) for address in range(18))


REFUSALS = [
    ("eastron_sdm120", 4, 78, 2, ExceptionCode.ILLEGAL_DATA_ADDRESS),  # behind the last register
    ("eastron_sdm120", 4, 74, 4, ExceptionCode.ILLEGAL_DATA_ADDRESS),  # half outside
    ("eastron_sdm120", 4, 73, 2, ExceptionCode.ILLEGAL_DATA_ADDRESS),  # half a float
    ("eastron_sdm120", 4, 72, 1, ExceptionCode.ILLEGAL_DATA_ADDRESS),
    ("eastron_sdm120", 1, 0, 1, ExceptionCode.ILLEGAL_FUNCTION),
    ("eastron_sdm630", 4, 0, 62, ExceptionCode.ILLEGAL_DATA_VALUE),  # more than 60 registers
    ("chint_ddsu666", 4, 0x4000, 2, ExceptionCode.ILLEGAL_FUNCTION),
    ("chint_ddsu666", 3, 0x3000, 2, ExceptionCode.ILLEGAL_DATA_ADDRESS),
    ("chint_dtsu666", 3, 0x1000, 2, ExceptionCode.ILLEGAL_DATA_ADDRESS),
    ("hiking_dds238_2", 3, 18, 1, ExceptionCode.ILLEGAL_DATA_ADDRESS),
    ("hiking_dds238_2", 4, 10, 2, ExceptionCode.ILLEGAL_FUNCTION),
]


@pytest.mark.parametrize(("model_id", "function_code", "address", "count", "refusal"), REFUSALS)
def test_a_read_the_meter_does_not_know_is_refused(
    model_id: str, function_code: int, address: int, count: int, refusal: ExceptionCode
) -> None:
    assert Bench(model_id).meter.read(function_code, address, count) is refusal


WRITES = [
    ("hiking_dds238_2", 6, 26, [0], ExceptionCode.ILLEGAL_FUNCTION),  # function 6 is not understood
    ("hiking_dds238_2", 5, 26, [0], ExceptionCode.ILLEGAL_FUNCTION),
    ("hiking_dds238_2", 16, 26, [2], ExceptionCode.ILLEGAL_DATA_VALUE),
    ("hiking_dds238_2", 16, 26, [0, 0], ExceptionCode.ILLEGAL_DATA_ADDRESS),
    ("hiking_dds238_2", 16, 0, [0], ExceptionCode.ILLEGAL_DATA_ADDRESS),
    ("eastron_sdm120", 16, 26, [0], ExceptionCode.ILLEGAL_DATA_ADDRESS),
]


@pytest.mark.parametrize(("model_id", "function_code", "address", "values", "refusal"), WRITES)
def test_a_write_the_meter_does_not_know_is_refused_and_changes_nothing(
    model_id: str, function_code: int, address: int, values: list[int], refusal: ExceptionCode
) -> None:
    bench = Bench(model_id)
    assert bench.meter.write(function_code, address, values) is refusal
    assert bench.relay.closed


def test_the_switch_of_the_dds238_opens_closes_and_is_read_back() -> None:
    bench = Bench("hiking_dds238_2")
    assert bench.meter.write(16, 26, [0]) is None
    assert bench.meter.read(3, 26, 1) == [0]
    assert bench.load.power_w == 0
    assert bench.meter.write(16, 26, [1]) is None
    assert bench.meter.read(3, 26, 1) == [1]
    assert bench.load.power_w > 0


def test_a_stuck_switch_takes_the_command_and_reads_back_what_it_is() -> None:
    bench = Bench("hiking_dds238_2")
    bench.relay.stuck = True
    assert bench.meter.write(16, 26, [0]) is None
    assert bench.meter.read(3, 26, 1) == [1]
    assert bench.load.power_w > 0


def test_a_dds238_without_a_switch_has_no_register_for_it() -> None:
    load = MeteredLoad(Load("shop", 3, UTC_OFFSET_S), None, NOON_AT)
    meter = Meter("M", 17, MODELS["hiking_dds238_2"], 0, load, None, lambda: NOON_AT)
    assert meter.read(3, 26, 1) is ExceptionCode.ILLEGAL_DATA_ADDRESS
    assert meter.write(16, 26, [0]) is ExceptionCode.ILLEGAL_DATA_ADDRESS


def test_the_word_order_register_of_the_sdm630_reads_its_check_value() -> None:
    bench = Bench("eastron_sdm630")
    assert bench.floats(3, 40) == (2141.0,)
    assert bench.floats(3, 30) == (0.0,)  # energy in kWh
    assert bench.floats(3, 20) == (17.0,)  # its own device id
