"""Connections without a thread each: the event loop watches paho's sockets, thousands of them.

Everything else is the gateway's own transport: its order of brokers, its delays, its watchdog.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import paho.mqtt.client as mqtt

from cloud_sync.connection import Connection
from cloud_sync.transport import MqttTransport

_LOOK_SECONDS: Final = 15.0  # how often paho may say PINGREQ


class WatchedConnection(Connection):
    """One paho client on the event loop's own thread. Connecting blocks: for brokers nearby."""

    def _start(self) -> None:
        client, loop = self._client, self._loop
        client.on_socket_open = lambda _client, _data, opened: loop.add_reader(opened, client.loop_read)
        client.on_socket_close = lambda _client, _data, closed: _unwatch(loop, closed)
        client.on_socket_register_write = lambda _client, _data, busy: loop.add_writer(busy, client.loop_write)
        client.on_socket_unregister_write = lambda _client, _data, idle: _unwatch_writing(loop, idle)
        try:
            client.connect(self._broker.host, self._broker.port, self._settings.keep_alive_seconds)
        except Exception as problem:
            self._lose(f"{self._broker.host}:{self._broker.port}: {problem}")
            return
        self._look()

    def _look(self) -> None:
        if not self._over.done() and self._client.loop_misc() == mqtt.MQTT_ERR_SUCCESS:
            self._loop.call_later(_LOOK_SECONDS, self._look)

    def _hand_over(self, handler: Callable[..., None], *arguments: Any) -> None:
        self._loop.call_soon(self._on_loop, handler, arguments)  # not inside paho's own call


class WatchedTransport(MqttTransport):
    """The gateway's transport over such connections."""

    def _loaded(self) -> type[Connection]:
        return WatchedConnection


def _unwatch(loop: asyncio.AbstractEventLoop, closed: Any) -> None:
    loop.remove_reader(closed)
    loop.remove_writer(closed)


def _unwatch_writing(loop: asyncio.AbstractEventLoop, idle: Any) -> None:
    loop.remove_writer(idle)
