"""A meter behind current transformers, in what really flows: its register and its values times the ratio.

The line reads and judges what the meter shows; from here on an account, an area and a page see the customer's side.
Whole ratios, so a register stays exact: Wh times the ratio is Wh. Source: RULES.md 4.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Final

from edge.bus.records import MeterSample
from edge.core.units import WattHours

_FLOWS: Final = ("energy_", "power_", "current_", "reactive_", "apparent_", "demand_")
_SHARES: Final = "power_factor_"


def primary_sample(sample: MeterSample, ratio: int) -> MeterSample:
    """The sample as it would be without transformers."""
    assert ratio >= 1
    if ratio == 1:
        return sample
    register_wh = WattHours(sample.register_wh * ratio)
    return replace(sample, register_wh=register_wh, values=PrimaryValues(sample.values, ratio))


class PrimaryValues(Mapping[str, Decimal]):
    """Values of a sample, multiplied when somebody reads them."""

    __slots__ = ("_ratio", "_values")

    def __init__(self, values: Mapping[str, Decimal], ratio: int) -> None:
        self._values, self._ratio = values, ratio

    def __getitem__(self, name: str) -> Decimal:
        value = self._values[name]
        return value * self._ratio if name.startswith(_FLOWS) and not name.startswith(_SHARES) else value

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __repr__(self) -> str:
        return repr(dict(self))
