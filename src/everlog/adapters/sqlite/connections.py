"""The connections to one SQLite file: one that writes, a few that read, none that outlives a fork."""

import errno
import os
import sqlite3
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

from everlog.adapters.sqlite.forks import ForkGate
from everlog.adapters.sqlite.settings import SqliteSettings
from everlog.adapters.sqlite.turnstile import Turnstile
from everlog.core.errors import IncompatibleStore, InvalidInput, OutcomeUnknown, StoreUnavailable
from everlog.telemetry import Counters

FORMAT = 1
_PAGES_A_TRANSACTION, _PAGES_AN_EVENT = 8, 3
_CHUNK = 1024 * 1024
Take = Callable[[sqlite3.Cursor], list[Any]]
LONG_SECONDS = 0.010
OLDEST_SQLITE = (3, 37, 0)  # STRICT tables


class Connections:
    """Opened lazily, reopened after a fork or an I/O error. `write()` holds the turnstile."""

    def __init__(self, settings: SqliteSettings, counters: Counters, *, beside: Path | None = None) -> None:
        """`beside` is a file that can be read too, and in which names are looked up that this one does not know."""
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            raise IncompatibleStore(f"SQLite {sqlite3.sqlite_version} is too old: everlog needs 3.37 or newer")
        self.settings, self._counters, self._beside = settings, counters, beside
        self._temporary = None if settings.path else tempfile.TemporaryDirectory(prefix="everlog-")
        folder = Path(self._temporary.name) if self._temporary else None
        # Absolute, because connections are opened later too, when the process may be in another folder.
        self.path = settings.path.absolute() if settings.path else folder / "memory.db"  # type: ignore[operator]
        if not self.path.parent.is_dir():
            raise IncompatibleStore(f"{self.path.parent} is not a folder: create it first")
        self.turnstile = Turnstile(self.path, settings.lock_timeout)
        self._writer: sqlite3.Connection | None = None
        self._readers: deque[sqlite3.Connection] = deque()
        self._process = os.getpid()
        self._fork = ForkGate(self._before_fork)
        self._pages = 0
        self._settled = False
        self.closed = False
        try:
            with self.turnstile.held(), self._fork:
                self._create_or_check()
        except BaseException:
            self._forget_all()
            self._leave()
            raise

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """The writing connection, with the turnstile held; after an I/O error it is thrown away."""
        with self.head_held():
            try:
                yield self._writing()
            except (sqlite3.OperationalError, StoreUnavailable, OutcomeUnknown):
                self._forget_writer()
                raise

    @contextmanager
    def committing(self) -> Iterator[sqlite3.Connection]:
        """A transaction on the writing connection that commits when the block ends."""
        with self.write() as connection:
            with transaction(connection):
                yield connection
            self.checkpoint_when_due(connection, 1)

    @contextmanager
    def head_held(self) -> Iterator[None]:
        """The turnstile, and a count of those who hold it so long that others notice."""
        self._check_ready()
        with self.turnstile.held(), self._fork:
            self._settle()
            began = time.monotonic()
            try:
                yield
            finally:
                if time.monotonic() - began > LONG_SECONDS:
                    self._counters.count("long_transactions")

    def rows(self, sql: str, values: Sequence[object] = (), take: Take = sqlite3.Cursor.fetchall) -> list[Any]:
        """All rows of one short query, on a reading connection; or as many as `take` takes."""
        self._check_ready()
        with self._fork:
            return self._rows(sql, values, take)

    def _rows(self, sql: str, values: Sequence[object], take: Take) -> list[Any]:
        try:
            connection = self._readers.pop()
        except IndexError:
            connection = self._open(reading=True)
        try:
            cursor = connection.execute(sql, values)
            found = take(cursor)
            cursor.close()  # else rows that nobody took would keep its read transaction open
        except sqlite3.Error as error:
            connection.close()
            raise unavailable(error) from error
        except (OverflowError, UnicodeEncodeError) as error:
            connection.close()
            raise InvalidInput(f"no text or number of a log: {error}") from error
        except BaseException:
            connection.close()
            raise
        self._readers.append(connection)
        if self.closed:  # meanwhile, by another thread
            self._forget_readers()
        return found

    def checkpoint_when_due(self, connection: sqlite3.Connection, events: int) -> None:
        """Move the write-ahead log into the file once about `checkpoint_pages` pages were written; turnstile held.

        The pages are estimated: asking SQLite costs a checkpoint, and opening its files would drop its locks.
        """
        self._pages += _PAGES_A_TRANSACTION + _PAGES_AN_EVENT * events
        if self._pages >= self.settings.checkpoint_pages:
            # The append is committed, so its answer stands: a checkpoint that fails is due again after the next one.
            with suppress(sqlite3.Error):
                connection.execute("PRAGMA main.wal_checkpoint(PASSIVE)").fetchall()
                self._pages = 0

    def close(self) -> None:
        """Close under the turnstile, because the last connection to close checkpoints."""
        if self.closed:
            return
        self.closed = True
        if self._fork.spoiled:
            return
        try:
            with self.turnstile.held():
                self._forget_all()
        except StoreUnavailable:  # who holds it has the file open, so ours are not the last to close
            self._forget_all()
        self._leave()

    def _leave(self) -> None:
        self.turnstile.close()
        if self._temporary and os.getpid() == self._process:
            self._temporary.cleanup()

    def _writing(self) -> sqlite3.Connection:
        if self._writer is None:
            self._writer = self._open(reading=False)
        return self._writer

    def _forget_all(self) -> None:
        self._forget_writer()
        self._forget_readers()

    def _forget_readers(self) -> None:
        with suppress(IndexError):
            while True:
                self._readers.pop().close()

    def _settle(self) -> None:
        """Make durable whatever the writer can see, before an answer rests on it; turnstile held.

        A process that was killed before its sync, or whose sync failed, may leave frames that the next one to open the
        log finds whole. Asked again, their events would be known, and acknowledged although no disk holds them; and a
        checkpoint would build on them.
        """
        if self._settled:
            return
        try:
            writer = self._writing()
            writer.execute("BEGIN IMMEDIATE")  # now nobody adds to the write-ahead log, or starts it anew
            try:
                _write_again(self.path.with_name(f"{self.path.name}-wal"))
                _sync_folder(self.path.parent)
            finally:
                writer.rollback()
        except (sqlite3.Error, OSError) as error:
            self._forget_writer()
            raise unavailable(error) from error
        self._settled = True

    def _forget_writer(self) -> None:
        self._settled = False
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def _open(self, *, reading: bool) -> sqlite3.Connection:
        if self.closed:
            raise closed()
        try:
            connection = sqlite3.connect(
                self.path, isolation_level=None, check_same_thread=False, cached_statements=256, timeout=5.0, uri=True
            )
        except sqlite3.Error as error:
            raise unavailable(error) from error
        try:
            connection.execute(f"PRAGMA synchronous={self.settings.synchronous}")
            connection.execute("PRAGMA wal_autocheckpoint=0")
            if self._beside is not None:
                connection.execute("ATTACH ? AS beside", (f"file:{quote(str(self._beside))}?mode=ro",))
            if reading:
                connection.execute("PRAGMA query_only=1")
        except sqlite3.DatabaseError as error:
            connection.close()
            raise not_a_store(self.path, error) from error
        return connection

    def _create_or_check(self) -> None:
        try:
            if self._writing().execute("PRAGMA main.journal_mode=WAL").fetchone()[0] != "wal":
                raise IncompatibleStore(f"{self.path} cannot use a write-ahead log: put it on a local file system")
            with suppress(StoreUnavailable):  # who writes tries again; a full disk keeps nobody from reading
                self._settle()
            connection = self._writing()
            tables = connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'everlog_log'").fetchone()[0]
            if not tables:
                _create(connection)
            found = connection.execute("SELECT format FROM everlog_log").fetchone()[0]
        except sqlite3.DatabaseError as error:
            self._forget_writer()
            raise not_a_store(self.path, error) from error
        if found > FORMAT:
            raise IncompatibleStore(
                f"{self.path} has format {found}, this everlog reads up to {FORMAT}: upgrade everlog on this machine"
            )

    def _check_ready(self) -> None:
        if self.closed:
            raise closed()
        if self._fork.spoiled:
            raise StoreUnavailable(
                "this process was forked in the middle of its parent's use of the log, whose locks SQLite cannot tell "
                "from its own: fork outside of transactions, or start processes with spawn"
            )

    def _before_fork(self) -> None:
        self._forget_all()
        self.turnstile.close()


def _create(connection: sqlite3.Connection) -> None:
    schema = resources.files("everlog.adapters.sqlite").joinpath("schema.sql").read_text()
    head = f"INSERT INTO everlog_log VALUES (1, {FORMAT}, x'{os.urandom(16).hex()}', 1, 0, 0, '{{}}', '');"
    connection.executescript(f"BEGIN IMMEDIATE; {schema} {head} COMMIT;")


def _write_again(path: Path) -> None:
    """Write the same bytes and sync them: a sync alone would not bring back what the kernel dropped when one failed.

    SQLite locks the database and its index, never this file, so closing it drops no lock of ours.
    """
    with path.open("r+b") as file:
        for start in range(0, path.stat().st_size, _CHUNK):
            file.seek(start)
            content = file.read(_CHUNK)
            file.seek(start)
            file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make the names of the files durable; SQLite tries to, but takes no notice when that fails."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno not in (errno.EBADF, errno.EINVAL):  # said by file systems that sync no folders
            raise
    finally:
        os.close(opened)


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """BEGIN IMMEDIATE, then COMMIT, or ROLLBACK when the block raises; what the block raises passes untouched."""
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        raise unavailable(error) from error
    try:
        yield
    except BaseException:
        connection.rollback()
        raise
    try:
        connection.commit()
    except sqlite3.OperationalError as error:
        connection.rollback()
        raise outcome_unknown(error) from error
    except BaseException:  # a constraint put off until COMMIT leaves the transaction open
        connection.rollback()
        raise


def closed() -> StoreUnavailable:
    return StoreUnavailable("the store is closed: open it again")


def unavailable(error: sqlite3.Error | OSError) -> StoreUnavailable:
    """The driver's error in our words; nothing was stored."""
    return StoreUnavailable(f"SQLite says: {error}: nothing was stored; try again once the cause is gone")


def outcome_unknown(error: Exception) -> OutcomeUnknown:
    """COMMIT failed, and what it wrote may yet be found whole by whoever opens the log next."""
    return OutcomeUnknown(f"SQLite cannot say whether this is stored ({error}): retry with the same ids")


def not_a_store(path: Path, error: sqlite3.DatabaseError) -> IncompatibleStore | StoreUnavailable:
    if isinstance(error, sqlite3.OperationalError):
        return unavailable(error)
    return IncompatibleStore(f"{path} is not a SQLite database: {error}")
