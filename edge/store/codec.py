"""Events as the bytes that are hashed, stored and sent: one JSON object each.

The body is {"type": class name, then the event's fields}; unknown types are an error here,
because a journal must replay whole. Enumerations are their values, integers stay integers.
"""

from dataclasses import fields
from typing import Any, get_args

import msgspec

from edge.core.events import Event

EVENT_CLASSES: dict[str, Any] = {event_class.__name__: event_class for event_class in get_args(Event)}
_FIELDS: dict[type, tuple[str, ...]] = {
    event_class: tuple(entry.name for entry in fields(event_class)) for event_class in EVENT_CLASSES.values()
}


def encode_event(event: Event) -> tuple[str, bytes]:
    """(stream, body) of an event."""
    event_class = type(event)
    body = {"type": event_class.__name__, **{name: getattr(event, name) for name in _FIELDS[event_class]}}
    return event.stream, msgspec.json.encode(body)


def decode_event(body: bytes) -> Event:
    """The event of a body. ValueError when it is none of ours."""
    fields_found = msgspec.json.decode(body)
    name = fields_found.pop("type", None)
    if name not in EVENT_CLASSES:
        raise ValueError(f"journal holds an unknown event type {name!r}")
    event: Event = msgspec.convert(fields_found, EVENT_CLASSES[name])
    return event
