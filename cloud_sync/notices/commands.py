"""`wattgate notices`: sends notices to customers, and keeps their addresses.

Exit status: 0 done, 1 notices failed or are in doubt, 2 bad arguments or a file that cannot be used.
"""

import argparse
import json
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cloud_sync.backend.commands import CommandDesk
from cloud_sync.backend.database import Database, failures, open_existing
from cloud_sync.keys import KEYRING_FILE, load_key_ring, load_signers
from cloud_sync.notices import outbox
from cloud_sync.notices.channels import open_channels
from cloud_sync.notices.contacts import Contact, add_contact, contacts_of, remove_contact
from cloud_sync.notices.delivery import Delivery, Done
from cloud_sync.notices.settings import CHANNELS, LANGUAGES, load_settings
from cloud_sync.notices.states import NotPossible, State

EXIT_FOUND: Final = 1
EXIT_BAD_INPUT: Final = 2
INTERVAL_S: Final = 15
EXAMPLE: Final = """example:
  wattgate notices run --db cloud.db --keys keys --config notices.json --once --json
  wattgate notices contacts --db cloud.db add gw-1 A01 sms +8613800138000 --language zh --verified
  wattgate notices contacts --db cloud.db list
  wattgate notices list --db cloud.db --state in_doubt
  wattgate notices resend --db cloud.db gw-1 A01 2 1798646400
notices.json:
  {"zone": "Asia/Shanghai", "name": "Power Supply", "quiet_from": "21:00", "quiet_until": "08:00",
   "sms": {"url": "https://sms.example/messages", "token_file": "sms.token"},
   "email": {"host": "mail.example", "sender": "notices@example.org", "user": "u", "password_file": "mail.password"}}
"""
_Asked = argparse.Namespace


def add_notices_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `notices` and its commands to those of `wattgate`."""
    notices = _command(commands, "notices", "tell customers what they must know")
    kinds = notices.add_subparsers(required=True, metavar="COMMAND")
    run = _with_database(_command(kinds, "run", "send what is due, until Ctrl-C", _run))
    run.add_argument("--keys", required=True, type=Path, metavar="DIR", help="keyring.json and <kid>.pem: an ops key")
    run.add_argument("--config", required=True, type=Path, metavar="FILE", help="channels, quiet hours, limits (JSON)")
    run.add_argument("--once", action="store_true", help="one look at everything, then end")
    listing = _with_database(_command(kinds, "list", "notices and everything that was tried", _list))
    listing.add_argument("--state", choices=[state.value for state in State], help="(default: all)")
    again = _with_database(_command(kinds, "resend", "send a notice again that failed or is in doubt", _resend))
    _notice_key(again)
    contacts = _with_database(_command(kinds, "contacts", "whom to tell"))
    doings = contacts.add_subparsers(required=True, metavar="COMMAND")
    add = _command(doings, "add", "set the address of an account for a channel", _add)
    _contact_key(add)
    add.add_argument("address", metavar="ADDRESS", help="+8613800138000, name@example.org or https://...")
    add.add_argument("--language", choices=LANGUAGES, default="zh", help="(zh)")
    add.add_argument("--preference", type=int, default=1, metavar="N", help="the lowest is tried first (1)")
    add.add_argument("--verified", action="store_true", help="it is known to be the customer's: delivery is a receipt")
    _contact_key(_command(doings, "remove", "forget it", _remove))
    _command(doings, "list", "all addresses, in the order they are tried", _list_contacts)


def _command(
    kinds: Any, name: str, what: str, run: Callable[[Database, _Asked], int] | None = None
) -> argparse.ArgumentParser:
    raw: Any = argparse.RawDescriptionHelpFormatter
    command: argparse.ArgumentParser = kinds.add_parser(name, help=what, epilog=EXAMPLE, formatter_class=raw)
    if run is not None:
        command.set_defaults(run=_opened, do=run)
    return command


def _with_database(command: argparse.ArgumentParser) -> argparse.ArgumentParser:
    what = "the backend's database: a file, sqlite:///FILE or postgresql://..."
    command.add_argument("--db", required=True, metavar="DB", help=what)
    command.add_argument("--json", action="store_true", help="one object for programs")
    return command


def _contact_key(command: argparse.ArgumentParser) -> None:
    command.add_argument("gateway", metavar="GATEWAY")
    command.add_argument("account", metavar="ACCOUNT")
    command.add_argument("channel", choices=CHANNELS)


def _notice_key(command: argparse.ArgumentParser) -> None:
    command.add_argument("gateway", metavar="GATEWAY")
    command.add_argument("account", metavar="ACCOUNT")
    command.add_argument("number", type=int, choices=(1, 2, 3))
    command.add_argument("raised_at", type=int, metavar="RAISED_AT", help="Unix seconds, as `list` shows it")


def _opened(asked: _Asked) -> int:
    try:
        with closing(open_existing(asked.db)) as database:
            status: int = asked.do(database, asked)
            return status
    except failures(OSError, ValueError, NotPossible) as error:
        sys.stderr.write(f"wattgate notices: {error}\n")
        return EXIT_BAD_INPUT


def _run(database: Database, asked: _Asked) -> int:
    settings = load_settings(asked.config)
    desk = CommandDesk(database, load_key_ring(asked.keys / KEYRING_FILE), load_signers(asked.keys))
    delivery = Delivery(database, desk, settings, open_channels(settings), _now)
    if asked.once:
        done = delivery.run_once()
        _say(asked, asdict(done), _sentence(done))
        return EXIT_FOUND if done.states.get("failed") or done.states.get("in_doubt") else 0
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: stop.set())
    while not stop.is_set():
        done = delivery.run_once()
        if done.read or done.sent or done.receipts:
            _say(asked, asdict(done), _sentence(done))
        stop.wait(INTERVAL_S)
    return 0


def _sentence(done: Done) -> str:
    sent = ", ".join(f"{count} {answer}" for answer, count in sorted(done.sent.items())) or "nothing sent"
    states = ", ".join(f"{count} {state}" for state, count in done.states.items()) or "none"
    return f"{done.read} new; {sent}; {done.receipts} receipts to gateways; notices: {states}"


def _list(database: Database, asked: _Asked) -> int:
    facts: list[dict[str, Any]] = []
    for state in State if asked.state is None else [State(asked.state)]:
        for notice in outbox.in_state(database, state):
            attempts = [asdict(attempt) for attempt in outbox.attempts_of(database, notice)]
            key = dict(zip(("gateway", "account", "number", "raised_at"), notice.key, strict=True))
            facts.append({**key, "state": state.value, "due_at": notice.due_at, "attempts": attempts})
    lines = []
    for fact in facts:
        tried = "; ".join(f"{attempt['channel']} {attempt['outcome']}" for attempt in fact["attempts"])
        key_words = " ".join(str(fact[name]) for name in ("gateway", "account", "number", "raised_at"))
        lines.append(f"{key_words}  {fact['state']}  {tried}".rstrip())
    _say(asked, {"notices": facts}, "\n".join(lines) or "no notices")
    return 0


def _resend(database: Database, asked: _Asked) -> int:
    outbox.resend(database, (asked.gateway, asked.account, asked.number, asked.raised_at), _now())
    _say(asked, {"waiting": True}, "waits to be sent again")
    return 0


def _add(database: Database, asked: _Asked) -> int:
    verified_at = _now() if asked.verified else None
    contact = Contact(
        asked.gateway, asked.account, asked.channel, asked.address, asked.language, asked.preference, verified_at
    )
    add_contact(database, contact, _now())
    _say(asked, asdict(contact), f"{asked.gateway} {asked.account} {asked.channel} {asked.address}")
    return 0


def _remove(database: Database, asked: _Asked) -> int:
    if not remove_contact(database, asked.gateway, asked.account, asked.channel):
        raise ValueError(f"{asked.gateway} {asked.account} has no address for {asked.channel}")
    _say(asked, {"removed": True}, "removed")
    return 0


def _list_contacts(database: Database, asked: _Asked) -> int:
    contacts = contacts_of(database)
    lines = [
        f"{contact.gateway_id} {contact.account_id} {contact.channel} {contact.address} {contact.language}"
        f" {contact.preference} {'not verified' if contact.verified_at is None else 'verified'}"
        for contact in contacts
    ]
    _say(asked, {"contacts": [asdict(contact) for contact in contacts]}, "\n".join(lines) or "no contacts")
    return 0


def _say(asked: _Asked, facts: Any, line: str) -> None:
    sys.stdout.write((json.dumps(facts, ensure_ascii=False) if asked.json else line) + "\n")
    sys.stdout.flush()


def _now() -> int:
    return int(datetime.now(UTC).timestamp())
