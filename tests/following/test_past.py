"""The whole system at a moment (S15): read models and aggregates as they were, and what differs between two moments."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from everlog import (
    AtPosition,
    AtVersion,
    Decider,
    Fold,
    InvalidInput,
    Log,
    OccurredAt,
    Platform,
    Recorded,
    RecordedAt,
    SubscriptionFailed,
    processor,
)
from everlog.app import rerun
from everlog.app.past import Entity, EntityChange, Past
from everlog.core.at import At
from everlog.core.clock import micros, moment
from everlog.testing.conformance import SettableClock
from tests.following.parts import Counted, Noted, append_many, tally

TENANTS = ("acme", "acme-2", "globex")


def _evolve(total: int, event: Counted) -> int:
    return total + event.n


def _decide(command: int, total: int) -> list[Counted]:
    return [Counted("a", command)]


class World:
    """A log of three tenants over many moments, some events claimed to have occurred at another time."""

    def __init__(self, log: Log, platform: Platform, fold: Fold[int], decider: Decider[int, int, Counted]) -> None:
        self.log, self.platform, self.fold, self.decider = log, platform, fold, decider
        self.loader = log.tenant("acme").scope.loader(decider)

    def past(self, tenant: str | None) -> Past:
        return Past(self.log.store, self.platform.types, tenant)

    def events(self, tenant: str | None, at: At | None) -> Iterator[Recorded[Counted]]:
        """What had happened by then, by looking at every event."""
        for e in self.log.admin().events(Counted):
            until = {
                AtPosition: lambda e=e: e.position <= at.position,  # type: ignore[misc, union-attr]
                RecordedAt: lambda e=e: e.recorded_at <= at.moment,  # type: ignore[misc, union-attr]
                OccurredAt: lambda e=e: e.occurred_at <= at.moment,  # type: ignore[misc, union-attr]
                type(None): lambda: True,
            }[type(at)]
            if tenant in (None, e.tenant) and until():  # type: ignore[no-untyped-call]
                yield e


@contextmanager
def world(seed: int, count: int = 90, *, url: str = "memory:") -> Iterator[World]:
    random, clock, fold = Random(seed), SettableClock(), tally()
    decider = Decider("tally", initial=0, decide=_decide, evolve=_evolve, snapshot_every=3)
    platform = Platform(url, fold, decider, Noted)
    with platform.open(clock=clock) as log:
        for _ in range(count):
            clock.now += random.choice((0, 1, 60_000_000))
            session = log.tenant(random.choice(TENANTS))
            key = random.choice("abcde")
            claimed = moment(clock.now - random.randint(0, 600_000_000)) if random.random() < 0.3 else None
            if random.random() < 0.2:
                session.append("note-1", Noted())
            elif random.random() < 0.3:
                session.execute(decider, key, random.randint(1, 5))
            else:
                session.append(f"tally-{key}", Counted(key, random.randint(1, 9)), occurred_at=claimed)
        yield World(log, platform, fold, decider)


def _moments(world: World, random: Random) -> list[At | None]:
    events = list(world.log.admin().events())
    some = random.sample(events, 4)
    tick = timedelta(microseconds=1)
    return [
        None,
        AtPosition(0),
        AtPosition(10**9),
        *(AtPosition(e.position) for e in some[:1]),
        *(RecordedAt(e.recorded_at + by) for e in some[1:3] for by in (-tick, 0 * tick, tick)),
        *(OccurredAt(e.occurred_at + by) for e in some[3:] for by in (-tick, 0 * tick, tick)),
        RecordedAt(datetime(2001, 1, 1, tzinfo=UTC)),
    ]


def _sums(events: Iterable[Recorded[Counted]], by: str) -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = {}
    for e in events:
        name = e.data.key if by == "key" else e.stream
        found[e.tenant, name] = found.get((e.tenant, name), 0) + e.data.n
    return dict(sorted(found.items()))


def _shown(entities: Iterable[Entity]) -> dict[tuple[str, str], int]:
    shown = [((entity.tenant, entity.name), entity.state) for entity in entities]
    assert [name for name, _ in shown] == sorted({name for name, _ in shown})
    return dict(shown)


@pytest.mark.parametrize("seed", range(2))
def test_everything_is_shown_as_it_was_at_any_moment(seed: int) -> None:
    """One tenant or the whole system; by position, by when it was recorded, by when it occurred, and now."""
    with world(seed) as it:
        assert list(it.past("nobody").read_model(it.fold, None)) == []
        for tenant in (None, "acme"):
            for at in _moments(it, Random(seed)):
                past, events = it.past(tenant), list(it.events(tenant, at))
                assert _shown(past.read_model(it.fold, at)) == _sums(events, "key"), at
                assert _shown(past.aggregates(it.loader, at)) == _sums(events, "stream"), at


def test_what_differs_between_two_moments_is_told_and_nothing_else() -> None:
    with world(7) as it:
        moments = _moments(it, Random(7))
        for before, after in zip(moments[1:], [*moments[2:], None], strict=True):
            assert before is not None
            for tenant in (None, "acme"):
                past = it.past(tenant)
                for by, changes in (
                    ("key", past.compare_read_model(it.fold, before, after)),
                    ("stream", past.compare_aggregates(it.loader, before, after)),
                ):
                    was, now = _sums(it.events(tenant, before), by), _sums(it.events(tenant, after), by)
                    names = [name for name in sorted(was | now) if was.get(name) != now.get(name)]
                    expected = [(name, was.get(name, "<missing>"), now.get(name, "<missing>")) for name in names]
                    assert [((c.tenant, c.name), c.before, c.after) for c in changes] == expected


def test_a_change_is_told_field_by_field() -> None:
    fold = Fold[dict[str, Any]]("cart", initial={})

    @fold.on(Counted, key=lambda e: "cart")
    def put(state: dict[str, Any], e: Recorded[Counted]) -> dict[str, Any]:
        return {**state, "items": {**state.get("items", {}), e.data.key: e.data.n}, "last": e.data.key}

    platform = Platform("memory:", fold)
    with platform.open() as log:
        for key, n in (("a", 1), ("b", 2), ("a", 5)):
            log.tenant("acme").append("cart-1", Counted(key, n))
        changes = list(Past(log.store, platform.types, "acme").compare_read_model(fold, AtPosition(1), AtPosition(3)))
    assert changes == [
        EntityChange("cart", "acme", "cart", "items.a", 1, 5),
        EntityChange("cart", "acme", "cart", "items.b", "<missing>", 2),
    ]


def test_a_read_model_has_no_version_to_be_shown_at() -> None:
    with world(1, 20) as it:
        with pytest.raises(InvalidInput, match="a version is a place in one stream"):
            list(it.past(None).read_model(it.fold, AtVersion(1)))
        assert all(
            entity.state == next(it.log.tenant(entity.tenant).events(Counted, stream=entity.name)).data.n
            for entity in it.past(None).aggregates(it.loader, AtVersion(1))
        )


def test_what_a_fold_cannot_take_is_named() -> None:
    fold = Fold("tally", initial=0)

    @fold.on(Counted, key=lambda e: e.data.key)
    def refuse(total: int, e: Recorded[Counted]) -> int:
        if e.data.key == "bad":
            raise ValueError("boom")
        return total + 1

    platform = Platform("memory:", fold)
    with platform.open() as log:
        append_many(log.tenant(), ["a", "bad"])
        past = Past(log.store, platform.types, None)
        assert [entity.state for entity in past.read_model(fold, AtPosition(1))] == [1]
        with pytest.raises(SubscriptionFailed, match="position 2"):
            list(past.read_model(fold, None))


def test_looking_back_leaves_no_trace_and_calls_nobody(tmp_path: Path) -> None:
    """T38: neither checkpoints nor states of the log change, and no processor hears of it."""
    called: list[int] = []

    @processor("spy", on=Counted)
    def spy(e: Recorded[Counted]) -> None:
        called.append(e.position)

    fold = tally()
    platform = Platform(f"sqlite:///{tmp_path}/log.db", fold, spy)
    with platform.open() as log:
        append_many(log.tenant(), ["a", "b"], 3)
        assert len(list(Past(log.store, platform.types, None).read_model(fold, None))) == 2
        assert (log.lags(), list(log.admin().all(fold)), called) == ([], [], [])
    assert {path.name.partition("-")[0] for path in tmp_path.iterdir()} == {"log.db"}


def test_a_look_that_is_broken_off_leaves_no_file(tmp_path: Path) -> None:
    with world(2, 60, url=f"sqlite:///{tmp_path}/log.db") as it:
        for _ in range(3):
            look = it.past(None).read_model(it.fold, None)
            assert next(look)
            look.close()  # type: ignore[attr-defined]
    assert {path.name.partition("-")[0] for path in tmp_path.iterdir()} == {"log.db"}


def test_it_needs_no_memory_for_the_keys_it_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """5,000 keys of 400 bytes pass through a thousand at a time; what is held is far less than they are."""
    from everlog.projection import run as projecting

    monkeypatch.setattr(projecting, "_CACHED_KEYS", 500)
    monkeypatch.setattr(rerun, "SAVE_EVERY", 1000)
    fold = Fold("notes", initial="")

    @fold.on(Counted, key=lambda e: e.data.key)
    def note(state: str, e: Recorded[Counted]) -> str:
        return "x" * 400

    platform = Platform("memory:", fold)
    peaks: list[int] = []
    with platform.open() as log:
        for count in (1000, 5000):
            for start in range(log.head().position, count, 500):
                log.tenant().append("s-1", *(Counted(f"k{number:06}") for number in range(start, start + 500)))
            tracemalloc.start()
            assert sum(1 for _ in Past(log.store, platform.types, None).read_model(fold, None)) == count
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[1] < peaks[0] + 700_000, peaks


def test_moments_are_microseconds() -> None:
    with world(3, 30) as it:
        times: Sequence[datetime] = [e.recorded_at for e in it.log.admin().events()]
        assert [moment(micros(at)) for at in times] == list(times)
