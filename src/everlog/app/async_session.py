"""The async session and admin: the same calls, awaited. Names, defaults and errors are those of the blocking ones."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, TypeVar, Unpack, overload
from uuid import UUID

from everlog.app.following import Follows
from everlog.app.scope import Acting, Where, Write
from everlog.app.session import Admin, JoinedSession, Session
from everlog.app.waiting import FIRST_POLL, LONGEST_POLL, WAIT_SECONDS
from everlog.command.execute import ATTEMPTS, Execution, Result, perform
from everlog.core.at import At
from everlog.core.envelope import Append, Appended, FoldKey, StreamHead
from everlog.core.errors import IdempotencyConflict, WrongExpectedVersion
from everlog.core.expect import ANYTHING, Expect
from everlog.domain.criteria import Criteria
from everlog.domain.decider import Decider
from everlog.domain.recorded import Recorded
from everlog.history.audit import AuditEntry
from everlog.history.travel import Difference
from everlog.projection.fold import Fold
from everlog.store.aio import AsyncStore

C = TypeVar("C")
S = TypeVar("S")
E = TypeVar("E")


class AsyncSession:
    """One tenant's view of the log for asyncio."""

    def __init__(self, store: AsyncStore, blocking: Session) -> None:
        self._store, self._blocking, self._scope = store, blocking, blocking.scope

    @property
    def tenant(self) -> str:
        return self._blocking.tenant

    def acting(self, **acting: Unpack[Acting]) -> "AsyncSession":
        return AsyncSession(self._store, self._blocking.acting(**acting))

    async def append(
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
        write = Write(stream, *events, expect=expect, occurred_at=occurred_at)
        return await self.append_batch(write, unless=unless, after=after, ids=ids, request_id=request_id)

    async def append_batch(
        self,
        *writes: Write,
        unless: Criteria | Sequence[Criteria] = (),
        after: int = 0,
        ids: Sequence[UUID] | None = None,
        request_id: str | None = None,
    ) -> Appended:
        return await self._store.append(self._scope.append(writes, unless, after, ids, request_id))

    async def execute(
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
        """As `Session.execute`; `decide` and `evolve` run on the event loop, which pure functions do not hold up."""
        boundary = self._scope.boundary(unless, after)
        result = await self._execute(self._scope.execution(decider, id, command, request_id, attempts, boundary))
        if wait_for:
            await self.wait_for(*wait_for, position=result.position, timeout=timeout)
        return result

    async def answer(self, request_id: str) -> Recorded[Any] | None:
        return await self._store.run(self._blocking.answer, request_id)

    async def get(self, fold: Fold[S], key: str, *, at: int | None = None) -> S:
        return await self._store.run(self._blocking.get, fold, key, at=at)

    def all(self, fold: Fold[S]) -> AsyncIterator[tuple[str, S]]:
        return self._store.each(lambda: self._blocking.all(fold))

    async def wait_for(self, *parts: Follows, position: int | None = None, timeout: float = WAIT_SECONDS) -> None:
        """As `Session.wait_for`; holds no thread while it waits."""
        models = self._blocking.models
        if position is None:
            position = (await self._store.head()).position
        loop = asyncio.get_running_loop()
        until, pause = loop.time() + timeout, FIRST_POLL
        while late := await self._store.run(models.late, parts, position):
            if loop.time() >= until:
                raise models.waiting.timeout(late, position, timeout)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_POLL)

    async def _execute(self, execution: Execution[S, E]) -> Result[S, E]:
        steps = execution.steps()
        answer: Any = None
        error: Exception | None = None
        while True:
            try:
                step = steps.throw(error) if error is not None else steps.send(answer)
            except StopIteration as end:
                result: Result[S, E] = end.value
                return result
            answer, error = None, None
            try:
                if isinstance(step, Append):
                    answer = await self._store.append(step)
                else:
                    answer = await self._store.run(perform, step, execution, self._store.blocking)
            except (WrongExpectedVersion, IdempotencyConflict) as raised:
                error = raised

    async def state(self, decider: Decider[Any, S, Any], id: str, *, at: At | int | None = None) -> S:
        return await self._store.run(self._blocking.state, decider, id, at=at)

    async def difference(
        self, decider: Decider[Any, S, Any], id: str, before: At | int, after: At | int | None = None
    ) -> Difference[S]:
        return await self._store.run(self._blocking.difference, decider, id, before, after)

    def stream(
        self, name: str, *, after: int = 0, upto: int | None = None, backwards: bool = False
    ) -> AsyncIterator[Recorded[Any]]:
        return self._store.each(lambda: self._blocking.stream(name, after=after, upto=upto, backwards=backwards))

    @overload
    def events(self, **where: Unpack[Where]) -> AsyncIterator[Recorded[Any]]: ...
    @overload
    def events(self, type: type[E], /, *types: type[E], **where: Unpack[Where]) -> AsyncIterator[Recorded[E]]: ...
    def events(self, *types: type[Any], **where: Unpack[Where]) -> AsyncIterator[Recorded[Any]]:
        return self._store.each(lambda: self._blocking.events(*types, **where))

    def streams(self, category: str | None = None) -> AsyncIterator[StreamHead]:
        return self._store.each(lambda: self._blocking.streams(category))

    def audit(self, **where: Unpack[Where]) -> AsyncIterator[AuditEntry]:
        return self._store.each(lambda: self._blocking.audit(**where))

    def join(self, connection: object) -> AbstractContextManager[JoinedSession]:
        """As `Session.join`, and it blocks: for a function that SQLAlchemy's `run_sync` or a thread runs."""
        return self._blocking.join(connection)


class AsyncAdmin:
    """Reads across all tenants for asyncio; as `Admin`."""

    def __init__(self, store: AsyncStore, blocking: Admin) -> None:
        self._store, self._blocking = store, blocking

    @overload
    def events(self, **where: Unpack[Where]) -> AsyncIterator[Recorded[Any]]: ...
    @overload
    def events(self, type: type[E], /, *types: type[E], **where: Unpack[Where]) -> AsyncIterator[Recorded[E]]: ...
    def events(self, *types: type[Any], **where: Unpack[Where]) -> AsyncIterator[Recorded[Any]]:
        return self._store.each(lambda: self._blocking.events(*types, **where))

    def streams(self, category: str | None = None) -> AsyncIterator[StreamHead]:
        return self._store.each(lambda: self._blocking.streams(category))

    def audit(self, **where: Unpack[Where]) -> AsyncIterator[AuditEntry]:
        return self._store.each(lambda: self._blocking.audit(**where))

    def all(self, fold: Fold[S]) -> AsyncIterator[tuple[FoldKey, S]]:
        return self._store.each(lambda: self._blocking.all(fold))
