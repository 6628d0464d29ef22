"""Many writers at few streams, and a checker that knows nothing of everlog judges what they saw (promises P3 to P6).

EVERLOG_SEED repeats the clients' choices; `python -m tests.campaign contention` runs for as long as you like.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from everlog.app.stores import open_store
from everlog.core.envelope import Append, Appended
from everlog.core.errors import WrongExpectedVersion
from everlog.store.contract import Store
from tests.concurrency.checker import check
from tests.concurrency.contention import CASES, CLIENTS, HOT, ON_A_SERVER, Case, contend
from tests.concurrency.workload import SEED, client, exercised, logged, run_threads, streams

SECONDS = 2.0
SECONDS_ON_A_SERVER = 3.0


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_answer_given_under_contention_was_possible(case: Case, tmp_path: Path) -> None:
    possible(case, f"sqlite:///{tmp_path}/log.db", SECONDS)


@pytest.mark.parametrize("case", ON_A_SERVER, ids=str)
def test_every_answer_of_a_server_under_contention_was_possible(case: Case, database: str) -> None:
    possible(case, database, SECONDS_ON_A_SERVER)


def possible(case: Case, url: str, seconds: float) -> None:
    done, violations = contend(case, url, seed=SEED, seconds=seconds)
    print(f"EVERLOG_SEED={SEED} {case}: {dict(done)}")
    assert violations == []
    assert min(done["acknowledged"], done["retries"], done["reads"]) > 0
    assert done["conflicts"] > 0 or case.streams > 1


class CheckThenAct:
    """The bug to find: compare the version first, then append whatever it is by then."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.version_at = store.version_at

    def append(self, request: Append) -> Appended:
        for stream, expect in request.expect.items():
            version = self._store.version_at(request.tenant, stream)
            if not expect.holds(version):
                raise WrongExpectedVersion(stream, str(expect), version)
        return self._store.append(replace(request, expect={}))


def test_a_store_that_checks_first_and_acts_later_is_found_out(tmp_path: Path) -> None:
    found_out(f"sqlite:///{tmp_path}/log.db")


def test_a_server_that_checks_first_and_acts_later_is_found_out(database: str) -> None:
    found_out(database)


def found_out(url: str) -> None:
    clients = [client(str(number), SEED, streams(HOT.streams)) for number in range(CLIENTS)]
    with closing(open_store(url)) as store:
        history = run_threads(CheckThenAct(store), clients, seconds=0.5)
        violations = check(history, logged(store))
    print(f"EVERLOG_SEED={SEED} {dict(exercised(history))}, {len(violations)} violations")
    assert {"condition broken", "retry refused"} <= {violation.kind for violation in violations}
