"""Signatures: the vectors of RFC 8032, and the `cryptography` package as a second opinion on keys and refusals."""

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, x25519
from cryptography.hazmat.primitives.asymmetric import ed25519 as other
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_sync.ed25519 import Ed25519PrivateKey, Ed25519PublicKey, private_key_pem, read_private_key

# RFC 8032, 7.1: seed, public key, message, signature.
VECTORS = (
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
)
GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493
# Points of order 1, 2, 4 and 8: a "key" that anybody can sign for.
SMALL_ORDER = (
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
)


@pytest.mark.parametrize(("seed", "public", "message", "signature"), VECTORS)
def test_vectors_of_rfc_8032_hold(seed: str, public: str, message: str, signature: str) -> None:
    key, said = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed)), bytes.fromhex(message)
    assert key.public_key().public_bytes_raw().hex() == public
    assert key.sign(said).hex() == signature
    assert Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).holds(bytes.fromhex(signature), said)


@given(seed=st.binary(min_size=32, max_size=32), message=st.binary(max_size=200))
def test_another_implementation_makes_the_same_signatures(seed: bytes, message: bytes) -> None:
    ours, theirs = Ed25519PrivateKey(seed), other.Ed25519PrivateKey.from_private_bytes(seed)
    assert ours.public_key().public_bytes_raw() == theirs.public_key().public_bytes_raw()
    assert ours.sign(message) == theirs.sign(message)
    assert ours.public_key().holds(theirs.sign(message), message)


@given(signature=st.binary(max_size=70), message=st.binary(max_size=20), raw=st.binary(min_size=32, max_size=32))
def test_what_another_implementation_refuses_is_refused(signature: bytes, message: bytes, raw: bytes) -> None:
    assert not is_taken_by_the_other(raw, signature, message)
    assert not Ed25519PublicKey(raw).holds(signature, message)


def test_one_flipped_bit_anywhere_is_refused() -> None:
    key, message = Ed25519PrivateKey(bytes(range(32))), b"mg/1/cmd\0credit 5"
    public, signature = key.public_key(), key.sign(message)
    assert public.holds(signature, message)
    assert not any(public.holds(changed, message) for changed in with_one_bit_flipped(signature))
    assert not any(public.holds(signature, changed) for changed in with_one_bit_flipped(message))
    raw = public.public_bytes_raw()
    assert not any(Ed25519PublicKey(changed).holds(signature, message) for changed in with_one_bit_flipped(raw))


@pytest.mark.parametrize("length", [0, 1, 32, 63, 65, 128])
def test_signature_of_another_length_is_refused(length: int) -> None:
    key = Ed25519PrivateKey(bytes(32))
    assert not key.public_key().holds((key.sign(b"x") * 2)[:length], b"x")


def test_signature_has_one_form_only() -> None:
    key = Ed25519PrivateKey(bytes(32))
    signature = key.sign(b"x")
    higher = int.from_bytes(signature[32:], "little") + GROUP_ORDER
    assert not key.public_key().holds(signature[:32] + higher.to_bytes(32, "little"), b"x")


@pytest.mark.parametrize("raw", SMALL_ORDER)
def test_key_that_anybody_can_sign_for_holds_nothing(raw: str) -> None:
    identity = bytes.fromhex(SMALL_ORDER[0])
    assert not any(Ed25519PublicKey(bytes.fromhex(raw)).holds(identity + bytes(32), bytes([n])) for n in range(64))


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Ed25519PublicKey.from_public_bytes(bytes(length))
    with pytest.raises(ValueError, match="32 bytes"):
        Ed25519PrivateKey.from_private_bytes(bytes(length))


def test_generated_keys_differ() -> None:
    assert Ed25519PrivateKey.generate().private_bytes_raw() != Ed25519PrivateKey.generate().private_bytes_raw()


def test_public_keys_are_equal_when_their_bytes_are() -> None:
    one, same, another = Ed25519PublicKey(bytes(32)), Ed25519PublicKey(bytes(32)), Ed25519PublicKey(bytes([1] * 32))
    assert one == same
    assert hash(one) == hash(same)
    assert one != another
    assert one != bytes(32)


def test_text_of_a_private_key_does_not_show_it() -> None:
    key = Ed25519PrivateKey(bytes(range(32)))
    assert bytes(range(32)).hex() not in repr(key)
    assert repr(bytes(range(32))) not in repr(key)


@settings(max_examples=20)
@given(seed=st.binary(min_size=32, max_size=32))
def test_key_file_is_the_one_openssl_writes_and_reads(seed: bytes) -> None:
    theirs = other.Ed25519PrivateKey.from_private_bytes(seed)
    written = theirs.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    assert private_key_pem(Ed25519PrivateKey(seed)) == written
    assert read_private_key(written).private_bytes_raw() == seed
    assert read_private_key(b"a note\r\n" + written.replace(b"\n", b"\r\n")).private_bytes_raw() == seed


def test_private_key_of_another_kind_is_refused() -> None:
    for key in (
        ec.generate_private_key(ec.SECP256R1()),
        ed448.Ed448PrivateKey.generate(),
        x25519.X25519PrivateKey.generate(),
    ):
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        with pytest.raises(ValueError, match="is not an Ed25519 key"):
            read_private_key(pem)


def test_key_file_with_a_password_is_refused() -> None:
    pem = other.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    )
    with pytest.raises(ValueError, match="without a password"):
        read_private_key(pem)


@pytest.mark.parametrize("cut", [0, 10, 28, 60, 100])
def test_key_file_cut_short_is_refused(cut: int) -> None:
    with pytest.raises(ValueError, match=r"is no private key in PEM|is not an Ed25519 key"):
        read_private_key(private_key_pem(Ed25519PrivateKey(bytes(32)))[:cut])


def is_taken_by_the_other(raw: bytes, signature: bytes, message: bytes) -> bool:
    try:
        other.Ed25519PublicKey.from_public_bytes(raw).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def with_one_bit_flipped(given: bytes) -> list[bytes]:
    """The same bytes with each bit flipped in turn."""
    found = []
    for bit in range(len(given) * 8):
        changed = bytearray(given)
        changed[bit // 8] ^= 1 << bit % 8
        found.append(bytes(changed))
    return found
