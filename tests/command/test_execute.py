"""`execute`: load, decide, append; once for a request id, again when another writer came first. Both sides alike."""

import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from everlog import (
    AppendConditionFailed,
    Criteria,
    Decider,
    IdempotencyConflict,
    InvalidInput,
    Platform,
    Rejected,
    Result,
    Session,
    WrongExpectedVersion,
)
from everlog.command.execute import ATTEMPTS
from everlog.core import limits
from tests.command.conftest import Open
from tests.command.counting import Add, Added, Counter, Rename, Renamed, counters, decide, evolve, platform
from tests.command.sides import FAST, Opened, Side, at_once, beside

ROOT = Path(__file__).parents[2]


def watched(decide: Any) -> Decider[Any, Counter, Added | Renamed]:
    return Decider("counter", initial=Counter(), decide=_typed(decide), evolve=evolve)


def _typed(function: Any) -> Any:
    function.__annotations__ = {"command": Add | Rename, "counter": Counter, "return": list}
    return function


def test_a_command_leads_to_the_state_and_the_events_as_they_are_read_back(open_log: Open) -> None:
    acme = open_log(platform).tenant("acme", actor="ann")
    done = acme.execute(counters, "c", Add(3))
    again = acme.execute(counters, "c", Add(4))
    assert (done.state, done.version, done.position, done.replayed) == (Counter(3, (3,)), 1, 1, False)
    assert (again.state, again.version, again.position) == (Counter(7, (3, 4)), 2, 2)
    read = list(acme.stream("counter-c"))
    assert [event.stored for event in (*done.events, *again.events)] == [event.stored for event in read]
    assert [event.data for event in read] == [Added("c", 3), Added("c", 4)]
    assert acme.state(counters, "c") == again.state


def test_a_command_that_changes_nothing_stores_nothing(open_log: Open) -> None:
    log = open_log(platform)
    acme = log.tenant("acme")
    acme.execute(counters, "c", Add(3))
    done = acme.execute(counters, "c", Add(0))
    assert (done.state, done.events, done.version, done.position) == (Counter(3, (3,)), (), 1, 1)
    assert acme.execute(counters, "new", Add(0)).version == 0
    assert log.store.head().position == 1


def test_a_rejected_command_stores_nothing_and_says_why(open_log: Open) -> None:
    log = open_log(platform)
    with pytest.raises(Rejected, match=r"below_zero \(amount=-1\)") as caught:
        log.tenant("acme").execute(counters, "c", Add(-1))
    assert (caught.value.reason, caught.value.details) == ("below_zero", {"amount": -1})
    assert log.store.head().position == 0


def test_more_events_than_a_batch_holds_are_refused_in_words(open_log: Open) -> None:
    many = watched(lambda command, counter: [Added("c", 1)] * command.amount)
    acme = open_log(Platform("memory:", many)).tenant("acme")
    assert acme.execute(many, "c", Add(limits.BATCH_EVENTS)).version == limits.BATCH_EVENTS
    with pytest.raises(InvalidInput, match="counter decided on 501 events at once, more than 500"):
        acme.execute(many, "c", Add(limits.BATCH_EVENTS + 1))


class TestRequestIds:
    def test_the_same_request_has_the_same_answer_forever_and_is_decided_once(self, open_log: Open) -> None:
        decided = []

        def counted(command: Any, counter: Any) -> Any:
            decided.append(command)
            return [*decide(command, counter), Renamed("c", f"{counter.total}")]

        counting = watched(counted)
        acme = open_log(Platform("memory:", counting)).tenant("acme")
        first = acme.execute(counting, "c", Add(3), request_id="r-1")
        acme.execute(counting, "c", Add(4), request_id="r-2")
        again = acme.execute(counting, "c", Add(3), request_id="r-1")
        assert (first.replayed, again.replayed) == (False, True)
        assert replace(again, replayed=False) == first
        assert [event.data for event in again.events] == [Added("c", 3), Renamed("c", "0")]
        assert again.state == Counter(3, (3,), "0")
        assert decided == [Add(3), Add(4)]

    def test_it_is_looked_up_before_the_rules_have_their_say(self, open_log: Open) -> None:
        acme = open_log(platform).tenant("acme")
        first = acme.execute(counters, "c", Rename("ann"), request_id="r-1")
        # Decided now, either command would lead elsewhere: nothing to rename, and a rejection.
        assert acme.execute(counters, "c", Rename("ann"), request_id="r-1").events == first.events
        assert acme.execute(counters, "c", Add(-1), request_id="r-1").events == first.events

    def test_it_belongs_to_one_stream(self, open_log: Open) -> None:
        acme = open_log(platform).tenant("acme")
        acme.execute(counters, "c", Add(3), request_id="r-1")
        with pytest.raises(IdempotencyConflict, match="request id 'r-1' was used for counter-c, not counter-d"):
            acme.execute(counters, "d", Add(3), request_id="r-1")
        assert acme.state(counters, "d") == Counter()

    def test_it_belongs_to_one_tenant(self, open_log: Open) -> None:
        log = open_log(platform)
        log.tenant("acme").execute(counters, "c", Add(3), request_id="r-1")
        other = log.tenant("other").execute(counters, "c", Add(4), request_id="r-1")
        assert (other.state.total, other.replayed) == (4, False)

    @pytest.mark.parametrize("command", [Add(0), Add(-1)])
    def test_a_request_that_stored_nothing_is_decided_again(self, open_log: Open, command: Add) -> None:
        acme = open_log(platform).tenant("acme")
        try:
            nothing: Result[Counter, Any] | None = acme.execute(counters, "c", command, request_id="r-1")
        except Rejected:
            nothing = None
        assert nothing is None or not nothing.events
        assert acme.execute(counters, "c", Add(5), request_id="r-1").events[0].data == Added("c", 5)

    def test_requests_without_an_id_are_different_requests(self, open_log: Open) -> None:
        acme = open_log(platform).tenant("acme")
        for _ in range(2):
            acme.execute(counters, "c", Add(3))
        assert acme.state(counters, "c").total == 6

    @pytest.mark.parametrize("same", [True, False], ids=["deciding-alike", "deciding-differently"])
    def test_of_two_at_once_one_is_executed_and_both_have_its_answer(
        self, tmp_path: Path, open_log: Open, same: bool
    ) -> None:
        both, decided = threading.Barrier(2), []

        def together(command: Any, counter: Any) -> Any:
            decided.append(command)
            if len(decided) <= 2:
                both.wait(30)  # neither appends before both have decided
            return [Added("c", 1 if same else threading.get_ident() % 2**31)]

        meeting = watched(together)
        made = Platform("memory:", meeting)
        path = tmp_path / "log.db"
        acme = open_log(made, f"sqlite:///{path}{FAST}").tenant("acme")
        with beside(made, path) as rival:

            def execute(session: Session) -> object:
                return session.execute(meeting, "c", Add(1), request_id="r-1")

            one, other = at_once(lambda: execute(acme), lambda: execute(rival.tenant("acme")))
        assert isinstance(one, Result), one
        assert isinstance(other, Result), other
        assert sorted([one.replayed, other.replayed]) == [False, True]
        assert replace(one, replayed=False) == replace(other, replayed=False)
        assert [event.version for event in acme.stream("counter-c")] == [1]

    @pytest.mark.parametrize(("point", "stored"), [("append.after_commit", True), ("append.before_commit", False)])
    def test_a_crash_around_the_commit_is_healed_by_asking_again(
        self, tmp_path: Path, side: Side, open_log: Open, point: str, stored: bool
    ) -> None:
        url = f"sqlite:///{tmp_path / 'log.db'}{FAST}"
        command = [sys.executable, "-m", "tests.command.crashing", url, side, point]
        assert subprocess.run(command, cwd=ROOT).returncode == 9
        healed = open_log(platform, url).tenant("acme").execute(counters, "c", Add(3), request_id="r-1")
        assert (healed.replayed, healed.state, healed.position) == (stored, Counter(3, (3,)), 1)


class TestLostRaces:
    def losing(self, times: int, path: Path, open_log: Open) -> tuple[Decider[Any, Counter, Any], Opened, list[int]]:
        """A decider whose commands meet a rival's event between load and append, so many times; and the totals seen."""
        seen: list[int] = []

        def late(command: Any, counter: Any) -> Any:
            seen.append(counter.total)
            if len(seen) <= times:
                with beside(platform, path) as rival:
                    rival.tenant("acme").append("counter-c", Added("c", 100))
            return decide(command, counter)

        decider = watched(late)
        return decider, open_log(Platform("memory:", decider), f"sqlite:///{path}{FAST}"), seen

    def test_the_command_is_decided_again_on_what_the_winner_left(self, tmp_path: Path, open_log: Open) -> None:
        decider, log, seen = self.losing(2, tmp_path / "log.db", open_log)
        done = log.tenant("acme").execute(decider, "c", Add(1))
        assert seen == [0, 100, 200]
        assert (done.state.total, done.version, log.counters["execute_retries"]) == (201, 3, 2)

    def test_a_request_id_survives_lost_races(self, tmp_path: Path, open_log: Open) -> None:
        decider, log, seen = self.losing(2, tmp_path / "log.db", open_log)
        acme = log.tenant("acme")
        done = acme.execute(decider, "c", Add(1), request_id="r-1")
        assert (done.state.total, done.replayed, len(seen)) == (201, False, 3)
        assert acme.execute(decider, "c", Add(1), request_id="r-1").replayed

    @pytest.mark.parametrize("attempts", [1, 3])
    def test_it_gives_up_after_so_many_attempts(self, tmp_path: Path, open_log: Open, attempts: int) -> None:
        decider, log, seen = self.losing(99, tmp_path / "log.db", open_log)
        with pytest.raises(WrongExpectedVersion, match="counter-c is at version"):
            log.tenant("acme").execute(decider, "c", Add(1), attempts=attempts)
        assert (len(seen), log.counters["execute_retries"]) == (attempts, attempts - 1)

    def test_it_gives_up_after_a_default_number_of_attempts(self, tmp_path: Path, open_log: Open) -> None:
        decider, log, seen = self.losing(99, tmp_path / "log.db", open_log)
        with pytest.raises(WrongExpectedVersion):
            log.tenant("acme").execute(decider, "c", Add(1))
        assert len(seen) == ATTEMPTS

    def test_there_is_at_least_one_attempt(self, open_log: Open) -> None:
        with pytest.raises(InvalidInput, match="attempts=0 must be 1 or more"):
            open_log(platform).tenant("acme").execute(counters, "c", Add(1), attempts=0)

    def test_of_many_writers_at_once_none_is_lost(self, open_log: Open) -> None:
        acme = open_log(platform).tenant("acme")

        def add() -> int:
            return acme.execute(counters, "c", Add(1), attempts=1_000).version

        versions = at_once(*[add] * 16)
        assert sorted(map(str, versions)) == sorted(map(str, range(1, 17)))
        assert acme.state(counters, "c").total == 16


def test_a_rule_beyond_the_aggregate_is_a_boundary_of_the_command(open_log: Open) -> None:
    acme = open_log(platform).tenant("acme")
    acme.execute(counters, "c", Add(7))
    with pytest.raises(AppendConditionFailed, match="position 1 matches the boundary after 0"):
        acme.execute(counters, "d", Add(7), unless=Criteria(Added, tags=["by:7"]))
    assert acme.execute(counters, "d", Add(7), unless=Criteria(Added, tags=["by:7"]), after=1).version == 1
    assert acme.execute(counters, "d", Add(7), unless=[Criteria(Added, tags=["by:8"])]).version == 2
