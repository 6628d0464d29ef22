"""CSV and NDJSON, plain, gzip and zstd, whole or broken: every row that can be read is, and the others are named."""

import csv
import gzip
import io
import json
import zlib
from pathlib import Path
from random import Random

import pytest
import zstandard

from everlog.adoption import import_file, map_from_toml
from everlog.adoption import rows as reading
from everlog.core.errors import InvalidInput, Misconfigured, NotFound
from tests.adoption.desk import ORDERS, ORDERS_HEADER, WITHOUT_ID, Desk, rejects_of

AT = "2020-01-01T00:00:00Z"
ROWS = ORDERS_HEADER + f"1,placed,{AT},ann,12.30,\n2,placed,{AT},bob,4.00,hi\n"
TEXT = (
    'stream = "s"\ntype = "t"\n[data]\na = { column = "a", optional = true }\nb = { column = "b", optional = true }\n'
)


def _gzip_in_two(content: bytes) -> bytes:
    return gzip.compress(content[:50], mtime=0) + gzip.compress(content[50:])


def _zstd_in_two(content: bytes) -> bytes:
    return zstandard.compress(content[:50]) + zstandard.compress(content[50:])


PACKED = {
    "plain": bytes,
    "gzip": gzip.compress,
    "gzip of two members": _gzip_in_two,
    "gzip on tape": lambda content: gzip.compress(content, mtime=0) + bytes(10_000),
    "zstd": zstandard.compress,
    "zstd of two frames": _zstd_in_two,
    "zstd without size": lambda content: zstandard.ZstdCompressor(write_content_size=False).compress(content),
}


@pytest.mark.parametrize("pack", PACKED.values(), ids=PACKED.keys())
def test_however_it_is_packed_the_same_events_come_out(desk: Desk, pack: type[bytes]) -> None:
    report = desk.load(pack(ROWS.encode()), name="no-ending-that-tells")
    assert (report.imported, report.rejected) == (2, 0)
    assert desk.data() == [
        {"cents": {"minor": 1230, "currency": "EUR"}},
        {"cents": {"minor": 400, "currency": "EUR"}, "note": "hi"},
    ]
    assert [(event.stream, event.type, event.actor) for event in desk.events()] == [
        ("order-1", "order placed", "ann"),
        ("order-2", "order placed", "bob"),
    ]


@pytest.mark.parametrize("name", ["in.ndjson", "in.jsonl.gz", "in.NDJSON", "in", "in.log"])
def test_ndjson_is_known_by_its_name_or_its_first_character(desk: Desk, name: str) -> None:
    rows = [dict(zip(ORDERS_HEADER.strip().split(","), line.split(","), strict=True)) for line in ROWS.split()[1:]]
    report = desk.load("\n\n".join(map(json.dumps, rows)), name=name)
    assert (report.imported, report.rejected) == (2, 0)
    assert desk.data()[1] == {"cents": {"minor": 400, "currency": "EUR"}, "note": "hi"}


def test_the_map_has_the_last_word_on_the_format(desk: Desk) -> None:
    report = desk.load('{"a": "x"}', 'format = "ndjson"\n' + TEXT, name="in.csv")
    assert report.imported == 1
    assert desk.load('a,b\n"{",2', 'format = "csv"\n' + TEXT, name="in.ndjson").imported == 1
    assert desk.data() == [{"a": "x"}, {"a": "{", "b": "2"}]


def test_quotes_newlines_and_delimiters_in_cells_are_text(desk: Desk) -> None:
    cells = [
        "with, comma",
        'a "quoted" word',
        "two\nlines",
        "three\r\nlines\n\n",
        " spaces ",
        "Grüße 🙂",
        "\u2028 and \x0b",
    ]
    written = io.StringIO()
    csv.writer(written).writerows([["a", "b"], *[[cell, "x"] for cell in cells]])
    assert desk.load(written.getvalue(), TEXT).rejected == 0
    assert [data["a"] for data in desk.data()] == cells


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("last", ["", "end"])
def test_line_ends_and_the_byte_order_mark_do_not_matter(desk: Desk, end: str, mark: bytes, last: str) -> None:
    content = end.join(["a,b", "1,2", "", "3,4"]) + (end if last else "")
    assert desk.load(mark + content.encode(), TEXT).imported == 2
    assert desk.data() == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]


def test_a_byte_order_mark_before_ndjson_does_not_matter(desk: Desk) -> None:
    assert desk.load(b"\xef\xbb\xbf" + b'{"a": "1"}\r\n', TEXT, name="in").imported == 1


@pytest.mark.parametrize("mark", [";", "\t", "|", "§"])
def test_the_delimiter_is_an_option(desk: Desk, mark: str) -> None:
    assert desk.load(f"a{mark}b\n1,5{mark}2\n", f"delimiter = {json.dumps(mark)}\n{TEXT}").imported == 1
    assert desk.data() == [{"a": "1,5", "b": "2"}]


def test_a_forgotten_delimiter_is_suspected(desk: Desk) -> None:
    with pytest.raises(Misconfigured, match="if its cells are apart by"):
        desk.load("a;b\n1;2\n", TEXT)


def test_columns_may_stand_in_any_order_and_number(desk: Desk) -> None:
    assert desk.load("z,b,,y,a,\n0,2,,,1,\n", TEXT).imported == 1
    assert desk.data() == [{"a": "1", "b": "2"}]


def test_a_missing_column_is_said_before_anything_is_stored(desk: Desk) -> None:
    with pytest.raises(
        Misconfigured, match=r"`data\.b` reads the column 'b', which .*in\.csv does not have: it has a, B"
    ):
        desk.load("a,B\n1,2\n", TEXT)
    assert desk.events() == []


def test_a_mapped_column_that_is_there_twice_is_refused(desk: Desk) -> None:
    with pytest.raises(Misconfigured, match=r"the column 'b', which .* has twice"):
        desk.load("a,b,b\n1,2,3\n", TEXT)


@pytest.mark.parametrize(
    ("content", "name", "notice"),
    [
        (b"", "in.csv", "is empty"),
        (b"\n\n", "in.csv", "is empty"),
        (b"\xef\xbb\xbf", "in.csv", "is empty"),
        (b"", "in.ndjson", "is empty"),
        (gzip.compress(b"", mtime=0), "in.csv.gz", "is empty"),
        (zstandard.compress(b""), "in.csv.zst", "is empty"),
        (b"a,b", "in.csv", "has a header and no rows"),
        (gzip.compress(b"a,b\r\n\r\n", mtime=0), "in.csv.gz", "has a header and no rows"),
    ],
)
def test_a_file_without_rows_is_fine_and_says_so(desk: Desk, content: bytes, name: str, notice: str) -> None:
    report = desk.load(content, TEXT, name)
    assert (report.read, report.imported, report.rejected) == (0, 0, 0)
    assert report.notice.endswith(notice)
    assert desk.load(b"a,b\n1,2\n", TEXT).notice == ""


def test_a_file_that_is_not_there_or_a_folder_is_said(desk: Desk) -> None:
    for path in (desk.folder / "nowhere.csv", desk.folder):
        with pytest.raises(NotFound, match="cannot be read"):
            import_file(desk.store, path, map_from_toml(TEXT))


def test_utf_16_is_named(desk: Desk) -> None:
    with pytest.raises(InvalidInput, match="UTF-16: convert it to UTF-8"):
        desk.load("a,b\n1,2\n".encode("utf-16"), TEXT)


def test_a_header_that_cannot_be_read_is_an_error(desk: Desk) -> None:
    with pytest.raises(InvalidInput, match="no header that can be read, in line 1: not UTF-8"):
        desk.load(b"a,\xff\n1,2\n", TEXT)


def test_rejects_have_the_number_of_the_first_line_of_their_record(desk: Desk) -> None:
    content = "\n".join([
        "a,b",  # 1
        '"two', 'lines",good',  # 2
        "short",  # 4
        '"three', "long", 'lines",x,too many',  # 5
        "1,2",  # 8
        "",  # 9
        '"quote"d,2',  # 10
        "3,4",  # 11
    ])  # fmt: skip
    report = desk.load(content, TEXT)
    assert rejects_of(report) == [
        (4, "1 cells, where the header has 2"),
        (5, "3 cells, where the header has 2"),
        (10, "not CSV: ',' expected after '\"'"),
    ]
    assert [data["a"] for data in desk.data()] == ["two\nlines", "1", "3"]
    assert (report.read, report.imported, report.rejected) == (6, 3, 3)


def test_ndjson_rejects_count_blank_lines_too(desk: Desk) -> None:
    lines = ['{"a": "1"}', "", "[1]", '{"a": "2"', '{"a": "x", "a": "y"}', '{"a": NaN}', '{"a": "3"}', "\udcff"]
    report = desk.load("\n".join(lines).encode(errors="surrogateescape"), TEXT, "in.ndjson")
    assert [line for line, _ in rejects_of(report)] == [3, 4, 5, 6, 8]
    assert [data["a"] for data in desk.data()] == ["1", "3"]


def test_a_quote_that_is_never_closed_costs_only_its_own_line(desk: Desk) -> None:
    lines = ["a,b", '1,"open', *[f"{number},good" for number in range(20_000)], "last,line"]
    report = desk.load("\n".join(lines), TEXT)
    assert [line for line, _ in rejects_of(report)] == [2]
    assert report.imported == 20_001
    report = desk.load('a,b\nx,y\n"open,z', TEXT)
    assert [line for line, _ in rejects_of(report)] == [3]


def test_bytes_that_are_not_utf_8_cost_only_their_own_line(desk: Desk) -> None:
    report = desk.load(b"a,b\n1,2\ncaf\xe9,2\n3,4\n", TEXT)
    assert rejects_of(report) == [(3, "not UTF-8: byte 0xe9 at 3")]
    assert report.imported == 2


@pytest.mark.parametrize("name", ["in.csv", "in.ndjson"])
def test_a_line_without_end_is_a_reject_and_takes_no_memory(desk: Desk, name: str) -> None:
    good, long = ("{}\n", "[") if name == "in.ndjson" else ("1,2\n", "x")
    content = ("" if name == "in.ndjson" else "a,b\n") + good + long * (40 * reading.LONGEST_LINE) + "\n" + good
    report = desk.load(gzip.compress(content.encode()), TEXT, name)
    ((line, reason),) = rejects_of(report)
    assert (line, reason) == (2 if name == "in.ndjson" else 3, f"a line longer than {reading.LONGEST_LINE} bytes")
    assert report.imported == 2


def _many(count: int) -> bytes:
    return b"s,value\n" + b"".join(b"%d,%064d\n" % (number % 7, number * number) for number in range(count))


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress], ids=["gzip", "zstd"])
@pytest.mark.parametrize("part", [0.01, 0.5, 0.999])
def test_of_a_file_that_is_cut_the_events_before_the_cut_are_imported(
    desk: Desk, pack: type[bytes], part: float
) -> None:
    whole = _many(20_000)
    packed = pack(whole)
    cut = packed[: int(len(packed) * part)]
    if part == 0.01:  # not even the header
        with pytest.raises(InvalidInput, match=r"no header that can be read, in line 1: .* ends here, too early"):
            desk.load(cut[:20], WITHOUT_ID)
        return
    report = desk.load(cut, WITHOUT_ID)
    ((line, reason),) = rejects_of(report)
    assert "ends here, too early: import the file again once it is whole" in reason
    assert 0 < report.imported < 20_000
    assert line == report.imported + 2
    rest = desk.load(packed, WITHOUT_ID)
    assert (rest.imported, rest.known, rest.rejected) == (20_000 - report.imported, report.imported, 0)


def test_a_row_cut_inside_a_cell_is_not_imported(desk: Desk) -> None:
    for cut in (b'a,b\n1,2\n3,"4\n5', b"a,b\n1,2\n3,4"):
        half = zlib.compressobj(wbits=31)
        report = desk.load(half.compress(cut) + half.flush(zlib.Z_SYNC_FLUSH), TEXT, "in.csv.gz")
        assert [line for line, _ in rejects_of(report)] == [3]
        assert desk.data() == [{"a": "1", "b": "2"}]


def test_damage_in_the_middle_is_a_reject_behind_the_good_events(desk: Desk) -> None:
    packed = bytearray(gzip.compress(_many(20_000)))
    packed[len(packed) // 2 :] = Random(1).randbytes(len(packed) // 2)
    report = desk.load(bytes(packed), WITHOUT_ID)
    *_, (_, reason) = rejects_of(report)  # what the damage unpacked to before it was noticed is rejected, too
    assert "the gzip data is damaged from here on" in reason
    assert report.imported > 1000


def test_garbage_behind_gzip_is_a_reject(desk: Desk) -> None:
    report = desk.load(gzip.compress(b"a,b\n1,2\n", mtime=0) + b"garbage", TEXT)
    assert (report.imported, report.rejected) == (1, 1)


def test_an_old_reject_file_goes_when_there_is_nothing_to_say(desk: Desk) -> None:
    beside = desk.folder / "in.csv.rejects.ndjson"
    assert desk.load("a,b\n1\n", TEXT).rejects == beside
    assert beside.exists()
    assert desk.load("a,b\n1,2\n", TEXT).rejects is None
    assert not beside.exists()


def test_the_reject_file_is_replaced_whole(desk: Desk) -> None:
    first = desk.load("a,b\n1\n2\n3\n", TEXT)
    assert first.rejects is not None
    with first.rejects.open() as reader:
        assert len(rejects_of(desk.load("a,b\n1\n", TEXT))) == 1
        assert len(reader.readlines()) == 3, "whoever reads the old one still sees all of it"
    assert sorted(path.name for path in desk.folder.iterdir()) == ["in.csv", "in.csv.rejects.ndjson"]


def test_rejects_go_where_they_are_told(desk: Desk) -> None:
    there = desk.folder / "elsewhere.ndjson"
    assert desk.load("a,b\n1\n", TEXT, rejects=there).rejects == there
    assert there.exists()


def test_a_folder_that_cannot_be_written_matters_only_when_there_are_rejects(desk: Desk) -> None:
    nowhere = Path("/proc/nowhere/rejects.ndjson")
    assert desk.load("a,b\n1,2\n", TEXT, rejects=nowhere).imported == 1
    with pytest.raises(Misconfigured, match=r"/proc/nowhere/rejects\.ndjson cannot be written .* --rejects PATH"):
        desk.load("a,b\n1,2\n3\n", TEXT, rejects=nowhere)


def test_orders_map_is_complete() -> None:
    """The map of these tests uses every template but the tenant's."""
    assert all(f"\n{key} = " in ORDERS for key in ("stream", "type", "time", "actor", "id"))
