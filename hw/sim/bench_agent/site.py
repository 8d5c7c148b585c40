"""What the agent is given: 4 lines of 32 meters with a relay and an account each, two tariffs, a broker, a cloud.

Intervals are the product's defaults: lines read and accounts looked at every 5 s, a record every 15 minutes.
Milliseconds; money nano-currency.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from cloud_sync.ed25519 import Ed25519PrivateKey
from cloud_sync.keys import Signer, generate_key_directory, save_signer
from edge.core.units import MoneyNano
from edge.store.site_book import AccountEntry, MeterEntry, RelayEntry, Site, SiteBook, write_site_book
from hw.sim.demo_site import CLOCK_FILE, DEVICE_KEY_FILE, KEYS_FOLDER

GATEWAY_ID = "bench"
LINES, METERS = 4, 32  # per line
MODEL = "hiking_dds238_2"
POINTS = 9  # values of a meter: eight registers and its relay
TARIFFS = ("cn-heilongjiang", "cn-zhejiang-tou")
OPENING_NANO = MoneyNano(500_000_000_000)
CONFIG_FILE = "gateway.toml"
INTERVAL_MS = 5_000


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How often things happen, in real milliseconds. `scaled` takes the clock file of the folder."""

    poll_ms: int = INTERVAL_MS
    round_ms: int = INTERVAL_MS
    slot_minutes: int = 15
    scaled: bool = False


def write_site(
    directory: Path,
    addresses: Sequence[str],
    broker_port: int,
    baud: int = 9600,
    console_port: int | None = None,
    rhythm: Rhythm = Rhythm(),
) -> Path:
    """Writes all files of a site whose lines are at these addresses; keys once made stay. Returns the configuration."""
    directory.mkdir(parents=True, exist_ok=True)
    tariffs = Path(__file__).resolve().parents[3] / "edge" / "tariffs"
    for name in TARIFFS:
        shutil.copyfile(tariffs / f"{name}.json", directory / f"{name}.json")
    write_site_book(directory / "site.json", _site_book(len(addresses)))
    write_keys(directory)
    cloud = {
        "brokers": [f"mqtt://127.0.0.1:{broker_port}"],
        "keyring": f"{KEYS_FOLDER}/keyring.json",
        "device_key": DEVICE_KEY_FILE,
    }
    sections: list[tuple[str, dict[str, Any]]] = [
        ("[gateway]", {"id": GATEWAY_ID, "data_dir": "agent", "tariffs": [f"{name}.json" for name in TARIFFS]}),
        ("[accounting]", {"round_interval_ms": rhythm.round_ms, "slot_minutes": rhythm.slot_minutes}),
        ("[cloud]", cloud),
    ]
    if rhythm.scaled:
        sections.append(("[clock]", {"source": "scaled", "file": CLOCK_FILE}))
    if console_port is not None:
        sections.append(("[console]", {"host": "127.0.0.1", "port": console_port}))
    for number, address in enumerate(addresses, 1):
        line = {"id": f"line-{number}", "address": address, "baud": baud, "poll_interval_ms": rhythm.poll_ms}
        sections.append(("[[lines]]", line))
    # JSON's numbers, strings and lists of strings are TOML's.
    text = "\n\n".join(
        "\n".join([title, *(f"{key} = {msgspec.json.encode(value).decode()}" for key, value in entries.items())])
        for title, entries in sections
    )
    (directory / CONFIG_FILE).write_text(text, "utf-8")
    return directory / CONFIG_FILE


def write_keys(directory: Path) -> None:
    """The cloud's keys and the device's, once for each site."""
    if not (directory / KEYS_FOLDER).exists():
        generate_key_directory(directory / KEYS_FOLDER)
        save_signer(directory, Signer(DEVICE_KEY_FILE.removesuffix(".pem"), Ed25519PrivateKey.generate()))


def _site_book(lines: int) -> SiteBook:
    meters, relays, accounts = [], [], []
    for line in range(1, lines + 1):
        for device_id in range(1, METERS + 1):
            number, line_id = f"{line}{device_id:02}", f"line-{line}"
            meters.append(MeterEntry(f"M{number}", line_id, device_id, MODEL, relay_id=f"R{number}"))
            relays.append(RelayEntry(f"R{number}", line_id, device_id, MODEL))
            tariff = f"{TARIFFS[device_id % len(TARIFFS)]}@1"
            accounts.append(AccountEntry(f"A{number}", f"M{number}", tariff, OPENING_NANO))
    return SiteBook(Site("Asia/Shanghai", "CNY"), tuple(meters), tuple(relays), tuple(accounts))
