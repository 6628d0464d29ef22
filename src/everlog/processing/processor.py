"""`@processor`: a function with side effects becomes a subscriber of its own, with its own checkpoint and lanes."""

import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Any, Concatenate, Generic, TypedDict, TypeVar, Unpack, overload

from everlog.core.errors import EverlogError, Misconfigured
from everlog.domain.event import kind_of
from everlog.domain.recorded import Recorded
from everlog.subscription.backoff import BACKOFF, Backoff
from everlog.subscription.naming import subscription_name, subscription_partitions
from everlog.subscription.start import BEGINNING, Start

E = TypeVar("E")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")

Key = Callable[[Recorded[Any]], str]


class Transient(EverlogError):
    """Raise it in a handler when the world is down for now: the processor pauses, and no attempt is used."""

    code = "transient"
    retryable = True


TRANSIENT: tuple[type[BaseException], ...] = (Transient, ConnectionError, TimeoutError)


@dataclass(frozen=True, slots=True)
class Retry:
    """`attempts` for an error that is not transient, paused as `backoff` says; then the lane is parked."""

    attempts: int = 5
    backoff: Backoff = BACKOFF
    transient: tuple[type[BaseException], ...] = TRANSIENT


RETRY = Retry()


@dataclass(frozen=True, slots=True)
class Isolation:
    """A child process for each handler: what it may take before it is killed. Seconds and bytes."""

    timeout: float = 60.0
    memory: int = 1024 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Processor(Generic[E]):
    """Made by `@processor`; calling it calls the function."""

    name: str
    events: tuple[type, ...]
    handler: Callable[..., Any]
    key: Key | None
    retry: Retry
    inbox: bool
    isolation: Isolation | None
    concurrency: int
    max_lanes: int
    max_parked: int
    start: Start
    partitions: int = 1

    def __call__(self, event: Recorded[E], *more: Any) -> Any:
        return self.handler(event, *more)

    @property
    def wants_more(self) -> bool:
        """Whether the function takes a second argument: the transaction with `inbox`, else the tenant's session."""
        return len(inspect.signature(self.handler).parameters) > 1

    @property
    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.handler)

    def key_of(self, event: Recorded[Any]) -> str:
        """The lane of an event; keys of two tenants never meet."""
        return f"{event.tenant}/{event.stream if self.key is None else self.key(event)}"


Handler = Callable[Concatenate[Recorded[E], ...], Awaitable[None] | None]


class Options(TypedDict, total=False):
    """What may be said of a processor besides its events; see `processor`."""

    inbox: bool
    isolate: bool | Isolation
    retry: Retry
    concurrency: int
    max_lanes: int
    max_parked: int
    start: Start
    partitions: int


@overload
def processor(
    name: str, *, on: type[E], key: Callable[[Recorded[E]], str] | None = None, **options: Unpack[Options]
) -> Callable[[Handler[E]], Processor[E]]: ...


@overload
def processor(
    name: str,
    *,
    on: tuple[type[A], type[B]],
    key: Callable[[Recorded[A | B]], str] | None = None,
    **options: Unpack[Options],
) -> Callable[[Handler[A | B]], Processor[A | B]]: ...


@overload
def processor(
    name: str,
    *,
    on: tuple[type[A], type[B], type[C]],
    key: Callable[[Recorded[A | B | C]], str] | None = None,
    **options: Unpack[Options],
) -> Callable[[Handler[A | B | C]], Processor[A | B | C]]: ...


@overload
def processor(
    name: str,
    *,
    on: tuple[type[A], type[B], type[C], type[D]],
    key: Callable[[Recorded[A | B | C | D]], str] | None = None,
    **options: Unpack[Options],
) -> Callable[[Handler[A | B | C | D]], Processor[A | B | C | D]]: ...


# Of more, or of a list, a checker makes `object`: what the handler says it takes stands, unchecked.
@overload
def processor(
    name: str,
    *,
    on: Sequence[type[Any]],
    key: Callable[[Recorded[Any]], str] | None = None,
    **options: Unpack[Options],
) -> Callable[[Handler[Any]], Processor[Any]]: ...


def processor(
    name: str,
    *,
    on: Any,
    key: Any = None,
    inbox: bool = False,
    isolate: bool | Isolation = False,
    retry: Retry = RETRY,
    concurrency: int = 8,
    max_lanes: int = 10_000,
    max_parked: int = 100_000,
    start: Start = BEGINNING,
    partitions: int = 1,
) -> Any:
    """Decorates a handler, plain or `async def`, for events of one class, or of several: `on=(Lent, Returned)`.

    Events of one `key` (default: the stream) are handled in order, `concurrency` keys at a time, at least once. With
    `inbox` the handler also gets the transaction of its effect (`tx.execute`), which happens exactly once. With
    `isolate` it runs in a child process that may hang, exit or eat memory. A handler that takes a second argument
    without `inbox` gets a session of the event's tenant, caused by the event. More than `max_lanes` failing keys, or
    `max_parked` events behind them, stop the processor instead of dropping anything. Divided into `partitions` by the
    key, several workers share it.
    """
    if isinstance(on, UnionType):
        raise Misconfigured(
            f"processor {name!r}: write on=({', '.join(one.__name__ for one in on.__args__)}), not {on}"
        )
    if not isinstance(retry, Retry):
        raise Misconfigured(f"processor {name!r}: write retry=Retry(attempts={retry!r}), not retry={retry!r}")
    events = (on,) if isinstance(on, type) else tuple(on)
    subscription_name(name)
    if not events:
        raise Misconfigured(f"processor {name!r} needs an event class to react to")
    for event in events:
        kind_of(event)
    if concurrency < 1 or retry.attempts < 1 or max_lanes < 1 or max_parked < 1:
        raise Misconfigured(f"processor {name!r}: concurrency, attempts and limits are 1 or more")
    subscription_partitions(name, partitions)
    if inbox and isolate:
        raise Misconfigured(f"processor {name!r}: a child process cannot share the inbox's transaction; choose one")
    isolation = Isolation() if isolate is True else isolate or None

    def declare(handler: Handler[Any]) -> Processor[Any]:
        return Processor(
            name, events, handler, key, retry, inbox, isolation, concurrency, max_lanes, max_parked, start,
            partitions,
        )  # fmt: skip

    return declare
