"""The gateway's local socket: commands that look at a running gateway ask here. JSON, one object a line.

{"do": "status"} answers with the snapshot of the last round, {"do": "details"} with what is made only for whoever
asks, {"do": "events", "count": 50, "before": 900} with records of the journal, newest first, and
{"do": "backup", "to": "/a/file"} writes a copy of the journal there. Only the user the agent runs as can open it
(mode 0600). It reads; nothing of the gateway can be changed by it.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from edge.agent.snapshot import SnapshotSource
from edge.ports import LedgerReader

LINE_BYTES_MAX = 4096
EVENTS_MAX = 500  # of one answer: commits take their turn between two
PATH_BYTES_MAX = 107  # sun_path of unix(7), without its end


async def serve_local_socket(
    path: Path,
    source: SnapshotSource,
    backup: Callable[[Path], Awaitable[None]] | None = None,
    ledger: LedgerReader | None = None,
) -> None:
    """Answers until cancelled. A socket file left by an agent that was killed is replaced.

    `backup` writes a copy of the journal, or raises OSError. Raises OSError with a sentence for people
    when the socket cannot be made.
    """
    if len(os.fsencode(path)) > PATH_BYTES_MAX:
        raise OSError(f"{path}: too long for a socket, at most {PATH_BYTES_MAX} bytes")
    path.unlink(missing_ok=True)
    askers: set[asyncio.StreamWriter] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        askers.add(writer)
        try:
            while line := await reader.readline():
                writer.write(msgspec.json.encode(await _answer(line, source, backup, ledger), enc_hook=_plain) + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):
            return  # the asker is gone, or sent a line of more than LINE_BYTES_MAX
        finally:
            askers.discard(writer)
            writer.close()

    mask = os.umask(0o177)
    try:
        server = await asyncio.start_unix_server(answer, path, limit=LINE_BYTES_MAX)
    finally:
        os.umask(mask)
    try:
        # Not serve_forever(): from Python 3.12 on it waits, when cancelled, for everybody still connected.
        await asyncio.get_running_loop().create_future()
    finally:
        server.close()
        for asker in list(askers):
            asker.transport.abort()


async def _answer(
    line: bytes,
    source: SnapshotSource,
    backup: Callable[[Path], Awaitable[None]] | None,
    ledger: LedgerReader | None,
) -> Any:
    try:
        question = msgspec.json.decode(line)
    except msgspec.DecodeError:
        return {"error": "not JSON"}
    if question == {"do": "status"}:
        return {"status": source.current}
    match question:
        case {"do": "details"} if source.details is not None:
            try:
                return {"details": source.details()}
            except OSError as error:
                return {"error": str(error)}
        case {"do": "events", "count": int(count)} if ledger is not None and 0 < count <= EVENTS_MAX:
            before = question.get("before")
            if before is None or (type(before) is int and 0 <= before < 1 << 62):
                return {"events": await ledger.event_records(count, before)}
        case {"do": "backup", "to": str(target)} if backup is not None and Path(target).is_absolute():
            try:
                await backup(Path(target))
            except OSError as error:
                return {"error": str(error)}
            return {"backup": target}
    allowed = ['{"do": "status"}']
    allowed += ['{"do": "details"}'] if source.details is not None else []
    allowed += [f'{{"do": "events", "count": 1 to {EVENTS_MAX}}}'] if ledger is not None else []
    allowed += ['{"do": "backup", "to": "/a/file"}'] if backup is not None else []
    return {"error": "unknown question; allowed is " + " or ".join(allowed)}


def _plain(value: Any) -> Any:
    """Read-only mappings of a snapshot as plain ones."""
    return dict(value)
