"""Which gateways each of several workers hears.

A broker's shared subscription hands each message to one of them. MQTT 3.1.1 does not know it, and some brokers grant
it and deliver nothing, so it is believed only after a message has come through one. Where none comes, each worker
takes its part of the 256 shards, in ranges.
"""

import asyncio
import secrets
from dataclasses import dataclass
from enum import Enum
from typing import Final

from cloud_sync.transport import MqttTransport, TransportSettings
from cloud_sync.wire import UP_TOPICS

SHARDS: Final = 256
PROBE_SECONDS_MAX: Final = 3.0
PROBE_TOPIC: Final = "mg/1/probe"
_GROUP: Final = "wattgate"
_PREFIX: Final = "mg/1/"


class Split(Enum):
    """How workers divide the gateways."""

    AUTO = "auto"  # shared where a probe proves it
    SHARED = "shared"
    RANGES = "ranges"


@dataclass(frozen=True, slots=True)
class Share:
    """One of `count` workers; `index` from 0."""

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count <= SHARDS:
            raise ValueError(f"worker {self.index + 1} of {self.count}: allowed are 1 of 1 to {SHARDS} of {SHARDS}")

    @property
    def shards(self) -> range:
        """Those of this worker; the parts of all workers are every shard, once."""
        return range(SHARDS * self.index // self.count, SHARDS * (self.index + 1) // self.count)

    def takes(self, topic: str) -> bool:
        """Whether a message on this topic is this worker's; the first one's too when it has no shard."""
        shard = topic.removeprefix(_PREFIX)[:2]
        try:
            return int(shard, 16) in self.shards
        except ValueError:
            return self.index == 0


def topics_of(share: Share, is_shared: bool) -> tuple[str, ...]:
    """What a worker subscribes to. Where it is not shared, it takes of that what is its own (`Share.takes`)."""
    return tuple(f"$share/{_GROUP}/{topic}" for topic in UP_TOPICS) if is_shared and share.count > 1 else UP_TOPICS


async def shares_subscriptions(settings: TransportSettings) -> bool:
    """Whether the broker delivers a shared subscription: says a word into one and listens for it.

    False too when no broker answers in time. `settings` say which broker and with what certificate.
    """
    topic = f"{PROBE_TOPIC}/{secrets.token_hex(8)}"
    ear = _Ear()
    transport = MqttTransport(_probing(settings, topic), lambda: 0.0)
    running = asyncio.ensure_future(transport.run(ear))
    try:
        async with asyncio.timeout(PROBE_SECONDS_MAX):
            await ear.listening.wait()
            transport.publish(topic, b"probe", 1, False)
            await ear.heard.wait()
        return True
    except TimeoutError:
        return False
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


class _Ear:
    def __init__(self) -> None:
        self.listening = asyncio.Event()
        self.heard = asyncio.Event()

    def connected(self) -> None:
        self.listening.set()

    def disconnected(self, _reason: str) -> None:
        self.listening.clear()

    def message(self, _topic: str, _payload: bytes) -> None:
        self.heard.set()


def _probing(settings: TransportSettings, topic: str) -> TransportSettings:
    return TransportSettings(
        client_id=f"probe-{secrets.token_hex(6)}",
        brokers=settings.brokers,
        topics=(f"$share/{_GROUP}-{secrets.token_hex(4)}/{topic}",),
        tls=settings.tls,
        connect_timeout_seconds=PROBE_SECONDS_MAX,
    )
