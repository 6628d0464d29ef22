"""A real file system that is really full: a small tmpfs, filled by a ballast file that can be taken away again."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from everlog.adapters.sqlite import SqliteSettings, SqliteStore
from everlog.core.envelope import Append, NewEvent
from everlog.core.errors import OutcomeUnknown, StoreUnavailable
from everlog.store.contract import Store
from everlog.store.query import Filter

MIB = 1024 * 1024
FRAME = 4096 + 24
INDEX_BYTES, INDEXED_FRAMES = 32 * 1024, 4062  # by how much SQLite's -shm grows, and what its first part can index
ONE_APPEND = 12  # frames of an append, at most; at least, it has so many that not enough of these stay for the index


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=32m", "everlog-test", path], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"A FULL DISK IS NOT TESTED ON THIS MACHINE: {mounted.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)


def free(disk: Path) -> int:
    about = os.statvfs(disk)
    return about.f_bavail * about.f_frsize


def fill(disk: Path, leave: int) -> Path:
    """Occupy all but `leave` bytes; again, if room was used meanwhile."""
    ballast = disk / "ballast"
    with ballast.open("ab") as file:
        size = os.fstat(file.fileno()).st_size + free(disk) - leave
        os.ftruncate(file.fileno(), size)
        os.posix_fallocate(file.fileno(), 0, size)
    return ballast


def request(number: int, size: int = 200) -> Append:
    id = hashlib.sha256(b"%d" % number).digest()[:16]
    return Append("acme", (NewEvent(id, "seat-1", "seat.taken", 1, b'"%s"' % (b"x" * size)),))


Refusal = StoreUnavailable | OutcomeUnknown


def append_until_refused(store: Store, start: int, size: int = 200, limit: int = 100_000) -> tuple[int, Refusal | None]:
    """The number of the first request that is not acknowledged, and how it was refused; `limit` bounds the attempts."""
    for number in range(start, start + limit):
        try:
            store.append(request(number, size))
        except (StoreUnavailable, OutcomeUnknown) as error:
            return number, error
    return start + limit, None


def append_until(store: Store, start: int, file: Path, length: int, size: int = 200) -> int:
    number = start
    while file.stat().st_size < length:
        store.append(request(number, size))
        number += 1
    return number


def stored(store: Store) -> list[bytes]:
    return [event.id for event in store.read(Filter(tenant=None))]


def ids(upto: int) -> list[bytes]:
    return [request(number).events[0].id for number in range(upto)]


def problems(store: Store) -> list[str]:
    return [f"{finding.check}: {finding.seen}" for finding in store.examine(deep=True) if finding.level == "problem"]


def test_a_store_on_a_full_disk_refuses_reads_on_and_works_again_once_there_is_room(disk: Path) -> None:
    with closing(SqliteStore(SqliteSettings(disk / "log.db"))) as store:
        ballast = fill(disk, leave=2 * MIB)
        refused, error = append_until_refused(store, 0, size=10_000)
        assert refused > 10
        assert "full" in str(error)
        for _ in range(3):
            assert append_until_refused(store, refused, size=10_000)[0] == refused
        assert stored(store) == ids(refused)

        ballast.unlink()
        answer = store.append(request(refused, size=10_000))
        assert (answer.position, answer.version) == (refused + 1, refused + 1)
        store.append(request(refused + 1))
        assert stored(store) == ids(refused + 2)
        assert problems(store) == []


def test_a_store_can_be_opened_and_read_on_a_full_disk(disk: Path) -> None:
    settings = SqliteSettings(disk / "log.db")
    with closing(SqliteStore(settings)) as store:
        fill(disk, leave=2 * MIB)
        refused, _ = append_until_refused(store, 0, size=10_000)
    with closing(SqliteStore(settings)) as store:
        assert stored(store) == ids(refused)
        (disk / "ballast").unlink()
        store.append(request(refused))
        assert stored(store) == ids(refused + 1)
        assert problems(store) == []


def test_a_disk_that_is_full_when_sqlite_needs_a_larger_index_leaves_the_outcome_open(disk: Path) -> None:
    """By then the frames are written and synced: only the index in shared memory has no room to name them."""
    settings = SqliteSettings(disk / "log.db", checkpoint_pages=10**9)
    wal, index = disk / "log.db-wal", disk / "log.db-shm"
    with closing(SqliteStore(settings)) as store:
        number = append_until(store, 0, wal, (INDEXED_FRAMES - 100) * FRAME, size=30_000)
        indexed = index.stat().st_size
        refused, error = number, None
        while error is None:
            fill(disk, leave=ONE_APPEND * FRAME)
            refused, error = append_until_refused(store, refused, limit=1)
        assert isinstance(error, OutcomeUnknown)
        assert "I/O error" in str(error)  # where the log itself finds no room, SQLite says that the disk is full
        assert wal.stat().st_size > INDEXED_FRAMES * FRAME
        assert stored(store) == ids(refused)

        (disk / "ballast").unlink()
        assert store.append(request(refused)).position == refused + 1
        assert index.stat().st_size >= indexed + INDEX_BYTES
        store.append(request(refused + 1))
        assert stored(store) == ids(refused + 2)
        assert problems(store) == []
    with closing(SqliteStore(settings)) as store:
        assert stored(store) == ids(refused + 2)
