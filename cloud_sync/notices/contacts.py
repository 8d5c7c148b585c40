"""Whom to tell: the addresses of an account, which of them first, and whether they are known to be the customer's.

Without a verified address nothing counts as handed over. Times Unix seconds.
"""

import re
from dataclasses import dataclass
from typing import Final

from cloud_sync.backend.database import Database, transaction
from cloud_sync.notices.settings import CHANNELS, LANGUAGES, check_url

# E.164; and an address that a mail header can hold.
_PHONE: Final = re.compile(r"\+[1-9]\d{6,14}")
_EMAIL: Final = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")
_ADDRESS_CHARACTERS_MAX: Final = 254


@dataclass(frozen=True, slots=True)
class Contact:
    """One address of an account. The lowest preference is tried first."""

    gateway_id: str
    account_id: str
    channel: str
    address: str
    language: str
    preference: int
    verified_at: int | None


def add_contact(database: Database, contact: Contact, at: int) -> None:
    """Sets the address of an account for a channel. Raises ValueError."""
    check_contact(contact)
    key = contact.gateway_id, contact.account_id, contact.channel
    with transaction(database):
        if database.execute("SELECT 1 FROM gateway WHERE id = ?", (contact.gateway_id,)).fetchone() is None:
            raise ValueError(f"{contact.gateway_id}: no such gateway is enrolled")
        database.execute(
            "INSERT INTO notice_contact (gateway, account, channel, address, language, preference, verified_at,"
            " added_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (gateway, account, channel) DO UPDATE SET"
            " address = excluded.address, language = excluded.language, preference = excluded.preference,"
            " verified_at = excluded.verified_at, added_at = excluded.added_at",
            (*key, contact.address, contact.language, contact.preference, contact.verified_at, at),
        )


def remove_contact(database: Database, gateway_id: str, account_id: str, channel: str) -> bool:
    """Whether there was one."""
    with transaction(database):
        sql = "DELETE FROM notice_contact WHERE gateway = ? AND account = ? AND channel = ?"
        return database.execute(sql, (gateway_id, account_id, channel)).rowcount > 0


def contacts_of(database: Database, gateway_id: str | None = None, account_id: str | None = None) -> list[Contact]:
    """The contacts of an account, a gateway or all, in the order in which they are tried."""
    given = (("gateway", gateway_id), ("account", account_id))
    wanted = [(column, value) for column, value in given if value is not None]
    where = "".join(f" AND {column} = ?" for column, _value in wanted)
    sql = (
        "SELECT gateway, account, channel, address, language, preference, verified_at FROM notice_contact"
        f" WHERE 1 = 1{where} ORDER BY gateway, account, preference, channel"
    )
    return [Contact(*row) for row in database.execute(sql, tuple(value for _column, value in wanted))]


def check_contact(contact: Contact) -> None:
    """Raises ValueError for what no channel could use."""
    if contact.channel not in CHANNELS:
        raise ValueError(f"{contact.channel!r} is no channel; allowed are {', '.join(CHANNELS)}")
    if contact.language not in LANGUAGES:
        raise ValueError(f"{contact.language!r} is no language; allowed are {', '.join(LANGUAGES)}")
    address = contact.address
    if contact.channel == "sms" and _PHONE.fullmatch(address) is None:
        raise ValueError(f"{address!r} is no telephone number, as +8613800138000")
    if contact.channel == "email" and (len(address) > _ADDRESS_CHARACTERS_MAX or _EMAIL.fullmatch(address) is None):
        raise ValueError(f"{address!r} is no e-mail address")
    if contact.channel == "webhook":
        check_url(address)
