"""The command line of `wattgate`. Each command loads only what it needs.

Exit status: 0 done, 1 a check found something, 2 bad arguments or a file that cannot be used
(nothing was started), 3 a proof is refused, 70 the agent had to stop by itself.
"""

import argparse
import asyncio
import os
import signal
import sys
import traceback
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge import VERSION

if TYPE_CHECKING:
    from edge.config import Config
    from edge.core.events import Event
    from edge.ports import Clock

EXIT_BAD_INPUT = 2
EXIT_STOPPED = 70
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser(given).parse_args(given)
    run: Callable[[argparse.Namespace], int] = options.run
    return run(options)


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
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
    if arguments[:1] == ["tariff"]:
        from edge.tariffs.commands import add_tariff_commands

        add_tariff_commands(commands)
    else:
        commands.add_parser("tariff", help="check, rate and explain tariffs")
    if arguments[:1] == ["sim"]:
        from hw.sim.world.commands import add_sim_commands

        add_sim_commands(commands)
    else:
        commands.add_parser("sim", help="a whole site from a seed, with faults and an auditor")
    if arguments[:1] == ["policy"]:
        from edge.policies.commands import add_policy_commands

        add_policy_commands(commands)
    else:
        commands.add_parser("policy", help="check policy documents, show templates")
    if arguments[:1] == ["token"]:
        from edge.tokens.commands import add_token_commands

        add_token_commands(commands)
    else:
        commands.add_parser("token", help="derive keys, decode and issue tokens")
    if arguments[:1] == ["meter"]:
        from edge.meter_tool.commands import add_meter_commands

        add_meter_commands(commands)
    else:
        commands.add_parser("meter", help="read a meter, list and check meter models")
    if arguments[:1] == ["bus"]:
        from edge.bus_tool.commands import add_bus_commands

        add_bus_commands(commands, VERSION)
    else:
        commands.add_parser("bus", help="scan a line, set a meter's address or speed")
    if arguments[:1] == ["commission"]:
        from edge.commission.commands import add_commission_commands

        add_commission_commands(commands, VERSION)
    else:
        commands.add_parser("commission", help="put a meter into service, check such a record")
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
    _add_cloud_tools(commands, arguments)


def _add_cloud_tools(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", arguments: Sequence[str]) -> None:
    """What serves the cloud's side, and outsiders."""
    if arguments[:1] == ["order"]:
        from cloud_sync.backend.order import add_order_command
        from edge.policies.document import load_policy

        add_order_command(commands, lambda text: load_policy(text, signed_by="check"))
    else:
        commands.add_parser("order", help="place a signed order for a gateway")
    if arguments[:1] == ["proof"]:
        from cloud_sync.backend.proof_command import add_proof_commands

        add_proof_commands(commands)
    else:
        commands.add_parser("proof", help="receipts that anybody can check")
    if arguments[:1] == ["contract"]:
        from cloud_sync.contract.commands import add_contract_commands

        add_contract_commands(commands)
    else:
        commands.add_parser("contract", help="export the wire contract for other languages")


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
    from edge.bootstrap import anchor_advice, prepare, warnings_of
    from edge.config import ConfigError, read_config
    from edge.meter_tool.show import language_of
    from edge.store.journal import JournalError
    from native.kernel import StaleKernel

    try:
        config = read_config(options.config)
        if not options.check:
            _finish_exchange(config)
        prepared = prepare(config)
        clock = gateway_clock(config)
    except (ConfigError, StaleKernel, JournalError) as error:
        print(f"wattgate: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    for warning in warnings_of(config):
        print(f"wattgate: {warning.text(language_of(os.environ))}", file=sys.stderr)
    if options.check:
        print(f"{options.config}: good")
        return 0
    from edge.bootstrap import run_gateway
    from edge.bus.loop import line_loop

    printer = _EventPrinter(anchor_advice(prepared, language_of(os.environ)), as_json=options.json)
    try:
        with asyncio.Runner(loop_factory=line_loop) as runner:
            served = _until_signalled(lambda stop: run_gateway(prepared, clock, stop, printer.events, printer.ready))
            runner.run(served)
    except (JournalError, OSError) as error:
        return _stopped(error)
    except BaseExceptionGroup as group:
        for cause in group.exceptions:
            _stopped(cause)
        return EXIT_STOPPED
    return 0


def _finish_exchange(config: "Config") -> None:
    """A meter exchange that was interrupted is brought to its end before anything is read. Raises ConfigError."""
    from edge.store.schema import EXCHANGE_FILE

    if not (config.path(config.gateway.data_dir) / EXCHANGE_FILE).exists():
        return
    from edge.commission.exchange_commands import finish_exchange
    from edge.commission.page import say
    from edge.config import ConfigError
    from edge.meter_tool.show import language_of

    language = language_of(os.environ)
    try:
        outcome = finish_exchange(config, language)
    except (ValueError, OSError) as error:
        raise ConfigError(f"{config.gateway.data_dir}/{EXCHANGE_FILE}: {error}") from error
    if outcome != "nothing":
        print(f"wattgate: {say(language, f'exchange.at_start.{outcome}')}", file=sys.stderr)


def _stopped(cause: BaseException) -> int:
    """Tells why the agent ended by itself. What is not expected trouble shows its whole trace."""
    from edge.store.journal import JournalError

    if not isinstance(cause, (JournalError, OSError)):
        traceback.print_exception(cause)
    print(f"wattgate: stopped: {cause}", file=sys.stderr)
    return EXIT_STOPPED


def gateway_clock(config: "Config") -> "Clock":
    """The clock a configuration names. ConfigError if its file is none."""
    from edge.config import ConfigError

    if config.clock.file is None:
        from hw.system_clock import SystemClock

        return SystemClock()
    from hw.sim.clock import ScaledClock

    path = config.path(config.clock.file)
    try:
        return ScaledClock(path)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"{path}: is not a clock file: {error}") from error


async def _until_signalled(work: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Runs `work`, which ends in order once SIGINT or SIGTERM sets its event."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await work(stop)


class _EventPrinter:
    """Events worth seeing, for people or for a program."""

    def __init__(self, advice: str | None, *, as_json: bool) -> None:
        self._advice = advice
        self._as_json = as_json

    def ready(self, address: str | None) -> None:
        import msgspec

        if self._as_json:
            print(msgspec.json.encode({"type": "Ready", "console": address}).decode(), flush=True)
        else:
            print(f"wattgate runs{', console at ' + address if address else ''}", flush=True)
        if self._advice is not None:
            print(f"wattgate: {self._advice}", file=sys.stderr, flush=True)

    def events(self, events: "Sequence[Event]") -> None:
        from edge.store.codec import encode_event

        lines = [encode_event(event) for event in events if event.stream != "rdg"]
        text = [body.decode() if self._as_json else f"{stream} {body.decode()}" for stream, body in lines]
        if text:
            print("\n".join(text), flush=True)


def _demo(options: argparse.Namespace) -> int:
    from hw.sim.demo import run_demo

    return run_demo(
        options.seconds, options.speed, options.port, options.data, broker=options.broker, as_json=options.json
    )


if __name__ == "__main__":
    sys.exit(main())
