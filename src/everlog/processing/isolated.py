"""Handlers in child processes: one may hang, exit, recurse or eat memory, and costs itself only."""

import contextlib
import multiprocessing
import pickle
import resource
import threading
from collections import deque
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from everlog.core.errors import EverlogError, Misconfigured
from everlog.domain.recorded import Recorded
from everlog.processing.processor import Isolation, Processor

# A fresh interpreter: forking a process with threads and open databases would copy both in mid-air.
_context = multiprocessing.get_context("spawn")


class HandlerDied(EverlogError):
    """The child process that ran the handler was killed, or ended by itself."""

    code = "handler_died"


class IsolatedCalls:
    """Children of one processor, started when needed and used again while they behave."""

    def __init__(self, processor: Processor[Any], isolation: Isolation) -> None:
        self._processor, self._isolation = processor, isolation
        self._idle: deque[_Child] = deque()
        self._mutex = threading.Lock()
        try:
            self._pickled = pickle.dumps(processor.handler)
        except Exception as error:
            raise Misconfigured(
                f"processor {processor.name!r} is isolated, so its function must be importable by name: "
                f"define it at the top of a module ({error})"
            ) from error

    def __call__(self, event: Recorded[Any]) -> None:
        """Run the handler on one event; raises what it raised, or `HandlerDied`."""
        child = self._child()
        try:
            raised = child.run(event, self._isolation.timeout)
        except HandlerDied:
            child.kill()
            raise
        with self._mutex:
            self._idle.append(child)
        if raised is not None:
            raise raised

    def close(self) -> None:
        while self._idle:
            self._idle.pop().kill()

    def _child(self) -> "_Child":
        with self._mutex:
            return self._idle.pop() if self._idle else _Child(self._pickled, self._isolation)


class _Child:
    def __init__(self, pickled: bytes, isolation: Isolation) -> None:
        self._pipe, theirs = _context.Pipe()
        self._process: BaseProcess = _context.Process(
            target=_serve, args=(theirs, pickled, isolation.memory), daemon=True
        )
        self._process.start()
        theirs.close()

    def run(self, event: Recorded[Any], timeout: float) -> BaseException | None:
        raised: BaseException | None
        try:
            self._pipe.send_bytes(
                pickle.dumps((event.stored, event.data, event.type, event.schema_version, event.part))
            )
            if not self._pipe.poll(timeout):
                raise HandlerDied(f"the handler took longer than {timeout:g} s and was killed")
            raised = pickle.loads(self._pipe.recv_bytes())  # from our own child
        except (EOFError, BrokenPipeError, ConnectionResetError) as error:
            self._process.join(1.0)
            raise HandlerDied(f"the handler ended its process (exit code {self._process.exitcode})") from error
        return raised

    def kill(self) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()


def _serve(pipe: Connection, pickled: bytes, memory: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    handler = pickle.loads(pickled)  # from our own parent
    with contextlib.suppress(EOFError):
        while True:
            stored, data, type_name, schema_version, part = pickle.loads(pipe.recv_bytes())
            pipe.send_bytes(_outcome(handler, Recorded.of(stored, data, type_name, schema_version, part)))


def _outcome(handler: Any, event: Recorded[Any]) -> bytes:
    """What it raised, as far as that can travel; nothing when it returned."""
    try:
        handler(event)
    except (Exception, SystemExit) as error:
        try:
            pickled = pickle.dumps(error)
            pickle.loads(pickled)
        except Exception:
            return pickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"))
        return pickled
    return pickle.dumps(None)
