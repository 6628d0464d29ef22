"""Data to standard output in the form asked for, words to standard error. Lists are streamed in every form but a table.

JSON is one envelope, `{"version", "data", "status", "diagnostics"}`, whole and valid even when a command fails halfway.
"""

import io
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from itertools import islice
from typing import Any, Generic, Literal, TextIO, TypeVar

import msgspec
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from everlog.history.audit import csv_line

T = TypeVar("T")

TABLE_ROWS = 50
_END = object()
_GAP, _LEAST = "  ", 10
_SPLIT_SECOND = re.compile(r"(?<=^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})\.[0-9]{6}Z$")

Status = Literal["ok", "findings", "partial", "error", "interrupted"]
Level = Literal["note", "warning", "error"]
_STATUS: Mapping[int, Status] = {0: "ok", 1: "findings", 7: "partial", 130: "interrupted"}
_STYLES: Mapping[Level, str] = {"note": "", "warning": "yellow", "error": "bold red"}


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"
    NDJSON = "ndjson"
    CSV = "csv"
    PLAIN = "plain"


class Diagnostic(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing said beside the data; `code` is the stable code of an error."""

    level: Level
    message: str
    code: str = ""
    hint: str = ""


class Envelope(msgspec.Struct, frozen=True):
    """What `--json` prints. `data` is an object or a list, `null` when the command failed before it had any."""

    version: Literal[1]
    data: Any
    status: Status
    diagnostics: list[Diagnostic]


@dataclass(frozen=True)
class View(Generic[T]):
    """How one kind of record looks: `json` for JSON and NDJSON, `cells` for CSV and plain, some of them for a table."""

    json: Callable[[T], object]
    cells: Mapping[str, Callable[[T], object]]
    table: Sequence[str]

    def showing_tenant(self, wanted: bool) -> "View[T]":
        return replace(self, table=("tenant", *self.table)) if wanted else self

    def row(self, record: T) -> list[str]:
        return [as_text(cell(record)) for cell in self.cells.values()]


def fields(names: Iterable[str]) -> Mapping[str, Callable[[Any], object]]:
    """Cells that are attributes, or keys of a dict."""
    return {name: partial(_field, name=name) for name in names}


def _field(record: Any, *, name: str) -> object:
    return record[name] if isinstance(record, dict) else getattr(record, name)


def view_of(record: Mapping[str, object]) -> View[Mapping[str, object]]:
    """Of a dict that is a record."""
    return View(json=lambda one: one, cells=fields(record), table=tuple(record))


@dataclass(frozen=True)
class Part(Generic[T]):
    """Some of what a document says: a table of its own, under a title."""

    view: View[T]
    records: Sequence[T]
    title: str = ""


class Output:
    """One command's. Data goes out as bytes in UTF-8, whatever the locale."""

    def __init__(self, form: Format = Format.TABLE, *, quiet: bool = False, color: bool = True) -> None:
        self.form, self.quiet = form, quiet
        self.to_terminal = sys.stdout.isatty()
        self.words = Console(stderr=True, no_color=not color or None, highlight=False, soft_wrap=True)
        self._console = Console(no_color=not color or None, highlight=False)
        self._diagnostics: list[Diagnostic] = []
        self._began = False

    # Data

    def listing(self, view: View[T], records: Iterable[T], *, limit: int | None = None) -> int:
        """Write a list and say how many records that were; a table stops at `TABLE_ROWS` unless a limit is given."""
        most = self.most(limit)
        following = iter(records)
        count = self._write(view, islice(following, most))
        if limit is None and count == most and next(following, _END) is not _END:
            self.note(f"only the first {most} are shown: add --limit N, or -o ndjson for all")
        return count

    def most(self, limit: int | None) -> int | None:
        """How many records a list shows."""
        return TABLE_ROWS if limit is None and self.form is Format.TABLE else limit

    def record(self, view: View[T], record: T) -> None:
        """Write one record: its fields below each other where a list would have a table."""
        if self.form is Format.TABLE:
            self._write_table(_FIELDS, [(name.replace("_", " "), cell(record)) for name, cell in view.cells.items()])
        else:
            self.document(view.json(record), Part(view, [record]))

    def document(self, data: object, *parts: Part[Any]) -> None:
        """Write one finished thing: `data` as JSON, its parts as tables, and in any other form the first part."""
        if self.form is Format.JSON:
            self._put(b'{"version": 1, "data": ' + encode(data))
            self._began = True
        elif self.form is Format.TABLE:
            for part in parts:
                self._write_table(part.view, part.records, part.title)
        else:
            self._write(parts[0].view, parts[0].records)

    def _write(self, view: View[T], records: Iterable[T]) -> int:
        match self.form:
            case Format.TABLE:
                return self._write_table(view, [*records])
            case Format.JSON:
                return self._write_json(view, records)
            case Format.NDJSON:
                return self._write_each(encode(view.json(record)) + b"\n" for record in records)
            case Format.CSV:
                self._put(csv_line(view.cells).encode())
                return self._write_each(csv_line(view.row(record)).encode() for record in records)
            case Format.PLAIN:
                return self._write_each(_plain(view.row(record)) for record in records)

    def _write_each(self, lines: Iterable[bytes]) -> int:
        count = 0
        for count, line in enumerate(lines, 1):  # noqa: B007 (it is the answer)
            self._put(line)
        return count

    def _write_json(self, view: View[T], records: Iterable[T]) -> int:
        self._put(b'{"version": 1, "data": [')
        self._began = True
        count = 0
        try:
            for record in records:
                self._put((b",\n" if count else b"\n") + encode(view.json(record)))
                count += 1
        finally:
            self._put(b"\n]" if count else b"]")
        return count

    def _write_table(self, view: View[T], records: Sequence[T], title: str = "") -> int:
        if title:
            self._console.print(Text(title, style="bold"))
        if records:
            names = [name.replace("_", " ") for name in view.table]
            rows = [[_in_table(view.cells[name](one)) for name in view.table] for one in records]
            header, *lines = _aligned([names, *rows], self._console.width if self.to_terminal else None)
            self._console.print(Text(header, style="bold"), soft_wrap=True)
            self._write_each(line.encode() + b"\n" for line in lines)
        else:
            self.note("nothing found")
        return len(records)

    def _put(self, data: bytes) -> None:
        # Not `print`: a text stream of another encoding could not write what others stored.
        sys.stdout.buffer.write(data)

    # Words

    def note(self, message: str) -> None:
        """Something to know; left out by --quiet."""
        self._diagnostics.append(Diagnostic("note", message))
        self.report(message)

    def report(self, message: str) -> None:
        """How it goes at this moment: like a note, but not kept for the end, since it is told for months."""
        if not self.quiet:
            self._say(message, "note")

    def warn(self, message: str) -> None:
        self._diagnostics.append(Diagnostic("warning", message))
        self._say(f"warning: {message}", "warning")

    def fail(self, message: str, *, code: str = "", hint: str = "") -> None:
        self._diagnostics.append(Diagnostic("error", message, code, hint))
        self._say(f"error: {message}", "error")
        if hint:
            self._say(f"  {hint}", "note")

    def _say(self, message: str, level: Level) -> None:
        prefix, mark, rest = message.partition(": ") if _STYLES[level] else ("", "", message)
        self.words.print(Text(prefix + mark, style=_STYLES[level]) + Text(visible(rest, keep="\n")))

    def end(self, code: int) -> None:
        """Close what was begun, and let everything out."""
        if self.form is Format.JSON:
            if not self._began:
                self._put(b'{"version": 1, "data": null')
            status = _STATUS.get(code, "error")
            self._put(b', "status": ' + encode(status) + b', "diagnostics": ' + encode(self._diagnostics) + b"}\n")
        sys.stdout.flush()


_FIELDS: View[tuple[str, object]] = View(
    json=lambda pair: pair,
    cells={"field": lambda pair: pair[0], "value": lambda pair: pair[1]},
    table=("field", "value"),
)


def _in_table(value: object) -> str:
    """For people: times in whole seconds."""
    return _SPLIT_SECOND.sub("Z", visible(as_text(value)))


def _aligned(rows: Sequence[Sequence[str]], width: int | None) -> Iterator[str]:
    """In columns; without a width as wide as it takes, because nobody can scroll what a pipe cut off."""
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    if width is not None:
        widths = _fitted(widths, width)
    for row in rows:
        yield _GAP.join([_sized(cell, size) for cell, size in zip(row, widths, strict=True)]).rstrip()


def _fitted(widths: Sequence[int], width: int) -> list[int]:
    """The last column, which says most, gives way first, then the widest of the others."""
    *others, last = widths
    room = width - len(_GAP) * len(others)
    last = max(min(last, _LEAST), min(last, room - sum(others)))
    most = max(others, default=0)
    while most > 1 and sum(min(size, most) for size in others) > room - last:
        most -= 1
    return [*[min(size, most) for size in others], last]


def _sized(cell: str, size: int) -> str:
    return set_cell_size(cell, size) if cell_len(cell) <= size else set_cell_size(cell, size - 1) + "…"


def encode(value: object) -> bytes:
    return msgspec.json.encode(value)


def as_text(value: object) -> str:
    """One cell: text as it is, nothing as nothing, raw and structured values as JSON."""
    match value:
        case None:
            return ""
        case str():
            return value
        case int() if not isinstance(value, bool):
            return str(value)
        case _:
            return encode(value).decode()


def visible(text: str, keep: str = "") -> str:
    """Control and formatting characters as escapes: what others stored must not drive this terminal."""
    if text.isprintable():
        return text
    return "".join([c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text])


def make_streams_safe() -> None:
    """Whatever the streams are: a closed one takes everything, one of a narrow encoding gets escapes."""
    sys.stdout = sys.stdout or _nowhere()
    sys.stderr = sys.stderr or _nowhere()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _nowhere() -> TextIO:
    return open(os.devnull, "w")


def _plain(cells: Iterable[str]) -> bytes:
    return "\t".join([visible(cell) for cell in cells]).encode() + b"\n"
