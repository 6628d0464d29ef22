"""Handlers in child processes: one may hang, exit, recurse or eat memory, and costs itself only."""

import contextlib
import importlib
import multiprocessing
import pickle
import resource
import signal
from collections import deque
from functools import reduce
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

from everlog.core.errors import EverlogError, Misconfigured
from everlog.domain.recorded import Recorded
from everlog.processing.processor import Isolation, Processor

START_SECONDS = 60.0
"""How long a child may take to import what the handler needs; the handler's own time begins after that."""

# A fresh interpreter: forking a process with threads and open databases would copy both in mid-air.
_context = multiprocessing.get_context("spawn")


class HandlerDied(EverlogError):
    """The child process that ran the handler was killed, or ended by itself."""

    code = "handler_died"


class Place(NamedTuple):
    """Where a child finds the processor: the decorated name holds it, so the function itself cannot be pickled."""

    module: str
    name: str

    def find(self) -> Any:
        found = reduce(getattr, self.name.split("."), importlib.import_module(self.module))
        return found.handler if isinstance(found, Processor) else found


class IsolatedCalls:
    """Children of one processor, started when needed and used again while they behave."""

    def __init__(self, processor: Processor[Any], isolation: Isolation) -> None:
        self._place = Place(processor.handler.__module__, processor.handler.__qualname__)
        self._isolation = isolation
        self._idle: deque[_Child] = deque()
        try:
            same = self._place.find() is processor.handler
        except (ImportError, AttributeError):
            same = False
        if not same:
            raise Misconfigured(
                f"processor {processor.name!r} is isolated, so its function must be importable by name: "
                f"define it at the top of a module, as {self._place.name} in {self._place.module}"
            )

    def __call__(self, event: Recorded[Any]) -> None:
        """Run the handler on one event; raises what it raised, or `HandlerDied`."""
        order = pickle.dumps((event.stored, event.data, event.type, event.schema_version, event.part))
        child = self._child()
        try:
            raised = child.run(order, self._isolation.timeout)
        except BaseException:
            child.kill()
            raise
        self._idle.append(child)
        if raised is not None:
            raise raised

    def close(self) -> None:
        """End those that are idle; one that is busy ends with its handler's time, or with this process."""
        while self._idle:
            self._idle.pop().kill()

    def _child(self) -> "_Child":
        try:
            return self._idle.pop()
        except IndexError:
            return _Child(self._place, self._isolation)


class _Child:
    def __init__(self, place: Place, isolation: Isolation) -> None:
        self._pipe, theirs = _context.Pipe()
        self._started = False
        self._process: BaseProcess = _context.Process(
            target=_serve, args=(theirs, place, isolation.memory), daemon=True
        )
        self._process.start()
        theirs.close()

    def run(self, order: bytes, timeout: float) -> BaseException | None:
        try:
            if not self._started:
                self._receive(START_SECONDS, f"its child process was not ready within {START_SECONDS:g} s")
                self._started = True
            self._pipe.send_bytes(order)
            outcome = self._receive(timeout, f"the handler took longer than {timeout:g} s and was killed")
        except (EOFError, BrokenPipeError, ConnectionResetError) as error:
            self._process.join(1.0)
            raise HandlerDied(f"the handler ended its process (exit code {self._process.exitcode})") from error
        raised: BaseException | None = pickle.loads(outcome)  # from our own child
        return raised

    def kill(self) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def _receive(self, timeout: float, otherwise: str) -> bytes:
        if not self._pipe.poll(timeout):
            raise HandlerDied(otherwise)
        return self._pipe.recv_bytes()


def _serve(pipe: Connection, place: Place, memory: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the worker, which lets what is in hand finish
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    handler = place.find()
    pipe.send_bytes(b"ready")
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
