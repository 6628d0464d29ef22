"""Snapshots: a cache beside the log, found by fingerprint, version and time, and gone without a trace."""

from collections.abc import Mapping
from typing import Any

import pytest

from everlog.core.envelope import StoredSnapshot
from everlog.store.contract import Store
from everlog.testing.conformance.events import TENANT, append, everything

PRINT = b"p" * 32


def _snapshot(version: int, occurred_at: int = 0, *, state: bytes = b"{}", **key: Any) -> StoredSnapshot:
    return StoredSnapshot(TENANT, "order-1", PRINT, version, version * 10, occurred_at, state)._replace(**key)


def _version(store: Store, version: int, occurred_at: int | None = None) -> int | None:
    found = store.snapshots.latest(TENANT, "order-1", PRINT, version=version, occurred_at=occurred_at)
    return None if found is None else found.version


def test_a_snapshot_comes_back_as_it_was_saved(store: Store) -> None:
    saved = StoredSnapshot(TENANT, "order-1", bytes(range(32)), 7, 70, -5, b"\x00\xffany bytes")
    store.snapshots.save(saved)
    assert store.snapshots.latest(TENANT, "order-1", bytes(range(32)), version=7) == saved
    assert list(store.snapshots.all(None)) == [saved]


def test_the_latest_one_at_or_below_the_version_is_given(store: Store) -> None:
    for version in (20, 10, 30):
        store.snapshots.save(_snapshot(version))
    asked = (9, 10, 19, 20, 29, 30, 31, 2**62)
    assert [_version(store, version) for version in asked] == [None, 10, 10, 20, 20, 30, 30, 30]


def test_one_that_folded_a_later_occurrence_is_passed_over(store: Store) -> None:
    for version, occurred_at in ((10, 100), (20, 300), (30, 300), (40, 500)):
        store.snapshots.save(_snapshot(version, occurred_at))
    assert [_version(store, 99, at) for at in (99, 100, 299, 300, 499, 500, None)] == [None, 10, 10, 30, 30, 40, 40]
    assert _version(store, 25, 400) == 20


@pytest.mark.parametrize("other", [{"tenant": "globex"}, {"stream": "order-2"}, {"fingerprint": b"q" * 32}], ids=str)
def test_one_of_another_tenant_stream_or_fingerprint_is_never_given(store: Store, other: Mapping[str, Any]) -> None:
    store.snapshots.save(_snapshot(5, **other))
    assert _version(store, 99) is None


def test_a_second_one_of_the_same_version_takes_the_place_of_the_first(store: Store) -> None:
    store.snapshots.save(_snapshot(5, state=b"first"))
    store.snapshots.save(_snapshot(5, 77, state=b"second"))
    assert list(store.snapshots.all(TENANT)) == [_snapshot(5, 77, state=b"second")]


def _many() -> list[StoredSnapshot]:
    return [
        _snapshot(version, tenant=tenant, stream=stream)
        for tenant in (TENANT, "globex")
        for stream in ("order-1", "order-2")
        for version in (10, 20, 30)
    ]


@pytest.mark.parametrize(
    ("tenant", "stream", "older"),
    [
        (None, None, None),
        (TENANT, None, None),
        (TENANT, "order-1", None),
        (TENANT, "order-1", 20),
        (None, "order-2", 30),
        (None, None, 10),
        ("nobody", None, None),
        (TENANT, "nothing-1", None),
    ],
)
def test_exactly_what_was_named_is_deleted(
    store: Store, tenant: str | None, stream: str | None, older: int | None
) -> None:
    for snapshot in _many():
        store.snapshots.save(snapshot)
    named = [
        s
        for s in _many()
        if tenant in (None, s.tenant) and stream in (None, s.stream) and (older is None or s.version < older)
    ]
    assert store.snapshots.delete(tenant, stream, older_than_version=older) == len(named)
    assert set(store.snapshots.all(None)) == set(_many()) - set(named)
    assert store.snapshots.delete(tenant, stream, older_than_version=older) == 0


def test_snapshots_are_listed_by_tenant_and_stream(store: Store) -> None:
    for snapshot in _many():
        store.snapshots.save(snapshot)
    assert list(store.snapshots.all("globex")) == [s for s in _many() if s.tenant == "globex"]
    assert list(store.snapshots.all(None, "order-2")) == [s for s in _many() if s.stream == "order-2"]
    assert list(store.snapshots.all("nobody")) == []


def test_any_number_of_snapshots_is_listed(store: Store) -> None:
    for version in range(210):
        store.snapshots.save(_snapshot(version))
    assert [snapshot.version for snapshot in store.snapshots.all(None)] == list(range(210))


def test_snapshots_change_nothing_in_the_log(store: Store) -> None:
    append(store)
    before = everything(store), store.head()
    store.snapshots.save(_snapshot(1))
    store.snapshots.delete(None)
    assert (everything(store), store.head()) == before


def test_another_handle_finds_what_was_saved(store: Store, second: Store) -> None:
    store.snapshots.save(_snapshot(3))
    assert second.snapshots.latest(TENANT, "order-1", PRINT, version=3) == _snapshot(3)
