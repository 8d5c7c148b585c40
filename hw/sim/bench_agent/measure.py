"""The measurements: beside the peers, memory, start, idle, and a simulated day's writing.

Each starts what it needs and ends it. Seconds, milliseconds of processor time for 1,000 values, MB of 10^6 bytes.
"""

import http.client
import sqlite3
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from edge.core.units import SECONDS_PER_DAY, ClockQuality
from edge.store.schema import JOURNAL_FILE
from hw.sim.bench_agent.broker import AGENT, Listener, broker_running
from hw.sim.bench_agent.flash import device
from hw.sim.bench_agent.peers import WRITERS
from hw.sim.bench_agent.processes import Memory, Meters, Process, agent_command, meters_running, running
from hw.sim.bench_agent.site import GATEWAY_ID, INTERVAL_MS, LINES, METERS, POINTS, Rhythm, write_keys, write_site
from hw.sim.clock import start_clock
from hw.sim.demo import reserved_port
from hw.sim.demo_site import CLOCK_FILE

WARM_UP_S = 20.0  # accounts are opened by the first round that has readings of all meters
START_S_MAX = 30.0
LOOK_S = 0.01
IDLE_S = 20.0
TURNAROUND_MS = 20
BROWSERS = 2
DAY_STARTS_AT = 1_790_784_000  # 00:00 in Asia/Shanghai
DAY_BEGINS_AFTER_S = 25.0  # of real time: accounts are open, relays read, the first records written


@dataclass(frozen=True, slots=True)
class Cost:
    """One gateway beside the others, all reading the same meters at once."""

    gateway: str
    cpu_ms_per_1000: float  # over all windows
    cpu_ms_per_1000_min: float
    share_of_core: float
    values_per_s: float
    wanted_per_s: float
    requests_per_value: float
    messages_per_value: float  # MQTT
    bytes_per_value: float  # topics and payloads
    wake_ups_per_s: float
    memory: Memory


@dataclass(frozen=True, slots=True)
class Footprint:
    """The agent on serial lines."""

    baud: int  # 0: answers at once
    console: bool
    memory: Memory
    values_per_s: float
    cpu_ms_per_1000: float


@dataclass(frozen=True, slots=True)
class Start:
    """Seconds from the start of the process, medians. None: not seen in time, or not to be seen from outside."""

    gateway: str
    store: str  # new, or with all accounts in it
    request_s: float | None
    answer_s: float | None
    value_s: float | None  # read and confirmed; only the agent confirms
    broker_s: float | None  # the first value at the broker
    cpu_s: float  # processor time until the first answer: what a busy machine does not change much


@dataclass(frozen=True, slots=True)
class Idle:
    """The agent with lines it reads once an hour and accounts it looks at once a minute."""

    wake_ups_per_s: float
    share_of_core: float


@dataclass(frozen=True, slots=True)
class Day:
    """A simulated day's writing with the default intervals of records."""

    speed: int
    device_bytes: int
    records: Mapping[str, int]  # by stream, since the start: the opening of the accounts is among them
    body_bytes: int
    seals: int  # commits with other records than readings


def compare(program: Path, peers: Mapping[str, Path], folder: Path, windows: int, window_s: float) -> list[Cost]:
    """The agent and the peers at the same time, so that whatever else the machine does falls on all of them.

    The agent writes a record of each meter a minute, fifteen times what it does by default: every window has one.
    """
    names = [AGENT, *peers]
    with ExitStack() as stack:
        meters = stack.enter_context(meters_running(program, LINES, METERS, len(names)))
        port, listener = stack.enter_context(broker_running(folder))
        stack.enter_context(_cloud(folder / AGENT, port))
        started = {}
        for index, name in enumerate(names):
            ports = [port for _, port in meters.lines[index]]
            place = folder / name
            if name == AGENT:
                config = write_site(
                    place, [f"tcp://127.0.0.1:{port}" for port in ports], port, rhythm=Rhythm(slot_minutes=1)
                )
                command, more = agent_command(config), {}
            else:
                told = WRITERS[name](peers[name], place, ports, METERS, port, INTERVAL_MS // 1000)
                command, more = told.command, dict(told.environment)
            started[name] = stack.enter_context(running(command, folder / f"{name}.log", place, more))
        time.sleep(WARM_UP_S)
        return _windows(meters, listener, started, windows, window_s)


def _windows(
    meters: Meters, listener: Listener, started: Mapping[str, Process], windows: int, window_s: float
) -> list[Cost]:
    costs: dict[str, list[float]] = {name: [] for name in started}
    meters.seen(reset=True)
    for name in started:
        listener.reset(name)
    before = {name: (process.cpu_s(), process.wake_ups()) for name, process in started.items()}
    began, values_before = time.monotonic(), dict.fromkeys(started, 0)
    cpu_before = {name: cpu_s for name, (cpu_s, _) in before.items()}
    for _ in range(windows):
        time.sleep(window_s)
        for (name, process), seen in zip(started.items(), meters.seen(), strict=True):
            cpu_s, values = process.cpu_s(), seen.values
            costs[name].append((cpu_s - cpu_before[name]) * 1e6 / max(values - values_before[name], 1))
            cpu_before[name], values_before[name] = cpu_s, values
    elapsed_s = time.monotonic() - began
    found = []
    for (name, process), seen in zip(started.items(), meters.seen(), strict=True):
        heard, values = listener.heard[name], max(seen.values, 1)
        cpu_s, wake_ups = before[name]
        found.append(
            Cost(
                gateway=name,
                cpu_ms_per_1000=round((process.cpu_s() - cpu_s) * 1e6 / values, 2),
                cpu_ms_per_1000_min=round(min(costs[name]), 2),
                share_of_core=round((process.cpu_s() - cpu_s) / elapsed_s, 5),
                values_per_s=round(seen.values / elapsed_s, 1),
                wanted_per_s=LINES * METERS * POINTS * 1000 / INTERVAL_MS,
                requests_per_value=round(seen.requests / values, 3),
                messages_per_value=round(heard.messages / values, 5),
                bytes_per_value=round(heard.bytes / values, 2),
                wake_ups_per_s=round((process.wake_ups() - wake_ups) / elapsed_s, 1),
                memory=process.memory(),
            )
        )
    return found


def footprint(program: Path, folder: Path, baud: int, console: bool, seconds: float) -> Footprint:
    """The agent on pseudo-terminals, by default intervals; with the console two browsers look at it all the time."""
    with ExitStack() as stack:
        meters = stack.enter_context(meters_running(program, LINES, METERS, baud=baud, turnaround_ms=TURNAROUND_MS))
        port, _ = stack.enter_context(broker_running(folder))
        console_port = stack.enter_context(reserved_port()) if console else None
        paths = [path for path, _ in meters.lines[0]]
        config = write_site(folder / AGENT, paths, port, baud or 115_200, console_port)
        stack.enter_context(_cloud(folder / AGENT, port))
        agent = stack.enter_context(running(agent_command(config), folder / "agent.log", folder))
        time.sleep(WARM_UP_S)
        if console_port is not None:
            _look_at_pages(console_port)
            for _ in range(BROWSERS):
                stack.enter_context(_live_page(console_port))
        meters.seen(reset=True)
        cpu_s = agent.cpu_s()
        time.sleep(seconds)
        values = meters.seen()[0].values
        cost = (agent.cpu_s() - cpu_s) * 1e6 / max(values, 1)
        return Footprint(baud, console, agent.memory(), round(values / seconds, 1), round(cost, 2))


def _look_at_pages(port: int) -> None:
    """Every kind of page once, in both languages."""
    for page in ("/", "/account/A101", "/account/A432", "/events", "/voucher", "/token", "/health"):
        for language in ("zh", "en"):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request("GET", page, headers={"Accept-Language": language})
            answer = connection.getresponse()
            body = answer.read()
            connection.close()
            if answer.status != 200:
                raise RuntimeError(f"the console answered {page} with {answer.status}: {body[:200]!r}")


@contextmanager
def _live_page(port: int) -> Iterator[None]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/live")
    answer = connection.getresponse()
    answer.read1(100)
    try:
        yield
    finally:
        connection.close()


def starts(program: Path, peers: Mapping[str, Path], folder: Path, times: int) -> list[Start]:
    """Each gateway alone, started again and again; the agent also on the store it left."""
    found = []
    with meters_running(program, LINES, METERS) as meters, broker_running(folder) as (port, listener):
        ports = [port for _, port in meters.lines[0]]
        kinds = [(AGENT, "new"), (AGENT, "with accounts"), *((name, "none") for name in peers)]
        for name, store in kinds:
            runs = []
            for number in range(times):
                place = folder / f"{name}-{store.replace(' ', '-')}" / (str(number) if store != "with accounts" else "")
                if name == AGENT:
                    config = write_site(place, [f"tcp://127.0.0.1:{port}" for port in ports], port)
                    command, more = agent_command(config), {}
                    if store != "new" and number == 0:
                        _run_once(command, folder)
                else:
                    told = WRITERS[name](peers[name], place, ports, METERS, port, INTERVAL_MS // 1000)
                    command, more = told.command, dict(told.environment)
                runs.append(_start(name, command, more, folder, meters, listener))
            found.append(_median_start(name, store, runs))
    return found


def _run_once(command: Sequence[str], folder: Path) -> None:
    """Until all accounts are open."""
    with running(command, folder / "once.log", folder):
        time.sleep(WARM_UP_S)


@dataclass(frozen=True, slots=True)
class _Run:
    """Nanoseconds to the first request, answer, value and message, 0 for none; processor time to the answer."""

    moments_ns: tuple[int, int, int, int]
    cpu_s: float


def _start(
    name: str, command: Sequence[str], more: Mapping[str, str], folder: Path, meters: Meters, listener: Listener
) -> _Run:
    meters.seen(reset=True)
    listener.reset(name)
    cpu_s = None
    with running(command, folder / f"start-{name}.log", folder, more) as process:
        give_up_at = time.monotonic() + START_S_MAX
        while time.monotonic() < give_up_at and process.running:
            seen = meters.seen()[0]
            if cpu_s is None and seen.first_answer_ns:
                cpu_s = process.cpu_s()
            if (seen.first_value_ns or name != AGENT) and listener.heard[name].first_ns:
                break
            time.sleep(LOOK_S)
        seen = meters.seen()[0]
        moments = (seen.first_request_ns, seen.first_answer_ns, seen.first_value_ns, listener.heard[name].first_ns)
        first, answer, value, message = (max(moment - process.began_ns, 0) for moment in moments)
        return _Run((first, answer, value, message), cpu_s or process.cpu_s())


def _median_start(name: str, store: str, runs: Sequence[_Run]) -> Start:
    def middle(index: int) -> float | None:
        moments = [run.moments_ns[index] for run in runs]
        return round(statistics.median(moments) / 1e9, 3) if all(moments) else None

    cpu_s = round(statistics.median(run.cpu_s for run in runs), 3)
    return Start(name, store, middle(0), middle(1), middle(2) if name == AGENT else None, middle(3), cpu_s)


def idle(program: Path, folder: Path) -> Idle:
    """What is left when nothing is to be done."""
    rhythm = Rhythm(poll_ms=3_600_000, round_ms=60_000)
    with meters_running(program, LINES, METERS) as meters, broker_running(folder) as (port, _):
        addresses = [f"tcp://127.0.0.1:{port}" for _, port in meters.lines[0]]
        config = write_site(folder / AGENT, addresses, port, rhythm=rhythm)
        with _cloud(folder / AGENT, port), running(agent_command(config), folder / "idle.log", folder) as agent:
            time.sleep(WARM_UP_S / 2)
            wake_ups, cpu_s = agent.wake_ups(), agent.cpu_s()
            time.sleep(IDLE_S)
            return Idle(round((agent.wake_ups() - wake_ups) / IDLE_S, 2), round((agent.cpu_s() - cpu_s) / IDLE_S, 6))


def day(program: Path, folder: Path, speed: int) -> Day:
    """Twenty-four hours with one local midnight in them, once all is open. NoDevice where nothing can be mounted.

    The records' interval is the default; accounts are looked at less often than by default, which writes nothing.
    """
    rhythm = Rhythm(poll_ms=200, round_ms=100, scaled=True)
    with ExitStack() as stack:
        flash = stack.enter_context(device(folder))
        meters = stack.enter_context(meters_running(program, LINES, METERS, speed=speed))
        port, _ = stack.enter_context(broker_running(folder))
        site = folder / AGENT
        addresses = [f"tcp://127.0.0.1:{port}" for _, port in meters.lines[0]]
        config = write_site(site, addresses, port, rhythm=rhythm)
        (site / AGENT).symlink_to(flash.folder)
        began = time.monotonic()
        stack.enter_context(_cloud(site, port, speed))
        with running(agent_command(config), folder / "day.log", folder):
            _sleep_until(began + DAY_BEGINS_AFTER_S)
            before = flash.written_bytes()
            _sleep_until(began + DAY_BEGINS_AFTER_S + SECONDS_PER_DAY / speed)
            written = flash.written_bytes() - before
        return Day(speed, written, *_in_journal(flash.folder / JOURNAL_FILE))


def _in_journal(journal: Path) -> tuple[dict[str, int], int, int]:
    """Records by stream, bytes of their bodies, seals."""
    with closing(sqlite3.connect(journal)) as connection:
        rows = connection.execute("SELECT stream, count(*), sum(length(body)) FROM record GROUP BY stream").fetchall()
        (seals,) = connection.execute("SELECT count(*) FROM seal").fetchone()
    return {stream: count for stream, count, _ in rows}, sum(size for _, _, size in rows), seals


def _sleep_until(at: float) -> None:
    time.sleep(max(0.0, at - time.monotonic()))


@contextmanager
def _cloud(site: Path, port: int, speed: int = 1) -> Iterator[None]:
    """The reference backend, which acknowledges what the agent sends, as a process of its own."""
    site.mkdir(parents=True, exist_ok=True)
    write_keys(site)
    begins_at = int(time.time()) if speed == 1 else DAY_STARTS_AT
    start_clock(site / CLOCK_FILE, begins_at, float(speed), ClockQuality.NTP)
    command = [sys.executable, "-m", "hw.sim.cloud", "--directory", str(site)]
    with running([*command, "--broker-port", str(port), "--gateway", GATEWAY_ID], site / "cloud.log", site):
        yield
