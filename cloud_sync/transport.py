"""The broker: one MQTT 3.1.1 connection out of an ordered list, kept up with jittered delays of our own.

What one connection is stands in `connection`, which loads paho-mqtt with the first attempt: a gateway reads its
meters before. Seconds are the event loop's time.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import msgspec

from cloud_sync.session import Publish

if TYPE_CHECKING:
    import ssl  # 5 MB with its OpenSSL: only where a broker has TLS

    from cloud_sync.connection import Connection


class TransportEvents(Protocol):
    """Who is told. All three are called on the event loop's thread."""

    def connected(self) -> None:
        """The broker accepted us and granted every subscription."""

    def disconnected(self, reason: str) -> None:
        """After `connected`: the connection is gone and what was not confirmed is forgotten."""

    def message(self, topic: str, payload: bytes) -> None: ...


class BrokerAddress(msgspec.Struct, frozen=True):
    """Where a broker listens."""

    host: str
    port: int


class TransportSettings(msgspec.Struct, frozen=True):
    """One client of one broker out of an ordered list."""

    client_id: str
    brokers: tuple[BrokerAddress, ...]
    topics: tuple[str, ...]
    will: Publish | None = None
    tls: "ssl.SSLContext | None" = None
    keep_alive_seconds: int = 120
    connect_timeout_seconds: float = 10.0
    reconnect_seconds_min: float = 1.0
    reconnect_seconds_max: float = 120.0
    stall_seconds: float = 60.0  # longest wait for a PUBACK before the client is rebuilt
    subscribe_qos: int = 1  # 0 spares a NATS cluster a replicated consumer for each topic of each gateway
    waiting_max: int = 256  # messages waiting for room; the rest is dropped, the session sends it again

    def capped(self, seconds_max: float) -> "TransportSettings":
        """The same with no reconnect delay above `seconds_max`, for demos and tests."""
        return msgspec.structs.replace(
            self,
            reconnect_seconds_min=min(self.reconnect_seconds_min, seconds_max),
            reconnect_seconds_max=min(self.reconnect_seconds_max, seconds_max),
        )


def gateway_tls_context(ca_file: str, certificate_file: str, key_file: str) -> "ssl.SSLContext":
    """TLS 1.2 or newer, trusting the product's CA alone, with this device's certificate."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks name and chain
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cafile=ca_file)
    context.load_cert_chain(certificate_file, key_file)
    return context


class ConnectionLost(Exception):
    """Why a connection ended. Leads to the next attempt, never out of `run`."""


class MqttTransport:
    """Keeps one connection up until cancelled. `publish` is for the event loop's thread."""

    def __init__(
        self,
        settings: TransportSettings,
        random_share: Callable[[], float],
        before_loading: Callable[[], None] | None = None,
    ) -> None:
        """`random_share` gives numbers in [0, 1), for the delays. `before_loading` is called once, before paho is."""
        assert settings.brokers
        self._settings = settings
        self._random_share = random_share
        self._before_loading = before_loading
        self._connection: Connection | None = None
        self._has_left = False

    @property
    def is_connected(self) -> bool:
        return self._connection is not None and self._connection.ready

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool) -> bool:
        """Takes a message for sending; False when it was dropped at once (no connection, or too many waiting)."""
        if self._connection is None or not self._connection.ready:
            return False
        return self._connection.publish(Publish(topic, payload, qos, retain))

    def leave(self, reason: str) -> None:
        """Ends the connection and goes on to the next broker of the list."""
        if self._connection is not None and self._connection.ready:
            self._has_left = True
            self._connection.leave(reason)

    async def run(self, events: TransportEvents) -> None:
        """Connects, again and again, walking the list of brokers. Ends only by cancellation or a bug in `events`."""
        broker_index = failures = 0
        while True:
            await asyncio.sleep(self._delay(failures))
            broker = self._settings.brokers[broker_index % len(self._settings.brokers)]
            connection = self._loaded()(self._settings, broker, events)
            self._connection = connection
            try:
                await connection.serve()
            except ConnectionLost as lost:
                if connection.ready:
                    failures = 0
                    broker_index += self._has_left
                    self._has_left = False
                    connection.ready = False
                    events.disconnected(str(lost))
                else:
                    failures += 1
                    broker_index += 1
            finally:
                self._connection = None
                await connection.close()

    def _loaded(self) -> "type[Connection]":
        if self._before_loading is not None:
            self._before_loading()
            self._before_loading = None
        from cloud_sync.connection import Connection

        return Connection

    def _delay(self, failures: int) -> float:
        """Random from the first attempt on, so that a fleet does not come back as one."""
        span = self._settings.reconnect_seconds_min * 2.0 ** min(failures, 30)
        return min(span, self._settings.reconnect_seconds_max) * self._random_share()
