"""Upcasters: old events read as what they are today, at the place and under the id they always had."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from everlog import (
    AppendConditionFailed,
    Criteria,
    Decider,
    Misconfigured,
    PayloadReleased,
    Platform,
    Recorded,
    UnknownEventType,
    UnreadableEvent,
    Upcaster,
    upcast,
    upcast_drop,
    upcast_split,
)
from everlog.app.log import Log
from everlog.core.envelope import Append, NewEvent
from everlog.core.ids import new_id
from everlog.domain.types import EventTypes
from everlog.domain.upcast import TypeVersion
from everlog.store.contract import Release
from tests.domain.people import (
    STEPS,
    Json,
    Moved,
    Named,
    named_and_moved,
    noise,
    remember_the_source,
    rename,
    split_the_name,
)
from tests.domain.stored import stored

TYPES = EventTypes([Named, Moved], STEPS)


def data_of(event: Sequence[Recorded[Any]]) -> list[object]:
    return [part.data for part in event]


@pytest.mark.parametrize(
    ("name", "version", "data", "today"),
    [
        ("user.named", 3, b'{"first":"Ann","last":"Lee","source":"api"}', [Named("Ann", "Lee", "api")]),
        ("user.named", 2, b'{"first":"Ann","last":"Lee"}', [Named("Ann", "Lee", "v2")]),
        ("user.named", 1, b'{"name":"Ann Lee"}', [Named("Ann", "Lee", "v2")]),
        ("person.called", 1, b'{"called":"Ann"}', [Named("Ann", "", "v2")]),
        ("user.changed", 1, b'{"name":"Ann Lee","city":"Bern"}', [Moved("Bern"), Named("Ann", "Lee", "v2")]),
        ("user.changed", 1, b'{"name":"Ann Lee"}', [Named("Ann", "Lee", "v2")]),
        ("user.blinked", 1, b'{"eyes":2}', []),
    ],
)
def test_every_old_form_is_read_as_what_it_is_today(
    name: str, version: int, data: bytes, today: Sequence[object]
) -> None:
    assert data_of(TYPES.recorded(stored(name, version, data))) == today


def test_position_id_and_version_in_the_stream_stay_and_parts_are_counted() -> None:
    old = stored("user.changed", 1, b'{"name":"Ann Lee","city":"Bern"}')
    parts = TYPES.recorded(old)
    assert [(part.position, part.id.bytes, part.version, part.stream) for part in parts] == [
        (old.position, old.id, old.version, old.stream)
    ] * 2
    assert [(part.part, part.type, part.schema_version) for part in parts] == [
        (0, "user.moved", 1), (1, "user.named", 3),
    ]  # fmt: skip
    assert parts[0].stored is old


def test_a_chain_gives_what_its_steps_give_one_by_one() -> None:
    start = {"name": "Ann Lee"}
    [(target, chained)] = TYPES.chain(TypeVersion("user.named", 1), dict(start))
    assert target == TypeVersion("user.named", 3)
    [(_, once)] = split_the_name.step(start)
    [(_, twice)] = remember_the_source.step(once)
    assert chained == twice


def refusal(*parts: type | Upcaster) -> str:
    with pytest.raises(Misconfigured) as caught:
        Platform("memory:", *parts)
    return str(caught.value)


def test_a_gap_in_the_upcasters_is_found_when_the_platform_is_built() -> None:
    assert refusal(Named, split_the_name) == (
        'user.named is at v3, but no upcaster starts at v2: add @upcast("user.named", 2)'
    )
    assert "no upcaster starts at v1" in refusal(Named, remember_the_source)


def test_two_steps_from_one_place_are_refused() -> None:
    assert refusal(Named, *STEPS, Moved, split_the_name) == "two upcasters start at user.named v1: keep one"


def test_a_step_to_what_nothing_declares_is_refused() -> None:
    assert refusal(Moved, rename) == "the upcaster of person.called v1 yields user.named v2, which nothing declares"
    assert "yields user.moved v2, which nothing declares" in refusal(
        Moved, upcast("user.walked", 1, to=("user.moved", 2))(lambda old: old)
    )


def test_a_step_from_the_version_of_today_is_refused() -> None:
    step = upcast("user.moved", 1, to=("user.moved", 2))(lambda old: old)
    assert refusal(Moved, step) == (
        "an upcaster starts at user.moved v1, which is the declared version: raise the version"
    )


def test_a_circle_of_steps_is_refused() -> None:
    there = upcast("user.left", 1, to=("user.came", 1))(lambda old: old)
    back = upcast("user.came", 1, to=("user.left", 1))(lambda old: old)
    assert "lead back to it: break the circle" in refusal(there, back)
    assert "lead back to it" in refusal(upcast("user.left", 1, to=("user.left", 1))(lambda old: old))
    into_it = upcast("user.born", 1, to=("user.left", 1))(lambda old: old)
    assert "lead back to it" in refusal(into_it, there, back)


def test_two_ways_to_one_type_are_fine() -> None:
    both = upcast_split("user.both", 1, into=[("user.walked", 1), ("user.ran", 1)])(
        lambda old: [("user.walked", old), ("user.ran", old)]
    )
    walked = upcast("user.walked", 1, to=("user.moved", 1))(lambda old: old)
    ran = upcast("user.ran", 1, to=("user.moved", 1))(lambda old: old)
    types = EventTypes([Moved], [both, walked, ran])
    parts = types.recorded(stored("user.both", 1, b'{"city":"Bern"}'))
    assert [(part.part, part.data) for part in parts] == [(0, Moved("Bern")), (1, Moved("Bern"))]
    assert len(types.stored_as([Moved])) == 4


@pytest.mark.parametrize(
    "declare",
    [
        lambda: upcast("user.named", 0)(lambda old: old),
        lambda: upcast_split("user.named", 0, into=[("user.moved", 1)])(lambda old: []),
        lambda: upcast_drop("user.named", 0),
    ],
)
def test_no_step_starts_below_version_one(declare: Callable[[], Upcaster]) -> None:
    with pytest.raises(Misconfigured, match="starts at version 0: versions start at 1"):
        declare()


def test_a_split_names_each_of_its_targets_once() -> None:
    with pytest.raises(Misconfigured, match="names a type twice"):
        upcast_split("user.changed", 1, into=[("user.named", 1), ("user.named", 2)])


def put(log: Log, *events: NewEvent) -> None:
    log.store.append(Append("default", events))


def old(name: str, version: int, data: bytes, stream: str = "user-1", tags: tuple[str, ...] = ()) -> NewEvent:
    return NewEvent(new_id(), stream, name, version, data, tags)


HISTORY = [
    old("user.named", 1, b'{"name":"Ann Lee"}'),
    old("user.blinked", 1, b"{}"),
    old("user.moved", 1, b'{"city":"Bern"}'),
    old("user.changed", 1, b'{"name":"Bob Ray","city":"Rome"}'),
    old("person.called", 1, b'{"called":"Cy"}'),
    old("user.unheard", 1, b"{}"),
    old("user.named", 2, b'{"first":"Di","last":"Fox"}'),
]


def test_a_filter_by_a_new_type_finds_the_old_stored_types_that_yield_it() -> None:
    with Platform("memory:", Named, Moved, *STEPS).open() as log:
        put(log, *HISTORY)
        acme = log.tenant()
        assert [(e.position, e.data.first) for e in acme.events(Named)] == [
            (1, "Ann"),
            (4, "Bob"),
            (5, "Cy"),
            (7, "Di"),
        ]
        assert [(e.position, e.data.city) for e in acme.events(Moved)] == [(3, "Bern"), (4, "Rome")]
        # Every stored event once, whatever it became; the dropped one is not shown.
        assert [e.position for e in acme.events()] == [1, 3, 4, 4, 5, 6, 7]
        assert [e.position for e in acme.events(named=["user.changed"])] == [4, 4]


def test_a_boundary_over_a_new_type_sees_the_old_stored_types() -> None:
    with Platform("memory:", Named, Moved, *STEPS).open() as log:
        put(log, old("user.changed", 1, b'{"name":"Bob Ray"}', tags=("user:1",)))
        acme = log.tenant()
        with pytest.raises(AppendConditionFailed):
            acme.append("user-2", Moved("Bern"), unless=Criteria(Named, tags=["user:1"]))
        acme.append("user-2", Moved("Bern"), unless=Criteria(Named, tags=["user:2"]))
        acme.append("user-2", Moved("Bern"), unless=Criteria(Named), after=1)
        assert [e.version for e in acme.stream("user-2")] == [1, 2]


def test_unknown_types_and_newer_versions_stop_nobody_who_does_not_ask_for_them() -> None:
    with Platform("memory:", Named, Moved, *STEPS).open() as log:
        put(log, old("user.moved", 2, b'{"place":"x"}'), old("user.unheard", 1, b"{}"), *HISTORY)
        acme = log.tenant()
        assert [e.data.first for e in acme.events(Named)] == ["Ann", "Bob", "Cy", "Di"]
        assert [e.type for e in acme.events()][:2] == ["user.moved", "user.unheard"]
        assert len(list(acme.stream("user-1"))) == 9
        assert len(list(acme.audit())) == 9


def test_who_asks_for_a_type_is_told_of_its_newer_versions_with_their_position() -> None:
    with Platform("memory:", Named, Moved, *STEPS).open() as log:
        put(log, *HISTORY, old("user.moved", 2, b'{"place":"x"}', tags=("user:1",)))
        acme = log.tenant()
        *readable, newer = acme.events(Moved)
        assert [e.position for e in readable] == [3, 4]
        with pytest.raises(UnknownEventType, match=r"event at position 8 \(user.moved v2\)") as caught:
            _ = newer.data
        assert (caught.value.position, caught.value.code) == (8, "unknown_event_type")
        with pytest.raises(AppendConditionFailed):
            acme.append("user-2", Moved("Bern"), unless=Criteria(Moved, tags=["user:1"]))


def decide(command: str, names: str) -> list[Named]:
    return [Named(command, "")]


def evolve(names: str, event: Named) -> str:
    return f"{names} {event.first}".strip()


users = Decider("user", initial="", decide=decide, evolve=evolve)


def test_the_state_is_made_of_what_old_events_are_today() -> None:
    with Platform("memory:", users, Moved, *STEPS).open() as log:
        put(log, *HISTORY)
        assert log.tenant().state(users, "1") == "Ann Bob Cy Di"


def test_a_state_that_depends_on_a_newer_version_is_a_named_error_and_other_streams_are_fine() -> None:
    with Platform("memory:", users, Moved, *STEPS).open() as log:
        put(log, *HISTORY, old("user.named", 4, b"{}"), old("user.named", 3, b'{"first":"Ed","last":""}', "user-2"))
        acme = log.tenant()
        with pytest.raises(
            UnknownEventType, match="the state of user-1 depends on it, and this code knows v3"
        ) as caught:
            acme.state(users, "1")
        assert caught.value.position == 8
        assert acme.state(users, "1", at=7) == "Ann Bob Cy Di"
        assert acme.state(users, "2") == "Ed"


@pytest.mark.parametrize("error", [KeyError("name"), ZeroDivisionError("division by zero"), RuntimeError("odd")])
def test_a_step_that_fails_stops_only_who_asks_for_what_it_should_have_made(error: Exception) -> None:
    @upcast("person.called", 1, to=("user.named", 2))
    def failing(old: Json) -> Json:
        raise error

    steps = (split_the_name, remember_the_source, failing, named_and_moved, noise)
    with Platform("memory:", users, Moved, *steps).open() as log:
        put(log, *HISTORY)
        acme = log.tenant()
        assert [e.data.city for e in acme.events(Moved)] == ["Bern", "Rome"]
        found = {e.position: e for e in acme.events(Named)}
        assert sorted(found) == [1, 4, 5, 7]
        with pytest.raises(
            UnreadableEvent, match=r"event at position 5 \(person.called v1\) .* its upcaster failed: "
        ) as e:
            _ = found[5].data
        assert type(error).__name__ in e.value.reason
        with pytest.raises(UnreadableEvent, match="event at position 5"):
            acme.state(users, "1")


def test_an_event_whose_bytes_were_released_is_missed_by_nobody_who_asks_for_what_it_became() -> None:
    with Platform("memory:", users, Moved, *STEPS).open() as log:
        put(log, *HISTORY)
        log.store.release(Release((4, 5), "erasure", "request 42"))
        acme = log.tenant()
        assert [e.position for e in acme.events(Named)] == [1, 4, 5, 7]
        for ask in (lambda: [e.data for e in acme.events(Named)], lambda: acme.state(users, "1")):
            with pytest.raises(PayloadReleased, match="event at position 4"):
                ask()


def test_a_split_that_yields_what_it_did_not_announce_is_a_named_error() -> None:
    step = upcast_split("user.changed", 1, into=[("user.moved", 1)])(lambda old: [("user.named", old)])
    [one] = EventTypes([Moved], [step]).recorded(stored("user.changed", 1))
    with pytest.raises(UnreadableEvent, match=r"its upcaster failed: KeyError: 'user\.named'"):
        _ = one.data


def test_what_a_step_makes_must_fit_the_type_of_today() -> None:
    step = upcast("user.walked", 1, to=("user.moved", 1))(lambda old: {"town": "Bern"})
    [one] = EventTypes([Moved], [step]).recorded(stored("user.walked", 1))
    assert (one.type, one.json()) == ("user.moved", {"town": "Bern"})
    with pytest.raises(UnreadableEvent, match=r"event at position 7.*city"):
        _ = one.data
