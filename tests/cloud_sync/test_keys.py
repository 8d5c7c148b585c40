"""Key files: what is written is read back, secrets are private, a wrong pair is noticed."""

import stat
from pathlib import Path

import pytest

from cloud_sync.keys import (
    KEYRING_FILE,
    KeyEntry,
    KeyRing,
    Role,
    generate_key_directory,
    load_key_ring,
    load_signers,
    save_signer,
)


def test_key_directory_is_read_back_with_a_signer_per_role(tmp_path: Path) -> None:
    ring = generate_key_directory(tmp_path / "keys", credit_nano_max=7)
    loaded = load_key_ring(tmp_path / "keys" / KEYRING_FILE)
    assert list(loaded) == list(ring)
    signers = load_signers(tmp_path / "keys")
    assert {role: signer.kid for role, signer in signers.items()} == {role: f"{role.value}-1" for role in Role}
    caps = {entry.role: entry.credit_nano_max for entry in loaded}
    assert caps == {role: 7 if role is Role.VEND else None for role in Role}


def test_private_keys_are_for_their_owner_only(tmp_path: Path) -> None:
    generate_key_directory(tmp_path / "keys")
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "keys").glob("*.pem")}
    assert modes == {0o600}


def test_role_without_its_private_key_has_no_signer(tmp_path: Path) -> None:
    generate_key_directory(tmp_path)
    (tmp_path / "ops-1.pem").unlink()
    assert Role.OPS not in load_signers(tmp_path)


def test_private_key_of_another_pair_is_noticed(tmp_path: Path) -> None:
    generate_key_directory(tmp_path)
    signers = load_signers(tmp_path)
    save_signer(tmp_path, type(signers[Role.OPS])("ops-1", signers[Role.VEND].key))
    with pytest.raises(ValueError, match="ops-1"):
        load_signers(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        '[{"kid": "a", "role": "king", "public_key": "00"}]',
        '[{"kid": "a", "role": "ops", "public_key": "xyz"}]',
        '[{"kid": "a", "role": "ops", "public_key": "00"}]',
        '[{"kid": "a", "role": "ops"}]',
    ],
)
def test_bad_key_ring_names_its_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / KEYRING_FILE
    path.write_text(text)
    with pytest.raises(ValueError, match=KEYRING_FILE):
        load_key_ring(path)


def test_key_id_appears_once(tmp_path: Path) -> None:
    entry: KeyEntry = next(iter(generate_key_directory(tmp_path)))
    with pytest.raises(ValueError, match="twice"):
        KeyRing([entry, entry])
