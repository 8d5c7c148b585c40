"""Reads under fault by the ten thousand, and with --slow by the million: no wrong register is ever passed on."""

from typing import Any

import pytest

from edge.bus.device import Device
from edge.bus.plausibility import RegisterWatch
from edge.bus.records import MeterSample
from hw.sim.faulted_reads import run

SEED = 20_261_201
FAST, SLOW = 20_000, 1_000_000


def test_of_20_000_reads_under_fault_no_wrong_register_is_charged() -> None:
    tally = run(SEED, FAST)
    print(tally.text())
    assert tally.faulted_reads >= FAST
    assert tally.wrong_registers == 0, tally.text()
    assert tally.wrong_relay_states == 0, tally.text()
    assert tally.samples > FAST / 20
    assert tally.wrong_frames_believed > 100  # the framing alone would not do
    assert len(tally.reasons) > 25


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_of_a_million_reads_under_fault_no_wrong_register_is_charged() -> None:
    tally = run(SEED, SLOW)
    print(tally.text())
    assert tally.faulted_reads >= SLOW
    assert tally.wrong_registers == 0, tally.text()
    assert {"good", "confirmed_jump", "confirmed_falling"} == set(tally.verdicts)


def test_without_the_plausibility_of_the_register_wrong_ones_are_charged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RegisterWatch, "first", lambda self, reading: "good")
    assert run(SEED, 3_000).wrong_registers > 0


def test_the_short_way_of_a_good_read_charges_what_the_long_way_charges(monkeypatch: pytest.MonkeyPatch) -> None:
    short_taken = 0
    plain_sample = Device.plain_sample

    def counted(self: Device, *given: Any) -> MeterSample | None:
        nonlocal short_taken
        sample = plain_sample(self, *given)
        short_taken += sample is not None
        return sample

    monkeypatch.setattr(Device, "plain_sample", counted)
    short = run(SEED, 5_000)
    monkeypatch.setattr(Device, "plain_sample", lambda *_: None)
    assert run(SEED, 5_000) == short
    assert short_taken > 100


def test_the_same_seed_makes_the_same_run_and_another_seed_another() -> None:
    assert run(1, 1_000) == run(1, 1_000)
    assert run(1, 1_000) != run(2, 1_000)
