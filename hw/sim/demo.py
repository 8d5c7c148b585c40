"""The demo: a virtual street, a broker, a cloud and the agent, each a process of its own, and a story.

The agent is the product as `wattgate run` starts it. Only the accounting clock is scaled. If the
agent dies it is started again on the same data, as systemd would. Ctrl-C stops everything.
"""

import asyncio
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from edge.agent.local_socket import PATH_BYTES_MAX
from edge.bootstrap import SOCKET_FILE as AGENT_SOCKET
from edge.core.units import SECONDS_PER_DAY
from hw.sim.clock import ScaledClock
from hw.sim.demo_processes import Child, memory_mb, python
from hw.sim.demo_site import AGENT_FOLDER, CLOCK_FILE, GATEWAY_ID, write_demo
from hw.sim.demo_stage import DemoStage
from hw.sim.demo_story import DRY_METER, DRY_PERCENT, SCENES
from hw.sim.demo_summary import summarise
from hw.sim.demo_words import event_in_words, simulated_time
from hw.sim.street import SOCKET_FILE, StreetControl

TICK_S = 0.05
PORTS_TRIED = 50
RESTART_PAUSE_S = 0.5
DRAIN_S_MAX = 30.0
START_S_MAX = 30.0
LOAD_STOPS_BEFORE_END_S = SECONDS_PER_DAY
COUNTERS = ("polls_ok", "polls_failed", "readings_rejected")


def run_demo(
    seconds: float | None, speed: float, port: int, data: Path | None, *, broker: str = "amqtt", as_json: bool
) -> int:
    """Runs the demo to its end or to Ctrl-C. 0: all agreed, or it was stopped; 1: it did not; 2: it cannot start."""
    directory = data if data is not None else Path(tempfile.mkdtemp(prefix="wattgate-"))
    try:
        check_length(directory)
        directory.mkdir(parents=True, exist_ok=True)
        with claimed_port(port) as console_port, reserved_port() as broker_port:
            command = broker_command(broker, directory, broker_port)
            demo = Demo(directory, seconds, speed, console_port, broker_port, command, as_json=as_json)
            return asyncio.run(demo.run())
    except OSError as error:
        print(f"wattgate demo: {error}", file=sys.stderr)
        return 2
    finally:
        if data is None:
            shutil.rmtree(directory, ignore_errors=True)


def broker_command(broker: str, directory: Path, port: int) -> list[str]:
    """The broker's command: amqtt, which comes along, or Debian's mosquitto. OSError when that is not there."""
    if broker == "amqtt":
        return python("-m", "hw.sim.broker", "--port", str(port))
    program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        raise OSError("there is no mosquitto on this machine (Debian: apt-get install mosquitto)")
    configuration = directory / "mosquitto.conf"
    configuration.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n", "utf-8")
    return [program, "-c", str(configuration)]


def check_length(directory: Path) -> None:
    """OSError where a socket in this folder would have a longer name than the system takes."""
    path = directory.resolve() / AGENT_FOLDER / AGENT_SOCKET
    if len(os.fsencode(path)) > PATH_BYTES_MAX:
        raise OSError(f"{directory}: {path} is longer than the {PATH_BYTES_MAX} bytes a socket may have; use --data")


@contextmanager
def claimed_port(first: int) -> Iterator[int]:
    """The first port of 127.0.0.1 from `first` on that is free and that no other demo is about to use.

    A name in Linux's abstract namespace is the claim; it goes with the process. OSError when there is none among 50.
    """
    for port in range(first, min(first + PORTS_TRIED, 65_536)):
        claim = claim_of(port)
        if claim is not None:
            with claim:
                yield port
            return
    raise OSError(f"no free port from {first} on, {PORTS_TRIED} tried")


def claim_of(port: int) -> socket.socket | None:
    """The claim on a port, None while somebody uses it or has claimed it."""
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0wattgate-demo-{port}")
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
    except OSError:
        claim.close()
        return None
    return claim


@contextmanager
def reserved_port() -> Iterator[int]:
    """A port of 127.0.0.1 that stays the demo's while its broker is gone: bound, but never listened on."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


class Demo:
    """One run."""

    def __init__(
        self,
        directory: Path,
        seconds: float | None,
        speed: float,
        port: int,
        broker_port: int,
        broker: list[str],
        *,
        as_json: bool,
    ) -> None:
        self._directory, self._port, self._as_json = directory, port, as_json
        self._seconds, self._speed = seconds, speed
        self._files = write_demo(directory, speed, port, broker_port)
        logs = directory / "log"
        logs.mkdir(exist_ok=True)
        where = ["--directory", str(directory)]
        street = python("-m", "hw.sim.street", "--spec", str(self._files.street), *where)
        self._street = Child("street", street, logs / "street")
        self._broker = Child("broker", broker, logs / "broker")
        cloud = python("-m", "hw.sim.cloud", *where, "--broker-port", str(broker_port), "--gateway", GATEWAY_ID)
        self._cloud = Child("cloud", cloud, logs / "cloud", piped=True)
        agent = python("-m", "edge.cli", "run", "--config", str(self._files.config), "--json")
        self._agent = Child("agent", agent, logs / "agent", piped=True)
        self._stop = asyncio.Event()
        self._opened: set[str] = set()
        self._seen_outputs: set[str] = set()
        self._frozen: dict[str, int] = {}
        self._counted: dict[int, Counter[str]] = {}  # by the agent's process id
        self._backlog: dict[str, int] = {}
        self._rss_mb = 0.0

    async def run(self) -> int:
        """The whole story."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop.set)
        tasks: list[asyncio.Task[Any]] = []
        try:
            await self._start()
            tasks = [loop.create_task(self._look_after_agent()), loop.create_task(self._watch_agent())]
            await self._play()
            finished = not self._stop.is_set()
            if finished:
                await self._drain()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._stop_all()
        return self._report() if finished else 0

    # --- start and end ---

    async def _start(self) -> None:
        await self._street.start()
        self._control = await asyncio.to_thread(StreetControl, self._directory / SOCKET_FILE, START_S_MAX)
        self._clock = ScaledClock(self._directory / CLOCK_FILE)
        self._start_at = self._clock.read().at
        await self._broker.start()
        cloud = await self._cloud.start()
        assert cloud.stdout is not None
        async with asyncio.timeout(START_S_MAX):
            await cloud.stdout.readline()  # it listens: the gateway's hello, said once a connection, is not missed
        self._stage = DemoStage(self._directory, self._port, self._control, self._broker, self._clock)

    async def _stop_all(self) -> None:
        """In the order in which one depends on the other."""
        for child in (self._agent, self._cloud, self._broker):
            await child.stop()
        if self._street.pid is not None:
            with suppress(RuntimeError, OSError, AttributeError):
                await asyncio.to_thread(self._control.quit)
        await self._street.stop()

    def _report(self) -> int:
        counters = {name: sum(counted[name] for counted in self._counted.values()) for name in COUNTERS}
        summary = summarise(self._directory, counters, self._now() - self._start_at, self._rss_mb)
        agrees = bool(
            summary["chain_ok"]
            and summary["balances_agree"]
            and summary["cloud_records"] == summary["ledger_records"]
            and not summary["accounts_off"]
        )
        if self._as_json:
            print(json.dumps(summary), flush=True)
        else:
            self._say(f"everything agrees: {summary}" if agrees else f"SOMETHING IS OFF: {summary}")
        return 0 if agrees else 1

    # --- the story ---

    async def _play(self) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        end_s = None if self._seconds is None else int(self._seconds * self._speed)
        scenes = [scene for scene in SCENES if end_s is None or scene.after_s < end_s - LOAD_STOPS_BEFORE_END_S]
        load_stopped = False
        await self._let_load_begin(started)
        while not self._stop.is_set():
            self._check_alive()
            passed_s = self._now() - self._start_at
            while scenes and scenes[0].after_s <= passed_s:
                scene = scenes.pop(0)
                self._say(f"-- {scene.what}")
                await scene.play(self._stage)
            if end_s is not None and not load_stopped and passed_s >= end_s - LOAD_STOPS_BEFORE_END_S:
                self._say("-- the load stops")
                await asyncio.to_thread(self._control.stop_load)
                load_stopped = True
            if end_s is not None and passed_s >= end_s:
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), TICK_S)

    def _check_alive(self) -> None:
        """A street or a cloud that ended by itself ends the demo, with where to read why."""
        for child in (self._street, self._cloud):
            if child.pid is None:
                raise OSError(f"the {child.name} ended by itself; see {self._directory / 'log' / child.name}")

    async def _let_load_begin(self, started: float) -> None:
        """Nothing is drawn before every account is open, so that the first watt-hour is charged too."""
        while len(self._opened) < 12 and not self._stop.is_set():
            if asyncio.get_running_loop().time() - started > START_S_MAX:
                raise OSError(f"the agent did not open the accounts; see {self._directory / 'log'}")
            await asyncio.sleep(TICK_S)
        for number in range(1, 13):
            meter_id = f"M{number:02}"
            percent = DRY_PERCENT if meter_id == DRY_METER else 100
            await asyncio.to_thread(self._control.scale, meter_id, percent)

    async def _drain(self) -> None:
        """Until the last freeze of every account is in the cloud, and nothing waits."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + DRAIN_S_MAX
        end_s = int((self._seconds or 0) * self._speed)
        days = end_s // SECONDS_PER_DAY
        midnight_at = self._start_at - (self._start_at + 8 * 3600) % SECONDS_PER_DAY + days * SECONDS_PER_DAY
        self._say("-- waiting for the last freeze and for the cloud")
        while loop.time() < give_up_at and not self._stop.is_set():
            frozen = days < 1 or (len(self._frozen) == 12 and all(at >= midnight_at for at in self._frozen.values()))
            self._backlog.clear()
            await asyncio.sleep(4 * TICK_S)
            if frozen and self._backlog and not any(self._backlog[stream] for stream in ("led", "res", "evt")):
                return

    # --- the agent ---

    async def _look_after_agent(self) -> None:
        """Starts the agent, tells its events, and starts it again if it dies."""
        while not self._stop.is_set():
            process = await self._agent.start()
            (self._directory / "agent.pid").write_text(str(process.pid), "ascii")
            assert process.stdout is not None
            while (line := await process.stdout.readline()).endswith(b"\n"):  # a killed one leaves half a line
                self._tell(line)
            status = await process.wait()
            self._say(f"-- the agent ended with {status} and is started again")
            await asyncio.sleep(RESTART_PAUSE_S)

    async def _watch_agent(self) -> None:
        """Asks the running agent for its counters through its local socket."""
        path = self._directory / AGENT_FOLDER / "agent.sock"
        while True:
            pid = self._agent.pid
            with suppress(OSError, ValueError, KeyError, TypeError):
                reader, writer = await asyncio.open_unix_connection(path, limit=1 << 20)
                writer.write(b'{"do": "status"}\n')
                status = json.loads(await reader.readline())["status"]
                writer.close()
                if pid is not None and pid == self._agent.pid:
                    self._count(pid, status)
            await asyncio.sleep(2 * TICK_S)

    def _count(self, pid: int, status: dict[str, Any]) -> None:
        lines, accounts = status["lines"], status["accounts"]
        counted = {name: sum(line[name] for line in lines) for name in COUNTERS[:2]}
        counted[COUNTERS[2]] = sum(account["communication"][COUNTERS[2]] for account in accounts)
        self._counted[pid] = Counter(counted)
        self._backlog = status["cloud"]["backlog"]
        self._rss_mb = memory_mb(pid)

    def _tell(self, line: bytes) -> None:
        event = json.loads(line)
        kind = event["type"]
        if kind == "Ready":
            print(f"Console: {event['console']}  (Ctrl-C ends the demo)", flush=True)
        elif kind == "AccountOpened":
            self._opened.add(event["account"])
        elif kind == "RegisterFrozen":
            self._frozen[event["account"]] = event["at"]
        elif kind == "OutputStateObserved" and event["account"] not in self._seen_outputs:
            self._seen_outputs.add(event["account"])  # the first look at a relay is no news
            return
        words = event_in_words(event)
        if words is not None:
            print(f"{simulated_time(event['at'])}  {words}", flush=True)

    def _say(self, text: str) -> None:
        print(f"{simulated_time(self._now())}  {text}", flush=True)

    def _now(self) -> int:
        return self._clock.read().at
