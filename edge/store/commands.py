"""`wattgate verify` and `wattgate explain`: what a stopped store, or a backup, holds. `wattgate backup` makes one.

Exit status: 0 all is well, 1 verify found something, 2 there is nothing to look at or an option is
wrong, said in one sentence. None of them changes a byte of the store.
"""

import argparse
import json
import socket
import sqlite3
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cloud_sync.wire import record_hash
from edge.core.events import AccountOpened
from edge.core.units import UnixSeconds
from edge.store.chain import ChainBroken, ChainCheck
from edge.store.codec import decode_event
from edge.store.explain import Explanation, Kept, explain
from edge.store.explain_words import LANGUAGES, ExplainWords
from edge.store.journal import write_backup
from edge.store.store_copy import StoreUnusable, anchor_file_of, opened_copy
from edge.store.verify import Report, verify_store
from edge.zone import zone_offsets
from hw.file_anchor import FileAnchor

EXIT_FOUND, EXIT_BAD_INPUT = 1, 2

VERIFY_EXAMPLE = """example:
  wattgate verify /var/lib/wattgate            the data folder of a stopped agent
  wattgate verify backup.db --json             one file; its anchor stayed with the gateway
"""
EXPLAIN_EXAMPLE = """example:
  wattgate explain /var/lib/wattgate A02                                  now, which is the end of the journal
  wattgate explain backup.db A02 --at 2026-03-20T12:00 --lang zh          at that local time
  wattgate explain backup.db A02 --at 1773979200 --json                   every record, word for word
"""
BACKUP_EXAMPLE = """example:
  wattgate backup /var/lib/wattgate monday.db      of a running agent (asked over its socket) or a stopped one
"""
YEAR_MAX = 9000
SOCKET_FILE = "agent.sock"
ANSWER_S_MAX = 600.0


def add_store_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the commands that look at a store to those of `wattgate`."""
    raw = argparse.RawDescriptionHelpFormatter
    verify = commands.add_parser("verify", help="check a stopped store", epilog=VERIFY_EXAMPLE, formatter_class=raw)
    verify.add_argument("store", type=Path, metavar="STORE", help="a data folder, or a journal's file")
    verify.add_argument("--anchor", type=Path, metavar="FILE", help="the anchor's file (default: beside the journal)")
    verify.add_argument("--json", action="store_true", help="print one JSON object")
    verify.set_defaults(run=_guarded(_verify))

    told = commands.add_parser(
        "explain", help="why an account is cut, or not", epilog=EXPLAIN_EXAMPLE, formatter_class=raw
    )
    told.add_argument("store", type=Path, metavar="STORE", help="a data folder, or a journal's file")
    told.add_argument("account", metavar="ACCOUNT", help="the account's id")
    told.add_argument("--at", type=_instant, metavar="TIME", help="ISO time, local without offset, or Unix seconds")
    told.add_argument("--lang", choices=LANGUAGES, default="en", help="language of the words (en)")
    told.add_argument("--json", action="store_true", help="print one JSON object")
    told.set_defaults(run=_guarded(_explain))

    backup = commands.add_parser("backup", help="copy a store", epilog=BACKUP_EXAMPLE, formatter_class=raw)
    backup.add_argument("store", type=Path, metavar="STORE", help="the agent's data folder, or a journal's file")
    backup.add_argument("target", type=Path, metavar="TARGET", help="the file to write; it must not be there yet")
    backup.set_defaults(run=_guarded(_backup))


def _instant(text: str) -> datetime:
    """An instant; without an offset it is local time where the store is."""
    try:
        found = datetime.fromtimestamp(int(text), UTC) if text.isdigit() else datetime.fromisoformat(text)
    except (ValueError, OverflowError, OSError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 2026-03-20T12:00 or 1773979200") from error
    if not 1970 < found.year < YEAR_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is not in the years 1971 to {YEAR_MAX - 1}")
    return found


def _guarded(command: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    def run(options: argparse.Namespace) -> int:
        try:
            return command(options)
        except StoreUnusable as error:
            sys.stderr.write(f"wattgate: {error}\n")
            return EXIT_BAD_INPUT

    return run


def _verify(options: argparse.Namespace) -> int:
    if options.anchor is not None and not options.anchor.is_file():
        raise StoreUnusable(f"{options.anchor}: there is no anchor")
    report = verify_store(options.store, record_hash, FileAnchor(options.anchor or anchor_file_of(options.store)))
    text = json.dumps(asdict(report)) if options.json else _report_text(report)
    sys.stdout.write(text + "\n")
    return EXIT_FOUND if report.problems else 0


def _report_text(report: Report) -> str:
    """One line per problem, or one that says what was found good."""
    if report.problems:
        where = ((found.stream if found.seq is None else f"{found.stream} {found.seq}") for found in report.problems)
        return "\n".join(f"{place}: {found.problem}" for place, found in zip(where, report.problems, strict=True))
    records = ", ".join(f"{stream} {count}" for stream, count in report.records.items())
    return f"{report.store}: good; {records}, {report.checkpoints} checkpoints, anchor: {report.anchor}"


# --- explain ---------------------------------------------------------------------------------


def _explain(options: argparse.Namespace) -> int:
    records = _kept(options.store)
    site = _Site(records)
    accounts = sorted({kept.event.account for kept in records if isinstance(kept.event, AccountOpened)})
    if options.account not in accounts:
        known = ", ".join(accounts) or "none"
        raise StoreUnusable(f"{options.store}: there is no account {options.account!r}; there are: {known}")
    at = None if options.at is None else site.unix(options.at)
    found = explain(records, options.account, at)
    words = ExplainWords(options.lang, site.currency, site.minor_digits, site.offset_at)
    text = json.dumps(_explain_json(found, words), ensure_ascii=False) if options.json else _explain_text(found, words)
    sys.stdout.write(text + "\n")
    return 0


def _kept(store: Path) -> list[Kept]:
    """All records as events. StoreUnusable at the first that cannot be relied on."""
    with opened_copy(store) as (connection, _version):
        try:
            ((gateway_id,),) = connection.execute("SELECT gateway_id FROM identity").fetchall()
            return list(_checked(connection, ChainCheck(gateway_id, record_hash)))
        except (sqlite3.Error, ValueError) as error:
            raise StoreUnusable(f"{store}: {error}; `wattgate verify` says more") from error


def _checked(connection: sqlite3.Connection, chain: ChainCheck) -> Iterator[Kept]:
    for row in connection.execute("SELECT stream, epoch, seq, hash, body FROM record ORDER BY place"):
        record = chain.take(row)
        try:
            yield Kept(record.stream, record.seq, decode_event(record.body))
        except ValueError as error:
            raise ChainBroken(record.stream, record.seq, f"{record.stream} {record.seq}: {error}") from error


class _Site:
    """Money and clock of a store, which stand in its tariff documents."""

    def __init__(self, records: list[Kept]) -> None:
        documents = (getattr(kept.event, "document", None) for kept in records)
        document: dict[str, Any] = next((json.loads(text) for text in documents if text is not None), {})
        self.currency = str(document.get("currency", ""))
        self.minor_digits = int(document.get("minor_digits", 2))
        times = [int(kept.event.at) for kept in records] or [0]
        self._zone = zone_offsets(str(document.get("time_zone", "UTC")), min(times), max(times))

    def offset_at(self, at: int) -> int:
        """The local offset from UTC in seconds."""
        return self._zone.offset_at(at)

    def unix(self, time: datetime) -> UnixSeconds:
        """An instant as Unix seconds; a local one by the site's clock."""
        if time.tzinfo is not None:
            return UnixSeconds(int(time.timestamp()))
        guess = int(time.replace(tzinfo=UTC).timestamp())
        offset = self.offset_at(guess)
        return UnixSeconds(int((time.replace(tzinfo=UTC) - timedelta(seconds=offset)).timestamp()))


def _explain_text(found: Explanation, words: ExplainWords) -> str:
    lines = [words.verdict(found), "", words.text("chain")]
    for kept in found.chain:
        mark = "*" if kept in found.verdict.because else " "
        lines.append(f"{mark} {words.time(kept.event.at)}  {kept.stream} {kept.seq:<6} {words.sentence(kept)}")
    return "\n".join([*lines, "", f"* {words.text('because')}"])


def _explain_json(found: Explanation, words: ExplainWords) -> dict[str, Any]:
    verdict = asdict(found.verdict)
    verdict["because"] = [{"stream": kept.stream, "seq": kept.seq} for kept in found.verdict.because]
    return {
        "account": found.account,
        "at": found.at,
        "text": words.verdict(found),
        "verdict": verdict,
        "chain": [
            {
                "stream": kept.stream,
                "seq": kept.seq,
                "at": kept.event.at,
                "type": type(kept.event).__name__,
                "text": words.sentence(kept),
                "because": kept in found.verdict.because,
            }
            for kept in found.chain
        ],
    }


# --- backup ----------------------------------------------------------------------------------


def _backup(options: argparse.Namespace) -> int:
    target = options.target.absolute()
    if not _asked_agent(options.store / SOCKET_FILE, target):
        try:
            with opened_copy(options.store) as (connection, _version):
                write_backup(connection, target)
        except OSError as error:
            raise StoreUnusable(str(error)) from error
    sys.stdout.write(f"{target}\n")
    return 0


def _asked_agent(path: Path, target: Path) -> bool:
    """Whether a running agent wrote the backup. StoreUnusable if it would not."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(ANSWER_S_MAX)
        try:
            asking.connect(str(path))
        except OSError:
            return False  # nobody runs: the files can be copied
        asking.sendall(json.dumps({"do": "backup", "to": str(target)}).encode() + b"\n")
        answer = json.loads(asking.makefile("rb").readline() or b'{"error": "the agent ended"}')
    if "error" in answer:
        raise StoreUnusable(answer["error"])
    return True
