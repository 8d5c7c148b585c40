"""Several workers of one backend: who hears what, who sends, how they are watched, and that one may die."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_sync.backend.backend import Backend
from cloud_sync.backend.service import COMMIT_SECONDS, BackendService, Flow, ServiceSettings
from cloud_sync.backend.shares import SHARDS, Share, shares_subscriptions, topics_of
from cloud_sync.backend.watch import Watch
from cloud_sync.keys import generate_key_directory
from cloud_sync.transport import BrokerAddress, MqttTransport, TransportSettings
from cloud_sync.wire import UP_TOPICS, ZERO_HASH, Batch, encode_payload, topic_of
from edge.cli import main

ADDRESS, PAUSE_S_MAX = "127.0.0.1", 0.2


@given(st.integers(1, SHARDS))
def test_the_workers_ranges_are_every_shard_once(count: int) -> None:
    parts = [Share(index, count).shards for index in range(count)]
    assert [shard for part in parts for shard in part] == list(range(SHARDS))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_each_gateway_is_taken_by_one_worker_and_what_is_no_gateways_by_the_first() -> None:
    shares = [Share(index, 3) for index in range(3)]
    for number in range(200):
        topic = topic_of(f"gw-{number}", "up/led")
        assert sum(share.takes(topic) for share in shares) == 1, topic
    assert {share.index for share in shares for number in range(50) if share.takes(topic_of(f"gw-{number}", "st"))} == {
        0, 1, 2,
    }  # fmt: skip
    for topic in ("", "mg/1/", "mg/1/zz/gw/st", "nonsense"):
        assert [share.index for share in shares if share.takes(topic)] == [0]


def test_every_worker_subscribes_alike_and_one_alone_shares_with_nobody() -> None:
    assert topics_of(Share(0, 1), is_shared=True) == topics_of(Share(1, 2), is_shared=False) == UP_TOPICS
    assert topics_of(Share(0, 2), is_shared=True) == topics_of(Share(1, 2), is_shared=True)
    assert topics_of(Share(0, 2), is_shared=True)[0] == "$share/wattgate/mg/1/+/+/up/+"


@pytest.mark.parametrize(("index", "count"), [(-1, 1), (1, 1), (0, 0), (0, 257), (3, 2)])
def test_a_worker_that_is_none_of_them_is_refused(index: int, count: int) -> None:
    with pytest.raises(ValueError, match="allowed are"):
        Share(index, count)


def test_a_shared_subscription_is_believed_only_where_a_word_comes_through(
    broker: Any, request: pytest.FixtureRequest, run_async: Any
) -> None:
    """amqtt grants it and delivers nothing."""
    settings = TransportSettings("", (BrokerAddress(ADDRESS, broker.port),), ())
    assert run_async(shares_subscriptions(settings)) is ("mosquitto" in request.node.name)


def test_without_a_broker_nothing_is_proven(run_async: Any) -> None:
    assert run_async(shares_subscriptions(TransportSettings("", (BrokerAddress(ADDRESS, 1),), ()))) is False


@pytest.mark.needs_program("psql")
def test_one_of_several_sends_commands_of_its_own_accord_and_the_next_when_it_is_gone(
    keys: Any, postgresql: Any, until: Callable[..., None]
) -> None:
    place = postgresql.new()
    leader, other = Backend(place, *keys), Backend(place, *keys)
    leader.enroll("gw-1", 1)
    leader.credit("gw-1", "m-1", "p-1", 5, 1000)
    assert len(leader.commands_due(0.0)) == 1
    assert other.commands_due(0.0) == []
    leader.close()
    until(lambda: len(other.commands_due(1.0)) == 1, 20.0, "the other worker to lead")
    other.close()


@pytest.mark.needs_program("psql")
def test_each_broker_that_knows_nothing_of_the_others_has_somebody_who_sends(keys: Any, postgresql: Any) -> None:
    (ring, signers), place = keys, postgresql.new()
    brokers = ("mq1:8883", "mq2:8883", "mq1:8883")
    first, second, beside = (Backend(place, ring, signers, brokers=one) for one in brokers)
    first.enroll("gw-1", 1)
    first.credit("gw-1", "m-1", "p-1", 5, 1000)
    assert [len(backend.commands_due(0.0)) for backend in (first, second, beside)] == [1, 1, 0]
    for backend in (first, second, beside):
        backend.close()


@pytest.mark.needs_program("psql")
def test_whoever_hears_a_hello_sends_that_gateway_its_commands_and_no_other(
    keys: Any, postgresql: Any, new_journal: Any, as_hello: Callable[[Any], Any]
) -> None:
    place = postgresql.new()
    leader, other = Backend(place, *keys), Backend(place, *keys)
    leader.enroll_all(["gw-1", "gw-2"], 1)
    leader.credit("gw-1", "m-1", "p-1", 5, 1000)
    leader.credit("gw-2", "m-1", "p-2", 5, 1000)
    leader.commands_due(0.0)
    answered = other.take([as_hello(new_journal("gw-2"))], 2000, 1.0)
    assert [message.topic for message in answered] == [topic_of("gw-2", "dn/ack"), topic_of("gw-2", "dn/cmd")]
    leader.close()
    other.close()


# --- as it is watched ------------------------------------------------------------------------


def test_a_transaction_is_counted_in_the_bucket_it_fits() -> None:
    flow = Flow()
    for seconds in (0.001, COMMIT_SECONDS[0], COMMIT_SECONDS[1], 99.0):
        flow.count(seconds)
    assert flow.commits_within[:3] == [2, 1, 0]
    assert flow.commits == 4
    assert round(flow.commit_seconds, 6) == round(0.001 + COMMIT_SECONDS[0] + COMMIT_SECONDS[1] + 99.0, 6)


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{ADDRESS}:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()


def test_a_worker_tells_how_it_is_over_http(
    broker: Any, keys: Any, new_place: Callable[[], str], journal: Any, run_async: Any, comes_true: Any
) -> None:
    place = new_place()
    setup = Backend(place, *keys)
    setup.enroll("gw-1", 1)
    setup.close()
    journal.write("led", b'{"account":"a","posting_nano":5,"balance_nano":5}')

    async def scenario() -> None:
        settings = ServiceSettings((BrokerAddress(ADDRESS, broker.port),), PAUSE_S_MAX, timer_seconds_max=PAUSE_S_MAX)
        service = BackendService(lambda: Backend(place, *keys), settings)
        running = asyncio.ensure_future(service.run())
        watch = Watch(service, ADDRESS, 0)

        async def ask(path: str) -> tuple[int, str]:
            return await asyncio.to_thread(get, watch.port, path)

        await comes_true(lambda: service.is_connected)
        assert await ask("/healthz") == (200, "ok\n")
        assert await ask("/readyz") == (200, "ready\n")
        assert (await ask("/"))[0] == 404
        said = Batch(1, "gw-1", "led", 1, 1, ZERO_HASH.hex(), (journal.records["led"][0].body.decode(),))
        service.message(topic_of("gw-1", "up/led"), encode_payload(said))
        service.message("nonsense", b"")
        await comes_true(lambda: service.flow.commits)
        lines = (await ask("/metrics"))[1].splitlines()
        assert 'wattgate_batches_total{verdict="taken"} 1.0' in lines
        assert "wattgate_quarantined_total 1.0" in lines
        assert "wattgate_messages_total 2.0" in lines
        assert f'wattgate_commit_seconds_bucket{{le="+Inf"}} {service.flow.commits:.1f}' in lines
        broker.kill()
        await comes_true(lambda: not service.is_connected)
        assert (await ask("/readyz"))[0] == 503
        assert (await ask("/healthz"))[0] == 200
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert (await ask("/healthz"))[0] == 503
        assert "wattgate_database_up 0.0" in (await ask("/metrics"))[1]
        watch.close()

    run_async(scenario())


# --- as processes ----------------------------------------------------------------------------


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    generate_key_directory(tmp_path / "keys")
    return [sys.executable, "-m", "edge.cli", "backend", "run", "--keys", str(tmp_path / "keys")]


class Log:
    """What a backend's processes say, as objects."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def of(self, event: str) -> list[Mapping[str, Any]]:
        lines = [json.loads(line) for line in self.path.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]


@pytest.fixture
def running_backend(command: list[str], tmp_path: Path) -> Iterator[Callable[..., tuple[subprocess.Popen[bytes], Log]]]:
    started = []

    def start(*options: str) -> tuple[subprocess.Popen[bytes], Log]:
        path = tmp_path / "backend.log"
        with path.open("wb") as log:
            started.append(subprocess.Popen([*command, *options], stderr=log))
        return started[-1], Log(path)

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.needs_program("psql")
@pytest.mark.needs_program("mosquitto")
@pytest.mark.parametrize("split", ["shared", "ranges"])
@pytest.mark.parametrize("broker", ["mosquitto"], indirect=True)
def test_a_worker_that_is_killed_is_started_again_and_nothing_is_lost(
    split: str,
    broker: Any,
    keys: Any,
    postgresql: Any,
    new_journal: Any,
    running_backend: Any,
    run_async: Any,
    comes_true: Any,
) -> None:
    place = postgresql.new()
    gateways = [f"gw-{number}" for number in range(6)]
    options = ["--db", place, "--broker", f"{ADDRESS}:{broker.port}", "--workers", "2", "--split", split]
    process, log = running_backend(
        *options, "--timer-max", str(PAUSE_S_MAX), *(f"--enroll={name}" for name in gateways)
    )

    async def scenario() -> None:
        await comes_true(lambda: len(log.of("connected")) == 2)
        speaker = MqttTransport(TransportSettings("speaker", (BrokerAddress(ADDRESS, broker.port),), ()), lambda: 0.0)
        speaking = asyncio.ensure_future(speaker.run(Deaf()))
        await comes_true(lambda: speaker.is_connected)
        journals = [new_journal(name) for name in gateways]
        for journal in journals:
            for number in range(1, 41):
                body = b'{"type":"x","account":"a","posting_nano":5,"balance_nano":%d}' % (5 * number)
                journal.write("led", body)
        say(speaker, journals, 1, 20)
        os.kill(log.of("worker_started")[0]["pid"], signal.SIGKILL)
        await comes_true(lambda: len(log.of("worker_started")) == 3)
        await comes_true(lambda: len(log.of("connected")) == 3)
        say(speaker, journals, 1, 40)  # as gateways do that have heard no acknowledgement
        reader = Backend(place, *keys)
        await comes_true(lambda: reader.counts() == {"led": 6 * 40})
        assert reader.problems() == []
        assert {balance.money_nano for balance in reader.balances()} == {200}
        reader.close()
        speaking.cancel()

    run_async(scenario())
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert {line["status"] for line in log.of("worker_ended")} == {-signal.SIGKILL}


class Deaf:
    def connected(self) -> None: ...

    def disconnected(self, reason: str) -> None: ...

    def message(self, topic: str, payload: bytes) -> None: ...


def say(speaker: MqttTransport, journals: list[Any], first: int, last: int) -> None:
    """Publishes ledger records in batches of five."""
    for start in range(first, last + 1, 5):
        for journal in journals:
            records = journal.records["led"]
            previous_hash = records[start - 2].hash if start > 1 else ZERO_HASH
            bodies = tuple(record.body.decode() for record in records[start - 1 : start + 4])
            said = Batch(1, journal.gateway_id, "led", 1, start, previous_hash.hex(), bodies)
            assert speaker.publish(topic_of(journal.gateway_id, "up/led"), encode_payload(said), 1, False)


@pytest.mark.needs_program("psql")
@pytest.mark.parametrize("broker", ["mosquitto"], indirect=True)
def test_a_database_that_is_lost_ends_a_worker_with_a_sentence_and_the_next_goes_on(
    broker: Any, keys: Any, postgresql: Any, running_backend: Any, run_async: Any, comes_true: Any
) -> None:
    place = postgresql.new()
    options = ["--db", place, "--broker", f"{ADDRESS}:{broker.port}", "--timer-max", str(PAUSE_S_MAX), "--workers", "2"]
    process, log = running_backend(*options)

    async def scenario() -> None:
        await comes_true(lambda: len(log.of("connected")) == 2)
        desk = Backend(place, *keys)
        others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
        desk.database.execute(others + " AND pid <> pg_backend_pid()")
        await comes_true(lambda: len(log.of("connected")) == 4)
        desk.close()

    run_async(scenario())
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert {line["status"] for line in log.of("worker_ended")} == {1}
    assert "it had to stop" in log.path.read_text()
    assert "Traceback" not in log.path.read_text()


ONE_CERTIFICATE = ("--tls-ca", "a", "--tls-certificate", "b", "--tls-key", "c")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--db", "cloud.db", "--workers", "2"], "need PostgreSQL"),
        (["--db", "cloud.db", "--workers", "0"], "from 1 to 256"),
        (["--db", "cloud.db", "--worker", "3/2"], "I/N"),
        (["--db", "cloud.db", "--worker", "x"], "I/N"),
        (["--db", "cloud.db", "--tls-ca", "ca.pem"], "belong together"),
        (["--db", "cloud.db", "--http", "nowhere"], "HOST:PORT"),
        (["--db", "postgresql://x/x", "--workers", "2", *ONE_CERTIFICATE], "{worker}"),
        (["--db", "postgresql://nobody@127.0.0.1:1/x", "--workers", "2"], "wattgate backend: "),
    ],
)
def test_workers_that_cannot_be_are_refused_with_what_is_allowed(
    options: list[str], said: str, command: list[str], tmp_path: Path
) -> None:
    asked = [*command, "--broker", "127.0.0.1:1", *options]
    ended = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    assert ended.returncode == 2
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_port_that_is_taken_is_told_in_one_sentence(command: list[str], tmp_path: Path, taken_port: int) -> None:
    asked = [
        *command,
        "--broker",
        "127.0.0.1:1",
        "--db",
        str(tmp_path / "cloud.db"),
        "--http",
        f"{ADDRESS}:{taken_port}",
    ]
    ended = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert f"port {taken_port}: Address already in use" in ended.stderr
    assert "Traceback" not in ended.stderr


# --- the other commands ----------------------------------------------------------------------


def test_gateways_are_enrolled_by_a_command(
    new_place: Callable[[], str], keys: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    place = new_place()
    Backend(place, *keys).close()
    assert main(["backend", "enroll", "--db", place, "gw-1", "gw-2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"enrolled": ["gw-1", "gw-2"]}
    assert main(["backend", "enroll", "--db", place, "gw-3", "no gateway"]) == 2
    assert "'no gateway' is not a gateway id" in capsys.readouterr().err
    backend = Backend(place, *keys)
    rows = backend.database.execute("SELECT id FROM gateway ORDER BY id").fetchall()
    assert [row[0] for row in rows] == ["gw-1", "gw-2"]
    backend.close()


@pytest.mark.parametrize(
    ("module", "ours", "arguments"),
    [
        ("psycopg", "postgresql", ["run", "--db", "postgresql://x/x"]),
        ("alembic", "migrate", ["run", "--db", "postgresql://x/x", "--migrate"]),
        ("prometheus_client", "watch", ["run", "--db", "cloud.db", "--http", "127.0.0.1:0"]),
    ],
)
def test_without_the_extra_one_is_told_which(
    module: str,
    ours: str,
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    generate_key_directory(tmp_path / "keys")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, f"cloud_sync.backend.{ours}", raising=False)
    given = ["backend", *arguments, "--broker", "127.0.0.1:1", "--keys", str(tmp_path / "keys")]
    assert main(given) == 2
    assert "needs the extra [backend]" in capsys.readouterr().err


def test_enrolling_makes_no_database(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backend", "enroll", "--db", str(tmp_path / "none.db"), "gw-1"]) == 2
    assert "there is no such database" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
