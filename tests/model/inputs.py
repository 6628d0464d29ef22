"""What the model test draws: few names and round hours, so that things meet; strange bytes, so that they hurt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from hypothesis import strategies as st

from everlog.core.envelope import Append, NewEvent, StoredSnapshot
from everlog.core.expect import Anything, Exactly, Expect, Match, NoneMatching, NoStream, StreamExists
from everlog.store.query import Filter

HOUR = 3_600_000_000
NOON = 1_700_000_000_000_000

tenants = st.sampled_from(["acme", "acm", "globex"])
streams = st.sampled_from(["order-1", "order-10", "order", "order.1", "orders-1", "cart-1"])
categories = st.sampled_from(["order", "orders", "cart", "ord", "order-1"])
_types = st.sampled_from(["placed", "order placed", "x.y"])
_tags = st.sampled_from(["order:1", "order:10", "a", "a%", "ä b"])
_ids = st.sampled_from([bytes([n]) * 16 for n in (0, 1, 255)])
_clients = st.sampled_from(
    [b"{}", b'{"ip":"10.0.0.1"}', b'{"user_agent":"curl"}', b'{"ip":"10.0.0.2","user_agent":"\xc3\xa4"}']
)
hours = st.integers(-3, 6).map(lambda hour: NOON + hour * HOUR)
anywhere = st.integers(0, 99)

_events = st.builds(
    NewEvent,
    id=st.just(b""),
    stream=streams,
    type=_types,
    schema_version=st.integers(1, 2),
    data=st.binary(max_size=6),
    tags=st.lists(_tags, max_size=3).map(tuple),
    occurred_at=st.none() | hours,
    actor=st.sampled_from([None, "ann", "bob ä"]),
    correlation_id=st.none() | _ids,
    causation_id=st.none() | _ids,
    client=st.none() | _clients,
)

_pairs = st.lists(st.tuples(_types, st.sampled_from([None, 1, 2])), max_size=3).map(tuple)
_matches = st.builds(Match, types=_pairs, tags=st.lists(_tags, min_size=1, max_size=2).map(tuple)) | st.builds(
    Match, types=st.tuples(st.tuples(_types, st.sampled_from([None, 1, 2])))
)


class Boundary(NamedTuple):
    """`behind` is how many events before the head its reader stopped; less than 0: it claims to have read ahead."""

    matches: tuple[Match, ...]
    behind: int


CONDITIONS = ("none", "no stream", "right", "too low", "too high", "exists", "anything")


class Draft(NamedTuple):
    """An append before it knows its ids and the versions it is about."""

    tenant: str
    events: tuple[NewEvent, ...]
    conditions: Mapping[str, str]
    boundary: Boundary | None


class Again(NamedTuple):
    """An earlier request once more, the n-th from the end, perhaps altered."""

    back: int
    alteration: str


drafts = st.builds(
    Draft,
    tenant=tenants,
    events=st.lists(_events, min_size=1, max_size=4).map(tuple),
    conditions=st.dictionaries(streams, st.sampled_from(CONDITIONS), max_size=3),
    boundary=st.none()
    | st.builds(Boundary, st.lists(_matches, min_size=1, max_size=2).map(tuple), behind=st.integers(-2, 6)),
)


def condition(wanted: str, version: int) -> Expect | None:
    """The condition of that kind on a stream at `version`."""
    match wanted:
        case "no stream":
            return NoStream()
        case "right":
            return Exactly(version)
        case "too low":
            return Exactly(version - 1) if version else StreamExists()
        case "too high":
            return Exactly(version + 1)
        case "exists":
            return StreamExists()
        case "anything":
            return Anything()
    return None


def completed(draft: Draft, new_id: Callable[[], bytes], version: Callable[[str], int], head: int) -> Append:
    """The request the draft means in a log whose streams have these versions."""
    events = tuple(event._replace(id=new_id()) for event in draft.events)
    # A condition on a stream the batch has no event for is refused; the alteration "condition elsewhere" tries that.
    named = {event.stream for event in events} & draft.conditions.keys()
    found = {stream: condition(draft.conditions[stream], version(stream)) for stream in sorted(named)}
    expect = {stream: expected for stream, expected in found.items() if expected is not None}
    boundary = draft.boundary and NoneMatching(draft.boundary.matches, max(0, head - draft.boundary.behind))
    return Append(draft.tenant, events, expect, boundary)


def _last(request: Append, **changes: Any) -> Append:
    """The request with its last event changed, and no condition that the change might leave hanging."""
    *events, last = request.events
    return replace(request, events=(*events, last._replace(**changes)), expect={})


Alteration = Callable[[Append, bytes], Append]

ALTERATIONS: Mapping[str, Alteration] = {
    "the same": lambda request, _: request,
    "no condition": lambda request, _: replace(request, expect={}, boundary=None),
    "other actor, tags and client": lambda request, _: _last(request, actor="eve", tags=("b",), client=b"{}"),
    "other order": lambda request, _: replace(request, events=request.events[::-1]),
    "first event only": lambda request, _: replace(request, events=request.events[:1], expect={}),
    "other bytes": lambda request, _: _last(request, data=request.events[-1].data + b"!"),
    "other type": lambda request, _: _last(request, type="something else"),
    "other schema version": lambda request, _: _last(request, schema_version=9),
    "other claimed time": lambda request, _: _last(request, occurred_at=NOON + 17),
    "other stream": lambda request, _: _last(request, stream="cart-2"),
    "other tenant": lambda request, _: replace(request, tenant="initech"),
    "one more event": lambda request, id: replace(request, events=(*request.events, request.events[0]._replace(id=id))),
    "last event new": lambda request, id: _last(request, id=id),
    "an id twice": lambda request, _: replace(request, events=(*request.events, request.events[0])),
    "no events": lambda request, _: replace(request, events=(), expect={}),
    "condition elsewhere": lambda request, _: replace(request, expect={"elsewhere-1": NoStream()}),
}

again = st.builds(Again, back=st.integers(0, 20), alteration=st.sampled_from(list(ALTERATIONS)))

# One or two conditions at a time: with more of them almost nothing would match.
_asked = st.one_of(
    st.tuples(st.just("stream"), streams),
    st.tuples(st.just("category"), categories),
    st.tuples(st.just("types"), _pairs),
    st.tuples(st.just("tags"), st.lists(_tags, max_size=2).map(tuple)),
    st.tuples(st.just("actor"), st.sampled_from(["ann", "bob ä"])),
    st.tuples(st.just("correlation_id"), _ids),
    st.tuples(st.just("causation_id"), _ids),
    st.tuples(st.just("ip"), st.sampled_from(["10.0.0.1", "10.0.0.2"])),
    st.tuples(st.just("user_agent"), st.sampled_from(["curl", "ä"])),
    st.tuples(st.just("occurred_since"), hours),
    st.tuples(st.just("occurred_until"), hours),
    st.tuples(st.just("recorded_since"), hours),
    st.tuples(st.just("recorded_until"), hours),
)
filters = st.builds(
    lambda tenant, asked: Filter(tenant, **dict(asked)), st.none() | tenants, st.lists(_asked, max_size=2)
)

_fingerprints = st.sampled_from([b"one", b"two"])
versions = st.integers(0, 5)
snapshots = st.builds(
    StoredSnapshot,
    tenant=tenants,
    stream=streams,
    fingerprint=_fingerprints,
    version=versions,
    position=anywhere,
    occurred_at=hours,
    state=st.binary(max_size=4),
)
