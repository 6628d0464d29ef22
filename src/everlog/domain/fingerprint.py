"""What a snapshot depends on besides its events: change any of it and old snapshots are not found (design D17)."""

import hashlib
import types
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from everlog.domain.codec import Codec
from everlog.domain.decider import Decider
from everlog.domain.event import is_pydantic
from everlog.domain.types import EventTypes


def fingerprint(decider: Decider[Any, Any, Any], types_: EventTypes) -> bytes:
    """SHA-256 over the state's schema, `evolve` and what it calls in its own package, the upcasters and the version."""
    code = _Code(_package(decider.evolve))
    code.add(decider.evolve)
    for upcaster in _upcasters(decider, types_):
        code.note(str(upcaster.source), str(upcaster.targets))
        code.add(upcaster.original)
    for cls in decider.event_types():
        code.note(repr(schema_of(cls)))
    code.note(repr(schema_of(decider.state_type())), repr(decider.initial), str(decider.snapshot_version))
    return code.digest.digest()


def state_codec(decider: Decider[Any, Any, Any]) -> Codec[Any]:
    return Codec(decider.state_type())


def schema_of(cls: Any) -> Any:
    """The JSON Schema of a class, as plain data."""
    if isinstance(cls, type) and is_pydantic(cls):
        return cls.model_json_schema()  # type: ignore[attr-defined]
    return msgspec.json.schema(cls, schema_hook=_schema_of_model)


def _schema_of_model(cls: type) -> dict[str, Any]:
    if is_pydantic(cls):
        return cls.model_json_schema()  # type: ignore[attr-defined, no-any-return]
    raise NotImplementedError(cls)  # msgspec's protocol for "not mine"


def _upcasters(decider: Decider[Any, Any, Any], types_: EventTypes) -> Iterable[Any]:
    sources = types_.stored_as(decider.event_types())
    return [types_.chain.steps[source] for source in sources if source in types_.chain.steps]


def _package(function: Callable[..., object]) -> str:
    return function.__module__.partition(".")[0]


class _Code:
    """Collects the meaning of functions, not their place: byte code, constants and names, but no line numbers."""

    def __init__(self, package: str) -> None:
        self.digest = hashlib.sha256()
        self._package = package
        self._seen: set[int] = set()

    def note(self, *texts: str) -> None:
        for text in texts:
            raw = text.encode()
            self.digest.update(len(raw).to_bytes(8, "big") + raw)

    def add(self, thing: object) -> None:
        if id(thing) in self._seen:
            return
        self._seen.add(id(thing))
        if isinstance(thing, types.MethodType):
            self.add(thing.__func__)
        elif isinstance(thing, types.FunctionType):
            self._function(thing)
        elif isinstance(thing, type):
            if self._ours(thing):
                for name, member in sorted(vars(thing).items()):
                    if isinstance(member, types.FunctionType) and member.__module__ == thing.__module__:
                        self.note(name)
                        self.add(member)
        elif isinstance(thing, dict):
            for key, value in thing.items():
                self.add(key)
                self.add(value)
        elif isinstance(thing, str | int | float | bool | bytes | tuple | frozenset | type(None)):
            self.note(repr(thing))

    def _function(self, function: types.FunctionType) -> None:
        self._code(function.__code__)
        self.note(repr(function.__defaults__))
        for cell in function.__closure__ or ():
            self.add(cell.cell_contents)
        for name in _names(function.__code__):
            value = function.__globals__.get(name)
            if isinstance(value, types.FunctionType | type) and not self._ours(value):
                self.note(f"{value.__module__}.{value.__qualname__}")
            elif value is not None and not isinstance(value, types.ModuleType):
                self.note(name)
                self.add(value)

    def _code(self, code: types.CodeType) -> None:
        self.note(code.co_code.hex(), repr(code.co_names), repr(code.co_varnames))
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                self._code(constant)
            elif constant != code.co_consts[0] or not isinstance(constant, str):  # the docstring changes no state
                self.note(repr(constant))

    def _ours(self, thing: Any) -> bool:
        return str(thing.__module__).partition(".")[0] == self._package


def _names(code: types.CodeType) -> list[str]:
    inner = [name for const in code.co_consts if isinstance(const, types.CodeType) for name in _names(const)]
    return sorted({*code.co_names, *inner})
