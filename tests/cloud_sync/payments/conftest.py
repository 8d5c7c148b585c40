"""An API over a real backend with one gateway, on each engine; nothing listens."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from cloud_sync.backend.backend import Backend
from cloud_sync.backend.commands import CommandDesk
from cloud_sync.backend.database import open_database
from cloud_sync.keys import KeyRing, Role, Signer, generate_keys
from cloud_sync.payments.app import PaymentsApi
from cloud_sync.payments.channels import add_channel
from cloud_sync.payments.desk import PaymentDesk

NANO = 10**9
PAYMENT = {"gateway": "gw-1", "meter": "M01", "amount": "50.00"}


class Office:
    """The API, the backend beside it at the same database, and a clock."""

    def __init__(self, place: str) -> None:
        self.place, self.at = place, 1_800_000_000
        self.ring: KeyRing
        self.signers: Mapping[Role, Signer]
        self.ring, self.signers = generate_keys(credit_nano_max=1000 * NANO)
        self.backend = Backend(place, self.ring, self.signers)
        self.backend.enroll("gw-1", 1)
        self.key = self.add("bank-1")
        self.api = PaymentsApi(self.open_desk, lambda: self.at)
        self.client = TestClient(self.api.application())

    def add(self, name: str, approves: bool = False, day: int = 250) -> str:
        return add_channel(self.backend.database, name, 100 * NANO, day * NANO, 1, approves)

    def open_desk(self) -> PaymentDesk:
        database = open_database(self.place)
        return PaymentDesk(database, CommandDesk(database, self.ring, self.signers), self.signers[Role.TARIFF])

    def headers(self, key: str = "", **more: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {key or self.key}"} | {n.replace("_", "-"): v for n, v in more.items()}

    def pay(self, idempotency_key: str = "k1", key: str = "", **changed: Any) -> Any:
        headers = self.headers(key, Idempotency_Key=idempotency_key)
        return self.client.post("/v1/payments", json=PAYMENT | changed, headers=headers)

    def get(self, path: str, key: str = "") -> Any:
        return self.client.get(path, headers=self.headers(key))

    def credits(self) -> int:
        return int(self.backend.database.execute("SELECT count(*) FROM command WHERE type = 'credit'").fetchone()[0])

    def close(self) -> None:
        self.api.close()
        self.backend.close()


@pytest.fixture
def office(new_place: Callable[[], str]) -> Iterator[Office]:
    with contextlib.closing(Office(new_place())) as office:
        yield office


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture(scope="module")
def sqlite_office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    """One for many requests."""
    with contextlib.closing(Office(f"sqlite:///{tmp_path_factory.mktemp('openapi')}/cloud.db")) as office:
        yield office
