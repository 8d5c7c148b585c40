"""A real agent signs its day's checkpoint, the backend takes it, and a third party verifies a receipt with it."""

import contextlib
import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cloud_sync.backend.backend import Backend
from cloud_sync.backend.ingest import Received
from cloud_sync.ed25519 import Ed25519PrivateKey
from cloud_sync.keys import Signer, generate_keys, save_signer
from cloud_sync.proof.checkpoint import CONDITION
from cloud_sync.proof.receipt import HeadFile, Verified, verify_receipt
from cloud_sync.wire import ZERO_HASH, Batch, encode_payload, topic_of
from edge.bootstrap import prepare
from edge.config import ConfigError, read_config

GATEWAY = "gw-1"
AT = 20_000 * 86_400 + 5


@pytest.fixture(scope="module")
def agent() -> Any:
    """The real agent on real files, as the tests of RECOVERY run it."""
    path = Path(__file__).resolve().parents[1] / "agent" / "test_recovery.py"
    spec = importlib.util.spec_from_file_location("site_of_recovery", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def live_a_day(agent: Any, folder: Path, key: Ed25519PrivateKey | None) -> Any:
    """A gateway that ran twice with a night between; it is stopped as soon as the day is frozen."""

    class Site(agent.Site1):  # type: ignore[misc]
        def prepared(self) -> Any:
            return replace(super().prepared(), device_key=key)

    site = Site(folder, generate_keys()[0])
    site.live(agent.opened)
    site.meter.import_kwh += 3.0
    site.live(lambda snapshot: agent.opened(snapshot) and "RegisterFrozen" in site.types())
    return site


def sent_up(backend: Backend, records: list[tuple[str, int, int, str]]) -> None:
    for stream in ("led", "evt"):
        bodies = tuple(body for name, _, _, body in records if name == stream)
        batch = Batch(v=1, gw=GATEWAY, stream=stream, epoch=1, first=1, prev=ZERO_HASH.hex(), bodies=bodies)
        backend.take([Received(topic_of(GATEWAY, f"up/{stream}"), encode_payload(batch))], AT, 0.0)


def test_checkpoint_that_an_agent_signs_carries_a_receipt_to_a_third_party(agent: Any, tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    records = live_a_day(agent, tmp_path, key).records()
    ring, signers = generate_keys()
    with contextlib.closing(Backend(":memory:", ring, signers)) as backend:
        backend.enroll(GATEWAY, AT)
        backend.pin_device_key(GATEWAY, key.public_key().public_bytes_raw(), AT)
        sent_up(backend, records)
        assert (backend.alarms(), backend.problems()) == ([], [])  # its sums are those of the records
        given = backend.give_proof(GATEWAY, 1, 1, AT)
    head = HeadFile(given.head.hex())
    found = verify_receipt(given.receipt, given.proof, head, ring, key.public_key().public_bytes_raw())
    assert isinstance(found, Verified)
    assert msgspec.json.decode(found.record)["type"] == "TariffAccepted"
    assert found.checkpoint.seq > 1


def test_agent_without_a_device_key_signs_nothing_and_goes_on(agent: Any, tmp_path: Path) -> None:
    site = live_a_day(agent, tmp_path, None)
    assert "RegisterFrozen" in site.types()
    assert not [body for _, _, _, body in site.records() if CONDITION in body]


def test_device_key_that_cannot_be_used_is_found_before_anything_starts(agent: Any, tmp_path: Path) -> None:
    site = agent.Site1(tmp_path, None)
    cloud = '\n[cloud]\nbrokers = ["mqtt://127.0.0.1:1"]\nkeyring = "keyring.json"\ndevice_key = "device.pem"\n'
    (site.folder / "gateway.toml").write_text(agent.CONFIG + cloud)
    (site.folder / "keyring.json").write_text("[]")
    for content in (None, "not a key"):
        if content is not None:
            (site.folder / "device.pem").write_text(content)
        with pytest.raises(ConfigError, match=r"device\.pem"):
            prepare(read_config(site.folder / "gateway.toml"))
    key = Ed25519PrivateKey.generate()
    save_signer(site.folder, Signer("device", key))
    prepared = prepare(read_config(site.folder / "gateway.toml"))
    assert prepared.device_key is not None
    assert prepared.device_key.public_key() == key.public_key()
