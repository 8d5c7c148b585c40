"""The street's parts as fixtures. Tests are no package here, so its modules are loaded by name, once, in order."""

import asyncio
import importlib.util
import sys
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from tests.cloud_sync.faults.programs import Broker
    from tests.cloud_sync.faults.street import Street

CELL_SECONDS_MAX: Final = 180.0
PACKAGE: Final = "tests.cloud_sync.faults"

for _name in ("gateway", "pipe", "programs", "street"):
    if f"{PACKAGE}.{_name}" not in sys.modules:
        _spec = importlib.util.spec_from_file_location(f"{PACKAGE}.{_name}", Path(__file__).with_name(f"{_name}.py"))
        assert _spec is not None
        assert _spec.loader is not None
        _module = importlib.util.module_from_spec(_spec)
        sys.modules[_spec.name] = _module
        _spec.loader.exec_module(_module)


@pytest.fixture(scope="session")
def own_postgresql(new_postgresql: Any) -> Iterator[Any]:
    """A server that these tests may kill."""
    from tests.cloud_sync.faults.programs import PostgresqlDatabases

    with tempfile.TemporaryDirectory(prefix="wattgate-pg-") as folder:
        server = new_postgresql(Path(folder))
        yield PostgresqlDatabases(server)
        server.stop()


# The quick tier sees each fault once: with Mosquitto, on SQLite.
@pytest.fixture(
    params=["SQLite", pytest.param("PostgreSQL", marks=[pytest.mark.needs_program("psql"), pytest.mark.slow])]
)
def databases(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """Where databases are made, backed up and restored, on each engine."""
    from tests.cloud_sync.faults.programs import SqliteDatabases

    if request.param == "SQLite":
        yield SqliteDatabases(tmp_path)
        return
    server = request.getfixturevalue("own_postgresql")
    yield server
    server.start()  # whatever a test that failed has left of it


@pytest.fixture(
    params=[
        pytest.param("amqtt", marks=pytest.mark.slow),
        pytest.param("Mosquitto", marks=pytest.mark.needs_program("mosquitto")),
        pytest.param("NATS", marks=[pytest.mark.needs_program("nats-server"), pytest.mark.slow]),
    ]
)
def one_broker(request: pytest.FixtureRequest, tmp_path: Path) -> "Broker":
    from tests.cloud_sync.faults.programs import NEW_BROKER

    return NEW_BROKER[request.param](tmp_path)


@pytest.fixture
def street(tmp_path: Path, databases: Any, one_broker: "Broker") -> "Street":
    """Three gateways, a backend and its database at one broker. Nothing runs yet."""
    from tests.cloud_sync.faults.street import Street

    return Street(tmp_path, databases.new(), one_broker)


@pytest.fixture
def play() -> Callable[[Coroutine[Any, Any, None]], None]:
    """Runs a scenario on a real loop, with an end."""

    def run(scenario: Coroutine[Any, Any, None]) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(CELL_SECONDS_MAX):
                await scenario

        asyncio.run(bounded())

    return run
