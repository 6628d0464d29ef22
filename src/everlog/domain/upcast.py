"""Upcasters: pure steps that turn an old event's JSON into a newer one's, on reading; stored bytes never change."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from everlog.core.errors import Misconfigured
from everlog.core.names import type_name

Json = dict[str, Any]


class TypeVersion(NamedTuple):
    """A stored type's name and schema version."""

    name: str
    version: int

    def __str__(self) -> str:
        return f"{self.name} v{self.version}"


Part = tuple[TypeVersion, Json]


@dataclass(frozen=True, slots=True)
class Upcaster:
    """One step. `targets` says beforehand what it can yield, so that a query by a new type finds the old ones."""

    source: TypeVersion
    targets: tuple[TypeVersion, ...]
    step: Callable[[Json], Sequence[Part]]
    original: Callable[..., object] | None = None


def upcast(
    name: str, version: int, *, to: tuple[str, int] | None = None
) -> Callable[[Callable[[Json], Json]], Upcaster]:
    """A step from `name` v`version` to its next version, or with `to=("new.name", 1)` to another type (a rename)."""
    target = TypeVersion(*to) if to else TypeVersion(name, version + 1)

    def declare(change: Callable[[Json], Json]) -> Upcaster:
        return Upcaster(_source(name, version), (target,), lambda old: [(target, change(old))], change)

    return declare


def upcast_split(
    name: str, version: int, *, into: Sequence[tuple[str, int]]
) -> Callable[[Callable[[Json], Iterable[tuple[str, Json]]]], Upcaster]:
    """A step into several events: the function yields (name, data) pairs, each name one of `into`."""
    targets = {pair[0]: TypeVersion(*pair) for pair in into}
    if len(targets) != len(into):
        raise Misconfigured(f"the split of {name} v{version} names a type twice: give each target once")

    def declare(change: Callable[[Json], Iterable[tuple[str, Json]]]) -> Upcaster:
        def step(old: Json) -> Sequence[Part]:
            return [(targets[part], data) for part, data in change(old)]

        return Upcaster(_source(name, version), tuple(targets.values()), step, change)

    return declare


def upcast_drop(name: str, version: int) -> Upcaster:
    """The event means nothing any more: readers are not shown it; it stays stored."""
    return Upcaster(_source(name, version), (), lambda old: [])


def _source(name: str, version: int) -> TypeVersion:
    if version < 1:
        raise Misconfigured(f"an upcaster of {name!r} starts at version {version}: versions start at 1")
    return TypeVersion(type_name(name), version)


@dataclass(frozen=True, slots=True)
class UpcasterChain:
    """All steps of a platform, checked for gaps, dead ends and circles when it is built."""

    steps: Mapping[TypeVersion, Upcaster]

    @classmethod
    def of(cls, upcasters: Iterable[Upcaster], current: Mapping[str, int]) -> "UpcasterChain":
        """`current` gives each declared type's version. Raises `Misconfigured` naming the step that is missing."""
        steps: dict[TypeVersion, Upcaster] = {}
        for upcaster in upcasters:
            if upcaster.source in steps:
                raise Misconfigured(f"two upcasters start at {upcaster.source}: keep one")
            steps[upcaster.source] = upcaster
        chain = cls(steps)
        for name, version in current.items():
            for old in range(1, version):
                if TypeVersion(name, old) not in steps:
                    raise Misconfigured(
                        f'{name} is at v{version}, but no upcaster starts at v{old}: add @upcast("{name}", {old})'
                    )
            if (newest := TypeVersion(name, version)) in steps:
                raise Misconfigured(f"an upcaster starts at {newest}, which is the declared version: raise the version")
        for upcaster in steps.values():
            chain._check_targets(upcaster, current)
        return chain

    def __call__(self, source: TypeVersion, data: Json) -> list[Part]:
        """What the stored event is today: 0, 1 or several parts, in order."""
        step = self.steps.get(source)
        if step is None:
            return [(source, data)]
        return [part for target, changed in step.step(data) for part in self(target, changed)]

    def sources_of(self, target: TypeVersion) -> list[TypeVersion]:
        """Every stored type and version that can yield `target`, itself first."""
        found = [target]
        for reached in found:
            found += [s for s, step in self.steps.items() if reached in step.targets and s not in found]
        return found

    def results_of(self, source: TypeVersion) -> list[TypeVersion]:
        """Every type and version declared today that a stored one can become; none when it is dropped."""
        reached = [source]
        for one in reached:
            step = self.steps.get(one)
            reached += [target for target in step.targets if target not in reached] if step else []
        return [one for one in reached if one not in self.steps]

    def _check_targets(self, upcaster: Upcaster, current: Mapping[str, int]) -> None:
        seen, reached = {upcaster.source}, list(upcaster.targets)
        for target in reached:
            if target == upcaster.source:
                raise Misconfigured(f"the upcasters from {upcaster.source} lead back to it: break the circle")
            if target in seen:
                continue
            seen.add(target)
            if target in self.steps:
                reached += self.steps[target].targets
            elif current.get(target.name) != target.version:
                raise Misconfigured(f"the upcaster of {upcaster.source} yields {target}, which nothing declares")
