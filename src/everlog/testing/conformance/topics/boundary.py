"""The dynamic boundary (design D4): no event that matches came after the position the decision was made at."""

from random import Random

import pytest

from everlog.core import limits
from everlog.core.envelope import Appended, NewEvent
from everlog.core.errors import AppendConditionFailed, InvalidInput, WrongExpectedVersion
from everlog.core.expect import Exactly, Match, NoneMatching, NoStream
from everlog.store.contract import Release, Store
from everlog.testing.conformance.events import append, new_event, request

SEAT = NoneMatching((Match(tags=("seat:A1",)),))


def test_an_event_that_matches_refuses_the_append(store: Store) -> None:
    append(store, new_event("seat-1", tags=("seat:A1",)))
    before = store.head()
    with pytest.raises(AppendConditionFailed) as refused:
        append(store, boundary=SEAT)
    assert not isinstance(refused.value, WrongExpectedVersion)
    assert (refused.value.code, refused.value.retryable) == ("append_condition_failed", False)
    assert store.head() == before


def test_an_event_at_or_before_the_position_read_does_not_count(store: Store) -> None:
    done = append(store, new_event(tags=("seat:A1",)))
    assert append(store, boundary=NoneMatching(SEAT.matches, after=done.position)).position == 2
    with pytest.raises(AppendConditionFailed):
        append(store, boundary=NoneMatching(SEAT.matches, after=done.position - 1))


def test_an_event_of_another_tenant_does_not_count(store: Store) -> None:
    append(store, new_event(type="seat.taken", tags=("seat:A1",)), tenant="globex")
    both = NoneMatching((Match(tags=("seat:A1",)), Match(types=(("seat.taken", None),))))
    assert append(store, boundary=both).position == 2


def test_the_events_of_the_append_itself_do_not_count(store: Store) -> None:
    done = append(store, new_event(tags=("seat:A1",)), new_event(tags=("seat:A1",)), boundary=SEAT)
    assert done.position == 2


def test_an_event_whose_bytes_were_released_still_counts(store: Store) -> None:
    append(store, new_event(tags=("seat:A1",)))
    store.release(Release((1,), "erasure", "asked for"))
    with pytest.raises(AppendConditionFailed):
        append(store, boundary=SEAT)


def test_a_boundary_and_an_expectation_must_both_hold(store: Store) -> None:
    append(store, new_event(tags=("seat:A1",)))
    with pytest.raises(AppendConditionFailed):
        append(store, new_event("a"), expect={"a": NoStream()}, boundary=SEAT)
    with pytest.raises(WrongExpectedVersion):
        append(store, new_event("a"), expect={"a": Exactly(1)}, boundary=NoneMatching(SEAT.matches, after=1))
    assert append(store, new_event("a"), expect={"a": NoStream()}, boundary=NoneMatching(SEAT.matches, after=1))


def test_a_boundary_sees_earlier_requests_of_the_same_group(store: Store) -> None:
    taken = [request(new_event(f"seat-{n}", tags=("seat:A1",)), boundary=SEAT) for n in range(3)]
    first, *others = store.append_each(taken)
    assert isinstance(first, Appended)
    assert [type(verdict) for verdict in others] == [AppendConditionFailed] * 2


def test_a_match_that_asks_nothing_is_refused() -> None:
    with pytest.raises(InvalidInput):
        Match()


def test_a_boundary_may_hold_as_many_terms_as_the_limit_says(store: Store) -> None:
    types = tuple((f"type-{n}", n + 1) for n in range(limits.BOUNDARY_TERMS - 2))
    within = NoneMatching((Match(types), Match(tags=("a", "b"))))
    beyond = NoneMatching((*within.matches, Match(tags=("c",))))
    assert append(store, boundary=within).position == 1
    with pytest.raises(InvalidInput, match=str(limits.BOUNDARY_TERMS)):
        append(store, boundary=beyond)
    assert store.head().position == 1


@pytest.mark.parametrize(
    "boundary",
    [
        NoneMatching((Match(tags=("\ud800",)),)),
        NoneMatching((Match(tags=("",)),)),
        NoneMatching((Match(types=(("\ud800", None),)),)),
        NoneMatching((Match(types=(("seat.taken", 2**63),)),)),
        NoneMatching(SEAT.matches, after=2**63),
    ],
)
def test_a_boundary_no_event_can_meet_is_refused_alone_and_not_with_its_group(
    store: Store, boundary: NoneMatching
) -> None:
    good, refused, also_good = store.append_each([
        request(new_event()),
        request(new_event(), boundary=boundary),
        request(new_event()),
    ])  # fmt: skip
    assert isinstance(refused, InvalidInput)
    assert [good, also_good] == [verdict for verdict in (good, also_good) if isinstance(verdict, Appended)]


def test_every_combination_of_types_versions_tags_and_position_is_judged_as_a_plain_loop_would(store: Store) -> None:
    random = Random(4)
    history = [_some_event(random) for _ in range(80)]
    for event in history:
        append(store, event)
    boundaries = [_some_boundary(random, len(history)) for _ in range(400)]
    # The events stored here match nothing, so that every verdict is about the history alone.
    verdicts = store.append_each([request(new_event("s", "neutral"), boundary=some) for some in boundaries])
    judged = {True: 0, False: 0}
    for boundary, verdict in zip(boundaries, verdicts, strict=True):
        refused = any(_matches(boundary, event, position) for position, event in enumerate(history, 1))
        assert isinstance(verdict, AppendConditionFailed) == refused, boundary
        judged[refused] += 1
    assert min(judged.values()) > 80, "the mix is too one-sided to show much"


_TYPES, _TAGS = ("a", "b", "c", "d"), ("x", "y", "z")


def _some_event(random: Random) -> NewEvent:
    tags = tuple(random.sample(_TAGS, random.choice((0, 1, 2, 2, 3))))
    return new_event("history", random.choice(_TYPES), schema_version=random.randint(1, 3), tags=tags)


def _some_boundary(random: Random, last: int) -> NoneMatching:
    matches = tuple(_some_match(random) for _ in range(random.choice((1, 1, 1, 2, 3))))
    return NoneMatching(matches, after=random.choice((0, random.randint(0, last), last - random.randint(0, 10), last)))


def _some_match(random: Random) -> Match:
    while True:
        types = random.sample(_TYPES, random.choice((0, 1, 1, 2)))
        tags = tuple(random.sample(_TAGS, random.choice((0, 1, 2, 3))))
        if types or tags:
            return Match(tuple((name, random.choice((None, 1, 2, 3))) for name in types), tags)


def _matches(boundary: NoneMatching, event: NewEvent, position: int) -> bool:
    return position > boundary.after and any(
        (not match.types or {(event.type, None), (event.type, event.schema_version)} & set(match.types))
        and set(match.tags) <= set(event.tags)
        for match in boundary.matches
    )
