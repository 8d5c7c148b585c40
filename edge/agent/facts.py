"""What the agent is told at its start and does not change while it runs: who is connected to what."""

from dataclasses import field

from edge.core.demand import Contracted
from edge.core.lean import dataclass
from edge.core.policy import Policy
from edge.core.units import MoneyNano


@dataclass(frozen=True, slots=True)
class MeterPlace:
    """Where a meter hangs."""

    meter_id: str
    line_id: str
    device_id: int
    position: str


@dataclass(frozen=True, slots=True)
class AccountFacts:
    """An account as commissioned, with its meter and where that hangs."""

    account_id: str
    meter_id: str
    line_id: str
    device_id: int
    model_id: str
    position: str
    tariff: str  # id@version
    opening_nano: MoneyNano
    protected: bool
    policy: Policy
    contracted: Contracted = field(default_factory=Contracted)
    other_meters: tuple[MeterPlace, ...] = ()  # a landlord's: their energy is paid from this account too
    relay_kind: str = ""  # meter (its own) | board | gpio | gpio_commanded (no contact is read back) | empty: none


@dataclass(frozen=True, slots=True)
class SiteFacts:
    """The place and this gateway."""

    gateway_id: str
    software_version: str
    time_zone: str
    currency: str
    minor_digits: int
    accounts: tuple[AccountFacts, ...]
    local_display: bool  # notices appear on a display on site
    round_interval_s: float  # real time between two looks at the accounts
    slot_s: int  # accounting time between two reading records
