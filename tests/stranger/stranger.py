"""A gateway made from the exported contract alone: README.md, asyncapi.json, vectors.json. No line of ours is used.

usage: stranger.py CONTRACT_DIR KEYRING PORT GATEWAY PACKAGES

Checks itself with the vectors, then talks to a backend through a broker and prints one JSON object a line.
PACKAGES is a folder with the two libraries it may use: paho-mqtt and cryptography.
"""

import hashlib
import json
import sys
import zlib
from pathlib import Path
from queue import Queue
from typing import Any

CONTRACT, KEYRING, PORT, GATEWAY, PACKAGES = sys.argv[1:]
sys.path.append(PACKAGES)

import paho.mqtt.client as mqtt  # noqa: E402
from cryptography.exceptions import InvalidSignature  # noqa: E402
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: E402
from paho.mqtt.enums import CallbackAPIVersion  # noqa: E402

ASYNCAPI = json.loads((Path(CONTRACT) / "asyncapi.json").read_text("utf-8"))
VECTORS = json.loads((Path(CONTRACT) / "vectors.json").read_text("utf-8"))
DOMAINS = {name: bytes.fromhex(text) for name, text in VECTORS["domains"].items()}
ROLES = {"ack": "ingest", "order": "vend"}
ZEROS = "0" * 64
ANSWER_S = 20


def topic(gateway: str, channel: str) -> str:
    shard = hashlib.sha256(gateway.encode()).hexdigest()[:2]
    return str(ASYNCAPI["channels"][channel]["address"]).format(shard=shard, gateway=gateway)


def record(gateway: str, stream: str, epoch: int, seq: int, previous: str, body: str) -> bytes:
    return f'["{gateway}","{stream}",{epoch},{seq},"{previous}"]\n{body}'.encode()


def unframe(payload: bytes) -> Any:
    return json.loads(payload[1:] if payload[0] == 0 else zlib.decompress(payload[1:]))


def opened(envelope: bytes, kind: str, gateway: str, keyring: Any) -> Any:
    """The content of a signed envelope, or None for one that is not to be believed."""
    content = envelope[65:]
    try:
        message = json.loads(content)
        entry = next(entry for entry in keyring if entry["kid"] == message["kid"])
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(entry["public_key"]))
        key.verify(envelope[1:65], DOMAINS[kind] + content)
    except (ValueError, KeyError, StopIteration, InvalidSignature):
        return None
    good = envelope[0] == 1 and message["v"] == 1 and message["gw"] == gateway and entry["role"] == ROLES[kind]
    return message if good else None


def check_vectors() -> int:
    """Raises when something here is not as the vectors say. Returns how many were used."""
    used = 0
    for vector in VECTORS["vectors"]:
        said, expected, content = (vector.get(name) for name in ("input", "expected", "bytes"))
        if vector["kind"] == "topic":
            assert topic(said["gateway"], "ledger") == expected == bytes.fromhex(content).decode(), vector["id"]
        elif vector["kind"] == "record":
            made = record(*(said[key] for key in ("gateway", "stream", "epoch", "seq", "previous", "body")))
            assert (made.hex(), hashlib.sha256(made).hexdigest()) == (content, expected["hash"]), vector["id"]
        elif vector["kind"] == "payload" and "refused" not in expected:
            assert unframe(bytes.fromhex(content)) == expected, vector["id"]
        elif vector["kind"] == "ack" or vector["id"] in ("order-credit", "order-refused-bit", "order-refused-domain"):
            found = opened(bytes.fromhex(content), vector["kind"], said["gateway"], VECTORS["keyring"])
            assert found == (None if "refused" in expected else expected), vector["id"]
        else:
            continue
        used += 1
    return used


class Gateway:
    """Two chains in memory, one connection, and the acks that are believed."""

    def __init__(self) -> None:
        self.chains = {"led": [ZEROS], "res": [ZEROS]}
        self.acks, self.orders = Queue[Any](), Queue[Any]()
        self.keyring = json.loads(Path(KEYRING).read_text("utf-8"))
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=GATEWAY)
        self.client.on_message = self.on_message
        self.client.connect("127.0.0.1", int(PORT))
        self.client.loop_start()
        subscribed = Queue[bool]()
        self.client.on_subscribe = lambda *_: subscribed.put(True)
        self.client.subscribe([(topic(GATEWAY, channel), 1) for channel in ("acks", "orders")])
        subscribed.get(timeout=ANSWER_S)

    def on_message(self, _client: Any, _data: Any, message: Any) -> None:
        kind, inbox = ("ack", self.acks) if message.topic == topic(GATEWAY, "acks") else ("order", self.orders)
        content = opened(message.payload, kind, GATEWAY, self.keyring)
        if content is not None:
            inbox.put(content)

    def publish(self, channel: str, message: Any, packed: bool = False) -> None:
        text = json.dumps(message, ensure_ascii=False).encode()
        payload = b"\1" + zlib.compress(text) if packed else b"\0" + text
        self.client.publish(topic(GATEWAY, channel), payload, qos=1).wait_for_publish(ANSWER_S)

    def hello(self) -> Any:
        heads = {}
        for name, chain in self.chains.items():
            heads[name] = {"epoch": 1, "seq": len(chain) - 1, "hash": chain[-1], "acked": 0}
        common = {"v": 1, "gw": GATEWAY, "epoch": 1, "boot": "b1"}
        self.publish("status", {**common, "online": True})
        said = {"clock": "unset", "at": 0, "software": "stranger", "roster": [], "roster_hash": ZEROS, "heads": heads}
        self.publish("hello", {**common, **said})
        return self.acks.get(timeout=ANSWER_S)

    def send(self, stream: str, bodies: list[str], first: int | None = None, packed: bool = False) -> Any:
        """New bodies, or with `first` bodies at places that were sent before. The mark the ack states."""
        chain = self.chains[stream]
        start = len(chain) if first is None else first
        previous = chain[start - 1]
        if first is None:
            for body in bodies:
                made = record(GATEWAY, stream, 1, len(chain), chain[-1], body)
                chain.append(hashlib.sha256(made).hexdigest())
        message = {"v": 1, "gw": GATEWAY, "stream": stream, "epoch": 1, "first": start, "prev": previous}
        self.publish({"led": "ledger", "res": "results"}[stream], {**message, "bodies": bodies}, packed)
        mark = self.acks.get(timeout=ANSWER_S)["marks"][stream]
        return {**mark, "ours": mark["hash"] == chain[mark["seq"]]}


def main() -> None:
    print(json.dumps({"step": "vectors", "used": check_vectors()}))
    gateway = Gateway()
    bodies = [json.dumps({"account": "A01", "at": 1, "posting_nano": nano, "text": "电"}) for nano in (5, -2)]
    forked = [bodies[0], json.dumps({"account": "A01", "at": 1, "posting_nano": 900})]
    print(json.dumps({"step": "hello", "mark": gateway.hello()["marks"]["led"]}))
    print(json.dumps({"step": "led", "mark": gateway.send("led", bodies, packed=True)}))
    print(json.dumps({"step": "duplicate", "mark": gateway.send("led", bodies, first=1)}))
    print(json.dumps({"step": "fork", "mark": gateway.send("led", forked, first=1)}))
    order = gateway.orders.get(timeout=ANSWER_S)
    posted = json.dumps({"account": "A01", "at": 2, "posting_nano": order["args"]["amount_nano"]})
    print(json.dumps({"step": "credit", "order": order, "mark": gateway.send("led", [posted])}))
    answered = gateway.send("res", [json.dumps({"cid": order["cid"], "result": "applied"})])
    print(json.dumps({"step": "result", "mark": answered}))


if __name__ == "__main__":
    main()
