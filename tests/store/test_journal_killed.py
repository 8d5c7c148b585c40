"""The journal under kill -9: whatever was acknowledged is there, whole, and nothing is half there.

A real process appends and says each sequence number once its commit has returned. It is killed
at a moment of its own, and the next one goes on in the same file.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import IO, Any

import pytest

KILLS = 30

# Forks one writer for each line it is given, so that a kill costs no start of an interpreter.
WRITERS = """
import asyncio, os, sys
from pathlib import Path
from cloud_sync.wire import record_hash
from edge.store.journal import SqliteJournal

async def write(path):
    journal = SqliteJournal.open(path, "gw-1", record_hash)
    while True:
        first = journal.heads()["led"].seq + 1
        batch = [("led", b'{"account":"A1","number":%d}' % number) for number in range(first, first + 3)]
        records = await journal.append([*batch, ("evt", b'{"batch":%d}' % first)])
        journal.acknowledge("led", first)
        os.write(1, b"%d %d\\n" % (os.getpid(), records[2].seq))

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        asyncio.run(write(Path(line.strip())))
    os.waitpid(child, 0)
    os.write(1, b"dead\\n")
"""


@pytest.fixture
def writers() -> Iterator["subprocess.Popen[bytes]"]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    process = subprocess.Popen(
        [sys.executable, "-c", WRITERS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    yield process
    process.kill()
    process.communicate()


def killed_after(process: "subprocess.Popen[bytes]", path: Any, commits: int) -> int:
    """Lets a writer commit some times and kills it. Returns the last sequence number it acknowledged."""
    commands, answers = pipes(process)
    commands.write(f"{path}\n".encode())
    commands.flush()
    acknowledged, seen = 0, 0
    while (line := answers.readline()) != b"dead\n":
        assert line, "the writer ended by itself"
        pid, acknowledged = (int(word) for word in line.split())
        seen += 1
        if seen == commits:
            os.kill(pid, signal.SIGKILL)
    return acknowledged


def pipes(process: "subprocess.Popen[bytes]") -> tuple[IO[bytes], IO[bytes]]:
    assert process.stdin is not None
    assert process.stdout is not None
    return process.stdin, process.stdout


def test_no_acknowledged_record_is_missing_after_any_of_many_kills(
    store: Any, writers: "subprocess.Popen[bytes]"
) -> None:
    known = 0
    for number in range(KILLS):
        acknowledged = killed_after(writers, store.path, commits=1 + number * 7 % 10)
        records = store.records()  # the chain is checked on the way
        led = [record for record in records if record.stream == "led"]
        assert led[-1].seq >= acknowledged > known
        assert [record.seq for record in led] == list(range(1, len(led) + 1))
        assert len(led) == 3 * sum(record.stream == "evt" for record in records)  # a batch is there or it is not
        known = led[-1].seq
    assert store.open().heads()["led"].acked_seq > 0
