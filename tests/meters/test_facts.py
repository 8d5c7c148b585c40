"""The shipped models against the collected facts of 34 meters (tests/vectors/meters.json): nothing lost or changed.

The facts were written down before the models and are read here by other code than the product's.
"""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from edge.bus.frame import RTU
from edge.meters.model import READ_REGISTERS_UNKNOWN, MeterModel, Register, known_models, load_model

FACTS = json.loads(
    (Path(__file__).resolve().parent.parent / "vectors" / "meters.json").read_text("utf-8"), parse_float=Decimal
)["meters"]
BY_ID: dict[str, dict[str, Any]] = {facts["id"]: facts for facts in FACTS}
# Registers of the facts without type or address stand in the models as notes.
TOLD_IN_WORDS = {"command_block", "primary_float_block", "monthly_freeze", "live_block", "run_mode_bits", "topup"}
# The facts have this marker as a hazard of the model and not with its points: type, pattern.
OVERFLOW = {"carlo_gavazzi_em24": ("s32", 0x7FFFFFFF)}
USABLE_RELAYS = {"eastron_sdm320c", "eastron_sdm320y", "eastron_sdm530y", "hiking_dds238_2"}

every_model = pytest.mark.parametrize("model_id", sorted(BY_ID))


OTHERS = {"relay_board_8ch", "dlt645_2007", "dlt645_2007_3p"}  # of no maker


def test_every_meter_of_the_facts_is_a_model_and_there_is_no_other_but_those_of_no_maker() -> None:
    assert len(BY_ID) == 34
    assert set(known_models()) == {*BY_ID, *OTHERS}
    assert sum(len(facts["points"]) for facts in FACTS) == 520


@every_model
def test_every_point_has_the_address_function_type_order_unit_and_scale_of_the_facts(model_id: str) -> None:
    points = load_model(model_id).points
    assert list(points) == list(BY_ID[model_id]["points"])
    for name, facts in BY_ID[model_id]["points"].items():
        point = points[name]
        found = (point.function_code, point.address, point.count, point.type, point.order, point.unit)
        assert found == tuple(facts[key] for key in ("fc", "addr", "count", "type", "order", "unit")), name
        assert point.scale == Decimal(facts["scale"]), name
        told = int(facts["invalid"], 16) if "invalid" in facts else None
        type, pattern = OVERFLOW.get(model_id, ("", 0))
        assert point.invalid == (pattern if type == facts["type"] else told), name
        assert (point.confidence is not None) == ("conf" in facts), name
        assert facts.get("note", "") in (point.note or ""), name


@every_model
def test_every_model_wants_the_link_of_the_facts(model_id: str) -> None:
    facts, link = BY_ID[model_id]["link"], load_model(model_id).link
    assert (link.default_device_id, link.default_baud) == (facts["default_address"], facts["default_baud"])
    assert link.default_format == facts["default_format"]
    assert list(link.bauds) == (facts["bauds"] or [])
    assert link.max_read_registers == (facts["max_read_registers"] or READ_REGISTERS_UNKNOWN)
    assert link.min_gap_ms == (facts["min_gap_ms"] or 0)
    assert (link.typical_response_ms, link.max_response_ms) == (facts["typical_response_ms"], facts["max_response_ms"])
    assert link.even_register_reads_only == facts["even_register_reads_only"]
    assert list(link.write_function_codes) == facts["write_fc"]
    assert link.note == facts.get("note")


@every_model
def test_every_model_carries_hazards_sources_and_reasons_of_the_facts(model_id: str) -> None:
    facts, model = BY_ID[model_id], load_model(model_id)
    assert (model.vendor, model.name, model.phases) == (facts["vendor"], facts["model"], facts["phases"])
    assert list(model.hazards) == facts["hazards"]
    assert list(model.sources) == [source["ref"] for source in facts["sources"]]
    assert list(model.variants) == facts["variants"]
    assert model.no_relay_reason == facts["no_relay_reason"]
    assert model.tariff_note == facts["tou_note"]


@every_model
def test_every_model_has_the_identity_setting_and_other_registers_of_the_facts(model_id: str) -> None:
    facts, model = BY_ID[model_id], load_model(model_id)
    check_registers(facts["identity"] or {}, dict(model.identity))
    settings = {name.replace("stop", "stop_bits") if name == "stop" else name: row for name, row in settings_of(facts)}
    check_registers(settings, dict(model.settings))
    other = {name: row for name, row in (facts["other_registers"] or {}).items() if not row.get("danger")}
    check_registers(other, dict(model.other_registers))
    check_registers(facts["prepaid"] or {}, dict(model.prepaid))


@every_model
def test_an_energy_reset_of_the_facts_is_forbidden(model_id: str) -> None:
    model = load_model(model_id)
    forbidden = {row.address for row in model.write_forbidden}
    for row in (BY_ID[model_id]["other_registers"] or {}).values():
        if row.get("danger"):
            assert row["addr"] in forbidden
            assert not model.allows_write(row["fc"], row["addr"], 1)
    for hazard in model.hazards:
        if "resets energy" in hazard or "ERASES" in hazard or "zeroes total energy" in hazard or "WRITABLE" in hazard:
            assert model.write_forbidden, hazard


@pytest.mark.parametrize("model_id", sorted(model_id for model_id, facts in BY_ID.items() if facts["relay"]))
def test_the_relay_of_the_facts_is_usable_only_with_known_words_and_a_read_back(model_id: str) -> None:
    facts, model = BY_ID[model_id]["relay"], load_model(model_id)
    control = facts["control"]
    address = control.get("addr", control.get("coil"))
    if model_id not in USABLE_RELAYS:
        assert model.relay is None
        assert model.unusable_relay is not None
        assert (model.unusable_relay.function_code, model.unusable_relay.address) == (control["fc"], address)
        assert model.unusable_relay.count == control["count"]
        assert not model.write_allowed
        return
    relay = model.relay
    assert relay is not None
    assert (relay.command_function_code, relay.command_address) == (control["fc"], address)
    assert (relay.close_words, relay.open_words) == ((control["close"],), (control["open"],))
    readback = facts["readback"]
    assert relay.readback_function_code == readback["fc"]
    assert relay.readback_address == readback.get("addr", readback.get("coil"))
    assert relay.readback_count == readback.get("count", 1)
    check_registers({key: facts[key] for key in ("fault", "event_log") if key in facts}, logs_of(model))


@pytest.mark.parametrize("model_id", sorted(USABLE_RELAYS))
def test_relay_commands_are_the_vectors_of_the_facts_to_the_byte(model_id: str) -> None:
    relay = load_model(model_id).relay
    assert relay is not None
    facts = BY_ID[model_id]["relay"]
    vectors = facts.get("vectors") or facts["vectors_computed"]
    for name, closed in (("close", True), ("open", False)):
        words = relay.command_words(closed)
        frame = RTU.write(1, relay.command_function_code, relay.command_address, words).frame
        assert frame.hex() == vectors[name]
    ask = RTU.read(1, relay.readback_function_code, relay.readback_address, relay.readback_count)
    if "read" in vectors:
        assert ask.frame.hex() == vectors["read"]
    for name, closed in (("reply_closed", True), ("reply_open", False)):
        if name in vectors:
            reply = bytes.fromhex(vectors[name])
            assert RTU.first_failure(ask, ask.frame, reply) is None
            assert relay.state(RTU.words(ask, reply)) is closed


def test_three_relays_of_which_one_is_open_are_neither_closed_nor_open() -> None:
    relay = load_model("eastron_sdm530y").relay
    assert relay is not None
    assert relay.state((0xFFFF, 0xFF00)) is True
    assert relay.state((0x0000, 0x00AA)) is False  # the fourth byte belongs to no phase
    for words in ((0x00FF, 0xFF00), (0xFF00, 0xFF00), (0xFFFF, 0x0000), (0x0000, 0xFF00)):
        assert relay.state(words) is None


def settings_of(facts: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The registers among the facts of commissioning."""
    rows = (facts["comm_config"] or {}).items()
    return [(name, row) for name, row in rows if isinstance(row, dict) and row.get("addr") is not None]


def logs_of(model: MeterModel) -> dict[str, Register]:
    assert model.relay is not None
    logs = {"fault": model.relay.fault, "event_log": model.relay.event_log}
    return {name: register for name, register in logs.items() if register is not None}


def check_registers(facts: dict[str, Any], found: dict[str, Register]) -> None:
    rows = {name: row for name, row in facts.items() if isinstance(row, dict) and name not in TOLD_IN_WORDS}
    assert set(found) == set(rows)
    for name, row in rows.items():
        register = found[name]
        code = row.get("fc", row.get("fc_read"))
        if name == "tariff_select":  # the facts have the function that writes it
            assert register.write_function_code == code
        else:
            assert register.function_code == (None if name == "unlock" else code), name
            assert register.write_function_code == row.get("fc_write"), name
        assert register.address == row["addr"], name
        if row.get("type") in ("u16", "s16", "u32", "s32", "f32", "u64", "s64", "f64"):
            assert register.type == row["type"], name
        elif "count" in row:
            assert register.count == row["count"], name
        if "map" in row:
            assert register.meanings == {int(key): value for key, value in row["map"].items()}, name
        if "range" in row:
            assert [register.low, register.high] == row["range"], name
        assert (register.stride, register.records) == (row.get("stride"), row.get("records")), name
        assert register.scale == Decimal(row.get("scale", 1)), name
        assert row.get("note", "") in (register.note or ""), name
