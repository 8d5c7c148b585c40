"""Answers of a running agent, over its local socket: snapshots as the agent has them, and raw ones for programs."""

import json
import socket
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

import msgspec

from edge.agent.snapshot import StreetSnapshot

SOCKET_FILE = "agent.sock"
ANSWER_S_MAX = 30.0


class NoAnswer(Exception):
    """Nobody answers, or not as asked. The text says what and where."""


class Agent:
    """A connection to the agent of a data folder. Use it as a context."""

    def __init__(self, folder: Path) -> None:
        """NoAnswer when no agent runs there."""
        self._path = folder / SOCKET_FILE
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(ANSWER_S_MAX)
        try:
            self._socket.connect(str(self._path))
        except OSError as error:
            self._socket.close()
            raise NoAnswer(_why_not(folder, self._path, error)) from error
        self._answers = self._socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._answers.close()
        self._socket.close()

    def ask(self, question: Mapping[str, Any], name: str) -> Any:
        """What the agent answers under this name, as JSON. NoAnswer if it refuses or ends."""
        answer = json.loads(self._line(question), parse_float=Decimal)
        if "error" in answer:
            raise NoAnswer(f"{self._path}: {answer['error']}")
        return answer[name]

    def snapshot(self) -> StreetSnapshot:
        """The street as of the last round. NoAnswer before the first."""
        answer = msgspec.json.decode(self._line({"do": "status"}), type=dict[str, StreetSnapshot | None])
        snapshot = answer["status"]
        if snapshot is None:
            raise NoAnswer(f"{self._path}: the agent is starting; ask again in a few seconds")
        return snapshot

    def _line(self, question: Mapping[str, Any]) -> bytes:
        try:
            self._socket.sendall(json.dumps(question).encode() + b"\n")
            line = self._answers.readline()
        except OSError as error:
            raise NoAnswer(f"{self._path}: {error.strerror or error}") from error
        if not line:
            raise NoAnswer(f"{self._path}: the agent ended")
        return line


def _why_not(folder: Path, path: Path, error: OSError) -> str:
    if isinstance(error, PermissionError):
        return f"{path}: may be asked only by the user the agent runs as"
    if not folder.is_dir():
        return f"{folder}: is not there; name the agent's data folder with --data"
    return f"{path}: no agent runs there; start it, or name its data folder with --data"
