"""What a running agent leaves out of memory: optional modules that libraries load when they are there.

A library that can do without a module says so: it catches ImportError. asyncio does without ssl, hashlib without
OpenSSL (Python has SHA-256 itself), msgspec without typing_extensions; RSS is 6 MB less. They are left out while the
agent's own modules are imported, once for the process: whoever imports one of them later gets it.
"""

import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from types import ModuleType

# Of OpenSSL: only where a broker has TLS.
_OPENSSL = ("ssl", "_hashlib")
_ASKED_OF_SSL = ("SSLWantReadError", "SSLWantWriteError")
_NEVER_USED = ("typing_extensions",)
_OWN_SHA256 = ("_sha2", "_sha256")  # Python 3.12 and later, and 3.11


def unused_modules(*, has_tls: bool) -> tuple[str, ...]:
    """What the parts of an agent can do without."""
    has_sha256 = any(name in sys.builtin_module_names or find_spec(name) is not None for name in _OWN_SHA256)
    return _NEVER_USED if has_tls or not has_sha256 else (*_NEVER_USED, *_OPENSSL)


@contextmanager
def without(names: Collection[str]) -> Iterator[None]:
    """Inside, these modules are as if not installed, but for those that are loaded already."""
    hidden = [name for name in names if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # an import of it raises ModuleNotFoundError
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@contextmanager
def for_console() -> Iterator[None]:
    """For importing the console: it serves no TLS, and uvicorn's own command line and workers are not used."""
    # Defaults of options that we do not use.
    tls = standing_in("ssl", PROTOCOL_TLS_SERVER=17, CERT_NONE=0)
    with tls, standing_in("uvicorn.main", Server=None, main=None, run=None):
        import uvicorn  # noqa: F401
    with without(_OPENSSL):
        yield


def load_broker_client(*, has_tls: bool) -> None:
    """Imports paho without what it has for proxies: HTTP, mail's headers, compression.

    Without TLS it still asks `ssl` for two kinds of error whenever a socket is not ready.
    """
    never_raised = {} if has_tls else {name: type(name, (OSError,), {}) for name in _ASKED_OF_SSL}
    tls = standing_in("ssl", **never_raised) if never_raised else nullcontext()
    with tls, without(["socks"]), standing_in("urllib.request"):  # asked only where there is `socks`
        import paho.mqtt.client  # noqa: F401


@contextmanager
def standing_in(name: str, **attributes: object) -> Iterator[None]:
    """Inside, a module that is imported without being asked for anything else is only these names of it."""
    if sys.modules.get(name) is not None:
        yield
        return
    before = {name: sys.modules[name]} if name in sys.modules else {}  # left out already
    sys.modules[name] = ModuleType(name)
    vars(sys.modules[name]).update(attributes)
    try:
        yield
    finally:
        del sys.modules[name]
        sys.modules.update(before)
