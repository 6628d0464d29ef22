"""Mistakes somebody could make in the PostgreSQL adapter, each as small as its author would have made it (T40)."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from everlog.adapters.postgres import append, connections
from everlog.adapters.postgres.append import PostgresGround
from everlog.adapters.postgres.store import PostgresStore
from everlog.core.clock import Clock
from everlog.core.envelope import Append, Appended, Head
from everlog.core.errors import WrongExpectedVersion
from everlog.store.contract import Inline, Verdict
from everlog.store.prepare import PreparedAppend
from everlog.store.verdicts import Placed

Patch = pytest.MonkeyPatch

STORE = "everlog.adapters.postgres.store"


def check_then_act(patch: Patch) -> None:
    """1: compare the version, then append behind whatever it is by then."""
    append_it = PostgresStore.append

    def check_first(self: PostgresStore, request: Append) -> Appended:
        for stream, expect in request.expect.items():
            version = self.version_at(request.tenant, stream)
            if not expect.holds(version):
                raise WrongExpectedVersion(stream, str(expect), version)
        return append_it(self, replace(request, expect={}))

    patch.setattr(PostgresStore, "append", check_first)


def look_up_before_the_lock(patch: Patch) -> None:
    """1, where the database would have helped: what the group asks is answered before the head is locked."""
    look_up, early = PostgresGround.look_up, threading.local()

    def look_up_first(
        connection: psycopg.Connection, log_id: bytes, requests: Sequence[PreparedAppend], *rest: Any, **more: Any
    ) -> tuple[list[Verdict], int]:
        early.found = look_up(PostgresGround(connection, 0), requests, {})
        return append.append_under_lock(connection, log_id, requests, *rest, **more)

    patch.setattr(f"{STORE}.append_under_lock", look_up_first)
    patch.setattr(PostgresGround, "look_up", lambda self, requests, known: early.found)


IDENTITY = "CREATE SEQUENCE everlog_identity CACHE 1 INCREMENT 1000"


def identity_position(patch: Patch) -> None:
    """2: positions come from a sequence, which nobody waits for, and readers go by the greatest they see."""
    numbered = """SELECT nextval('everlog_identity'), greatest(recorded_at, %s), inline, format, closed, log_id
        FROM everlog_log"""

    def as_numbered(self: PostgresGround, placed: Sequence[Placed], recorded_at: int) -> None:
        self._connection.execute(append._INSERT, append._packed(placed, 0))

    patch.setattr(append, "_LOCK", numbered)
    patch.setattr(append, "_MOVE", "SELECT %s")
    patch.setattr(PostgresGround, "write", as_numbered)
    patch.setattr(f"{STORE}.tells_versions", lambda requests: False)

    def greatest(self: PostgresStore) -> Head:
        last = "(SELECT coalesce(max(position), 0) FROM everlog_event)"
        return Head(*self._connections.rows(f"SELECT {last}, recorded_at, log_id, incarnation FROM everlog_log")[0])

    patch.setattr(PostgresStore, "head", greatest)


def acknowledge_before_commit(patch: Patch) -> None:
    """4: the answer is given once COMMIT is on its way, whatever becomes of it."""

    def answer_early(
        connection: psycopg.Connection,
        log_id: bytes,
        requests: Sequence[PreparedAppend],
        clock: Clock,
        inline: Inline | None,
        *,
        pooled: bool,
    ) -> tuple[list[Verdict], int]:
        connection.execute("BEGIN")
        group = append.open_group(connection, log_id, clock, inline)
        verdicts = group.add(requests)
        append.close_group(connection, group)
        with suppress(psycopg.OperationalError):
            connection.execute("COMMIT")
        return verdicts, group.size

    patch.setattr(f"{STORE}.tells_versions", lambda requests: False)
    patch.setattr(f"{STORE}.append_under_lock", answer_early)


def acknowledge_before_durable(patch: Patch) -> None:
    """4, as a setting: COMMIT answers before the disk has."""
    configure = connections._configure_writer

    def hurry(connection: psycopg.Connection, *rest: Any) -> None:
        configure(connection, *rest)
        connection.execute("SET synchronous_commit = off")

    patch.setattr(connections, "_configure_writer", hurry)
