"""The site book: what an installer writes and may read with an editor. TinyDB, never for money.

Tables: `lines` are in the configuration; here stand `meters`, `relays`, `accounts`, `site` and, for
transformer areas, `areas`.
It is read whole at start and on reload, never queried per round, because TinyDB reads the file
at each query. Writes go to a new file, which is synced and renamed over the old one.
"""

import json
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from msgspec import Meta
from tinydb import TinyDB
from tinydb.middlewares import CachingMiddleware
from tinydb.storages import Storage
from tinydb.table import Document

from edge.core.calendar import DailyWindows
from edge.core.policy import Policy
from edge.core.policy_ranges import MONEY_NANO_MAX, check_policy
from edge.core.token import KEY_EXPIRY_MAX
from edge.core.units import MoneyNano
from edge.core.watch import Thresholds, check_thresholds

_TWELVE_DIGITS = re.compile(r"[0-9]{12}")
_ROW_NUMBER = re.compile(r"[1-9][0-9]{0,8}")

LocalId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.:-]{1,64}(?!\n)$")]  # as they travel (CONTRACT.md)
LineId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,23}(?!\n)$")]  # as in the configuration
_MODBUS_ID_MAX = 247
# Of Modbus 1 to 247; of DL/T 645 the number of the twelve digits, which a row holds as a text.
DeviceId = Annotated[int, Meta(ge=1, le=999_999_999_998)]
Label = Annotated[str, Meta(max_length=100)]


class SiteBookError(ValueError):
    """The site book cannot be used: file, table, row and what is allowed."""


class AtomicStorage(Storage):
    """TinyDB's file, written whole to a new file and renamed, so that a power cut leaves old or new."""

    def __init__(self, path: Path) -> None:
        self._path = Path(path)

    def read(self) -> dict[str, dict[str, Any]] | None:
        try:
            content = json.loads(self._path.read_text("utf-8"), object_pairs_hook=_unique_keys)
        except FileNotFoundError:
            return None
        except (ValueError, RecursionError) as error:
            raise SiteBookError(f"{self._path}: is not JSON: {error}") from error
        return _checked_shape(self._path, content)

    def write(self, data: Mapping[str, Mapping[str, Any]]) -> None:
        new = self._path.with_name(self._path.name + ".new")
        with open(new, "w", encoding="utf-8") as file:
            json.dump(data, file, indent=1, ensure_ascii=False)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def close(self) -> None:
        """Nothing stays open between calls."""


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of the file. Of two rows with one number JSON would silently keep the last."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key!r} stands there twice")
        found[key] = value
    return found


def _checked_shape(path: Path, content: Any) -> dict[str, dict[str, Any]]:
    """Tables of rows by number, as TinyDB needs them."""
    if not isinstance(content, dict):
        raise SiteBookError(f"{path}: must be an object of tables: {', '.join(_TABLES)}")
    for name, rows in content.items():
        if not isinstance(rows, dict):
            raise SiteBookError(f"{path}: table {name}: must be an object of rows by number")
        for number, row in rows.items():
            if not _ROW_NUMBER.fullmatch(number):
                raise SiteBookError(f"{path}: table {name}: row {number!r}: its key must be a whole number")
            if not isinstance(row, dict):
                raise SiteBookError(f"{path}: table {name}, row {number}: must be an object")
    return content


class Site(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The place: time zone and money."""

    time_zone: str
    currency: Annotated[str, Meta(pattern=r"^[A-Z]{3}(?!\n)$")]  # ISO 4217
    minor_digits: Annotated[int, Meta(ge=0, le=4)] = 2


class DecoderEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How a meter's typed tokens are read. Its key is not here, but in the file that the configuration names.

    `sts` has base_year, commissioned_at (tokens issued before it are spent) and maybe key_expiry;
    `openpaygo` has count (the last one issued before) and maybe starting_code and seconds_per_step;
    `relay` is a meter that decodes its tokens itself.
    """

    scheme: Literal["sts", "openpaygo", "relay"]
    base_year: Literal[1993, 2014, 2035] | None = None
    key_expiry: Annotated[int, Meta(ge=0, le=KEY_EXPIRY_MAX)] | None = None
    commissioned_at: Annotated[datetime, Meta(tz=True)] | None = None  # 2026-03-02T08:00:00+08:00
    starting_code: Annotated[int, Meta(ge=1, le=999_999_999)] | None = None
    count: Annotated[int, Meta(ge=0, le=100_000)] | None = None
    seconds_per_step: Annotated[int, Meta(ge=1, le=31_536_000)] | None = None


class MeterEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A meter on a line. `relay_id` names the relay that switches its supply, None if nothing does.

    `ct_ratio` is that of its current transformers; `power_w_max` is what the breaker before them lets through. A meter
    that feeds an area has its ratio there.
    """

    meter_id: LocalId
    line_id: LineId
    device_id: DeviceId
    model: str
    position: Label = ""
    serial: Label = ""
    power_w_max: Annotated[int, Meta(ge=1, le=100_000_000)] = 20_000
    relay_id: LocalId | None = None
    decoder: DecoderEntry | None = None
    ct_ratio: Annotated[int, Meta(ge=1, le=10_000)] = 1

    @property
    def meter_power_w_max(self) -> int:
        """What the breaker lets through as the meter sees it, rounded up."""
        return -(-self.power_w_max // self.ct_ratio)


class RelayEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A relay on a line: channel of a board, or a meter's own (channel 0)."""

    relay_id: LocalId
    line_id: LineId
    device_id: DeviceId
    model: str
    channel: Annotated[int, Meta(ge=0, le=255)] = 0
    breaking_current_a: Annotated[int, Meta(ge=1, le=1000)] | None = None  # it is not opened above this


class AccountEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A customer's account as commissioned. Personal data stays out: an id and no name."""

    account_id: LocalId
    meter_id: LocalId
    tariff: str  # id@version
    opening_nano: Annotated[MoneyNano, Meta(ge=-MONEY_NANO_MAX, le=MONEY_NANO_MAX)] = MoneyNano(0)
    protected: bool = False
    policy: Policy = Policy()
    contract_w: Annotated[int, Meta(ge=0, le=10**9)] | None = None  # contracted demand, for a tariff that goes by it
    capacity_va: Annotated[int, Meta(ge=0, le=10**9)] | None = None  # of the transformers connected
    other_meter_ids: tuple[LocalId, ...] = ()  # a landlord's further meters: one payer, blocks on their sum

    @property
    def meter_ids(self) -> tuple[str, ...]:
        """All meters it pays for."""
        return (self.meter_id, *self.other_meter_ids)


class AreaEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A transformer area. Without `meter_ids` the meters of all accounts belong to it."""

    area_id: LocalId
    supply_meter_ids: Annotated[tuple[LocalId, ...], Meta(min_length=1)]
    generation_meter_ids: tuple[LocalId, ...] = ()
    meter_ids: tuple[LocalId, ...] = ()
    ct_ratio: Annotated[int, Meta(ge=1, le=10_000)] = 1  # of the supply meters
    thresholds: Thresholds = Thresholds()  # of the area
    meter_thresholds: Thresholds = Thresholds()  # of each customer's meter in it


class SiteBook(msgspec.Struct, frozen=True):
    """All of it, checked."""

    site: Site
    meters: tuple[MeterEntry, ...]
    relays: tuple[RelayEntry, ...]
    accounts: tuple[AccountEntry, ...]
    areas: tuple[AreaEntry, ...] = ()

    def meters_of_line(self, line_id: str) -> tuple[MeterEntry, ...]:
        """The meters of a line in the order in which a round reads them: area by area, so that those whose registers
        are subtracted are sampled next to each other; those of no area last, else as written."""
        places = {
            meter_id: place
            for place, area in enumerate(self.areas)
            for meter_id in (*area.supply_meter_ids, *area.generation_meter_ids, *self.sale_meter_ids(area))
        }
        here = (entry for entry in self.meters if entry.line_id == line_id)
        return tuple(sorted(here, key=lambda entry: places.get(entry.meter_id, len(self.areas))))

    def sale_meter_ids(self, area: AreaEntry) -> tuple[str, ...]:
        """The meters an area sells through: those it names, else those of all accounts."""
        around = (*area.supply_meter_ids, *area.generation_meter_ids)
        sold = (meter_id for entry in self.accounts for meter_id in entry.meter_ids)
        return area.meter_ids or tuple(meter_id for meter_id in sold if meter_id not in around)


_TABLES: dict[str, Any] = {
    "site": Site,
    "meters": MeterEntry,
    "relays": RelayEntry,
    "accounts": AccountEntry,
    "areas": AreaEntry,
}


def read_site_book(path: Path, other_relays: Collection[str] | None = ()) -> SiteBook:
    """The whole site book. SiteBookError names file, table, row and what is allowed.

    `other_relays` are those of the configuration (GPIO); None where that is not known.
    """
    if not path.exists():
        raise SiteBookError(f"{path}: there is no site book")
    read_once: Any = CachingMiddleware  # and not at each query; it comes without types
    with TinyDB(path, storage=read_once(AtomicStorage)) as book:
        unknown = sorted(book.tables() - set(_TABLES))
        if unknown:
            raise SiteBookError(f"{path}: table {unknown[0]!r} is unknown; allowed: {', '.join(_TABLES)}")
        rows = {name: _read_table(path, name, book.table(name)) for name in _TABLES}
    if len(rows["site"]) != 1:
        raise SiteBookError(f"{path}: table site has {len(rows['site'])} rows, it must have 1")
    found = SiteBook(rows["site"][0], *(tuple(rows[name]) for name in ("meters", "relays", "accounts", "areas")))
    _check_time_zone(path, found.site)
    _check_references(path, found, other_relays)
    _check_addresses(path, found)
    _check_areas(path, found)
    return found


def write_site_book(path: Path, book: SiteBook) -> None:
    """Writes the whole book in one go."""
    rows: dict[str, Sequence[Any]] = {"site": [book.site], "meters": book.meters, "relays": book.relays}
    rows |= {"accounts": book.accounts, **({"areas": book.areas} if book.areas else {})}
    tables = {
        name: {str(number): _with_text(msgspec.to_builtins(row)) for number, row in enumerate(entries, 1)}
        for name, entries in rows.items()
    }
    AtomicStorage(path).write(tables)


def _read_table(path: Path, name: str, rows: Iterable[Document]) -> list[Any]:
    entries = []
    for row in rows:
        try:
            _check_fields(_TABLES[name], row)
            entry = msgspec.convert(_with_number(row), _TABLES[name])
            if isinstance(entry, AccountEntry):
                check_policy(entry.policy)
            if isinstance(entry, MeterEntry) and entry.decoder is not None:
                _check_decoder(entry.decoder)
            if isinstance(entry, AreaEntry):
                check_thresholds(entry.thresholds)
                check_thresholds(entry.meter_thresholds)
        except ValueError as error:
            raise SiteBookError(f"{path}: table {name}, row {row.doc_id}: {error}") from error
        entries.append(entry)
    return entries


def _with_number(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row whose address of twelve digits is their number."""
    device_id = row.get("device_id")
    if isinstance(device_id, str) and _TWELVE_DIGITS.fullmatch(device_id):
        return {**row, "device_id": int(device_id)}
    if isinstance(device_id, int) and device_id > _MODBUS_ID_MAX:
        raise ValueError(f"Expected `int` <= {_MODBUS_ID_MAX}, or a text of 12 digits (DL/T 645) - at `$.device_id`")
    return dict(row)


def _with_text(row: dict[str, Any]) -> dict[str, Any]:
    """The same the other way round."""
    device_id = row.get("device_id", 0)
    return row if device_id <= _MODBUS_ID_MAX else {**row, "device_id": f"{device_id:012d}"}


def _check_fields(kind: Any, row: Mapping[str, Any]) -> None:
    """A field nobody knows is a mistake: a policy with a misspelt limit would silently have the default."""
    known = _known_fields(kind)
    unknown = sorted(set(row) - set(known))
    if unknown:
        raise ValueError(f"field {unknown[0]!r} is unknown; allowed: {', '.join(known)}")
    for name, value in row.items():
        nested = known[name]
        if nested is not None and isinstance(value, Mapping):
            _check_fields(nested, value)


@cache
def _known_fields(kind: Any) -> Mapping[str, Any]:
    """The fields of a kind of row, each with the kind of object it holds, None for other values. Looked up once: a
    book has hundreds of rows of the same few kinds."""
    return {
        name: next(filter(_has_fields, (found, *get_args(found))), None) for name, found in _field_types(kind).items()
    }


def _has_fields(kind: Any) -> bool:
    return is_dataclass(kind) or (isinstance(kind, type) and issubclass(kind, msgspec.Struct))


def _field_types(kind: Any) -> dict[str, Any]:
    if is_dataclass(kind):
        return {field.name: DailyWindows if field.name.endswith("_windows") else field.type for field in fields(kind)}
    return {field.name: field.type for field in msgspec.structs.fields(kind)}


# Fields of a scheme: those it needs, and those it may have.
_DECODER_FIELDS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "sts": (("base_year", "commissioned_at"), ("key_expiry",)),
    "openpaygo": (("count",), ("starting_code", "seconds_per_step")),
    "relay": ((), ()),
}
_TID_MINUTES_MAX = (1 << 24) - 1


def _check_decoder(decoder: DecoderEntry) -> None:
    """A field of the other scheme is a mistake, and an STS clock reaches about 32 years from its base year on."""
    needed, optional = _DECODER_FIELDS[decoder.scheme]
    for field in msgspec.structs.fields(DecoderEntry):
        given = getattr(decoder, field.name) is not None
        if field.name in needed and not given:
            raise ValueError(f"decoder.{field.name}: is missing; scheme {decoder.scheme} needs it")
        if given and field.name not in ("scheme", *needed, *optional):
            allowed = ", ".join((*needed, *optional)) or "no other field"
            raise ValueError(f"decoder.{field.name}: does not belong to scheme {decoder.scheme}, which has {allowed}")
    if decoder.base_year is not None and decoder.commissioned_at is not None:
        minutes = (decoder.commissioned_at - datetime(decoder.base_year, 1, 1, tzinfo=UTC)).total_seconds() // 60
        if not 0 <= minutes <= _TID_MINUTES_MAX:
            found = decoder.commissioned_at.isoformat()
            raise ValueError(f"decoder.commissioned_at: {found} is out of reach of the base year {decoder.base_year}")


def _check_time_zone(path: Path, site: Site) -> None:
    try:
        ZoneInfo(site.time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise SiteBookError(
            f"{path}: table site: time_zone {site.time_zone!r} is no IANA zone like Asia/Shanghai"
        ) from error


def _check_references(path: Path, book: SiteBook, other_relays: Collection[str] | None) -> None:
    """Ids are unique, and every id that is named exists; one relay has one meter, one meter one account."""
    meters = _unique(path, "meters", [meter.meter_id for meter in book.meters])
    relays = _unique(path, "relays", [relay.relay_id for relay in book.relays])
    _unique(path, "accounts", [account.account_id for account in book.accounts])
    _unique(path, "accounts (meter_id)", [meter_id for account in book.accounts for meter_id in account.meter_ids])
    _unique(path, "meters (relay_id)", [meter.relay_id for meter in book.meters if meter.relay_id])
    for relay_id in (row.relay_id for row in book.relays if row.relay_id in (other_relays or ())):
        both = "in table relays and in gpio_relays of the configuration"
        raise SiteBookError(f"{path}: relay {relay_id} is {both}; a relay has one owner")
    known = None if other_relays is None else relays.union(other_relays)
    for meter in book.meters:
        if known is not None and meter.relay_id is not None and meter.relay_id not in known:
            neither = "not in table relays, nor in gpio_relays of the configuration"
            raise SiteBookError(f"{path}: meter {meter.meter_id}: relay {meter.relay_id!r} is {neither}")
    for account in book.accounts:
        if account.meter_id not in meters:
            where = f"{path}: account {account.account_id}"
            raise SiteBookError(f"{where}: meter {account.meter_id!r} is not in table meters")
        _check_other_meters(path, book, account)


def _check_other_meters(path: Path, book: SiteBook, account: AccountEntry) -> None:
    """A landlord's further meters only count: what switches his supply and takes his tokens is at the first one."""
    where = f"{path}: account {account.account_id}: other_meter_ids"
    meters = {meter.meter_id: meter for meter in book.meters} if account.other_meter_ids else {}
    for meter_id in account.other_meter_ids:
        if meter_id not in meters:
            raise SiteBookError(f"{where}: meter {meter_id!r} is not in table meters")
        for name in ("relay_id", "decoder"):
            if getattr(meters[meter_id], name) is not None:
                one = f"an account has one, that of its meter_id {account.meter_id}"
                raise SiteBookError(f"{where}: meter {meter_id}: {name}: is not allowed; {one}")


def _check_addresses(path: Path, book: SiteBook) -> None:
    """One meter at each address, one relay at each channel: else two accounts would share a register or a switch."""
    meter_at: dict[tuple[str, int], MeterEntry] = {}
    for meter in book.meters:
        other = meter_at.setdefault((meter.line_id, meter.device_id), meter)
        if other is not meter:
            where = f"line {meter.line_id}, device id {meter.device_id}"
            raise SiteBookError(f"{path}: meters {other.meter_id} and {meter.meter_id} are both at {where}")
    relay_at: dict[tuple[str, int, int], RelayEntry] = {}
    model_at = {address: meter.model for address, meter in meter_at.items()}
    for relay in book.relays:
        address = (relay.line_id, relay.device_id)
        where = f"line {relay.line_id}, device id {relay.device_id}"
        other_relay = relay_at.setdefault((*address, relay.channel), relay)
        if other_relay is not relay:
            both = f"{other_relay.relay_id} and {relay.relay_id}"
            raise SiteBookError(f"{path}: relays {both} are both at {where}, channel {relay.channel}")
        if model_at.setdefault(address, relay.model) != relay.model:
            raise SiteBookError(
                f"{path}: relay {relay.relay_id}: {where} is a {model_at[address]!r} elsewhere, here a {relay.model!r}"
            )


def _check_areas(path: Path, book: SiteBook) -> None:
    """Every meter of an area is known, and no meter stands in two places: its energy would count twice."""
    _unique(path, "areas", [area.area_id for area in book.areas])
    known = {meter.meter_id: meter for meter in book.meters}
    place_of: dict[str, str] = {}
    for area in book.areas:
        where = f"{path}: area {area.area_id}"
        sales = book.sale_meter_ids(area)
        if not sales:
            raise SiteBookError(f"{where}: has no customer's meter: name them in meter_ids, or open accounts")
        for meter_id in (*area.supply_meter_ids, *area.generation_meter_ids, *sales):
            if meter_id not in known:
                raise SiteBookError(f"{where}: meter {meter_id!r} is not in table meters")
            if meter_id in area.supply_meter_ids and known[meter_id].ct_ratio != 1:
                ratio = f"{known[meter_id].ct_ratio}, and the area's {area.ct_ratio}"
                raise SiteBookError(f"{where}: meter {meter_id} feeds it and has a ct_ratio of its own: {ratio}")
            if meter_id in place_of:
                raise SiteBookError(f"{where}: meter {meter_id!r} already counts in area {place_of[meter_id]}")
            place_of[meter_id] = area.area_id


def _unique(path: Path, table: str, ids: Sequence[str | None]) -> set[str | None]:
    seen: set[str | None] = set()
    for entry in ids:
        if entry in seen:
            raise SiteBookError(f"{path}: {table}: {entry!r} stands there twice")
        seen.add(entry)
    return seen
