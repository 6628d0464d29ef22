"""A whole log moved to another store: positions, bytes, ids, times and leaves unchanged, resumable, and verified.

The road: copy while the log goes on → compare → close the source → copy and compare the rest → what followers keep →
open the target as a new incarnation. Wherever that is cut off nothing is lost, and the next run goes on: until the last
step the target takes no appends, and after the third the source takes none.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import zip_longest

from everlog.app.stores import Backend, open_store, place_of, store_exists
from everlog.core.clock import rfc3339, system_clock
from everlog.core.errors import IncompatibleStore, LogClosed, Misconfigured, NotFound
from everlog.processing.contract import ALL_PARTS
from everlog.store.contract import LeafRow
from everlog.store.exact import KEPT, Kept, Origin, Row
from everlog.store.tree import Tree
from everlog.subscription.partition import BESIDE

PAGE = 1000
_PAGE_BYTES = 4 * 1024 * 1024
_CLOSE_AT = 1000  # events behind the head: then the log is closed, and nobody waits long for the rest
_PASSES = 10


@dataclass(frozen=True, slots=True)
class CopyProgress:
    """`done` of `total` rows; a row that is copied counts when it is written, and when it is compared."""

    done: int
    total: int
    position: int


@dataclass(frozen=True, slots=True)
class Copied:
    """What the target holds, read back from it. `found` events were there before this run."""

    events: int
    streams: int
    root: str
    """Of the RFC 9162 tree over all leaves in the order of positions, the same on both sides; hex."""
    log_id: bytes
    incarnation: int
    found: int
    already: bool
    """An earlier run had finished."""


Tell = Callable[[CopyProgress], None]


def copy_log(source: str, target: str, *, tell: Tell = lambda now: None) -> Copied:
    """Move the log at one URL to another; raises `Misconfigured`, `LogClosed`, `IncompatibleStore` or `NotFound`.

    Stop its workers before: what one is in the middle of when the source is closed will be done again.
    """
    here, there = place_of(source), place_of(target)
    if here == there:
        raise Misconfigured(f"{here} cannot be copied into itself: name another place")
    if not store_exists(source):
        raise NotFound(f"there is no log at {here}: check the name")
    with closing(open_store(source)) as ours:
        if ours.exact.gate().closed not in ("", _moved_to(there)):
            raise LogClosed(f"{here} cannot be copied to {there}: {ours.exact.gate().closed}")
        with closing(open_store(target)) as theirs:
            return _Copying(ours, theirs, here, there, tell).run()


def reopen_log(url: str, *, tell: Tell = lambda now: None) -> str:
    """Take appends again in a log that a copy closed, and say why it was closed; empty: it was not.

    Only for where the other one is given up: two logs of one history must never both grow. It becomes an incarnation
    that no copy of it can have been.
    """
    if not store_exists(url):
        raise NotFound(f"there is no log at {place_of(url)}: check the name")
    with closing(open_store(url)) as store:
        gate = store.exact.gate()
        if gate.closed:
            store.exact.shut(gate.closed)
            head, tree = store.head(), Tree()
            for row in store.leaves():
                tree.add(row.leaf)
                if tree.size % PAGE == 0:
                    tell(CopyProgress(tree.size, head.position, tree.size))
            _open_next(store, head.incarnation + 2, head.incarnation, tree, gate.inline)
        return gate.closed


def _open_next(store: Backend, incarnation: int, parent: int, tree: Tree, inline: str) -> None:
    origin = Origin(incarnation, parent, tree.size, tree.root(), system_clock())
    store.exact.keep("origin", [origin])
    store.exact.open(incarnation, inline)


def _moved_to(place: str) -> str:
    return f"it was moved to {place} by everlog store copy"


def _same(ours: LeafRow, theirs: LeafRow) -> bool:
    """A payload that was released since it was copied leaves with the releases."""
    return ours == theirs or (ours.event.data is None and ours.leaf == theirs.leaf)


def _same_leaf(ours: LeafRow, theirs: LeafRow) -> bool:
    return ours.leaf == theirs.leaf


def _leaf(store: Backend, position: int) -> bytes | None:
    return next((row.leaf for row in store.leaves(after=position - 1, upto=position)), None)


class _Copying:
    def __init__(self, source: Backend, target: Backend, here: str, there: str, tell: Tell) -> None:
        self._source, self._target, self._here, self._there, self._tell = source, target, here, there, tell
        self._already = False
        self._found = self._reached = self._compared = 0
        self._tree = Tree()

    def run(self) -> Copied:
        self._already = self._is_done()
        if self._already:
            self._found = self._reached = self._source.head().position
            self._compare(self._reached, _same_leaf)  # payloads may have been released there since
            return self._told()
        self._begin()
        self._found = self._reached = self._target.head().position
        try:
            self._bring_all()
        except IncompatibleStore:
            self._go_on_here()
            raise
        self._copy_kept()
        parent = self._source.head().incarnation
        _open_next(self._target, self._next_incarnation(), parent, self._tree, self._source.exact.gate().inline)
        return self._told()

    def _bring_all(self) -> None:
        """While the log goes on, then, with the source closed, the rest."""
        for _ in range(_PASSES):
            self._bring(self._source.head().position)
            if self._source.head().position - self._compared <= _CLOSE_AT:
                break
        self._source.exact.shut(_moved_to(self._there))
        self._bring(self._source.head().position)
        self._copy_releases()
        self._compare_streams()

    def _go_on_here(self) -> None:
        """The target was never opened, so the source, which an earlier run may have closed, takes appends again."""
        gate = self._source.exact.gate()
        if gate.closed:
            self._source.exact.shut(gate.closed)
            self._source.exact.open(self._source.head().incarnation, gate.inline)

    def _bring(self, upto: int) -> None:
        """Rows, then tags, which lie in another order; again from the first one where a run was cut off."""
        self._copy(upto)
        self._copy_tags(self._compared, upto)
        self._compare(upto)

    def _next_incarnation(self) -> int:
        return 1 + max(self._source.head().incarnation, self._target.head().incarnation)

    def _is_done(self) -> bool:
        """Whether an earlier run had opened the target."""
        gate, ours, theirs = self._target.exact.gate(), self._source.head(), self._target.head()
        if gate.closed or ours.log_id != theirs.log_id or ours.incarnation >= theirs.incarnation:
            return False
        return self._source.exact.gate().closed == _moved_to(self._there)

    def _begin(self) -> None:
        """Make the target the beginning of the source, or see that it is."""
        filled = f"since {rfc3339(system_clock())} a copy of {self._here} is being written here: run it to its end"
        closed, ours, theirs = self._target.exact.gate().closed, self._source.head(), self._target.head()
        if ours.log_id == theirs.log_id and closed:
            if theirs.incarnation > ours.incarnation:  # it was finished, took appends, and moved on from there
                raise IncompatibleStore(f"{self._there} holds a later incarnation of this log: {closed}")
            self._check_beginning(ours.position, theirs.position)
            self._target.exact.shut(filled)
        elif theirs.position or closed:
            raise Misconfigured(
                f"{self._there} holds a log of its own ({theirs.log_id.hex()}, {theirs.position} events, "
                f"{closed or 'open for appends'}): name an empty database or a new file"
            )
        else:
            self._target.exact.become(ours.log_id, filled)

    def _check_beginning(self, ours: int, theirs: int) -> None:
        last = min(ours, theirs)
        if theirs > ours or _leaf(self._source, last) != _leaf(self._target, last):
            raise IncompatibleStore(
                f"{self._there} holds {theirs} events of the same log that {self._here}, which has {ours}, does not "
                "begin with: name an empty database or a new file"
            )

    def _copy(self, upto: int) -> None:
        for page in _pages(self._source.leaves(after=self._reached, upto=upto)):
            self._target.exact.write(page)
            self._reached = page[-1].event.position
            self._show(upto)

    def _compare(self, upto: int, same: Callable[[LeafRow, LeafRow], bool] = _same) -> None:
        """Every row of both sides, byte for byte, and their tags."""
        first = self._compared
        ours, theirs = (store.leaves(after=first, upto=upto) for store in (self._source, self._target))
        for one, other in zip_longest(ours, theirs):
            if one is None or other is None or not same(one, other):
                raise self._differs(f"the event at position {self._compared + 1} is another one")
            self._tree.add(other.leaf)
            self._compared = one.event.position
            if self._compared % PAGE == 0:
                self._show(upto)
        for page, other_page in zip_longest(*(store.exact.tags(first, upto) for store in (self._source, self._target))):
            if page != other_page:
                raise self._differs(f"tags of events between position {first} and {upto} are others")

    def _copy_tags(self, after: int, upto: int) -> None:
        for page in self._source.exact.tags(after, upto):
            self._target.exact.tag(page)

    def _show(self, head: int) -> None:
        done = self._reached - self._found + self._compared
        self._tell(CopyProgress(done, 2 * head - self._found, self._reached))

    def _compare_streams(self) -> None:
        if self._target.head()[:2] != self._source.head()[:2]:
            raise self._differs(f"the head is {self._target.head()[:2]} and not {self._source.head()[:2]}")
        for ours, theirs in zip_longest(self._source.streams(None), self._target.streams(None)):
            if ours != theirs:
                raise self._differs(f"{theirs} is there, and not {ours}")

    def _differs(self, how: str) -> IncompatibleStore:
        now, then = "The source takes appends as before", "name an empty database or a new file"
        if self._already:
            now = "The source stays closed, for the target takes appends since an earlier run"
            then = "give one up: everlog store reopen --force lets the source take appends again"
        return IncompatibleStore(
            f"{self._there} is no copy of {self._here}: {how}. {now}; look at both with everlog doctor --deep, "
            f"then {then}"
        )

    def _copy_releases(self) -> None:
        """At the end, with the source closed: a payload may have left after it was copied."""
        for page in self._source.exact.releases():
            self._target.exact.release(page)
        for ours, theirs in zip_longest(self._source.exact.releases(), self._target.exact.releases()):
            if ours != theirs:
                raise self._differs("other payloads were released there")

    def _copy_kept(self) -> None:
        """Checkpoints, lanes and fold states: a processor must not begin again, or its mails go out twice."""
        self._target.exact.forget()
        folds: set[object] = set()
        for kind in KEPT:
            for page in self._source.exact.kept(kind):
                if kind == "fold":
                    folds.update(row[0] for row in page)
                kept = [row for row in self._as_next(kind, page) if kind != "subscription" or _travels(row, folds)]
                if kept:
                    self._target.exact.keep(kind, kept)

    def _as_next(self, kind: Kept, rows: Sequence[Row]) -> Sequence[Row]:
        """What the inbox has taken from this incarnation counts in the next one, which begins with the same events.

        Not what came from a broker: that may be of another log, whose incarnation has nothing to do with ours.
        """
        if kind != "inbox":
            return rows
        ours, next = self._source.head().incarnation, self._next_incarnation()
        return [
            (consumer, next if known == ours and part != ALL_PARTS else known, position, part)
            for consumer, known, position, part in rows
        ]

    def _told(self) -> Copied:
        head, streams = self._target.head(), sum(1 for _ in self._source.streams(None))
        return Copied(
            self._compared, streams, self._tree.root().hex(), head.log_id, head.incarnation, self._found, self._already
        )


def _travels(subscription: Row, folds: set[object]) -> bool:
    """A read model in tables of the user's own stays where they are, and is built anew; folds are copied."""
    known = dict(zip(KEPT["subscription"].all, subscription, strict=True))
    return known["kind"] != "projection" or known["subscription"].rstrip(BESIDE) in folds


def _pages(rows: Iterator[LeafRow]) -> Iterator[list[LeafRow]]:
    page: list[LeafRow] = []
    size = 0
    for row in rows:
        page.append(row)
        size += len(row.event.data or b"")
        if len(page) == PAGE or size >= _PAGE_BYTES:
            yield page
            page, size = [], 0
    if page:
        yield page
