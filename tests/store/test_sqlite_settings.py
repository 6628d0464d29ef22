"""The URL of a SQLite log: each option does something, an unsafe one is refused with its override named."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from everlog.adapters.sqlite import SqliteSettings, SqliteStore
from everlog.adapters.sqlite.turnstile import Turnstile
from everlog.core.errors import Misconfigured, StoreUnavailable, UnsafeSettings
from everlog.store.contract import Store
from everlog.testing.conformance import append, new_event, request


def _open(url: str) -> SqliteStore:
    return SqliteStore(SqliteSettings.from_url(url))


def _in(folder: Path, options: str = "") -> str:
    return f"sqlite:///{folder}/log.db{options}"


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///shop.db", Path("shop.db")),
        ("sqlite:///data/shop.db", Path("data/shop.db")),
        ("sqlite:////srv/shop.db", Path("/srv/shop.db")),
        ("sqlite:////srv/my%20shop%23%3F.db", Path("/srv/my shop#?.db")),
        ("sqlite:///100%25.db", Path("100%.db")),
        ("sqlite:///caf%C3%A9.db?lock_timeout=1", Path("café.db")),
        ("memory:", None),
        ("memory://", None),
        ("memory:?lock_timeout=1", None),
    ],
)
def test_a_url_names_a_file(url: str, path: Path | None) -> None:
    assert SqliteSettings.from_url(url).path == path


@pytest.mark.parametrize(
    "url",
    [
        "",
        "shop.db",
        "sqlite:",
        "sqlite://",
        "sqlite:///",
        "sqlite://shop.db",
        "sqlite://host/shop.db",
        "postgres:///shop.db",
        "memory:shop",
        "sqlite:///:memory:",
        "sqlite:///shop.db#1",
        "sqlite:///shop.db?wal=1",
        "sqlite:///shop.db?wal=",
        "sqlite:///shop.db?Lock_timeout=1",
        "sqlite:///shop.db?synchronous=maybe",
        "sqlite:///shop.db?synchronous=",
        "sqlite:///shop.db?synchronous=maybe&allow_unsafe=synchronous",
        "sqlite:///shop.db?lock_timeout=soon",
        "sqlite:///shop.db?lock_timeout=0",
        "sqlite:///shop.db?lock_timeout=-1",
        "sqlite:///shop.db?lock_timeout=nan",
        "sqlite:///shop.db?lock_timeout=inf",
        "sqlite:///shop.db?lock_timeout=",
        "sqlite:///shop.db?checkpoint_pages=many",
        "sqlite:///shop.db?checkpoint_pages=inf",
        "sqlite:///shop.db?checkpoint_pages=nan",
        "sqlite:///shop.db?checkpoint_pages=0",
    ],
)
def test_a_url_that_cannot_be_meant_is_refused(url: str) -> None:
    with pytest.raises(Misconfigured):
        SqliteSettings.from_url(url)


@pytest.mark.parametrize("mode", ["off", "OFF", "normal"])
def test_a_setting_that_may_lose_events_is_refused_with_the_override_named(tmp_path: Path, mode: str) -> None:
    with pytest.raises(UnsafeSettings, match="add allow_unsafe=synchronous to the URL"):
        _open(_in(tmp_path, f"?synchronous={mode}"))
    with pytest.raises(UnsafeSettings):
        _open(_in(tmp_path, f"?synchronous={mode}&allow_unsafe=lock_timeout"))
    assert list(tmp_path.iterdir()) == []


def test_with_the_override_it_is_accepted_and_the_doctor_says_so(tmp_path: Path) -> None:
    with closing(_open(_in(tmp_path, "?synchronous=off&allow_unsafe=synchronous"))) as store:
        assert append(store).position == 1
        (found,) = [finding for finding in store.examine() if finding.level != "ok"]
    assert (found.check, found.level) == ("durability", "problem")


@pytest.mark.parametrize(
    ("options", "level"),
    [
        ("", 2),
        ("?synchronous=full", 2),
        ("?synchronous=EXTRA", 3),
        ("?synchronous=normal&allow_unsafe=synchronous", 1),
        ("?synchronous=off&allow_unsafe=x,synchronous", 0),
    ],
)
def test_every_connection_syncs_as_the_url_says_and_leaves_checkpoints_to_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: str, level: int
) -> None:
    made: list[sqlite3.Connection] = []
    monkeypatch.setattr("sqlite3.connect", _keeping(made))
    with closing(_open(_in(tmp_path, options))) as store:
        append(store)
        assert len(made) == 2, "one that writes, one that reads"
        for connection in made:
            assert connection.execute("PRAGMA synchronous").fetchone() == (level,)
            assert connection.execute("PRAGMA wal_autocheckpoint").fetchone() == (0,)
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def _keeping(made: list[sqlite3.Connection]) -> Callable[..., sqlite3.Connection]:
    def connect(path: Path, **settings: object) -> sqlite3.Connection:
        connection: sqlite3.Connection = real(path, **settings)
        made.append(connection)
        return connection

    real = partial(sqlite3.connect)
    return connect


def test_the_lock_timeout_says_how_long_a_writer_waits(tmp_path: Path) -> None:
    with closing(_open(_in(tmp_path, "?lock_timeout=0.03"))) as store, Turnstile(tmp_path / "log.db", 1.0).held():
        with pytest.raises(StoreUnavailable, match=r"not free for 0\.03 s"):
            append(store)
        assert store.head().position == 0


def test_a_checkpoint_comes_after_as_many_pages_as_the_url_says(tmp_path: Path) -> None:
    file = tmp_path / "log.db"

    def sizes(options: str) -> list[int]:
        seen = []
        with closing(_open(_in(tmp_path, options))) as store:
            for _ in range(4):
                append(store, new_event(data=b"x" * 50_000))
                seen.append(file.stat().st_size)
        return seen

    first, second, third, fourth = sizes("?checkpoint_pages=1")
    assert first < second < third < fourth
    assert set(sizes("?checkpoint_pages=100000")) == {fourth}


def test_a_percent_encoded_path_is_the_file_it_names(tmp_path: Path) -> None:
    with closing(_open(f"sqlite:///{tmp_path}/my%20shop%23%3F.db")) as store:
        append(store)
    assert (tmp_path / "my shop#?.db").is_file()


def test_a_relative_path_is_below_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    with closing(_open("sqlite:///data/shop.db")) as store:
        _join_once(store, tmp_path / "data" / "shop.db")
        assert store.head().position == 1


def _join_once(store: Store, file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection, store.join(connection) as tx:
        tx.append(request(new_event()))
