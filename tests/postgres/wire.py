"""A wire between clients and a server that is cut at one message: a proxy that reads what PostgreSQL's clients say.

Messages are taken apart: in a pipeline COMMIT is one of many (its text came with Parse, it happens at Execute), and
a statement that is a transaction by itself commits with Sync. Looking for the word in the bytes would find it in an
event's payload, and miss both.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from everlog.testing.postgres import Server

Moment = Literal["before", "sent", "answered"]
MOMENTS: tuple[Moment, ...] = ("before", "sent", "answered")
Point = Literal["commit", "head"]

WHOLE_APPEND = "WITH moved"  # takes the head, inserts and commits: each moment worth cutting at is this one

INSERT = "INSERT INTO everlog_event"
HEAD = "UPDATE everlog_log SET"

_NEGOTIATIONS = {80877103, 80877104}  # whether the server speaks TLS or GSSAPI: asked before the session is


class Cut(NamedTuple):
    """`before` a message reaches the server, right after it was `sent`, or when the server has `answered`, whose answer
    is dropped. The message is what commits, or what takes the head. `unreachable`: and nobody gets through afterwards,
    until told otherwise."""

    moment: Moment
    at: Point = "commit"
    unreachable: bool = False


class Wire:
    """`cut` counts what was cut, by moment. Clients connect to `port` of 127.0.0.1 without encryption."""

    def __init__(self, server: Server) -> None:
        self._server = str(server.socket / f".s.PGSQL.{server.port}")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.cut: Counter[str] = Counter()
        self.refused = False  # whether the answer that was dropped said that nothing is stored
        self.reachable = True
        self._armed: Cut | None = None
        self._arming = threading.Lock()
        self._pairs: set[_Pair] = set()
        self._accepting = threading.Thread(target=self._accept, name="wire", daemon=True)
        self._accepting.start()

    def url(self, database: str, **options: object) -> str:
        more = "".join(f"&{name}={value}" for name, value in options.items())
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}?sslmode=disable&gssencmode=disable{more}"

    def cut_next(self, cut: Cut) -> None:
        """Arm one cut, for whichever client comes to that point next."""
        self._armed = cut

    @property
    def armed(self) -> bool:
        return self._armed is not None

    def take(self, point: Point) -> Cut | None:
        """The cut that is due at this point; it is due once."""
        with self._arming:
            cut = self._armed
            if cut is None or cut.at != point:
                return None
            self._armed, self.refused = None, False
            self.reachable = not cut.unreachable
            self.cut[f"{cut.moment} {cut.at}"] += 1
            return cut

    def close(self) -> None:
        self.reachable = False
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()
        for pair in list(self._pairs):
            pair.shut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if not self.reachable:
                client.close()
                continue
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(self._server)
            except OSError:
                client.close()
                server.close()
                continue
            pair = _Pair(self, client, server)
            self._pairs.add(pair)
            for pump in (pair.forward, pair.back):
                threading.Thread(target=self._pump, args=(pair, pump), name="wire", daemon=True).start()

    def _pump(self, pair: _Pair, pump: Callable[[], None]) -> None:
        with contextlib.suppress(OSError):
            pump()
        pair.shut()
        with self._arming:
            pair.pumps -= 1
            ended = not pair.pumps
        if ended:  # not before: the other pump may be about to use the number of a socket that is closed
            pair.client.close()
            pair.server.close()
            self._pairs.discard(pair)


@contextlib.contextmanager
def wire_to(server: Server) -> Iterator[Wire]:
    wire = Wire(server)
    try:
        yield wire
    finally:
        wire.close()


@dataclass(eq=False)
class _Pair:
    """A client's session with the server, and what the messages so far have told."""

    wire: Wire
    client: socket.socket
    server: socket.socket
    statements: dict[bytes, str] = field(default_factory=dict)
    portals: dict[bytes, str] = field(default_factory=dict)
    last: str = ""  # what was executed last
    in_transaction: bool = False
    dropping: bool = False
    pumps: int = 2

    def shut(self) -> None:
        """Closing alone would wake nobody who waits for a socket."""
        for one in (self.client, self.server):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def forward(self) -> None:
        """From the client to the server."""
        for ready in _startup(self.client):
            passed = bytearray()
            for message in ready:
                cut = self.wire.take(point) if (point := self._point(message)) else None
                if cut is not None and cut.moment == "before":
                    self.server.sendall(passed)
                    return
                passed += message
                if cut is not None and cut.moment == "sent":
                    self.server.sendall(passed)
                    return
                self.dropping = self.dropping or cut is not None
            self.server.sendall(passed)

    def back(self) -> None:
        """From the server to the client, until it has answered what was to be cut."""
        for ready in _messages(self.server, b""):
            if not self.dropping:
                self.client.sendall(b"".join(ready))
                continue
            self.wire.refused = self.wire.refused or any(message[:1] == b"E" for message in ready)
            if any(_is_done(message) for message in ready):
                return

    def _point(self, message: bytes) -> Point | None:
        """What a message does that matters here."""
        if message[:1] == b"S":  # Sync
            inserted, self.last = INSERT in self.last, ""
            return "commit" if inserted and not self.in_transaction else None
        statement = self._executed(message)
        if statement is None:
            return None
        self.last = statement.lstrip()
        match self.last.partition(" ")[0].rstrip(";"):
            case "BEGIN":
                self.in_transaction = True
            case "ROLLBACK":
                self.in_transaction = False
            case "COMMIT":
                self.in_transaction = False
                return "commit"
        return "head" if HEAD in self.last else None

    def _executed(self, message: bytes) -> str | None:
        """The statement a message executes; what prepares one is remembered."""
        kind, body = message[:1], message[5:]
        match kind:
            case b"Q":
                return body[:-1].decode()
            case b"P":
                name, query, _ = body.split(b"\0", 2)
                self.statements[name] = query.decode()
            case b"B":
                portal, name, _ = body.split(b"\0", 2)
                self.portals[portal] = self.statements.get(name, "")
            case b"E":
                return self.portals.get(body.partition(b"\0")[0])
        return None


def _is_done(message: bytes) -> bool:
    """Committed, refused, or answered as far as was asked for: then whatever was asked has been done."""
    tag = message[5:].partition(b"\0")[0] if message[:1] == b"C" else b""
    return message[:1] in (b"E", b"Z") or tag == b"COMMIT"


def _startup(client: socket.socket) -> Iterator[list[bytes]]:
    """Messages as they come: the first ones have a length and no type."""
    held = b""
    while True:
        while len(held) < 8 or len(held) < (size := struct.unpack_from(">I", held)[0]):
            received = client.recv(65536)
            if not received:
                return
            held += received
        first, held = held[:size], held[size:]
        yield [first]
        if struct.unpack_from(">I", first, 4)[0] not in _NEGOTIATIONS:
            break
    yield from _messages(client, held)


def _messages(source: socket.socket, held: bytes) -> Iterator[list[bytes]]:
    """Whole messages, as many as have come, until the sender has gone."""
    while True:
        ready, at = [], 0
        while len(held) - at >= 5 and len(held) - at >= (size := 1 + struct.unpack_from(">I", held, at + 1)[0]):
            ready.append(held[at : at + size])
            at += size
        held = held[at:]
        if ready:
            yield ready
        received = source.recv(65536)
        if not received:
            return
        held += received
