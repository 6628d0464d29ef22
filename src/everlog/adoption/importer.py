"""One run of an import: rows become events, events go to the store in batches, what does not fit becomes a reject.

A run can be killed anywhere and started again: an event's id depends only on what its row says, the store looks ids up
before anything else, and a batch is stored whole or not at all.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from everlog.adoption.events import Admit, EventMaker
from everlog.adoption.mapping import EventMap
from everlog.adoption.occurrences import Occurrences
from everlog.adoption.rejects import Reject, RejectFile, rejects_beside
from everlog.adoption.rows import Broken, Record, Rows, open_rows
from everlog.core import limits
from everlog.core.envelope import Append, Appended, NewEvent, StoredEvent
from everlog.core.errors import EverlogError, IdempotencyConflict, InvalidInput, Misconfigured
from everlog.core.names import DEFAULT_TENANT, tenant_name
from everlog.store.contract import Store, Verdict

_TELL_APART = "let `id` in the map tell them apart, or correct the line"


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What a run did: `read` = `imported` + `known` + `rejected`. Positions are of the events it stored itself."""

    read: int
    imported: int
    known: int
    rejected: int
    first_position: int | None
    last_position: int | None
    seconds: float
    rejects: Path | None
    notice: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is. `done` and `total` are bytes of the file as it lies there; `rate` is rows a second."""

    done: int
    total: int
    read: int
    imported: int
    known: int
    rejected: int
    rate: float
    seconds_left: float | None


def import_file(
    store: Store,
    path: Path,
    event_map: EventMap,
    *,
    tenant: str = DEFAULT_TENANT,
    rejects: Path | None = None,
    progress: Callable[[Progress], None] | None = None,
    admit: Admit | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> ImportReport:
    """Import the rows of `path` that the store does not have yet.

    Without `admit` every type is stored as version 1 of a plain JSON object. What `admit` raises as `InvalidInput` is
    the reason of a reject.

    Raises `NotFound`, `InvalidInput` or `Misconfigured` before anything is stored when the file or the map is wrong as
    a whole, and `Misconfigured` at the first reject when the reject file cannot be written. `StoreUnavailable` and
    `OutcomeUnknown` end a run; start it again.
    """
    tenant_name(tenant)
    with (
        open_rows(path, event_map) as rows,
        closing(Occurrences()) as occurrences,
        closing(RejectFile(rejects or rejects_beside(path))) as reject_file,
    ):
        if rows.columns is not None:
            _check_columns(path, rows.columns, event_map)
            event_map = event_map.over_text()
        run, began = _Run(store, EventMaker(event_map, tenant, occurrences, admit), reject_file), clock()
        for _ in run.chunks(rows.records):
            if progress is not None:
                progress(run.progress(rows, clock() - began))
        return run.report(clock() - began, reject_file.finish(), _notice(path, rows, run.read))


class _Line(NamedTuple):
    number: int
    tenant: str
    event: NewEvent


class _Run:
    """Counts, and the chunk of lines that waits to be stored."""

    def __init__(self, store: Store, maker: EventMaker, rejects: RejectFile) -> None:
        self._store, self._maker, self._rejects = store, maker, rejects
        self.read = self._imported = self._known = self._rejected = 0
        self._first: int | None = None
        self._last: int | None = None
        self._chunk: dict[bytes, _Line] = {}
        self._chunk_bytes = 0
        self._repeated: list[_Line] = []
        self._refused: list[Reject] = []

    def chunks(self, records: Iterable[Record | Broken]) -> Iterator[None]:
        """Read and store everything, with a pause behind each chunk."""
        taken = 0
        for record in records:
            self._take(record)
            taken += 1
            if taken == limits.BATCH_EVENTS or self._chunk_bytes > limits.BATCH_BYTES - limits.EVENT_BYTES:
                taken = 0
                self._store_chunk()
                yield
        self._store_chunk()
        yield

    def progress(self, rows: Rows, seconds: float) -> Progress:
        done = rows.consumed
        return Progress(
            done=done,
            total=rows.size,
            read=self.read,
            imported=self._imported,
            known=self._known,
            rejected=self._rejected,
            rate=self.read / seconds if seconds > 0 else 0.0,
            seconds_left=seconds * (rows.size - done) / done if 0 < done <= rows.size else None,
        )

    def report(self, seconds: float, rejects: Path | None, notice: str) -> ImportReport:
        return ImportReport(
            read=self.read,
            imported=self._imported,
            known=self._known,
            rejected=self._rejected,
            first_position=self._first,
            last_position=self._last,
            seconds=seconds,
            rejects=rejects,
            notice=notice,
        )

    def _take(self, record: Record | Broken) -> None:
        self.read += 1
        if isinstance(record, Broken):
            self._refuse(record.line, record.reason)
            return
        try:
            tenant, event = self._maker.event(record.row)
        except InvalidInput as error:
            self._refuse(record.line, str(error))
            return
        self._keep(_Line(record.line, tenant, event))

    def _keep(self, line: _Line) -> None:
        """Wait in the chunk; a second line of one id waits apart, because a batch with an id twice would be refused."""
        self._chunk_bytes += len(line.event.data)
        if line.event.id in self._chunk:
            self._repeated.append(line)
        else:
            self._chunk[line.event.id] = line

    def _refuse(self, line: int, reason: str) -> None:
        self._rejected += 1
        self._refused.append(Reject(line, reason))

    def _store_chunk(self) -> None:
        batches: dict[str, list[_Line]] = {}
        for line in self._chunk.values():
            batches.setdefault(line.tenant, []).append(line)
        self._append(list(batches.values()))
        self._append([[line] for line in self._repeated])
        for reject in sorted(self._refused):
            self._rejects.add(reject)
        self._chunk, self._chunk_bytes, self._repeated, self._refused = {}, 0, [], []

    def _append(self, batches: list[list[_Line]]) -> None:
        """Store each batch, all lines of one tenant, whole."""
        if not batches:
            return
        requests = [Append(batch[0].tenant, tuple([line.event for line in batch])) for batch in batches]
        for batch, verdict in zip(batches, self._store.append_each(requests), strict=True):
            self._settle(batch, verdict)

    def _settle(self, batch: list[_Line], verdict: Verdict) -> None:
        match verdict:
            case Appended(replayed=True):
                self._known += len(batch)
            case Appended(places=places):
                self._imported += len(batch)
                self._first = min(self._first or places[0].position, places[0].position)
                self._last = max(self._last or 0, places[-1].position)
            case IdempotencyConflict() | InvalidInput():
                self._sort_out(batch, verdict)
            case error:
                raise error

    def _sort_out(self, batch: list[_Line], error: EverlogError) -> None:
        """The store refused the batch. Set aside what it knows; if it knows nothing, find the line it means."""
        known = self._store.find(batch[0].tenant, [line.event.id for line in batch])
        left = [line for line in batch if line.event.id not in known]
        for line in batch:
            if line.event.id in known:
                self._compare(line, known[line.event.id])
        if len(left) < len(batch):
            self._append([left] if left else [])
        elif len(batch) > 1:
            half = len(batch) // 2
            self._append([batch[:half]])  # all of it before the rest, or a stream would lose the order of the file
            self._append([batch[half:]])
        else:
            self._refuse(batch[0].number, str(error))

    def _compare(self, line: _Line, stored: StoredEvent) -> None:
        new = line.event
        same = (
            (stored.stream, stored.type, stored.schema_version) == (new.stream, new.type, new.schema_version)
            and new.occurred_at in (None, stored.occurred_at)
            and stored.data in (None, new.data)
        )
        if same:
            self._known += 1
        else:
            self._refuse(
                line.number, f"its id is stored at position {stored.position} with other content: {_TELL_APART}"
            )


def _check_columns(path: Path, columns: tuple[str, ...], event_map: EventMap) -> None:
    has = f"it has {', '.join(columns)}"
    for column, key in event_map.columns().items():
        if column not in columns:
            hint = (
                f'; if its cells are apart by "{mark}", add delimiter to the map'
                if (mark := _other_mark(columns))
                else ""
            )
            raise Misconfigured(f"`{key}` reads the column {column!r}, which {path} does not have: {has}{hint}")
        if columns.count(column) > 1:
            raise Misconfigured(f"`{key}` reads the column {column!r}, which {path} has twice: rename one of them")


def _other_mark(columns: tuple[str, ...]) -> str | None:
    """What seems to be the delimiter of a header that came out as one cell."""
    return next((mark for mark in (";", "\t", "|") if len(columns) == 1 and mark in columns[0]), None)


def _notice(path: Path, rows: Rows, read: int) -> str:
    if read:
        return ""
    return f"{path} is empty" if rows.columns is None else f"{path} has a header and no rows"
