"""A dataclass decorator for the frozen classes of the agent, which start four times as fast.

The standard library writes and compiles six methods for each frozen class, half a millisecond each time the program
starts: with hundreds of them that was half of the agent's start and a tenth of its memory. Here equality, hash, text
and refusals are shared functions, and `__init__`, which has to be compiled, is made when the first object is. What
comes out is a dataclass like any other: `fields`, `replace`, `match` and msgspec take it; type checkers see the
standard one. `from edge.core.lean import dataclass`; only `frozen=True`, and `slots=True` but for a class whose many
fields are copied in one piece (edge.core.account.changed). Source: Python's dataclasses.py.
"""

import dataclasses
from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any

__all__ = ["dataclass"]

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(*, frozen: bool, slots: bool, kw_only: bool = False) -> Callable[[type], type]:
        """The decorator, as `dataclasses.dataclass(frozen=True, slots=True)`."""
        assert frozen
        bare = dataclasses.dataclass(init=False, repr=False, eq=False, slots=slots, kw_only=kw_only)
        return lambda described: _frozen(bare(described))


def _frozen(made: Any) -> Any:
    """Gives a class what the standard decorator would have compiled for it. Its own methods stay."""
    entries = dataclasses.fields(made)
    compared = _values_of([entry.name for entry in entries if entry.compare])
    shown = [entry.name for entry in entries if entry.repr]

    def __init__(self: Any, *given: Any, **named: Any) -> None:
        made.__init__ = _compiled_init(made, entries)
        made.__init__(self, *given, **named)

    def __eq__(self: Any, other: object) -> Any:
        return compared(self) == compared(other) if other.__class__ is self.__class__ else NotImplemented

    def __hash__(self: Any) -> int:
        return hash(compared(self))

    def __repr__(self: Any) -> str:
        return f"{made.__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"

    own = made.__dict__
    for method in (__eq__, __hash__, __repr__):
        if own.get(method.__name__) is None:
            setattr(made, method.__name__, method)
    made.__init__, made.__setattr__, made.__delattr__ = __init__, _refuse_setting, _refuse_deleting
    made.__getstate__, made.__setstate__ = _state, _set_state
    return made


def _compiled_init(made: Any, entries: tuple[Any, ...]) -> Callable[..., None]:
    """What the standard library's `__init__` does for these fields, in one piece of text."""
    names: dict[str, Any] = {"missing": dataclasses.MISSING, "put": object.__setattr__}
    taken, only_named, lines = ["self"], ["*"], list[str]()
    for number, entry in enumerate(entries):
        value, default = entry.name, ""
        if entry.default_factory is not dataclasses.MISSING:
            names[f"make{number}"] = entry.default_factory
            value, default = f"make{number}() if {entry.name} is missing else {entry.name}", "=missing"
        elif entry.default is not dataclasses.MISSING:
            names[f"default{number}"] = entry.default
            default = f"=default{number}"
        if entry.init:
            (only_named if entry.kw_only else taken).append(entry.name + default)
        elif not default:
            continue  # `__post_init__` fills it
        else:
            value = default[1:] if default != "=missing" else f"make{number}()"
        lines.append(f" put(self, {entry.name!r}, {value})")
    if hasattr(made, "__post_init__"):
        lines.append(" self.__post_init__()")
    arguments = ", ".join([*taken, *(only_named if len(only_named) > 1 else [])])
    exec(f"def __init__({arguments}):\n" + "\n".join(lines or [" pass"]), names)
    init: Callable[..., None] = names["__init__"]
    init.__qualname__ = f"{made.__qualname__}.__init__"
    return init


def _values_of(names: list[str]) -> Callable[[Any], Any]:
    return attrgetter(*names) if names else lambda _made: ()


def _refuse_setting(made: Any, name: str, _value: Any) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_deleting(made: Any, name: str) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


def _state(made: Any) -> list[Any]:
    """What copy and pickle take along, in the order of the fields."""
    return [getattr(made, entry.name) for entry in dataclasses.fields(made)]


def _set_state(made: Any, state: list[Any]) -> None:
    for entry, value in zip(dataclasses.fields(made), state, strict=True):
        object.__setattr__(made, entry.name, value)
