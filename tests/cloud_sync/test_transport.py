"""The paho adapter against brokers that work, refuse, fall silent and vanish."""

import asyncio
import socket
import threading
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as mqtt
import pytest

from cloud_sync.connection import IN_CLIENT_MAX
from cloud_sync.session import Publish
from cloud_sync.transport import BrokerAddress, MqttTransport, TransportSettings, gateway_tls_context

CONNECT, PUBLISH, SUBSCRIBE, DISCONNECT = 1, 3, 8, 14
CONNACK_ACCEPTED, CONNACK_REFUSED = b"\x20\x02\x00\x00", b"\x20\x02\x00\x05"


class ScriptedBroker:
    """Just enough MQTT 3.1.1 to misbehave on purpose."""

    def __init__(self, connack: bytes = CONNACK_ACCEPTED, granted: int = 1, confirms: bool = False) -> None:
        self.connects = 0
        self.disconnects = 0
        self.open_connections = 0
        self.published: list[bytes] = []
        self.writer: asyncio.StreamWriter | None = None
        self._connack = connack
        self._granted = granted
        self._confirms = confirms

    async def start(self) -> BrokerAddress:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return BrokerAddress("127.0.0.1", self.server.sockets[0].getsockname()[1])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.open_connections += 1
        try:
            while True:
                kind, body = await self._packet(reader)
                self._answer(kind, body, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.open_connections -= 1
            writer.close()

    async def _packet(self, reader: asyncio.StreamReader) -> tuple[int, bytes]:
        first = (await reader.readexactly(1))[0]
        length = shift = 0
        while True:
            digit = (await reader.readexactly(1))[0]
            length |= (digit & 127) << shift
            shift += 7
            if digit < 128:
                return first >> 4, await reader.readexactly(length)

    def _answer(self, kind: int, body: bytes, writer: asyncio.StreamWriter) -> None:
        if kind == CONNECT:
            self.connects += 1
            writer.write(self._connack)
        elif kind == SUBSCRIBE:
            writer.write(b"\x90\x03" + body[:2] + bytes((self._granted,)))
        elif kind == PUBLISH:
            self.published.append(body)
            if self._confirms:
                topic_length = int.from_bytes(body[:2], "big")
                writer.write(b"\x40\x02" + body[2 + topic_length : 4 + topic_length])
        elif kind == DISCONNECT:
            self.disconnects += 1


class Listener:
    """Keeps what the transport reports."""

    def __init__(self, on_message: Callable[[], None] | None = None) -> None:
        self.is_connected = False
        self.connects = 0
        self.reasons: list[str] = []
        self.messages: list[tuple[str, bytes]] = []
        self._on_message = on_message

    def connected(self) -> None:
        self.connects += 1
        self.is_connected = True

    def disconnected(self, reason: str) -> None:
        self.is_connected = False
        self.reasons.append(reason)

    def message(self, topic: str, payload: bytes) -> None:
        self.messages.append((topic, payload))
        if self._on_message is not None:
            self._on_message()


def settings_for(*brokers: BrokerAddress, **changes: Any) -> TransportSettings:
    return TransportSettings("gw-1", brokers, ("down",), **changes).capped(0.05)


def transport_for(*brokers: BrokerAddress, **changes: Any) -> MqttTransport:
    return MqttTransport(settings_for(*brokers, **changes), lambda: 0.5)


async def stop(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_message_goes_through_a_real_broker_and_back(broker: Any, run_async: Any, comes_true: Any) -> None:
    async def scenario() -> None:
        transport, listener = transport_for(BrokerAddress("127.0.0.1", broker.port)), Listener()
        task = asyncio.create_task(transport.run(listener))
        await comes_true(lambda: listener.is_connected)
        for number in range(100):
            assert transport.publish("down", b"%d" % number, 1, False)
        await comes_true(lambda: len(listener.messages) == 100)
        assert listener.messages == [("down", b"%d" % number) for number in range(100)]
        await stop(task)
        assert not transport.is_connected
        assert not transport.publish("down", b"", 1, False)

    run_async(scenario())


def test_broker_that_vanishes_and_returns_is_found_again(broker: Any, run_async: Any, comes_true: Any) -> None:
    async def scenario() -> None:
        transport, listener = transport_for(BrokerAddress("127.0.0.1", broker.port)), Listener()
        task = asyncio.create_task(transport.run(listener))
        await comes_true(lambda: listener.is_connected)
        broker.kill()
        await comes_true(lambda: not listener.is_connected)
        await asyncio.to_thread(broker.start)
        await comes_true(lambda: listener.is_connected)
        assert transport.publish("down", b"again", 1, False)
        await comes_true(lambda: ("down", b"again") in listener.messages)
        await stop(task)

    run_async(scenario())


def test_last_word_is_spoken_at_the_end_and_by_the_broker_after_a_crash(
    broker: Any, run_async: Any, comes_true: Any
) -> None:
    """The Will: published by us at an orderly end, by the broker when the socket breaks."""

    async def scenario() -> None:
        address = BrokerAddress("127.0.0.1", broker.port)
        watcher, seen = MqttTransport(TransportSettings("watch", (address,), ("st",)), lambda: 0.0), Listener()
        watching = asyncio.create_task(watcher.run(seen))
        await comes_true(lambda: seen.is_connected)
        will = Publish("st", b"offline", 1, True)
        for orderly in (True, False):
            seen.messages.clear()
            listener = Listener()
            transport = transport_for(address, will=will)
            task = asyncio.create_task(transport.run(listener))
            await comes_true(lambda who=listener: who.is_connected)
            if orderly:
                await stop(task)
            else:
                # No public way breaks a socket under paho: this is the one a power cut would break.
                transport._connection._break_socket()  # type: ignore[union-attr]
            await comes_true(lambda: ("st", b"offline") in seen.messages)
            await stop(task)
        await stop(watching)

    run_async(scenario())


def test_list_of_brokers_is_walked_to_one_that_accepts(run_async: Any, comes_true: Any) -> None:
    async def scenario() -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            dead = BrokerAddress("127.0.0.1", probe.getsockname()[1])
        refusing, denying, good = ScriptedBroker(CONNACK_REFUSED), ScriptedBroker(granted=0x80), ScriptedBroker()
        addresses = [dead, await refusing.start(), await denying.start(), await good.start()]
        transport, listener = transport_for(*addresses), Listener()
        task = asyncio.create_task(transport.run(listener))
        await comes_true(lambda: listener.is_connected)
        assert (refusing.connects, denying.connects, good.connects) == (1, 1, 1)
        assert listener.connects == 1
        assert listener.reasons == []
        await stop(task)
        await comes_true(lambda: good.disconnects == 1)

    run_async(scenario())


def test_a_connection_that_is_left_is_followed_by_one_to_the_next_broker(run_async: Any, comes_true: Any) -> None:
    async def scenario() -> None:
        first, second = ScriptedBroker(), ScriptedBroker()
        transport, listener = transport_for(await first.start(), await second.start()), Listener()
        task = asyncio.create_task(transport.run(listener))
        transport.leave("there is none yet")
        await comes_true(lambda: listener.is_connected)
        for connects in ((1, 1), (2, 1)):
            transport.leave("deaf")
            await comes_true(lambda: not listener.is_connected)
            await comes_true(lambda: listener.is_connected)
            assert (first.connects, second.connects) == connects
        assert listener.reasons == ["deaf", "deaf"]
        await stop(task)

    run_async(scenario())


def test_at_most_twenty_messages_are_inside_the_client(run_async: Any, comes_true: Any) -> None:
    async def scenario() -> None:
        silent = ScriptedBroker()
        transport, listener = transport_for(await silent.start(), waiting_max=30), Listener()
        task = asyncio.create_task(transport.run(listener))
        await comes_true(lambda: listener.is_connected)
        taken = [transport.publish("up", b"%d" % number, 1, False) for number in range(60)]
        assert taken == [True] * (IN_CLIENT_MAX + 30) + [False] * 10
        await stop(task)
        # DISCONNECT comes last on the same socket, so nothing is still under way behind it.
        await comes_true(lambda: silent.disconnects == 1)
        assert len(silent.published) == IN_CLIENT_MAX

    run_async(scenario())


def test_client_on_which_nothing_is_confirmed_is_rebuilt(run_async: Any, comes_true: Any) -> None:
    async def scenario() -> None:
        silent = ScriptedBroker()
        transport, listener = transport_for(await silent.start(), stall_seconds=0.2), Listener()
        task = asyncio.create_task(transport.run(listener))
        await comes_true(lambda: listener.is_connected)
        transport.publish("up", b"x", 1, False)
        await comes_true(lambda: listener.connects == 2)
        assert listener.reasons == ["the broker confirms nothing"]
        # What was under way is forgotten: the session fills the new client from the journal.
        assert len(silent.published) == 1
        await stop(task)

    run_async(scenario())


def test_broker_that_never_answers_is_given_up(run_async: Any, comes_true: Any) -> None:
    async def scenario() -> None:
        mute, good = ScriptedBroker(connack=b""), ScriptedBroker()
        transport = transport_for(await mute.start(), await good.start(), connect_timeout_seconds=0.2)
        listener = Listener()
        task = asyncio.create_task(transport.run(listener))
        await comes_true(lambda: listener.is_connected)
        assert (mute.connects, good.connects) == (1, 1)
        await stop(task)

    run_async(scenario())


def test_client_that_connects_after_it_was_given_up_does_not_stay(
    run_async: Any, comes_true: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has its successor's client id: beside it, each would throw the other out."""
    real_connect, released = mqtt.Client.connect, threading.Event()
    calls: list[mqtt.Client] = []

    def slow_at_first(client: mqtt.Client, *arguments: Any) -> Any:
        calls.append(client)
        if len(calls) == 1:
            released.wait(20.0)
        return real_connect(client, *arguments)

    monkeypatch.setattr(mqtt.Client, "connect", slow_at_first)

    async def scenario() -> None:
        good = ScriptedBroker()
        transport, listener = transport_for(await good.start(), connect_timeout_seconds=0.2), Listener()
        task = asyncio.create_task(transport.run(listener))
        await comes_true(lambda: listener.is_connected)
        released.set()
        await comes_true(lambda: good.connects == 2 and good.open_connections == 1)
        assert listener.is_connected
        assert (listener.connects, listener.reasons) == (1, [])
        await stop(task)

    run_async(scenario())


def test_bug_in_a_handler_ends_the_run_with_its_error(run_async: Any, comes_true: Any) -> None:
    async def scenario() -> None:
        def broken() -> None:
            raise KeyError("bug")

        scripted = ScriptedBroker(confirms=True)
        transport, listener = transport_for(await scripted.start()), Listener(broken)
        task = asyncio.create_task(transport.run(listener))
        await comes_true(lambda: listener.is_connected)
        assert scripted.writer is not None
        scripted.writer.write(b"\x30\x07\x00\x04down!")
        with pytest.raises(KeyError, match="bug"):
            await task
        assert listener.messages == [("down", b"!")]

    run_async(scenario())


def test_topic_that_is_not_text_does_not_end_the_connection(run_async: Any, comes_true: Any) -> None:
    async def scenario() -> None:
        scripted = ScriptedBroker()
        transport, listener = transport_for(await scripted.start()), Listener()
        task = asyncio.create_task(transport.run(listener))
        await comes_true(lambda: listener.is_connected)
        assert scripted.writer is not None
        scripted.writer.write(b"\x30\x04\x00\x02\xff\xfe" + b"\x30\x07\x00\x04down!")
        await comes_true(lambda: len(listener.messages) == 2)
        assert listener.messages == [("", b""), ("down", b"!")]
        assert listener.is_connected
        await stop(task)

    run_async(scenario())


def test_first_delay_is_random_and_delays_grow_to_their_limit() -> None:
    settings = TransportSettings("gw", (BrokerAddress("x", 1),), (), reconnect_seconds_min=1, reconnect_seconds_max=120)
    delays = [MqttTransport(settings, lambda: 0.5)._delay(failures) for failures in (0, 1, 2, 6, 7, 1000)]
    assert delays == [0.5, 1.0, 2.0, 32.0, 60.0, 60.0]


def test_tls_is_at_least_1_2_and_needs_the_files(tmp_path: Any) -> None:
    with pytest.raises(FileNotFoundError):
        gateway_tls_context(str(tmp_path / "ca"), str(tmp_path / "cert"), str(tmp_path / "key"))


@pytest.mark.parametrize("qos", [0, 1])
def test_topics_are_subscribed_with_the_quality_that_is_wanted(run_async: Any, comes_true: Any, qos: int) -> None:
    async def scenario() -> None:
        subscriptions: list[bytes] = []

        class Recording(ScriptedBroker):
            def _answer(self, kind: int, body: bytes, writer: asyncio.StreamWriter) -> None:
                if kind == SUBSCRIBE:
                    subscriptions.append(body)
                super()._answer(kind, body, writer)

        transport, listener = transport_for(await Recording().start(), subscribe_qos=qos), Listener()
        task = asyncio.create_task(transport.run(listener))
        await comes_true(lambda: listener.is_connected)
        assert [body[-1] for body in subscriptions] == [qos]
        await stop(task)

    run_async(scenario())


def test_client_speaks_mqtt_3_1_1_with_a_clean_session(run_async: Any, comes_true: Any) -> None:
    async def scenario() -> None:
        packets: list[tuple[int, bytes]] = []

        class Recording(ScriptedBroker):
            def _answer(self, kind: int, body: bytes, writer: asyncio.StreamWriter) -> None:
                packets.append((kind, body))
                super()._answer(kind, body, writer)

        scripted = Recording()
        transport, listener = transport_for(await scripted.start(), keep_alive_seconds=120), Listener()
        task = asyncio.create_task(transport.run(listener))
        await comes_true(lambda: listener.is_connected)
        kind, body = packets[0]
        assert kind == CONNECT
        # Protocol name and level 4, flags: clean session only, keep-alive 120 s, client id.
        assert body == b"\x00\x04MQTT\x04\x02\x00\x78\x00\x04gw-1"
        assert mqtt.MQTTv311 == 4
        await stop(task)

    run_async(scenario())
