"""Closing: twice is fine, afterwards nothing works and says so, and what was stored is there when opened again."""

from collections.abc import Callable
from contextlib import closing
from threading import Barrier, Thread

import pytest

from everlog.core.envelope import StoredSnapshot
from everlog.core.errors import StoreUnavailable
from everlog.store.contract import Release, Store
from everlog.store.query import Filter
from everlog.testing.conformance.events import append, everything, new_event, request

_SNAPSHOT = StoredSnapshot("acme", "order-1", b"p", 1, 1, 1, b"{}")
_CALLS: dict[str, Callable[[Store], object]] = {
    "append": append,
    "append_each": lambda store: store.append_each([request(new_event())]),
    "read": lambda store: list(store.read(Filter(None))),
    "read_stream": lambda store: list(store.read_stream("acme", "order-1")),
    "find": lambda store: store.find("acme", [bytes(16)]),
    "streams": lambda store: list(store.streams("acme")),
    "version_at": lambda store: store.version_at("acme", "order-1"),
    "head": lambda store: store.head(),
    "release": lambda store: store.release(Release((1,), "archive", "cold")),
    "leaves": lambda store: list(store.leaves()),
    "examine": lambda store: list(store.examine(deep=True)),
    "snapshots.save": lambda store: store.snapshots.save(_SNAPSHOT),
    "snapshots.latest": lambda store: store.snapshots.latest("acme", "order-1", b"p", version=1),
    "snapshots.all": lambda store: list(store.snapshots.all(None)),
    "snapshots.delete": lambda store: store.snapshots.delete(None),
}


def test_closing_twice_is_fine(opened: Callable[[], Store]) -> None:
    store = opened()
    append(store)
    store.close()
    store.close(0.0)
    with pytest.raises(StoreUnavailable, match="closed"):
        store.head()


@pytest.mark.parametrize("call", _CALLS.values(), ids=_CALLS)
def test_a_closed_store_refuses_every_call(opened: Callable[[], Store], call: Callable[[Store], object]) -> None:
    store = opened()
    append(store)
    store.close()
    with pytest.raises(StoreUnavailable, match="open it again") as refused:
        call(store)
    assert refused.value.retryable


def test_what_was_stored_is_there_when_it_is_opened_again(reopened: Callable[[], Store]) -> None:
    with closing(reopened()) as store:
        append(store, new_event(tags=("paid",)), new_event("order-2"))
        store.snapshots.save(_SNAPSHOT)
        store.release(Release((2,), "archive", "cold"))
        kept = everything(store), store.head(), list(store.leaves()), list(store.snapshots.all(None))
    with closing(reopened()) as store:
        assert (everything(store), store.head(), list(store.leaves()), list(store.snapshots.all(None))) == kept
        assert append(store).position == 3


def test_an_append_that_meets_the_close_is_stored_or_refused(reopened: Callable[[], Store]) -> None:
    store = reopened()
    start = Barrier(5)
    answered: list[int] = []

    def write() -> None:
        start.wait()
        try:
            while True:
                answered.append(append(store, new_event("s")).position)
        except StoreUnavailable:
            return

    threads = [Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    start.wait()
    while not answered:
        store.head()
    store.close()
    for thread in threads:
        thread.join()
    with closing(reopened()) as again:
        assert sorted(answered) == [event.position for event in everything(again)]
