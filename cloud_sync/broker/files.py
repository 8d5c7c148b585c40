"""Configuration of a Mosquitto that lets each gateway speak and hear under its own id only.

Gateways and workers of the backend are known by the common names of their certificates. Source: the wire contract,
Known traps; SECURITY R21, R22.
"""

import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Final

from cloud_sync.wire import is_gateway_id

ACL_FILE: Final = "wattgate.acl"
CONFIGURATION_FILE: Final = "mosquitto.conf"
BACKEND_NAME: Final = "backend"
_PLACE: Final = re.compile(r"@([A-Z]+)@")


def mosquitto_files(
    folder: Path, ca: Path, certificate: Path, key: Path, port: int, backends: Sequence[str]
) -> Mapping[str, str]:
    """Contents by file name, to be written into `folder`. Raises ValueError for what Mosquitto would misread."""
    for name in backends:
        if not is_gateway_id(name):
            raise ValueError(f"--backend: {name!r} is not a common name of 1 to 23 letters, digits, - and _")
    paths = {"CA": ca, "CERTIFICATE": certificate, "KEY": key, "ACL": folder / ACL_FILE}
    for word, path in paths.items():
        if any(character in str(path) for character in "\r\n"):
            raise ValueError(f"--{word.lower()}: {str(path)!r} has a line break, which its configuration cannot hold")
    told = {word: str(path.resolve()) for word, path in paths.items()} | {"PORT": str(port)}
    acl = _shipped("mosquitto.acl") + "".join(_filled("backend.acl", {"NAME": name}) for name in backends)
    return {CONFIGURATION_FILE: _filled("mosquitto.conf", told), ACL_FILE: acl}


def _filled(name: str, words: Mapping[str, str]) -> str:
    return _PLACE.sub(lambda place: words[place[1]], _shipped(name))


def _shipped(name: str) -> str:
    return resources.files("cloud_sync.broker").joinpath(name).read_text(encoding="utf-8")
