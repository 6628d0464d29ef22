"""Many writers at once: one order without holes, one winner a version, and what was answered first lies first."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

from everlog.core.envelope import Appended
from everlog.core.errors import WrongExpectedVersion
from everlog.core.expect import Exactly, NoStream
from everlog.store.contract import Store
from everlog.testing.conformance.events import append, everything, new_event, request, versions

_WRITERS = 8
T = TypeVar("T")


def _at_once(calls: Sequence[Callable[[], T]]) -> list[T]:
    """Run each on a thread of its own, all let go at the same moment."""
    start = Barrier(len(calls))

    def run(call: Callable[[], T]) -> T:
        start.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(run, calls))


def _twenty(store: Store, stream: str) -> list[int]:
    return [append(store, new_event(stream)).position for _ in range(20)]


def test_positions_have_no_holes_whoever_writes(store: Store) -> None:
    written = _at_once([lambda n=n: _twenty(store, f"s-{n}") for n in range(_WRITERS)])  # type: ignore[misc]
    assert sorted(position for positions in written for position in positions) == list(range(1, 20 * _WRITERS + 1))
    assert [positions == sorted(positions) for positions in written] == [True] * _WRITERS


def test_two_handles_write_one_log(store: Store, second: Store) -> None:
    handles = (store, second, store, second)
    written = _at_once([lambda h=h, n=n: _twenty(h, f"s-{n}") for n, h in enumerate(handles)])  # type: ignore[misc]
    assert sorted(position for positions in written for position in positions) == list(range(1, 81))
    assert everything(store) == everything(second)


def test_exactly_one_of_many_wins_a_version(store: Store) -> None:
    for version in range(5):
        expect = {"order-1": Exactly(version) if version else NoStream()}
        asked = [request(new_event(), expect=expect) for _ in range(_WRITERS)]
        verdicts = _at_once([lambda a=a: store.append_each([a])[0] for a in asked])  # type: ignore[misc]
        won = [verdict for verdict in verdicts if isinstance(verdict, Appended)]
        assert [answer.version for answer in won] == [version + 1]
        lost = [verdict for verdict in verdicts if isinstance(verdict, WrongExpectedVersion)]
        assert [error.actual for error in lost] == [version + 1] * (_WRITERS - 1)
    assert versions(store) == [1, 2, 3, 4, 5]


def test_one_request_sent_by_many_at_once_is_stored_once(store: Store) -> None:
    asked = request(new_event(), new_event("order-2"))
    answers = _at_once([lambda: store.append(asked)] * _WRITERS)
    assert {answer.places for answer in answers} == {answers[0].places}
    assert [answer.replayed for answer in answers].count(False) == 1
    assert store.head().position == 2


def test_who_reads_while_others_write_never_sees_a_hole(store: Store) -> None:
    def follow() -> list[int]:
        seen: list[int] = []
        while len(seen) < 20 * 4:
            events = everything(store)
            assert [event.position for event in events] == list(range(1, len(events) + 1))
            assert [event.position for event in events[: len(seen)]] == seen
            seen = [event.position for event in events]
        return seen

    writers: list[Callable[[], list[int]]] = [lambda n=n: _twenty(store, f"s-{n}") for n in range(4)]  # type: ignore[misc]
    seen, *_ = _at_once([follow, *writers])
    assert seen == list(range(1, 81))
