"""The site book: what an installer writes and may read with an editor. TinyDB, never for money.

Tables: `lines` are in the configuration; here stand `meters`, `relays`, `accounts` and `site`.
It is read whole at start and on reload, never queried per round, because TinyDB reads the file
at each query. Writes go to a new file, which is synced and renamed over the old one.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from tinydb import TinyDB
from tinydb.storages import Storage

from edge.core.policy import Policy
from edge.core.units import MoneyNano


class SiteBookError(ValueError):
    """The site book cannot be used: file, table, row and what is allowed."""


class AtomicStorage(Storage):
    """TinyDB's file, written whole to a new file and renamed, so that a power cut leaves old or new."""

    def __init__(self, path: Path) -> None:
        self._path = Path(path)

    def read(self) -> dict[str, dict[str, Any]] | None:
        try:
            content: dict[str, dict[str, Any]] = json.loads(self._path.read_text("utf-8"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise SiteBookError(f"{self._path}: is not JSON: {error}") from error
        return content

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


class Site(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The place: time zone and money."""

    time_zone: str
    currency: str
    minor_digits: int = 2


class MeterEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A meter on a line. `relay_id` names the relay that switches its supply, None if nothing does."""

    meter_id: str
    line_id: str
    device_id: int
    model: str
    position: str = ""
    serial: str = ""
    power_w_max: int = 20_000
    relay_id: str | None = None


class RelayEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A relay on a line: channel of a board, or a meter's own (channel 0)."""

    relay_id: str
    line_id: str
    device_id: int
    model: str
    channel: int = 0


class AccountEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A customer's account as commissioned. Personal data stays out: an id and no name."""

    account_id: str
    meter_id: str
    tariff: str  # id@version
    opening_nano: MoneyNano = MoneyNano(0)
    protected: bool = False
    policy: Policy = Policy()


class SiteBook(msgspec.Struct, frozen=True):
    """All of it, checked."""

    site: Site
    meters: tuple[MeterEntry, ...]
    relays: tuple[RelayEntry, ...]
    accounts: tuple[AccountEntry, ...]


_TABLES: dict[str, Any] = {"site": Site, "meters": MeterEntry, "relays": RelayEntry, "accounts": AccountEntry}


def read_site_book(path: Path) -> SiteBook:
    """The whole site book. SiteBookError names file, table, row and what is allowed."""
    if not path.exists():
        raise SiteBookError(f"{path}: there is no site book")
    with TinyDB(path, storage=AtomicStorage) as book:
        unknown = sorted(book.tables() - set(_TABLES))
        if unknown:
            raise SiteBookError(f"{path}: table {unknown[0]!r} is unknown; allowed: {', '.join(_TABLES)}")
        rows = {name: _read_table(path, name, book.table(name).all()) for name in _TABLES}
    if len(rows["site"]) != 1:
        raise SiteBookError(f"{path}: table site has {len(rows['site'])} rows, it must have 1")
    found = SiteBook(rows["site"][0], tuple(rows["meters"]), tuple(rows["relays"]), tuple(rows["accounts"]))
    _check_references(path, found)
    return found


def write_site_book(path: Path, book: SiteBook) -> None:
    """Writes the whole book in one go."""
    rows = {"site": [book.site], "meters": book.meters, "relays": book.relays, "accounts": book.accounts}
    tables = {
        name: {str(number): msgspec.to_builtins(row) for number, row in enumerate(entries, 1)}
        for name, entries in rows.items()
    }
    AtomicStorage(path).write(tables)


def _read_table(path: Path, name: str, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    entries = []
    for number, row in enumerate(rows, 1):
        try:
            entries.append(msgspec.convert(dict(row), _TABLES[name]))
        except (msgspec.ValidationError, ValueError) as error:
            raise SiteBookError(f"{path}: table {name}, row {number}: {error}") from error
    return entries


def _check_references(path: Path, book: SiteBook) -> None:
    """Ids are unique, and every id that is named exists; one relay has one meter, one meter one account."""
    meters = _unique(path, "meters", [meter.meter_id for meter in book.meters])
    relays = _unique(path, "relays", [relay.relay_id for relay in book.relays])
    _unique(path, "accounts", [account.account_id for account in book.accounts])
    _unique(path, "accounts (meter_id)", [account.meter_id for account in book.accounts])
    _unique(path, "meters (relay_id)", [meter.relay_id for meter in book.meters if meter.relay_id])
    for meter in book.meters:
        if meter.relay_id is not None and meter.relay_id not in relays:
            raise SiteBookError(f"{path}: meter {meter.meter_id}: relay {meter.relay_id!r} is not in table relays")
    for account in book.accounts:
        if account.meter_id not in meters:
            where = f"{path}: account {account.account_id}"
            raise SiteBookError(f"{where}: meter {account.meter_id!r} is not in table meters")


def _unique(path: Path, table: str, ids: Sequence[str | None]) -> set[str | None]:
    seen: set[str | None] = set()
    for entry in ids:
        if entry in seen:
            raise SiteBookError(f"{path}: {table}: {entry!r} stands there twice")
        seen.add(entry)
    return seen
