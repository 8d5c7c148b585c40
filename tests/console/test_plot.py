"""The plot: what it shows of a balance, and what the content security policy forbids in it."""

import re
import xml.etree.ElementTree as ET
from datetime import timedelta, timezone
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from edge.console.formats import Formats
from edge.console.language import load_languages
from edge.console.plot import balance_plots

UNIT = 1_000_000_000
DAY = 86_400
FORMATS = Formats(load_languages()["en"], "CNY", 2, timezone(timedelta(hours=8)))
START = 1_785_000_000


def drawn_points(svg: str) -> list[tuple[float, float]]:
    path = re.search(r'<path[^>]* d="([^"]+)"', svg)
    assert path is not None
    numbers = [float(number) for number in re.findall(r"[-\d.]+", path[1])]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def test_plot_has_no_style_no_script_and_no_outside_address() -> None:
    plots = balance_plots([(START, 5 * UNIT)], (START + DAY, -UNIT), FORMATS)
    assert plots is not None
    for svg in (plots.wide, plots.narrow):
        names = {element.tag.rpartition("}")[2] for element in ET.fromstring(svg).iter()}
        attributes = {name for element in ET.fromstring(svg).iter() for name in element.attrib}
        assert not names & {"style", "script", "foreignObject", "image", "use", "a"}
        assert not {name for name in attributes if name == "style" or name.startswith("on") or "href" in name}


def test_a_payment_and_its_reversal_are_steps_and_not_slopes() -> None:
    paid_at, reversed_at = START + 2 * DAY, START + 3 * DAY
    history = [
        (START, 4 * UNIT),
        (paid_at, 2 * UNIT),
        (paid_at, 12 * UNIT),
        (reversed_at, 11 * UNIT),
        (reversed_at, UNIT),
    ]
    plots = balance_plots(history, (START + 4 * DAY, 0), FORMATS)
    assert plots is not None
    points = drawn_points(plots.wide)
    assert len(points) == 6
    assert points[1][0] == points[2][0]
    assert points[1][1] > points[2][1]
    assert points[3][0] == points[4][0]
    assert points[3][1] < points[4][1]


def test_the_lowest_point_survives_thinning_and_the_plot_stays_small() -> None:
    history = [(START + 600 * number, 50 * UNIT) for number in range(4000)]
    history[1777] = (history[1777][0], -40 * UNIT)
    plots = balance_plots(history, (START + 600 * 4000, 50 * UNIT), FORMATS)
    assert plots is not None
    points = drawn_points(plots.wide)
    heights = sorted({round(y) for _, y in points})
    assert len(points) <= 242
    assert heights[-1] - heights[0] > 100
    assert len(plots.wide) < 12_000


def test_the_caption_says_the_plot_in_words() -> None:
    plots = balance_plots([(START, 5 * UNIT), (START + DAY, -2 * UNIT)], (START + 2 * DAY, UNIT), FORMATS)
    assert plots is not None
    assert plots.caption == "5.00 on 26 Jul, 1.00 now; lowest \N{MINUS SIGN}2.00 on 27 Jul."
    assert f'aria-label="{plots.caption}"' in plots.wide


def test_there_is_no_plot_without_a_past() -> None:
    assert balance_plots([], (START, UNIT), FORMATS) is None
    assert balance_plots([(START - 60, UNIT)], (START, UNIT), FORMATS) is None


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(START, START + 40 * DAY), st.integers(-(10**15), 10**15)), max_size=12).map(sorted),
    st.integers(-(10**15), 10**15),
)
def test_any_history_can_be_drawn(history: list[Any], latest: int) -> None:
    plots = balance_plots(history, (START + 41 * DAY, latest), FORMATS)
    assert (plots is None) == (not history)


def test_page_without_history_says_so(world: Any, monkeypatch: Any) -> None:
    async def none(account_id: str, since: int) -> list[Any]:
        return []

    monkeypatch.setattr(world.ledger, "balance_history", none)
    assert "There are not enough records for a plot yet." in world.get("/account/A-1002").text
