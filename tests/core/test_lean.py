"""edge.core.lean: its classes are the standard library's in everything but the time they take to start."""

import copy
import dataclasses
from collections.abc import Callable
from dataclasses import FrozenInstanceError, field
from typing import Any

import msgspec
import pytest

from edge.core import lean


def plain_by(decorator: Callable[..., Any], **options: bool) -> Any:
    class Plain:
        number: int
        text: str = "none"
        many: tuple[int, ...] = field(default_factory=tuple)
        hidden: int = field(default=3, repr=False, compare=False)

    Plain.__qualname__ = "Plain"
    return decorator(frozen=True, slots=True, **options)(Plain)


BOTH = {"standard": dataclasses.dataclass, "lean": lean.dataclass}


@lean.dataclass(frozen=True, slots=True)
class Point:
    """One that fills a field of its own."""

    x: int
    y: int = 0
    doubled: int = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "doubled", 2 * self.x)


@pytest.mark.parametrize("name", BOTH)
def test_object_is_made_shown_compared_and_hashed_as_the_standard_does(name: str) -> None:
    kind = plain_by(BOTH[name])
    one, same, other = kind(1, "a"), kind(number=1, text="a", hidden=9), kind(2)
    assert repr(one) == "Plain(number=1, text='a', many=())"
    assert (one == same, one == other, hash(one) == hash(same), one == (1, "a", ())) == (True, False, True, False)
    assert hash(one) == hash((1, "a", ()))
    assert dataclasses.asdict(other) == {"number": 2, "text": "none", "many": (), "hidden": 3}
    assert dataclasses.replace(one, text="b") == kind(1, "b")
    assert [entry.name for entry in dataclasses.fields(kind)] == ["number", "text", "many", "hidden"]
    assert kind.__match_args__ == ("number", "text", "many", "hidden")
    assert msgspec.convert(msgspec.to_builtins(one), kind) == one


@pytest.mark.parametrize("name", BOTH)
def test_object_is_frozen_and_has_no_room_for_more(name: str) -> None:
    made = plain_by(BOTH[name])(1)
    with pytest.raises(FrozenInstanceError, match="cannot assign to field 'number'"):
        made.number = 2
    with pytest.raises(FrozenInstanceError, match="cannot delete field 'number'"):
        del made.number
    with pytest.raises((FrozenInstanceError, TypeError)):  # the standard one stumbles over its own copy of the class
        made.unknown = 2
    assert not hasattr(made, "__dict__")


@pytest.mark.parametrize("name", BOTH)
def test_wrong_arguments_are_refused_in_the_name_of_the_class_also_the_second_time(name: str) -> None:
    kind = plain_by(BOTH[name])
    for _ in range(2):
        with pytest.raises(TypeError, match=r"Plain\.__init__\(\) missing 1 required positional argument: 'number'"):
            kind()
        with pytest.raises(TypeError, match="unexpected keyword argument 'nothing'"):
            kind(1, nothing=2)


@pytest.mark.parametrize("name", BOTH)
def test_fields_by_keyword_only_are_so(name: str) -> None:
    kind = plain_by(BOTH[name], kw_only=True)
    assert kind(number=1).number == 1
    with pytest.raises(TypeError, match="positional argument"):
        kind(1)


def test_what_a_class_does_after_its_fields_are_filled_is_done() -> None:
    assert Point(4).doubled == 8
    assert Point(4) == Point(4, 0)
    assert Point.__init__.__qualname__ == "Point.__init__"


def test_copies_are_equal_objects() -> None:
    for made in (copy.copy(Point(4, 5)), copy.deepcopy(Point(4, 5))):
        assert (made, made.doubled) == (Point(4, 5), 8)


def test_own_equality_of_a_class_stays() -> None:
    @lean.dataclass(frozen=True, slots=True)
    class Odd:
        number: int

        def __eq__(self, other: object) -> bool:
            return False

        def __hash__(self) -> int:
            return 7

    assert Odd(1) != Odd(1)
    assert hash(Odd(1)) == 7


def test_class_without_fields_is_equal_to_itself_only() -> None:
    @lean.dataclass(frozen=True, slots=True)
    class One:
        pass

    @lean.dataclass(frozen=True, slots=True)
    class Two:
        pass

    assert One() == One()
    assert len({One(), One(), Two()}) == 2  # a set compares what hashes alike


def test_object_without_slots_is_as_frozen_and_the_same_in_everything_else() -> None:
    @lean.dataclass(frozen=True, slots=False)
    class Wide:
        number: int
        text: str = "none"

    made = Wide(1, "a")
    for name in ("number", "unknown"):
        with pytest.raises(FrozenInstanceError, match=f"cannot assign to field '{name}'"):
            setattr(made, name, 2)
    with pytest.raises(FrozenInstanceError, match="cannot delete field 'number'"):
        del made.number
    assert (made, hash(made)) == (Wide(number=1, text="a"), hash((1, "a")))
    assert copy.deepcopy(made) == dataclasses.replace(Wide(1), text="a") == made
    assert msgspec.convert(msgspec.to_builtins(made), Wide) == made


@pytest.mark.parametrize("name", BOTH)
def test_fields_by_name_only_and_fields_nobody_gives_are_filled_as_the_standard_does(name: str) -> None:
    class Odd:
        number: int
        named: int = field(kw_only=True)
        made: list[int] = field(default_factory=list)
        fixed: int = field(default=7, init=False)
        own: list[int] = field(default_factory=list, init=False)

    kind: Any = BOTH[name](frozen=True, slots=True)(Odd)
    one, other = kind(1, named=2), kind(1, [3], named=2)
    assert (one.number, one.named, one.made, one.fixed, one.own) == (1, 2, [], 7, [])
    assert (other.made, other.own is one.own) == ([3], False)
    for given, named in (((1,), {}), ((1, [], 2), {}), ((1,), {"named": 2, "fixed": 3}), ((), {"named": 2})):
        with pytest.raises(TypeError):
            kind(*given, **named)
