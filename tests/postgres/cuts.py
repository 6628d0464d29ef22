"""Appends whose COMMIT is cut off, and what they answer (T05).

A case is one append (or a few at once, or a joined transaction) over a wire that is cut once: before COMMIT is sent,
right after, or after the server has answered. Where it can connect again the store finds out by itself; where nobody
gets through it says that it does not know, and the same ids are safe to send again. Every case is then compared with
what lies in the database, which is asked by another way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import NamedTuple
from uuid import UUID

import psycopg

from everlog.app.stores import open_store
from everlog.core.envelope import Append, Appended, NewEvent
from everlog.core.errors import EverlogError, OutcomeUnknown, StoreUnavailable
from everlog.core.expect import Exactly, Match, NoneMatching, NoStream
from everlog.core.ids import derived_id
from everlog.store.contract import Store, Verdict
from everlog.testing.postgres import Server
from tests.postgres.wire import MOMENTS, Cut, Point, Wire, wire_to

TENANT = "acme"
IMPATIENT_SECONDS = 0.3
UNREACHABLE_EVERY = 40
THEIRS = "CREATE TABLE theirs (id uuid PRIMARY KEY)"
INSERT_THEIRS = "INSERT INTO theirs VALUES (%s) ON CONFLICT DO NOTHING"  # a block that is run again must bear it
STORED = """SELECT uuid_send(id), position, version FROM everlog_event WHERE id = ANY(%s)"""
EVERYTHING = """SELECT count(*), count(DISTINCT id), max(position), (SELECT position FROM everlog_log),
    (SELECT count(*) FROM theirs), (SELECT count(*) FROM theirs JOIN everlog_event USING (id)) FROM everlog_event"""
SENDS = ("alone", "alone", "at once", "by threads", "joined")


class Report(NamedTuple):
    cuts: Counter[str]
    answers: Counter[str]
    violations: list[str]


def cut_often(seed: str, cuts: int, server: Server, url: str) -> Report:
    """So many cases on the empty database at `url` of the server."""
    database = url.rpartition("/")[2]
    with ExitStack() as end:
        admin = end.enter_context(psycopg.connect(url, autocommit=True))
        wire = end.enter_context(wire_to(server))
        patient = end.enter_context(closing(open_store(wire.url(database))))
        impatient = end.enter_context(closing(open_store(wire.url(database, lock_timeout=IMPATIENT_SECONDS))))
        admin.execute(THEIRS)
        run = Run(seed, wire, wire.url(database), admin, patient, impatient)
        for number in range(cuts):
            run.case(number)
        stored, ids, last, head, theirs, together = admin.execute(EVERYTHING).fetchone() or ()
        if not stored == ids == last == head:
            run.violations.append(f"{stored} events with {ids} ids, the last at {last}, the head at {head}")
        if theirs != together or theirs != run.answers["joined"]:
            run.violations.append(f"{theirs} rows of theirs, {together} with their event, {run.answers['joined']} told")
        run.violations += [f"{one.check}: {one.seen}" for one in patient.examine(deep=True) if one.level == "problem"]
        return Report(wire.cut, run.answers, run.violations)


@dataclass
class Run:
    seed: str
    wire: Wire
    url: str
    admin: psycopg.Connection
    patient: Store
    impatient: Store
    answers: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random, self._ids = Random(self.seed), count()
        self._versions: Counter[str] = Counter()

    def case(self, number: int) -> None:
        random = self._random
        unreachable = number % UNREACHABLE_EVERY == UNREACHABLE_EVERY - 1
        at: Point = "head" if random.random() < 0.25 else "commit"
        cut = Cut(random.choice(MOMENTS), at, unreachable)
        send = random.choice(SENDS)
        requests = [self._request() for _ in range(1 if send in ("alone", "joined") else 4)]
        self.wire.cut_next(cut)
        try:
            verdicts = self._joined(requests[0], cut) if send == "joined" else self._appended(send, requests, cut)
        except EverlogError as error:
            verdicts = [error]
        if self.wire.armed:
            self.violations.append(f"case {number}: {send} was not cut {cut}")
        self.wire.reachable = True
        told = [self._judge(request, verdict) for request, verdict in zip(requests, verdicts, strict=True)]
        if send in ("alone", "at once") and cut.at == "commit" and cut.moment != "sent":
            told += [self._found_out(verdict, cut) for verdict in verdicts]
        self.violations += [f"case {number}, {send}, {cut}: {wrong}" for wrong in told if wrong]

    def _appended(self, send: str, requests: Sequence[Append], cut: Cut) -> Sequence[Verdict]:
        store = self.impatient if cut.unreachable else self.patient
        verdicts = self._sent(send, requests, store)
        if not cut.unreachable:
            return verdicts
        for verdict in verdicts:
            self.answers[type(verdict).__name__ if isinstance(verdict, EverlogError) else "answered early"] += 1
            if not isinstance(verdict, OutcomeUnknown | StoreUnavailable):
                self.violations.append(f"cut {cut} with nobody to ask the answer was {verdict!r}")
        if not any(isinstance(verdict, OutcomeUnknown) for verdict in verdicts):
            self.violations.append(f"{send} {cut}: a connection was lost, and all that was said is {verdicts}")
        self.wire.reachable = True
        return self._sent(send, requests, self.patient)

    def _sent(self, send: str, requests: Sequence[Append], store: Store) -> Sequence[Verdict]:
        if send == "by threads":
            with ThreadPoolExecutor(len(requests)) as pool:
                return list(pool.map(lambda request: store.append_each([request])[0], requests))
        return store.append_each(requests)

    def _joined(self, request: Append, cut: Cut) -> Sequence[Verdict]:
        """The caller's block, which is run again as a whole while its outcome is open."""
        for _ in range(3):
            try:
                with psycopg.connect(self.url, autocommit=True) as theirs, self.patient.join(theirs) as joining:
                    theirs.execute(INSERT_THEIRS, (UUID(bytes=request.events[0].id),))
                    joining.append(request)
                    answers = joining.flush()
            except (OutcomeUnknown, StoreUnavailable) as error:
                self.answers[f"{type(error).__name__} joined"] += 1
                expected = OutcomeUnknown if cut.at == "commit" else StoreUnavailable
                if not isinstance(error, expected):
                    self.violations.append(f"a joined transaction cut {cut} said {error!r}")
                self.wire.reachable = True
            else:
                self.answers["joined"] += 1
                return list(answers)
        raise StoreUnavailable("a joined transaction failed three times, and was cut once")

    def _request(self) -> Append:
        """One or two events to a stream, under each kind of condition."""
        number, condition = next(self._ids), self._random.choice(("anything", "exactly", "new", "boundary"))
        # Requests of one case may come in any order, so no two of them count on the version of the same stream.
        stream = f"{condition}-{number % 8 if condition in ('anything', 'exactly') else number}"
        tag = f"tag-{number}"
        events = tuple(
            # The payload says COMMIT too: the wire must not be taken in by it.
            NewEvent(derived_id(TENANT, self.seed, number, part), stream, "seat.taken", 1, b'{"COMMIT":1}', (tag,))
            for part in range(self._random.choice((1, 1, 2)))
        )
        match condition:
            case "exactly":
                version = self._versions[stream]
                self._versions[stream] += len(events)
                return Append(TENANT, events, {stream: Exactly(version)})
            case "new":
                return Append(TENANT, events, {stream: NoStream()})
            case "boundary":
                return Append(TENANT, events, boundary=NoneMatching((Match(tags=(tag,)),)))
        return Append(TENANT, events)

    def _judge(self, request: Append, verdict: Verdict) -> str | None:
        """An answer must say where exactly these events lie, and they must lie there once."""
        if not isinstance(verdict, Appended):
            return f"answered {verdict!r}"
        self.answers["replayed" if verdict.replayed else "stored"] += 1
        ids = [event.id for event in request.events]
        rows = self.admin.execute(STORED, ([UUID(bytes=id) for id in ids],)).fetchall()
        stored = {row[0]: (row[1], row[2]) for row in rows}
        told = {id: tuple(place) for id, place in zip(ids, verdict.places, strict=True)}
        return None if len(rows) == len(ids) and stored == told else f"told {told}, stored are {rows}"

    def _found_out(self, verdict: Verdict, cut: Cut) -> str | None:
        """Whether it says truly if the first attempt had stored it."""
        # In one flush a guard may look at an older state, and refuse: then it is the second attempt that stores.
        stored_first = cut.moment == "answered" and not self.wire.refused
        if isinstance(verdict, Appended) and verdict.replayed == stored_first:
            return None
        return f"the first attempt was cut {cut.moment} its commit, the answer is {verdict!r}"
