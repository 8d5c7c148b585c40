"""What is made only when somebody asks: devices of the lines, areas, the store, prices and terms in force.

Nothing of it is made in a round. Reading it is a few system calls and no wait. Energy Wh, prices micro-currency
per kWh, sizes bytes, times of the accounting clock.
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from edge.agent.area import AreaWatch, DayLoss
from edge.agent.pricing import read_tariff
from edge.agent.snapshot import (
    AnswerTimesView,
    AreaDetail,
    DayLossView,
    DeviceView,
    LineDetail,
    PeriodView,
    PolicyView,
    SiteDetails,
    StoreView,
    StreamView,
    TariffView,
)
from edge.agent.views import line_view
from edge.bus.records import AnswerView, DeviceStatus, DeviceTimes, LineSettings, LineStatus, LineTimes
from edge.core.account import State
from edge.core.notices import LEGAL_GROUNDS, SECONDS_PER_HOUR, grace_seconds
from edge.core.policy import Policy
from edge.core.units import ClockReading
from edge.ports import RelayStatus, StreamHead


def make_details(
    state: State,
    clock: ClockReading,
    lines: Sequence[tuple[LineSettings, LineStatus, LineTimes]],
    areas: AreaWatch | None,
    store: StoreView,
    gpio_relays: Sequence[RelayStatus] = (),
) -> SiteDetails:
    """The details as of `clock`."""
    return SiteDetails(
        at=clock.at,
        clock_doubted=clock.doubted,
        lines=tuple(_line(*line) for line in lines),
        areas=() if areas is None else tuple(_area(areas, area_id) for area_id in areas.area_ids),
        store=store,
        tariffs=_tariffs(state),
        policies=_policies(state),
        gpio_relays=tuple(gpio_relays),
    )


def look_at_store(
    journal: Path, heads: Mapping[str, StreamHead], anchor_fault: str | None, anchor_on_same_disk: bool
) -> StoreView:
    """The journal's file with its log beside it, and the disk they lie on. OSError if the folder is gone."""
    disk = os.statvfs(journal.parent)
    return StoreView(
        journal_bytes=sum(path.stat().st_size for path in (journal, Path(f"{journal}-wal")) if path.exists()),
        disk_bytes=disk.f_blocks * disk.f_frsize,
        disk_free_bytes=disk.f_bavail * disk.f_frsize,
        anchor_fault=anchor_fault,
        anchor_on_same_disk=anchor_on_same_disk,
        streams=tuple(
            StreamView(head.stream, head.epoch, head.seq, head.acked_seq, head.hash.hex()) for head in heads.values()
        ),
    )


def _line(settings: LineSettings, status: LineStatus, times: LineTimes) -> LineDetail:
    poll_interval_s = settings.poll_interval_ms / 1000
    return LineDetail(
        line=line_view(status),
        poll_interval_ms=round(settings.poll_interval_ms),
        backoff_s_max=round(max(settings.dead_backoff_s_max, poll_interval_s)),  # as edge.bus.plan.Rounds has it
        readings_rejected=status.readings_rejected,
        devices=tuple(_device(device, times.devices[device_id]) for device_id, device in status.devices.items()),
        used_percent=times.used_percent,
        answers=_answers(times.answers),
    )


def _answers(view: AnswerView) -> AnswerTimesView:
    return AnswerTimesView(view.p50_ms, view.p95_ms, view.p99_ms, view.slowest_ms)


def _device(device: DeviceStatus, times: DeviceTimes) -> DeviceView:
    return DeviceView(
        device_id=device.device_id,
        meter_ids=device.meter_ids,
        relay_ids=device.relay_ids,
        polls_ok=device.polls_ok,
        polls_failed=device.polls_failed,
        readings_rejected=device.readings_rejected,
        errors=device.errors,
        last_ok_at=None if device.last_ok is None else device.last_ok.at,
        last_error=device.last_error,
        silent=device.silent,
        answers=_answers(times.answers),
        wait_ms=times.wait_ms,
    )


def _area(areas: AreaWatch, area_id: str) -> AreaDetail:
    history = tuple(_day_loss(entry) for entry in areas.history(area_id))
    return AreaDetail(area_id, tuple(sorted(areas.standing(area_id))), history)


def _day_loss(entry: DayLoss) -> DayLossView:
    loss = entry.loss
    return DayLossView(
        entry.day,
        loss.supply_wh,
        loss.sold_wh,
        loss.loss_wh,
        loss.rate_hundredths,
        loss.coverage_hundredths,
        loss.missing,
        entry.spread_ms,
    )


def _tariffs(state: State) -> tuple[TariffView, ...]:
    used = Counter(account.tariff for account in state.accounts.values())
    return tuple(_tariff(key, state.tariffs[key], used[key]) for key in sorted(used) if key in state.tariffs)


def _tariff(key: str, document: str, accounts: int) -> TariffView:
    tariff = read_tariff(document)  # accepted before, so it can be read
    periods = (PeriodView(one.name, one.limits_wh, one.prices_micro_per_kwh) for one in tariff.periods)
    return TariffView(key, tariff.title, accounts, tuple(periods))


def _policies(state: State) -> tuple[PolicyView, ...]:
    """Alike policies once, under whatever name they have: two of one name may differ by account."""
    found: dict[PolicyView, int] = {}
    for account in state.accounts.values():
        view = _policy(account.policy)
        found[view] = found.get(view, 0) + 1
    counted = [replace(view, accounts=number) for view, number in found.items()]
    return tuple(sorted(counted, key=lambda view: (view.policy_id, view.version, -view.accounts)))


def _policy(policy: Policy) -> PolicyView:
    windows = policy.cut_windows
    return PolicyView(
        policy_id=policy.policy_id,
        version=policy.version,
        accounts=0,
        signed_by=policy.signed_by,
        valid_until=policy.valid_until,
        legal_profile=policy.legal_profile.value,
        notices_needed=LEGAL_GROUNDS[policy.legal_profile].notices_are_conditions,
        grace_hours=grace_seconds(policy) // SECONDS_PER_HOUR,
        pre_cut_notice_minutes=policy.pre_cut_notice_minutes,
        notice_proof=policy.notice_proof.value,
        deemed_after_hours=policy.deemed_after_hours,
        offline=policy.offline.value,
        offline_hours=policy.offline_hours,
        cut_windows=None if windows is None else windows.windows,
        cut_weekdays=() if windows is None else tuple(sorted(windows.weekdays)),
        cut_holidays=0 if windows is None else len(windows.holidays),
        friendly_windows=policy.friendly_windows is not None,
    )
