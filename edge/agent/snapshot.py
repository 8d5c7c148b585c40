"""The state of the street in memory, for pages and for the terminal: plain frozen data.

One snapshot is published per accounting round; `version` rises by one. Money is
nano-currency (exact), energy Wh, power W, voltage V and current A as exact decimals.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from edge.core.units import MoneyNano, UnixSeconds, WattHours


@dataclass(frozen=True, slots=True)
class CommunicationView:
    """How well a device answers. `state`: good | degraded | silent | never."""

    state: str
    polls_ok: int
    polls_failed: int
    readings_rejected: int
    last_ok_at: UnixSeconds | None
    last_error: str | None  # a reason code of edge.bus, e.g. timeout, crc, wrong_unit


@dataclass(frozen=True, slots=True)
class BlockerView:
    """One reason why an account is not cut, with its evidence (RULES.md 6)."""

    code: str
    evidence: Mapping[str, int | str]  # figures by name with their unit, e.g. age_s


@dataclass(frozen=True, slots=True)
class NoticeView:
    """One of the three notices of the current episode."""

    number: int  # 1, 2, 3
    raised_at: UnixSeconds
    receipt_at: UnixSeconds | None
    proof: str | None  # cloud_receipt | local_display | deemed


@dataclass(frozen=True, slots=True)
class EmergencyView:
    """The emergency credit of an account that has one. `status`: COSEM credit_status."""

    status: str  # enabled | selectable | invoked | in_use | exhausted
    limit_nano: MoneyNano
    used_nano: MoneyNano


@dataclass(frozen=True, slots=True)
class OtherMeterView:
    """A further meter of an account that pays for several."""

    meter_id: str
    position: str
    register_wh: WattHours | None
    reading_at: UnixSeconds | None
    communication: CommunicationView


@dataclass(frozen=True, slots=True)
class AccountView:
    """One account and its meter as a page shows them."""

    account_id: str
    position: str  # where the meter hangs, from the site book
    meter_id: str
    line_id: str
    model_id: str
    protected: bool
    money_nano: MoneyNano
    estimate_nano: MoneyNano
    live_balance_nano: MoneyNano
    days_left: int | None  # whole days at the mean day; None while unknown or below 0
    suggested_top_up_nano: MoneyNano
    control_state: str  # connected | disconnected | ready_for_reconnection
    control_reason: str  # why, e.g. no_credit, operator, commissioned
    output_connected: bool | None  # read back from the relay; None before the first read-back
    switching: bool  # a command is under way: a difference between the two is no alarm yet
    hold: str | None  # register_regression | register_jump, or None
    grace_ends_at: UnixSeconds | None  # earliest cut by the present clock, None outside an episode
    notices: tuple[NoticeView, ...]
    blockers: tuple[BlockerView, ...]
    register_wh: WattHours | None
    reading_at: UnixSeconds | None
    values: Mapping[str, Decimal]  # the other points of the last sample: voltage_l1, power_total ...
    communication: CommunicationView
    unit: str = "money"  # what all `..._nano` of this account are: money | energy (1 kWh is 10^9) | time (1 s is 10^6)
    emergency: EmergencyView | None = None
    other_meters: tuple[OtherMeterView, ...] = ()  # a landlord's; `register_wh` is the sum of all


@dataclass(frozen=True, slots=True)
class LineView:
    """One RS-485 line."""

    line_id: str
    address: str  # /dev/ttyUSB0, tcp://host:port, rtu+tcp://host:port
    open: bool
    last_error: str | None
    polls_ok: int
    polls_failed: int
    errors: Mapping[str, int]  # by reason code
    cycle_ms: int | None  # last time around the line


@dataclass(frozen=True, slots=True)
class CloudView:
    """The link to the cloud: connected, and how much is still to be acknowledged per stream."""

    connected: bool
    last_ack_at: UnixSeconds | None
    backlog: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class RecoveryView:
    """Why nothing is charged or switched at present: the store is not the newest one (SECURITY R8)."""

    reason: str  # journal_missing | journal_behind | other_history | other_gateway | anchor_missing | ...
    detail: str
    epoch_min: int  # the lowest epoch an operator's permit may open
    cloud: Mapping[str, int] = field(default_factory=dict)  # last record the cloud says it has, by stream


@dataclass(frozen=True, slots=True)
class StreetSnapshot:
    """Everything a page needs, as of one accounting round."""

    version: int
    gateway_id: str
    at: UnixSeconds
    utc_offset_s: int
    time_zone: str
    clock_quality: str
    currency: str
    minor_digits: int
    accounts: tuple[AccountView, ...]
    lines: tuple[LineView, ...]
    cloud: CloudView
    software_version: str
    journal_seq: int
    journal_head: str  # hex
    recovery: RecoveryView | None = None


@dataclass(slots=True)
class SnapshotSource:
    """Holds the newest snapshot and wakes whoever waits for a newer one."""

    current: StreetSnapshot | None = None
    _newer: asyncio.Event = field(default_factory=asyncio.Event)

    def publish(self, snapshot: StreetSnapshot) -> None:
        self.current = snapshot
        self._newer.set()
        self._newer = asyncio.Event()

    async def wait_newer(self, version: int) -> StreetSnapshot:
        """The first snapshot whose version is above `version`."""
        while self.current is None or self.current.version <= version:
            await self._newer.wait()
        return self.current
