"""What a snapshot depends on besides its events: change any of it and old snapshots are not found (design D17).

Followed are the functions, methods, classes and constants of `evolve`'s own top-level package that its code mentions:
as globals, in closures, as members of imported modules, as methods of the state, of what it holds and of the events.
What is only known while running (`getattr` by a computed name, an import inside a function) is not: raise
`snapshot_version` when such a thing changes.
"""

import dataclasses
import dis
import functools
import hashlib
import types
import typing
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Any

from everlog.domain.codec import Codec, schema_of
from everlog.domain.decider import Decider
from everlog.domain.event import members
from everlog.domain.types import EventTypes
from everlog.domain.upcast import Upcaster

_LAYOUT = {"NOP", "CACHE", "RESUME", "EXTENDED_ARG"}  # how code is laid out, not what it computes


def fingerprint(decider: Decider[Any, Any, Any], types_: EventTypes) -> bytes:
    """SHA-256 over the state's schema, `evolve` and what it calls in its own package, the upcasters and the version."""
    upcasters = _upcasters(decider, types_)
    theirs = [upcaster.original for upcaster in upcasters if upcaster.original]
    code = _Code({_top(function.__module__) for function in (decider.evolve, *theirs)})
    code.add(decider.evolve)
    for upcaster in upcasters:
        code.add((upcaster.source, upcaster.targets, upcaster.original or upcaster.step))
    for cls in decider.event_types():
        code.add(_without_words(schema_of(cls)))
        code.add_classes(cls)
    for cls in members(decider.state_type()):
        code.add_classes(cls)
    code.add((_without_words(schema_of(decider.state_type())), decider.initial, decider.snapshot_version))
    return code.digest.digest()


def state_codec(decider: Decider[Any, Any, Any]) -> Codec[Any]:
    return Codec(decider.state_type())


def _upcasters(decider: Decider[Any, Any, Any], types_: EventTypes) -> list[Upcaster]:
    sources = types_.stored_as(decider.event_types())
    return [types_.chain.steps[source] for source in sources if source in types_.chain.steps]


def _without_words(schema: Any) -> Any:
    """A schema without titles and descriptions, which come from docstrings; a field may have those names."""
    if isinstance(schema, list):
        return [_without_words(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: _part(key, value) for key, value in schema.items() if key not in ("title", "description")}


def _part(key: str, value: Any) -> Any:
    if key == "default":
        return value
    if key in ("properties", "$defs"):
        return {name: _without_words(inner) for name, inner in value.items()}
    return _without_words(value)


class _Code:
    """Collects the meaning of functions, not their place: instructions, constants and names, but no line numbers."""

    def __init__(self, packages: Iterable[str]) -> None:
        self.digest = hashlib.sha256()
        self._packages = frozenset(packages)
        self._seen: dict[int, object] = {}  # by identity, and kept alive, or another object could get the same one

    def add(self, thing: Any) -> None:
        """Anything code may mention: values each time, what could lead back to itself once."""
        match thing:
            case Enum():
                self._note(f"{type(thing).__qualname__}.{thing.name}")
                self.add(thing.value)
            case None | str() | bytes() | int() | float() | complex():
                self._note(repr(thing))
            case tuple():
                self._note(f"{len(thing)} in order")
                self._add_all(thing)
            case set() | frozenset():
                self._note(*sorted(self._alone(one) for one in thing))
            case types.CodeType():
                self._instructions(thing)
            case _ if id(thing) in self._seen:
                self._note("again")
            case _:
                self._seen[id(thing)] = thing
                self._add_once(thing)

    def add_classes(self, hint: Any) -> None:
        """The classes a type hint names, and those their fields name."""
        origin = typing.get_origin(hint)
        if origin is None and isinstance(hint, type):
            self.add(hint)
        for inner in (origin, *typing.get_args(hint)) if origin else ():
            self.add_classes(inner)

    def _note(self, *texts: str) -> None:
        for text in texts:
            raw = text.encode(errors="surrogatepass")
            self.digest.update(len(raw).to_bytes(8, "big") + raw)

    def _add_all(self, things: Iterable[object]) -> None:
        for thing in things:
            self.add(thing)

    def _alone(self, thing: object) -> str:
        code = _Code(self._packages)
        code.add(thing)
        return code.digest.hexdigest()

    def _add_once(self, thing: Any) -> None:
        match thing:
            case types.FunctionType():
                self._function(thing)
            case type():
                self._class(thing)
            case list():
                self._add_all([len(thing), *thing])
            case dict() | types.MappingProxyType():
                self._add_all([len(thing), *thing.items()])
            case types.MethodType():
                self._add_all([thing.__func__, thing.__self__])
            case functools.partial():
                self._add_all([thing.func, thing.args, thing.keywords])
            case property():
                self._add_all([thing.fget, thing.fset])
            case functools.cached_property():
                self.add(thing.func)
            case _ if hasattr(thing, "__wrapped__"):  # a static or class method, or a cached function
                self.add(thing.__wrapped__)
            case _:
                self._object(thing)

    def _function(self, function: types.FunctionType) -> None:
        self._note(function.__qualname__)
        if not self._ours(function):
            return
        self._instructions(function.__code__)
        self._add_all([function.__defaults__, function.__kwdefaults__])
        self._add_all(cell.cell_contents for cell in function.__closure__ or ())
        self._globals(function)

    def _instructions(self, code: types.CodeType) -> None:
        self.add((code.co_varnames, code.co_argcount, code.co_kwonlyargcount, code.co_exceptiontable))
        for step in dis.get_instructions(code):
            if step.opname not in _LAYOUT:
                self.add((step.opname, step.argval))

    def _globals(self, function: types.FunctionType) -> None:
        """What the code's global names stand for; of our own modules, the members it could mean by `module.member`."""
        names, attributes = _names(function.__code__)
        spaces = [(names, function.__globals__)]
        for wanted, space in spaces:
            for name in sorted(wanted & space.keys()):
                value = space[name]
                if not isinstance(value, types.ModuleType):
                    self.add((name, value))
                elif _top(value.__name__) in self._packages and all(vars(value) is not known for _, known in spaces):
                    spaces.append((attributes, vars(value)))

    def _class(self, cls: type) -> None:
        self._note(cls.__qualname__)
        if not self._ours(cls):
            return
        self._add_all(cls.__mro__[1:])
        if issubclass(cls, Enum):
            self._add_all(cls)
        for name, member in sorted(vars(cls).items()):
            if isinstance(member, types.FunctionType) or not name.startswith("_"):
                self.add((name, member))
        for hint in _hints(cls):
            self.add_classes(hint)

    def _object(self, thing: Any) -> None:
        """By its fields if it is a record or of our own class, else as it shows itself, unless that is an address."""
        self.add(type(thing))
        if dataclasses.is_dataclass(thing):
            self._add_all(getattr(thing, field.name) for field in dataclasses.fields(thing))
        elif hasattr(thing, "__struct_fields__"):
            self._add_all(getattr(thing, name) for name in thing.__struct_fields__)
        elif self._ours(type(thing)):
            self.add(getattr(thing, "__dict__", None))
        elif " at 0x" not in (shown := repr(thing)):
            self._note(shown)

    def _ours(self, thing: Any) -> bool:
        return _top(str(thing.__module__)) in self._packages


def _top(module: str) -> str:
    return module.partition(".")[0]


def _names(code: types.CodeType) -> tuple[set[str], set[str]]:
    """The names code looks up in its module, and all names it uses; with those of functions inside it."""
    found = {step.argval for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    used = set(code.co_names)
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            more_found, more_used = _names(inner)
            found, used = found | more_found, used | more_used
    return found, used


def _hints(cls: type) -> Iterator[Any]:
    try:
        yield from typing.get_type_hints(cls).values()
    except (NameError, TypeError):  # a name that exists for the type checker only
        return
