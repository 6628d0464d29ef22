"""Sessions: everything one tenant's code does with the log; and the admin object, which alone crosses tenants."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar, Unpack, overload
from uuid import UUID

from everlog.app.following import Follows
from everlog.app.read_models import ReadModels
from everlog.app.scope import Acting, Scope, Where, Write
from everlog.app.waiting import WAIT_SECONDS
from everlog.command.execute import ATTEMPTS, Result, run
from everlog.core.at import At, as_point
from everlog.core.envelope import Appended, FoldKey, StoredEvent, StreamHead
from everlog.core.errors import InvalidInput
from everlog.core.expect import ANYTHING, Expect
from everlog.domain.criteria import Criteria
from everlog.domain.decider import Decider
from everlog.domain.recorded import Recorded
from everlog.history.audit import AuditEntry, entry
from everlog.history.travel import Difference, difference, state_at
from everlog.projection.fold import Fold
from everlog.store.contract import Joined, Store

C = TypeVar("C")
S = TypeVar("S")
E = TypeVar("E")


class JoinedSession:
    """Appends inside the caller's transaction; see `Session.join`."""

    def __init__(self, scope: Scope, joined: Joined) -> None:
        self._scope, self._joined = scope, joined

    def append(self, stream: str, *events: object, expect: Expect = ANYTHING, request_id: str | None = None) -> None:
        """Buffer events; they are stored, and their conditions checked, by `flush`."""
        self._joined.append(self._scope.append([Write(stream, *events, expect=expect)], (), 0, None, request_id))

    def flush(self) -> Sequence[Appended]:
        """Take the head now: call it last, the transaction holds up every other writer from here to its COMMIT."""
        return self._joined.flush()


class Session:
    """One tenant's view of the log; blocking, thread-safe, cheap to make for each request."""

    def __init__(self, store: Store, scope: Scope, models: ReadModels) -> None:
        self._store, self.scope, self.models = store, scope, models

    @property
    def tenant(self) -> str:
        return self.scope.bound()

    def acting(self, **acting: Unpack[Acting]) -> "Session":
        """The same session on behalf of someone: what is named here replaces what was set before."""
        return Session(self._store, self.scope.acting(acting), self.models)

    def append(
        self,
        stream: str,
        *events: object,
        expect: Expect = ANYTHING,
        occurred_at: datetime | None = None,
        unless: Criteria | Sequence[Criteria] = (),
        after: int = 0,
        ids: Sequence[UUID] | None = None,
        request_id: str | None = None,
    ) -> Appended:
        """Append events to one stream; see `append_batch` for the conditions."""
        write = Write(stream, *events, expect=expect, occurred_at=occurred_at)
        return self.append_batch(write, unless=unless, after=after, ids=ids, request_id=request_id)

    def append_batch(
        self,
        *writes: Write,
        unless: Criteria | Sequence[Criteria] = (),
        after: int = 0,
        ids: Sequence[UUID] | None = None,
        request_id: str | None = None,
    ) -> Appended:
        """Append to several streams at once, all or nothing, under each stream's `expect` and the dynamic boundary:
        no event matching `unless` lies behind position `after`.

        Retrying with the same `ids` or `request_id` gives the first answer again. Raises `WrongExpectedVersion`,
        `AppendConditionFailed`, `IdempotencyConflict`, `InvalidInput`, `StoreUnavailable` or `OutcomeUnknown`.
        """
        return self._store.append(self.scope.append(writes, unless, after, ids, request_id))

    def execute(
        self,
        decider: Decider[C, S, E],
        id: str,
        command: C,
        *,
        request_id: str | None = None,
        attempts: int = ATTEMPTS,
        unless: Criteria | Sequence[Criteria] = (),
        after: int = 0,
        wait_for: Sequence[Follows] = (),
        timeout: float = WAIT_SECONDS,
    ) -> Result[S, E]:
        """Load, decide, append; decided again, up to `attempts` times, when another writer came first.

        With a `request_id` the same request is executed once, and its first answer given ever after. `unless` and
        `after` are the dynamic boundary of `append_batch`, for a rule beyond this aggregate. With `wait_for` returns
        once these have seen it. Raises what `decide` raises (`Rejected`), what `append_batch` raises, and
        what `wait_for` raises: then the events are stored.
        """
        boundary = self.scope.boundary(unless, after)
        result = run(self.scope.execution(decider, id, command, request_id, attempts, boundary), self._store)
        self.models.wait(wait_for, result.position, timeout)
        return result

    def answer(self, request_id: str) -> Recorded[Any] | None:
        """The first event that this request led to; none when it led to nothing, or is not known."""
        found = self._store.find(self.tenant, [self.scope.request(request_id)])
        return next(self.scope.types.each(found.values()), None)

    def get(self, fold: Fold[S], key: str, *, at: int | None = None) -> S:
        """A read model's state of one key, as its projection has it; or folded on demand up to the position `at`."""
        if at is None:
            return self.models.get(fold, self.tenant, key)
        return self.models.live(fold, self.tenant, key, at)

    def all(self, fold: Fold[S]) -> Iterator[tuple[str, S]]:
        """Every key of a read model with its state, by key, streamed."""
        return ((key.key, state) for key, state in self.models.all(fold, self.tenant))

    def wait_for(self, *parts: Follows, position: int | None = None, timeout: float = WAIT_SECONDS) -> None:
        """Return once these projections and processors have passed `position` (the head, by default).

        A projection has folded what lies before it, a processor has handled it or parked it in a lane.

        Raises `WaitTimeout` after `timeout` seconds, and `SubscriptionFailed` when one cannot get there.
        """
        self.models.wait(parts, self._store.head().position if position is None else position, timeout)

    def state(self, decider: Decider[Any, S, Any], id: str, *, at: At | int | None = None) -> S:
        """The state now, or at a position (`int`), `AtVersion`, `RecordedAt` or `OccurredAt`."""
        return state_at(self.scope.loader(decider), self._store, self.tenant, decider.stream(id), as_point(at)).state

    def difference(
        self, decider: Decider[Any, S, Any], id: str, before: At | int, after: At | int | None = None
    ) -> Difference[S]:
        """What changed between two points (`after=None`: now), field by field, with the events that made it."""
        point = as_point(before)
        if point is None:
            raise InvalidInput("a difference needs the point it starts from")
        loader, stream = self.scope.loader(decider), decider.stream(id)
        return difference(loader, self.scope.types, self._store, self.tenant, stream, point, as_point(after))

    def stream(
        self, name: str, *, after: int = 0, upto: int | None = None, backwards: bool = False
    ) -> Iterator[Recorded[Any]]:
        """One stream's events with `after` < version <= `upto`, streamed."""
        events = self._store.read_stream(self.tenant, name, after=after, upto=upto, backwards=backwards)
        return self.scope.types.each(events)

    @overload
    def events(self, **where: Unpack[Where]) -> Iterator[Recorded[Any]]: ...
    @overload
    def events(self, type: type[E], /, *types: type[E], **where: Unpack[Where]) -> Iterator[Recorded[E]]: ...
    def events(self, *types: type[Any], **where: Unpack[Where]) -> Iterator[Recorded[Any]]:
        """Events of these classes (all, when none is named) in log order, streamed and filtered in the database."""
        return self.scope.types.each(_read(self._store, self.scope, types, where), types)

    def streams(self, category: str | None = None) -> Iterator[StreamHead]:
        """The tenant's streams by name, each with its version."""
        return self._store.streams(self.tenant, category)

    def audit(self, **where: Unpack[Where]) -> Iterator[AuditEntry]:
        """The audit trail: who did what, when, from where; streamed. Write it with `json_lines` or `csv_lines`."""
        return map(entry, _read(self._store, self.scope, (), where))

    @contextmanager
    def join(self, connection: object) -> Iterator[JoinedSession]:
        """A transaction on your own connection: your rows and these events commit together or not at all."""
        with self._store.join(connection) as joined:
            yield JoinedSession(self.scope, joined)


class Admin:
    """Reads across all tenants; made by `log.admin()`, so that crossing a border is always written down in the code."""

    def __init__(self, store: Store, scope: Scope, models: ReadModels) -> None:
        self.store, self._scope, self.models = store, scope, models

    @overload
    def events(self, **where: Unpack[Where]) -> Iterator[Recorded[Any]]: ...
    @overload
    def events(self, type: type[E], /, *types: type[E], **where: Unpack[Where]) -> Iterator[Recorded[E]]: ...
    def events(self, *types: type[Any], **where: Unpack[Where]) -> Iterator[Recorded[Any]]:
        return self._scope.types.each(_read(self.store, self._scope, types, where), types)

    def streams(self, category: str | None = None) -> Iterator[StreamHead]:
        return self.store.streams(None, category)

    def audit(self, **where: Unpack[Where]) -> Iterator[AuditEntry]:
        return map(entry, _read(self.store, self._scope, (), where))

    def all(self, fold: Fold[S]) -> Iterator[tuple[FoldKey, S]]:
        """Every key of every tenant, by tenant and key, streamed."""
        return self.models.all(fold, None)


def _read(store: Store, scope: Scope, types: Sequence[type], where: Where) -> Iterator[StoredEvent]:
    return store.read(
        scope.filter(types, where),
        after=where.get("after", 0),
        upto=where.get("upto"),
        backwards=where.get("backwards", False),
        limit=where.get("limit"),
    )
