"""A meter in a running site is exchanged: what that changes in the site book, and what may not be taken for it.

The new meter takes the old one's place: its line, its position, its area, its account, and the relay that switches it.
Registers in Wh, as the journal has them, or in the unit of the meter's register as exact decimals.
"""

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Final

import msgspec

from edge.bus.frame import Framing
from edge.bus.scan import answer_s_of, careful
from edge.bus.scan_records import Link, Talk
from edge.commission.steps import NotCommissioned, RelayPlace, Seen, read_relay
from edge.core.units import WattHours
from edge.meters.model import MeterModel
from edge.meters.point import WATT_HOURS_PER_UNIT
from edge.store.site_book import AccountEntry, MeterEntry, RelayEntry, SiteBook

_WITHIN_WH: Final = 1_000  # an old meter that was never taken down has counted less than this meanwhile


@dataclass(frozen=True, slots=True)
class Place:
    """Where a meter is exchanged: the rows of the site book as they stand."""

    account: AccountEntry
    meter: MeterEntry
    relay: RelayEntry | None

    @property
    def own_relay(self) -> bool:
        """Whether the old meter switches the supply itself."""
        relay = self.relay
        return relay is not None and (relay.line_id, relay.device_id) == (self.meter.line_id, self.meter.device_id)


def place_of(book: SiteBook, account_id: str) -> Place:
    """The place of an account with one meter. Raises NotCommissioned."""
    account = next((row for row in book.accounts if row.account_id == account_id), None)
    if account is None:
        known = ", ".join(row.account_id for row in book.accounts) or "-"
        raise NotCommissioned("no_such_account", id=account_id, known=known)
    if account.other_meter_ids:
        raise NotCommissioned("several_meters", id=account_id, meters=", ".join(account.meter_ids))
    meter = next(row for row in book.meters if row.meter_id == account.meter_id)
    relay = next((row for row in book.relays if row.relay_id == meter.relay_id), None)
    return Place(account, meter, relay)


def new_meter(place: Place, meter_id: str, device_id: int, model: MeterModel, serial: str, ct_ratio: int) -> MeterEntry:
    """The row of the new meter. Its token decoder is its own: nothing of the old one's is carried over."""
    if meter_id == place.meter.meter_id:
        raise NotCommissioned("same_meter_id", id=meter_id)
    return msgspec.structs.replace(
        place.meter,
        meter_id=meter_id,
        device_id=device_id,
        model=model.id,
        serial=serial,
        decoder=None,
        ct_ratio=ct_ratio,
    )


def new_relay(place: Place, meter: MeterEntry, model: MeterModel) -> RelayEntry | None:
    """What switches the supply afterwards: the same board, or the new meter where the old one did it."""
    if place.relay is None or not place.own_relay:
        return place.relay
    if model.relay is None:
        raise NotCommissioned("no_own_relay", model=model.id)
    return msgspec.structs.replace(place.relay, device_id=meter.device_id, model=model.id)


def exchanged_book(book: SiteBook, account_id: str, meter: MeterEntry, relay: RelayEntry | None) -> SiteBook:
    """The book with the new meter in the old one's place; the same book if it is there already."""
    place = place_of(book, account_id)
    if place.meter.meter_id == meter.meter_id:
        return book
    if any(row.meter_id == meter.meter_id for row in book.meters):
        raise NotCommissioned("meter_id_taken", id=meter.meter_id)
    before = place.meter.meter_id

    def renamed(ids: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(meter.meter_id if one == before else one for one in ids)

    replace = msgspec.structs.replace
    return SiteBook(
        book.site,
        tuple(meter if row.meter_id == before else row for row in book.meters),
        tuple(relay if relay is not None and row.relay_id == relay.relay_id else row for row in book.relays),
        tuple(replace(row, meter_id=meter.meter_id) if row is place.account else row for row in book.accounts),
        tuple(replace(row, meter_ids=renamed(row.meter_ids)) if row.meter_ids else row for row in book.areas),
    )


# --- registers ---------------------------------------------------------------------------------


def wh_of(register: Decimal, unit: str, ct_ratio: int = 1) -> WattHours:
    """A register in Wh, the floor of its exact value, times the ratio, as the agent charges it."""
    if register < 0:
        raise NotCommissioned("negative", value=f"{register:f}")
    exact = Fraction(register) * WATT_HOURS_PER_UNIT[unit]
    return WattHours(exact.numerator // exact.denominator * ct_ratio)


def last_of_display(typed: Decimal, unit: str, ct_ratio: int, recorded_wh: int) -> WattHours:
    """The last register that a person read off a display, which cuts off what the journal may know already."""
    exponent = typed.as_tuple().exponent
    assert isinstance(exponent, int)
    typed_wh, step_wh = (wh_of(one, unit, ct_ratio) for one in (typed, Decimal(1).scaleb(min(exponent, 0))))
    return WattHours(recorded_wh) if typed_wh < recorded_wh < typed_wh + step_wh else typed_wh


def check_other_meter(old: Seen | None, place: Place, new: Seen, meter: MeterEntry, unit: str) -> None:
    """Raises NotCommissioned where what answers is the old meter still, or may well be.

    With other current transformers it may be: then they are what was changed.
    """
    if meter.ct_ratio != place.meter.ct_ratio:
        return
    serial_before = place.meter.serial if old is None else old.identity.get("serial", place.meter.serial)
    serial = new.identity.get("serial", meter.serial)
    if serial and serial_before:
        if serial == serial_before:
            raise NotCommissioned("same_serial", serial=serial)
        return
    same_address = (meter.device_id, meter.model) == (place.meter.device_id, place.meter.model)
    if old is not None and same_address and not serial:
        counted_wh = wh_of(new.register, unit) - wh_of(old.register, unit)
        if 0 <= counted_wh <= _WITHIN_WH:
            raise NotCommissioned("looks_the_same", register=f"{new.register:f}", unit=unit)


# --- the relay ---------------------------------------------------------------------------------


def relay_state(framing: Framing, link: Link, relay: RelayPlace, answer_s: float | None) -> Talk[bool | None]:
    """Whether a relay is closed, as read back; None where it cannot be read."""
    yield careful(link, answer_s or answer_s_of((relay.model,)))
    return (yield from read_relay(framing, relay))
