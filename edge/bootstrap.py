"""Puts a gateway together from its configuration, and runs it. The only place that knows all parts.

Everything that can be wrong with files is found before anything starts (`prepare`); then the
journal is opened and replayed, and lines, cloud, console and accounting run in one event loop.
"""

import asyncio
import os
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import field, replace
from decimal import Decimal
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from cloud_sync import orders, voucher
from cloud_sync.acks import verify_ack
from cloud_sync.ed25519 import Ed25519PrivateKey
from cloud_sync.keys import KeyRing, load_key_ring, load_private_key
from cloud_sync.proof.checkpoint import CONDITION, device_kid, sign_checkpoint
from cloud_sync.proof.checkpoint import Checkpoint as SignedCheckpoint
from cloud_sync.session import HelloFacts, SessionSettings, SyncSession
from cloud_sync.transport import BrokerAddress, MqttTransport, TransportSettings, gateway_tls_context
from cloud_sync.wire import CONTRACT_VERSION, Document, Order, RosterEntry, WireError, record_hash, topic_of
from edge import VERSION
from edge.agent.actuation import Actuation, RelayFacts, SwitchingRules
from edge.agent.area import AreaFacts, AreaWatch
from edge.agent.clock_witness import WitnessedClock
from edge.agent.cloud_link import CloudLink, LinkEvents, Transport
from edge.agent.customer_desk import CustomerDesk
from edge.agent.details import look_at_store, make_details
from edge.agent.facts import AccountFacts, MeterPlace, SiteFacts
from edge.agent.gateway import NO_CLOUD, Gateway
from edge.agent.local_socket import PATH_BYTES_MAX, serve_local_socket
from edge.agent.metering import MeterFacts, Metering
from edge.agent.order_desk import OrderDesk, Refused
from edge.agent.pricing import Pricing, load_documents, not_charged_on_site, read_tariff
from edge.agent.recovery import EPOCH_LIMIT, SilentJournal, StandBy, epoch_events, permit_fault
from edge.agent.snapshot import RecoveryView, SiteDetails, SnapshotSource
from edge.agent.token_desk import DecoderFacts, TokenDesk, door_of
from edge.agent.views import Sources
from edge.bus.line import LineMaster
from edge.bus.records import LineSettings, MeterOnLine, RelayOnLine, RelayState
from edge.config import CloudSection, Config, ConfigError, GpioRelaySection, LineSection, parse_broker
from edge.core.account import State
from edge.core.area import Area
from edge.core.commands import NoteCondition
from edge.core.demand import Contracted
from edge.core.events import Event
from edge.core.lean import dataclass
from edge.core.month_lines import demand_window_s, not_contracted
from edge.core.rating_arrays import array_rate
from edge.core.tariff import TariffRefused
from edge.core.terms import Terms
from edge.core.token import KEY_EXPIRY_MAX
from edge.core.units import ClockReading, UnixSeconds, WattHours
from edge.left_out import for_console, load_broker_client
from edge.meters.model import MeterModel, ModelError, known_models, load_model
from edge.meters.records import DLT645
from edge.policies.document import load_policy
from edge.ports import Anchor, Clock, CommandDoor, DoorAnswer, Journal, PortOpener, RelayPort
from edge.store.checkpoint import Checkpoint
from edge.store.event_log import DailyCheckpoints, JournalEventLog, Restored
from edge.store.journal import SqliteJournal
from edge.store.reader import JournalReader
from edge.store.schema import ANCHOR_FILE, JOURNAL_FILE
from edge.store.site_book import (
    AccountEntry,
    DecoderEntry,
    MeterEntry,
    RelayEntry,
    SiteBook,
    SiteBookError,
    read_site_book,
)
from edge.store.words import load_words
from edge.zone import zone_offsets
from hw.file_anchor import FileAnchor
from hw.socket_port import Direction, LineWarning, line_warnings, opener_for
from native.kernel import TariffKernel

if TYPE_CHECKING:
    from edge.dlt645.authority import Authority
    from hw.gpio_relay import ChipOpener, GpioRelay, GpioRelays

SOCKET_FILE = "agent.sock"
DRAIN_S_MAX = 3.0
DRAIN_LOOK_S = 0.05
CLOSING_SPACING_S = 0.5
REMOTE_CUT_DELAY_S_MAX = 30.0
# No register of ours steps wider than this: 0.0625 kWh of a float32 above 524,288 kWh, rounded up.
REGISTER_STEP_WH_MAX = WattHours(63)


@dataclass(frozen=True, slots=True)
class Prepared:
    """All files read and found good; nothing started."""

    config: Config
    book: SiteBook
    models: dict[str, MeterModel]
    documents: dict[str, str]  # tariff documents by id@version
    ring: KeyRing | None
    openers: dict[str, PortOpener]  # by line id
    data_dir: Path
    decoders: dict[str, DecoderFacts] = field(default_factory=dict)  # of typed tokens, by meter id
    device_key: Ed25519PrivateKey | None = None  # signs the daily checkpoint
    chip_opener: "ChipOpener | None" = None  # of GPIO chips; None: those of this machine
    authorities: "dict[str, Authority]" = field(default_factory=dict)  # who commands a relay, by its id


def prepare(config: Config) -> Prepared:
    """Reads every file a configuration names. ConfigError says which one is wrong, where and how."""
    try:
        gpio_relays = [section.id for section in config.gpio_relays]
        book = read_site_book(config.path(config.gateway.site_book), gpio_relays)
        documents = _read_documents(config)
        ring = load_key_ring(config.path(config.cloud.keyring)) if config.cloud is not None else None
        device_key = _read_device_key(config)
    except (SiteBookError, OSError, ValueError) as error:
        raise ConfigError(str(error)) from error
    if config.gpio_relays and find_spec("gpiod") is None:
        raise ConfigError(f"{config.file}: gpio_relays: need the package gpiod: pip install 'wattgate[gpio]'")
    models = _read_models(config, book)
    openers = {section.id: _opener(config.file, section) for section in config.lines}
    data_dir, decoders = config.path(config.gateway.data_dir), _read_decoders(config, book)
    prepared = Prepared(config, book, models, documents, ring, openers, data_dir, decoders, device_key)
    _check_references(prepared)
    prepared = replace(prepared, authorities=_read_authorities(prepared))
    socket_path = prepared.data_dir.resolve() / SOCKET_FILE
    if len(os.fsencode(socket_path)) > PATH_BYTES_MAX:
        limit = f"{PATH_BYTES_MAX} bytes a socket may have"
        raise ConfigError(f"{config.file}: gateway.data_dir: {socket_path} is longer than the {limit}")
    return prepared


async def run_gateway(
    prepared: Prepared,
    clock: Clock,
    stop: asyncio.Event,
    on_events: Callable[[Sequence[Event]], None] | None = None,
    on_ready: Callable[[str | None], None] | None = None,
    anchor: Anchor | None = None,
) -> None:
    """Runs until `stop` is set: then nothing new is begun, and what the cloud lacks is sent for a few seconds.

    `on_ready(console address or None)` is called when all of it is up. Without an `anchor` it is the file
    that the configuration names, or one beside the journal.
    """
    prepared.data_dir.mkdir(parents=True, exist_ok=True)
    journal = open_journal(prepared, anchor)
    try:
        restored = JournalEventLog(journal).restore()
        if journal.recovery is not None:
            state = await _stand_by(prepared, clock, stop, journal, restored.state, on_events, on_ready)
            restored = replace(restored, state=state)
        if not stop.is_set():
            await _account(prepared, clock, stop, journal, restored, on_events, on_ready)
    finally:
        await journal.close()
        (prepared.data_dir / SOCKET_FILE).unlink(missing_ok=True)


def warnings_of(config: Config) -> tuple[LineWarning, ...]:
    """What is worth saying about devices and relays before they are opened; nothing is refused for it."""
    found = [
        warning
        for section in config.lines
        for warning in line_warnings(section.address, section.format, direction_of(section))
    ]
    if config.gpio_relays:
        from hw.gpio_relay import gpio_warnings

        found += gpio_warnings(map(_gpio_relay, config.gpio_relays))
    return tuple(found)


class RecoverRefused(ValueError):
    """No epoch was opened; the text says why."""


async def recover(prepared: Prepared, clock: Clock, permit: bytes | None, epoch: int | None) -> str:
    """Opens a new epoch on a stopped gateway in RECOVERY; without permit and epoch only says how it stands.

    RecoverRefused when the permit does not hold, or an epoch is given where keys are pinned.
    """
    if not (prepared.data_dir / JOURNAL_FILE).exists() and not anchor_path(prepared).exists():
        raise RecoverRefused(f"{prepared.data_dir}: there is no journal")
    journal = open_journal(prepared)
    try:
        if journal.recovery is None:
            if permit is None and epoch is None:
                advice = anchor_advice(prepared)
                return "good: the journal is the one the anchor knows" + (f"\n{advice}" if advice else "")
            raise RecoverRefused("the gateway is not in RECOVERY: its journal is the one the anchor knows")
        view = _recovery_view(journal)
        if permit is None and epoch is None:
            raise RecoverRefused(f"RECOVERY: {view.reason}: {view.detail}; a permit opens epoch {view.epoch_min}")
        event_log = JournalEventLog(journal)
        cid, opened = _permitted(prepared, clock, event_log.restore().state, view, permit, epoch)
        story = f"{view.reason}: {view.detail}"
        await event_log.open_epoch(opened, epoch_events(clock.read(), opened, cid, story))
        return f"epoch {opened} is open"
    finally:
        await journal.close()


def _permitted(
    prepared: Prepared, clock: Clock, state: State, view: RecoveryView, permit: bytes | None, epoch: int | None
) -> tuple[str | None, int]:
    """Who permits (cid of the order, None for the person here) which epoch."""
    if permit is None:
        assert epoch is not None
        if prepared.ring is not None:
            raise RecoverRefused("this gateway pins keys: a new epoch needs a signed permit")
        if not view.epoch_min <= epoch < EPOCH_LIMIT:
            raise RecoverRefused(f"epoch {epoch}: allowed is {view.epoch_min} or more")
        return None, epoch
    if prepared.ring is None:
        raise RecoverRefused("this gateway pins no keys, so no permit can be checked; use --epoch")
    order = _Checks(prepared.ring, prepared.config.gateway.id).order(permit, clock.read())
    if isinstance(order, Refused):
        raise RecoverRefused(f"the permit is refused: {order.reason}")
    fault = permit_fault(order, view.epoch_min, state)
    if fault is not None:
        raise RecoverRefused(f"the permit is refused: {fault}; it must open epoch {view.epoch_min} or a later one")
    return order.cid, int(order.args["epoch"])


def open_journal(prepared: Prepared, anchor: Anchor | None = None) -> SqliteJournal:
    """The gateway's journal, judged by its anchor. JournalError when it cannot be used."""
    anchor = anchor or FileAnchor(anchor_path(prepared))
    path = prepared.data_dir / JOURNAL_FILE
    return SqliteJournal.open(path, prepared.config.gateway.id, record_hash, None, anchor)


def anchor_path(prepared: Prepared) -> Path:
    """The file the journal's head is kept in."""
    named = prepared.config.gateway.anchor
    return prepared.data_dir / ANCHOR_FILE if named is None else prepared.config.path(named)


def anchor_advice(prepared: Prepared, language: str = "en") -> str | None:
    """What to say to whoever starts this: an anchor that cannot notice a rolled-back card, or cannot be kept at all."""
    anchor = anchor_path(prepared)
    if not anchor.parent.is_dir() and anchor.parent != prepared.data_dir:
        code = "folder"
    elif _disk_of(anchor.parent) == _disk_of(prepared.data_dir):
        code = "same_disk"
    else:
        return None
    return load_words(language)[f"anchor.{code}"].format(anchor=anchor, folder=anchor.parent)


def _disk_of(path: Path) -> int:
    """The device a folder is on, or will be on once it is made."""
    present = next(folder for folder in (path.resolve(), *path.resolve().parents) if folder.exists())
    return present.stat().st_dev


async def _account(
    prepared: Prepared,
    machine_clock: Clock,
    stop: asyncio.Event,
    journal: SqliteJournal,
    restored: Restored,
    on_events: Callable[[Sequence[Event]], None] | None,
    on_ready: Callable[[str | None], None] | None,
) -> None:
    """The gateway at work."""
    config = prepared.config
    recorded = _recorded(restored.state, machine_clock.read().boot_id)
    clock = WitnessedClock(machine_clock, config.cloud is not None and prepared.ring is not None, recorded)
    event_log = JournalEventLog(journal)
    checkpoints = DailyCheckpoints(journal, restored, lambda written: _sign(prepared, written, gateway, clock))
    metering = Metering(_meter_facts(prepared), _ct_ratios(prepared.book))
    site = _site_facts(prepared)
    pricing = _pricing(site)

    def committed(events: Sequence[Event]) -> None:
        checkpoints.committed(events, gateway.state)
        if on_events is not None:
            on_events(events)

    documents = prepared.documents
    areas = _area_watch(prepared.book)
    gateway = Gateway(site, restored.state, event_log, journal, clock, pricing, documents, metering, committed, areas)
    lines, gpio, actuation = _connect_relays(prepared, clock, metering, gateway)
    desk = _order_desk(prepared, gateway, clock)
    cloud = _cloud_link(prepared, journal, gateway, desk, clock)
    gateway.connect(lines, actuation, cloud)
    gateway.snapshots.details = _details(prepared, journal, clock, lines, lambda: gateway.state, areas, gpio)
    tokens = TokenDesk(prepared.decoders, clock.read, lambda: gateway.state, gateway.submit)
    await tokens.commission()
    async with asyncio.TaskGroup() as group:
        work = [*(line.run() for line in lines.values()), gateway.run()]
        working = [group.create_task(part) for part in work]
        if gpio is not None:
            working += [group.create_task(gpio.run()), group.create_task(_watch_gpio(gpio, prepared, gateway, clock))]
        reader = JournalReader(journal)
        answering = serve_local_socket(prepared.data_dir / SOCKET_FILE, gateway.snapshots, journal.backup, reader)
        serving = [group.create_task(answering)]
        serving.append(group.create_task(checkpoints.run()))
        serving.append(group.create_task(_watch_anchor(journal, gateway, clock)))
        if cloud is not None:
            serving.append(group.create_task(cloud.run()))
        if config.console is not None:
            customers = CustomerDesk(clock.read, lambda: gateway.state, gateway.newest_sample, gateway.submit)
            door = _Door(desk, tokens, customers)
            console = _serve_console(prepared, gateway.snapshots, reader, door, on_ready)
            serving.append(group.create_task(console))
        elif on_ready is not None:
            on_ready(None)
        await stop.wait()
        await _end(working)
        await checkpoints.written()  # a signed one goes up with the rest
        await actuation.close()
        await _drain(cloud)
        await _end(serving)


async def _stand_by(
    prepared: Prepared,
    clock: Clock,
    stop: asyncio.Event,
    journal: SqliteJournal,
    state: State,
    on_events: Callable[[Sequence[Event]], None] | None,
    on_ready: Callable[[str | None], None] | None,
) -> State:
    """RECOVERY, until a permit has opened a new epoch or `stop` is set. The state with what was noted meanwhile."""
    metering = Metering(_meter_facts(prepared), _ct_ratios(prepared.book))
    site = _site_facts(prepared)
    lines = _make_lines(prepared, clock, metering, lambda _relay: None)
    links: list[CloudLink] = []
    marks = _CloudMarks(prepared)

    def sources() -> Sources:
        return Sources(
            site=site,
            metering=metering,
            lines={line_id: line.view() for line_id, line in lines.items()},
            cloud=links[0].view() if links else NO_CLOUD,
            ledger_head=journal.heads()["led"],
            cloud_silent_s=None,
            switching=lambda _account_id: False,
        )

    waiting = StandBy(
        view=_recovery_view(journal),
        state=state,
        clock=clock,
        pricing=_pricing(site),
        documents=prepared.documents,
        sources=sources,
        append=JournalEventLog(journal).append,
        open_epoch=JournalEventLog(journal).open_epoch,
        tell=on_events or (lambda _events: None),
        cloud_marks=lambda: marks.seqs,
        checks=_Checks(prepared.ring, prepared.config.gateway.id) if prepared.ring is not None else None,
        round_interval_s=site.round_interval_s,
    )
    waiting.snapshots.details = _details(prepared, journal, clock, lines, lambda: waiting.state, None)
    doors = _LinkDoors(waiting.take_order, _leave_document, lambda _at: None, marks.take)
    link = _link(prepared, SilentJournal(journal), site.software_version, doors, clock)
    links.extend([link] if link is not None else [])
    async with asyncio.TaskGroup() as group:
        ended = [group.create_task(waiting.run()), group.create_task(_until(stop))]
        serving = [group.create_task(line.run()) for line in lines.values()]
        serving.extend(group.create_task(cloud.run()) for cloud in links)
        reader = JournalReader(journal)
        answering = serve_local_socket(prepared.data_dir / SOCKET_FILE, waiting.snapshots, journal.backup, reader)
        serving.append(group.create_task(answering))
        if prepared.config.console is not None:
            console = _serve_console(prepared, waiting.snapshots, reader, waiting, on_ready)
            serving.append(group.create_task(console))
        elif on_ready is not None:
            on_ready(None)
        await _first(ended)
        await _end([*ended, *serving])
    return waiting.state


def _details(
    prepared: Prepared,
    journal: SqliteJournal,
    clock: Clock,
    lines: Mapping[str, LineMaster],
    state: Callable[[], State],
    areas: AreaWatch | None,
    gpio: "GpioRelays | None" = None,
) -> Callable[[], SiteDetails]:
    """Makes the details whenever a page or the terminal asks."""
    settings = [line_settings(section) for section in prepared.config.lines]
    same_disk = _disk_of(anchor_path(prepared).parent) == _disk_of(prepared.data_dir)

    def look() -> SiteDetails:
        path = prepared.data_dir / JOURNAL_FILE
        store = look_at_store(path, journal.heads(), journal.anchor_fault, same_disk)
        statuses = [(one, lines[one.line_id].view(), lines[one.line_id].times()) for one in settings]
        return make_details(state(), clock.read(), statuses, areas, store, () if gpio is None else gpio.view())

    return look


async def _until(stop: asyncio.Event) -> None:
    await stop.wait()


async def _first(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Returns when one of the tasks has ended. Its exception is the group's business."""
    over = asyncio.Event()
    for task in tasks:
        task.add_done_callback(lambda _task: over.set())
    await over.wait()


async def _leave_document(_envelope: bytes) -> None:
    """In RECOVERY no document is taken: the cloud sends it again."""


def _recovery_view(journal: SqliteJournal) -> RecoveryView:
    found = journal.recovery
    assert found is not None
    return RecoveryView(found.reason, found.detail, found.epoch_min)


def _read_device_key(config: Config) -> Ed25519PrivateKey | None:
    if config.cloud is None or config.cloud.device_key is None:
        return None
    return load_private_key(config.path(config.cloud.device_key))


async def _sign(prepared: Prepared, written: Checkpoint, gateway: Gateway, clock: Clock) -> None:
    """Sends a stored checkpoint up, signed with the device's key, as a record of the evt stream."""
    key, (epoch, seq, head) = prepared.device_key, written.position.heads["led"]
    if key is None or seq == 0:
        return
    signed = SignedCheckpoint(
        v=CONTRACT_VERSION,
        gw=prepared.config.gateway.id,
        kid=device_kid(key.public_key()),
        at=written.at,
        epoch=epoch,
        seq=seq,
        head=head,
        credits_nano=written.sums.credits_nano,
        charges_nano=written.sums.charges_nano,
        balances_nano=written.sums.balances_nano,
    )
    await gateway.submit(NoteCondition(clock.read(), CONDITION, "", sign_checkpoint(signed, key).hex()))


async def _watch_anchor(journal: SqliteJournal, gateway: Gateway, clock: Clock) -> None:
    """An anchor that cannot be written stops nobody's payment, but somebody must know: one record per change."""
    noted: str | None = None
    while True:
        fault = journal.anchor_fault
        if (fault is None) is not (noted is None):
            condition = "anchor_answers" if fault is None else "anchor_fails"
            await gateway.submit(NoteCondition(clock.read(), condition, "", fault or ""))
            noted = fault
        await asyncio.sleep(gateway.site.round_interval_s)


async def _watch_gpio(gpio: "GpioRelays", prepared: Prepared, gateway: Gateway, clock: Clock) -> None:
    """A relay whose lines are not to be had, or are had again: one record per change."""
    accounts = {entry.meter_id: entry.account_id for entry in prepared.book.accounts}
    account_of = {meter.relay_id: accounts.get(meter.meter_id, "") for meter in prepared.book.meters}
    lost: set[str] = set()
    while True:
        for status in gpio.view():
            if (status.fault is not None) is not (status.relay_id in lost):
                lost ^= {status.relay_id}
                condition = "relay_lost" if status.relay_id in lost else "relay_found"
                detail = f"{status.relay_id} {status.fault or status.place}"
                account_id = account_of.get(status.relay_id, "")
                await gateway.submit(NoteCondition(clock.read(), condition, account_id, detail))
        await asyncio.sleep(gateway.site.round_interval_s)


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _drain(cloud: CloudLink | None) -> None:
    """Gives the cloud a little time to acknowledge everything. What it lacks then comes at the next start."""
    give_up_at = asyncio.get_running_loop().time() + DRAIN_S_MAX
    while cloud is not None and asyncio.get_running_loop().time() < give_up_at:
        view = cloud.view()
        if not view.connected or not any(view.backlog.values()):
            return
        await asyncio.sleep(DRAIN_LOOK_S)


# --- parts -----------------------------------------------------------------------------------


def _connect_relays(
    prepared: Prepared,
    clock: Clock,
    metering: Metering,
    gateway: Gateway,
) -> "tuple[dict[str, LineMaster], GpioRelays | None, Actuation]":
    """The masters of all lines, the GPIO relays if there are any, and the actuation over all relays."""
    book, cloud = prepared.book, prepared.config.cloud
    holder: list[Actuation] = []
    lines = _make_lines(prepared, clock, metering, lambda relay: holder[0].on_relay(relay))
    gpio = _make_gpio(prepared, clock, lambda relay: holder[0].on_relay(relay))
    pause_s = cloud.timer_s_max if cloud is not None and cloud.timer_s_max is not None else 1.0
    relays = _relay_facts(prepared, lines, gpio)
    # Demos cap every wait of the product by one setting.
    cap_s = cloud.timer_s_max if cloud is not None and cloud.timer_s_max is not None else REMOTE_CUT_DELAY_S_MAX
    rules = SwitchingRules(pause_s, CLOSING_SPACING_S, min(cap_s, REMOTE_CUT_DELAY_S_MAX), random.random)
    current_a = partial(_load_current_a, {entry.account_id: entry.meter_ids for entry in book.accounts}, metering)
    told = (gateway.output_observed, gateway.output_disobeyed)
    holder.append(Actuation(relays, *told, rules, current_a, gateway.cut_delayed))
    return lines, gpio, holder[0]


def _make_lines(
    prepared: Prepared, clock: Clock, metering: Metering, on_relay: Callable[[RelayState], None]
) -> dict[str, LineMaster]:
    """The masters of all lines. The driver itself refuses to open the relay of a protected customer."""
    book, protected = prepared.book, _protected_relays(prepared.book)
    return {
        section.id: LineMaster(
            line_settings(section),
            [_meter_on_line(entry, prepared.models[entry.model]) for entry in book.meters_of_line(section.id)],
            [
                RelayOnLine(
                    entry.relay_id,
                    entry.device_id,
                    prepared.models[entry.model],
                    entry.channel,
                    prepared.authorities.get(entry.relay_id),
                )
                for entry in book.relays
                if entry.line_id == section.id
            ],
            prepared.openers[section.id],
            clock,
            metering.on_sample,
            on_relay,
            protected,
        )
        for section in prepared.config.lines
    }


def _make_gpio(prepared: Prepared, clock: Clock, on_relay: Callable[[RelayState], None]) -> "GpioRelays | None":
    """The GPIO relays, loaded where a site has some."""
    if not prepared.config.gpio_relays:
        return None
    from hw.gpio_relay import GpioRelays, open_chip

    relays = [_gpio_relay(section) for section in prepared.config.gpio_relays]
    protected = _protected_relays(prepared.book)
    return GpioRelays(relays, clock, on_relay, protected, prepared.chip_opener or open_chip)


def _gpio_relay(section: GpioRelaySection) -> "GpioRelay":
    from hw.gpio_relay import Coil, ContactLine, GpioRelay, LatchingCoils

    coils: Coil | LatchingCoils
    if section.kind == "monostable":
        assert section.coil_line is not None
        coils = Coil(section.coil_line, section.closed_when == "coil_on")
    else:
        assert section.set_line is not None
        assert section.reset_line is not None
        pulse_ms = {} if section.pulse_ms is None else {"pulse_ms": section.pulse_ms}
        coils = LatchingCoils(section.set_line, section.reset_line, **pulse_ms)
    contact = None
    if section.contact_line is not None:
        contact = ContactLine(section.contact_line, section.contact_active_low, section.contact_bias)
    place = (section.id, section.chip, coils)
    return GpioRelay(*place, section.active_low, contact, section.settle_ms, section.chip_label)


def _protected_relays(book: SiteBook) -> frozenset[str]:
    return frozenset(
        meter.relay_id
        for account in book.accounts
        for meter in book.meters
        if account.protected and account.meter_id == meter.meter_id and meter.relay_id is not None
    )


def _meter_on_line(entry: MeterEntry, model: MeterModel) -> MeterOnLine:
    return MeterOnLine(
        entry.meter_id, entry.device_id, model, entry.meter_power_w_max, points=model.round_points or None
    )


def _area_watch(book: SiteBook) -> AreaWatch:
    """The transformer areas of the site book."""
    areas = [
        AreaFacts(
            Area(
                entry.area_id,
                entry.supply_meter_ids,
                book.sale_meter_ids(entry),
                entry.generation_meter_ids,
                entry.ct_ratio,
            ),
            entry.thresholds,
            entry.meter_thresholds,
        )
        for entry in book.areas
    ]
    return AreaWatch(areas, _accounts_by_meter(book))


def _ct_ratios(book: SiteBook) -> dict[str, int]:
    return {entry.meter_id: entry.ct_ratio for entry in book.meters if entry.ct_ratio != 1}


def _accounts_by_meter(book: SiteBook) -> dict[str, str]:
    return {meter_id: entry.account_id for entry in book.accounts for meter_id in entry.meter_ids}


def _load_current_a(meters: Mapping[str, tuple[str, ...]], metering: Metering, account_id: str) -> Decimal | None:
    """The largest current of a phase at the newest samples of an account's meters together, None if one has none."""
    found = [_largest_current_a(metering, meter_id) for meter_id in meters[account_id]]
    known = [current for current in found if current is not None]
    return sum(known, Decimal(0)) if len(known) == len(found) else None


def _largest_current_a(metering: Metering, meter_id: str) -> Decimal | None:
    sample = metering.newest(meter_id)
    currents = [value for name, value in (sample.values if sample else {}).items() if name.startswith("current_l")]
    return max(currents, default=None)


def _relay_facts(
    prepared: Prepared, lines: Mapping[str, LineMaster], gpio: "GpioRelays | None"
) -> dict[str, RelayFacts]:
    """Whose supply each relay switches; relays without a meter, and meters without an account, are left out."""
    book = prepared.book
    ports: dict[str, RelayPort] = {entry.relay_id: lines[entry.line_id] for entry in book.relays}
    if gpio is not None:
        ports |= {section.id: gpio for section in prepared.config.gpio_relays}
    limits_a = {entry.relay_id: entry.breaking_current_a for entry in book.relays}
    limits_a |= {section.id: section.breaking_current_a for section in prepared.config.gpio_relays}
    account_of_meter = {entry.meter_id: entry for entry in book.accounts}
    relays = {}
    for meter in book.meters:
        account = account_of_meter.get(meter.meter_id)
        if meter.relay_id is not None and account is not None:
            place = (meter.relay_id, account.account_id, ports[meter.relay_id])
            relays[meter.relay_id] = RelayFacts(*place, account.protected, limits_a[meter.relay_id])
    return relays


def _relay_kind(prepared: Prepared, meter: MeterEntry) -> str:
    """What switches a meter's supply, as edge.agent.facts names it."""
    for section in prepared.config.gpio_relays:
        if section.id == meter.relay_id:
            return "gpio_commanded" if section.contact_line is None else "gpio"
    for relay in prepared.book.relays:
        if relay.relay_id == meter.relay_id:
            same_device = (relay.line_id, relay.device_id) == (meter.line_id, meter.device_id)
            return "meter" if same_device else "board"
    return ""


def _opener(file: str, section: LineSection) -> PortOpener:
    try:
        return opener_for(section.address, section.baud, section.format, direction_of(section))
    except ValueError as error:
        raise ConfigError(f"{file}: line {section.id}: address: {error}") from error


def direction_of(section: LineSection) -> Direction:
    """Who turns the line around, as configured."""
    before_ms, after_ms = section.rts_delay_before_ms, section.rts_delay_after_ms
    return Direction(section.direction, section.rts_when_sending, before_ms, after_ms)


def line_settings(section: LineSection) -> LineSettings:
    """A line as configured."""
    return LineSettings(
        line_id=section.id,
        address=section.address,
        baud=section.baud,
        format=section.format,
        response_timeout_ms=section.response_timeout_ms,
        drain_silence_ms=section.drain_silence_ms,
        poll_interval_ms=section.poll_interval_ms,
        power_quality_interval_ms=section.power_quality_interval_ms,
        other_interval_ms=section.other_interval_ms,
        dead_backoff_s_max=section.dead_backoff_s_max,
        local_echo=section.local_echo,
        protocol=section.protocol,
    )


class _Checks:
    """cloud_sync's checks, bound to this gateway's pinned keys."""

    def __init__(self, ring: KeyRing, gateway_id: str) -> None:
        self._ring, self._gateway_id = ring, gateway_id

    def order(self, envelope: bytes, clock: ClockReading) -> Order | Refused:
        order = orders.verify_order(envelope, self._ring, self._gateway_id)
        if isinstance(order, orders.OrderRefused):
            return Refused(order.reason, order.order)
        refusal = orders.window_refusal(order, clock.at, clock.quality.trusted)
        return order if refusal is None else Refused(refusal.reason, order)

    def signed_by(self, order: Order) -> tuple[str, ...]:
        second = orders.approved_by(order, self._ring)
        return (order.kid,) if second is None else (order.kid, second)

    def document(self, envelope: bytes) -> Document | Refused:
        document = orders.verify_document(envelope, self._ring, self._gateway_id)
        return Refused(document.reason) if isinstance(document, orders.OrderRefused) else document

    def voucher(self, text: str) -> bytes | Refused:
        envelope = voucher.read_voucher(text)
        return Refused(envelope.reason) if isinstance(envelope, voucher.VoucherRefused) else envelope


class _Door:
    """The CommandDoor of edge.ports for the console."""

    def __init__(self, desk: OrderDesk | None, tokens: TokenDesk, customers: CustomerDesk) -> None:
        self._desk, self._tokens = desk, tokens
        self.select_emergency_credit = customers.select_emergency_credit
        self.press_key, self.confirm_notice = customers.press_key, customers.confirm_notice

    async def enter_voucher(self, text: str, actor: str) -> DoorAnswer:
        if self._desk is None:
            return DoorAnswer(False, "unknown_key", {})
        return await self._desk.take_voucher(text)

    async def enter_token(self, account_id: str, text: str, actor: str) -> DoorAnswer:
        return await self._tokens.enter_token(account_id, text, door_of(actor))


def _order_desk(prepared: Prepared, gateway: Gateway, clock: Clock) -> OrderDesk | None:
    if prepared.ring is None:
        return None
    return OrderDesk(
        checks=_Checks(prepared.ring, prepared.config.gateway.id),
        accounts_by_meter=_accounts_by_meter(prepared.book),
        read_clock=clock.read,
        state=lambda: gateway.state,
        newest_sample=gateway.newest_sample,
        submit=gateway.submit,
        read_policy=load_policy,
    )


def _recorded(state: State, boot_id: str) -> ClockReading | None:
    """The clock of this boot's newest reading record: a program may start again within a boot."""
    clocks = [account.recorded_clock for account in state.accounts.values()]
    of_boot = [clock for clock in clocks if clock is not None and clock.boot_id == boot_id]
    return max(of_boot, key=lambda clock: clock.elapsed_ms, default=None)


def _cloud_link(
    prepared: Prepared, journal: SqliteJournal, gateway: Gateway, desk: OrderDesk | None, clock: WitnessedClock
) -> CloudLink | None:
    if desk is None:
        return None

    def on_ack_time(server_at: UnixSeconds) -> None:
        clock.heard(server_at)
        gateway.cloud_heard(server_at)

    async def on_order(envelope: bytes) -> None:
        await desk.take_order(envelope, "cloud")

    doors = _LinkDoors(on_order, desk.take_document, on_ack_time)
    return _link(prepared, journal, gateway.site.software_version, doors, clock)


@dataclass(frozen=True, slots=True)
class _LinkDoors:
    """Where the link to the cloud hands in what came."""

    on_order: Callable[[bytes], Awaitable[object]]
    on_document: Callable[[bytes], Awaitable[None]]
    on_ack_time: Callable[[UnixSeconds], None]
    overhear: Callable[[str, bytes], None] | None = None  # every message that comes, before it is judged


class _CloudMarks:
    """What the cloud says it has of each stream: the answer to a hello in RECOVERY, for whoever gives the permit."""

    def __init__(self, prepared: Prepared) -> None:
        self._ring, self._gateway_id = prepared.ring, prepared.config.gateway.id
        self.seqs: dict[str, int] = {}

    def take(self, topic: str, payload: bytes) -> None:
        """A message that came. Only a signed ack says anything."""
        if self._ring is None or topic != topic_of(self._gateway_id, "dn/ack"):
            return
        try:
            ack = verify_ack(payload, self._ring, self._gateway_id)
        except WireError:
            return  # the session counts it
        self.seqs |= {name: mark.seq for name, mark in ack.marks.items()}


class _Overheard:
    """A transport whose messages somebody listens to as well."""

    def __init__(self, transport: Transport, overhear: Callable[[str, bytes], None]) -> None:
        self._transport, self._overhear = transport, overhear
        self.publish, self.leave = transport.publish, transport.leave

    async def run(self, events: LinkEvents) -> None:
        self._events = events
        await self._transport.run(self)

    def connected(self) -> None:
        self._events.connected()

    def disconnected(self, reason: str) -> None:
        self._events.disconnected(reason)

    def message(self, topic: str, payload: bytes) -> None:
        self._overhear(topic, payload)
        self._events.message(topic, payload)


def _link(prepared: Prepared, journal: Journal, software: str, doors: _LinkDoors, clock: Clock) -> CloudLink | None:
    section = prepared.config.cloud
    if section is None or prepared.ring is None:
        return None
    gateway_id = prepared.config.gateway.id
    settings = SessionSettings() if section.timer_s_max is None else SessionSettings().capped(section.timer_s_max)
    session = SyncSession(
        gateway_id=gateway_id,
        boot_id=clock.read().boot_id,
        software=software,
        heads=journal.heads(),
        ring=prepared.ring,
        random_share=random.random,
        settings=settings,
    )
    roster = tuple(RosterEntry(*entry) for entry in _accounts_by_meter(prepared.book).items())

    def hello_facts() -> HelloFacts:
        reading = clock.read()
        return HelloFacts(reading.at, reading.quality.value, roster)

    async def on_order(envelope: bytes) -> None:
        await doors.on_order(envelope)

    transport: Transport = _transport(section, session, gateway_id)
    return CloudLink(
        session=session,
        transport=transport if doors.overhear is None else _Overheard(transport, doors.overhear),
        journal=journal,
        hello_facts=hello_facts,
        on_order=on_order,
        on_document=doors.on_document,
        on_ack_time=doors.on_ack_time,
    )


def _transport(section: CloudSection, session: SyncSession, gateway_id: str) -> MqttTransport:
    brokers = [parse_broker(broker) for broker in section.brokers]
    tls = None
    if section.tls_ca is not None and section.tls_certificate is not None and section.tls_key is not None:
        tls = gateway_tls_context(section.tls_ca, section.tls_certificate, section.tls_key)
    settings = TransportSettings(
        client_id=gateway_id,
        brokers=tuple(BrokerAddress(host, port) for host, port, _ in brokers),
        topics=session.topics(),
        will=session.will(),
        tls=tls,
    )
    capped = settings if section.timer_s_max is None else settings.capped(section.timer_s_max)
    return MqttTransport(capped, random.random, partial(load_broker_client, has_tls=tls is not None))


async def _serve_console(
    prepared: Prepared,
    snapshots: SnapshotSource,
    reader: JournalReader,
    door: CommandDoor,
    on_ready: Callable[[str | None], None] | None,
) -> None:
    with for_console():  # heavy, so only when there is a console
        from edge.console.app import create_app
        from edge.console.server import serve
        from edge.console.settings import ConsoleSettings

    config = prepared.config
    assert config.console is not None
    host = config.console.host
    accounts = prepared.book.accounts
    settings = ConsoleSettings(
        allowed_hosts=config.console.allowed_hosts,
        token_accounts=frozenset(entry.account_id for entry in accounts if entry.meter_id in prepared.decoders),
    )
    app = create_app(snapshots, reader, door, settings)

    listening: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def announce() -> None:
        port = await listening
        await snapshots.wait_newer(-1)  # before there is one, every page says that the gateway starts
        if on_ready is not None:
            on_ready(f"http://{host}:{port}/")

    announcing = asyncio.create_task(announce())
    try:
        await serve(app, host, config.console.port, listening.set_result)
    finally:
        announcing.cancel()


# --- facts and checks ------------------------------------------------------------------------


def _read_models(config: Config, book: SiteBook) -> dict[str, MeterModel]:
    """Every model the site book names, or where one is named that there is not."""
    used = {meter.model: f"meter {meter.meter_id}" for meter in book.meters}
    used |= {relay.model: f"relay {relay.relay_id}" for relay in book.relays}
    folder = config.path(config.meters.models) if config.meters is not None else None
    path = config.path(config.gateway.site_book)
    try:
        known = known_models(folder)
        for name, where in used.items():
            if name not in known:
                raise ConfigError(f"{path}: {where}: model: found {name!r}, allowed: {', '.join(known)}")
        return {name: load_model(name, folder) for name in used}
    except ModelError as error:
        raise ConfigError(f"{config.file}: meters.models: {error}") from error


def _read_decoders(config: Config, book: SiteBook) -> dict[str, DecoderFacts]:
    """The decoders of typed tokens with their keys. A site without one loads no scheme and reads no keys."""
    entries = {meter.meter_id: meter.decoder for meter in book.meters if meter.decoder is not None}
    if not entries:
        return {}
    from edge.tokens.key_file import KeyFileError, read_key_file

    keyed = [meter_id for meter_id, entry in entries.items() if entry.scheme != "relay"]
    keys: dict[str, str] = {}
    if config.tokens is not None:
        try:
            keys = read_key_file(config.path(config.tokens.keys), keyed)
        except KeyFileError as error:
            raise ConfigError(str(error)) from error
    elif keyed:
        raise ConfigError(f"{config.file}: tokens.keys: is missing; meter {keyed[0]} has a decoder that needs a key")
    return {meter_id: _decoder_facts(entry, keys.get(meter_id, "")) for meter_id, entry in entries.items()}


def _decoder_facts(entry: DecoderEntry, key: str) -> DecoderFacts:
    from edge.tokens.openpaygo_scheme import SECONDS_PER_STEP, PaygoDevice
    from edge.tokens.reader import PaygoReader, RelayReader, StsReader
    from edge.tokens.sts import tid_from_time

    if entry.scheme == "relay":
        return DecoderFacts(RelayReader())
    if entry.scheme == "openpaygo":
        seconds_per_step = entry.seconds_per_step or SECONDS_PER_STEP
        return DecoderFacts(PaygoReader(PaygoDevice(key, entry.starting_code, seconds_per_step)), count=entry.count)
    assert entry.base_year is not None
    assert entry.commissioned_at is not None
    commissioned_at = UnixSeconds(int(entry.commissioned_at.timestamp()))
    return DecoderFacts(
        reader=StsReader(int(key, 16)),
        base_year=entry.base_year,
        key_expiry=KEY_EXPIRY_MAX if entry.key_expiry is None else entry.key_expiry,
        tid=tid_from_time(commissioned_at, entry.base_year),
    )


def _read_documents(config: Config) -> dict[str, str]:
    documents: dict[str, str] = {}
    for name in config.gateway.tariffs:
        path = config.path(name)
        try:
            documents.update(load_documents([path.read_text("utf-8")]))
        except (TariffRefused, ValueError) as error:
            raise ConfigError(f"{path}: {error}") from error
    return documents


def _check_references(prepared: Prepared) -> None:
    """What only shows when all files are known: lines that exist, models that can, tariffs that are there."""
    path = prepared.config.path(prepared.config.gateway.site_book)
    lines = {section.id: section for section in prepared.config.lines}
    for entry in prepared.book.meters:
        if entry.line_id not in lines:
            raise ConfigError(f"{path}: meter {entry.meter_id}: line {entry.line_id!r} is none of {sorted(lines)}")
        _check_place(f"{path}: meter {entry.meter_id}", entry, prepared.models[entry.model], lines[entry.line_id])
        if prepared.models[entry.model].money_point is None:
            raise ConfigError(f"{path}: meter {entry.meter_id}: model {entry.model!r} has no import register")
    for relay in prepared.book.relays:
        if relay.line_id not in lines:
            raise ConfigError(f"{path}: relay {relay.relay_id}: line {relay.line_id!r} is none of {sorted(lines)}")
        _check_place(f"{path}: relay {relay.relay_id}", relay, prepared.models[relay.model], lines[relay.line_id])
        spec = prepared.models[relay.model].relay
        if spec is None:
            raise ConfigError(f"{path}: relay {relay.relay_id}: model {relay.model!r} has no relay")
        if relay.channel >= spec.channels:
            allowed = f"model {relay.model!r} has channels 0 to {spec.channels - 1}"
            raise ConfigError(f"{path}: relay {relay.relay_id}: channel: found {relay.channel}; {allowed}")
    _check_tariffs(prepared)
    terms = {key: read_tariff(text).terms for key, text in prepared.documents.items()}
    for account in prepared.book.accounts:
        if account.tariff not in prepared.documents:
            known = ", ".join(sorted(prepared.documents)) or "none"
            raise ConfigError(f"{path}: account {account.account_id}: tariff {account.tariff!r} is none of {known}")
        _check_demand(prepared, account, terms[account.tariff])


def _check_place(where: str, entry: MeterEntry | RelayEntry, model: MeterModel, section: LineSection) -> None:
    """A device speaks the protocol of its line and has an address of it."""
    if model.protocol != section.protocol:
        allowed = f"a model of protocol {section.protocol}, which line {section.id} speaks"
        raise ConfigError(f"{where}: model: found {entry.model!r} of protocol {model.protocol}, allowed: {allowed}")
    highest = line_settings(section).device_id_max
    if entry.device_id > highest:
        raise ConfigError(f"{where}: device_id: found {entry.device_id}, allowed: 1..{highest} on line {section.id}")


def _read_authorities(prepared: Prepared) -> "dict[str, Authority]":
    """Who commands the relays of meters that want a password. A site without such meters reads no file."""
    found: dict[str, Authority] = {}
    for section in prepared.config.lines:
        relays = [relay for relay in prepared.book.relays if relay.line_id == section.id]
        if section.protocol != DLT645 or not relays:
            continue
        if section.supply_keys is None:
            where = f"{prepared.config.file}: line {section.id}: supply_keys"
            raise ConfigError(f"{where}: is missing; relay {relays[0].relay_id} is commanded with a password")
        from edge.dlt645.authority import AuthorityFileError, read_authority_file

        addresses = {relay.relay_id: f"{relay.device_id:012d}" for relay in relays}
        try:
            keys = read_authority_file(prepared.config.path(section.supply_keys), addresses.values())
        except AuthorityFileError as error:
            raise ConfigError(str(error)) from error
        found |= {relay_id: keys[address] for relay_id, address in addresses.items()}
    return found


def _check_demand(prepared: Prepared, account: AccountEntry, terms: Terms) -> None:
    """A tariff that goes by power has what it goes by: a figure of the account, or records close enough."""
    lacking = not_contracted(terms, Contracted(account.contract_w, account.capacity_va))
    if lacking is not None:
        path = prepared.config.path(prepared.config.gateway.site_book)
        raise ConfigError(f"{path}: account {account.account_id}: {lacking}: is missing; {account.tariff} goes by it")
    slot_minutes, window_min = prepared.config.accounting.slot_minutes, demand_window_s(terms) // 60
    if window_min and slot_minutes > window_min:
        where = f"{prepared.config.file}: accounting.slot_minutes"
        raise ConfigError(f"{where}: found {slot_minutes}, {account.tariff} measures power over {window_min} minutes")


def _check_tariffs(prepared: Prepared) -> None:
    """A tariff has the site's zone and money, or it cannot price anything here."""
    site = prepared.book.site
    for key, text in prepared.documents.items():
        tariff = read_tariff(text)
        missing = not_charged_on_site(tariff)
        if missing is not None:
            raise ConfigError(f"{prepared.config.file}: tariff {key} {missing}")
        for name, found, allowed in (
            ("time_zone", tariff.time_zone, site.time_zone),
            ("currency", tariff.currency, site.currency),
            ("minor_digits", tariff.minor_digits, site.minor_digits),
        ):
            if found != allowed:
                raise ConfigError(
                    f"{prepared.config.file}: tariff {key}: {name}: found {found!r}, the site has {allowed!r}"
                )


def _pricing(site: SiteFacts) -> Pricing:
    return Pricing(site.time_zone, site.minor_digits, partial(array_rate, TariffKernel), zone_offsets)


def _site_facts(prepared: Prepared) -> SiteFacts:
    config, book = prepared.config, prepared.book
    meters = {entry.meter_id: entry for entry in book.meters}
    return SiteFacts(
        gateway_id=config.gateway.id,
        software_version=VERSION,
        time_zone=book.site.time_zone,
        currency=book.site.currency,
        minor_digits=book.site.minor_digits,
        accounts=tuple(
            AccountFacts(
                account_id=entry.account_id,
                meter_id=entry.meter_id,
                line_id=meters[entry.meter_id].line_id,
                device_id=meters[entry.meter_id].device_id,
                model_id=meters[entry.meter_id].model,
                position=meters[entry.meter_id].position,
                tariff=entry.tariff,
                opening_nano=entry.opening_nano,
                protected=entry.protected,
                policy=entry.policy,
                contracted=Contracted(entry.contract_w, entry.capacity_va),
                other_meters=tuple(_meter_place(meters[meter_id]) for meter_id in entry.other_meter_ids),
                relay_kind=_relay_kind(prepared, meters[entry.meter_id]),
            )
            for entry in book.accounts
        ),
        local_display=config.accounting.local_display,
        round_interval_s=config.accounting.round_interval_ms / 1000,
        slot_s=config.accounting.slot_minutes * 60,
    )


def _meter_place(meter: MeterEntry) -> MeterPlace:
    return MeterPlace(meter.meter_id, meter.line_id, meter.device_id, meter.position)


def _meter_facts(prepared: Prepared) -> dict[str, MeterFacts]:
    meters = {entry.meter_id: entry for entry in prepared.book.meters}
    return {
        meter_id: MeterFacts(
            account_id=entry.account_id,
            meter_id=meter_id,
            power_w_max=meters[meter_id].power_w_max,
            step_wh=WattHours(REGISTER_STEP_WH_MAX * meters[meter_id].ct_ratio),
            modulus_wh=None,
        )
        for entry in prepared.book.accounts
        for meter_id in entry.meter_ids
    }
