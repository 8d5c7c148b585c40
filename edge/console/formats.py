"""Numbers, money and times as people read them: integers in, text out, no float.

A balance is rounded towards minus infinity to the minor unit (RULES.md 1), an amount to pay
upwards. Times are shown in the site's zone; the zone database is used when the device has one,
else the snapshot's fixed offset.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone, tzinfo
from decimal import ROUND_HALF_EVEN, Decimal
from zoneinfo import ZoneInfo

from edge.agent.snapshot import StreetSnapshot
from edge.console.language import Language
from edge.core.credit_terms import NANO_PER_SECOND, NANO_PER_WATT_HOUR

# Units of a meter's points by the start of their names; the longer name stands first.
_POINT_UNITS = (
    ("power_factor", ""),
    ("power", "W"),
    ("voltage", "V"),
    ("current", "A"),
    ("frequency", "Hz"),
    ("energy", "kWh"),
)
MINUS = "\N{MINUS SIGN}"
# One Wh or second in nano of an account that is credited in it, and how many of them are shown as one step.
NANO_PER = {"energy": NANO_PER_WATT_HOUR, "time": NANO_PER_SECOND}
_STEP = {"energy": 1, "time": 60}
_NANO_DIGITS = 9
_SHOWN = Decimal("0.001")


@dataclass(frozen=True, slots=True)
class Formats:
    """How one site's values read in one language."""

    language: Language
    currency: str
    minor_digits: int
    zone: tzinfo
    unit: str = "money"  # of the account whose amounts are shown: money | energy | time

    def of(self, unit: str) -> "Formats":
        """The formats for amounts of an account that is credited in this unit."""
        return self if unit == self.unit else replace(self, unit=unit)

    def with_unit(self, nano: int) -> str:
        """A balance that stands alone: 12.34 CNY, 12.345 kWh, 3 d 4 h."""
        return f"{self.money(nano)} {self.currency}" if self.unit not in NANO_PER else self.money(nano)

    def money(self, nano: int, *, signed: bool = False) -> str:
        """A balance or posting, rounded towards minus infinity; money without its currency, all else with its unit."""
        if self.unit in NANO_PER:
            sign = "+" if signed and nano > 0 else ""
            return sign + self.credit(nano // NANO_PER[self.unit] // _STEP[self.unit] * _STEP[self.unit])
        return self.minor(nano // 10 ** (_NANO_DIGITS - self.minor_digits), signed=signed)

    def money_to_pay(self, nano: int) -> str:
        """An amount somebody has to pay: rounded up, so that paying it is enough."""
        if self.unit in NANO_PER:
            return self.credit(-(-nano // (NANO_PER[self.unit] * _STEP[self.unit])) * _STEP[self.unit])
        return self.minor(-(-nano // 10 ** (_NANO_DIGITS - self.minor_digits)))

    def credit(self, amount: int) -> str:
        """An amount of credit in the account's unit: Wh as kWh, seconds as days, hours and minutes."""
        if self.unit == "energy":
            return self.energy(amount)
        days, rest = divmod(abs(amount), 86_400)
        hours, minutes = rest // 3600, rest % 3600 // 60
        text = self.language.text
        parts = [(days, text("{n} d")), (hours, text("{n} h")), (minutes, text("{n} min"))]
        shown = [words.format(n=number) for number, words in parts if number]
        return (MINUS if amount < 0 else "") + (" ".join(shown) or parts[2][1].format(n=0))

    def minor(self, amount: int, *, signed: bool = False) -> str:
        """Minor units as a decimal with thousands separated: 1234 is 12.34."""
        sign = MINUS if amount < 0 else "+" if signed and amount > 0 else ""
        return sign + _fixed_point(abs(amount), self.minor_digits)

    def energy(self, wh: int) -> str:
        """Energy in kWh, exact to the Wh."""
        return f"{MINUS if wh < 0 else ''}{_fixed_point(abs(wh), 3)} kWh"

    def quantity(self, value: Decimal) -> str:
        """A value from the meter, to three decimals: what a float register shows beyond is its own noise."""
        shown = value.quantize(_SHOWN, ROUND_HALF_EVEN)
        return f"{min(shown, value, key=_digits):,f}".replace("-", MINUS)

    def local(self, at: int) -> datetime:
        """Wall time on site."""
        return datetime.fromtimestamp(at, self.zone)

    def stamp(self, at: int) -> str:
        """Date and time for a list: 2026-08-03 14:05."""
        return self.local(at).strftime("%Y-%m-%d %H:%M")

    def clock(self, at: int) -> str:
        """Time of day with seconds."""
        return self.local(at).strftime("%H:%M:%S")

    def moment(self, at: int) -> str:
        """Date and time for a sentence: Mon 3 Aug, 14:05."""
        return self._worded("moment", at)

    def day(self, at: int) -> str:
        """A day for an axis: 3 Aug."""
        return self._worded("day", at)

    def age(self, seconds: int) -> str:
        """How old something is, coarse: a minute, an hour or a day at a time."""
        for unit, length in (("{n} d", 86_400), ("{n} h", 3600), ("{n} min", 60)):
            if seconds >= length:
                return self.language.text(unit).format(n=seconds // length)
        return self.language.text("now")

    def _worded(self, form: str, at: int) -> str:
        local = self.local(at)
        return self.language.term("format", form).format(
            weekday=self.language.term("weekday", str(local.isoweekday())),
            month=self.language.term("month", str(local.month)),
            day=local.day,
            time=local.strftime("%H:%M"),
        )


def _digits(value: Decimal) -> int:
    """How many characters a value takes: 230.1 is not shown as 230.100."""
    return len(f"{value:f}")


def formats_for(snapshot: StreetSnapshot, language: Language) -> Formats:
    """The formats of a site: its currency, its minor unit, its zone."""
    return Formats(language, snapshot.currency, snapshot.minor_digits, _zone(snapshot.time_zone, snapshot.utc_offset_s))


def unit_of(point: str) -> str:
    """The unit of a meter's point: voltage_l1 is in V."""
    return next((unit for start, unit in _POINT_UNITS if point.startswith(start)), "")


def _zone(name: str, utc_offset_s: int) -> tzinfo:
    # ZoneInfoNotFoundError is a KeyError; a name that is no relative path is a ValueError.
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return timezone(timedelta(seconds=utc_offset_s))


def _fixed_point(amount: int, digits: int) -> str:
    whole, rest = divmod(amount, 10**digits)
    return f"{whole:,}.{rest:0{digits}d}" if digits else f"{whole:,}"
