"""Events from lines of JSON: each checked with its line number, then appended batch after batch."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import BinaryIO, NamedTuple

from everlog.app.intake import Intake, read_event
from everlog.cli.failures import ExitCode, tell, usage
from everlog.cli.files import is_standard
from everlog.cli.opening import Call, nearest
from everlog.cli.output import Format, Part, View, fields, view_of
from everlog.core import limits
from everlog.core.envelope import Append, NewEvent, StoredEvent
from everlog.core.errors import EverlogError, InvalidInput, WrongExpectedVersion
from everlog.core.expect import ANYTHING, Anything, Expect
from everlog.core.ids import derived_id, uuid_of
from everlog.store.contract import Store
from everlog.store.prepare import prepare

LONGEST_LINE = 1024 * 1024


class Line(NamedTuple):
    """One event and where it came from."""

    number: int
    event: NewEvent


def read_lines(
    file: BinaryIO, intake: Intake, tenant: str, *, stream: str | None = None, request_id: str | None = None
) -> Iterator[Line]:
    """The events of a file, each with all its checks done; raises `InvalidInput` naming the line."""
    for count, (number, text) in enumerate(_texts(file)):
        try:
            event = intake.event(read_event(text), stream, id=id_of_request(tenant, request_id, count))
            yield Line(number, checked(event, tenant))
        except InvalidInput as error:
            hint = "; one event a line: `jq -c '.[]'` makes lines of a list" if text[:1] == b"[" else ""
            raise InvalidInput(f"line {number}: {error}{hint}") from error


def checked(event: NewEvent, tenant: str) -> NewEvent:
    """What the store will check, now, while it is known which line it is about."""
    prepare(Append(tenant, (event,)), bytes(16))
    return event


def id_of_request(tenant: str, request_id: str | None, count: int) -> bytes | None:
    """The id that the library gives the `count`-th event of a request."""
    return None if request_id is None else derived_id(tenant, "request", request_id, count)


def batches(lines: Iterable[Line]) -> Iterator[list[Line]]:
    """As many as one append may hold."""
    batch: list[Line] = []
    size = 0
    for line in lines:
        more = len(line.event.data) + len(line.event.client or b"")
        if batch and (len(batch) == limits.BATCH_EVENTS or size + more > limits.BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(line)
        size += more
    if batch:
        yield batch


def _texts(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    number = 0
    while text := file.readline(LONGEST_LINE + 1):
        number += 1
        if len(text) > LONGEST_LINE:
            raise InvalidInput(
                f"line {number} is longer than {LONGEST_LINE} bytes: an event holds {limits.EVENT_BYTES}"
            )
        if stripped := text.strip():
            yield number, stripped


class Stored(NamedTuple):
    """One appended event and where it came to lie; `replayed` when it was there before."""

    position: int
    stream: str
    version: int
    type: str
    id: str
    replayed: bool


STORED: View[Stored] = View(
    json=lambda one: {**one._asdict(), "position": str(one.position)},
    cells=fields(Stored._fields),
    table=("position", "stream", "version", "type", "id"),
)


@dataclass
class Appending:
    """One run: what it was given, and how far it is."""

    call: Call
    again: str
    """What to do after an interrupt or a bad line in the middle; `{line}` is the last one stored."""
    once: bool = False
    """Whether to pass over events that are stored already, as they are, instead of leaving them to the store."""
    events: int = 0
    known: int = 0
    line: int = 0

    def run(self, lines: Iterable[Line], *, stream: str | None = None, expect: Expect = ANYTHING) -> int:
        """Append everything; the exit code says whether it was all."""
        following = batches(lines)
        first, second = next(following, None), next(following, None)
        if first is None:
            raise InvalidInput("there is no event: give lines of JSON, or --type and --data")
        if second is not None and not isinstance(expect, Anything):
            raise usage(f"--expect holds for one batch, {limits.BATCH_EVENTS} events or 1 MiB: split what you append")
        condition = {} if stream is None else {stream: expect}
        output = self.call.output
        with self.call.open_to_write() as log:
            rows = self._append(log.store, chain([first], [second] if second else [], following), condition)
            try:
                output.listing(STORED, rows, limit=limits.BATCH_EVENTS if output.form is Format.TABLE else None)
                for _ in rows:  # a table shows no more, but all is to be appended
                    pass
            except BrokenPipeError:
                for _ in rows:  # who does not want to see it (`| head`) wants it stored all the same
                    pass
                raise
            except KeyboardInterrupt as error:
                raise KeyboardInterrupt(f"interrupted: {self._so_far()}") from error
            except EverlogError as error:
                if not self.line:
                    raise
                tell(output, error)
                output.note(self._so_far())
                return ExitCode.PARTIAL
        known = f", {self.known:,} were there already" if self.known else ""
        output.note(f"appended {counted(self.events, 'event')}{known}")
        return ExitCode.OK

    def rehearse(self, lines: Iterable[Line], *, stream: str, expect: Expect) -> int:
        """All checks and no append."""
        count = sum(1 for _ in lines)
        version = 0
        if self.call.has_log():
            with self.call.open() as log:
                version = log.store.version_at(self.call.tenant, stream)
        if not expect.holds(version):
            raise WrongExpectedVersion(stream, str(expect), version)
        told = {"stream": stream, "version": version, "events": count}
        self.call.output.document(told, Part(view_of(told), [told]))
        self.call.output.note("nothing was appended: this was a dry run")
        return ExitCode.OK

    def _append(self, store: Store, groups: Iterable[list[Line]], condition: dict[str, Expect]) -> Iterator[Stored]:
        for batch in groups:
            told = self._append_batch(store, batch, condition)
            # Before they are told: an interrupt must not make anybody give these lines again.
            self.line = batch[-1].number
            yield from told

    def _append_batch(self, store: Store, batch: list[Line], condition: dict[str, Expect]) -> list[Stored]:
        tenant = self.call.tenant
        there = store.find(tenant, [line.event.id for line in batch]) if self.once else {}
        told, new = [], []
        for line in batch:
            stored = there.get(line.event.id)
            if stored is not None and _is_same(line.event, stored):
                told.append(_stored(line.event, stored.position, stored.version, True))
            else:
                new.append(line.event)
        self.known += len(told)
        if new:
            answer = store.append(Append(tenant, tuple(new), condition))
            self.events += len(new)
            told += [_stored(event, *place, answer.replayed) for event, place in zip(new, answer.places, strict=True)]
        return told

    def _so_far(self) -> str:
        if not self.line:
            return "nothing was appended"
        stored = f"{counted(self.events, 'event')} appended, up to line {self.line}"
        return f"{stored}: {self.again.format(line=self.line)}"


def _stored(event: NewEvent, position: int, version: int, replayed: bool) -> Stored:
    return Stored(position, event.stream, version, event.type, str(uuid_of(event.id)), replayed)


def _is_same(new: NewEvent, stored: StoredEvent) -> bool:
    return (
        (new.stream, new.type, new.schema_version) == (stored.stream, stored.type, stored.schema_version)
        and new.occurred_at in (None, stored.occurred_at)
        and stored.data in (None, new.data)
    )


def warning_of_types(call: Call, intake: Intake, lines: Iterable[Line]) -> Iterator[Line]:
    """Say it once of every type that is stored unchecked: it may be misspelled."""
    told: set[str] = set()
    for line in lines:
        type = line.event.type
        if type not in told and not intake.declares(type):
            told.add(type)
            if call.settings.app.value is None:
                call.output.note(f"{type} is stored as it is: no --app is named that could check it")
            else:
                near = nearest(type, call.platform.types.kinds)
                call.output.warn(f"{type} is stored as it is, the application declares no such type{near}")
        yield line


@contextmanager
def opened(call: Call, path: Path | None) -> Iterator[BinaryIO]:
    """A file, or standard input."""
    if path is None or is_standard(path):
        if sys.stdin.isatty():
            call.output.note("reading events from this terminal, one JSON object a line; Ctrl-D ends")
        yield sys.stdin.buffer
    else:
        with path.open("rb") as file:
            yield file


def counted(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
