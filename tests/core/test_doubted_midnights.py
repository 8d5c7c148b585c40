"""A wall that nobody bears out passes one day at most that the boot's own time does not know of (SECURITY.md R10)."""

from typing import Any

import pytest

from edge.core import commands as cmd
from edge.core import events as ev
from edge.core.account import Register
from edge.core.units import WattHours

DAY_S = 86_400
STANDING = {"name": "daily", "amount": "1", "per": "day"}


@pytest.fixture
def charged(make_site: Any, document: Any, at: Any) -> Any:
    """An account with a standing charge of 1.00 a day, recorded at 18:00 of 10 March."""
    site = make_site(document(standing_charges=[STANDING]))
    site.open(at("2024-03-10T06:00"), opening_nano=20_000_000_000)
    site.round(at("2024-03-10T18:00"), 5_000)
    return site


def days_charged(site: Any) -> int:
    return sum(event.count for event in site.events if isinstance(event, ev.DailyChargePosted))


def started_again(site: Any, instant_zero: int, moment: int, wall_ahead_s: int) -> None:
    """Another boot began ten seconds before `moment`, with the wall ahead and nobody to ask."""
    site.boot_id, site.doubted = "boot-2", True
    site.elapsed_offset_s = instant_zero - moment - wall_ahead_s + 10


def test_forty_days_ahead_after_a_power_cut_charge_no_day(charged: Any, at: Any) -> None:
    moment, ahead_s = at("2024-03-10T20:00"), 40 * DAY_S
    started_again(charged, at("2024-01-01T00:00"), moment, ahead_s)
    charged.round(moment + ahead_s, 5_100)
    charged.round(moment + ahead_s + 3_600, 5_200)
    assert days_charged(charged) == 0
    account = charged.state.accounts["A01"]
    assert account.recorded.at == at("2024-03-10T18:00") + 3_600 + 10


def test_forty_days_ahead_within_a_boot_go_on_as_before(charged: Any, at: Any) -> None:
    ahead_s = 40 * DAY_S
    charged.elapsed_offset_s, charged.doubted = -ahead_s, True
    charged.round(at("2024-03-10T19:00") + ahead_s, 5_100)
    assert days_charged(charged) == 0
    charged.round(at("2024-03-11T00:30") + ahead_s, 5_300)
    assert days_charged(charged) == 1


def test_the_days_are_caught_up_once_when_the_doubt_is_over(charged: Any, at: Any) -> None:
    started_again(charged, at("2024-01-01T00:00"), at("2024-03-12T08:00"), 0)
    charged.round(at("2024-03-12T08:00"), 5_500)
    assert days_charged(charged) == 0
    charged.doubted = False
    charged.round(at("2024-03-12T09:00"), 5_600)
    assert days_charged(charged) == 2
    charged.round(at("2024-03-12T10:00"), 5_700)
    assert days_charged(charged) == 2


def test_a_night_without_power_is_believed_to_a_clock_nobody_bears_out(charged: Any, at: Any) -> None:
    """The gateway's battery clock is all there is while the network is gone: hours are charged where they are."""
    started_again(charged, at("2024-01-01T00:00"), at("2024-03-11T08:00"), 0)
    charged.round(at("2024-03-11T08:00"), 5_500)
    assert days_charged(charged) == 1
    assert charged.state.accounts["A01"].recorded.at == at("2024-03-11T08:00")


def test_weeks_of_doubt_lose_no_second(charged: Any, at: Any) -> None:
    """Records whose samples were read some seconds before them: the ages do not add up to a clock that goes slow."""
    charged.doubted = True
    for quarter in range(1, 201):
        moment = at("2024-03-10T18:00") + 900 * quarter
        sample = charged.sample(moment - quarter % 2 * 45, 5_000 + quarter)
        charged.do(cmd.TakeRound(charged.clock(moment), (sample,), True, charged.cloud_silent_s))
    assert charged.state.accounts["A01"].recorded.at == moment


def test_the_sample_before_is_moved_with_the_register(charged: Any, at: Any) -> None:
    """Ten minutes around a midnight of the boot's own time: the nearer sample is the freeze, none is made up."""
    ahead_s = 40 * DAY_S
    charged.elapsed_offset_s, charged.doubted = -ahead_s, True
    before = Register(at("2024-03-10T23:59") + ahead_s, WattHours(5_900))
    charged.round(at("2024-03-11T00:09") + ahead_s, 6_000, before=before)
    (frozen,) = [event for event in charged.events if isinstance(event, ev.RegisterFrozen)]
    assert (frozen.register_wh, frozen.quality) == (5_900, "gateway_sample")
