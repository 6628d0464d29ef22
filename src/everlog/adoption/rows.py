"""The rows of a CSV or NDJSON file, one after the other, whatever the file is packed in and however broken it is.

A record that cannot be read is a `Broken` with the number of its first line, and the next one is read as if nothing had
been. Memory stays flat: blocks, lines and cells are bounded.
"""

import csv
import io
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

import zstandard

from everlog.adoption.mapping import EventMap, Format
from everlog.adoption.values import Row
from everlog.core.errors import InvalidInput, NotFound
from everlog.core.json import parse_exact_json

LONGEST_LINE = 1024 * 1024
_PLAIN_BLOCK = 256 * 1024
_PACKED_BLOCK = 4 * 1024  # small, because a hostile one unpacks to many thousand times its size
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_GZIP_FORM = 31
_UTF8_MARK, _UTF16_MARKS = b"\xef\xbb\xbf", (b"\xff\xfe", b"\xfe\xff")
_TOO_LONG = f"a line longer than {LONGEST_LINE} bytes"
_WHOLE_AGAIN = "import the file again once it is whole"
_FORMATS: dict[str, Format] = {".csv": "csv", ".tsv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson"}


class Record(NamedTuple):
    """One row, and the number of its first line in the unpacked file."""

    line: int
    row: Row


class Broken(NamedTuple):
    """What should have been a row, and why it is none."""

    line: int
    reason: str


Records = Iterator[Record | Broken]


class Rows:
    """An open file. `columns` is the CSV header; `None` where every row names its own (NDJSON) or there is nothing."""

    def __init__(self, file: "_Counted", size: int, columns: tuple[str, ...] | None, records: Records) -> None:
        self._file, self.size, self.columns, self.records = file, size, columns, records

    @property
    def consumed(self) -> int:
        """How many bytes of the file, as it lies there, were read."""
        return self._file.count


@contextmanager
def open_rows(path: Path, event_map: EventMap) -> Iterator[Rows]:
    """Open the file for one reading; raises `NotFound` or `InvalidInput` when no row of it can be read."""
    try:
        file = path.open("rb", buffering=0)
    except OSError as error:
        raise NotFound(f"{path} cannot be read: {error.strerror}") from error
    with file:
        counted = _Counted(file)
        first, rest = _peek(_lines(_blocks(counted)))
        if first.startswith(_UTF16_MARKS):
            raise InvalidInput(f"{path} is UTF-16: convert it to UTF-8 first, for example with iconv")
        first = first.removeprefix(_UTF8_MARK)
        lines = chain([first] if first else [], rest)
        if (event_map.format or _format_of(path, first)) == "ndjson":
            yield Rows(counted, path.stat().st_size, None, _ndjson(lines))
        else:
            yield Rows(counted, path.stat().st_size, *_csv(lines, event_map.delimiter, path))


def _format_of(path: Path, first_line: bytes) -> Format:
    """By the name, without what tells the packing; else by the first character."""
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() not in (".gz", ".zst")]
    by_content: Format = "ndjson" if first_line.lstrip().startswith(b"{") else "csv"
    return _FORMATS.get(suffixes[-1], by_content) if suffixes else by_content


class _Cut(Exception):
    """The file cannot be read further, and why."""


class _Counted:
    def __init__(self, file: BinaryIO) -> None:
        self._file, self.count = file, 0

    def read(self, size: int) -> bytes:
        block = self._file.read(size)
        self.count += len(block)
        return block


class _Unpacker(Protocol):
    """What `zlib` and `zstandard` call a decompress object."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


def _blocks(file: _Counted) -> Iterator[bytes]:
    """The unpacked bytes; raises `_Cut` behind the last good ones."""
    first = file.read(_PACKED_BLOCK)
    if first.startswith(_GZIP):
        yield from _unpacked("gzip", lambda: zlib.decompressobj(_GZIP_FORM), first, file)
    elif first.startswith(_ZSTD):
        yield from _unpacked("zstd", lambda: zstandard.ZstdDecompressor().decompressobj(), first, file)
    else:
        yield first
        yield from iter(lambda: file.read(_PLAIN_BLOCK), b"")


def _unpacked(name: str, new: Callable[[], _Unpacker], block: bytes, file: _Counted) -> Iterator[bytes]:
    unpacker = new()
    while block:
        try:
            yield unpacker.decompress(block)
        except (zlib.error, zstandard.ZstdError) as error:
            raise _Cut(f"the {name} data is damaged from here on ({error}): {_WHOLE_AGAIN}") from error
        if not unpacker.eof:
            block = file.read(_PACKED_BLOCK)
        elif block := _next_member(unpacker.unused_data, file):
            unpacker = new()
    if not unpacker.eof:
        raise _Cut(f"the {name} data ends here, too early: {_WHOLE_AGAIN}")


def _next_member(unused: bytes, file: _Counted) -> bytes:
    """Where another member begins, if one does; zeros between members fill up the block of a tape."""
    block = unused.lstrip(b"\0")
    while not block and (unused := file.read(_PACKED_BLOCK)):
        block = unused.lstrip(b"\0")
    return block


def _lines(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Lines with their end. The middle of one beyond `LONGEST_LINE` is dropped, but it stays too long."""
    tail = b""
    for block in blocks:
        block = tail[: LONGEST_LINE + 1] + block
        end = block.rfind(b"\n") + 1
        yield from io.BytesIO(block[:end])
        tail = block[end:]
    if tail:
        yield tail


def _peek(lines: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """The first line, and the lines behind it; a file cut before that line ends shows when they are read."""
    try:
        return next(lines, b""), lines
    except _Cut as cut:
        return b"", _raising(cut)


def _raising(cut: _Cut) -> Iterator[bytes]:
    raise cut
    yield


def _ndjson(lines: Iterator[bytes]) -> Records:
    number = 0
    try:
        for number, line in enumerate(lines, 1):
            if len(line) > LONGEST_LINE:
                yield Broken(number, _TOO_LONG)
            elif not line.isspace():
                yield _object(number, line)
    except _Cut as cut:
        yield Broken(number + 1, str(cut))


def _object(number: int, line: bytes) -> Record | Broken:
    try:
        value = parse_exact_json(line)
    except InvalidInput as error:
        return Broken(number, str(error))
    if isinstance(value, dict):
        return Record(number, value)
    return Broken(number, "not a JSON object: write one {…} on each line")


def _csv(lines: Iterator[bytes], delimiter: str, path: Path) -> tuple[tuple[str, ...] | None, Records]:
    records = iter(_Cells(lines, delimiter))
    header = next(records, None)
    if header is None:
        return None, iter(())
    if isinstance(header, Broken):
        raise InvalidInput(f"{path} has no header that can be read, in line {header.line}: {header.reason}")
    columns = tuple(header[1])
    return columns, _named(columns, records)


def _named(columns: tuple[str, ...], records: Iterator["tuple[int, list[str]] | Broken"]) -> Records:
    for record in records:
        if isinstance(record, Broken):
            yield record
            continue
        line, cells = record
        if len(cells) == len(columns):
            yield Record(line, dict(zip(columns, cells, strict=True)))
        else:
            yield Broken(line, f"{len(cells)} cells, where the header has {len(columns)}")


class _Cells:
    """CSV records as cells, and the number of their first line.

    A quote that is never closed swallows the lines behind it. So only the first line of a record that cannot be read is
    given up: the others are read again, as records of their own.
    """

    def __init__(self, lines: Iterator[bytes], delimiter: str) -> None:
        self._lines, self._delimiter = lines, delimiter
        self._again: deque[bytes] = deque()
        self._taken: list[bytes] = []
        self._flaw = ""

    def __iter__(self) -> Iterator[tuple[int, list[str]] | Broken]:
        line, reader = 1, self._reader()
        while True:
            self._taken.clear()
            self._flaw, cells = "", []
            try:
                cells = next(reader)
            except StopIteration:
                return
            except _Cut as cut:
                yield Broken(line, str(cut))
                return
            except csv.Error as error:
                self._flaw = self._flaw or f"not CSV: {error}"
            if self._flaw:
                yield Broken(line, self._flaw)
                self._again.extendleft(reversed(self._taken[1:]))
                line, reader = line + 1, self._reader()
                continue
            if cells:  # a blank line has none
                yield line, cells
            line += len(self._taken)

    def _reader(self) -> Iterator[list[str]]:
        return csv.reader(self._texts(), delimiter=self._delimiter, strict=True)

    def _texts(self) -> Iterator[str]:
        while True:
            raw = self._again.popleft() if self._again else next(self._lines, None)
            if raw is None:
                return
            self._taken.append(raw)
            if len(raw) > LONGEST_LINE:
                self._flaw = _TOO_LONG
            try:
                yield raw.decode()
            except UnicodeDecodeError as error:
                self._flaw = f"not UTF-8: byte 0x{raw[error.start]:02x} at {error.start}"
                yield raw.decode(errors="replace")
