"""The commands of `wattgate` and their options. Each command loads only what it needs."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from edge import VERSION
from edge.cli import EXIT_BAD_INPUT, run_agent


@dataclass(frozen=True, slots=True)
class Tool:
    """A command with commands of its own: what it is for, and the function of a module that adds it."""

    what: str
    module: str
    adds: str
    given: tuple[str, ...] = ()


TOOLS = {
    "tariff": Tool("check, rate and explain tariffs", "edge.tariffs.commands", "add_tariff_commands"),
    "sim": Tool("a whole site from a seed, with faults and an auditor", "hw.sim.world.commands", "add_sim_commands"),
    "policy": Tool("check policy documents, show templates", "edge.policies.commands", "add_policy_commands"),
    "token": Tool("derive keys, decode and issue tokens", "edge.tokens.commands", "add_token_commands"),
    "meter": Tool("read a meter, list and check meter models", "edge.meter_tool.commands", "add_meter_commands"),
    "bus": Tool(
        "scan a line, set a meter's address or speed", "edge.bus_tool.commands", "add_bus_commands", (VERSION,)
    ),
    "commission": Tool(
        "put a meter into service, check such a record",
        "edge.commission.commands",
        "add_commission_commands",
        (VERSION,),
    ),
    # The cloud's side, and what outsiders need.
    "backend": Tool(
        "receive gateways, keep their ledgers, send orders", "cloud_sync.backend.run_command", "add_backend_commands"
    ),
    "notices": Tool("tell customers what they must know", "cloud_sync.notices.commands", "add_notices_commands"),
    "payments": Tool("take payments from channels over HTTP", "cloud_sync.payments.commands", "add_payments_commands"),
    "fleet": Tool("many gateways against a real cloud", "hw.sim.fleet.commands", "add_fleet_command"),
    "proof": Tool("receipts that anybody can check", "cloud_sync.backend.proof_command", "add_proof_commands"),
    "contract": Tool(
        "export the wire contract for other languages", "cloud_sync.contract.commands", "add_contract_commands"
    ),
    "broker": Tool("configure a broker that keeps gateways apart", "cloud_sync.broker.commands", "add_broker_commands"),
}

# Commands of edge.store, and what they are for: loaded only when they are meant.
STORE_COMMANDS = {
    "verify": "check a stopped store",
    "explain": "why an account is cut, or not",
    "backup": "copy a store, also of a running agent",
}

# Commands of edge.terminal, which ask a running agent.
TERMINAL_COMMANDS = {
    "status": "how the running gateway is",
    "accounts": "all accounts, worst first",
    "account": "one account, and why it is cut or not",
    "events": "the newest records of the log",
    "watch": "a line for each account that changes",
}

RUN_EXAMPLE = """example:
  wattgate run --config /etc/wattgate/gateway.toml
  wattgate run --config gateway.toml --check      reads every file, starts nothing
"""
DEMO_EXAMPLE = """example:
  wattgate demo                          a street in a day every ten seconds, until Ctrl-C
  wattgate demo --seconds 100 --json     the whole story, then one JSON object
"""


def parser_for(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """The parser of these arguments: only the command that is meant has its own."""
    parser = argparse.ArgumentParser(
        prog="wattgate", description="Prepaid electricity, kept right on site.", formatter_class=_CommandList
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    parser.set_defaults(run=lambda options: _version(parser, options))
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    raw = argparse.RawDescriptionHelpFormatter

    run = commands.add_parser("run", help="run the agent", epilog=RUN_EXAMPLE, formatter_class=raw)
    run.add_argument("--config", required=True, type=Path, metavar="FILE", help="the gateway's TOML file")
    run.add_argument("--check", action="store_true", help="check all files, then exit")
    run.add_argument("--json", action="store_true", help="print events as JSON, one object a line")
    run.set_defaults(run=_run)

    demo = commands.add_parser("demo", help="a virtual street", epilog=DEMO_EXAMPLE, formatter_class=raw)
    demo.add_argument("--seconds", type=_positive, metavar="N", help="end after N seconds (default: Ctrl-C ends it)")
    demo.add_argument("--speed", type=_positive, default=8640, metavar="X", help="simulated seconds a second (8640)")
    demo.add_argument("--port", type=_port, default=8080, metavar="P", help="of the console (8080, or the next free)")
    demo.add_argument("--data", type=Path, metavar="DIR", help="keep everything there (default: a temporary folder)")
    demo.add_argument("--broker", choices=("amqtt", "mosquitto"), default="amqtt", help="which broker runs (amqtt)")
    demo.add_argument("--json", action="store_true", help="the last line is one JSON object")
    demo.set_defaults(run=_demo)
    _add_tools(commands, arguments)
    return parser


class _CommandList(argparse.HelpFormatter):
    """The list of commands, each on one line: argparse forgets their indent when it measures the longest."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog)
        self._action_max_length = len("  commission") + 2


def _add_tools(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", arguments: Sequence[str]) -> None:
    """Each tool's own commands are loaded only when they are meant."""
    for name, tool in TOOLS.items():
        if arguments[:1] == [name]:
            getattr(import_module(tool.module), tool.adds)(commands, *tool.given)
        else:
            commands.add_parser(name, help=tool.what)
    if arguments[:1] and arguments[0] in STORE_COMMANDS:
        from edge.store.commands import add_store_commands

        add_store_commands(commands)
    else:
        for name, what in STORE_COMMANDS.items():
            commands.add_parser(name, help=what)
    if arguments[:1] and arguments[0] in TERMINAL_COMMANDS:
        from edge.terminal.commands import add_terminal_commands

        add_terminal_commands(commands, TERMINAL_COMMANDS)
    else:
        for name, what in TERMINAL_COMMANDS.items():
            commands.add_parser(name, help=what)
    from edge.recover import add_recover_command

    add_recover_command(commands)
    if arguments[:1] == ["order"]:
        from cloud_sync.backend.order import add_order_command
        from edge.policies.document import load_policy

        add_order_command(commands, lambda text: load_policy(text, signed_by="check"))
    else:
        commands.add_parser("order", help="place a signed order for a gateway")


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not above 0 and at most 1000000")
    return value


def _port(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 65_536:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, 1 to 65535")
    return int(text)


def _version(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    if not options.version:
        parser.print_help()
        return EXIT_BAD_INPUT
    print(f"wattgate {VERSION}")
    return 0


def _run(options: argparse.Namespace) -> int:
    return run_agent(options.config, check_only=options.check, as_json=options.json)


def _demo(options: argparse.Namespace) -> int:
    from hw.sim.demo import run_demo

    return run_demo(
        options.seconds, options.speed, options.port, options.data, broker=options.broker, as_json=options.json
    )
