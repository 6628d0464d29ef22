"""What these tests put into a log, and all rows of one as they lie."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from everlog.app.stores import Backend, open_store
from everlog.core.envelope import Append, NewEvent
from everlog.core.ids import new_id
from everlog.store.exact import KEPT
from everlog.testing.conformance.events import SettableClock
from everlog.testing.conformance.mix import filled


@contextmanager
def opened(url: str) -> Iterator[Backend]:
    with closing(open_store(url)) as store:
        yield store


def fill(url: str) -> None:
    """Every kind of event: tags, claimed times, clients, several tenants, payloads that were released."""
    clock = SettableClock()
    with closing(open_store(url, clock=clock)) as store:
        filled(store, clock)


def append(store: Backend, text: str = "", *, stream: str = "note-1", id: bytes | None = None) -> int:
    data = b'{"text":"%s"}' % text.encode()
    event = NewEvent(id or new_id(), stream, "note.made", 1, data, tags=(f"note:{text}",))
    return store.append(Append("acme", (event,))).position


def everything(store: Backend) -> dict[str, Any]:
    """All that a copy keeps as it is."""
    exact, head = store.exact, store.head()
    return {
        "head": head[:3],
        "leaves": list(store.leaves()),
        "tags": [row for page in exact.tags(0, head.position) for row in page],
        "releases": [row for page in exact.releases() for row in page],
        "streams": list(store.streams(None)),
        "inline": exact.gate().inline,
    }


def kept(store: Backend) -> dict[str, Any]:
    """What followers keep; without epochs, which only ever grow."""
    epoch = KEPT["subscription"].all.index("epoch")
    rows = {kind: [tuple(row) for page in store.exact.kept(kind) for row in page] for kind in KEPT}
    return rows | {"subscription": [(*row[:epoch], *row[epoch + 1 :]) for row in rows["subscription"]]}
