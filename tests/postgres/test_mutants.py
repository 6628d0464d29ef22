"""The mutant gate for the PostgreSQL adapter (T40): each mistake is found by the run that is named for it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing

import psycopg
import pytest

from everlog.app.stores import open_store
from everlog.core.envelope import Append, Appended
from everlog.core.errors import EverlogError
from everlog.store.contract import Store
from everlog.testing.postgres import Server
from tests.concurrency.checker import check
from tests.concurrency.contention import CLIENTS, HOT, contend
from tests.concurrency.workload import SEED, client, logged, run_threads, streams
from tests.postgres import mutants
from tests.postgres.cuts import cut_often
from tests.postgres.kills import crash_often
from tests.postgres.server import empty_database
from tests.postgres.tails import follow

Check = Callable[[Server, str], list[str]]
"""Gives what a short run on an empty database of a server found."""


def contended(server: Server, url: str) -> list[str]:
    return [found.kind for found in contend(HOT, url, seed=SEED, seconds=0.5).violations]


class EitherOf:
    """Two stores as two processes have them: their groups meet at the head and nowhere before."""

    def __init__(self, *stores: Store) -> None:
        self._stores, self._turn = stores, 0

    def append(self, request: Append) -> Appended:
        return self._next().append(request)

    def version_at(self, tenant: str, stream: str) -> int:
        return self._next().version_at(tenant, stream)

    def _next(self) -> Store:
        self._turn += 1
        return self._stores[self._turn % len(self._stores)]


def contended_by_two(server: Server, url: str) -> list[str]:
    with ExitStack() as end:
        both = [end.enter_context(closing(open_store(url))) for _ in range(2)]
        clients = [client(str(number), SEED, streams(HOT.streams)) for number in range(CLIENTS // 4)]
        try:
            history = run_threads(EitherOf(*both), clients, seconds=1.0)
        except EverlogError as error:
            return [str(error)]
        return [found.kind for found in check(history, logged(both[0]))]


def followed(server: Server, url: str) -> list[str]:
    with closing(open_store(url)), psycopg.connect(url, autocommit=True) as session:
        session.execute(mutants.IDENTITY)
    with empty_database() as elsewhere:
        return follow(SEED, url, elsewhere, 1.0).violations


def cut(server: Server, url: str) -> list[str]:
    return cut_often(SEED, 30, server, url).violations


def killed(server: Server, url: str) -> list[str]:
    return crash_often(SEED, 2).violations


GATE: list[tuple[Callable[[pytest.MonkeyPatch], None], Check, str]] = [
    (mutants.check_then_act, contended, "condition broken"),
    (mutants.look_up_before_the_lock, contended_by_two, "PostgreSQL refused it"),
    (mutants.identity_position, followed, "tail missed"),
    (mutants.acknowledge_before_commit, cut, "stored are []"),
    (mutants.acknowledge_before_durable, killed, "acknowledged append lost"),
]


@pytest.mark.parametrize(("mutant", "run", "finds"), GATE, ids=lambda value: getattr(value, "__name__", ""))
def test_the_run_that_is_named_for_a_mistake_finds_it(
    mutant: Callable[[pytest.MonkeyPatch], None],
    run: Check,
    finds: str,
    postgres_server: Server,
    database: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        mutant(patch)
        found = run(postgres_server, database)
    assert any(finds in one for one in found), found
