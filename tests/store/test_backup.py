"""`wattgate backup`: a whole copy of a journal, also while it is written, that verify finds good."""

import asyncio
import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cloud_sync.wire import record_hash
from edge.agent.local_socket import serve_local_socket
from edge.agent.snapshot import SnapshotSource
from edge.cli import main
from edge.store.journal import SqliteJournal
from edge.store.verify import verify_store

VECTOR = Path(__file__).resolve().parent.parent / "vectors" / "journal_schema_1.db"
GATEWAY = "gw-vector"
LOOK_S = 0.01
NOTE = ("evt", b'{"type":"ConditionNoted","at":1,"condition":"x","account":"","detail":""}')


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder with a journal."""
    (tmp_path / "data").mkdir()
    shutil.copyfile(VECTOR, tmp_path / "data" / "journal.db")
    return tmp_path / "data"


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*arguments: object) -> tuple[int, str, str]:
        status = main([str(argument) for argument in arguments])
        return (status, *capsys.readouterr())

    return run


class Agent(threading.Thread):
    """As much of an agent as answers on the socket, and writes meanwhile."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder, self.ready, self.ended = folder, threading.Event(), False

    def run(self) -> None:
        asyncio.run(self._live())

    async def _live(self) -> None:
        journal = SqliteJournal.open(self.folder / "journal.db", GATEWAY, record_hash)
        serving = asyncio.ensure_future(
            serve_local_socket(self.folder / "agent.sock", SnapshotSource(), journal.backup)
        )
        while not self.ended:
            await journal.append([NOTE, NOTE])
            await asyncio.sleep(LOOK_S)
            if (self.folder / "agent.sock").exists():
                self.ready.set()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        await journal.close()


@pytest.fixture
def agent(folder: Path) -> Iterator[Agent]:
    agent = Agent(folder)
    agent.start()
    assert agent.ready.wait(10)
    yield agent
    agent.ended = True
    agent.join(10)


def test_backup_of_a_running_agent_is_whole_and_good(folder: Path, agent: Agent, said: Any, tmp_path: Path) -> None:
    target = tmp_path / "monday.db"
    assert said("backup", folder, target) == (0, f"{target}\n", "")
    report = verify_store(target, record_hash, None)
    assert report.problems == []
    assert report.records["led"] == 175
    assert report.records["evt"] % 2 == 13 % 2  # commits of two are there or are not
    assert sorted(os.listdir(tmp_path)) == ["data", "monday.db"]


def test_backup_of_a_stopped_store_changes_nothing_of_it(folder: Path, said: Any, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert said("backup", folder, tmp_path / "copy.db")[0] == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert verify_store(tmp_path / "copy.db", record_hash, None).problems == []


def test_file_that_is_there_is_never_written_over(folder: Path, said: Any, tmp_path: Path) -> None:
    (tmp_path / "kept.db").write_text("kept", "utf-8")
    status, text, complaint = said("backup", folder, tmp_path / "kept.db")
    assert (status, text) == (2, "")
    assert complaint.endswith("kept.db: is there already\n")
    assert (tmp_path / "kept.db").read_text("utf-8") == "kept"


def test_running_agent_says_no_too_and_goes_on(folder: Path, agent: Agent, said: Any, tmp_path: Path) -> None:
    assert said("backup", folder, tmp_path / "nowhere" / "x.db")[0] == 2
    (tmp_path / "kept.db").write_text("kept", "utf-8")
    assert said("backup", folder, tmp_path / "kept.db")[0] == 2
    assert said("backup", folder, tmp_path / "good.db")[0] == 0


@pytest.mark.parametrize("question", [b'{"do": "backup", "to": "relative.db"}', b'{"do": "backup", "to": 1}'])
def test_question_without_a_good_place_is_not_answered(folder: Path, agent: Agent, question: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.connect(str(folder / "agent.sock"))
        asking.sendall(question + b"\n")
        assert b"unknown question" in asking.makefile("rb").readline()
    assert not (Path.cwd() / "relative.db").exists()


def test_where_there_is_no_store_one_sentence_says_so(tmp_path: Path, said: Any) -> None:
    status, _, complaint = said("backup", tmp_path, tmp_path / "x.db")
    assert (status, complaint.count("\n")) == (2, 1)
    assert os.listdir(tmp_path) == []
