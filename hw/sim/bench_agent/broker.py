"""Mosquitto on a port of its own, and somebody who listens: when the first value of each gateway came, and how much.

Also answers the one question thingsboard-gateway asks of its server before it sends anything (getSessionLimits).
Times are monotonic nanoseconds.
"""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from hw.sim.bench_agent.peers import COLLECTD, THINGSBOARD
from hw.sim.bench_agent.processes import running
from hw.sim.demo import broker_command, reserved_port

AGENT = "agent"
CONNECT_S_MAX = 10.0
_ASKED, _ANSWERED = "v1/devices/me/rpc/request/", "v1/devices/me/rpc/response/"
# Values only: what else a gateway says is not counted.
_WHOSE = {"v1/gateway/telemetry": THINGSBOARD, "collectd/": COLLECTD}
_NO_LIMIT = {"messages": "0:0,", "telemetryMessages": "0:0,", "telemetryDataPoints": "0:0,"}
_LIMITS = {"maxPayloadSize": 65_536, "maxInflightMessages": 100, "rateLimits": _NO_LIMIT}


@dataclass(slots=True)
class Heard:
    """What one gateway has published."""

    first_ns: int = 0
    messages: int = 0
    bytes: int = 0


class Listener:
    """Hears everything on the broker."""

    def __init__(self, port: int) -> None:
        self.heard = {name: Heard() for name in (AGENT, THINGSBOARD, COLLECTD)}
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="bench-listener")
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", port)
        self._client.subscribe("#", 1)
        self._client.loop_start()

    def reset(self, name: str) -> None:
        """Counts anew what this gateway publishes."""
        self.heard[name] = Heard()

    def close(self) -> None:
        """Hears no more."""
        self._client.disconnect()
        self._client.loop_stop()

    def _on_message(self, client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        topic = message.topic
        if topic.startswith(_ASKED):
            limits = {**_LIMITS, "gatewayRateLimits": _NO_LIMIT}
            client.publish(_ANSWERED + topic.removeprefix(_ASKED), json.dumps(limits), 1)
            return
        # Of ours everything counts; the readings' stream is where values are.
        ours = topic.startswith("mg/1/") and "/up/" in topic
        name = AGENT if ours else next((name for start, name in _WHOSE.items() if topic.startswith(start)), None)
        if name is None:
            return
        heard = self.heard[name]
        heard.messages += 1
        heard.bytes += len(topic) + len(message.payload)
        if heard.first_ns == 0 and (not ours or topic.endswith("/up/rdg")):
            heard.first_ns = time.monotonic_ns()


@contextmanager
def broker_running(folder: Path) -> Iterator[tuple[int, Listener]]:
    """(port, listener) of a broker, until the end of the block. OSError where there is no mosquitto."""
    with reserved_port() as port:
        command = broker_command("mosquitto", folder, port)
        # Nagle's algorithm would make small answers wait for the other side's delayed acknowledgement.
        with (folder / "mosquitto.conf").open("a", encoding="utf-8") as configuration:
            configuration.write("set_tcp_nodelay true\nmax_inflight_messages 0\n")
        with running(command, folder / "mosquitto.log", folder):
            _wait_for(port)
            listener = Listener(port)
            try:
                yield port, listener
            finally:
                listener.close()


def _wait_for(port: int) -> None:
    give_up_at = time.monotonic() + CONNECT_S_MAX
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > give_up_at:
                raise
            time.sleep(0.05)
