"""A process that follows a log, and dies or stands still where it is told to; what it follows; how it is started.

python -m tests.following.program '{"url": "sqlite:////tmp/log.db", "lease": 0.5}'
"""

from __future__ import annotations

import fcntl
import itertools
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import msgspec

from everlog import Backoff, Fold, Platform, Recorded, Retry, SqlProjection, Transaction, processor
from everlog.app import rebuild as rebuilding
from everlog.app.rebuild import Rebuild
from everlog.core import errors
from tests.following.parts import ADD, SECONDS, TABLE, Counted, append_many, eventually, settled, tally

KEYS = ("a", "b", "c", "d", "e")
NAMES = ("tally", "counter", "keep", "send")


class Trap(msgspec.Struct, frozen=True):
    """At the `times`-th time a point is reached the process gets this signal."""

    point: str
    times: int = 1
    signal: int = signal.SIGKILL


class Orders(msgspec.Struct, frozen=True):
    """What a process is to do: follow until it gets SIGTERM; or append, follow until it is quiet, and end.

    `rebuild` builds the read models anew first, going on where an earlier one stopped if `resume`. `fed_from` is the
    broker that feeds its processors, with what `relay` sends.
    """

    url: str
    follow: tuple[str, ...] = NAMES
    lease: float = 0.5
    traps: tuple[Trap, ...] = ()
    append: int = 0
    until_quiet: bool = False
    rebuild: bool = False
    resume: bool = False
    notes: str = ""
    fed_from: str | None = None
    relay: str | None = None


class Springs:
    """Counts how often each point is reached."""

    def __init__(self) -> None:
        self.traps: Sequence[Trap] = ()
        self.lock_file = ""
        self._reached: dict[str, Iterator[int]] = {}

    def __call__(self, point: str) -> None:
        if not self.traps:
            return
        times = next(self._reached.setdefault(point, itertools.count(1)))
        for trap in self.traps:
            if (trap.point, trap.times) == (point, times):
                say(f"at {point}")
                if trap.signal == signal.SIGSTOP:
                    self.until_free()
                # This very thread: one sent to the process lets it go on until another thread takes notice.
                signal.pthread_kill(threading.get_ident(), trap.signal)

    def until_free(self) -> None:
        """Who stands still with the write lock holds up everybody, and nobody can take over from him."""
        if self.lock_file:
            with open(self.lock_file) as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)


reach = Springs()
notes: IO[str] | None = None

totals: Fold[int] = Fold("tally", initial=0)
inline = tally("inline", inline=True)


@totals.on(Counted, key=lambda e: e.data.key)
def add(total: int, e: Recorded[Counted]) -> int:
    reach("fold.apply")
    return total + e.data.n


table = SqlProjection("counter", setup=[TABLE], tables=["counted"])


@table.on(Counted)
def insert(e: Recorded[Counted], tx: Transaction) -> None:
    tx.execute(ADD, (e.tenant, e.data.key, e.data.n))
    reach("sql.apply")


# The process is killed far oftener than an event deserves.
STUBBORN = Retry(attempts=1_000_000, backoff=Backoff(first=0.0, longest=0.0))


@processor("keep", on=Counted, inbox=True, retry=STUBBORN)
def keep(e: Recorded[Counted], tx: Transaction) -> None:
    tx.execute("CREATE TABLE IF NOT EXISTS kept (key TEXT PRIMARY KEY, n INTEGER)")
    tx.execute("INSERT INTO kept VALUES (?, 1) ON CONFLICT (key) DO UPDATE SET n = kept.n + 1", (e.data.key,))
    reach("keep.effect")


@processor("send", on=Counted, retry=STUBBORN, concurrency=2)
def send(e: Recorded[Counted]) -> None:
    """Goes out of the database, so it may be sent twice; whoever gets it knows it by its key."""
    reach("send.begin")
    if notes is not None:
        notes.write(f"{e.data.key} {e.position} {e.key}\n")
        notes.flush()


def following(*names: str) -> Platform:
    """The inline one is there for everybody, because who lacks it may not append."""
    return Platform("memory:", inline, *(part for part in (totals, table, keep, send) if part.name in names))


platform = following(*NAMES)


def say(what: str) -> None:
    print(what, flush=True)


def main(orders: Orders) -> None:
    global notes
    _tell_fences()
    if orders.notes:
        notes = Path(orders.notes).open("a")  # noqa: SIM115  (as long as the process lives)
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    rebuilding.REBUILD_PAGE, rebuilding.SAVE_EVERY = 7, 20
    reach.traps = orders.traps
    if orders.url.startswith("sqlite:///"):
        reach.lock_file = f"{orders.url.removeprefix('sqlite:///')}-write.lock"
    if orders.rebuild:
        _rebuild(orders)
    with following(*orders.follow).open(
        orders.url, worker=True, lease_seconds=orders.lease, crash=reach, fed_from=orders.fed_from, relay=orders.relay
    ) as log:
        say("ready")
        append_many(log.tenant("acme"), list(itertools.islice(itertools.cycle(KEYS), orders.append)))
        if orders.until_quiet and log.worker is not None and orders.fed_from is not None:
            assert log.worker.drain(SECONDS, everything=True)
        elif orders.until_quiet:
            settled(log, *orders.follow)
        else:
            stopping.wait()
        say("stopping")
    say("done")


def _rebuild(orders: Orders) -> None:
    with platform.open(orders.url, crash=reach) as log:
        for projection in (totals, table):
            rebuild = Rebuild(projection, platform.types, log.store, lease_seconds=orders.lease)
            eventually(lambda rebuild=rebuild: _ran(rebuild, orders.resume))  # type: ignore[misc]


def _ran(rebuild: Rebuild, resume: bool) -> bool:
    try:
        rebuild.run(lambda progress: reach("rebuild.page"), resume=resume)
    except errors.StoreUnavailable:  # the lease of a worker that was killed has yet to end
        return False
    return True


def _tell_fences() -> None:
    """A line for each time this process finds that it was replaced."""
    make = errors.Fenced.__init__

    def tell(self: errors.Fenced, name: str, epoch: int) -> None:
        say(f"fenced {name}")
        make(self, name, epoch)

    errors.Fenced.__init__ = tell  # type: ignore[method-assign]


class Running:
    """A process that was started, and the lines it has said so far."""

    def __init__(self, orders: Orders) -> None:
        command = [sys.executable, "-m", "tests.following.program", msgspec.json.encode(orders).decode()]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.lines: list[str] = []
        self._more = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_until_it_says(self, line: str, times: int = 1) -> None:
        with self._more:
            assert self._more.wait_for(lambda: self.lines.count(line) >= times, SECONDS), self.lines

    def wait_until_it_follows(self) -> None:
        """It may stand still at a trap before it comes to say that it is ready."""
        with self._more:
            assert self._more.wait_for(lambda: bool(self.lines), SECONDS)

    def wait_until_it_says_more(self, seconds: float = 0.3) -> None:
        """Another line, or not in this time."""
        with self._more:
            self._more.wait(seconds)

    def ended(self) -> int:
        code = self.process.wait(SECONDS)
        self._reader.join(SECONDS)
        return code

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as said:
            for line in said:
                with self._more:
                    self.lines.append(line.rstrip())
                    self._more.notify_all()


@contextmanager
def running(orders: Orders) -> Iterator[Running]:
    """Started, and following; whatever it is doing at the end, it is ended."""
    one = Running(orders)
    try:
        one.wait_until_it_follows()
        yield one
    finally:
        one.process.kill()
        one.ended()


if __name__ == "__main__":
    main(msgspec.json.decode(sys.argv[1], type=Orders))
