"""What a running agent has loaded: nothing that it does not use, so that it stays small and starts soon."""

import importlib
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from edge.left_out import standing_in, unused_modules, without
from edge.store.site_book import Site, SiteBook, write_site_book

CONFIG = """
[gateway]
id = "gw-1"
data_dir = "data"

[cloud]
brokers = ["mqtt://127.0.0.1:1"]
keyring = "keyring.json"
timer_s_max = 0.1

[[lines]]
id = "line-1"
address = "tcp://127.0.0.1:1"
"""

# `wattgate run`, until it has tried its broker: says what was loaded when all of it was up, and what is then; ends it.
PROGRAM = """
import json, os, signal, sys
from edge import cli

def loaded():
    return sorted(name for name, module in sys.modules.items() if module is not None)

def look(at_ready):
    import asyncio  # here: whoever imports it first decides whether it has OpenSSL
    if "cloud_sync.connection" not in sys.modules:
        asyncio.get_running_loop().call_later(0.01, look, at_ready)
        return
    print(json.dumps([at_ready, loaded()]))
    os.kill(os.getpid(), signal.SIGTERM)

cli._EventPrinter.ready = lambda _printer, _address: look(loaded())
sys.exit(cli.main(["run", "--config", sys.argv[1]]))
"""

# Parts of the product that another command, the console or a developer uses, and what they bring along.
NOT_OF_THE_AGENT = (
    "_hashlib",
    "amqtt",
    "argparse",
    "click",
    "cloud_sync.backend",
    "cryptography",
    "edge.bus_tool",
    "edge.cli_parser",
    "edge.commission",
    "edge.console",
    "edge.dlt645",
    "edge.meter_tool.show",
    "edge.store.commands",
    "edge.store.explain",
    "edge.store.explain_words",
    "edge.store.verify",
    "edge.tariffs",
    "edge.terminal",
    "edge.tokens",
    "email",
    "gettext",
    "h11",
    "http",
    "httpx",
    "hw.sim",
    "hypothesis",
    "importlib.resources",
    "jinja2",
    "leather",
    "multiprocessing",
    "nacl.bindings",
    "numpy",
    "openpaygo",
    "polib",
    "pydantic",
    "pymodbus",
    "pytest",
    "ssl",
    "starlette",
    "tests",
    "typing_extensions",
    "unicodedata",
    "unittest",
    "urllib.request",
    "uvicorn",
    "xml",
    "zipfile",
)
# What the console's libraries would load for what it does not do: TLS, workers, a command line of their own.
NOT_OF_THE_CONSOLE = ("_hashlib", "click", "leather", "multiprocessing", "ssl", "uvicorn.main")
CONSOLE = """
[console]
host = "127.0.0.1"
port = 0
"""


def test_agent_without_console_loads_only_what_it_uses(tmp_path: Path) -> None:
    at_ready, loaded = modules_of_an_agent(tmp_path)
    assert {"edge.agent.gateway", "edge.bus.line", "cloud_sync.transport"} <= at_ready
    assert "paho.mqtt.client" in loaded - at_ready, "meters are read before the broker's client is loaded"
    assert not surplus_of(at_ready, NOT_OF_THE_AGENT)
    # How a broker's name is encoded is the operating system's business, and Python's: it may come at any time.
    assert not surplus_of(loaded - {"unicodedata"}, NOT_OF_THE_AGENT)


def test_console_loads_only_what_it_uses(tmp_path: Path) -> None:
    _at_ready, loaded = modules_of_an_agent(tmp_path, CONSOLE)
    assert {"edge.console.app", "uvicorn.server", "starlette"} <= loaded
    assert not surplus_of(loaded, NOT_OF_THE_CONSOLE)


def test_module_is_left_out_for_a_while_and_never_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "this", raising=False)
    with without(["this", "json"]):
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("this")
        assert importlib.import_module("json") is json
    assert "this" not in sys.modules
    assert importlib.import_module("json") is json


def test_stand_in_is_there_for_a_while_and_never_instead_of_the_real_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "this", raising=False)
    with standing_in("this", d="a"), standing_in("json", d="a"):
        assert importlib.import_module("this").d == "a"
        assert importlib.import_module("json") is json
    assert "this" not in sys.modules


def test_openssl_is_left_out_where_no_broker_has_tls() -> None:
    assert {"ssl", "_hashlib"} <= set(unused_modules(has_tls=False))
    assert not {"ssl", "_hashlib"} & set(unused_modules(has_tls=True))


BROKER_CLIENT = """
import socket
from edge.left_out import load_broker_client, unused_modules, without

with without(unused_modules(has_tls=False)):
    load_broker_client(has_tls=False)
import paho.mqtt.client as mqtt

ours, theirs = socket.socketpair()
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
client._sock = ours
ours.setblocking(False)
print(client.loop_read() == mqtt.MQTT_ERR_SUCCESS)
import ssl
print(mqtt.ssl is not ssl and hasattr(ssl, "SSLContext"))
"""


def test_broker_client_without_tls_waits_for_a_socket_that_has_nothing_yet() -> None:
    # The client asks its `ssl` what kind of error a BlockingIOError is: with none there its thread would end.
    done = subprocess.run([sys.executable, "-c", BROKER_CLIENT], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"], done.stderr


def test_part_is_known_by_its_whole_name() -> None:
    assert is_part("xml.etree", "xml")
    assert not is_part("xmlrpc", "xml")


def is_part(name: str, of: str) -> bool:
    """Whether a module is this package or in it."""
    return name == of or name.startswith(of + ".")


def surplus_of(loaded: set[str], unwanted: Iterable[str]) -> list[str]:
    """The modules that are there and should not be."""
    return [name for name in sorted(loaded) if any(is_part(name, of) for of in unwanted)]


def modules_of_an_agent(folder: Path, more: str = "") -> tuple[set[str], set[str]]:
    """All modules of an agent's process once it is up, and once it has tried its broker. No line, no cloud is there."""
    (folder / "gateway.toml").write_text(CONFIG + more, "utf-8")
    (folder / "keyring.json").write_text("[]", "utf-8")
    write_site_book(folder / "site.json", SiteBook(Site("Asia/Shanghai", "CNY"), (), (), ()))
    command = [sys.executable, "-c", PROGRAM, str(folder / "gateway.toml")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    at_ready, loaded = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("[[")))
    return set(at_ready), set(loaded)
