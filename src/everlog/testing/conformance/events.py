"""What the tests append and how they look at the whole log, in as few words as a sentence needs."""

from collections.abc import Mapping

from everlog.core.envelope import Append, Appended, NewEvent, StoredEvent
from everlog.core.expect import Expect, NoneMatching
from everlog.core.ids import new_id
from everlog.store.contract import Store
from everlog.store.query import Filter

TENANT = "acme"
DAY = 24 * 60 * 60 * 1_000_000


class SettableClock:
    """A clock that stands still until a test moves it. Microseconds."""

    def __init__(self, now: int = 1_790_000_000_000_000) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


def new_event(
    stream: str = "order-1",
    type: str = "order.placed",
    data: bytes = b'{"cents":4200}',
    *,
    id: bytes | None = None,
    schema_version: int = 1,
    tags: tuple[str, ...] = (),
    occurred_at: int | None = None,
    actor: str | None = None,
    correlation_id: bytes | None = None,
    causation_id: bytes | None = None,
    client: bytes | None = None,
) -> NewEvent:
    """An event with a fresh id; say only what the test is about."""
    return NewEvent(
        id=new_id() if id is None else id,
        stream=stream,
        type=type,
        schema_version=schema_version,
        data=data,
        tags=tags,
        occurred_at=occurred_at,
        actor=actor,
        correlation_id=correlation_id,
        causation_id=causation_id,
        client=client,
    )


def request(
    *events: NewEvent,
    tenant: str = TENANT,
    expect: Mapping[str, Expect] | None = None,
    boundary: NoneMatching | None = None,
) -> Append:
    return Append(tenant, events, expect or {}, boundary)


def append(
    store: Store,
    *events: NewEvent,
    tenant: str = TENANT,
    expect: Mapping[str, Expect] | None = None,
    boundary: NoneMatching | None = None,
) -> Appended:
    """Append the events as one request; without any, one event."""
    return store.append(request(*(events or (new_event(),)), tenant=tenant, expect=expect, boundary=boundary))


def everything(store: Store) -> list[StoredEvent]:
    """All events of all tenants."""
    return list(store.read(Filter(None)))


def versions(store: Store, stream: str = "order-1", tenant: str = TENANT) -> list[int]:
    return [event.version for event in store.read_stream(tenant, stream)]


def assert_sound(store: Store) -> None:
    """Positions are 1..n without holes, versions too in every stream, time never goes back, every leaf holds."""
    events = everything(store)
    head = store.head()
    assert [event.position for event in events] == list(range(1, head.position + 1))
    assert (events[-1].recorded_at if events else 0) == head.recorded_at
    recorded = [event.recorded_at for event in events]
    assert recorded == sorted(recorded)
    reached: dict[tuple[str, str], int] = {}
    for event in events:
        key = event.tenant, event.stream
        assert event.version == reached.get(key, 0) + 1
        reached[key] = event.version
    assert [finding for finding in store.examine(deep=True) if finding.level == "problem"] == []
