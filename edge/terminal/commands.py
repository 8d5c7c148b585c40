"""`wattgate status`, `accounts`, `account ID`, `events`, `watch`: what a running agent shows, in a shell.

Exit status: 0, or 2 with a sentence when no agent answers, or an account is not there.
"""

import argparse
import json
import os
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from edge.agent.snapshot import StreetSnapshot
from edge.console.formats import Formats, formats_for
from edge.console.kinds import KINDS, OTHER, is_of_kind
from edge.console.language import LANGUAGES, choose, load_languages
from edge.console.street import conditions
from edge.terminal.ask import Agent, NoAnswer
from edge.terminal.show import LOW_DAYS, account_lines, change_lines, event_lines, one_account_lines, status_lines

EXIT_BAD_INPUT = 2
DATA_FOLDER = Path("/var/lib/wattgate")
WATCH_INTERVAL_S = 1.0
EVENTS_MAX = 500
_BATCHES_MAX = 20
EXAMPLES = {
    "status": "example:\n  wattgate status --data /var/lib/wattgate",
    "accounts": "example:\n  wattgate accounts --show cut --lang zh-CN",
    "account": "example:\n  wattgate account A02 --json",
    "events": "example:\n  wattgate events --account A02 --kind payments --count 20",
    "watch": "example:\n  wattgate watch --seconds 60",
}


def add_terminal_commands(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", helps: Mapping[str, str]
) -> None:
    """Adds the commands that ask a running agent to those of `wattgate`; `helps` says by name what each is for."""

    def add(name: str, run: Callable[[argparse.Namespace, Agent], None]) -> argparse.ArgumentParser:
        return _add(commands, name, helps[name], run)

    add("status", _status)
    accounts = add("accounts", _accounts)
    accounts.add_argument("--show", choices=tuple(conditions(LOW_DAYS)), help="only those in this state")
    account = add("account", _account)
    account.add_argument("account", metavar="ID", help="the account's id")
    events = add("events", _events)
    events.add_argument("--account", metavar="ID", help="only of this account")
    events.add_argument("--kind", choices=(*KINDS, OTHER), help="only of this kind")
    events.add_argument("--count", type=_count, default=20, metavar="N", help=f"so many, 1 to {EVENTS_MAX} (20)")
    watch = add("watch", _watch)
    watch.add_argument("--seconds", type=_seconds, metavar="N", help="end after N seconds (default: Ctrl-C ends it)")


def _add(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    what: str,
    run: Callable[[argparse.Namespace, Agent], None],
) -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = commands.add_parser(name, help=what, epilog=EXAMPLES[name], formatter_class=raw)
    parser.add_argument(
        "--data", type=Path, default=DATA_FOLDER, metavar="DIR", help=f"the agent's data folder ({DATA_FOLDER})"
    )
    parser.add_argument("--lang", choices=tuple(LANGUAGES), help="language of the words (that of the shell)")
    parser.add_argument("--json", action="store_true", help="print what the agent answers, as JSON")
    parser.set_defaults(run=lambda options: _guarded(run, options))
    return parser


def _guarded(run: Callable[[argparse.Namespace, Agent], None], options: argparse.Namespace) -> int:
    try:
        with Agent(options.data) as agent:
            run(options, agent)
    except NoAnswer as error:
        sys.stderr.write(f"wattgate: {error}\n")
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        pass  # how `watch` is ended
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `| head` has enough; say nothing at the end
    return 0


def _status(options: argparse.Namespace, agent: Agent) -> None:
    if options.json:
        _say_json({"status": agent.ask({"do": "status"}, "status"), "details": agent.ask({"do": "details"}, "details")})
        return
    snapshot = agent.snapshot()
    _say(status_lines(snapshot, _formats(options, snapshot)))


def _accounts(options: argparse.Namespace, agent: Agent) -> None:
    snapshot = agent.snapshot()
    if options.json:
        holds = conditions(LOW_DAYS)[options.show or "good"]
        wanted = {view.account_id for view in snapshot.accounts if holds(view)}
        answer = agent.ask({"do": "status"}, "status")["accounts"]
        _say_json([one for one in answer if one["account_id"] in wanted])
        return
    _say(account_lines(snapshot, _formats(options, snapshot), options.show))


def _account(options: argparse.Namespace, agent: Agent) -> None:
    snapshot = agent.snapshot()
    view = next((one for one in snapshot.accounts if one.account_id == options.account), None)
    if view is None:
        known = ", ".join(one.account_id for one in snapshot.accounts) or "none"
        raise NoAnswer(f"account {options.account!r} is not there; there are: {known}")
    if options.json:
        answer = agent.ask({"do": "status"}, "status")["accounts"]
        _say_json(next(one for one in answer if one["account_id"] == options.account))
        return
    _say(one_account_lines(view, snapshot, _formats(options, snapshot)))


def _events(options: argparse.Namespace, agent: Agent) -> None:
    records = _found(options, agent)
    if options.json:
        for record in records:
            _say_json(record)
        return
    snapshot = agent.snapshot()
    _say(event_lines(records, snapshot, _formats(options, snapshot)))


def _found(options: argparse.Namespace, agent: Agent) -> list[dict[str, Any]]:
    """The newest records that the filter leaves, newest first, out of at most `_BATCHES_MAX` answers."""
    found: list[dict[str, Any]] = []
    before: int | None = None
    for _ in range(_BATCHES_MAX):
        batch = agent.ask({"do": "events", "count": EVENTS_MAX, "before": before}, "events")
        wanted = (one for one in batch if options.account in (None, one.get("account")))
        found += [one for one in wanted if is_of_kind(one, options.kind or "")]
        if len(found) >= options.count or len(batch) < EVENTS_MAX:
            break
        before = batch[-1]["order"]
    return found[: options.count]


def _watch(options: argparse.Namespace, agent: Agent) -> None:
    before: StreetSnapshot | None = None
    never = threading.Event()
    rounds = None if options.seconds is None else int(options.seconds / WATCH_INTERVAL_S)
    while True:
        now = agent.snapshot()
        lines = change_lines(before, now, _formats(options, now))
        if options.json:
            for line in lines:
                _say_json({"at": now.at, "text": line})
        else:
            _say(lines)
        before = now
        if rounds is not None and rounds <= 0:
            return
        rounds = None if rounds is None else rounds - 1
        never.wait(WATCH_INTERVAL_S)


def _formats(options: argparse.Namespace, snapshot: StreetSnapshot) -> Formats:
    shell = os.environ.get("LC_ALL") or os.environ.get("LC_MESSAGES") or os.environ.get("LANG") or ""
    tag = choose(options.lang, shell.partition("_")[0], "", "en")
    return formats_for(snapshot, load_languages()[tag])


def _say(lines: Iterable[str]) -> None:
    text = "".join(line + "\n" for line in lines)
    sys.stdout.write(text)
    sys.stdout.flush()


def _say_json(value: Any) -> None:
    _say([json.dumps(value, ensure_ascii=True, default=_exact)])


def _exact(value: object) -> str:
    """A measured value keeps its digits."""
    assert isinstance(value, Decimal)
    return str(value)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 9 and 0 < int(text) <= EVENTS_MAX):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {EVENTS_MAX}")
    return int(text)


def _seconds(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < len(text) < 7):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to 999999")
    return int(text)
