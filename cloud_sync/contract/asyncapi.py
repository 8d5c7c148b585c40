"""The AsyncAPI 3.0 document of all topics, as seen by a gateway: it sends `up` and `st`, it receives `dn`.

The bytes on the wire are a frame around JSON, which AsyncAPI cannot say: the payload schema is that
of the JSON inside, and `x-frame` names the frame (explained in README.md of the export).
"""

from dataclasses import dataclass
from typing import Any, Final

from cloud_sync.acks import ACK_BYTES_MAX
from cloud_sync.contract.schemas import schema_components
from cloud_sync.envelope import DOMAIN_ACK, DOMAIN_DOCUMENT, DOMAIN_ORDER
from cloud_sync.orders import DOCUMENT_BYTES_MAX, ORDER_BYTES_MAX
from cloud_sync.wire import CONTRACT_VERSION, PAYLOAD_BYTES_MAX


@dataclass(frozen=True, slots=True)
class Channel:
    """One topic of a gateway. `domain` is the signature's, for what comes down."""

    name: str
    channel: str
    schema: str
    summary: str
    bytes_max: int
    domain: bytes | None = None
    retain: bool = False


CHANNELS: Final = (
    Channel("hello", "up/hello", "Hello", "Birth message, sent at every connect", PAYLOAD_BYTES_MAX),
    Channel("ledger", "up/led", "Batch", "Ledger records: money and decisions. Sent first", PAYLOAD_BYTES_MAX),
    Channel("results", "up/res", "Batch", "Results of orders, once for each", PAYLOAD_BYTES_MAX),
    Channel("events", "up/evt", "Batch", "Observations, among them signed checkpoints", PAYLOAD_BYTES_MAX),
    Channel("readings", "up/rdg", "Batch", "Readings; a record travels alone, the newest first", PAYLOAD_BYTES_MAX),
    Channel("status", "st", "Status", "Online or not; also the Will", PAYLOAD_BYTES_MAX, retain=True),
    Channel("acks", "dn/ack", "Ack", "What the backend has committed, and its time", ACK_BYTES_MAX, DOMAIN_ACK),
    Channel("orders", "dn/cmd", "Order", "Signed orders", ORDER_BYTES_MAX, DOMAIN_ORDER),
    Channel("documents", "dn/cfg", "Document", "Signed desired state", DOCUMENT_BYTES_MAX, DOMAIN_DOCUMENT),
)

PARAMETERS: Final = {
    "shard": {"description": "First byte of SHA-256 of the gateway id, two lower-case hex digits."},
    "gateway": {"description": "The gateway id: 1 to 23 letters, digits, underscores and dashes."},
}


def asyncapi_document() -> dict[str, Any]:
    """The whole document."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Wattgate wire contract",
            "version": f"{CONTRACT_VERSION}.0.0",
            "description": "Between a prepayment gateway and its cloud, over MQTT 3.1.1. Seen by the gateway.",
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/octet-stream",
        "servers": {
            "broker": {
                "host": "broker.example.org:8883",
                "protocol": "secure-mqtt",
                "protocolVersion": "3.1.1",
                "description": "Clean session, client id = certificate CN = gateway id, keep-alive 60 to 300 s.",
                "bindings": {"mqtt": {"cleanSession": True, "keepAlive": 60, "bindingVersion": "0.2.0"}},
            }
        },
        "channels": {channel.name: _channel(channel) for channel in CHANNELS},
        "operations": dict(_operation(channel) for channel in CHANNELS),
        "components": {
            "messages": {channel.name: _message(channel) for channel in CHANNELS},
            "parameters": PARAMETERS,
            "schemas": schema_components(),
        },
    }


def _channel(channel: Channel) -> dict[str, Any]:
    return {
        "address": f"mg/{CONTRACT_VERSION}/{{shard}}/{{gateway}}/{channel.channel}",
        "description": channel.summary,
        "messages": {channel.name: {"$ref": f"#/components/messages/{channel.name}"}},
        "parameters": {name: {"$ref": f"#/components/parameters/{name}"} for name in PARAMETERS},
    }


def _operation(channel: Channel) -> tuple[str, dict[str, Any]]:
    action = "send" if channel.domain is None else "receive"
    operation = {
        "action": action,
        "summary": channel.summary,
        "channel": {"$ref": f"#/channels/{channel.name}"},
        "messages": [{"$ref": f"#/channels/{channel.name}/messages/{channel.name}"}],
        "bindings": {"mqtt": {"qos": 1, "retain": channel.retain, "bindingVersion": "0.2.0"}},
    }
    return f"{action}_{channel.name}", operation


def _message(channel: Channel) -> dict[str, Any]:
    frame = "flag byte, JSON" if channel.domain is None else "envelope: version byte, Ed25519 signature, JSON"
    message: dict[str, Any] = {
        "name": channel.name,
        "summary": channel.summary,
        "contentType": "application/octet-stream",
        "payload": {"$ref": f"#/components/schemas/{channel.schema}"},
        "x-frame": frame,
        "x-bytes-max": channel.bytes_max,
    }
    if channel.domain is not None:
        message["x-signature-domain-hex"] = channel.domain.hex()
    return message
