"""`wattgate commission exchange ACCOUNT`: a meter of a running site is changed for another one, step by step.

The agent is stopped meanwhile: this command has its journal and its line, and nobody else. Supply stays as it is.
Nothing is written before everything was seen; then the journal's record makes it true (edge/commission/exchange_store).
Exit status: 0 done, 1 done but for the record's file, 2 bad arguments or a meter that is not what it should be: nothing
was changed then.
"""

import argparse
import asyncio
import json
import os
import pwd
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge.agent.pricing import Pricing
from edge.bootstrap import SOCKET_FILE, Prepared, line_settings, open_journal, prepare
from edge.bus.scan_records import Link
from edge.bus_tool.driver import Driver
from edge.cli import gateway_clock
from edge.commission.entries import checked_book
from edge.commission.exchange import (
    Place,
    check_other_meter,
    exchanged_book,
    last_of_display,
    new_meter,
    new_relay,
    place_of,
    relay_state,
    wh_of,
)
from edge.commission.exchange_record import ExchangeRecord, NewMeter, OldMeter, RelayWord, SignedExchange, record_hash
from edge.commission.exchange_record import sign_exchange as sign
from edge.commission.exchange_store import Note, Outcome, exchange, finish
from edge.commission.page import say
from edge.commission.record import WitnessReading, load_key
from edge.commission.steps import NotCommissioned, RelayPlace, Seen, agrees, see_meter
from edge.config import Config, ConfigError, read_config
from edge.core import commands as cmd
from edge.core import events as ev
from edge.core.account import Account, Register, State
from edge.core.events import Event
from edge.core.rating_arrays import array_rate
from edge.core.step import step
from edge.core.units import ClockReading, UnixSeconds, WattHours
from edge.meter_tool.options import known_model, print_line
from edge.meters.model import MeterModel
from edge.meters.point import WATT_HOURS_PER_UNIT
from edge.ports import Clock
from edge.store.event_log import JournalEventLog
from edge.store.journal import JournalError, SqliteJournal
from edge.store.schema import JOURNAL_FILE
from edge.store.site_book import MeterEntry, RelayEntry
from edge.zone import zone_offsets
from native.kernel import StaleKernel, TariffKernel

EXIT_UNRECORDED = 1


@dataclass(frozen=True, slots=True)
class _Job:
    """What is to be done, checked as far as that goes without the line."""

    prepared: Prepared
    clock: Clock
    place: Place
    old_model: MeterModel
    model: MeterModel
    meter: MeterEntry
    relay: RelayEntry | None
    key: Ed25519PrivateKey
    options: argparse.Namespace
    language: str

    def tell(self, key: str, **values: object) -> None:
        """A step, on standard error: standard output has the result alone."""
        sys.stderr.write(say(self.language, key, **values) + "\n")
        sys.stderr.flush()


@dataclass(frozen=True, slots=True)
class _Last:
    """The old meter's end."""

    seen: Seen | None  # None: typed
    register: Decimal
    wh: WattHours
    source: Literal["read", "typed", "estimated"]
    at: UnixSeconds
    relay: RelayWord | None


@dataclass(frozen=True, slots=True)
class _First:
    """The new meter's beginning."""

    seen: Seen
    wh: WattHours
    at: UnixSeconds
    relay: RelayWord | None


class Unusable(ValueError):
    """A configuration or a journal that cannot be used, in one sentence."""


def run_exchange(options: argparse.Namespace, language: str, version: str) -> int:
    """The whole wizard. Raises NotCommissioned, Unusable, and what a line or a file that is wrong raises."""
    try:
        config = read_config(options.config)
        job = _job(options, prepare(config), gateway_clock(config), language)
        return asyncio.run(_run(job, version))
    except (ConfigError, JournalError, StaleKernel) as error:
        raise Unusable(str(error)) from error


def finish_exchange(config: Config, language: str) -> Outcome:
    """What a start of the agent does about an exchange that was interrupted: `finish` with the journal's state."""
    prepared = prepare(config)
    journal = open_journal(prepared)
    try:
        if journal.recovery is not None:
            return "nothing"  # which journal is right is not known yet
        return finish(prepared.data_dir, JournalEventLog(journal).restore().state)
    except NotCommissioned as refusal:
        raise Unusable(say(language, f"refused.{refusal.code}", **refusal.values)) from refusal
    finally:
        asyncio.run(journal.close())


async def _run(job: _Job, version: str) -> int:
    path = job.prepared.data_dir / JOURNAL_FILE
    if not path.exists():
        raise NotCommissioned("no_journal", folder=job.prepared.data_dir)
    owner = path.stat().st_uid
    if os.geteuid() != owner:  # files that were made by another user are files that the agent cannot write
        raise NotCommissioned("other_user", file=path, user=_user_name(owner))
    try:
        journal = open_journal(job.prepared)
    except JournalError as error:
        if (job.prepared.data_dir / SOCKET_FILE).exists():
            raise NotCommissioned("agent_runs") from error
        raise
    try:
        if journal.recovery is not None:
            raise NotCommissioned("recovery")
        state = JournalEventLog(journal).restore().state
        if finish(job.prepared.data_dir, state) != "nothing":
            raise NotCommissioned("finished_before", account=job.options.account)
        return await _exchange(job, state, journal, version)
    finally:
        await journal.close()


async def _exchange(job: _Job, state: State, journal: SqliteJournal, version: str) -> int:
    account = state.accounts.get(job.options.account)
    if account is None or account.meter_id != job.place.meter.meter_id:
        raise NotCommissioned("not_in_journal", id=job.options.account, meter=job.place.meter.meter_id)
    last = await _last(job, account)
    job.tell(
        "exchange.step.last", register=f"{last.register:f}", unit=_unit(job.old_model), relay=_said(job, last.relay)
    )
    if last.source == "read":
        _wait_for_the_new_one(job)
    first = await _first(job, last)
    job.tell(
        "exchange.step.first", register=f"{first.seen.register:f}", unit=_unit(job.model), relay=_said(job, first.relay)
    )
    clock = job.clock.read()
    serial = first.seen.identity.get("serial", job.meter.serial)
    meter = msgspec.structs.replace(job.meter, serial=serial)
    signed = sign(_record(job, account, last, first, clock, version), job.key)
    events = _events(job, state, last, first, clock, record_hash(signed))
    options = job.options
    note = Note(
        1, meter, job.relay, signed, str(job.prepared.config.path(job.prepared.config.gateway.site_book).resolve()),
        str(options.out.resolve()), None if options.page is None else str(options.page.resolve()),
    )  # fmt: skip
    outcome = await exchange(job.prepared.data_dir, note, JournalEventLog(journal), events)
    return _finished(job, signed, outcome == "finished")


def _finished(job: _Job, signed: SignedExchange, recorded: bool) -> int:
    old, new = signed.record.old, signed.record.new
    if job.options.json:
        print_line(json.dumps(msgspec.to_builtins(signed), ensure_ascii=False))
    else:
        words = {"account": signed.record.account, "old": old.meter_id, "new": new.meter_id, "file": job.options.out}
        print_line(say(job.language, "exchange.done", **words))
    wanted: RelayWord = "closed" if signed.record.control_state == "connected" else "open"
    if new.relay is not None and new.relay != wanted:
        job.tell("exchange.relay_differs", relay=_said(job, new.relay), wanted=_said(job, wanted))
    if job.place.meter.decoder is not None:
        job.tell("exchange.decoder_gone", id=new.meter_id)
    if not recorded:
        job.tell("exchange.unrecorded", file=job.options.out)
    return 0 if recorded else EXIT_UNRECORDED


# --- the steps ---------------------------------------------------------------------------------


async def _last(job: _Job, account: Account) -> _Last:
    """The old meter's last register: read, or as a person typed it. Its relay is read in either case, if it can be."""
    options, unit, ratio = job.options, _unit(job.old_model), job.place.meter.ct_ratio
    seen: Seen | None = None
    driver, link = _line(job)
    try:
        if options.last is None:
            answer_s = _answer_s(options)
            seen = await driver.run(see_meter(driver.framing, link, job.place.meter.device_id, job.old_model, answer_s))
        relay = await _relay(job, driver, link, job.place.relay, gone=options.last is not None and job.place.own_relay)
    finally:
        await driver.close()
    at = job.clock.read().at
    if seen is not None:
        return _Last(seen, seen.register, wh_of(seen.register, unit, ratio), "read", at, relay)
    recorded_wh = account.recorded.register_wh
    last_wh = last_of_display(options.last, unit, ratio, recorded_wh)
    if last_wh < recorded_wh:
        shown = _of_wh(recorded_wh, unit, ratio)
        raise NotCommissioned("below_recorded", last=f"{options.last:f}", unit=unit, recorded=shown)
    if options.last_at is not None:
        at = _typed_time(options.last_at, at)
    return _Last(None, options.last, last_wh, "estimated" if options.estimated else "typed", at, relay)


async def _first(job: _Job, last: _Last) -> _First:
    """The new meter on the line, looked at as carefully as at a commissioning."""
    options = job.options
    driver, link = _line(job)
    try:
        seen = await driver.run(
            see_meter(driver.framing, link, job.meter.device_id, job.model, _answer_s(options))
        )  # fmt: skip
        _check_first(job, last, seen)
        relay = await _relay(job, driver, link, job.relay, gone=False)
    finally:
        await driver.close()
    if job.relay is not None and relay == "unknown":
        raise NotCommissioned("relay_unread", relay=job.relay.relay_id)
    return _First(seen, wh_of(seen.register, _unit(job.model), job.meter.ct_ratio), job.clock.read().at, relay)


def _check_first(job: _Job, last: _Last, seen: Seen) -> None:
    options, unit = job.options, _unit(job.model)
    read = seen.identity.get("serial")
    if read is not None and options.serial and options.serial != read:
        raise NotCommissioned("serial_differs", read=read, given=options.serial)
    if options.display is not None and not agrees(seen.register, options.display):
        raise NotCommissioned("display_differs", register=f"{seen.register:f}", unit=unit, display=options.display)
    check_other_meter(last.seen, job.place, seen, job.meter, unit)


async def _relay(job: _Job, driver: Driver, link: Link, row: RelayEntry | None, gone: bool) -> RelayWord | None:
    """A relay of this line as read back; `unknown` where that cannot be, None where there is none."""
    if row is None:  # a relay that is not on a line is the agent's to read
        return None if job.place.meter.relay_id is None else "unknown"
    if gone or row.line_id != job.place.meter.line_id:
        return "unknown"
    model = job.prepared.models.get(row.model) or known_model(row.model, _models(job.prepared))
    place = RelayPlace(row.relay_id, row.device_id, model, row.channel)
    closed = await driver.run(relay_state(driver.framing, link, place, _answer_s(job.options)))
    return "unknown" if closed is None else "closed" if closed else "open"


def _wait_for_the_new_one(job: _Job) -> None:
    """The moment in which somebody changes the meter. Without an answer nothing has happened."""
    job.tell("exchange.step.wait", old=job.place.meter.meter_id, new=job.meter.meter_id, id=job.meter.device_id)
    if not sys.stdin.readline():
        raise NotCommissioned("nobody_said")


# --- what it comes to --------------------------------------------------------------------------


def _events(job: _Job, state: State, last: _Last, first: _First, clock: ClockReading, record: str) -> Sequence[Event]:
    """What the core makes of it. Raises NotCommissioned where it refuses, and then nothing is recorded."""
    options, site = job.options, job.prepared.book.site
    command = cmd.ExchangeMeter(
        received=clock,
        account_id=options.account,
        meter_id=job.meter.meter_id,
        last=Register(last.at, last.wh),
        first=Register(first.at, first.wh),
        actor=options.installer,
        last_source=last.source,
        estimated_wh=_estimated_wh(job),
        power_w_max=job.place.meter.power_w_max,
        record=record,
    )
    pricing = Pricing(site.time_zone, site.minor_digits, partial(array_rate, TariffKernel), zone_offsets)
    events = step(state, command, pricing.rating(state, clock.at, job.prepared.documents)).events
    if not any(isinstance(event, ev.MeterExchanged) for event in events):
        reason = next((event.detail for event in events if isinstance(event, ev.ConditionNoted)), "")
        raise NotCommissioned("core_refuses", reason=reason)
    return events


def _record(
    job: _Job, account: Account, last: _Last, first: _First, clock: ClockReading, version: str
) -> ExchangeRecord:
    options, seen = job.options, first.seen
    point = job.model.points[job.model.money_point or ""]
    display = None if options.display is None else f"{options.display:f}"
    witness = WitnessReading(
        point.name, point.unit, f"{seen.register:f}", display, None if display is None else True, dict(seen.voltages)
    )
    before = job.place.meter
    serial_before = before.serial if last.seen is None else last.seen.identity.get("serial", before.serial)
    return ExchangeRecord(
        account=options.account,
        at=_iso(clock.at),
        wattgate=version,
        gateway=job.prepared.config.gateway.id,
        line_id=before.line_id,
        position=before.position,
        old=OldMeter(
            before.meter_id, before.model, serial_before, before.device_id, before.ct_ratio, f"{last.register:f}",
            _unit(job.old_model), last.wh, last.source, _iso(last.at), last.relay,
        ),
        new=NewMeter(
            job.meter.meter_id, job.meter.model, seen.identity.get("serial", job.meter.serial), dict(seen.identity),
            job.meter.device_id, job.meter.ct_ratio, witness, first.wh, _iso(first.at), first.relay,
        ),
        recorded_wh=account.recorded.register_wh,
        estimated_wh=_estimated_wh(job),
        relay_id=before.relay_id,
        control_state=account.control_state.name.lower(),
        installer=options.installer,
    )  # fmt: skip


def _job(options: argparse.Namespace, prepared: Prepared, clock: Clock, language: str) -> _Job:
    if options.last is None and (options.estimated or options.last_at is not None):
        raise NotCommissioned("estimate_needs_last")
    for path in filter(None, (options.out, options.page)):
        if path.exists():
            raise NotCommissioned("file_exists", file=path)
        if not path.resolve().parent.is_dir():
            raise NotCommissioned("no_folder", file=path)
    place = place_of(prepared.book, options.account)
    model = known_model(options.model or place.meter.model, _models(prepared))
    if model.money_point is None:
        raise NotCommissioned("model_unusable", model=model.id)
    device_id = options.device_id or place.meter.device_id
    ct_ratio = options.ct_ratio or place.meter.ct_ratio
    meter = new_meter(place, options.meter_id, device_id, model, options.serial, ct_ratio)
    relay = new_relay(place, meter, model)
    book_path = prepared.config.path(prepared.config.gateway.site_book)
    checked_book(book_path, exchanged_book(prepared.book, options.account, meter, relay))
    old_model = prepared.models[place.meter.model]
    return _Job(prepared, clock, place, old_model, model, meter, relay, load_key(options.key), options, language)


def _line(job: _Job) -> tuple[Driver, Link]:
    """The line of the place, opened as the configuration says."""
    line_id = job.place.meter.line_id
    section = next(one for one in job.prepared.config.lines if one.id == line_id)
    opener = job.prepared.openers[line_id]
    driver = Driver(line_settings(section).framing, lambda link: opener, lambda note: None)
    return driver, Link(section.baud, section.format)


def _models(prepared: Prepared) -> Path | None:
    config = prepared.config
    return None if config.meters is None else config.path(config.meters.models)


def _estimated_wh(job: _Job) -> int:
    return 0 if job.options.gap is None else wh_of(job.options.gap, "kWh")


def _unit(model: MeterModel) -> str:
    return model.points[model.money_point or ""].unit


def _of_wh(wh: int, unit: str, ct_ratio: int) -> str:
    """Energy as the meter shows it."""
    return f"{(Decimal(wh) / (WATT_HOURS_PER_UNIT[unit] * ct_ratio)).normalize():f}"


def _answer_s(options: argparse.Namespace) -> float | None:
    return None if options.timeout_ms is None else options.timeout_ms / 1000


def _said(job: _Job, word: RelayWord | None) -> str:
    return "-" if word is None else say(job.language, f"state.{word}")


def _user_name(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"#{number}"  # as sudo takes it


def _iso(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def _typed_time(typed: datetime, now: int) -> UnixSeconds:
    at = int(typed.timestamp())
    if at > now:
        raise NotCommissioned("not_yet", at=typed.isoformat())
    return UnixSeconds(at)
