"""The local socket: it answers with the last snapshot, to nobody else, and lets the agent end."""

import asyncio
import json
import os
import stat
from collections.abc import Callable, Coroutine
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from edge.agent.local_socket import LINE_BYTES_MAX, PATH_BYTES_MAX, serve_local_socket
from edge.agent.snapshot import CloudView, LineView, SnapshotSource, StreetSnapshot
from edge.core.units import UnixSeconds

SNAPSHOT = StreetSnapshot(
    version=7,
    gateway_id="gw-1",
    at=UnixSeconds(1_772_380_800),
    utc_offset_s=28_800,
    time_zone="Asia/Shanghai",
    clock_quality="ntp",
    currency="CNY",
    minor_digits=2,
    accounts=(),
    lines=(LineView("line-1", "/dev/ttyUSB0", True, None, 5, 1, MappingProxyType({"timeout": 1}), 400),),
    cloud=CloudView(False, None, {}),
    software_version="1.0",
    journal_seq=3,
    journal_head="ab" * 32,
)

Scenario = Callable[[Path, SnapshotSource, "asyncio.Task[None]"], Coroutine[Any, Any, Any]]


@pytest.fixture
def served(tmp_path: Path) -> Callable[[Scenario], Any]:
    """Runs a scenario beside a serving socket, which must end at once when it is cancelled."""

    def run(scenario: Scenario) -> Any:
        async def whole() -> Any:
            path = tmp_path / "agent.sock"
            source = SnapshotSource()
            serving = asyncio.ensure_future(serve_local_socket(path, source))
            async with asyncio.timeout(10):
                while not path.exists():
                    await asyncio.sleep(0)
                answer = await scenario(path, source, serving)
                serving.cancel()
                await asyncio.gather(serving, return_exceptions=True)
            assert serving.cancelled()
            return answer

        return asyncio.run(whole())

    return run


async def ask(path: Path, *lines: bytes) -> list[Any]:
    reader, writer = await asyncio.open_unix_connection(path)
    answers = []
    for line in lines:
        writer.write(line)
        answers.append(json.loads(await reader.readline(), parse_float=Decimal))
    writer.close()
    return answers


def test_status_is_the_snapshot_of_the_last_round(served: Any) -> None:
    async def scenario(path: Path, source: SnapshotSource, _serving: Any) -> None:
        source.publish(SNAPSHOT)
        (answer,) = await ask(path, b'{"do": "status"}\n')
        assert answer["status"]["gateway_id"] == "gw-1"
        assert answer["status"]["version"] == 7
        assert answer["status"]["lines"][0]["errors"] == {"timeout": 1}

    served(scenario)


def test_status_is_null_before_the_first_round(served: Any) -> None:
    async def scenario(path: Path, _source: SnapshotSource, _serving: Any) -> list[Any]:
        return await ask(path, b'{"do": "status"}\n')

    assert served(scenario) == [{"status": None}]


def test_several_questions_go_over_one_connection(served: Any) -> None:
    async def scenario(path: Path, _source: SnapshotSource, _serving: Any) -> list[Any]:
        return await ask(path, b"{\n", b'{"do": "stop"}\n', b"[]\n", b'{"do": "status"}\n')

    unknown = {"error": 'unknown question; allowed is {"do": "status"}'}
    assert served(scenario) == [{"error": "not JSON"}, unknown, unknown, {"status": None}]


def test_line_that_is_too_long_ends_that_connection_only(served: Any) -> None:
    async def scenario(path: Path, _source: SnapshotSource, _serving: Any) -> list[Any]:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"x" * (3 * LINE_BYTES_MAX) + b"\n")
        assert await reader.read() == b""
        writer.close()
        return await ask(path, b'{"do": "status"}\n')

    assert served(scenario) == [{"status": None}]


def test_only_the_agents_own_user_may_ask(served: Any) -> None:
    async def scenario(path: Path, _source: SnapshotSource, _serving: Any) -> int:
        return stat.S_IMODE(os.stat(path).st_mode)

    mask = os.umask(0o022)
    try:
        assert served(scenario) == 0o600
        assert os.umask(0o022) == 0o022  # and the mask of the process is as it was
    finally:
        os.umask(mask)


def test_file_of_a_killed_agent_is_replaced(served: Any, tmp_path: Path) -> None:
    (tmp_path / "agent.sock").write_text("left over", "utf-8")

    async def scenario(path: Path, _source: SnapshotSource, _serving: Any) -> list[Any]:
        while not stat.S_ISSOCK(os.stat(path).st_mode):
            await asyncio.sleep(0)
        return await ask(path, b'{"do": "status"}\n')

    assert served(scenario) == [{"status": None}]


def test_agent_ends_although_somebody_is_still_connected(served: Any) -> None:
    async def scenario(path: Path, _source: SnapshotSource, serving: "asyncio.Task[None]") -> bytes:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b'{"do": "status"}\n')
        await reader.readline()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        rest = await reader.read()  # the connection ends with the agent, not some time later
        writer.close()
        return rest

    assert served(scenario) == b""


def test_path_that_is_too_long_is_named(tmp_path: Path) -> None:
    path = tmp_path / ("d" * PATH_BYTES_MAX) / "agent.sock"
    with pytest.raises(OSError, match=r"agent\.sock: too long for a socket, at most 107 bytes"):
        asyncio.run(serve_local_socket(path, SnapshotSource()))


class _Log:
    """A LedgerReader that remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int | None]] = []

    async def event_records(self, count_max: int, before_order: int | None = None) -> list[dict[str, Any]]:
        self.asked.append((count_max, before_order))
        return [{"type": "X", "order": 1}]


def test_events_and_details_are_answered_and_bad_questions_reach_no_reader(tmp_path: Path) -> None:
    log: Any = _Log()

    def gone() -> Any:
        raise OSError("the disk is gone")

    async def whole() -> list[Any]:
        path, source = tmp_path / "agent.sock", SnapshotSource(details=gone)
        serving = asyncio.ensure_future(serve_local_socket(path, source, None, log))
        async with asyncio.timeout(10):
            while not path.exists():
                await asyncio.sleep(0)
            bad = [b"0", b"501", b'"5"', b'5,"before":-1', b'5,"before":"x"', b'5,"before":true']
            questions = [b'{"do":"events","count":%b}\n' % one for one in (b"2", b'3,"before":9', *bad)]
            answers = await ask(path, b'{"do":"details"}\n', *questions)
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
        return answers

    details, first, second, *refused = asyncio.run(whole())
    assert details == {"error": "the disk is gone"}
    assert first == second == {"events": [{"type": "X", "order": 1}]}
    assert log.asked == [(2, None), (3, 9)]
    assert len(refused) == 6
    assert all("unknown question" in answer["error"] for answer in refused)
