"""A bill as lines a customer understands, which add up to the total to the last digit: text, JSON, a plot.

Amounts are printed exactly, with as many digits as they have and at least those of the currency.
Energy in kWh, prices per kWh (or per day, month, kW). Source: the issue's layout of JSON; Bill.
"""

import unicodedata
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from edge.core.bill import BillLine, LineKind, minor_nano
from edge.core.calendar import date_from_day, local_day
from edge.core.units import NANO_PER_UNIT
from edge.tariffs.billing import Billed
from edge.tariffs.words import Words

_PPM_PER_PERCENT = 10_000
_WIDTH, _TITLE_HEIGHT, _ROW_HEIGHT, _FRAME_HEIGHT = 720, 36, 30, 50
_COLORS = {True: "#0b4f8a", False: "#2b7a4b"}  # what is paid, what is taken off


class PlotUnavailable(Exception):
    """The library that draws is not installed; the sentence says how to get it."""


@dataclass(frozen=True, slots=True)
class ExplainedLine:
    """One line of a bill in words: what for, how much of it, at what price, and the amount."""

    what: str
    quantity: str
    price: str
    amount: str
    amount_nano: int


def explained_lines(billed: Billed, words: Words) -> list[ExplainedLine]:
    """Every line of the bill; their amounts add up to the total."""
    digits = billed.tariff.minor_digits
    with_blocks = any(len(period.prices_micro_per_kwh) > 1 for period in billed.tariff.periods)
    return [_explained(line, words, digits, with_blocks) for line in billed.bill.lines]


def explain_text(billed: Billed, words: Words) -> str:
    """The bill as a table of text, its total last."""
    tariff, bill = billed.tariff, billed.bill
    lines = explained_lines(billed, words)
    heads = (words.text("line"), words.text("quantity"), words.text("price"))
    head = (*heads, words.text("amount", currency=tariff.currency))
    total = (words.text("total"), "", "", format_nano(bill.bill_minor * minor_nano(tariff), tariff.minor_digits))
    rows = [head, *((line.what, line.quantity, line.price, line.amount) for line in lines), total]
    widths = [max(_width(row[column]) for row in rows) for column in range(len(head))]
    table = [_row(row, widths) for row in rows]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    notes = [words.text("estimated")] if bill.estimated else []
    return "\n".join(
        [
            words.text("title", first=_date(billed, billed.start_at), end=_date(billed, billed.end_at)),
            words.text("tariff", title=tariff.title or tariff.tariff_id),
            words.text("energy", kwh=format_thousandths(bill.energy_wh)),
            "",
            table[0],
            rule,
            *table[1:-1],
            rule,
            table[-1],
            *notes,
        ]
    )


def bill_json(billed: Billed) -> dict[str, Any]:
    """The bill for a program. `lines` add up to `bill_minor`; without those of kind rounding to `charge_nano`."""
    bill = billed.bill
    return {
        "energy_wh": bill.energy_wh,
        "charge_nano": bill.charge_nano,
        "bill_minor": bill.bill_minor,
        "lines": [line_json(line) for line in bill.lines],
        "cycle_energy_wh": billed.cycle_energy_wh,
        "estimated": bill.estimated,
        "tariff": billed.tariff.tariff_id,
        "version": billed.tariff.version,
        "currency": billed.tariff.currency,
        "minor_digits": billed.tariff.minor_digits,
    }


_ENERGY_KEYS = ("period", "block", "energy_wh", "price_micro_per_kwh")
_OTHER_KEYS = (
    "days",
    "day_divisor",
    "months",
    "unit_amount_nano",
    "power_w",
    "measured_w",
    "power_factor_x100",
    "share_ppm",
    "base_nano",
)


def line_json(line: BillLine) -> dict[str, Any]:
    """A line: the keys of energy always (null where they do not apply), the others where they have a value."""
    found: dict[str, Any] = {"kind": line.kind.value}
    found |= {key: getattr(line, key) for key in _ENERGY_KEYS}
    found |= {"amount_nano": line.amount_nano, "version": line.version}
    if line.name:
        found["name"] = line.name
    return found | {key: value for key in _OTHER_KEYS if (value := getattr(line, key)) is not None}


def explain_json(billed: Billed, words: Words) -> dict[str, Any]:
    """`bill_json` with the words of every line."""
    found = bill_json(billed)
    for line, explained in zip(found["lines"], explained_lines(billed, words), strict=True):
        line |= {
            "text": explained.what,
            "quantity": explained.quantity,
            "price": explained.price,
            "amount": explained.amount,
        }
    return found


def explain_svg(billed: Billed, words: Words) -> str:
    """A small plot of where the money went: a bar for each line. PlotUnavailable without leather."""
    try:
        import leather  # type: ignore[import-untyped]
    except ImportError as error:
        raise PlotUnavailable("the plot needs leather: install wattgate[console]") from error
    tariff = billed.tariff
    kinds = [line.kind for line in billed.bill.lines]
    lines = [
        line
        for kind, line in zip(kinds, explained_lines(billed, words), strict=True)
        if line.amount_nano and kind is not LineKind.ROUNDING
    ]
    total = format_nano(billed.bill.bill_minor * minor_nano(tariff), tariff.minor_digits)
    title = words.text("plot", total=f"{total} {tariff.currency}")
    names = [f"{line.what}  {line.amount}" for line in lines] or [words.text("total")]
    amounts = [Decimal(line.amount_nano) / NANO_PER_UNIT for line in lines] or [Decimal(0)]
    _set_theme(leather.theme, names)
    chart = leather.Chart()
    # the same words may stand in two lines, and leather keeps one bar for each name
    bars = [(amount, f"{name}{' ' * place}") for place, (amount, name) in enumerate(zip(amounts, names, strict=True))]
    chart.add_bars(bars, fill_color=lambda row: _COLORS[row.x >= 0])
    low, high = min(*amounts, Decimal(0)), max(*amounts, Decimal(0))
    chart.add_x_scale(low, high if high > low else low + 1)
    chart.add_x_axis(ticks=[low, high] if low else [high], tick_formatter=lambda value, index, count: f"{value:f}")
    height = _FRAME_HEIGHT + _ROW_HEIGHT * len(bars)
    return _framed(chart.to_svg_group(_WIDTH, height), height, title)


def _set_theme(theme: Any, names: Sequence[str]) -> None:
    """leather keeps its looks in module variables, and takes every character to be of one width."""
    longest = max(names, key=_width)
    theme.margin = 0.02
    theme.tick_font_family = "sans-serif"
    theme.tick_font_size = 12
    theme.tick_font_char_width = 6.5 * _width(longest) / max(len(name) for name in names)
    theme.tick_color = "#c9ced2"
    theme.label_color = "#3d464c"
    theme.background_color = "#ffffff"


def _framed(group: ET.Element, height: int, title: str) -> str:
    """The plot as a document of its own, with its title above it and for those who cannot see it."""
    whole = f"0 0 {_WIDTH} {height + _TITLE_HEIGHT}"
    svg = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "viewBox": whole, "role": "img"})
    svg.set("aria-label", title)
    ET.SubElement(svg, "rect", {"width": str(_WIDTH), "height": str(height + _TITLE_HEIGHT), "fill": "#ffffff"})
    heading = ET.SubElement(svg, "text", {"x": "14", "y": "26", "font-family": "sans-serif", "font-size": "16"})
    heading.text = title
    shifted = ET.SubElement(svg, "g", {"transform": f"translate(0 {_TITLE_HEIGHT})"})
    shifted.append(group)
    return ET.tostring(svg, encoding="unicode") + "\n"


def format_nano(amount_nano: int, digits_min: int) -> str:
    """An amount exactly: 57.40, 3813.333333333."""
    whole, fraction = divmod(abs(amount_nano), NANO_PER_UNIT)
    text = f"{fraction:09d}".rstrip("0").ljust(digits_min, "0")
    return f"{'-' if amount_nano < 0 else ''}{whole}{'.' if text else ''}{text}"


def format_thousandths(amount: int) -> str:
    """Wh as kWh, W as kW, exactly: 12.345, 300."""
    return format_nano(amount * (NANO_PER_UNIT // 1000), 0)


def _explained(line: BillLine, words: Words, digits: int, with_blocks: bool) -> ExplainedLine:
    if line.kind is LineKind.ENERGY:
        period = words.period(line.period or "")
        what = words.text("block", period=period, block=line.block) if with_blocks else period
        quantity, price = _kwh(line), _price(line, digits)
    else:
        what, quantity, price = _parts(line, words, digits)
    if line.reverses:
        what = words.text("reversed", what=what)
    return ExplainedLine(what, quantity, price, format_nano(line.amount_nano, digits), line.amount_nano)


def _parts(line: BillLine, words: Words, digits: int) -> tuple[str, str, str]:
    """(what for, how much of it, price)."""
    unit_price = "" if line.unit_amount_nano is None else format_nano(line.unit_amount_nano, digits)
    if line.kind is LineKind.DEMAND:
        return _demand_words(line, words), f"{format_thousandths(line.power_w or 0)} kW", unit_price
    if line.kind is LineKind.POWER_FACTOR:
        factor = f"{(line.power_factor_x100 or 0) // 100}.{(line.power_factor_x100 or 0) % 100:02d}"
        return words.text("power_factor", factor=factor), *_share(line, words, digits)
    name = line.name.replace("_", " ")
    what = words.text(line.kind.value, name=name)
    if line.share_ppm is not None:
        return what, *_share(line, words, digits)
    if line.energy_wh is not None:
        return what, _kwh(line), _price(line, digits)
    return what, _span(line, words), unit_price


def _kwh(line: BillLine) -> str:
    return f"{format_thousandths(line.energy_wh or 0)} kWh"


def _price(line: BillLine, digits: int) -> str:
    return format_nano((line.price_micro_per_kwh or 0) * 1000, digits)


def _demand_words(line: BillLine, words: Words) -> str:
    what = words.text("demand", name=line.name.replace("_", " "))
    if line.measured_w is not None and line.measured_w != line.power_w:
        what = words.text("measured", what=what, power=f"{format_thousandths(line.measured_w)} kW")
    if line.days is not None:
        what = words.text("part_month", what=what, days=line.days, divisor=line.day_divisor)
    return what


def _share(line: BillLine, words: Words, digits: int) -> tuple[str, str]:
    share = f"{format_nano((line.share_ppm or 0) * (NANO_PER_UNIT // _PPM_PER_PERCENT), 0)} %"
    return words.text("share_of", share=share, base=format_nano(line.base_nano or 0, digits)), ""


def _span(line: BillLine, words: Words) -> str:
    if line.days is not None:
        return words.text("days", n=line.days)
    return "" if line.months is None else words.text("months", n=line.months)


def _date(billed: Billed, at: int) -> str:
    return "{:04d}-{:02d}-{:02d}".format(*date_from_day(local_day(billed.zone, at)))


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    """The first column to the left, numbers to the right."""
    first = cells[0] + " " * (widths[0] - _width(cells[0]))
    rest = (" " * (width - _width(cell)) + cell for cell, width in zip(cells[1:], widths[1:], strict=True))
    return "  ".join([first, *rest]).rstrip()


def _width(text: str) -> int:
    """Columns of a terminal: Chinese characters take two."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
