"""`Platform`: the parts of an application put together; no I/O until `open()`."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType, TracebackType
from typing import Any, Self, Unpack

from everlog.app.async_session import AsyncSession
from everlog.app.scope import Acting, Scope
from everlog.app.session import Admin, Session
from everlog.app.stores import open_store
from everlog.command.execute import Context
from everlog.command.load import COMPARE_EVERY, Loader, check_snapshots
from everlog.core.clock import Clock, system_clock
from everlog.core.crash import CrashPoint, nothing
from everlog.core.envelope import Head
from everlog.core.errors import InvalidInput, Misconfigured
from everlog.core.names import DEFAULT_TENANT, tenant_name
from everlog.domain.decider import Decider
from everlog.domain.event import is_event
from everlog.domain.types import EventTypes
from everlog.domain.upcast import Upcaster
from everlog.store.aio import AsyncStore
from everlog.store.contract import Store
from everlog.telemetry import Counters

Part = Decider[Any, Any, Any] | Upcaster | type


class Platform:
    """`Platform("sqlite:///shop.db", orders, …)`: deciders, upcasters and event classes, checked as a whole.

    Raises `Misconfigured` for two types or deciders of one name, a gap in the upcasters, a state no snapshot can hold,
    or a part that is none. `compare_snapshots_every` loads one from a snapshot is compared with a full replay.
    """

    def __init__(self, url: str, *parts: Part, compare_snapshots_every: int = COMPARE_EVERY) -> None:
        self.url = url
        self.deciders: Mapping[str, Decider[Any, Any, Any]] = MappingProxyType(_deciders(parts))
        self.types = EventTypes(_events(parts, self.deciders.values()), [p for p in parts if isinstance(p, Upcaster)])
        self._compare_every = compare_snapshots_every
        for decider in self.deciders.values():
            try:
                check_snapshots(decider)
            except InvalidInput as error:
                raise Misconfigured(
                    f"the state of decider {decider.name!r} does not survive a snapshot ({error}): "
                    "use plain values, or snapshot_every=None"
                ) from error

    def open(self, url: str | None = None, *, clock: Clock = system_clock, crash: CrashPoint = nothing) -> "Log":
        """Open the log, here or at another `url`; use it as a context manager or close it."""
        counters = Counters()
        return Log(open_store(url or self.url, clock=clock, crash=crash, counters=counters), self._scope(counters))

    def open_async(
        self, url: str | None = None, *, clock: Clock = system_clock, crash: CrashPoint = nothing
    ) -> "AsyncLog":
        """As `open`, for asyncio: `async with platform.open_async() as log`."""
        counters = Counters()
        store = open_store(url or self.url, clock=clock, crash=crash, counters=counters)
        return AsyncLog(AsyncStore(store), self._scope(counters))

    def _scope(self, counters: Counters) -> Scope:
        loaders = {
            name: Loader(decider, self.types, counters, compare_every=self._compare_every)
            for name, decider in self.deciders.items()
        }
        return Scope(self.types, loaders, counters, None, Context())


class Log:
    """An open log. `tenant` gives a session; `admin` alone crosses tenants."""

    def __init__(self, store: Store, scope: Scope) -> None:
        self.store, self._scope = store, scope
        self.counters = scope.counters

    def tenant(self, name: str = DEFAULT_TENANT, **acting: Unpack[Acting]) -> Session:
        return Session(self.store, _of_tenant(self._scope, name, acting))

    def admin(self) -> Admin:
        return Admin(self.store, self._scope)

    def head(self) -> Head:
        return self.store.head()

    def close(self, timeout: float = 10.0) -> None:
        self.store.close(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncLog:
    """An open log for asyncio."""

    def __init__(self, store: AsyncStore, scope: Scope) -> None:
        self.store, self._scope = store, scope
        self.counters = scope.counters

    def tenant(self, name: str = DEFAULT_TENANT, **acting: Unpack[Acting]) -> AsyncSession:
        return AsyncSession(self.store, _of_tenant(self._scope, name, acting))

    async def head(self) -> Head:
        return await self.store.head()

    async def close(self, timeout: float = 10.0) -> None:
        await self.store.close(timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _of_tenant(scope: Scope, name: str, acting: Acting) -> Scope:
    return replace(scope, tenant=tenant_name(name)).acting(acting)


def _deciders(parts: Iterable[Part]) -> dict[str, Decider[Any, Any, Any]]:
    found: dict[str, Decider[Any, Any, Any]] = {}
    for part in parts:
        if isinstance(part, Decider):
            if found.setdefault(part.name, part) is not part:
                raise Misconfigured(f"two deciders are named {part.name!r}: rename one, their streams would mix")
        elif not isinstance(part, Upcaster) and not is_event(part):
            raise Misconfigured(f"{part!r} is no part of a platform: give deciders, upcasters and event classes")
    return found


def _events(parts: Iterable[Part], deciders: Iterable[Decider[Any, Any, Any]]) -> list[type]:
    classes = [part for part in parts if isinstance(part, type)]
    for decider in deciders:
        classes += decider.event_types()
    return list(dict.fromkeys(classes))
