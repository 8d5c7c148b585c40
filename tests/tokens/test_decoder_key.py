"""Decoder keys against the values of STS.md."""

from dataclasses import replace
from typing import Any

from edge.tokens.decoder_key import DecoderFacts, derive_decoder_key

VENDING_KEY = bytes.fromhex("abababababababab949494949494949401234567")
FACTS = DecoderFacts(1993, "01", "123457", 2, 1, "600727000000000009")


def test_decoder_key_is_as_published(sts_keys_vector: dict[str, Any]) -> None:
    facts = DecoderFacts(
        base_year=sts_keys_vector["base"],
        tariff_index=sts_keys_vector["ti"],
        supply_group=sts_keys_vector["sgc"],
        key_type=sts_keys_vector["key_type"],
        key_revision=sts_keys_vector["krn"],
        meter_number=sts_keys_vector["pan"],
    )
    key = derive_decoder_key(bytes.fromhex(sts_keys_vector["vending_key"]), facts)
    assert f"{key:032x}" == sts_keys_vector["decoder_key"]


def test_every_fact_of_the_meter_is_bound_into_the_key() -> None:
    others = [
        replace(FACTS, base_year=2014),
        replace(FACTS, base_year=2035),
        replace(FACTS, tariff_index="02"),
        replace(FACTS, supply_group="123456"),
        replace(FACTS, key_type=3),
        replace(FACTS, key_revision=2),
        replace(FACTS, meter_number="600727000000000010"),
    ]
    keys = {derive_decoder_key(VENDING_KEY, facts) for facts in (FACTS, *others)}
    assert len(keys) == 8
    assert derive_decoder_key(bytes(20), FACTS) not in keys
