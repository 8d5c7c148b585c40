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
    checked_backends(backends)
    told = checked_paths({"CA": ca, "CERTIFICATE": certificate, "KEY": key, "ACL": folder / ACL_FILE})
    told["PORT"] = str(port)
    workers = (filled(shipped("backend.acl"), {"NAME": name}) for name in backends)
    acl = shipped("mosquitto.acl") + "".join(workers)
    return {CONFIGURATION_FILE: filled(shipped("mosquitto.conf"), told), ACL_FILE: acl}


def checked_backends(names: Sequence[str]) -> None:
    """Raises ValueError for a name that is none."""
    for name in names:
        if not is_gateway_id(name):
            raise ValueError(f"--backend: {name!r} is not a common name of 1 to 23 letters, digits, - and _")


def checked_paths(paths: Mapping[str, Path]) -> dict[str, str]:
    """Whole paths by their word. Raises ValueError for one that would end its line."""
    for word, path in paths.items():
        if any(character in str(path) for character in "\r\n"):
            raise ValueError(f"--{word.lower()}: {str(path)!r} has a line break, which its configuration cannot hold")
    return {word: str(path.resolve()) for word, path in paths.items()}


def filled(text: str, words: Mapping[str, str]) -> str:
    """A text with its words in capitals between at-signs replaced."""
    return _PLACE.sub(lambda place: words[place[1]], text)


def shipped(name: str) -> str:
    """A file of this folder."""
    return resources.files("cloud_sync.broker").joinpath(name).read_text(encoding="utf-8")
