"""Several processes on one SQLite file: the turnstile, forks, starting at once, and a log that stays short."""

import fcntl
import os
import signal
import sqlite3
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from threading import Barrier, Event, Thread

import pytest

from everlog.adapters.sqlite import SqliteSettings, SqliteStore
from everlog.adapters.sqlite.turnstile import Turnstile
from everlog.core.errors import StoreUnavailable
from everlog.testing.conformance import append, everything, new_event, request

# Python 3.12 warns at every fork beside threads; that it goes well is what is tested.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


# ---- The turnstile.


_HOLD = """
import sys
from pathlib import Path
from everlog.adapters.sqlite.turnstile import Turnstile
with Turnstile(Path(sys.argv[1]), 10.0).held():
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def _held_elsewhere(file: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process holds the turnstile until the block ends."""
    holder = subprocess.Popen([sys.executable, "-c", _HOLD, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == b"held\n"
        yield holder
        holder.stdin.close()


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="only Linux tells who holds a lock")
def test_who_waited_too_long_is_told_which_process_holds_the_lock(file: Path) -> None:
    with closing(SqliteStore(SqliteSettings(file, lock_timeout=0.03))) as store, _held_elsewhere(file) as holder:
        with pytest.raises(StoreUnavailable, match=rf"not free for 0\.03 s, process {holder.pid} has it: end that"):
            append(store)
        assert store.head().position == 0, "reads go on"


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="only Linux tells who holds a lock")
def test_the_one_who_waits_in_front_is_not_blamed(file: Path) -> None:
    got = Event()

    def wait_in_front() -> None:
        with Turnstile(file, 10.0).held():
            got.set()

    waiting = Thread(target=wait_in_front)
    with _held_elsewhere(file) as holder:
        waiting.start()
        _wait_until_taken(f"{file}-next.lock")
        with pytest.raises(StoreUnavailable, match=f"process {holder.pid} has it"):
            Turnstile(file, 0.03).held().__enter__()
        assert not got.is_set()
    waiting.join()
    assert got.is_set()


def test_a_holder_that_was_killed_holds_nobody_up(file: Path) -> None:
    with closing(SqliteStore(SqliteSettings(file))) as store, _held_elsewhere(file) as holder:
        holder.kill()
        holder.wait()
        assert append(store).position == 1


def test_a_block_that_raises_gives_the_turnstile_back(file: Path) -> None:
    turnstile = Turnstile(file, 0.03)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), turnstile.held():
            raise ZeroDivisionError
    with turnstile.held(), pytest.raises(StoreUnavailable):
        turnstile.held().__enter__()
    with turnstile.held():
        turnstile.close()


def test_three_writers_that_come_back_at_once_all_get_their_turns(file: Path) -> None:
    """By the median of several short races: a machine that stalls spoils one, a turnstile that is not fair spoils all.

    In a long race it would not show: whoever starves gets its turns in the end. With one lock file alone the median is
    0.05 to 0.09, with two 0.14 to 0.23.
    """
    shares = [_share_of_the_slowest(file) for _ in range(21)]
    assert statistics.median(shares) > 0.12, shares


def _share_of_the_slowest(file: Path) -> float:
    with ExitStack() as stores:
        # Each its own handle, because the callers of one handle queue before the turnstile.
        handles = [stores.enter_context(closing(SqliteStore(SqliteSettings(file)))) for _ in range(3)]
        start, done = Barrier(3), [0, 0, 0]

        def come_back_at_once(number: int) -> None:
            start.wait()
            while min(done) < 40:
                append(handles[number], new_event(f"s-{number}"))
                done[number] += 1

        threads = [Thread(target=come_back_at_once, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return min(done) / sum(done)


def _wait_until_taken(lock_file: str) -> None:
    with open(lock_file, "a") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            fcntl.flock(lock, fcntl.LOCK_UN)


# ---- Processes.


_APPEND = """
import sys
from contextlib import closing
from everlog.adapters.sqlite import SqliteSettings, SqliteStore
from everlog.testing.conformance import append, new_event
from pathlib import Path
print("ready", flush=True)
sys.stdin.readline()
with closing(SqliteStore(SqliteSettings(Path(sys.argv[1])))) as store:
    for _ in range(20):
        append(store, new_event(f"s-{sys.argv[2]}"))
"""


def test_processes_that_start_at_once_on_a_new_file_make_one_log(file: Path) -> None:
    command = [sys.executable, "-c", _APPEND, str(file)]
    started = [
        subprocess.Popen([*command, str(number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) for number in range(3)
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
    for process in started:
        process.communicate(b"go\n")
    assert [process.returncode for process in started] == [0, 0, 0]
    with closing(SqliteStore(SqliteSettings(file))) as store:
        assert [event.position for event in everything(store)] == list(range(1, 61))
        assert {finding.level for finding in store.examine(deep=True)} == {"ok"}


@contextmanager
def _forked(do: Callable[[], None]) -> Iterator[None]:
    """A child that does this and nothing else of pytest's; it must succeed, and within 10 seconds."""
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        try:
            do()
        except BaseException as error:
            os.write(2, f"in the child: {error!r}\n".encode())
            os._exit(1)
        os._exit(0)
    yield
    assert os.waitpid(child, 0)[1] == 0, "the child failed or hung"


def test_a_forked_child_appends_and_reads_while_its_parent_goes_on(file: Path) -> None:
    with closing(SqliteStore(SqliteSettings(file))) as store:
        append(store, new_event("before"))

        def child() -> None:
            for _ in range(20):
                append(store, new_event("child"))
                assert len(everything(store)) > 1
            store.close()

        with _forked(child):
            for _ in range(20):
                append(store, new_event("parent"))
        assert append(store, new_event("parent")).position == 42
        streams = [event.stream for event in everything(store)]
        assert (streams.count("child"), streams.count("parent")) == (20, 21)
        assert [event.position for event in everything(store)] == list(range(1, 43))
        assert {finding.level for finding in store.examine(deep=True)} == {"ok"}


def test_a_parent_that_closes_first_takes_nothing_from_its_child(file: Path) -> None:
    (go, tell_go), (ready, tell_ready) = os.pipe(), os.pipe()
    store = SqliteStore(SqliteSettings(file))
    append(store, new_event("parent"))

    def child() -> None:
        append(store, new_event("child"))
        os.write(tell_ready, b"x")
        assert os.read(go, 1) == b"x"
        for _ in range(5):
            append(store, new_event("child"))
        assert len(everything(store)) == 7

    with _forked(child):
        assert os.read(ready, 1) == b"x"
        store.close()
        with closing(SqliteStore(SqliteSettings(file))) as again:
            assert len(everything(again)) == 2
        os.write(tell_go, b"x")
    for end in (go, tell_go, ready, tell_ready):
        os.close(end)
    with closing(SqliteStore(SqliteSettings(file))) as again:
        assert len(everything(again)) == 7


def test_children_forked_in_the_midst_of_appends_and_reads_lose_nothing(file: Path) -> None:
    with closing(SqliteStore(SqliteSettings(file))) as store:
        busy, stop, appended = Event(), Event(), [0, 0, 0]

        def keep_appending(number: int) -> None:
            while not stop.is_set():
                append(store, new_event(f"thread-{number}"))
                appended[number] += 1
                busy.set()

        def keep_reading() -> None:
            while not stop.is_set():
                assert store.version_at("acme", "thread-0") <= store.head().position

        threads = [*(Thread(target=keep_appending, args=(n,)) for n in range(3)), Thread(target=keep_reading)]
        for thread in threads:
            thread.start()
        assert busy.wait(10)
        for number in range(5):
            with _forked(lambda n=number: _append_and_find(store, f"child-{n}")):  # type: ignore[misc]
                pass
        stop.set()
        for thread in threads:
            thread.join()
        streams = [event.stream for event in everything(store)]
        assert [streams.count(f"thread-{n}") for n in range(3)] == appended
        assert [streams.count(f"child-{n}") for n in range(5)] == [1] * 5
        assert {finding.level for finding in store.examine(deep=True)} == {"ok"}


def _append_and_find(store: SqliteStore, stream: str) -> None:
    append(store, new_event(stream))
    assert len(list(store.read_stream("acme", stream))) == 1


def test_a_child_forked_inside_a_transaction_is_told_that_it_cannot_use_the_log(file: Path) -> None:
    with closing(SqliteStore(SqliteSettings(file))) as store, closing(sqlite3.connect(file)) as mine:

        def child() -> None:
            with pytest.raises(StoreUnavailable, match="forked in the middle"):
                append(store)
            with pytest.raises(StoreUnavailable, match="forked in the middle"):
                store.head()
            store.close()

        with store.join(mine) as tx:
            tx.append(request(new_event("joined")))
            with _forked(child):
                pass
        append(store, new_event("after"))
        assert [event.stream for event in everything(store)] == ["joined", "after"]


def test_a_child_of_a_log_in_memory_leaves_it_to_its_parent() -> None:
    with closing(SqliteStore(SqliteSettings(None))) as store:
        append(store, new_event("parent"))

        def child() -> None:
            append(store, new_event("child"))
            store.close()

        with _forked(child):
            pass
        assert [event.stream for event in everything(store)] == ["parent", "child"]
        assert append(store).position == 3


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="only Linux tells who holds a lock")
def test_a_forked_child_and_its_parent_keep_each_other_out_of_a_joined_transaction(file: Path) -> None:
    with closing(SqliteStore(SqliteSettings(file, lock_timeout=0.05))) as store, closing(sqlite3.connect(file)) as mine:
        append(store)
        parent = os.getpid()
        (go, tell_go), (done, tell_done) = os.pipe(), os.pipe()

        def child() -> None:
            assert os.read(go, 1) == b"x"
            with closing(sqlite3.connect(file)) as other, pytest.raises(StoreUnavailable, match=f"process {parent} "):
                store.join(other).__enter__()
            os.write(tell_done, b"x")

        with _forked(child), store.join(mine) as tx:
            os.close(tell_done)
            tx.append(request(new_event()))
            os.write(tell_go, b"x")
            assert os.read(done, 1) == b"x"
        for end in (go, tell_go, done):
            os.close(end)
        assert len(everything(store)) == 2


# ---- A log that stays short.


def test_the_write_ahead_log_stays_short_while_thousands_of_events_come(file: Path) -> None:
    wal = Path(f"{file}-wal")
    longest = 0
    with closing(SqliteStore(SqliteSettings(file))) as store:
        for _ in range(50):
            append(store, *(new_event(f"s-{n % 10}", data=b"x" * 200, tags=("t",)) for n in range(100)))
            longest = max(longest, wal.stat().st_size)
        assert store.head().position == 5000
    # Twice what `checkpoint_pages` asks for, because the pages of a group are estimated.
    assert 0 < longest < 2 * 1000 * 4096


def test_a_reader_that_stays_in_the_past_holds_nobody_up(file: Path) -> None:
    with (
        closing(SqliteStore(SqliteSettings(file, checkpoint_pages=1))) as store,
        closing(sqlite3.connect(file)) as reader,
    ):
        append(store)
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM everlog_event").fetchone() == (1,)
        for _ in range(5):
            append(store)
        assert reader.execute("SELECT count(*) FROM everlog_event").fetchone() == (1,)
        reader.rollback()
        grown = file.stat().st_size
        append(store, new_event(data=b"x" * 100_000))
        assert file.stat().st_size > grown
