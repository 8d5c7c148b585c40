"""The file that says how notices are sent: channels, when, how often, and in whose words.

JSON; times of day as HH:MM of the site's zone, pauses in seconds. Secrets stand in files of their own, named here.
"""

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

Languages = Literal["en", "zh"]
LANGUAGES: Final = ("en", "zh")
CHANNELS: Final = ("sms", "email", "webhook")
# What of a channel counts as handed over: the provider's report of delivery, its acceptance, or nothing.
Receipt = Literal["delivered", "accepted", "never"]
_TimeOfDay = Annotated[str, msgspec.Meta(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]
_Seconds = Annotated[int, msgspec.Meta(ge=1, le=86_400)]
_TimeOut = Annotated[int, msgspec.Meta(ge=1, le=120)]
_Count = Annotated[int, msgspec.Meta(ge=1, le=100_000)]
_Port = Annotated[int, msgspec.Meta(ge=1, le=65_535)]


class SmsProvider(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An HTTP provider of SMS. It takes {id, to, text} and answers {id, state: accepted|delivered|failed}."""

    url: str  # POST sends; GET url/<provider's id> asks what became of it
    token_file: Path | None = None  # of the header Authorization: Bearer
    idempotent: bool = False  # it sends one message for one Idempotency-Key, so no answer means: ask again
    receipt: Receipt = "delivered"
    timeout_s: _TimeOut = 15


class Smtp(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A mail server. That it took a mail proves nothing about the customer, unless an agreement says so."""

    host: str
    port: _Port = 587
    sender: str
    starttls: bool = True
    ca_file: Path | None = None
    user: str = ""
    password_file: Path | None = None
    receipt: Receipt = "never"
    timeout_s: _TimeOut = 15


class Webhook(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """POSTs JSON to the contact's address, signed by HMAC-SHA256. The receiver tells repeats by `id`."""

    secret_file: Path
    receipt: Receipt = "never"
    timeout_s: _TimeOut = 15


class Site(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is different at one gateway. Absent: as for all."""

    zone: str | None = None
    currency: str | None = None
    name: str | None = None


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    zone: str
    currency: str = "CNY"
    name: str = "Wattgate"  # who signs
    quiet_from: _TimeOfDay = "21:00"
    quiet_until: _TimeOfDay = "08:00"  # equal to quiet_from: never quiet
    sms: SmsProvider | None = None
    email: Smtp | None = None
    webhook: Webhook | None = None
    sites: dict[str, Site] = {}
    retry_pauses_s: Annotated[tuple[_Seconds, ...], msgspec.Meta(min_length=1, max_length=20)] = (60, 300, 900)
    urgent_pause_s_max: _Seconds = 60
    per_customer_per_day: _Count = 6
    per_minute: _Count = 60
    report_pause_s: _Seconds = 60  # between questions what became of a message

    def zone_of(self, gateway_id: str) -> ZoneInfo:
        """The time zone of a gateway's site."""
        site = self.sites.get(gateway_id)
        return ZoneInfo(self.zone if site is None or site.zone is None else site.zone)

    def currency_of(self, gateway_id: str) -> str:
        """What amounts of a gateway are in."""
        site = self.sites.get(gateway_id)
        return self.currency if site is None or site.currency is None else site.currency

    def name_of(self, gateway_id: str) -> str:
        """Who tells the customers of a gateway."""
        site = self.sites.get(gateway_id)
        return self.name if site is None or site.name is None else site.name

    @property
    def channels(self) -> tuple[str, ...]:
        """Those that are set up."""
        return tuple(channel for channel in CHANNELS if getattr(self, channel) is not None)


def load_settings(path: Path) -> Settings:
    """The file, checked. Raises OSError, ValueError (which names the place in the file)."""
    try:
        settings = msgspec.json.decode(path.read_bytes(), type=Settings)
        for zone in (settings.zone, *(site.zone for site in settings.sites.values() if site.zone is not None)):
            _check_zone(zone)
        if settings.sms is not None:
            check_url(settings.sms.url)
        if settings.email is not None and not settings.email.starttls and not _is_loopback(settings.email.host):
            raise ValueError("`email.starttls`: may be false for a server on this machine only")
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as problem:
        raise ValueError(f"{path}: {problem}") from None
    if not settings.channels:
        raise ValueError(f"{path}: no channel is set up; allowed are {', '.join(CHANNELS)}")
    return settings


def check_url(url: str) -> None:
    """Raises ValueError for what is neither https nor on this machine."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "https" and host:
        return
    if parts.scheme != "http" or not _is_loopback(host):
        raise ValueError(f"{url!r} is not an https:// address; http:// is allowed to this machine only")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_zone(name: str) -> None:
    try:
        ZoneInfo(name)
    except (OSError, ValueError, ZoneInfoNotFoundError):
        raise ValueError(f"`zone`: {name!r} is no time zone, as Asia/Shanghai") from None
