"""The site book with a meter that was just commissioned: rows are added, none is ever changed in silence.

The book is checked whole, as the agent reads it, before it takes the place of the old one.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import msgspec

from edge.commission.steps import NotCommissioned
from edge.store.site_book import (
    AccountEntry,
    AreaEntry,
    MeterEntry,
    RelayEntry,
    Site,
    SiteBook,
    read_site_book,
    write_site_book,
)

Row = TypeVar("Row", MeterEntry, RelayEntry, AccountEntry)


@dataclass(frozen=True, slots=True)
class NewEntries:
    """What a commissioned meter adds. `ct_ratio` is that of an area which it feeds; any other meter has its own."""

    meter: MeterEntry
    relay: RelayEntry | None = None
    account: AccountEntry | None = None
    area_id: str | None = None
    feeds_area: bool = False
    area_meter_ids: tuple[str, ...] = ()  # of a new area: its customers; none named: those of all accounts
    ct_ratio: int = 1
    site: Site | None = None  # for a book that is not there yet


def with_entries(book: SiteBook, new: NewEntries) -> SiteBook:
    """The book with the rows. Raises NotCommissioned where a row of that id says something else."""
    relays = book.relays if new.relay is None else _added(book.relays, new.relay, "relay_id")
    accounts = book.accounts if new.account is None else _added(book.accounts, new.account, "account_id")
    areas = book.areas if new.area_id is None else _with_area(book.areas, new)
    return SiteBook(book.site, _added(book.meters, new.meter, "meter_id"), relays, accounts, areas)


def planned_book(path: Path, new: NewEntries) -> SiteBook:
    """The book as it would be, checked; nothing is written at its place. Raises NotCommissioned, SiteBookError."""
    if path.exists():
        book = read_site_book(path, None)
    elif new.site is not None:
        book = SiteBook(new.site, (), (), ())
    else:
        raise NotCommissioned("no_site_book", file=path)
    return checked_book(path, with_entries(book, new))


def with_known_serial(path: Path, new: NewEntries) -> NewEntries:
    """The entries with the serial number that the book has of this meter, before the meter is asked for it."""
    if new.meter.serial or not path.exists():
        return new
    known = [row.serial for row in read_site_book(path, None).meters if row.meter_id == new.meter.meter_id]
    return replace(new, meter=msgspec.structs.replace(new.meter, serial=known[0])) if known else new


def store_book(path: Path, book: SiteBook) -> None:
    """Writes it, old or new whatever happens."""
    write_site_book(path, book)


def checked_book(path: Path, book: SiteBook) -> SiteBook:
    """Read back as the agent would read it, from a file beside it."""
    trial = path.with_name(path.name + ".trial")
    try:
        write_site_book(trial, book)
        return read_site_book(trial, None)
    finally:
        trial.unlink(missing_ok=True)


def _added(rows: tuple[Row, ...], row: Row, key: str) -> tuple[Row, ...]:
    same_id = [known for known in rows if getattr(known, key) == getattr(row, key)]
    if not same_id:
        return rows + (row,)  # noqa: RUF005 - a tuple that is unpacked loses its type
    if same_id[0] != row:
        raise NotCommissioned("other_row", id=getattr(row, key), difference=_difference(same_id[0], row))
    return rows


def _difference(known: Row, row: Row) -> str:
    """Name, what stands there, what was wanted, of the first field that differs."""
    for field in msgspec.structs.fields(known):
        there, wanted = getattr(known, field.name), getattr(row, field.name)
        if there != wanted:
            return f"{field.name} {there!r} -> {wanted!r}"
    raise AssertionError("equal rows")


def _with_area(areas: tuple[AreaEntry, ...], new: NewEntries) -> tuple[AreaEntry, ...]:
    meter_id = new.meter.meter_id
    for index, area in enumerate(areas):
        if area.area_id != new.area_id:
            continue
        if new.feeds_area and meter_id not in area.supply_meter_ids:
            raise NotCommissioned("area_has_supply", id=area.area_id)
        if new.feeds_area and area.ct_ratio != new.ct_ratio:
            raise NotCommissioned(
                "other_row", id=area.area_id, difference=f"ct_ratio {area.ct_ratio} -> {new.ct_ratio}"
            )
        if new.feeds_area or not area.meter_ids or meter_id in area.meter_ids:
            return areas  # an area that names no meters has those of all accounts
        larger = msgspec.structs.replace(area, meter_ids=(*area.meter_ids, meter_id))
        return (*areas[:index], larger, *areas[index + 1 :])
    if not new.feeds_area:
        raise NotCommissioned("no_such_area", id=new.area_id)
    assert new.area_id is not None
    return (*areas, AreaEntry(new.area_id, (meter_id,), meter_ids=new.area_meter_ids, ct_ratio=new.ct_ratio))
