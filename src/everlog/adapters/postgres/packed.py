"""Values in PostgreSQL's binary format, packed here, and a statement that takes them as they are.

The driver's own way, which looks up how to send each value of each call, costs more than the rest of an append.
"""

import re
import struct
from collections.abc import Iterable, Sequence
from itertools import chain, count, repeat

from psycopg import Connection, DatabaseError, OperationalError
from psycopg.abc import Buffer
from psycopg.adapt import Dumper
from psycopg.errors import lookup
from psycopg.pq import DiagnosticField, ExecStatus, Format
from psycopg.pq.abc import PGresult

_header = struct.Struct(">iiIii").pack
_length = struct.Struct(">i").pack
_NULL = _length(-1)
_int8 = struct.Struct(">iq").pack
_number = struct.Struct(">q").pack
_UUID_LENGTH = _length(16)
_TEXT, _INT8, _BYTEA, _UUID = 25, 20, 17, 2950


class TextArray(bytes):
    """`text[]`"""


class Int8Array(bytes):
    """`bigint[]`"""


class BytesArray(bytes):
    """`bytea[]`"""


class UuidArray(bytes):
    """`uuid[]`"""


class Int8Value(bytes):
    """`bigint`"""


def int8(number: int) -> Int8Value:
    return Int8Value(_number(number))


def texts(items: Sequence[str | None]) -> TextArray:
    return TextArray(_array(_TEXT, len(items), map(_text, items)))


def int8s(items: Sequence[int | None]) -> Int8Array:
    return Int8Array(_array(_INT8, len(items), [_NULL if item is None else _int8(8, item) for item in items]))


def blobs(items: Sequence[bytes | None]) -> BytesArray:
    return BytesArray(_array(_BYTEA, len(items), map(_blob, items)))


def uuids(items: Sequence[bytes | None]) -> UuidArray:
    """From 16 bytes each."""
    packed = [_NULL if item is None else _UUID_LENGTH + item for item in items]
    return UuidArray(_array(_UUID, len(items), packed))


def _array(oid: int, count: int, packed: Iterable[bytes]) -> bytes:
    if not count:
        return struct.pack(">iiI", 0, 0, oid)
    return b"".join(chain(repeat(_header(1, 1, oid, count, 1), 1), packed))


def _text(item: str | None) -> bytes:
    return _NULL if item is None else _blob(item.encode())


def _blob(item: bytes | None) -> bytes:
    return _NULL if item is None else _length(len(item)) + item


_OIDS: dict[type, int] = {
    Int8Value: _INT8, TextArray: 1009, Int8Array: 1016, BytesArray: 1001, UuidArray: 2951, bytes: _BYTEA,
}  # fmt: skip


class _Packed(Dumper):
    format = Format.BINARY

    def dump(self, obj: bytes) -> Buffer:
        return obj


def register(connection: Connection) -> None:
    """Teach a connection to send these arrays as they are."""
    for kind, oid in _OIDS.items():
        if kind is not bytes:
            connection.adapters.register_dumper(kind, type(f"{kind.__name__}Dumper", (_Packed,), {"oid": oid}))


def prepare_as(connection: Connection, name: bytes, sql: str, example: Sequence[bytes]) -> None:
    """Prepare a statement with `%s` for values that are of the types of the example; raises what psycopg raises."""
    numbers = count(1)
    numbered = re.sub("%s", lambda _: f"${next(numbers)}", sql)
    prepared = connection.pgconn.prepare(name, numbered.encode(), [_OIDS[type(value)] for value in example])
    _checked(prepared, ExecStatus.COMMAND_OK)


def run_prepared(connection: Connection, name: bytes, values: Sequence[bytes]) -> list[int] | None:
    """Run it, outside of a transaction, and give its row of `bigint`, if any; raises what psycopg raises."""
    binary = [Format.BINARY] * len(values)
    result = connection.pgconn.exec_prepared(name, values, binary, Format.BINARY)
    _checked(result, ExecStatus.TUPLES_OK)
    if not result.ntuples:
        return None
    return [int.from_bytes(result.get_value(0, column) or b"", "big") for column in range(result.nfields)]


def _checked(result: PGresult, hoped: ExecStatus) -> None:
    if result.status == hoped:
        return
    state, said = result.error_field(DiagnosticField.SQLSTATE), result.error_message.decode(errors="replace")
    if state is None:  # no server said it
        raise OperationalError(said)
    try:
        kind = lookup(state.decode())
    except KeyError:
        kind = DatabaseError
    raise kind(said)
