"""The gateway's local socket: commands that look at a running gateway ask here. JSON, one object a line.

{"do": "status"} answers with the snapshot of the last round. Only the user the agent runs as can
open it (mode 0600). It reads; nothing can be changed by it.
"""

import asyncio
import os
from pathlib import Path
from typing import Any

import msgspec

from edge.agent.snapshot import SnapshotSource

LINE_BYTES_MAX = 4096


async def serve_local_socket(path: Path, source: SnapshotSource) -> None:
    """Answers until cancelled. A socket file left by an agent that was killed is replaced."""
    path.unlink(missing_ok=True)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(msgspec.json.encode(_answer(line, source), enc_hook=_plain) + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):
            return  # the asker is gone, or sent a line of more than LINE_BYTES_MAX
        finally:
            writer.close()

    mask = os.umask(0o177)
    try:
        server = await asyncio.start_unix_server(answer, path, limit=LINE_BYTES_MAX)
    finally:
        os.umask(mask)
    async with server:
        await server.serve_forever()


def _answer(line: bytes, source: SnapshotSource) -> Any:
    try:
        question = msgspec.json.decode(line)
    except msgspec.DecodeError:
        return {"error": "not JSON"}
    if question == {"do": "status"}:
        return {"status": source.current}
    return {"error": 'unknown question; allowed is {"do": "status"}'}


def _plain(value: Any) -> Any:
    """Read-only mappings of a snapshot as plain ones."""
    return dict(value)
