"""One connection to a broker, over paho-mqtt.

paho's own queue, reconnect and thread are trusted with as little as possible (README.md tells
why): a new client object for each connection, at most 20 messages inside it, callbacks that only
hand over to the event loop, and a watchdog that drops a connection on which nothing is confirmed
any more. Seconds are the event loop's time.
"""

import asyncio
import contextlib
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from cloud_sync.session import Publish
from cloud_sync.transport import BrokerAddress, ConnectionLost, TransportEvents, TransportSettings

IN_CLIENT_MAX: Final = 20
_FAREWELL_SECONDS_MAX: Final = 1.0


class Connection:
    """One paho client from connect to loss. What its thread says later is ignored."""

    def __init__(self, settings: TransportSettings, broker: BrokerAddress, events: TransportEvents) -> None:
        self.ready = False
        self._settings = settings
        self._broker = broker
        self._events = events
        self._loop = asyncio.get_running_loop()
        self._over = self._loop.create_future()
        self._subscribed = self._loop.create_future()
        self._waiting: deque[Publish] = deque()
        self._unconfirmed: dict[int, float] = {}  # message id -> when it was given to paho
        self._abandoned = threading.Event()
        self._client = self._make_client()

    async def serve(self) -> None:
        """Returns never: raises ConnectionLost, or what a handler of events raised."""
        self._start()
        limit = self._settings.connect_timeout_seconds
        await asyncio.wait((self._over, self._subscribed), timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        if not self._subscribed.done() and not self._over.done():
            raise ConnectionLost("no answer from the broker")
        while not self._over.done():
            await asyncio.wait((self._over,), timeout=self._settings.stall_seconds / 4)
            oldest = min(self._unconfirmed.values(), default=None)
            if oldest is not None and self._loop.time() - oldest > self._settings.stall_seconds:
                raise ConnectionLost("the broker confirms nothing")
        self._over.result()

    def publish(self, message: Publish) -> bool:
        if len(self._waiting) >= self._settings.waiting_max:
            return False
        self._waiting.append(message)
        self._feed()
        return True

    def leave(self, reason: str) -> None:
        """Ends it, as if it were lost."""
        self._lose(reason)

    async def close(self) -> None:
        """Ends the client. Orderly when it still works, so the Will is spoken here; else by its socket."""
        self._abandoned.set()
        if self.ready and not self._over.done():
            self.ready = False
            will = self._settings.will
            if will is not None:
                self._client.publish(will.topic, will.payload, will.qos, will.retain)
            self._client.disconnect()
            await asyncio.wait((self._over,), timeout=_FAREWELL_SECONDS_MAX)
        self.ready = False
        if not self._over.cancel() and not self._over.cancelled():
            self._over.exception()  # it was raised by `serve` already
        self._break_socket()

    def _break_socket(self) -> None:
        """paho's thread ends when its socket does. The type is open: TLS and plain sockets share only this."""
        open_socket: Any = self._client.socket()
        if open_socket is not None:
            with contextlib.suppress(OSError):  # it was closed already, which is what was wanted
                open_socket.shutdown(socket.SHUT_RDWR)

    # --- on the event loop's thread ---

    def _feed(self) -> None:
        while self._waiting and len(self._unconfirmed) < IN_CLIENT_MAX:
            message = self._waiting.popleft()
            info = self._client.publish(message.topic, message.payload, message.qos, message.retain)
            if info.rc != mqtt.MQTT_ERR_SUCCESS:
                self._lose(f"publish: {mqtt.error_string(info.rc)}")
                return
            self._unconfirmed[info.mid] = self._loop.time()

    def _lose(self, reason: str) -> None:
        if not self._over.done():
            self._over.set_exception(ConnectionLost(reason))

    def _accepted(self, refusal: str | None) -> None:
        if refusal is not None:
            self._lose(refusal)
            return
        if not self._settings.topics:
            self._granted(None)
            return
        qos = self._settings.subscribe_qos
        result, _mid = self._client.subscribe([(topic, qos) for topic in self._settings.topics])
        if result != mqtt.MQTT_ERR_SUCCESS:
            self._lose(f"subscribe: {mqtt.error_string(result)}")

    def _granted(self, refusal: str | None) -> None:
        if refusal is not None:
            self._lose(refusal)
        elif not self._subscribed.done():
            self._subscribed.set_result(None)
            self.ready = True
            self._events.connected()

    def _confirmed(self, message_id: int) -> None:
        self._unconfirmed.pop(message_id, None)
        self._feed()

    def _arrived(self, topic: str, payload: bytes) -> None:
        if self.ready:
            self._events.message(topic, payload)

    def _on_loop(self, handler: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        if self._over.done():
            return
        try:
            handler(*arguments)
        except Exception as error:
            # A bug in a handler must end `run` visibly; the loop alone would only log it.
            if not self._over.done():
                self._over.set_exception(error)

    def _start(self) -> None:
        threading.Thread(target=self._open, name="mqtt-connect", daemon=True).start()

    # --- on paho's threads: only hand over ---

    def _hand_over(self, handler: Callable[..., None], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, nobody listens
            self._loop.call_soon_threadsafe(self._on_loop, handler, arguments)

    def _open(self) -> None:
        try:
            self._client.connect(self._broker.host, self._broker.port, self._settings.keep_alive_seconds)
            self._client.loop_start()
            if self._abandoned.is_set():
                self._break_socket()  # it must not come up beside its successor, which has the same client id
        except Exception as error:
            self._hand_over(self._lose, f"{self._broker.host}:{self._broker.port}: {error}")

    def _make_client(self) -> mqtt.Client:
        settings = self._settings
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=settings.client_id,
            clean_session=True,
            protocol=mqtt.MQTTv311,
            reconnect_on_failure=False,
        )
        client.connect_timeout = settings.connect_timeout_seconds
        client.max_inflight_messages_set(IN_CLIENT_MAX)
        if settings.will is not None:
            client.will_set(settings.will.topic, settings.will.payload, settings.will.qos, settings.will.retain)
        if settings.tls is not None:
            client.tls_set_context(settings.tls)
        client.on_connect = lambda _client, _data, _flags, code, _properties: self._hand_over(
            self._accepted, f"connection refused: {code}" if code.is_failure else None
        )
        client.on_subscribe = lambda _client, _data, _mid, codes, _properties: self._hand_over(
            self._granted, "subscription refused" if any(code.is_failure for code in codes) else None
        )
        client.on_disconnect = lambda _client, _data, _flags, code, _properties: self._hand_over(
            self._lose, f"disconnected: {code}"
        )
        client.on_publish = lambda _client, _data, mid, _code, _properties: self._hand_over(self._confirmed, mid)
        client.on_message = lambda _client, _data, message: self._hand_over(
            self._arrived, _text(message), bytes(message.payload)
        )
        return client


def _text(message: mqtt.MQTTMessage) -> str:
    """The topic, or an empty one when its bytes are not UTF-8 (paho raises on reading it)."""
    try:
        return message.topic
    except UnicodeDecodeError:
        return ""
