"""A balance, or the loss of an area, over time as SVG, drawn by leather on the server.

leather writes presentation attributes only: no script, no style element, nothing the content
security policy forbids. The page's style sheet colours it by class, so it follows dark mode.
Two sizes are drawn, for a phone and for a desk, because text in a scaled plot is unreadable.
"""

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from markupsafe import Markup

from edge.agent.snapshot import DayLossView
from edge.console.formats import MINUS, NANO_PER, Formats
from edge.core.calendar import date_from_day
from edge.core.units import NANO_PER_UNIT, SECONDS_PER_DAY

Point = tuple[int, int]  # (at, live balance in nano)

_WIDE = (720, 260, 7)  # width, height, days named on the axis at most
_NARROW = (350, 230, 4)
_POINTS_MAX = 240
_SPAN_S_MIN = 3600
_POSITIONS = frozenset({"d", "x", "y", "x1", "x2", "y1", "y2", "transform"})
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:E[+-]?\d+)?")
# One of what the axis counts: of the currency, a kWh, a day.
_NANO_PER_TICK = {"money": NANO_PER_UNIT, "energy": 1000 * NANO_PER["energy"], "time": 86_400 * NANO_PER["time"]}
_ZERO_COLOR = "#b83a00"


@dataclass(frozen=True, slots=True)
class Plots:
    """One plot in two sizes, and what it says in words."""

    wide: Markup
    narrow: Markup
    caption: str


def balance_plots(history: Sequence[Point], latest: Point, formats: Formats) -> Plots | None:
    """The plot of a balance and its latest value, or None while there is nothing to draw.

    `history` is in order, and two points at one instant are a step: a payment before and after.
    """
    points = [*(point for point in history if point[0] <= latest[0]), latest]
    if points[-1][0] - points[0][0] < _SPAN_S_MIN:
        return None
    thinned = _thin(points, _POINTS_MAX)
    caption = _caption(points, formats)
    return Plots(
        _draw(thinned, formats, *_WIDE, "wide", caption), _draw(thinned, formats, *_NARROW, "narrow", caption), caption
    )


def plot_unit(formats: Formats) -> str:
    """What the plot's axis counts: the currency, kWh, or days."""
    return {"energy": "kWh", "time": formats.language.text("days")}.get(formats.unit, formats.currency)


def loss_plots(history: Sequence[DayLossView], formats: Formats) -> Plots | None:
    """The rate of loss of each complete day, or None with fewer than two: a rate without all meters says nothing."""
    days = [(one.day, Decimal(one.rate_hundredths) / 100) for one in history if one.rate_hundredths is not None]
    complete = {one.day for one in history if not one.missing}
    points = [(datetime(*date_from_day(day)), rate) for day, rate in days if day in complete]
    if len(points) < 2:
        return None
    rates = [rate for _, rate in points]
    caption = formats.language.text("Loss of complete days: {low} % to {high} %, last {last} %.").format(
        low=_amount(min(rates)), high=_amount(max(rates)), last=_amount(rates[-1])
    )
    wide, narrow = (_draw_loss(points, *size, caption) for size in ((*_WIDE, "wide"), (*_NARROW, "narrow")))
    return Plots(wide, narrow, caption)


def _draw_loss(
    points: list[tuple[datetime, Decimal]], width: int, height: int, days_max: int, kind: str, caption: str
) -> Markup:
    import leather  # type: ignore[import-untyped]

    _set_theme(leather.theme)
    chart = leather.Chart()
    chart.add_line(points, width=2)
    chart.add_x_scale(points[0][0], points[-1][0])
    chart.add_y_scale(*_span([rate for _, rate in points]))
    # The last day has no label: at the edge it would be cut off.
    ticks = [moment for moment, _ in points[:-1]][:: -(-len(points) // days_max)]
    chart.add_x_axis(ticks=ticks, tick_formatter=lambda value, index, count: f"{value:%m-%d}")
    chart.add_y_axis(tick_formatter=lambda value, index, count: _amount(value))
    return _svg(chart, width, height, kind, caption)


def _thin(points: list[Point], count_max: int) -> list[Point]:
    """At most `count_max` points: of each stretch the lowest and the highest, so no debt is smoothed away."""
    if len(points) <= count_max:
        return points
    stretch = -(-2 * len(points) // count_max)
    kept = {0, len(points) - 1}
    for start in range(0, len(points), stretch):
        part = range(start, min(start + stretch, len(points)))
        kept |= {min(part, key=lambda place: points[place][1]), max(part, key=lambda place: points[place][1])}
    return [points[place] for place in sorted(kept)]


def _draw(
    points: list[Point], formats: Formats, width: int, height: int, days_max: int, kind: str, caption: str
) -> Markup:
    import leather  # 2 MB, only once somebody looks at a plot

    _set_theme(leather.theme)
    chart = leather.Chart()
    moments = [formats.local(at).replace(tzinfo=None) for at, _ in points]
    amounts = [Decimal(balance) / _NANO_PER_TICK[formats.unit] for _, balance in points]
    chart.add_line(list(zip(moments, amounts, strict=True)), width=2)
    chart.add_x_scale(min(moments), max(moments))
    chart.add_y_scale(*_span(amounts))
    days = _days(points, formats, days_max)
    chart.add_x_axis(ticks=[day for day, _ in days], tick_formatter=lambda value, index, count: days[index][1])
    chart.add_y_axis(tick_formatter=lambda value, index, count: _amount(value))
    return _svg(chart, width, height, kind, caption)


def _svg(chart: Any, width: int, height: int, kind: str, caption: str) -> Markup:
    group = chart.to_svg_group(width, height)
    group.remove(group[0])  # leather's own background: the page has one
    svg = ET.Element("svg", {"viewBox": f"0 0 {width} {height}", "class": f"plot-{kind}", "role": "img"})
    svg.set("aria-label", caption)
    svg.append(group)
    _shorten_numbers(svg)
    return Markup(ET.tostring(svg, encoding="unicode"))


def _shorten_numbers(svg: ET.Element) -> None:
    """A tenth of a pixel is enough; leather writes up to 28 digits, which makes the plot four times as long."""
    for element in svg.iter():
        for name in _POSITIONS.intersection(element.attrib):
            element.set(name, _NUMBER.sub(_tenths, element.attrib[name]))


def _tenths(number: re.Match[str]) -> str:
    return f"{float(number[0]):.1f}".removesuffix(".0")


def _set_theme(theme: Any) -> None:
    """leather keeps its looks in module variables; colours here are the fallback without a style sheet."""
    theme.margin = 0.02
    theme.tick_font_family = "sans-serif"
    theme.tick_font_size = 12
    theme.tick_font_char_width = 7
    theme.tick_color = "#c9ced2"
    theme.label_color = "#3d464c"
    theme.zero_color = _ZERO_COLOR
    theme.default_series_colors = ["#0b4f8a"]


def _span(amounts: list[Decimal]) -> tuple[Decimal, Decimal]:
    """From the lowest to the highest value with zero inside: a debt must be seen as one."""
    low, high = min(*amounts, Decimal(0)), max(*amounts, Decimal(0))
    return (low, high) if low < high else (low, low + 1)


def _amount(value: Decimal) -> str:
    """A tick without superfluous digits: 50, 12.5, never 5E+1."""
    text = f"{value:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return text.replace("-", MINUS) or "0"


def _days(points: list[Point], formats: Formats, days_max: int) -> list[tuple[datetime, str]]:
    """Local midnights to name on the axis, evenly apart; the first moment where there is no midnight."""
    first, last = formats.local(points[0][0]), formats.local(points[-1][0])
    midnight = first.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None) + timedelta(days=1)
    span_days = max(1, (points[-1][0] - points[0][0]) // SECONDS_PER_DAY)
    step = timedelta(days=-(-span_days // days_max))
    days: list[tuple[datetime, str]] = []
    while midnight <= last.replace(tzinfo=None):
        days.append((midnight, formats.day(int(midnight.replace(tzinfo=formats.zone).timestamp()))))
        midnight += step
    return days or [(first.replace(tzinfo=None), formats.moment(points[0][0]))]


def _caption(points: list[Point], formats: Formats) -> str:
    """The plot in a sentence, for those who cannot see it."""
    lowest = min(points, key=lambda point: point[1])
    return formats.language.text("{first} on {first_day}, {last} now; lowest {lowest} on {lowest_day}.").format(
        first=formats.money(points[0][1]),
        first_day=formats.day(points[0][0]),
        last=formats.money(points[-1][1]),
        lowest=formats.money(lowest[1]),
        lowest_day=formats.day(lowest[0]),
    )
