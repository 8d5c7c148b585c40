"""MISTY1 against RFC 2994, and its tables against what is known of them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.tokens.misty1 import _S7, _S9, Misty1

BLOCKS = st.integers(0, 2**64 - 1)
KEYS = st.integers(0, 2**128 - 1)


def test_block_encrypts_as_published(misty1_vector: dict[str, Any]) -> None:
    cipher = Misty1(int(misty1_vector["key"], 16))
    assert f"{cipher.encrypt(int(misty1_vector['plaintext'], 16)):016x}" == misty1_vector["ciphertext"]
    assert f"{cipher.decrypt(int(misty1_vector['ciphertext'], 16)):016x}" == misty1_vector["plaintext"]


@given(KEYS, BLOCKS)
def test_decryption_undoes_encryption(key: int, block: int) -> None:
    cipher = Misty1(key)
    assert cipher.decrypt(cipher.encrypt(block)) == block
    assert cipher.encrypt(cipher.decrypt(block)) == block


@pytest.mark.parametrize(("table", "bits", "degree"), [(_S7, 7, 3), (_S9, 9, 2)])
def test_table_is_a_permutation_of_its_algebraic_degree(table: tuple[int, ...], bits: int, degree: int) -> None:
    """One wrong entry makes the degree of a column nearly full."""
    assert sorted(table) == list(range(1 << bits))
    for column in range(bits):
        form = [value >> column & 1 for value in table]
        for step in (1 << bit for bit in range(bits)):  # the algebraic normal form, by Moebius transform
            for index in range(1 << bits):
                if index & step:
                    form[index] ^= form[index ^ step]
        assert max(index.bit_count() for index, present in enumerate(form) if present) <= degree
