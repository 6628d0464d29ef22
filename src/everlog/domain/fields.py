"""A state field by field: dotted paths to plain values, so that any two states can be compared."""

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Any

import msgspec

from everlog.domain.event import field_names, is_pydantic, is_record

MISSING = "<missing>"
"""What stands where one of two states has no such field."""


def flatten(state: object) -> dict[str, object]:
    """A state as dotted paths to plain values; one that has no parts has the path `state`. A set is one value."""
    return dict(_leaves(state, ""))


def _leaves(value: object, path: str) -> Iterator[tuple[str, object]]:
    parts = list(_parts(value))
    for step, inner in parts:
        yield from _leaves(inner, f"{path}{step}".removeprefix("."))
    if not parts:
        yield path or "state", _plain(value)


def _parts(value: Any) -> Iterator[tuple[str, object]]:
    match value:
        case Mapping():
            yield from ((f".{_plain(key)}", inner) for key, inner in value.items())
        case tuple() | list():
            yield from ((f"[{index}]", inner) for index, inner in enumerate(value))
        case _ if is_record(type(value)):
            config = getattr(value, "__struct_config__", None)
            if config is not None and config.tag_field:
                yield f".{config.tag_field}", config.tag
            yield from ((f".{name}", getattr(value, name)) for name in field_names(type(value)))
        case _ if not isinstance(value, Enum):
            yield from ((f".{name}", inner) for name, inner in getattr(value, "__dict__", {}).items())


def _plain(value: object) -> Any:
    """As JSON would show it; a set in order, or the same one could look changed."""
    if isinstance(value, set | frozenset):
        return sorted(map(_plain, value), key=repr)
    return msgspec.to_builtins(value, enc_hook=_shown)


def _shown(value: Any) -> object:
    return dict(value) if is_pydantic(type(value)) else repr(value)


def differing(before: Mapping[str, object], after: Mapping[str, object]) -> Sequence[str]:
    """The paths of two flattened states at which they differ."""
    paths = dict.fromkeys([*before, *after])
    return [path for path in paths if before.get(path, MISSING) != after.get(path, MISSING)]
