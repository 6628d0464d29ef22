"""`execute`: load, decide, append under the version that was loaded; again when another writer came first.

The steps are a generator that does no I/O of its own: the blocking and the async session drive the same one.
"""

import itertools
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from everlog.command.load import NEWEST, Loaded, Loader
from everlog.core.envelope import Append, Appended, NewEvent, StoredEvent
from everlog.core.errors import IdempotencyConflict, InvalidInput, WrongExpectedVersion
from everlog.core.expect import Exactly, NoneMatching
from everlog.core.ids import derived_id, new_id
from everlog.core.limits import BATCH_EVENTS
from everlog.domain.recorded import Recorded
from everlog.domain.types import EventTypes
from everlog.store.contract import Store
from everlog.telemetry import Counters

S = TypeVar("S")
E = TypeVar("E")

ATTEMPTS = 25


@dataclass(frozen=True, slots=True)
class Context:
    """Who acts and why, set in one place for all events of a session."""

    actor: str | None = None
    client: bytes | None = None
    correlation_id: bytes | None = None
    causation_id: bytes | None = None


@dataclass(frozen=True, slots=True)
class Result(Generic[S, E]):
    """What a command led to: the state behind it and its events (none when it changed nothing)."""

    state: S
    events: tuple[Recorded[E], ...]
    version: int
    position: int
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Look:
    """Step: which of these ids are stored?"""

    ids: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Load:
    """Step: the state of the stream up to a version."""

    version: int = NEWEST


@dataclass(frozen=True, slots=True)
class Keep(Generic[S]):
    """Step: write a snapshot of this state if one is due."""

    loaded: Loaded[S]


Step = Look | Load | Append | Keep[Any]


@dataclass(frozen=True, slots=True)
class Execution(Generic[S, E]):
    """One command on one aggregate of one tenant."""

    loader: Loader[S]
    types: EventTypes
    counters: Counters
    tenant: str
    stream: str
    command: object
    context: Context
    request_id: str | None = None
    attempts: int = ATTEMPTS
    boundary: NoneMatching | None = None

    def steps(self) -> Generator[Step, Any, Result[S, E]]:
        """Yields what must be asked of the store and is sent the answers; raises what `decide` and the store raise."""
        if self.attempts < 1:
            raise InvalidInput(f"attempts={self.attempts} must be 1 or more")
        for attempt in itertools.count(1):
            # Load before looking: the same request, done elsewhere in between, would be refused for what itself did.
            loaded: Loaded[S] = yield Load()
            if self.request_id is not None and (yield Look(self._ids(1))):
                return (yield from self._first_answer())
            append = self._decided(loaded)
            if append is None:
                return Result(loaded.state, (), loaded.version, loaded.position)
            try:
                answer: Appended = yield append
            except WrongExpectedVersion:
                if attempt == self.attempts:
                    raise
                self.counters.count("execute_retries")
            except IdempotencyConflict:
                # Two requests with one id decided at once, on different states: the winner's answer is the answer.
                if attempt == self.attempts or self.request_id is None or not (yield Look(self._ids(1))):
                    raise
            else:
                return (yield from self._done(loaded, append, answer))
        raise AssertionError("the loop ends by returning or raising")

    def _decided(self, loaded: Loaded[S]) -> Append | None:
        decider = self.loader.decider
        events = list(decider.decide(self.command, loaded.state))
        if not events:
            return None
        if len(events) > BATCH_EVENTS:
            raise InvalidInput(f"{decider.name} decided on {len(events)} events at once, more than {BATCH_EVENTS}")
        ids = [new_id() for _ in events] if self.request_id is None else self._ids(len(events))
        pairs = zip(events, ids, strict=True)
        new = [new_event(self.types, self.stream, event, id, self.context) for event, id in pairs]
        return Append(self.tenant, tuple(new), {self.stream: Exactly(loaded.version)}, self.boundary)

    def _done(self, loaded: Loaded[S], append: Append, answer: Appended) -> Generator[Step, Any, Result[S, E]]:
        stored = as_stored(append, answer)
        after = self.loader.fold(stored, loaded)
        yield Keep(after)
        events = tuple(event for one in stored for event in self.types.recorded(one))
        return Result(after.state, events, after.version, after.position, answer.replayed)

    def _first_answer(self) -> Generator[Step, Any, Result[S, E]]:
        known: dict[bytes, StoredEvent] = yield Look(self._ids(BATCH_EVENTS))
        stored = sorted(known.values())
        if any(event.stream != self.stream for event in stored):
            raise IdempotencyConflict(
                f"request id {self.request_id!r} was used for {stored[0].stream}, not {self.stream}: use a new one"
            )
        loaded: Loaded[S] = yield Load(stored[-1].version)
        events = tuple(event for one in stored for event in self.types.recorded(one))
        return Result(loaded.state, events, loaded.version, loaded.position, replayed=True)

    def _ids(self, count: int) -> list[bytes]:
        return [derived_id(self.tenant, "request", self.request_id or "", number) for number in range(count)]


def new_event(
    types: EventTypes, stream: str, event: object, id: bytes, context: Context, occurred_at: int | None = None
) -> NewEvent:
    encoded = types.encode(event)
    return NewEvent(
        id, stream, encoded.type, encoded.schema_version, encoded.data, encoded.tags, occurred_at,
        context.actor, context.correlation_id, context.causation_id, context.client,
    )  # fmt: skip


def as_stored(append: Append, answer: Appended) -> list[StoredEvent]:
    """What reading the just appended events back would give, without reading."""
    at = answer.recorded_at
    return [
        StoredEvent(
            place.position,
            append.tenant,
            new.stream,
            place.version,
            new.id,
            new.type,
            new.schema_version,
            at if new.occurred_at is None else new.occurred_at,
            at,
            new.actor,
            new.correlation_id,
            new.causation_id,
            new.data,
            new.client,
        )
        for new, place in zip(append.events, answer.places, strict=True)
    ]


def run(execution: Execution[S, E], store: Store) -> Result[S, E]:
    """Drive the steps on a blocking store."""
    steps, answer, error = execution.steps(), None, None
    while True:
        try:
            step = steps.throw(error) if error is not None else steps.send(answer)
        except StopIteration as end:
            result: Result[S, E] = end.value
            return result
        answer, error = None, None
        try:
            answer = perform(step, execution, store)
        except (WrongExpectedVersion, IdempotencyConflict) as raised:
            error = raised


def perform(step: Step, execution: Execution[S, E], store: Store) -> Any:
    match step:
        case Look(ids):
            return store.find(execution.tenant, ids)
        case Load(version):
            return execution.loader.load(store, execution.tenant, execution.stream, version=version)
        case Append():
            return store.append(step)
        case Keep(loaded):
            return execution.loader.save_snapshot_when_due(store, execution.tenant, execution.stream, loaded)
