"""Group commit: a verdict for every request, one leader at a time, and nobody stranded whatever happens to them."""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from threading import Event, Thread
from time import monotonic
from types import SimpleNamespace

import pytest

from everlog.core.envelope import Appended, Place
from everlog.core.errors import StoreUnavailable, WrongExpectedVersion
from everlog.store.contract import Verdict
from everlog.store.group import GROUP_SECONDS, GroupCommit, _Caller
from everlog.store.prepare import PreparedAppend, prepare
from everlog.testing.conformance import new_event, request

Requests = Iterator[PreparedAppend]


def _prepared(stream: str = "order-1") -> PreparedAppend:
    return prepare(request(new_event(stream)), bytes(16))


def _stream(prepared: PreparedAppend) -> str:
    return prepared.events[0].new.stream


class Interrupted(BaseException):
    """What a Ctrl-C is: it comes anywhere, and is no `Exception`."""


@dataclass
class Written:
    """A log of which only the order is kept. Each group may be told to do something else first."""

    groups: list[list[str]] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)
    next_groups: list[Callable[[Requests], None]] = field(default_factory=list)
    positions: Iterator[int] = field(default_factory=lambda: count(1))

    def __call__(self, requests: Requests) -> list[Verdict]:
        self.threads.append(threading.get_ident())
        drawn: list[PreparedAppend] = []
        if self.next_groups:
            self.next_groups.pop(0)(_noting(requests, drawn))
        drawn += requests
        self.groups.append([_stream(prepared) for prepared in drawn])
        return [self._verdict(prepared) for prepared in drawn]

    def _verdict(self, prepared: PreparedAppend) -> Verdict:
        if _stream(prepared).startswith("bad"):
            return WrongExpectedVersion(_stream(prepared), "1", 0)
        return Appended((Place(next(self.positions), 1),), 0)

    @property
    def streams(self) -> list[str]:
        return [stream for group in self.groups for stream in group]


def _noting(requests: Requests, drawn: list[PreparedAppend]) -> Requests:
    for prepared in requests:
        drawn.append(prepared)
        yield prepared


def _until(condition: Callable[[], bool]) -> None:
    deadline = monotonic() + 10
    while not condition():
        assert monotonic() < deadline, "it never came to that"


def _queue_up(group: GroupCommit, streams: Sequence[str]) -> list[Thread]:
    """A thread for each of these requests, started one after another, all waiting in this order."""
    threads = []
    for stream in streams:
        waiting = len(group._queue)
        threads.append(Thread(daemon=True, target=_append, args=(group, stream)))
        threads[-1].start()
        _until(lambda: len(group._queue) > waiting)  # noqa: B023  (called at once)
    return threads


def _append(group: GroupCommit, stream: str) -> None:
    with suppress(StopLeading):
        group.append_each([_prepared(stream)])


def _is_idle(group: GroupCommit) -> bool:
    """Whether nobody leads or waits, so that the next caller is served at once."""
    (verdict,) = group.append_each([_prepared("afterwards")])
    return isinstance(verdict, Appended) and not group._queue and not group._led


@pytest.fixture(autouse=True)
def _nobody_waits_for_ever() -> Iterator[None]:
    def give_up(*_: object) -> None:
        pytest.fail("a caller is stranded")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Time as the groups see it stands still until a test moves it."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("everlog.store.group.time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


# ---- Verdicts.


def test_each_request_gets_its_own_verdict_in_the_order_given() -> None:
    written = Written()
    first, bad, last = GroupCommit(written).append_each([_prepared("a"), _prepared("bad-1"), _prepared("b")])
    assert (first, last) == (Appended((Place(1, 1),), 0), Appended((Place(2, 1),), 0))
    assert isinstance(bad, WrongExpectedVersion)
    assert written.groups == [["a", "bad-1", "b"]]


def test_no_request_is_no_group() -> None:
    written = Written()
    assert GroupCommit(written).append_each([]) == []
    assert written.groups == []


def test_a_lone_caller_leads_on_its_own_thread_and_starts_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Thread, "start", lambda _: pytest.fail("a thread was started"))
    written = Written()
    group = GroupCommit(written)
    for _ in range(3):
        group.append_each([_prepared()])
    assert written.threads == [threading.get_ident()] * 3
    assert len(written.groups) == 3


def test_callers_that_come_while_one_leads_become_the_next_group() -> None:
    written = Written()
    group = GroupCommit(written)
    waiting: list[Thread] = []
    written.next_groups.append(lambda requests: waiting.extend(_queue_up(group, "bcd")) if next(requests) else None)
    group.append_each([_prepared("a")])
    _join(waiting)
    assert written.streams == ["a", "b", "c", "d"]
    assert len(written.groups) <= 2
    assert _is_idle(group)


def test_a_caller_with_many_requests_gets_all_its_verdicts_from_whoever_led_them(clock: SimpleNamespace) -> None:
    written = Written()
    group = GroupCommit(written)
    answers: list[list[Verdict]] = []

    def many() -> None:
        answers.append(group.append_each([_prepared(f"m-{n}") for n in range(5)]))

    def draw_two_of_them(requests: Requests) -> None:
        next(requests)
        waiting.start()
        _until(lambda: len(group._queue) == 5)
        assert [_stream(next(requests)) for _ in range(2)] == ["m-0", "m-1"]
        clock.now += GROUP_SECONDS

    waiting = Thread(daemon=True, target=many)
    written.next_groups.append(draw_two_of_them)
    group.append_each([_prepared("a")])
    waiting.join()
    assert written.groups == [["a", "m-0", "m-1"], ["m-2", "m-3", "m-4"]]
    assert answers == [[Appended((Place(n, 1),), 0) for n in range(2, 7)]]
    assert len(set(written.threads)) == 2


def test_sixty_four_threads_all_get_their_own_verdicts() -> None:
    stored: dict[bytes, int] = {}

    def write(requests: Requests) -> list[Verdict]:
        verdicts: list[Verdict] = []
        for prepared in requests:
            stored[prepared.events[0].new.id] = position = len(stored) + 1
            verdicts.append(Appended((Place(position, 1),), 0))
        return verdicts

    group = GroupCommit(write)
    start = threading.Barrier(64)

    def append(_: int) -> list[tuple[bytes, Verdict]]:
        start.wait()
        answered: list[tuple[bytes, Verdict]] = []
        for many in (1, 2, 1, 5, 1):
            asked = [_prepared() for _ in range(many)]
            answers = group.append_each(asked)
            answered += [(one.events[0].new.id, answer) for one, answer in zip(asked, answers, strict=True)]
        return answered

    with ThreadPoolExecutor(64) as threads:
        answered = [pair for pairs in threads.map(append, range(64)) for pair in pairs]
    assert len(answered) == 64 * 10 == len(stored)
    assert all(verdict == Appended((Place(stored[id], 1),), 0) for id, verdict in answered)
    assert group._led is False


# ---- The turn: those answered go one by one, and the next group is led when all of them went.


class Gate:
    """What a caller sleeps at. A test may hold one up that was woken, or interrupt it in that moment."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self.once_woken: list[Callable[[], None]] = []
        self.release = self._lock.release

    def acquire(self) -> None:
        self._lock.acquire()
        if self.once_woken:
            self.once_woken.pop()()  # after the turn came, as an interrupt may


@pytest.fixture
def gates(monkeypatch: pytest.MonkeyPatch) -> dict[int, Gate]:
    """The gate of each thread's call."""
    made: dict[int, Gate] = {}

    class Caller(_Caller):
        def __init__(self, requests: int) -> None:
            super().__init__(requests)
            self.gate = made[threading.get_ident()] = Gate()  # type: ignore[assignment]

    monkeypatch.setattr("everlog.store.group._Caller", Caller)
    return made


def _ident(thread: Thread) -> int:
    assert thread.ident is not None
    return thread.ident


def test_the_next_group_is_led_when_all_that_were_answered_went(gates: dict[int, Gate], clock: SimpleNamespace) -> None:
    written, held, go = Written(), Event(), Event()
    group = GroupCommit(written)
    first: list[Thread] = []
    later: list[Thread] = []

    def hold_up() -> None:
        held.set()
        assert go.wait(10)

    def write(requests: Requests) -> None:
        next(requests)
        first.extend(_queue_up(group, "bcd"))
        assert [_stream(next(requests)) for _ in range(3)] == ["b", "c", "d"]
        gates[_ident(first[1])].once_woken.append(hold_up)
        later.extend(_queue_up(group, "e"))
        clock.now += GROUP_SECONDS

    written.next_groups.append(write)
    group.append_each([_prepared("a")])
    assert held.wait(10)
    first[0].join(10)
    later.extend(_queue_up(group, "f"))
    assert not first[0].is_alive()
    assert first[2].is_alive(), "its turn comes behind the one that is held up"
    assert written.groups == [["a", "b", "c", "d"]]
    go.set()
    _join([*first, *later])
    assert written.groups == [["a", "b", "c", "d"], ["e", "f"]]
    assert _is_idle(group)


@pytest.mark.parametrize("interrupted", [0, 1, 2])
def test_an_answered_caller_that_is_interrupted_at_its_turn_gives_it_on(
    gates: dict[int, Gate], clock: SimpleNamespace, interrupted: int
) -> None:
    written = Written()
    group = GroupCommit(written)
    waiting: list[Thread] = []

    def write(requests: Requests) -> None:
        next(requests)
        waiting.extend(_queue_up(group, "bcd"))
        for _ in waiting:
            next(requests)
        gates[_ident(waiting[interrupted])].once_woken.append(_raise(StopLeading()))
        waiting.extend(_queue_up(group, "e"))
        clock.now += GROUP_SECONDS

    written.next_groups.append(write)
    group.append_each([_prepared("a")])
    _join(waiting)
    assert written.groups == [["a", "b", "c", "d"], ["e"]]
    assert _is_idle(group)


def test_an_answered_caller_that_is_interrupted_before_its_turn_is_passed_over(gates: dict[int, Gate]) -> None:
    written, leading, held, gone = Written(), Event(), Event(), Event()
    group = GroupCommit(written)
    others: list[Thread] = []

    def hold_up() -> None:
        held.set()
        interrupt()
        assert gone.wait(10)

    def write(requests: Requests) -> None:
        next(requests)
        others.extend(_queue_up(group, "b"))
        leading.set()
        _until(lambda: len(group._queue) == 2)
        others.extend(_queue_up(group, "d"))
        assert [_stream(next(requests)) for _ in range(3)] == ["b", "main", "d"]
        gates[_ident(others[0])].once_woken.append(hold_up)

    written.next_groups.append(write)
    leader = Thread(daemon=True, target=group.append_each, args=([_prepared("a")],))
    with _interruptible() as interrupt:
        leader.start()
        assert leading.wait(10)
        with pytest.raises(Interrupted):
            group.append_each([_prepared("main")])
        assert held.is_set()
        gone.set()
        _join([leader, *others])
    assert written.groups == [["a", "b", "main", "d"]]
    assert _is_idle(group)


# ---- The time limit.


def test_a_group_takes_no_more_work_after_ten_milliseconds(clock: SimpleNamespace) -> None:
    sizes: list[int] = []

    def write(requests: Requests) -> list[Verdict]:
        verdicts: list[Verdict] = []
        for _ in requests:
            clock.now += 0.004
            verdicts.append(Appended((Place(1, 1),), 0))
        sizes.append(len(verdicts))
        return verdicts

    verdicts = GroupCommit(write).append_each([_prepared() for _ in range(8)])
    assert GROUP_SECONDS == 0.010
    assert sizes == [3, 3, 2]
    assert len(verdicts) == 8


def test_what_the_time_limit_leaves_goes_to_the_next_leader(clock: SimpleNamespace) -> None:
    written = Written()
    group = GroupCommit(written)
    waiting: list[Thread] = []

    def be_slow(requests: Requests) -> None:
        next(requests)
        waiting.extend(_queue_up(group, "bc"))
        clock.now += GROUP_SECONDS

    written.next_groups.append(be_slow)
    group.append_each([_prepared("a")])
    _join(waiting)
    assert written.groups == [["a"], ["b", "c"]]
    assert written.threads == [threading.get_ident(), waiting[0].ident]
    assert _is_idle(group)


# ---- Trouble.


@pytest.mark.parametrize("error", [Interrupted, KeyboardInterrupt, MemoryError, ZeroDivisionError])
@pytest.mark.parametrize("drawn", [0, 1, 2, 4])
def test_a_leader_that_is_interrupted_strands_nobody(error: type[BaseException], drawn: int) -> None:
    written = Written()
    group = GroupCommit(written)
    waiting: list[Thread] = []

    def be_interrupted(requests: Requests) -> None:
        first = [next(requests)] if drawn else []
        waiting.extend(_queue_up(group, "bcd"))
        assert len(first + [next(requests) for _ in range(drawn - 1)]) == drawn
        raise error

    written.next_groups.append(be_interrupted)
    with pytest.raises(error):
        group.append_each([_prepared("a")])
    _join(waiting)
    assert written.streams == ["b", "c", "d"]
    assert _is_idle(group)


def test_a_leader_that_is_interrupted_alone_leaves_the_way_free() -> None:
    written = Written()
    group = GroupCommit(written)
    written.next_groups.append(_raise(Interrupted()))
    with pytest.raises(Interrupted):
        group.append_each([_prepared("a"), _prepared("b")])
    assert written.groups == []
    assert _is_idle(group)


def test_an_error_before_any_request_was_drawn_reaches_all_that_wait() -> None:
    written = Written()
    group = GroupCommit(written)
    answers: list[Verdict] = []
    waiting = [
        Thread(daemon=True, target=lambda: answers.extend(group.append_each([_prepared("w")]))) for _ in range(3)
    ]

    def fail(_: Requests) -> None:
        for number, thread in enumerate(waiting):
            thread.start()
            _until(lambda: len(group._queue) == number + 2)  # noqa: B023  (called at once)
        raise StoreUnavailable("the disk is full")

    written.next_groups.append(fail)
    answers += group.append_each([_prepared("a")])
    _join(waiting)
    assert [(type(answer), str(answer)) for answer in answers] == [(StoreUnavailable, "the disk is full")] * 4
    assert len({id(answer) for answer in answers}) == 4, "one error raised by many threads would mix their tracebacks"
    assert written.groups == []
    assert _is_idle(group)


def test_an_error_reaches_those_that_were_drawn_and_no_others() -> None:
    written = Written()
    group = GroupCommit(written)
    waiting: list[Thread] = []

    def fail(requests: Requests) -> None:
        next(requests)
        next(requests)
        waiting.extend(_queue_up(group, "cd"))
        raise StoreUnavailable("locked")

    written.next_groups.append(fail)
    first, second = group.append_each([_prepared("a"), _prepared("b")])
    _join(waiting)
    assert isinstance(first, StoreUnavailable)
    assert isinstance(second, StoreUnavailable)
    assert written.streams == ["c", "d"]
    assert _is_idle(group)


@contextmanager
def _interruptible() -> Iterator[Callable[[], None]]:
    """A call that interrupts the main thread, which runs this test, as Ctrl-C would."""

    def interrupt(*_: object) -> None:
        raise Interrupted

    main = threading.main_thread().ident
    assert main is not None
    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        yield lambda: signal.pthread_kill(main, signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_waiter_that_is_interrupted_is_withdrawn_from_the_queue() -> None:
    written = Written()
    group = GroupCommit(written)
    leading, gone = Event(), Event()

    def lead(requests: Requests) -> None:
        next(requests)
        leading.set()
        _until(lambda: len(group._queue) == 2)
        interrupt()
        assert gone.wait(10)

    written.next_groups.append(lead)
    leader = Thread(daemon=True, target=group.append_each, args=([_prepared("a")],))
    with _interruptible() as interrupt:
        leader.start()
        assert leading.wait(10)
        with pytest.raises(Interrupted):
            group.append_each([_prepared("b"), _prepared("c")])
        gone.set()
        leader.join()
    assert written.groups == [["a"]]
    assert _is_idle(group)


@pytest.mark.parametrize("leader_is_interrupted_too", [False, True])
def test_a_waiter_that_is_interrupted_once_taken_is_waited_for_by_nobody(leader_is_interrupted_too: bool) -> None:
    written = Written()
    group = GroupCommit(written)
    leading, gone = Event(), Event()
    third = Thread(daemon=True, target=group.append_each, args=([_prepared("c")],))

    def lead(requests: Requests) -> None:
        next(requests)
        leading.set()
        _until(lambda: len(group._queue) == 1)
        third.start()
        _until(lambda: len(group._queue) == 2)
        assert [_stream(next(requests)) for _ in range(2)] == ["b", "c"]
        interrupt()
        assert gone.wait(10)
        if leader_is_interrupted_too:
            raise StopLeading

    def append() -> None:
        try:
            group.append_each([_prepared("a")])
        except StopLeading:
            assert leader_is_interrupted_too

    written.next_groups.append(lead)
    leader = Thread(daemon=True, target=append)
    with _interruptible() as interrupt:
        leader.start()
        assert leading.wait(10)
        with pytest.raises(Interrupted):
            group.append_each([_prepared("b")])
        gone.set()
        _join([leader, third])
    assert written.groups == ([["c"]] if leader_is_interrupted_too else [["a", "b", "c"]])
    assert _is_idle(group)


class StopLeading(BaseException):
    """Ends a leader on a thread of its own."""


# ---- Closing.


def test_closing_refuses_new_calls_and_waits_for_those_queued() -> None:
    written = Written()
    group = GroupCommit(written)
    closer = Thread(daemon=True, target=group.close, args=(10.0,))
    waiting: list[Thread] = []

    def lead(requests: Requests) -> None:
        next(requests)
        waiting.extend(_queue_up(group, "bc"))
        closer.start()
        _until(lambda: group._closed)
        with pytest.raises(StoreUnavailable, match="closed"):
            group.append_each([_prepared("late")])
        assert closer.is_alive()

    written.next_groups.append(lead)
    group.append_each([_prepared("a")])
    closer.join()
    assert written.streams == ["a", "b", "c"]
    _join(waiting)
    with pytest.raises(StoreUnavailable):
        group.append_each([_prepared("late")])


def test_closing_waits_no_longer_than_it_was_told() -> None:
    written = Written()
    group = GroupCommit(written)
    written.next_groups.append(lambda requests: group.close(0.0) if next(requests) else None)
    (verdict,) = group.append_each([_prepared("a")])
    assert isinstance(verdict, Appended)


def _raise(error: BaseException) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise error

    return fail


def _join(threads: Sequence[Thread]) -> None:
    for thread in threads:
        thread.join(10)
    assert not [thread for thread in threads if thread.is_alive()], "stranded"
