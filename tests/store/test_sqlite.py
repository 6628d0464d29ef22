"""What is SQLite's own: the file, its guards against everybody, and what `examine` finds when they were passed by."""

import os
import sqlite3
import stat
import tracemalloc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from everlog.adapters.sqlite import SqliteSettings, SqliteStore
from everlog.adapters.sqlite.read import page_of
from everlog.core.envelope import StoredSnapshot
from everlog.core.errors import IncompatibleStore, StoreUnavailable
from everlog.core.limits import PAGE_BYTES
from everlog.store.contract import Finding, Release
from everlog.store.query import Filter
from everlog.testing.conformance import append, everything, new_event, request

Value = str | int | bytes | None
_CLIENT = b'{"ip":"::1"}'


def _open(path: Path) -> SqliteStore:
    return SqliteStore(SqliteSettings(path))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A log of four events, the third without its bytes; two streams, one tenant."""
    path = tmp_path / "log.db"
    with closing(_open(path)) as store:
        append(store, *(new_event(f"s-{n % 2}", data=b'{"n":1}', actor="ann", client=_CLIENT) for n in range(4)))
        store.release(Release((3,), "erasure", "asked for"))
    return path


@pytest.fixture
def foreign(file: Path) -> Iterator[sqlite3.Connection]:
    """Somebody's plain connection, which knows nothing of everlog."""
    with closing(sqlite3.connect(file)) as connection:
        yield connection


def _dump(connection: sqlite3.Connection) -> Mapping[str, Sequence[object]]:
    tables = ("everlog_log", "everlog_event", "everlog_payload", "everlog_release")
    return {table: connection.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall() for table in tables}


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    return [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]


# ---- Guards.


@pytest.mark.parametrize("verb", ["UPDATE", "UPDATE OR REPLACE", "UPDATE OR IGNORE"])
@pytest.mark.parametrize("table", ["everlog_event", "everlog_payload", "everlog_release"])
def test_no_column_can_be_updated(foreign: sqlite3.Connection, table: str, verb: str) -> None:
    before = _dump(foreign)
    for column in _columns(foreign, table):
        with pytest.raises(sqlite3.IntegrityError, match="everlog"):
            foreign.execute(f"{verb} {table} SET {column} = {column}")
    foreign.commit()
    assert _dump(foreign) == before


@pytest.mark.parametrize("where", ["", "WHERE position = 4", "WHERE position > 1", "ORDER BY position LIMIT 1"])
@pytest.mark.parametrize("table", ["everlog_event", "everlog_payload"])
def test_no_event_and_no_payload_can_be_deleted(foreign: sqlite3.Connection, table: str, where: str) -> None:
    before = _dump(foreign)
    which = f"WHERE position IN (SELECT position FROM {table} {where})" if where.startswith("ORDER") else where
    with pytest.raises(sqlite3.IntegrityError, match="everlog"):
        foreign.execute(f"DELETE FROM {table} {which}")
    foreign.commit()
    assert _dump(foreign) == before


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM everlog_release",
        "DELETE FROM everlog_log",
        "UPDATE everlog_log SET log_id = x'00112233445566778899aabbccddeeff'",
        "UPDATE everlog_log SET position = position - 1",
        "UPDATE everlog_log SET recorded_at = recorded_at - 1",
    ],
)
def test_the_head_and_the_record_of_releases_only_move_forward(foreign: sqlite3.Connection, statement: str) -> None:
    before = _dump(foreign)
    with pytest.raises(sqlite3.IntegrityError, match="everlog"):
        foreign.execute(statement)
    foreign.commit()
    assert _dump(foreign) == before


# For each guarded table: a row to take as a model, and for each unique key what makes it meet a row that is there
# while no other key does. The last ones of a table meet no key and are refused for what they would mean.
_INSERTS: list[tuple[str, Mapping[str, Value]]] = [
    ("everlog_event", {"position": 2, "stream": "other", "id": bytes(16)}),
    ("everlog_event", {"position": None, "stream": "other", "id": bytes(16)}),
    ("everlog_event", {"position": 5, "stream": "other"}),
    ("everlog_event", {"position": 5, "id": bytes(16)}),
    ("everlog_event", {"position": 6, "stream": "other", "id": bytes(16)}),
    ("everlog_payload", {"position": 2}),
    ("everlog_payload", {"position": 3}),
    ("everlog_payload", {"position": 5}),
    ("everlog_release", {"reason": "another"}),
    ("everlog_log", {}),
    ("everlog_log", {"one": 2}),
]


@pytest.mark.parametrize("verb", ["INSERT", "INSERT OR REPLACE", "REPLACE", "INSERT OR IGNORE", "upsert"])
@pytest.mark.parametrize(("table", "change"), _INSERTS, ids=str)
def test_no_row_can_be_put_in_the_place_of_another(
    foreign: sqlite3.Connection, table: str, change: Mapping[str, Value], verb: str
) -> None:
    before = _dump(foreign)
    columns = _columns(foreign, table)
    model = foreign.execute(f"SELECT * FROM {table} ORDER BY position LIMIT 1").fetchone()
    row = {**dict(zip(columns, model, strict=True)), **change}
    conflict = f" ON CONFLICT DO UPDATE SET {columns[1]} = excluded.{columns[1]}" if verb == "upsert" else ""
    into = "INSERT" if verb == "upsert" else verb
    with pytest.raises(sqlite3.IntegrityError, match="everlog"):
        foreign.execute(f"{into} INTO {table} VALUES ({', '.join('?' * len(row))}){conflict}", list(row.values()))
    foreign.commit()
    assert _dump(foreign) == before


def test_the_guards_let_the_log_go_on(file: Path) -> None:
    with closing(_open(file)) as store:
        assert append(store, new_event("s-0")).places[0] == (5, 3)
        assert store.release(Release((5,), "archive", "cold")) == 1


# ---- Files.


def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("dear diary " * 1000)
    before = _open_files()
    with pytest.raises(IncompatibleStore, match=r"notes\.txt is not a SQLite database"):
        _open(path)
    assert path.read_text() == "dear diary " * 1000
    assert _open_files() == before


def test_an_empty_file_becomes_a_log(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    path.touch()
    with closing(_open(path)) as store:
        assert append(store).position == 1


def test_a_log_of_a_newer_everlog_is_refused_and_left_as_it_is(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("UPDATE everlog_log SET format = 2")
        connection.commit()
        before = _dump(connection)
    files = _open_files()
    with pytest.raises(IncompatibleStore, match="format 2, this everlog reads up to 1: upgrade"):
        _open(file)
    assert _open_files() == files
    with closing(sqlite3.connect(file)) as connection:
        assert _dump(connection) == before


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(IncompatibleStore, match=f"{tmp_path}/nowhere is not a folder: create it"):
        _open(tmp_path / "nowhere" / "log.db")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log.db").mkdir()
    with pytest.raises(StoreUnavailable, match="unable to open"):
        _open(tmp_path / "log.db")


def test_a_lock_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "log.db-next.lock").mkdir()
    with pytest.raises(StoreUnavailable, match=r"log\.db-next\.lock: Is a directory: give this process the right"):
        _open(tmp_path / "log.db")
    assert not (tmp_path / "log.db").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only to root")
def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(StoreUnavailable, match="Permission denied"):
        _open(tmp_path / "log.db")
    tmp_path.chmod(stat.S_IRWXU)
    assert list(tmp_path.iterdir()) == []


def test_a_database_with_tables_of_its_own_keeps_them(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE seat (name TEXT PRIMARY KEY, everlog_log TEXT)")
        connection.execute("INSERT INTO seat VALUES ('A1', 'mine')")
        connection.commit()
    with closing(_open(path)) as store:
        append(store)
    with closing(_open(path)) as store, closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT * FROM seat").fetchall() == [("A1", "mine")]
        assert store.head().position == 1


def test_a_log_is_found_again_after_the_process_went_to_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    with closing(_open(Path("log.db"))) as store:
        monkeypatch.chdir("elsewhere")
        append(store)
        with store.join(sqlite3.connect("../log.db")) as tx:
            tx.append(request(new_event()))
        assert len(everything(store)) == 2
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_log_in_memory_is_a_temporary_file_deleted_on_close(tmp_path: Path) -> None:
    # `tmp_path` is where temporary files go in these tests.
    with closing(SqliteStore(SqliteSettings(None))) as first, closing(SqliteStore(SqliteSettings(None))) as second:
        append(first)
        assert (first.head().position, second.head().position) == (1, 0)
        assert len(list(tmp_path.glob("everlog-*/memory.db"))) == 2
    assert list(tmp_path.iterdir()) == []


def test_closing_leaves_the_whole_log_in_its_one_file(file: Path) -> None:
    left = {path.name for path in file.parent.iterdir()}
    assert left == {"log.db", "log.db-next.lock", "log.db-write.lock"}


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0


# ---- Damage, done by somebody who dropped the guards first.


def _damage(file: Path, *statements: str) -> list[Finding]:
    with closing(sqlite3.connect(file)) as connection:
        for (trigger,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {trigger}")
        for statement in statements:
            assert connection.execute(statement).rowcount == 1
        connection.commit()
    with closing(_open(file)) as store:
        return [finding for finding in store.examine(deep=True) if finding.level != "ok"]


@pytest.mark.parametrize(
    "change",
    [
        "everlog_event SET leaf = zeroblob(32)",
        "everlog_event SET segments = CAST(x'00' || substr(segments, 2) AS BLOB)",
        "everlog_event SET tenant = 'globex'",
        "everlog_event SET stream = 's-9'",
        "everlog_event SET version = 9",
        "everlog_event SET id = zeroblob(16)",
        "everlog_event SET type = 'order.cancelled'",
        "everlog_event SET schema_version = 2",
        "everlog_event SET claimed_at = recorded_at",
        "everlog_event SET recorded_at = recorded_at - 1",
        "everlog_event SET actor = 'bob'",
        "everlog_event SET actor = NULL",
        "everlog_event SET correlation_id = zeroblob(16)",
        "everlog_event SET causation_id = zeroblob(16)",
        """everlog_payload SET data = CAST('{"n":2}' AS BLOB)""",
        "everlog_payload SET salt = zeroblob(16)",
        """everlog_payload SET client = CAST('{"ip":"::2"}' AS BLOB)""",
        "everlog_payload SET client_salt = zeroblob(16)",
        "everlog_payload SET client = NULL, client_salt = NULL",
    ],
)
def test_a_deep_look_finds_an_event_that_was_changed(file: Path, change: str) -> None:
    (found,) = _damage(file, f"UPDATE {change} WHERE position = 2")
    assert (found.check, found.level, bool(found.advice)) == ("leaves", "problem", True)
    assert "position 2 " in found.seen


def test_a_deep_look_finds_a_payload_that_left_without_a_release(file: Path) -> None:
    (found,) = _damage(file, "DELETE FROM everlog_payload WHERE position = 2")
    assert (found.check, found.level) == ("payloads", "problem")
    assert "position 2" in found.seen


@pytest.mark.parametrize("position", [2, 4])
def test_an_event_that_was_removed_is_missed_without_a_deep_look(file: Path, position: int) -> None:
    _damage(file, f"DELETE FROM everlog_event WHERE position = {position}")
    with closing(_open(file)) as store:
        (found,) = [finding for finding in store.examine() if finding.level != "ok"]
    assert (found.check, found.level) == ("positions", "problem")


def test_a_file_with_damaged_pages_is_reported_and_not_raised(file: Path) -> None:
    with closing(_open(file)) as store:
        append(store, *(new_event("s-0", data=b"x" * 2000) for _ in range(200)))
    size = file.stat().st_size
    with file.open("r+b") as raw:
        for page in range(size // 4096 // 2, size // 4096 - 1):
            raw.seek(page * 4096)
            raw.write(b"\xde\xad\xbe\xef" * 64)
    with closing(_open(file)) as store:
        problems = {finding.check for finding in store.examine(deep=True) if finding.level == "problem"}
    assert "file" in problems


def test_the_schema_and_a_sound_log_have_nothing_to_report(file: Path) -> None:
    with closing(_open(file)) as store:
        found = list(store.examine(deep=True))
    assert {finding.level for finding in found} == {"ok"}
    assert {"durability", "positions", "clock", "file", "payloads", "leaves"} <= {finding.check for finding in found}


@pytest.mark.parametrize(
    "read",
    [
        lambda log: log.read(Filter(None)),
        lambda log: log.read_stream("acme", "order-1", backwards=True),
        lambda log: log.leaves(),
    ],
    ids=["log", "stream", "leaves"],
)
def test_large_events_are_read_a_few_at_a_time(file: Path, read: Callable[[SqliteStore], Iterator[object]]) -> None:
    with closing(SqliteStore(SqliteSettings(file))) as log:
        for _ in range(200):
            append(log, new_event(data=b'"' + b"x" * 250_000 + b'"'))
        tracemalloc.start()
        assert sum(1 for _ in read(log)) >= 200
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 4 * PAGE_BYTES  # of 50 MB; the last page is still there when the next one comes


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(
    "where",
    [
        Filter(None),
        Filter("acme"),
        Filter("acme", stream="order-1"),
        Filter(None, types=(("one", None),)),
        Filter(None, types=(("one", None), ("two", 1))),
        Filter("acme", types=(("one", None), ("two", 1)), tags=("red",)),
        Filter("acme", tags=("red", "blue")),
        Filter("acme", actor="ann"),
        Filter(None, correlation_id=bytes(16)),
    ],
    ids=repr,
)
def test_no_page_is_sorted_with_its_payloads(foreign: sqlite3.Connection, where: Filter, backwards: bool) -> None:
    """A page that ends because its events are large would sort all that lie behind it, again and again."""
    sql, values = page_of(where, 0, 100, backwards=backwards, size=1000)
    steps = foreign.execute(f"EXPLAIN QUERY PLAN {sql}", values).fetchall()
    assert [what for _, parent, _, what in steps if parent == 0 and "TEMP B-TREE" in what] == []


def test_a_damaged_snapshot_is_a_missing_one(file: Path, foreign: sqlite3.Connection) -> None:
    with closing(_open(file)) as store:
        older, newer = (StoredSnapshot("acme", "s-0", b"p", n, n, n, b"state") for n in (1, 2))
        store.snapshots.save(older)
        store.snapshots.save(newer)
        foreign.execute("UPDATE everlog_snapshot SET state = CAST('other' AS BLOB) WHERE version = 2")
        foreign.commit()
        assert store.snapshots.latest("acme", "s-0", b"p", version=9) == older
        foreign.execute("UPDATE everlog_snapshot SET occurred_at = occurred_at + 1")
        foreign.commit()
        assert store.snapshots.latest("acme", "s-0", b"p", version=9) is None
