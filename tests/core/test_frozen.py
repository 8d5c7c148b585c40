"""edge.core.frozen: what a quick maker gives is what the class gives."""

from dataclasses import FrozenInstanceError, dataclass, field, replace

import pytest

from edge.core.frozen import quickly


@dataclass(frozen=True, slots=True)
class Line:
    """Something with every kind of field."""

    name: str
    count: int = 1
    parts: tuple[int, ...] = ()
    notes: dict[str, str] = field(default_factory=dict)


make = quickly(Line)


def test_what_is_made_quickly_is_of_the_class_and_equal() -> None:
    made, usual = make("a", 2, notes={"b": "c"}), Line("a", 2, notes={"b": "c"})
    assert type(made) is Line
    assert (made, repr(made)) == (usual, repr(usual))


def test_defaults_are_the_classes_own_and_factories_are_called_each_time() -> None:
    first, second = make("a"), make("a")
    assert first == Line("a")
    assert first.notes is not second.notes


def test_what_is_made_quickly_is_as_frozen_as_the_rest() -> None:
    made = make("a")
    with pytest.raises(FrozenInstanceError):
        made.count = 3  # type: ignore[misc]
    assert replace(made, count=3) == Line("a", 3)


def test_a_missing_field_is_an_error_as_ever() -> None:
    with pytest.raises(TypeError, match="name"):
        make()  # type: ignore[call-arg]


def test_a_class_that_does_more_than_fill_its_fields_has_no_quick_maker() -> None:
    @dataclass(frozen=True, slots=True)
    class Checked:
        count: int

        def __post_init__(self) -> None:
            assert self.count

    with pytest.raises(AssertionError):
        quickly(Checked)
