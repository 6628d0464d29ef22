"""An open log: sessions for tenants, the admin object, and the worker when it runs in this process."""

import asyncio
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, Unpack

from everlog.app.async_session import AsyncAdmin, AsyncSession
from everlog.app.read_models import ReadModels
from everlog.app.scope import Acting, Scope
from everlog.app.session import Admin, Session
from everlog.app.stores import Backend
from everlog.app.worker import Lag, Worker, lags
from everlog.core.envelope import Head
from everlog.core.names import DEFAULT_TENANT, tenant_name
from everlog.domain.recorded import Recorded
from everlog.store.aio import AsyncStore


class Log:
    """An open log. `tenant` gives a session; `admin` alone crosses tenants."""

    def __init__(self, store: Backend, scope: Scope, models: ReadModels, worker: Worker | None) -> None:
        self.store, self._scope, self._models, self.worker = store, scope, models, worker
        self.counters = scope.counters

    def tenant(self, name: str = DEFAULT_TENANT, **acting: Unpack[Acting]) -> Session:
        return Session(self.store, _of_tenant(self._scope, name, acting), self._models)

    def caused_by(self, event: Recorded[Any]) -> Session:
        """A session of the event's tenant in which everything is caused by it; what processors are given."""
        correlation_id = event.correlation_id or event.id
        return self.tenant(event.tenant, actor=event.actor, correlation_id=correlation_id, causation_id=event.id)

    def admin(self) -> Admin:
        return Admin(self.store, self._scope, self._models)

    def head(self) -> Head:
        return self.store.head()

    def lags(self) -> list[Lag]:
        """How far every subscription of the log is, whichever process runs it."""
        return lags(self.store)

    def close(self, timeout: float = 10.0) -> None:
        """Let the worker in this process see what is in the log, for up to `timeout` seconds; then close the store."""
        if self.worker is not None:
            self.worker.drain(timeout)
            self.worker.stop(timeout)
        self.store.close(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncLog:
    """An open log for asyncio."""

    def __init__(self, blocking: Log) -> None:
        self.store, self._blocking = AsyncStore(blocking.store), blocking
        self.counters = blocking.counters

    def tenant(self, name: str = DEFAULT_TENANT, **acting: Unpack[Acting]) -> AsyncSession:
        return AsyncSession(self.store, self._blocking.tenant(name, **acting))

    def caused_by(self, event: Recorded[Any]) -> AsyncSession:
        """As `Log.caused_by`."""
        return AsyncSession(self.store, self._blocking.caused_by(event))

    def admin(self) -> AsyncAdmin:
        return AsyncAdmin(self.store, self._blocking.admin())

    async def head(self) -> Head:
        return await self.store.head()

    async def lags(self) -> list[Lag]:
        return await self.store.run(self._blocking.lags)

    async def close(self, timeout: float = 10.0) -> None:
        if self._blocking.worker is not None:
            await asyncio.to_thread(self._blocking.worker.drain, timeout)
            await asyncio.to_thread(self._blocking.worker.stop, timeout)
        await self.store.close(timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _of_tenant(scope: Scope, name: str, acting: Acting) -> Scope:
    return replace(scope, tenant=tenant_name(name)).acting(acting)
