"""After a start each gateway is told what the backend has of it, so that what a restored backup lost is sent again.

A gateway that has nothing new and stays connected would else never know: it sends only above what was acknowledged. The
answer is an ordinary ack whose `miss` asks for the record after the mark: a gateway that has no such record, or has it
under way, does nothing. Some gateways a turn, so that a start is no flood; and again later, more and more seldom, since
a broker may lose what it was told. `at` is Unix seconds, `now` monotonic seconds.
"""

from typing import Final

from cloud_sync.acks import sign_ack
from cloud_sync.backend.database import Database
from cloud_sync.keys import Signer
from cloud_sync.session import Publish
from cloud_sync.wire import CONTRACT_VERSION, STREAMS, ZERO_HASH, Ack, Mark, topic_of

GATEWAYS_PER_TURN: Final = 200
PAUSE_SECONDS_FIRST: Final = 60.0
PAUSE_SECONDS_MAX: Final = 86_400.0
PAUSE_GROWTH: Final = 10.0


class Survey:
    """Goes through all gateways again and again, also those of which no hello came: it may have been lost."""

    def __init__(
        self,
        database: Database,
        signer: Signer,
        pause_seconds_max: float = PAUSE_SECONDS_MAX,
        brokers: str = "",
    ) -> None:
        """`brokers`: the name of those that this worker is at. Of the workers with one name one tells."""
        self._database = database
        self._brokers = brokers
        self._signer = signer
        self._pause_seconds_max = pause_seconds_max
        self._pause_seconds = min(PAUSE_SECONDS_FIRST, pause_seconds_max)
        self._last_id = ""
        self._due_at = float("-inf")

    def next_turn(self, at: int, now: float) -> list[Publish]:
        """Acks for the next gateways; none until it is time. Of several workers at the same brokers one tells."""
        if now < self._due_at or not self._database.lead(self._brokers):
            return []
        sql = "SELECT id, epoch FROM gateway WHERE id > ? ORDER BY id LIMIT ?"
        gateways = self._database.execute(sql, (self._last_id, GATEWAYS_PER_TURN)).fetchall()
        if len(gateways) == GATEWAYS_PER_TURN:
            self._last_id = gateways[-1][0]
        else:
            self._last_id, self._due_at = "", now + self._pause_seconds
            self._pause_seconds = min(self._pause_seconds * PAUSE_GROWTH, self._pause_seconds_max)
        condition, among = self._database.among("gateway", [gateway_id for gateway_id, _ in gateways])
        sql = f"SELECT gateway, epoch, stream, seq, hash FROM stream WHERE {condition}"
        heads = {tuple(row[:3]): (row[3], bytes(row[4])) for row in self._database.execute(sql, (among,))}
        acks = []
        for gateway_id, epoch in gateways:
            known = {name: heads.get((gateway_id, epoch, name), (0, ZERO_HASH)) for name in STREAMS}
            marks = {
                name: Mark(epoch=epoch, seq=seq, hash=digest.hex(), miss=(seq + 1, seq + 1))
                for name, (seq, digest) in known.items()
            }
            ack = Ack(v=CONTRACT_VERSION, gw=gateway_id, kid=self._signer.kid, at=at, marks=marks)
            acks.append(Publish(topic_of(gateway_id, "dn/ack"), sign_ack(ack, self._signer), qos=1, retain=False))
        return acks
