"""The state of the street in memory, for pages and for the terminal: plain frozen data.

One snapshot is published per accounting round; `version` rises by one. Money is
nano-currency (exact), energy Wh, power W, voltage V and current A as exact decimals.
"""

import asyncio
import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import field
from decimal import Decimal

from edge.core.lean import dataclass
from edge.core.units import MoneyNano, UnixSeconds, WattHours
from edge.ports import RelayStatus


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
    relay_kind: str = ""  # as in edge.agent.facts: what switches this supply, and whether anything is read back


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


@dataclass(frozen=True, slots=True)
class AnswerTimesView:
    """How fast something answers, since the start: so many percent within so many milliseconds; None: no answer yet."""

    p50_ms: int | None = None
    p95_ms: int | None = None
    p99_ms: int | None = None
    slowest_ms: int | None = None


@dataclass(frozen=True, slots=True)
class DeviceView:
    """A device of a line: meters, relays or both. A poll is one request."""

    device_id: int
    meter_ids: tuple[str, ...]
    relay_ids: tuple[str, ...]
    polls_ok: int
    polls_failed: int
    readings_rejected: int
    errors: Mapping[str, int]  # by reason code
    last_ok_at: UnixSeconds | None
    last_error: str | None
    silent: bool
    answers: AnswerTimesView = AnswerTimesView()
    wait_ms: int | None = None  # how long it is waited for at present


@dataclass(frozen=True, slots=True)
class LineDetail:
    """A line with its devices. A round that takes longer than the poll interval leaves the wire no pause."""

    line: LineView
    poll_interval_ms: int
    backoff_s_max: int  # a silent device is asked again after this time at the latest
    readings_rejected: int
    devices: tuple[DeviceView, ...]
    used_percent: int | None = None  # of the last minute the wire was in use; None before the first request
    answers: AnswerTimesView = AnswerTimesView()


@dataclass(frozen=True, slots=True)
class DayLossView:
    """An area's loss of one ended local day (days since 1970-01-01). Shares in hundredths of a percent."""

    day: int
    supply_wh: int
    sold_wh: int
    loss_wh: int
    rate_hundredths: int | None
    coverage_hundredths: int
    missing: tuple[str, ...]
    spread_ms: int | None = None  # from the first to the last of the samples next to the day's freeze


@dataclass(frozen=True, slots=True)
class AreaDetail:
    """A transformer area: what stands there now, and the losses since the start, the latest last."""

    area_id: str
    standing: tuple[str, ...]  # conditions of the area and of its supply meters, as edge.core.watch names them
    history: tuple[DayLossView, ...]


@dataclass(frozen=True, slots=True)
class StreamView:
    """The newest record of a stream of the journal. `hash` is hex."""

    stream: str
    epoch: int
    seq: int
    acked_seq: int
    hash: str


@dataclass(frozen=True, slots=True)
class StoreView:
    """The data folder: size of the journal, room on its disk, and how its anchor keeps up."""

    journal_bytes: int
    disk_bytes: int
    disk_free_bytes: int
    anchor_fault: str | None
    anchor_on_same_disk: bool
    streams: tuple[StreamView, ...]


@dataclass(frozen=True, slots=True)
class PeriodView:
    """The prices of a period, micro-currency per kWh, one more than there are limits between them (Wh)."""

    name: str
    limits_wh: tuple[int, ...]
    prices_micro_per_kwh: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TariffView:
    """A tariff in force: how many accounts it prices, and at what."""

    key: str  # id@version
    title: str
    accounts: int
    periods: tuple[PeriodView, ...]


@dataclass(frozen=True, slots=True)
class PolicyView:
    """A policy in force: how many accounts are under it, and when it lets a supply be cut."""

    policy_id: str
    version: int
    accounts: int
    signed_by: str  # site_book, a key id, or empty: then nobody is cut under it
    valid_until: UnixSeconds | None
    legal_profile: str
    notices_needed: bool  # whether a cut waits for notices and their grace
    grace_hours: int  # from receipt of notice 2
    pre_cut_notice_minutes: int
    notice_proof: str
    deemed_after_hours: int
    offline: str
    offline_hours: int
    cut_windows: tuple[tuple[int, int], ...] | None  # minutes of the day; None: at any time
    cut_weekdays: tuple[int, ...]  # 0 is Monday
    cut_holidays: int  # how many days are taken out
    friendly_windows: bool  # whether there are times in which nobody is cut, whatever is owed


@dataclass(frozen=True, slots=True)
class SiteDetails:
    """What is too much for every round, and is made only when somebody asks."""

    at: UnixSeconds
    clock_doubted: bool
    lines: tuple[LineDetail, ...]
    areas: tuple[AreaDetail, ...]
    store: StoreView
    tariffs: tuple[TariffView, ...]
    policies: tuple[PolicyView, ...]
    gpio_relays: tuple[RelayStatus, ...] = ()


@dataclasses.dataclass(slots=True)
class SnapshotSource:
    """Holds the newest snapshot and wakes whoever waits for a newer one. `details` makes the rest on demand."""

    current: StreetSnapshot | None = None
    details: Callable[[], SiteDetails] | None = None
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
