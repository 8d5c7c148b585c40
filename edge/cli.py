"""The command line of `wattgate`. Each command loads only what it needs.

Exit status: 0 done, 1 a check found something, 2 bad arguments or a file that cannot be used
(nothing was started), 3 a proof is refused, 70 the agent had to stop by itself.
"""

import gc
import os
import signal
import sys
import traceback
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

    from edge.config import Config
    from edge.core.events import Event
    from edge.ports import Clock

EXIT_BAD_INPUT = 2
EXIT_STOPPED = 70
ZONE_FILES = Path("/usr/share/zoneinfo")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    # What a unit file says. It needs no argparse, which a running agent would keep: 1.4 MB.
    if given[:2] == ["run", "--config"] and len(given) == 3 and not given[2].startswith("-"):
        return run_agent(Path(given[2]))
    from edge.cli_parser import parser_for

    options = parser_for(given).parse_args(given)
    run: Callable[[Any], int] = options.run
    return run(options)


def run_agent(file: Path, *, check_only: bool = False, as_json: bool = False) -> int:
    """Runs the agent of a configuration until it is told to end."""
    gc.disable()  # until it runs: what is loaded stays, and to look through it again and again was a fifth of the start
    try:
        return _load_and_run(file, check_only, as_json)
    finally:
        gc.enable()


def _load_and_run(file: Path, check_only: bool, as_json: bool) -> int:
    from edge.left_out import unused_modules, without

    if ZONE_FILES.is_dir():
        # Else zoneinfo reads how Python was built, only to find this out.
        os.environ.setdefault("PYTHONTZPATH", str(ZONE_FILES))

    with without(unused_modules(has_tls=False)):
        from edge.config import ConfigError, read_config
    try:
        config = read_config(file)
    except ConfigError as error:
        return _refused(error)
    with without(unused_modules(has_tls=config.has_tls)):
        import asyncio  # noqa: F401  # looks for ssl once, when it is imported

        import edge.bootstrap  # noqa: F401
    return _run_loaded(config, check_only, as_json)


def _run_loaded(config: "Config", check_only: bool, as_json: bool) -> int:
    import asyncio

    from edge.bootstrap import anchor_advice, prepare, run_gateway, warnings_of
    from edge.bus.loop import line_loop
    from edge.config import ConfigError
    from edge.meter_tool.language import language_of
    from edge.store.journal import JournalError
    from native.kernel import StaleKernel

    try:
        if not check_only:
            _finish_exchange(config)
        prepared = prepare(config)
        clock = gateway_clock(config)
    except (ConfigError, StaleKernel, JournalError) as error:
        return _refused(error)
    for warning in warnings_of(config):
        print(f"wattgate: {warning.text(language_of(os.environ))}", file=sys.stderr)
    if check_only:
        print(f"{config.file}: good")
        return 0
    printer = _EventPrinter(anchor_advice(prepared, language_of(os.environ)), as_json=as_json)
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
    from edge.meter_tool.language import language_of

    language = language_of(os.environ)
    try:
        outcome = finish_exchange(config, language)
    except (ValueError, OSError) as error:
        raise ConfigError(f"{config.gateway.data_dir}/{EXCHANGE_FILE}: {error}") from error
    if outcome != "nothing":
        print(f"wattgate: {say(language, f'exchange.at_start.{outcome}')}", file=sys.stderr)


def _refused(problem: Exception) -> int:
    print(f"wattgate: {problem}", file=sys.stderr)
    return EXIT_BAD_INPUT


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


async def _until_signalled(work: Callable[["asyncio.Event"], Coroutine[Any, Any, None]]) -> None:
    """Runs `work`, which ends in order once SIGINT or SIGTERM sets its event."""
    import asyncio

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

        gc.enable()
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


if __name__ == "__main__":
    sys.exit(main())
