"""Whatever is done to a store, it answers as a plain list of events would (promises P2 to P5, P20, P30).

EVERLOG_EXAMPLES asks for more than the suite's; `python -m tests.campaign model` counts what it exercised.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from hypothesis.database import DirectoryBasedExampleDatabase
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from everlog.core.envelope import Append, Appended, StoredSnapshot
from everlog.core.errors import EverlogError, WrongExpectedVersion
from everlog.store.contract import Release, Verdict
from everlog.store.query import Filter
from tests.model import inputs
from tests.model.backends import Backend, BothBackends, SqliteBackend, salts_of_zeros, small_pages
from tests.model.inputs import ALTERATIONS, HOUR, NOON, Again, Draft
from tests.model.plain_log import PlainLog, Refusal

EXAMPLES = int(os.environ.get("EVERLOG_EXAMPLES", "250"))
FOUND = Path(__file__).parents[2] / ".hypothesis" / "examples"

settings.register_profile(
    "suite",
    max_examples=EXAMPLES,
    stateful_step_count=40,
    deadline=None,
    database=DirectoryBasedExampleDatabase(FOUND),
    report_multiple_bugs=False,  # shortening one failure takes a minute
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)

# A run that found nothing must have done each of these.
EXERCISED = (
    "stored",
    "replayed",
    "invalid_input",
    "wrong_expected_version",
    "append_condition_failed",
    "idempotency_conflict",
    "events read",
    "snapshots found",
    "snapshots damaged",
    "payloads released",
    "clock set back",
    "opened again",
)

MakeStore = Callable[[], Backend]


class Clock:
    """Stands still until it is moved, either way."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> int:
        return self.now


class StoreMachine(RuleBasedStateMachine):
    """Does the same to a store and to a `PlainLog`, and compares; `done` counts what came of it."""

    def __init__(self, make_store: MakeStore, done: Counter[str]) -> None:
        super().__init__()
        self.clock, self.done = Clock(), done
        self.backend = make_store()
        self.store = self.backend.open(self.clock)
        self.first = self.store.head()
        self.model = PlainLog()
        self.requests: list[Append] = []
        self.ids = 0

    def teardown(self) -> None:
        self.store.close()
        self.backend.remove()

    # Appending

    @rule(draft=inputs.drafts)
    def append(self, draft: Draft) -> None:
        self._append(self._request(draft))

    @precondition(lambda self: self.requests)
    @rule(again=inputs.again)
    def append_again(self, again: Again) -> None:
        self._append(self._request(again))

    @precondition(lambda self: self.requests)
    @rule(one=st.integers(0, 9), other=st.integers(0, 9))
    def append_two_earlier_requests_as_one(self, one: int, other: int) -> None:
        first, second = self._earlier(one), self._earlier(other)
        self._append(Append(first.tenant, (*first.events, *second.events)))

    @rule(
        drawn=st.lists(inputs.drafts | inputs.again, min_size=2, max_size=5),
        twice=st.booleans(),
    )
    def append_each(self, drawn: Sequence[Draft | Again], twice: bool) -> None:
        group = [self._request(each) for each in drawn if self.requests or isinstance(each, Draft)]
        group += group[:1] * twice
        verdicts = self.store.append_each(group)
        assert len(verdicts) == len(group)
        for request, verdict in zip(group, verdicts, strict=True):
            self._agree(request, verdict)

    def _append(self, request: Append) -> None:
        verdict: Verdict
        try:
            verdict = self.store.append(request)
        except EverlogError as error:
            verdict = error
        self._agree(request, verdict)

    def _agree(self, request: Append, verdict: Verdict) -> None:
        expected: Appended | Refusal = self.model.append(request, self.clock.now)
        assert (verdict if isinstance(verdict, Appended) else type(verdict)) == expected
        if isinstance(verdict, WrongExpectedVersion):
            assert verdict.actual == self.model.version(request.tenant, verdict.stream)
            assert not request.expect[verdict.stream].holds(verdict.actual)
        if isinstance(verdict, Appended):
            self.done["replayed" if verdict.replayed else "stored"] += 1
        else:
            self.done[verdict.code] += 1

    def _request(self, drawn: Draft | Again) -> Append:
        if isinstance(drawn, Again):
            return ALTERATIONS[drawn.alteration](self._earlier(drawn.back), self._new_id())
        version = partial(self.model.version, drawn.tenant)
        request = inputs.completed(drawn, self._new_id, version, len(self.model.kept))
        self.requests.append(request)
        return request

    def _earlier(self, back: int) -> Append:
        return self.requests[-1 - back % len(self.requests)]

    def _new_id(self) -> bytes:
        self.ids += 1
        return self.ids.to_bytes(16, "big")

    # Reading

    @rule(
        where=inputs.filters,
        after=st.just(0) | inputs.anywhere,
        upto=st.none() | inputs.anywhere,
        backwards=st.booleans(),
        limit=st.none() | st.integers(0, 7),
    )
    def read(self, where: Filter, after: int, upto: int | None, backwards: bool, limit: int | None) -> None:
        after, upto = self._place(after), None if upto is None else self._place(upto)
        found = list(self.store.read(where, after=after, upto=upto, backwards=backwards, limit=limit))
        assert found == self.model.read(where, after=after, upto=upto, backwards=backwards, limit=limit)
        self.done["events read"] += len(found)

    @rule(where=inputs.filters, backwards=st.booleans(), draft=inputs.drafts)
    def read_while_appending(self, where: Filter, backwards: bool, draft: Draft) -> None:
        """A read sees the log as it was when the read began."""
        begun, expected = self.store.read(where, backwards=backwards), self.model.read(where, backwards=backwards)
        first = next(begun, None)
        self._append(self._request(draft))
        assert ([] if first is None else [first, *begun]) == expected

    @rule(
        tenant=inputs.tenants,
        stream=inputs.streams,
        after=inputs.versions,
        upto=st.none() | inputs.versions,
        backwards=st.booleans(),
    )
    def read_stream(self, tenant: str, stream: str, after: int, upto: int | None, backwards: bool) -> None:
        found = list(self.store.read_stream(tenant, stream, after=after, upto=upto, backwards=backwards))
        assert found == self.model.read_stream(tenant, stream, after=after, upto=upto, backwards=backwards)

    @rule(tenant=inputs.tenants, places=st.lists(inputs.anywhere, max_size=6))
    def find(self, tenant: str, places: Sequence[int]) -> None:
        ids = [kept.new.id for place in places for kept in self.model.kept if kept.position == self._place(place)]
        ids.append(self._new_id())
        assert self.store.find(tenant, ids) == self.model.find(tenant, ids)

    @rule(tenant=st.none() | inputs.tenants, category=st.none() | inputs.categories)
    def list_streams(self, tenant: str | None, category: str | None) -> None:
        assert list(self.store.streams(tenant, category)) == self.model.streams(tenant, category)

    @rule(
        tenant=inputs.tenants,
        stream=inputs.streams,
        position=st.none() | inputs.anywhere,
        recorded_at=st.none() | inputs.hours,
    )
    def version_at(self, tenant: str, stream: str, position: int | None, recorded_at: int | None) -> None:
        position = None if position is None else self._place(position)
        found = self.store.version_at(tenant, stream, position=position, recorded_at=recorded_at)
        assert found == self.model.version_at(tenant, stream, position=position, recorded_at=recorded_at)

    def _place(self, anywhere: int) -> int:
        """A position in the log, 0, or the first one behind it."""
        return anywhere % (len(self.model.kept) + 2)

    # Snapshots

    @rule(snapshot=inputs.snapshots)
    def save_snapshot(self, snapshot: StoredSnapshot) -> None:
        self.store.snapshots.save(snapshot)
        self.model.save(snapshot)

    @precondition(lambda self: self.model.snapshots)
    @rule(number=st.integers(0, 20), beyond=st.integers(-1, 3), occurred_at=st.none() | inputs.hours)
    def latest_snapshot(self, number: int, beyond: int, occurred_at: int | None) -> None:
        tenant, stream, fingerprint, version, *_ = self._saved(number)
        version += beyond
        found = self.store.snapshots.latest(tenant, stream, fingerprint, version=version, occurred_at=occurred_at)
        assert found == self.model.latest(tenant, stream, fingerprint, version=version, occurred_at=occurred_at)
        self.done["snapshots found"] += found is not None

    @precondition(lambda self: self.model.snapshots)
    @rule(number=st.integers(0, 20))
    def damage_snapshot(self, number: int) -> None:
        snapshot = self._saved(number)
        self.backend.damage(snapshot)
        self.model.damaged.add(snapshot[:4])
        self.done["snapshots damaged"] += 1

    @rule(
        tenant=st.none() | inputs.tenants,
        stream=st.none() | inputs.streams,
        older_than_version=st.none() | inputs.versions,
    )
    def delete_snapshots(self, tenant: str | None, stream: str | None, older_than_version: int | None) -> None:
        deleted = self.store.snapshots.delete(tenant, stream, older_than_version=older_than_version)
        assert deleted == self.model.delete(tenant, stream, older_than_version)

    def _saved(self, number: int) -> StoredSnapshot:
        saved = list(self.model.snapshots.values())
        return saved[number % len(saved)]

    # Releasing payloads, time, and opening again

    @rule(places=st.lists(inputs.anywhere, max_size=4), erasure=st.booleans())
    def release(self, places: Sequence[int], erasure: bool) -> None:
        positions = tuple(map(self._place, places))
        released = self.store.release(Release(positions, "erasure" if erasure else "archive", "as asked"))
        assert released == self.model.release(positions)
        self.done["payloads released"] += released

    @rule(hours=st.integers(-30, 30), micros=st.integers(-1, 1))
    def clock_jumps(self, hours: int, micros: int) -> None:
        self.clock.now += hours * HOUR + micros
        self.done["clock set back"] += self.clock.now < self.model.recorded_at

    @rule()
    def open_again(self) -> None:
        self.store.close()
        self.store = self.backend.open(self.clock)
        self.done["opened again"] += 1

    @rule()
    def examine(self) -> None:
        assert [found for found in self.store.examine(deep=True) if found.level == "problem"] == []

    # After every step

    @invariant()
    def the_head_is_the_last_event(self) -> None:
        assert self.store.head() == self.model.head(self.first)

    @invariant()
    def the_log_is_what_was_appended(self) -> None:
        log = list(self.store.read(Filter(tenant=None)))
        assert [event.position for event in log] == list(range(1, len(log) + 1))
        assert [event.recorded_at for event in log] == sorted(event.recorded_at for event in log)
        assert log == self.model.read(Filter(tenant=None))

    @invariant()
    def the_snapshots_are_those_saved(self) -> None:
        kept = [snapshot[:4] for snapshot in self.store.snapshots.all(None)]
        assert kept == sorted(self.model.snapshots)


def run_model(make_store: MakeStore, examples: int, seed: str | None = None) -> Counter[str]:
    """Raises what the first difference raised, shortened by Hypothesis; else says what was exercised."""
    done: Counter[str] = Counter()

    class Machine(StoreMachine):
        def __init__(self) -> None:
            super().__init__(make_store, done)

    with small_pages(), salts_of_zeros():
        run_state_machine_as_test(
            Machine if seed is None else seeded(seed)(Machine),
            settings=settings(settings.get_profile("suite"), max_examples=examples),
        )
    return done


@pytest.mark.parametrize(
    ("make_store", "examples"),
    [
        pytest.param(SqliteBackend, EXAMPLES, id="sqlite"),
        pytest.param(BothBackends, EXAMPLES // 5, id="sqlite and postgres"),  # round trips to a server take their time
    ],
)
def test_a_store_answers_as_a_plain_list_of_events_would(make_store: MakeStore, examples: int) -> None:
    done = run_model(make_store, examples, os.environ.get("EVERLOG_SEED"))
    print(dict(done))
    assert examples < EXAMPLES or {name for name in EXERCISED if not done[name]} == set()
