"""One event to many keys, and many streams to one key; built in batches, inline and on demand alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from everlog import Fold, Platform, Recorded, SubscriptionFailed, event
from everlog.projection.fold import Keys
from tests.following.parts import failed, on_both, progress_of


@event("team.met")
class Met:
    people: tuple[str, ...]
    minutes: int


@event("person.hired")
class Hired:
    person: str
    name: str


@event("desk.assigned")
class Assigned:
    desk: str
    person: str


def meetings(keys: Callable[[Recorded[Met]], Keys], *, name: str = "meetings", inline: bool = False) -> Fold[int]:
    """Minutes by person."""
    fold = Fold(name, initial=0, inline=inline)

    @fold.on(Met, key=keys)
    def met(minutes: int, e: Recorded[Met]) -> int:
        return minutes + e.data.minutes

    return fold


def _generated(e: Recorded[Met]) -> Iterator[str]:
    yield from e.data.people


WAYS: dict[str, Callable[[Recorded[Met]], Keys]] = {
    "a tuple": lambda e: e.data.people,
    "a list": lambda e: list(e.data.people),
    "a set": lambda e: frozenset(e.data.people),
    "a generator": _generated,
}
EVENTS = [Met(("ann", "bob"), 30), Met((), 5), Met(("bob", "bob", "bob"), 10), Met(("ünï", "ann"), 7)]
EXPECTED = {"ann": 37, "bob": 40, "ünï": 7}


def _append(platform_log: object, events: Iterable[object] = EVENTS) -> None:
    for number, each in enumerate(events):
        platform_log.append(f"team-{number}", each)  # type: ignore[attr-defined]


@on_both
@pytest.mark.parametrize("way", WAYS)
def test_an_event_changes_the_states_of_all_its_keys_each_once(url: str, way: str) -> None:
    fold, inline = meetings(WAYS[way]), meetings(WAYS[way], name="inline", inline=True)
    with Platform(url, fold, inline).open(worker=True) as log:
        acme = log.tenant("acme")
        _append(acme)
        assert dict(acme.all(inline)) == EXPECTED
        acme.wait_for(fold)
        assert dict(acme.all(fold)) == EXPECTED
        assert {key: acme.get(fold, key, at=3) for key in ("ann", "bob", "eve")} == {"ann": 30, "bob": 40, "eve": 0}


def test_a_text_is_one_key_whatever_letters_it_has() -> None:
    fold = meetings(lambda e: "".join(e.data.people) or None)
    with Platform("memory:", fold).open(worker=True) as log:
        _append(log.tenant())
        log.tenant().wait_for(fold)
        assert dict(log.tenant().all(fold)) == {"annbob": 30, "bobbobbob": 10, "ünïann": 7}


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (lambda e: ["ann", 7], "the key 7 is no text"),
        (lambda e: [None], "the key None"),
        (lambda e: 7, "not iterable"),
    ],
)
def test_a_key_that_is_no_text_stops_it_at_its_event(keys: Callable[[Recorded[Met]], Keys], told: str) -> None:
    fold = meetings(keys)
    with Platform("memory:", fold).open(worker=True) as log:
        _append(log.tenant(), EVENTS[:1])
        failed(log, "meetings")
        assert told in progress_of(log, "meetings").error
        with pytest.raises(SubscriptionFailed, match=told):
            log.tenant().get(fold, "ann", at=1)


@dataclass(frozen=True)
class Desk:
    person: str = ""
    name: str = ""
    moves: int = 0


def desks() -> Fold[Desk]:
    """By person, of two kinds of streams, in whichever order their events come."""
    fold = Fold("desks", initial=Desk())

    @fold.on(Hired, key=lambda e: e.data.person)
    def hired(desk: Desk, e: Recorded[Hired]) -> Desk:
        return replace(desk, name=e.data.name)

    @fold.on(Assigned, key=lambda e: e.data.person)
    def assigned(desk: Desk, e: Recorded[Assigned]) -> Desk:
        return replace(desk, person=e.data.desk, moves=desk.moves + 1)

    return fold


@on_both
def test_streams_are_joined_by_a_key(url: str, tmp_path: Path) -> None:
    fold = desks()
    with Platform(url, fold).open(worker=True) as log:
        acme = log.tenant("acme")
        acme.append("desk-1", Assigned("1", "p1"))
        acme.append("person-p1", Hired("p1", "Ann"))
        acme.append("person-p2", Hired("p2", "Bob"))
        acme.append("desk-2", Assigned("2", "p1"))
        acme.wait_for(fold)
        assert dict(acme.all(fold)) == {"p1": Desk("2", "Ann", 2), "p2": Desk("", "Bob", 0)}
