"""What a running agent has loaded: nothing that it does not use, so that it stays small and starts soon."""

import json
import subprocess
import sys
from pathlib import Path

from edge.store.site_book import Site, SiteBook, write_site_book

CONFIG = """
[gateway]
id = "gw-1"
data_dir = "data"

[cloud]
brokers = ["mqtt://127.0.0.1:1"]
keyring = "keyring.json"

[[lines]]
id = "line-1"
address = "tcp://127.0.0.1:1"
"""

# Runs a gateway until all of it is up, and says what is loaded.
PROGRAM = """
import asyncio, json, sys
from pathlib import Path
from edge import cli
from edge.bootstrap import prepare, run_gateway
from edge.config import read_config

async def run():
    config, stop = read_config(Path(sys.argv[1])), asyncio.Event()
    await run_gateway(prepare(config), cli.gateway_clock(config), stop, on_ready=lambda _address: stop.set())

cli._parser(["run", "--config", sys.argv[1]])
asyncio.run(run())
print(json.dumps(sorted(sys.modules)))
"""

# Parts of the product that another command, the console or a developer uses, and what they bring along.
NOT_OF_THE_AGENT = (
    "amqtt",
    "click",
    "cloud_sync.backend",
    "cryptography.hazmat.primitives.serialization",
    "cryptography.x509",
    "edge.bus_tool",
    "edge.commission",
    "edge.console",
    "edge.dlt645",
    "edge.store.commands",
    "edge.store.explain",
    "edge.store.verify",
    "edge.tariffs",
    "edge.terminal",
    "edge.tokens",
    "h11",
    "httpx",
    "hw.sim",
    "hypothesis",
    "jinja2",
    "leather",
    "multiprocessing",
    "numpy",
    "openpaygo",
    "polib",
    "pydantic",
    "pymodbus.client",
    "pymodbus.server",
    "pytest",
    "starlette",
    "tests",
    "unittest",
    "uvicorn",
    "xml",
)


def test_agent_without_console_loads_only_what_it_uses(tmp_path: Path) -> None:
    loaded = modules_of_an_agent(tmp_path)
    assert {"edge.agent.gateway", "edge.bus.line", "cloud_sync.transport", "paho.mqtt.client"} <= loaded
    surplus = [name for name in sorted(loaded) if any(is_part(name, of) for of in NOT_OF_THE_AGENT)]
    assert not surplus, f"loaded and not used: {', '.join(surplus)}"


def test_part_is_known_by_its_whole_name() -> None:
    assert is_part("xml.etree", "xml")
    assert not is_part("xmlrpc", "xml")


def is_part(name: str, of: str) -> bool:
    """Whether a module is this package or in it."""
    return name == of or name.startswith(of + ".")


def modules_of_an_agent(folder: Path) -> set[str]:
    """The names of all modules of an agent's process once it is up: no console, a cloud that is not there."""
    (folder / "gateway.toml").write_text(CONFIG, "utf-8")
    (folder / "keyring.json").write_text("[]", "utf-8")
    write_site_book(folder / "site.json", SiteBook(Site("Asia/Shanghai", "CNY"), (), (), ()))
    command = [sys.executable, "-c", PROGRAM, str(folder / "gateway.toml")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))
