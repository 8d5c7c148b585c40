"""The gateway's configuration: one TOML file, checked whole before anything starts.

Times of the bus and of MQTT are real milliseconds and seconds; times of the accounting are
those of the accounting clock. A fault names the file, the key and what is allowed.
"""

import os
import re
import stat
import tomllib
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

# The look-ahead keeps `$` from accepting a final line feed.
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,23}(?!\n)$")]
FilePath = Annotated[str, Meta(min_length=1)]
Port = Annotated[int, Meta(ge=0, le=65_535)]
RelayId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.:-]{1,64}(?!\n)$")]  # as in the site book
GpioLine = Annotated[int, Meta(ge=0, le=1023)]  # its offset on the chip
RtsDelay = Annotated[int, Meta(ge=0, le=100)]  # the kernel's limit


CLOCK_SOURCES = ("system", "scaled")


class ConfigError(ValueError):
    """The configuration cannot be used; the text says where and what is allowed."""


class GatewaySection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who this gateway is and where its files are. Relative paths start at the configuration file."""

    id: Name
    data_dir: FilePath
    site_book: FilePath = "site.json"
    tariffs: tuple[FilePath, ...] = ()  # documents to accept at commissioning
    anchor: FilePath | None = None  # where the journal's head is kept; without it in data_dir, on the same card


class ClockSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`system`, or `scaled` with the clock file of a simulated street."""

    source: str = "system"
    file: FilePath | None = None


class AccountingSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How often accounts are looked at (real milliseconds) and how often readings are recorded."""

    round_interval_ms: Annotated[int, Meta(ge=20, le=60_000)] = 5_000
    slot_minutes: Annotated[int, Meta(ge=1, le=1440)] = 15
    local_display: bool = False  # true where a display on site shows notices: that is their receipt


class LineSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line: /dev/ttyUSB0, tcp://host:port or rtu+tcp://host:port."""

    id: Name
    address: str
    protocol: Literal["modbus", "dlt645"] = "modbus"
    supply_keys: FilePath | None = None  # who may command the meters' own relays of a dlt645 line
    baud: Annotated[int, Meta(ge=300, le=1_000_000)] = 9600
    format: Annotated[str, Meta(pattern=r"^[78][NEO][12](?!\n)$")] = "8N1"
    response_timeout_ms: Annotated[int, Meta(ge=1, le=10_000)] = 300
    drain_silence_ms: Annotated[int, Meta(ge=1, le=60_000)] | None = None
    poll_interval_ms: Annotated[int, Meta(ge=10, le=3_600_000)] = 5_000
    # Money and relays are read in every round; 0 is for "in every round" here too.
    power_quality_interval_ms: Annotated[int, Meta(ge=0, le=3_600_000)] = 0
    other_interval_ms: Annotated[int, Meta(ge=0, le=3_600_000)] = 60_000
    dead_backoff_s_max: Annotated[int, Meta(ge=1, le=3600)] = 60
    # Who turns an RS-485 line around: the adapter itself, the driver (TIOCSRS485), or the agent with RTS.
    direction: Literal["adapter", "kernel", "rts"] = "adapter"
    rts_when_sending: Literal["high", "low"] = "high"
    rts_delay_before_ms: RtsDelay = 0
    rts_delay_after_ms: RtsDelay = 0
    local_echo: bool = False  # the adapter hears itself: each answer stands behind the request


class GpioRelaySection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A supply relay on lines of a GPIO chip; a meter of the site book names it in its `relay_id`.

    `monostable` has coil_line and closed_when; `latching` has set_line (its pulse closes), reset_line and maybe
    pulse_ms. With contact_line an auxiliary contact is read back: its line is active while the supply is closed.
    """

    id: RelayId
    chip: FilePath  # /dev/gpiochip0
    kind: Literal["monostable", "latching"]
    chip_label: str | None = None  # as gpiodetect shows it: another chip under this name is left alone
    coil_line: GpioLine | None = None
    closed_when: Literal["coil_on", "coil_off"] | None = None
    set_line: GpioLine | None = None
    reset_line: GpioLine | None = None
    pulse_ms: Annotated[int, Meta(ge=10, le=2_000)] | None = None
    active_low: bool = False  # of the coils' lines
    contact_line: GpioLine | None = None
    contact_active_low: bool = False
    contact_bias: Literal["as_is", "disabled", "pull_up", "pull_down"] = "as_is"
    settle_ms: Annotated[int, Meta(ge=10, le=2_000)] = 100  # until a contact has moved and no longer bounces
    breaking_current_a: Annotated[int, Meta(ge=1, le=1000)] | None = None  # it is not opened above this

    @property
    def lines(self) -> tuple[int, ...]:
        """All lines it uses."""
        found = (self.coil_line, self.set_line, self.reset_line, self.contact_line)
        return tuple(line for line in found if line is not None)


class CloudSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Brokers in order of preference and the pinned key ring. `timer_s_max` caps every delay (demo, tests)."""

    brokers: Annotated[tuple[str, ...], Meta(min_length=1)]
    keyring: FilePath
    timer_s_max: Annotated[float, Meta(gt=0, le=86_400)] | None = None
    tls_ca: FilePath | None = None
    tls_certificate: FilePath | None = None
    tls_key: FilePath | None = None
    device_key: FilePath | None = None  # Ed25519: signs the daily checkpoint (`wattgate proof new-key`)


class ConsoleSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The technician's console."""

    host: str = "127.0.0.1"
    port: Port = 8080
    allowed_hosts: tuple[str, ...] = ("localhost", "127.0.0.1")


class TokensSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of the token decoders in the site book, in a file that only the agent's user can read."""

    keys: FilePath  # JSON: {meter id: 32 hexadecimal digits}


class MetersSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Meter models of the user's own, besides those that ship."""

    models: FilePath  # a folder with NAME.toml for each


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    gateway: GatewaySection
    lines: Annotated[tuple[LineSection, ...], Meta(min_length=1)]
    clock: ClockSection = ClockSection()
    accounting: AccountingSection = AccountingSection()
    cloud: CloudSection | None = None
    console: ConsoleSection | None = None
    tokens: TokensSection | None = None
    meters: MetersSection | None = None
    gpio_relays: tuple[GpioRelaySection, ...] = ()
    file: str = ""  # the file itself; not a key of it

    @property
    def has_tls(self) -> bool:
        """Whether a broker is spoken to over TLS."""
        return self.cloud is not None and self.cloud.tls_ca is not None

    def path(self, name: str) -> Path:
        """A path of the configuration, relative ones starting at the file."""
        return Path(self.file).parent / name


def read_config(path: Path) -> Config:
    """The checked configuration. ConfigError names file, key and what is allowed."""
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from error
    try:
        _check_keys("", content, _SECTIONS)
        if isinstance(content.get("lines"), list):
            content["lines"] = [_with_defaults(line) for line in content["lines"]]
        config: Config = msgspec.convert({**content, "file": str(path)}, Config)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error
    _check(path, config)
    return config


def parse_broker(text: str) -> tuple[str, int, bool]:
    """(host, port, TLS) of mqtt://host:port or mqtts://host:port. ConfigError otherwise."""
    scheme, _, rest = text.partition("://")
    host, _, port = rest.rpartition(":")
    is_port = port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65_536
    if scheme not in ("mqtt", "mqtts") or not _HOST.fullmatch(host) or not is_port:
        raise ConfigError(f"broker {text!r}: allowed is mqtt://host:port or mqtts://host:port")
    return host.strip("[]"), int(port), scheme == "mqtts"


_HOST = re.compile(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]")

# What a line has that does not say it, where its protocol has customs of its own. An answer may begin 500 ms late.
_CUSTOMS: dict[str, dict[str, Any]] = {
    "dlt645": {"baud": 2400, "format": "8E1", "response_timeout_ms": 700, "poll_interval_ms": 30_000},
}

# Every key of the file: a table for a section, a list for repeated ones.
_SECTIONS: dict[str, Any] = {
    "gateway": GatewaySection,
    "lines": LineSection,
    "clock": ClockSection,
    "accounting": AccountingSection,
    "cloud": CloudSection,
    "console": ConsoleSection,
    "tokens": TokensSection,
    "meters": MetersSection,
    "gpio_relays": GpioRelaySection,
}


def _with_defaults(line: Any) -> Any:
    """A line with the customs of its protocol; what is wrong with it is said later."""
    if not isinstance(line, dict) or not isinstance(line.get("protocol"), str):
        return line
    return _CUSTOMS.get(line["protocol"], {}) | line


def _check_keys(where: str, content: Any, allowed: Any) -> None:
    """A key nobody knows is named together with those that there are; types are judged elsewhere."""
    names = list(allowed) if isinstance(allowed, dict) else list(allowed.__struct_fields__)
    for key, value in content.items():
        if key not in names:
            raise ConfigError(f"{where}{key}: is unknown; allowed: {', '.join(names)}")
        if not isinstance(allowed, dict):
            continue
        if isinstance(value, dict):
            _check_keys(f"{key}.", value, allowed[key])
        elif isinstance(value, list):
            for index, entry in enumerate(value):
                if isinstance(entry, dict):
                    _check_keys(f"{key}[{index}].", entry, allowed[key])


def _check(path: Path, config: Config) -> None:
    seen: set[str] = set()
    line_at: dict[Hashable, LineSection] = {}
    for index, line in enumerate(config.lines):
        where = f"{path}: lines[{index}]"
        if line.id in seen:
            raise ConfigError(f"{where}.id: {line.id!r} stands there twice")
        if not line.address:
            raise ConfigError(f"{where}.address: is empty")
        _check_line(where, line)
        other = line_at.setdefault(_far_end(line.address), line)
        if other is not line:
            same = "stands there twice" if other.address == line.address else f"is {other.id}'s {other.address}"
            raise ConfigError(
                f"{where}.address: {line.address!r} {same}; a line has one master and one connection: "
                "all devices behind it belong to one line, told apart by device id"
            )
        seen.add(line.id)
    _check_gpio_relays(path, config)
    if config.clock.source not in CLOCK_SOURCES:
        allowed = ", ".join(CLOCK_SOURCES)
        raise ConfigError(f"{path}: clock.source: {config.clock.source!r}, allowed: {allowed}")
    if (config.clock.source == "scaled") != (config.clock.file is not None):
        raise ConfigError(f"{path}: clock.file: belongs to source scaled, and only there")
    if config.cloud is not None:
        _check_cloud(path, config.cloud)


def _check_line(where: str, line: LineSection) -> None:
    """What belongs together in a line."""
    is_device = "://" not in line.address
    if line.format.startswith("7"):
        raise ConfigError(f"{where}.format: {line.format!r}: 8 data bits are needed, for example 8N1")
    if line.direction != "adapter" and not is_device:
        raise ConfigError(f"{where}.direction: belongs to a serial device; the server at {line.address} turns its own")
    if line.direction == "adapter" and (line.rts_delay_before_ms or line.rts_delay_after_ms):
        raise ConfigError(f"{where}.rts_delay_before_ms, rts_delay_after_ms: belong to direction kernel or rts")
    if line.direction == "adapter" and line.rts_when_sending != "high":
        raise ConfigError(f"{where}.rts_when_sending: belongs to direction kernel or rts")
    if line.protocol == "dlt645" and line.address.startswith("tcp://"):
        raise ConfigError(f"{where}.address: {line.address!r}: Modbus TCP; a transparent server is rtu+tcp://host:port")
    if line.protocol != "dlt645" and line.supply_keys is not None:
        raise ConfigError(f"{where}.supply_keys: belongs to protocol dlt645, and only there")
    if line.local_echo and line.address.startswith("tcp://"):
        raise ConfigError(f"{where}.local_echo: belongs to RTU; Modbus TCP has no echo")


def _far_end(address: str) -> Hashable:
    """The same for two addresses of one device or one server, however they are written."""
    _, scheme, rest = address.rpartition("://")
    return rest.lower() if scheme else _device(address)


def _device(path: str) -> Hashable:
    """The device behind a path: links and second nodes lead to the same one. One that is not there is its path."""
    try:
        found = os.stat(path)
    except OSError:
        return os.path.realpath(path)
    return ("device", found.st_rdev) if stat.S_ISCHR(found.st_mode) else os.path.realpath(path)


# Keys of a kind: those it needs, and those it may have besides those of every relay.
_KIND_KEYS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "monostable": (("coil_line", "closed_when"), ()),
    "latching": (("set_line", "reset_line"), ("pulse_ms",)),
}


def _check_gpio_relays(path: Path, config: Config) -> None:
    """Each relay is whole, and each line of a chip belongs to one relay and does one thing."""
    owners: dict[tuple[Hashable, int], GpioRelaySection] = {}
    ids: set[str] = set()
    for index, relay in enumerate(config.gpio_relays):
        where = f"{path}: gpio_relays[{index}]"
        if relay.id in ids:
            raise ConfigError(f"{where}.id: {relay.id!r} stands there twice")
        ids.add(relay.id)
        if not relay.chip.startswith("/"):
            raise ConfigError(f"{where}.chip: found {relay.chip!r}, allowed: a device like /dev/gpiochip0")
        for fault in _kind_faults(relay):
            raise ConfigError(f"{where}.{fault}")
        for line in relay.lines:
            other = owners.setdefault((_device(relay.chip), line), relay)
            if other is not relay:
                both = f"relays {other.id} and {relay.id} are both at line {line} of {other.chip}"
                raise ConfigError(f"{where}: {both}; a line belongs to one relay")


def _kind_faults(relay: GpioRelaySection) -> Iterator[str]:
    """Keys of another kind, keys that are missing, lines that are used twice."""
    needed, optional = _KIND_KEYS[relay.kind]
    for name in (name for keys in _KIND_KEYS.values() for group in keys for name in group):
        given = getattr(relay, name) is not None
        if name in needed and not given:
            yield f"{name}: is missing; a {relay.kind} relay needs {' and '.join(needed)}"
        if given and name not in (*needed, *optional):
            allowed = ", ".join((*needed, *optional))
            yield f"{name}: does not belong to a {relay.kind} relay, which has {allowed}"
    if relay.contact_line is None:
        for name, default in (("contact_active_low", False), ("contact_bias", "as_is")):
            if getattr(relay, name) != default:
                yield f"{name}: belongs to contact_line, which is missing"
    for line in relay.lines:
        if relay.lines.count(line) > 1:
            yield f"id: relay {relay.id} uses line {line} of {relay.chip} for two things"


def _check_cloud(path: Path, cloud: CloudSection) -> None:
    secured = []
    for index, broker in enumerate(cloud.brokers):
        try:
            secured.append(parse_broker(broker)[2])
        except ConfigError as error:
            raise ConfigError(f"{path}: cloud.brokers[{index}]: {error}") from error
    files = (cloud.tls_ca, cloud.tls_certificate, cloud.tls_key)
    if any(files) and not all(files):
        raise ConfigError(f"{path}: cloud: tls_ca, tls_certificate and tls_key come together")
    if len(set(secured)) > 1:
        raise ConfigError(f"{path}: cloud.brokers: all mqtts:// or all mqtt://, not both")
    if secured[0] is not any(files):
        raise ConfigError(f"{path}: cloud: mqtts:// needs tls_ca, tls_certificate and tls_key, mqtt:// takes none")
