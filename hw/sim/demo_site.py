"""What the demo writes before it starts: street, site book, tariff, keys and the agent's configuration.

The agent it runs is the product; only this configuration and the virtual hardware differ.
Money nano-currency; bus and MQTT timers are real and at most 1 s.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from cloud_sync.ed25519 import Ed25519PrivateKey
from cloud_sync.keys import Signer, generate_key_directory, save_signer
from edge.core.policy import Policy
from edge.core.units import NANO_PER_UNIT, MoneyNano
from edge.store.site_book import AccountEntry, MeterEntry, RelayEntry, Site, SiteBook, write_site_book
from hw.sim.spec import default_street

GATEWAY_ID = "demo-street"
CLOCK_FILE = "clock.json"
CLOUD_FILE = "cloud.db"
KEYS_FOLDER = "keys"
DEVICE_KEY_FILE = "device.pem"
CONFIG_FILE = "gateway.toml"
STREET_FILE = "street.json"
AGENT_FOLDER = "agent"
TARIFF_FILE = "demo-street.json"
RELAY_BOARD_MODEL = "relay_board_8ch"

# What each account starts with, in hundredths of the currency; the others have plenty.
OPENING_MINOR = {"A01": 50, "A02": 1500, "A04": 100, "A05": 400, "A10": 30_000, "A11": 30_000}
OPENING_MINOR_DEFAULT = 15_000
PROTECTED = "A04"
# A cut wants a reading of the same round: 0.4 s of real time is an hour here.
DEMO_POLICY = Policy(cut_reading_age_s_max=3600)


@dataclass(frozen=True, slots=True)
class DemoFiles:
    """Where everything lies."""

    directory: Path
    config: Path
    street: Path


def write_demo(directory: Path, speed: float, console_port: int, broker_port: int) -> DemoFiles:
    """Writes all files of a fresh demo; what an earlier one left in the folder is removed."""
    for name in (AGENT_FOLDER, KEYS_FOLDER):
        shutil.rmtree(directory / name, ignore_errors=True)
    for path in directory.glob("cloud.db*"):
        path.unlink()
    directory.mkdir(parents=True, exist_ok=True)
    street = default_street(speed=speed)
    for line in street["lines"]:
        for meter in line["devices"]:
            meter["scale_percent"] = 0  # nothing is drawn before every account is open
    (directory / STREET_FILE).write_text(json.dumps(street, indent=1), "utf-8")
    tariff = Path(__file__).resolve().parents[2] / "edge" / "tariffs" / TARIFF_FILE
    shutil.copyfile(tariff, directory / TARIFF_FILE)
    document = json.loads(tariff.read_text("utf-8"))
    write_site_book(directory / "site.json", _site_book(street, f"{document['id']}@{document['version']}"))
    generate_key_directory(directory / KEYS_FOLDER)
    save_signer(directory, Signer(DEVICE_KEY_FILE.removesuffix(".pem"), Ed25519PrivateKey.generate()))
    config = directory / CONFIG_FILE
    config.write_text(_config(directory.resolve(), street, console_port, broker_port), "utf-8")
    return DemoFiles(directory, config, directory / STREET_FILE)


def account_of(meter_id: str) -> str:
    """The demo's account behind a meter: A01 for M01."""
    return f"A{meter_id[1:]}"


def _site_book(street: dict[str, Any], tariff: str) -> SiteBook:
    meters, relays, accounts = [], [], []
    for line in street["lines"]:
        for device in line["devices"]:
            relay = _relay(line["id"], device)
            relays.append(relay)
            meters.append(
                MeterEntry(
                    meter_id=device["meter_id"],
                    line_id=line["id"],
                    device_id=device["device_id"],
                    model=device["model"],
                    position=f"{line['id']}, cabinet {device['device_id'] % 10}",
                    relay_id=relay.relay_id,
                )
            )
            accounts.append(_account(account_of(device["meter_id"]), device["meter_id"], tariff))
    area = street["area_meter"]
    meters.append(MeterEntry(area["meter_id"], area["line"], area["device_id"], area["model"], "transformer"))
    site = Site(time_zone="Asia/Shanghai", currency="CNY")
    return SiteBook(site, tuple(meters), tuple(relays), tuple(accounts))


def _relay(line_id: str, device: dict[str, Any]) -> RelayEntry:
    relay_id = f"R{device['meter_id'][1:]}"
    wire = device["relay"]
    if wire == "own":
        return RelayEntry(relay_id, line_id, device["device_id"], device["model"])
    return RelayEntry(relay_id, wire["line"], wire["device_id"], RELAY_BOARD_MODEL, wire["channel"])


def _account(account_id: str, meter_id: str, tariff: str) -> AccountEntry:
    opening = MoneyNano(OPENING_MINOR.get(account_id, OPENING_MINOR_DEFAULT) * NANO_PER_UNIT // 100)
    return AccountEntry(account_id, meter_id, tariff, opening, account_id == PROTECTED, DEMO_POLICY)


def _config(directory: Path, street: dict[str, Any], console_port: int, broker_port: int) -> str:
    sections: list[tuple[str, dict[str, Any]]] = [
        ("[gateway]", {"id": GATEWAY_ID, "data_dir": AGENT_FOLDER, "tariffs": [TARIFF_FILE]}),
        ("[clock]", {"source": "scaled", "file": CLOCK_FILE}),
        ("[accounting]", {"round_interval_ms": 100, "local_display": True}),
        (
            "[cloud]",
            {
                "brokers": [f"mqtt://127.0.0.1:{broker_port}"],
                "keyring": f"{KEYS_FOLDER}/keyring.json",
                "device_key": DEVICE_KEY_FILE,
                "timer_s_max": 1.0,
            },
        ),
        ("[console]", {"host": "127.0.0.1", "port": console_port}),
    ]
    for line in street["lines"]:
        bus = {"baud": 115200, "response_timeout_ms": 60, "drain_silence_ms": 30, "poll_interval_ms": 200}
        place = {"id": line["id"], "address": str(directory / line["id"])}
        sections.append(("[[lines]]", {**place, **bus, "dead_backoff_s_max": 1}))
    # JSON's numbers, strings and lists of strings are TOML's.
    return "\n\n".join(
        "\n".join([title, *(f"{key} = {msgspec.json.encode(value).decode()}" for key, value in entries.items())])
        for title, entries in sections
    )
