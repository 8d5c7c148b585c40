"""Events as bytes: every class comes back as it went in, and the bytes never change."""

from collections.abc import Mapping
from dataclasses import fields
from enum import Enum
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.core import events as ev
from edge.core.calendar import DailyWindows, daily_windows
from edge.core.policy import Policy
from edge.core.units import MoneyNano, UnixSeconds, WattHours
from edge.store.codec import EVENT_CLASSES, decode_event, encode_event

STREAMS = {"led", "res", "evt", "rdg"}


INTEGERS = st.integers(-(2**63), 2**63 - 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
PLAIN: dict[Any, st.SearchStrategy[Any]] = {int: INTEGERS, str: TEXTS, bool: st.booleans(), type(None): st.none()}


def anything_of(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a type as events use them."""
    kind = getattr(kind, "__supertype__", kind)
    origin, parts = get_origin(kind), get_args(kind)
    if kind in PLAIN:
        return PLAIN[kind]
    if origin in (Union, UnionType):
        return st.one_of([anything_of(part) for part in parts])
    if origin is tuple and parts[-1] is Ellipsis:
        return st.lists(anything_of(parts[0]), max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*(anything_of(part) for part in parts))
    if origin is frozenset:
        return st.frozensets(anything_of(parts[0]), max_size=3)
    if origin is Mapping:
        return st.dictionaries(anything_of(parts[0]), anything_of(parts[1]), max_size=3)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return st.sampled_from(kind)
    hints = get_type_hints(kind)
    return st.builds(kind, **{field.name: anything_of(hints[field.name]) for field in fields(kind)})


@pytest.mark.parametrize("event_class", EVENT_CLASSES.values(), ids=EVENT_CLASSES)
def test_event_comes_back_as_it_went_in(event_class: type) -> None:
    @given(event=anything_of(event_class))
    @settings(max_examples=20)
    def round_trip(event: Any) -> None:
        stream, body = encode_event(event)
        assert stream in STREAMS
        assert decode_event(body) == event
        assert encode_event(decode_event(body)) == (stream, body)  # what is hashed is what is sent again

    round_trip()


def test_every_class_of_the_union_is_known_and_its_parts_are_plain() -> None:
    assert set(EVENT_CLASSES.values()) == set(get_args(ev.Event))
    for event_class in EVENT_CLASSES.values():
        for kind in get_type_hints(event_class).values():
            assert "float" not in str(kind)


def test_body_is_these_bytes() -> None:
    event = ev.PaymentApplied(
        at=UnixSeconds(1_700_000_000),
        account="A1",
        payment_id="付款-7",
        amount_nano=MoneyNano(5_000_000_000),
        door="cloud",
        paid_at=UnixSeconds(1_699_999_990),
        posting_nano=MoneyNano(5_000_000_000),
        balance_nano=MoneyNano(-1),
    )
    assert encode_event(event) == (
        "led",
        '{"type":"PaymentApplied","at":1700000000,"account":"A1","payment_id":"付款-7","amount_nano":5000000000,'
        '"door":"cloud","paid_at":1699999990,"posting_nano":5000000000,"balance_nano":-1}'.encode(),
    )


def test_policy_with_windows_comes_back() -> None:
    windows = daily_windows([("09:00", "16:00")], ["mon", "fri"], ["2024-10-01"])
    event = ev.AccountOpened(
        at=UnixSeconds(1),
        account="A1",
        meter="M1",
        policy=Policy(cut_windows=windows, grace_hours=1),
        tariff="t@1",
        positions=1,
        register_at=UnixSeconds(1),
        register_wh=WattHours(2),
        protected=False,
        posting_nano=MoneyNano(0),
        balance_nano=MoneyNano(0),
    )
    assert decode_event(encode_event(event)[1]) == event


def test_equal_events_are_equal_bytes_whatever_order_their_sets_have() -> None:
    """0 and 8 fall into one slot of a small set: the one put in first comes out first."""
    bodies = set()
    for days in ([0, 8], [8, 0]):
        windows = DailyWindows(((0, 60),), holidays=frozenset(days))
        event = ev.TermsChanged(UnixSeconds(1), "A1", Policy(cut_windows=windows), protected=False)
        bodies.add(encode_event(event)[1])
    assert len(bodies) == 1


GOOD = {"type": "RoundingPosted", "at": 1, "account": "A1", "posting_nano": 1, "balance_nano": 1}


@pytest.mark.parametrize(
    "content",
    [
        {**GOOD, "type": "MoneyVanished"},
        {key: value for key, value in GOOD.items() if key != "type"},
        {**GOOD, "type": None},
        {**GOOD, "type": ["RoundingPosted"]},
        {**GOOD, "currency": "CNY"},
        {key: value for key, value in GOOD.items() if key != "at"},
        {**GOOD, "posting_nano": "1"},
        {**GOOD, "posting_nano": 1.5},
        {**GOOD, "posting_nano": True},
        [GOOD],
        "RoundingPosted",
        None,
    ],
)
def test_body_that_is_no_event_of_ours_is_refused(content: Any) -> None:
    assert decode_event(msgspec.json.encode(GOOD))
    with pytest.raises(ValueError, match=r"."):
        decode_event(msgspec.json.encode(content))


@pytest.mark.parametrize("body", [b"", b"{", b'{"type":"RoundingPosted"', b"\xff\xfe"])
def test_body_that_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_event(body)
