"""Makes the snapshot of the street from the state, its figures and what the lines report.

Nothing is decided here. Money nano-currency, energy Wh, times of the accounting clock.
"""

from collections.abc import Callable, Mapping

from edge.agent.facts import AccountFacts, MeterPlace, SiteFacts
from edge.agent.metering import Metering
from edge.agent.snapshot import (
    AccountView,
    BlockerView,
    CloudView,
    CommunicationView,
    EmergencyView,
    LineView,
    NoticeView,
    OtherMeterView,
    StreetSnapshot,
)
from edge.bus.records import DeviceStatus, LineStatus
from edge.core.account import Account, State
from edge.core.blockers import CutFacts, cut_blockers
from edge.core.charge import Figures, Rating, top_up_nano
from edge.core.credit_terms import PaymentMode
from edge.core.emergency import emergency_status, emergency_used
from edge.core.frozen import quickly
from edge.core.lean import dataclass
from edge.core.notices import cut_instant
from edge.core.units import ClockReading, MoneyNano, believed_seconds
from edge.ports import StreamHead

# One request in twenty without an answer is a line somebody should look at.
DEGRADED_SHARE = 20


@dataclass(frozen=True, slots=True)
class Sources:
    """What a snapshot is made of, besides the state."""

    site: SiteFacts
    metering: Metering
    lines: Mapping[str, LineStatus]
    cloud: CloudView
    ledger_head: StreamHead
    cloud_silent_s: int | None
    switching: Callable[[str], bool]  # whether a relay command for this account is under way


_made_view = quickly(AccountView)


def make_snapshot(
    version: int,
    state: State,
    figures: Mapping[str, Figures],
    rating: Rating,
    clock: ClockReading,
    sources: Sources,
) -> StreetSnapshot:
    """The street as of `clock`."""
    site = sources.site
    return StreetSnapshot(
        version=version,
        gateway_id=site.gateway_id,
        at=clock.at,
        utc_offset_s=rating.zone.offset_at(clock.at),
        time_zone=site.time_zone,
        clock_quality=clock.quality.value,
        currency=site.currency,
        minor_digits=site.minor_digits,
        accounts=tuple(
            _account_view(facts, state, figures[facts.account_id], rating, clock, sources)
            for facts in site.accounts
            if facts.account_id in figures
        ),
        lines=tuple(line_view(status) for status in sources.lines.values()),
        cloud=sources.cloud,
        software_version=site.software_version,
        journal_seq=sources.ledger_head.seq,
        journal_head=sources.ledger_head.hash.hex(),
    )


def _account_view(
    facts: AccountFacts, state: State, figures: Figures, rating: Rating, clock: ClockReading, sources: Sources
) -> AccountView:
    account = state.accounts[facts.account_id]
    sample = sources.metering.newest(facts.meter_id)
    notices = account.episode.notices if account.episode is not None else ()
    in_arrears = account.episode is not None and account.episode.notice(2) is not None
    device = sources.lines[facts.line_id].devices.get(facts.device_id)
    return _made_view(
        account_id=account.account_id,
        position=facts.position,
        meter_id=account.meter_id,
        line_id=facts.line_id,
        model_id=facts.model_id,
        protected=account.protected,
        money_nano=account.money_nano,
        estimate_nano=figures.estimate_nano,
        live_balance_nano=figures.live_nano,
        days_left=_days_left(account, figures),
        suggested_top_up_nano=top_up_nano(account, figures, rating, clock.at),
        control_state=account.control_state.value,
        control_reason=account.control_reason,
        output_connected=account.output_connected,
        switching=sources.switching(account.account_id),
        hold=account.hold.reason if account.hold is not None else None,
        grace_ends_at=cut_instant(account, clock, rating.zone) if in_arrears else None,
        notices=tuple(
            NoticeView(n.number, n.raised_at, n.receipt.at if n.receipt is not None else None, n.proof) for n in notices
        ),
        blockers=_blockers(account, state, figures, rating, clock, sources) if in_arrears else (),
        register_wh=figures.register.register_wh,
        reading_at=sample.clock.at if sample is not None else figures.register.at,
        values=sample.values if sample is not None else {},
        communication=_communication(device),
        unit=account.policy.credit.unit.value,
        emergency=_emergency(account, figures),
        other_meters=tuple(_other_meter(place, sources) for place in facts.other_meters),
        relay_kind=facts.relay_kind,
    )


def _other_meter(place: MeterPlace, sources: Sources) -> OtherMeterView:
    sample = sources.metering.newest(place.meter_id)
    return OtherMeterView(
        meter_id=place.meter_id,
        position=place.position,
        register_wh=sample.register_wh if sample is not None else None,
        reading_at=sample.clock.at if sample is not None else None,
        communication=_communication(sources.lines[place.line_id].devices.get(place.device_id)),
    )


def _emergency(account: Account, figures: Figures) -> EmergencyView | None:
    """The emergency credit at the live balance; in credit mode there is none to select."""
    terms, invoked = account.policy.credit, account.emergency.invoked
    position = (terms, invoked, figures.live_nano, account.threshold_nano)
    status = emergency_status(*position)
    if status is None or account.mode is PaymentMode.CREDIT:
        return None
    return EmergencyView(status.value, terms.emergency_limit_nano, emergency_used(*position))


def _days_left(account: Account, figures: Figures) -> int | None:
    if figures.live_nano < 0 or figures.reserve_nano <= 0:
        return None
    return figures.live_nano * account.policy.reserve_days // figures.reserve_nano


def _blockers(
    account: Account, state: State, figures: Figures, rating: Rating, clock: ClockReading, sources: Sources
) -> tuple[BlockerView, ...]:
    sample = sources.metering.latest(account.meter_id)
    read = sample.clock if sample is not None else None
    facts = CutFacts(
        clock=clock,
        zone=rating.zone,
        live_nano=MoneyNano(figures.live_nano),
        reading_age_s=believed_seconds(read, clock) if read is not None else None,
        cloud_silent_s=sources.cloud_silent_s,
        cuts_last_hour=state.cuts_since(clock.at),
        accounts_on_site=len(state.accounts),
    )
    return tuple(BlockerView(blocker.code, blocker.evidence) for blocker in cut_blockers(account, facts))


def _communication(device: DeviceStatus | None) -> CommunicationView:
    if device is None:
        return CommunicationView("never", 0, 0, 0, None, None)
    if device.last_ok is None:
        quality = "never"
    elif device.silent:
        quality = "silent"
    else:
        polls = device.polls_ok + device.polls_failed
        quality = "degraded" if device.polls_failed * DEGRADED_SHARE > polls else "good"
    return CommunicationView(
        state=quality,
        polls_ok=device.polls_ok,
        polls_failed=device.polls_failed,
        readings_rejected=device.readings_rejected,
        last_ok_at=device.last_ok.at if device.last_ok is not None else None,
        last_error=device.last_error,
    )


def line_view(status: LineStatus) -> LineView:
    """The counters of a line as pages show them."""
    return LineView(
        line_id=status.line_id,
        address=status.address,
        open=status.open,
        last_error=status.last_error,
        polls_ok=status.polls_ok,
        polls_failed=status.polls_failed,
        errors=status.errors,
        cycle_ms=status.cycle_ms,
    )
