"""A TCP proxy before a broker that does to MQTT messages what a bad line, or a bad neighbour, does.

It understands PUBLISH and PUBACK of MQTT 3.1.1, and passes everything else on. A message that it swallows is confirmed
to its sender: neither side can see from its broker that anything is missing. Chance comes from a seed.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

import msgspec

from cloud_sync.wire import STREAMS, unpack_text

PUBLISH: Final = 3
PUBACK: Final = 4
TROUBLE_SHARE: Final = 0.25  # of the messages, while there is trouble
HALF: Final = 0.5
HELD_BACK_MAX: Final = 4
HELD_BACK_SECONDS_MAX: Final = 0.1


class Message(msgspec.Struct):
    """A PUBLISH taken apart. `packet_id` is empty at QoS 0."""

    flags: int
    topic: bytes
    packet_id: bytes
    payload: bytes

    @classmethod
    def read(cls, flags: int, body: bytes) -> "Message":
        size = int.from_bytes(body[:2], "big")
        topic, rest = body[2 : 2 + size], body[2 + size :]
        id_size = 2 if flags & 0b0110 else 0
        return cls(flags, topic, rest[:id_size], rest[id_size:])

    @property
    def packet(self) -> bytes:
        body = len(self.topic).to_bytes(2, "big") + self.topic + self.packet_id + self.payload
        return _packet(PUBLISH << 4 | self.flags, body)


class Pipe:
    """Listens on a free port and leads to a broker. `trouble`: what happens to messages, both ways, until healed."""

    def __init__(self, broker_port: int, seed: int = 1) -> None:
        self.port = 0
        self.trouble: frozenset[str] = frozenset()
        self.done: Counter[str] = Counter()  # what was done how often
        self.seen: list[tuple[str, bytes]] = []  # what went by, as (topic, payload)
        self._broker_port, self._random = broker_port, random.Random(seed)
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        """Every connection ends, in the middle of whatever it was saying."""
        for writer in self._writers:
            writer.transport.abort()

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self.cut()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = [writer]
        try:
            broker_reader, broker_writer = await asyncio.open_connection("127.0.0.1", self._broker_port)
            ends.append(broker_writer)
            self._writers.update(ends)
            ways = [
                asyncio.create_task(_Way(self, reader, broker_writer, writer).run()),
                asyncio.create_task(_Way(self, broker_reader, writer, broker_writer).run()),
            ]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
        except OSError:
            return  # no broker there: the same as for whoever asks it directly
        finally:
            for end in ends:
                self._writers.discard(end)
                end.transport.abort()

    def happens(self) -> str | None:
        """What happens to the next message; None: it arrives."""
        if not self.trouble or self._random.random() > TROUBLE_SHARE:
            return None
        return self._random.choice(sorted(self.trouble))

    def mangled(self, topic: bytes, payload: bytes, kind: str) -> bytes:
        """What becomes of a message that is cut off, or that somebody has changed."""
        if kind == "truncated":
            return payload[: self._random.randrange(len(payload))]
        channel = topic.rpartition(b"/")[2].decode()
        if channel in STREAMS and self._random.random() < HALF:
            return self._continued_wrongly(payload)
        spoiled = bytearray(payload)
        for place in {0, self._random.randrange(len(spoiled))}:  # the first byte says what it is: it never fits then
            spoiled[place] ^= 1 << self._random.randrange(2, 8)
        return bytes(spoiled)

    def _continued_wrongly(self, payload: bytes) -> bytes:
        """Records of somebody who does not know what came before them, or calls it another epoch."""
        said: dict[str, Any] = msgspec.json.decode(unpack_text(payload))
        changes: list[dict[str, Any]] = [{"prev": "5a" * 32}, {"epoch": 7}, {"epoch": 7, "first": 1}, {"gw": "gw-9"}]
        return b"\0" + msgspec.json.encode(said | self._random.choice(changes))


class _Way:
    """One direction of one connection."""

    def __init__(
        self, pipe: Pipe, reader: asyncio.StreamReader, target: asyncio.StreamWriter, source: asyncio.StreamWriter
    ) -> None:
        self._pipe, self._reader, self._target, self._source = pipe, reader, target, source
        self._held: list[bytes] = []

    async def run(self) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                first, body = await self._next_packet()
                for packet in self._treated(first, body):
                    self._target.write(packet)
                await self._target.drain()

    async def _next_packet(self) -> tuple[int, bytes]:
        first = (await self._reader.readexactly(1))[0]
        size = shift = 0
        while True:
            byte = (await self._reader.readexactly(1))[0]
            size |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return first, await self._reader.readexactly(size)

    def _treated(self, first: int, body: bytes) -> Iterator[bytes]:
        if first >> 4 != PUBLISH:
            yield _packet(first, body)
            return
        message = Message.read(first & 0x0F, body)
        self._pipe.seen.append((message.topic.decode("utf-8", "replace"), message.payload))
        kind = self._pipe.happens()
        if kind is not None:
            self._pipe.done[kind] += 1
        if kind == "reordered" and len(self._held) < HELD_BACK_MAX:
            self._held.append(message.packet)
            asyncio.get_running_loop().call_later(HELD_BACK_SECONDS_MAX, self._release)
            return
        if kind == "dropped":
            if message.packet_id:
                self._source.write(_packet(PUBACK << 4, message.packet_id))
            return
        if kind in ("truncated", "forged") and message.payload:
            message.payload = self._pipe.mangled(message.topic, message.payload, kind)
        yield message.packet
        if kind == "duplicated":
            yield message.packet
        held, self._held = self._held, []
        yield from reversed(held)

    def _release(self) -> None:
        held, self._held = self._held, []
        for packet in reversed(held):
            self._target.write(packet)


def _packet(first: int, body: bytes) -> bytes:
    size, rest = bytearray(), len(body)
    while True:
        rest, low = rest >> 7, rest & 0x7F
        size.append(low | (0x80 if rest else 0))
        if not rest:
            return bytes([first]) + bytes(size) + body
