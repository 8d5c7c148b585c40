"""`wattgate broker config`: writes what a Mosquitto or a NATS server is started with.

Exit status: 0 written, 2 bad arguments or a folder that cannot be written.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from cloud_sync.broker.files import BACKEND_NAME, CONFIGURATION_FILE, mosquitto_files
from cloud_sync.broker.nats import NATS_FILE, Cluster, NatsServer, nats_files

EXIT_BAD_INPUT: Final = 2
EXAMPLE: Final = """example:
  wattgate broker config /etc/wattgate-broker --ca ca.pem --certificate broker.pem --key broker.key
  mosquitto -c /etc/wattgate-broker/mosquitto.conf
  wattgate broker config /etc/wattgate-broker --kind nats --ca ca.pem --certificate broker.pem --key broker.key \\
      --gateways gateways.txt --server nats-1 --route nats-2:6222 --route nats-3:6222
Each gateway's certificate has its id as common name, each worker's a name of its own (--backend NAME, repeated).
"""


def add_broker_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `broker` and its commands to those of `wattgate`."""
    raw: Any = argparse.RawDescriptionHelpFormatter
    broker = commands.add_parser("broker", help="configure a broker", epilog=EXAMPLE, formatter_class=raw)
    kinds = broker.add_subparsers(required=True, metavar="COMMAND")
    config = kinds.add_parser("config", help="files for Mosquitto 2 or NATS 2.9", epilog=EXAMPLE, formatter_class=raw)
    add = config.add_argument
    add("folder", type=Path, metavar="DIR", help="made if absent; files of the same names are replaced")
    add("--ca", required=True, type=Path, metavar="FILE", help="certificate of the product's CA (PEM)")
    add("--certificate", required=True, type=Path, metavar="FILE", help="of the broker, for its host name (PEM)")
    add("--key", required=True, type=Path, metavar="FILE", help="the broker's private key (PEM)")
    add("--port", type=_port, default=8883, metavar="P", help="where it listens (8883)")
    add("--backend", action="append", metavar="NAME", help=f"common name of a worker, may be repeated ({BACKEND_NAME})")
    add("--kind", choices=("mosquitto", "nats"), default="mosquitto", help="which broker (mosquitto)")
    nats = config.add_argument_group("NATS", "it needs to be told every gateway; three servers make a cluster")
    nats.add_argument("--gateways", type=Path, metavar="FILE", help="ids of the gateways, one a line")
    nats.add_argument("--server", default="nats-1", metavar="NAME", help="of this server (nats-1)")
    nats.add_argument("--client-port", type=_port, default=4222, metavar="P", help="NATS's own, this host only (4222)")
    nats.add_argument("--cluster-port", type=_port, default=6222, metavar="P", help="for the other servers (6222)")
    nats.add_argument("--route", action="append", default=[], metavar="HOST:PORT", help="another server, repeated")
    add("--json", action="store_true", help="one object for programs")
    config.set_defaults(run=_config)


def _port(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 65_536:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 1 to 65535")
    return int(text)


def _config(options: argparse.Namespace) -> int:
    backends = options.backend or [BACKEND_NAME]
    try:
        for path in (options.ca, options.certificate, options.key):
            path.open("rb").close()
        files = _files(options, backends)
        options.folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (options.folder / name).write_text(content, "utf-8")
    except (OSError, ValueError) as problem:
        sys.stderr.write(f"wattgate: {problem}\n")
        return EXIT_BAD_INPUT
    if options.json:
        said = json.dumps({"folder": str(options.folder), "files": sorted(files), "backends": backends})
    else:
        program, file = ("nats-server", NATS_FILE) if options.kind == "nats" else ("mosquitto", CONFIGURATION_FILE)
        said = f"written; start it with: {program} -c {options.folder / file}"
    sys.stdout.write(said + "\n")
    return 0


def _files(options: argparse.Namespace, backends: list[str]) -> Mapping[str, str]:
    paths = (options.ca, options.certificate, options.key)
    if options.kind == "mosquitto":
        if options.gateways or options.route:
            raise ValueError("--gateways and --route are for --kind nats: Mosquitto has a pattern for all gateways")
        return mosquitto_files(options.folder, *paths, options.port, backends)
    if options.gateways is None:
        raise ValueError("--kind nats needs --gateways FILE, with the id of each gateway on a line")
    gateways = options.gateways.read_text("utf-8").split()
    cluster = Cluster(options.cluster_port, options.route) if options.route else None
    server = NatsServer(options.server, options.port, options.client_port, cluster)
    return nats_files(options.folder, paths, server, backends, gateways)
