"""Configuration of a NATS server that lets each gateway speak and hear under its own id only, alone or in a cluster.

NATS has no pattern for the name in a certificate: every gateway is listed, so the file is written again (and the server
told by HUP) when one is enrolled. Source: the wire contract, Topics; SECURITY R21, R22.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cloud_sync.broker.files import checked_backends, checked_paths, filled, shipped
from cloud_sync.wire import CHANNELS, UP_TOPICS, is_gateway_id, topic_of

NATS_FILE: Final = "nats.conf"
CLUSTER_REPLICAS: Final = 3
_PROBE: Final = "mg/1/probe/+"  # whether shared subscriptions are delivered is found out with a word to oneself
_DOWN: Final = ("mg/1/+/+/dn/ack", "mg/1/+/+/dn/cmd", "mg/1/+/+/dn/cfg")
_OWN_DELIVERIES: Final = "$MQTT.sub.>"  # where a server brings what it kept for a subscription at QoS 1
_CLUSTER: Final = """
# The other servers, with the same certificates.
cluster {
  name: "wattgate"
  listen: "0.0.0.0:@OWN@"
  routes: [@ROUTES@]
  tls { cert_file: "@CERTIFICATE@", key_file: "@KEY@", ca_file: "@CA@", verify: true }
}
"""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Servers that know of each other. `routes`: HOST:PORT of the others."""

    port: int
    routes: Sequence[str]


@dataclass(frozen=True, slots=True)
class NatsServer:
    """One server. `client_port` is for NATS's own protocol, on this host only."""

    name: str
    port: int
    client_port: int = 4222
    cluster: Cluster | None = None


def nats_files(
    folder: Path, paths: tuple[Path, Path, Path], server: NatsServer, backends: Sequence[str], gateways: Sequence[str]
) -> Mapping[str, str]:
    """Contents by file name, to be written into `folder`. `paths`: CA, certificate, key. Raises ValueError."""
    checked_backends(backends)
    for name in (*gateways, server.name):
        if not is_gateway_id(name):
            raise ValueError(f"{name!r} is not a name of 1 to 23 letters, digits, - and _")
    told = checked_paths(dict(zip(("CA", "CERTIFICATE", "KEY"), paths, strict=True)) | {"STORE": folder / "jetstream"})
    if any(character in path for path in told.values() for character in '"\\'):
        raise ValueError("a path has a quote or a backslash, which the configuration of NATS cannot hold")
    told |= {"PORT": str(server.port), "CLIENT": str(server.client_port), "SERVER": server.name, "CLUSTER": ""}
    told["REPLICAS"] = str(1 if server.cluster is None else CLUSTER_REPLICAS)
    if server.cluster is not None:
        routes = ", ".join(json.dumps(f"nats://{route}") for route in server.cluster.routes)
        told["CLUSTER"] = filled(_CLUSTER, told | {"OWN": str(server.cluster.port), "ROUTES": routes})
    users = [_user(name, (*_DOWN, _PROBE), (*UP_TOPICS, _PROBE)) for name in backends]
    users += [_user(name, *_own_topics(name)) for name in gateways]
    told["USERS"] = "\n".join(users)
    return {NATS_FILE: filled(shipped("nats.conf"), told)}


def _own_topics(gateway_id: str) -> tuple[list[str], list[str]]:
    """(said, heard) by a gateway."""
    topics = {channel: topic_of(gateway_id, channel) for channel in sorted(CHANNELS)}
    said = [topic for channel, topic in topics.items() if not channel.startswith("dn/")]
    return said, [topic for channel, topic in topics.items() if channel.startswith("dn/")]


def _user(name: str, says: Iterable[str], hears: Iterable[str]) -> str:
    publish = json.dumps([_subject(topic) for topic in says])
    subscribe = json.dumps([*(_subject(topic) for topic in hears), _OWN_DELIVERIES])
    return f'    {{ user: "CN={name}", permissions: {{ publish: {publish}, subscribe: {subscribe} }} }}'


def _subject(topic: str) -> str:
    """A topic as NATS has it. No id of ours holds a dot."""
    return topic.replace("/", ".").replace("+", "*")
