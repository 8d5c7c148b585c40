"""What happens in the demo's street, scene by scene, in simulated time from the start.

One customer runs dry and pays by voucher, one pays through the cloud, one pays twice under the
same payment id, one is protected, one meter falls silent for a day, the cloud is gone for a day.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from edge.core.units import NANO_PER_UNIT, SECONDS_PER_DAY

HOUR_S = 3600
DRY_METER = "M01"
DRY_PERCENT = 300
SILENT_METER = "M06"


class Stage(Protocol):
    """What a scene can do: the hands of people, of the cloud and of the weather."""

    async def pay_by_cloud(self, meter_id: str, payment_id: str, amount_nano: int) -> None: ...

    async def pay_by_voucher(self, meter_id: str, payment_id: str, amount_nano: int) -> None: ...

    async def silence(self, meter_id: str, *, silent: bool) -> None: ...

    async def cloud(self, *, up: bool) -> None: ...


@dataclass(frozen=True, slots=True)
class Scene:
    """One thing that happens, `after_s` simulated seconds after the start."""

    after_s: int
    what: str
    play: Callable[[Stage], Awaitable[None]]


def _days(days: int, hours: int = 0) -> int:
    return days * SECONDS_PER_DAY + hours * HOUR_S


SCENES: tuple[Scene, ...] = (
    Scene(
        _days(2, 6),
        "the shop A02 pays 100.00 through the cloud",
        lambda stage: stage.pay_by_cloud("M02", "P-shop-1", 100 * NANO_PER_UNIT),
    ),
    Scene(
        _days(3, 0),
        "A03 pays 50.00 through the cloud",
        lambda stage: stage.pay_by_cloud("M03", "P-twice", 50 * NANO_PER_UNIT),
    ),
    Scene(
        _days(3, 6),
        "A03's payment comes once more, as a voucher under the same payment id",
        lambda stage: stage.pay_by_voucher("M03", "P-twice", 50 * NANO_PER_UNIT),
    ),
    Scene(
        _days(4, 18),
        "A01 pays 150.00 with a voucher typed at the console",
        lambda stage: stage.pay_by_voucher("M01", "P-voucher-1", 150 * NANO_PER_UNIT),
    ),
    Scene(
        _days(5),
        "meter M06 falls silent for a day",
        lambda stage: stage.silence(SILENT_METER, silent=True),
    ),
    Scene(
        _days(5, 4),
        "A05 pays 80.00 through the cloud",
        lambda stage: stage.pay_by_cloud("M05", "P-cloud-5", 80 * NANO_PER_UNIT),
    ),
    Scene(_days(6), "meter M06 answers again", lambda stage: stage.silence(SILENT_METER, silent=False)),
    Scene(_days(6), "the cloud is gone for a day", lambda stage: stage.cloud(up=False)),
    Scene(_days(7), "the cloud is back", lambda stage: stage.cloud(up=True)),
)
