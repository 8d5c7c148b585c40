"""Events as the bytes that are hashed, stored and sent: one JSON object each.

The body is {"type": class name, then the event's fields}; unknown types are an error here,
because a journal must replay whole. Enumerations are their values, integers stay integers.
A field that came later and says nothing (None, "", 0, ()) is left out: old bodies stay what they were.
"""

from dataclasses import MISSING, fields
from typing import Any, get_args

import msgspec

from edge.core.events import Event

EVENT_CLASSES: dict[str, Any] = {event_class.__name__: event_class for event_class in get_args(Event)}
# Sets have no order of their own: sorted, so that equal events are equal bytes.
_ENCODER = msgspec.json.Encoder(order="deterministic")
_FIELDS: dict[type, tuple[str, ...]] = {
    event_class: tuple(entry.name for entry in fields(event_class)) for event_class in EVENT_CLASSES.values()
}
# Fields with an empty default, and that default, by class.
_OPTIONAL: dict[type, dict[str, object]] = {
    event_class: {
        entry.name: entry.default for entry in fields(event_class) if entry.default is not MISSING and not entry.default
    }
    for event_class in EVENT_CLASSES.values()
}


def encode_event(event: Event) -> tuple[str, bytes]:
    """(stream, body) of an event."""
    silent = {name for name, default in _OPTIONAL[type(event)].items() if getattr(event, name) == default}
    if silent:
        said = [name for name in _FIELDS[type(event)] if name not in silent]
        content = b",".join(b'"%b":%b' % (name.encode(), _ENCODER.encode(getattr(event, name))) for name in said) + b"}"
    else:
        content = _ENCODER.encode(event)[1:]  # "at":...}
    return event.stream, b'{"type":"%b",%b' % (type(event).__name__.encode(), content)


def decode_event(body: bytes) -> Event:
    """The event of a body. ValueError when it is none of ours, or says more than we understand."""
    fields_found = msgspec.json.decode(body, type=dict[str, Any])
    name = fields_found.pop("type", None)
    event_class = EVENT_CLASSES.get(name) if isinstance(name, str) else None
    if event_class is None:
        raise ValueError(f"journal holds an unknown event type {name!r}")
    unknown = fields_found.keys() - set(_FIELDS[event_class])
    if unknown:
        raise ValueError(f"journal holds a {name} with an unknown field {min(unknown)!r}")
    event: Event = msgspec.convert(fields_found, event_class)
    return event
