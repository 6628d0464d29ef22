"""From an append to a handler, whose worker runs in the process that appends."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from benchmarks.inputs import TENANT, url_of
from benchmarks.one import Job
from benchmarks.orders import LineAdded
from benchmarks.timing import Slice, followed
from benchmarks.workload import lines, new_id
from everlog import Fold, NoStream, Platform, Recorded, Session, processor
from everlog.app.platform import Part

Saw = Callable[[], None]


def fold(job: Job) -> AbstractContextManager[Slice]:
    """A read model; as with the peer, its handler runs before anything about the event is committed."""
    return _live(job, _seeing_fold)


def effect(job: Job) -> AbstractContextManager[Slice]:
    """A processor: that its handler may have begun is committed before it begins."""
    return _live(job, _seeing_processor)


@contextmanager
def _live(job: Job, part: Callable[[Saw], Part]) -> Iterator[Slice]:
    source, expect = lines(), NoStream()
    session: Session

    def append() -> int:
        order = new_id()
        done = session.append(f"order-{order}", LineAdded(order_id=order, **next(source)), expect=expect)
        return len(done.places)

    with followed(append) as (work, saw), Platform(url_of(job), part(saw)).open(worker=True) as log:
        session = log.tenant(TENANT)
        yield work


def _seeing_fold(saw: Saw) -> Part:
    seen = Fold("seen", initial=0)

    @seen.on(LineAdded, key=lambda e: e.data.city)
    def add(count: int, e: Recorded[LineAdded]) -> int:
        saw()
        return count + 1

    return seen


def _seeing_processor(saw: Saw) -> Part:
    @processor("seen", on=LineAdded)
    def handle(e: Recorded[LineAdded]) -> None:
        saw()

    return handle
