"""What a session does besides `execute`: who acted, whose events, batches, boundaries, reading. Both sides alike."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest

from everlog import (
    AppendConditionFailed,
    Appended,
    AtVersion,
    Criteria,
    Exactly,
    Fold,
    IdempotencyConflict,
    InvalidInput,
    Misconfigured,
    NoStream,
    Platform,
    Recorded,
    Session,
    StreamExists,
    Write,
    WrongExpectedVersion,
)
from tests.command.conftest import Open
from tests.command.counting import Add, Added, Counter, Renamed, counters, platform
from tests.command.sides import at_once

CORRELATION, CAUSE = UUID(int=1), UUID(int=2)
WHO = ("ann", "10.0.0.1", "Mozilla", CORRELATION, CAUSE)


def who(event: Recorded[Any]) -> tuple[object, ...]:
    return (event.actor, event.ip, event.user_agent, event.correlation_id, event.causation_id)


def acting(session: Session) -> Session:
    return session.acting(
        actor="ann", ip="10.0.0.1", user_agent="Mozilla", correlation_id=CORRELATION, causation_id=CAUSE
    )


class TestWhoActed:
    def test_it_is_said_once_and_recorded_with_every_event(self, open_log: Open) -> None:
        log = open_log(platform)
        said_at_once = log.tenant(
            "acme", actor="ann", ip="10.0.0.1", user_agent="Mozilla", correlation_id=CORRELATION, causation_id=CAUSE
        )
        for session in (said_at_once, acting(log.tenant("acme"))):
            session.append("counter-a", Added("a", 1), Added("a", 2))
            session.append_batch(Write("counter-a", Added("a", 3)), Write("counter-b", Added("b", 4)))
            session.execute(counters, "c", Add(5))
        assert [who(event) for event in log.tenant("acme").events()] == [WHO] * 10

    def test_naming_one_thing_leaves_the_others_as_they_were(self, open_log: Open) -> None:
        acme = acting(open_log(platform).tenant("acme"))
        names: list[dict[str, Any]] = [
            {"actor": "bob"}, {"ip": "10.0.0.2"}, {"user_agent": "curl"},
            {"correlation_id": UUID(int=8)}, {"causation_id": UUID(int=9)},
        ]  # fmt: skip
        for number, named in enumerate(names):
            acme.acting(**named).append("counter-a", Added("a", number))
            acme.acting(**dict.fromkeys(named)).append("counter-a", Added("a", number))
        recorded = [who(event) for event in acme.events()]
        for number, named in enumerate(names):
            changed, cleared = list(WHO), list(WHO)
            [changed[number]] = named.values()
            cleared[number] = None
            assert recorded[2 * number : 2 * number + 2] == [tuple(changed), tuple(cleared)]

    def test_what_an_event_leads_to_is_caused_by_it_and_correlated_with_it(self) -> None:
        with platform.open() as log:
            log.tenant("acme", actor="ann").append("counter-a", Added("a", 1))
            [first] = log.tenant("acme").events()
            log.caused_by(first).execute(counters, "a", Add(2))
            second = next(log.tenant("acme").events(after=1))
            log.caused_by(second).execute(counters, "a", Add(3))
            third = next(log.tenant("acme").events(after=2))
        assert (second.actor, second.causation_id, second.correlation_id) == ("ann", first.id, first.id)
        assert (third.actor, third.causation_id, third.correlation_id) == ("ann", second.id, first.id)

    def test_another_session_is_not_changed_by_it(self, open_log: Open) -> None:
        acme = open_log(platform).tenant("acme")
        acting(acme).append("counter-a", Added("a", 1))
        acme.append("counter-a", Added("a", 2))
        assert [event.actor for event in acme.events()] == ["ann", None]

    def test_an_actor_nobody_could_type_is_refused(self, open_log: Open) -> None:
        with pytest.raises(InvalidInput, match="actor"):
            open_log(platform).tenant("acme").acting(actor="a\nb")


class TestTenants:
    def test_another_tenants_session_sees_nothing(self, open_log: Open) -> None:
        log = open_log(platform)
        acme, other = log.tenant("acme"), log.tenant("other")
        acme.execute(counters, "c", Add(3))
        looks: list[Callable[[Session], object]] = [
            lambda s: list(s.events()),
            lambda s: list(s.events(Added)),
            lambda s: list(s.events(tags=["counter:c"])),
            lambda s: list(s.events(named=["counter.added"])),
            lambda s: list(s.stream("counter-c")),
            lambda s: list(s.stream("counter-c", backwards=True)),
            lambda s: list(s.streams()),
            lambda s: list(s.streams("counter")),
            lambda s: list(s.audit()),
            lambda s: s.state(counters, "c"),
            lambda s: s.state(counters, "c", at=1),
            lambda s: s.difference(counters, "c", AtVersion(0)).events,
        ]
        for look in looks:
            assert look(acme) not in ([], (), Counter())
            assert look(other) in ([], (), Counter())

    def test_the_same_stream_of_two_tenants_is_two_streams(self, open_log: Open) -> None:
        log = open_log(platform)
        for tenant, amount in (("acme", 3), ("other", 4)):
            assert log.tenant(tenant).execute(counters, "c", Add(amount)).version == 1
        assert (log.tenant("acme").state(counters, "c").total, log.tenant("other").state(counters, "c").total) == (3, 4)
        assert log.tenant("acme").tenant == "acme"

    def test_no_condition_reaches_over_the_border(self, open_log: Open) -> None:
        log = open_log(platform)
        log.tenant("acme").append("counter-c", Added("c", 3))
        other = log.tenant("other")
        assert other.append("counter-c", Added("c", 3), expect=NoStream()).version == 1
        assert other.append("counter-d", Added("d", 3), unless=Criteria(Added, tags=["counter:d"])).version == 1

    def test_an_id_of_another_tenant_is_refused_and_nothing_of_it_is_shown(self, open_log: Open) -> None:
        log, mine = open_log(platform), uuid4()
        log.tenant("acme").append("counter-secret", Added("secret", 3), ids=[mine])
        with pytest.raises(IdempotencyConflict) as caught:
            log.tenant("other").append("counter-secret", Added("secret", 3), ids=[mine])
        assert "secret" not in str(caught.value)
        assert "acme" not in str(caught.value)

    def test_there_is_a_tenant_where_nobody_names_one(self, open_log: Open) -> None:
        assert open_log(platform).tenant().tenant == "default"

    def test_a_tenant_has_a_name(self, open_log: Open) -> None:
        with pytest.raises(InvalidInput, match="tenant 'a b' is not a name"):
            open_log(platform).tenant("a b")


class TestAppending:
    def test_an_append_says_where_its_events_lie(self, open_log: Open) -> None:
        acme = open_log(platform).tenant("acme")
        acme.append("counter-a", Added("a", 1))
        answer = acme.append("counter-b", Added("b", 1), Added("b", 2))
        assert (answer.position, answer.version, answer.replayed) == (3, 2, False)
        assert [tuple(place) for place in answer.places] == [(2, 1), (3, 2)]

    def test_a_batch_spans_streams_in_the_order_given(self, open_log: Open) -> None:
        acme = open_log(platform).tenant("acme")
        answer = acme.append_batch(
            Write("counter-b", Added("b", 1)),
            Write("counter-a", Added("a", 2), Added("a", 3)),
            Write("counter-b2", Added("b2", 4)),
        )
        assert [tuple(place) for place in answer.places] == [(1, 1), (2, 1), (3, 2), (4, 1)]
        assert [event.stream for event in acme.events()] == ["counter-b", "counter-a", "counter-a", "counter-b2"]

    @pytest.mark.parametrize("broken", [Exactly(1), StreamExists()])
    def test_a_batch_is_stored_as_a_whole_or_not_at_all(self, open_log: Open, broken: Any) -> None:
        acme = open_log(platform).tenant("acme")
        with pytest.raises(WrongExpectedVersion, match="counter-b is at version 0"):
            acme.append_batch(
                Write("counter-a", Added("a", 1), expect=NoStream()), Write("counter-b", Added("b", 1), expect=broken)
            )
        assert list(acme.events()) == []

    @pytest.mark.parametrize(
        ("expect", "holds"), [(NoStream(), False), (Exactly(1), True), (Exactly(2), False), (StreamExists(), True)]
    )
    def test_what_is_expected_of_a_stream_is_checked(self, open_log: Open, expect: Any, holds: bool) -> None:
        log = open_log(platform)

        def alone(acme: Session) -> Appended:
            return acme.append("counter-a", Added("a", 2), expect=expect)

        def in_a_batch(acme: Session) -> Appended:
            return acme.append_batch(
                Write("counter-b", Added("b", 1)), Write("counter-a", Added("a", 2), expect=expect)
            )

        for tenant, append in (("one", alone), ("two", in_a_batch)):
            acme = log.tenant(tenant)
            acme.append("counter-a", Added("a", 1))
            if holds:
                assert append(acme).version == 2
            else:
                with pytest.raises(WrongExpectedVersion, match=f"counter-a is at version 1, not {expect.__str__()[0]}"):
                    append(acme)

    def test_a_batch_names_a_stream_once(self, open_log: Open) -> None:
        acme = open_log(platform).tenant("acme")
        with pytest.raises(InvalidInput, match="names a stream twice: put all events of a stream into one Write"):
            acme.append_batch(Write("counter-a", Added("a", 1)), Write("counter-a", Added("a", 2)))

    def test_an_append_has_at_least_one_event(self, open_log: Open) -> None:
        acme = open_log(platform).tenant("acme")
        empty: list[Callable[[], Appended]] = [lambda: acme.append("counter-a"), acme.append_batch]
        for append in empty:
            with pytest.raises(InvalidInput, match="an append needs at least one event"):
                append()
        with pytest.raises(InvalidInput, match="a condition names counter-b, but the batch has no event for it"):
            acme.append_batch(Write("counter-a", Added("a", 1)), Write("counter-b"))

    def test_the_time_of_occurrence_is_given_for_each_write(self, open_log: Open) -> None:
        acme = open_log(platform).tenant("acme")
        then = datetime(2020, 2, 29, 12, tzinfo=UTC)
        acme.append("counter-a", Added("a", 1), occurred_at=then)
        acme.append_batch(
            Write("counter-a", Added("a", 2), occurred_at=then + timedelta(1)), Write("counter-b", Added("b", 3))
        )
        one, two, three = acme.events()
        assert (one.occurred_at, two.occurred_at) == (then, then + timedelta(1))
        assert three.occurred_at == three.recorded_at > two.occurred_at

    def test_a_naive_time_of_occurrence_is_refused(self, open_log: Open) -> None:
        acme = open_log(platform).tenant("acme")
        with pytest.raises(InvalidInput, match="has no time zone: give one"):
            acme.append("counter-a", Added("a", 1), occurred_at=datetime(2020, 1, 1))  # noqa: DTZ001


class TestRetrying:
    def appends(self, acme: Session, amount: int = 1, **how: Any) -> Iterator[Callable[[], Appended]]:
        yield lambda: acme.append("counter-a", Added("a", amount), Added("a", 2), **how)
        yield lambda: acme.append_batch(
            Write("counter-a", Added("a", amount)), Write("counter-b", Added("b", 2)), **how
        )

    @pytest.mark.parametrize("by", ["ids", "request_id"])
    def test_the_same_append_again_has_the_first_answer(self, open_log: Open, by: str) -> None:
        log = open_log(platform)
        for tenant, kind in enumerate(("append", "append_batch")):
            acme = log.tenant(f"t{tenant}")
            how: dict[str, Any] = {"ids": [uuid4(), uuid4()]} if by == "ids" else {"request_id": "r-1"}
            append = dict(zip(("append", "append_batch"), self.appends(acme, **how), strict=True))[kind]
            other = dict(zip(("append", "append_batch"), self.appends(acme, 9, **how), strict=True))[kind]
            first, again = append(), append()
            assert (first.replayed, again.replayed) == (False, True)
            assert (again.places, again.recorded_at) == (first.places, first.recorded_at)
            with pytest.raises(IdempotencyConflict, match="is known with other content"):
                other()
            assert len(list(acme.events())) == 2
            if by == "ids":
                assert [event.id for event in acme.events()] == how["ids"]

    def test_ids_and_a_request_id_are_not_given_together(self, open_log: Open) -> None:
        for append in self.appends(open_log(platform).tenant("acme"), ids=[uuid4(), uuid4()], request_id="r"):
            with pytest.raises(InvalidInput, match="give ids or a request_id, not both"):
                append()

    def test_every_event_has_its_id(self, open_log: Open) -> None:
        for append in self.appends(open_log(platform).tenant("acme"), ids=[uuid4()]):
            with pytest.raises(InvalidInput, match="2 events need 2 ids, not 1"):
                append()


class TestBoundaries:
    def test_an_append_is_refused_when_what_it_rests_on_has_changed(self, open_log: Open) -> None:
        acme = open_log(platform).tenant("acme")
        acme.append("counter-a", Added("a", 7))
        taken = Criteria(Added, tags=["by:7"])
        for unless in (taken, [Criteria(Renamed), taken]):
            with pytest.raises(AppendConditionFailed, match="position 1 matches the boundary after 0"):
                acme.append("counter-b", Added("b", 7), unless=unless)
            with pytest.raises(AppendConditionFailed):
                acme.append_batch(Write("counter-b", Added("b", 7)), unless=unless)
        acme.append("counter-b", Added("b", 7), unless=taken, after=1)
        acme.append_batch(Write("counter-b", Added("b", 7)), unless=taken, after=2)
        assert [event.stream for event in acme.events(tags=["by:7"])] == ["counter-a", "counter-b", "counter-b"]

    def test_after_alone_asks_nothing_and_is_refused(self, open_log: Open) -> None:
        acme = open_log(platform).tenant("acme")
        acme.append("counter-a", Added("a", 7))
        with pytest.raises(InvalidInput, match="after=1 alone asks nothing"):
            acme.append("counter-a", Added("a", 7), after=1)
        with pytest.raises(InvalidInput, match="after=1 alone asks nothing"):
            acme.execute(counters, "a", Add(2), unless=[], after=1)
        assert len(list(acme.events())) == 1

    def test_types_and_tags_must_both_match(self, open_log: Open) -> None:
        acme = open_log(platform).tenant("acme")
        acme.append("counter-a", Added("a", 7), Renamed("a", "x"))
        for free in (Criteria(Renamed, tags=["by:7"]), Criteria(Added, tags=["counter:b"]), Criteria(tags=["by:8"])):
            assert acme.append("counter-b", Renamed("b", "y"), unless=free)
        for held in (
            Criteria(Renamed), Criteria(tags=["by:7"]), Criteria(Added, Renamed, tags=["by:7"]),
            Criteria(tags=["by:7", "counter:a"]),
        ):  # fmt: skip
            with pytest.raises(AppendConditionFailed):
                acme.append("counter-b", Renamed("b", "y"), unless=held)

    def test_criteria_name_a_class_or_a_tag(self) -> None:
        with pytest.raises(InvalidInput, match="Criteria needs an event class or a tag"):
            Criteria()
        with pytest.raises(InvalidInput, match=r"one text: write tags=\['by:7'\]"):
            Criteria(Added, tags="by:7")  # type: ignore[arg-type]
        with pytest.raises(Misconfigured, match="Counter is not an event"):
            Criteria(Counter).match(platform.types)

    def test_of_sixteen_who_want_one_address_exactly_one_gets_it(self, open_log: Open) -> None:
        acme = open_log(platform).tenant("acme")
        address = Criteria(Renamed, tags=["counter:ann@lee.example"])

        everybody_has_looked = threading.Barrier(16)

        def register(number: int) -> None:
            seen = max((event.position for event in acme.events()), default=0)
            assert not list(acme.events(Renamed, tags=["counter:ann@lee.example"]))
            everybody_has_looked.wait(30)
            acme.append(f"user-{number}", Renamed("ann@lee.example", str(number)), unless=address, after=seen)

        answers = at_once(*[partial(register, number) for number in range(16)])
        assert [type(answer) for answer in answers if answer is not None] == [AppendConditionFailed] * 15
        assert [event.stream for event in acme.events()] == [f"user-{answers.index(None)}"]


class TestReading:
    def filled(self, open_log: Open) -> Session:
        acme = open_log(platform).tenant("acme")
        acme.append_batch(Write("counter-a", *[Added("a", n) for n in range(4)]), Write("user-b", Renamed("b", "x")))
        return acme

    def test_a_stream_is_read_between_versions_and_backwards(self, open_log: Open) -> None:
        acme = self.filled(open_log)

        def versions(**how: Any) -> list[int]:
            return [event.version for event in acme.stream("counter-a", **how)]

        assert versions() == [1, 2, 3, 4]
        assert versions(after=1) == [2, 3, 4]
        assert versions(upto=2) == [1, 2]
        assert versions(after=1, upto=3, backwards=True) == [3, 2]

    def test_streams_are_listed_with_their_version_by_category(self, open_log: Open) -> None:
        acme = self.filled(open_log)
        assert [(head.stream, head.version, head.position) for head in acme.streams()] == [
            ("counter-a", 4, 4), ("user-b", 1, 5),
        ]  # fmt: skip
        assert [head.stream for head in acme.streams("user")] == ["user-b"]

    def test_the_admin_lists_streams_of_all_tenants(self) -> None:
        with platform.open() as log:
            for tenant, stream in (("acme", "counter-a"), ("other", "counter-a"), ("other", "user-b")):
                log.tenant(tenant).append(stream, Added("a", 1))
            heads = [(head.tenant, head.stream) for head in log.admin().streams()]
            assert heads == [("acme", "counter-a"), ("other", "counter-a"), ("other", "user-b")]
            assert [head.tenant for head in log.admin().streams("counter")] == ["acme", "other"]

    def test_the_async_admin_reads_what_the_blocking_one_reads(self) -> None:
        total: Fold[int] = Fold("total", initial=0, inline=True)

        @total.on(Added, key=lambda e: "all")
        def add(sum: int, e: Recorded[Added]) -> int:
            return sum + e.data.amount

        async def use() -> None:
            async with Platform("memory:", counters, total).open_async() as log:
                for tenant in ("acme", "other"):
                    await log.tenant(tenant).append("counter-a", Added("a", 1), Renamed("a", tenant))
                blocking, admin = log._blocking.admin(), log.admin()
                assert [e async for e in admin.events()] == list(blocking.events())
                assert [e.data.name async for e in admin.events(Renamed)] == ["acme", "other"]
                assert [head async for head in admin.streams("counter")] == list(blocking.streams("counter"))
                assert [entry async for entry in admin.audit(limit=3)] == list(blocking.audit(limit=3))
                assert [state async for state in admin.all(total)] == list(blocking.all(total))
                [first] = [e async for e in log.tenant("other").events(limit=1)]
                await log.caused_by(first).append("counter-a", Added("a", 2))
                *_, last = [e async for e in admin.events()]
                assert (last.tenant, last.causation_id, last.correlation_id) == ("other", first.id, first.id)

        asyncio.run(use())

    def test_events_are_read_by_class(self, open_log: Open) -> None:
        acme = self.filled(open_log)
        assert [event.data for event in acme.events(Renamed)] == [Renamed("b", "x")]
        assert len(list(acme.events(Renamed, Added))) == len(list(acme.events())) == 5

    @pytest.mark.parametrize("what", ["tags", "named"])
    def test_texts_given_as_one_text_are_refused(self, open_log: Open, what: str) -> None:
        acme = open_log(platform).tenant("acme")
        with pytest.raises(InvalidInput, match=rf"{what}='x' is one text: write {what}=\['x'\]"):
            list(acme.events(**{what: "x"}))  # type: ignore[call-overload]
