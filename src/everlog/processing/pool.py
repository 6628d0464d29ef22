"""Where the handlers of a processor run side by side."""

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import ParamSpec, Protocol

P = ParamSpec("P")

Work = Future[None]


class Pool(Protocol):
    """Threads in production; a simulation owns time, and so the waiting too."""

    def start(self, call: Callable[P, None], *arguments: P.args, **named: P.kwargs) -> Work: ...

    def unfinished(self, works: Iterable[Work], seconds: float) -> set[Work]:
        """Those that are not done when all are, or when `seconds` are over."""
        ...

    def close(self) -> None:
        """Take no more; what runs may go on."""
        ...


class Threads:
    """So many threads, made when they are needed."""

    def __init__(self, number: int, name: str) -> None:
        self._executor = ThreadPoolExecutor(number, thread_name_prefix=name)

    def start(self, call: Callable[P, None], *arguments: P.args, **named: P.kwargs) -> Work:
        return self._executor.submit(call, *arguments, **named)

    def unfinished(self, works: Iterable[Work], seconds: float) -> set[Work]:
        return wait(works, timeout=seconds).not_done

    def close(self) -> None:
        self._executor.shutdown(wait=False)
