"""The demo: plays the story into a log, lets a worker follow it, tells what came of it, and waits.

It may run again, at the same time as another one, or after one that was killed half-way: every step carries a request
id, and what is stored already is not stored again. Other tenants of the log are left alone.
"""

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

from everlog import (
    AppendConditionFailed,
    Backoff,
    IdempotencyConflict,
    IncompatibleStore,
    LaneFilter,
    LaneOperator,
    Log,
    Misconfigured,
    Platform,
    Rejected,
    Retry,
    Session,
    WaitTimeout,
)
from everlog.fieldnote import first_release, story, team
from everlog.fieldnote.app import FOLDER, fieldnote
from everlog.fieldnote.incidents import IncidentClosed, IncidentOpened
from everlog.fieldnote.post import Post, post_office
from everlog.fieldnote.report import Refusal, Report, report
from everlog.fieldnote.screen import say, show, show_json
from everlog.fieldnote.story import FirstReleaseEvent, Step, Who
from everlog.fieldnote.team import TeamCommand
from everlog.fieldnote.tenants import TenantCommand, tenants
from everlog.fieldnote.users import users

# The story's clock stands still while the worker runs, so a pause would never be over.
AT_ONCE = Retry(attempts=3, backoff=Backoff(first=0.0))
LEASE_SECONDS = 2.0  # so that a demo that was killed holds up the next one no longer than that
PATIENCE_SECONDS = 30.0
POISONED = LaneFilter("welcome-mail", "globex/user-u-6")


class StoryClock:
    """Shows the time of the story, not of the day the demo runs: so every run stores the same."""

    def __init__(self) -> None:
        self.now = datetime(2025, 1, 1, tzinfo=UTC)

    def __call__(self) -> int:
        return int(self.now.timestamp()) * 1_000_000


def run(url: str, *, wait: bool, json: bool = False) -> None:
    """Perform it in the log at `url`, print what came of it and, with `wait`, stay until SIGINT or SIGTERM."""
    post = post_office(_made_folder(url) / "outbox")
    told = perform(url, post)
    (show_json if json else show)(told)
    if wait:
        with fieldnote(post).open(url, worker=True):
            _wait_until_stopped()


def perform(url: str, post: Post) -> Report:
    """Play the story into the log at `url`, let a worker follow it, and read from the log what came of it."""
    post.check()
    clock, platform = StoryClock(), fieldnote(post, AT_ONCE)
    with first_release.platform.open(url, clock=clock) as log:
        play(log, clock, story.first_year())
    with platform.open(url, clock=clock) as log:
        end = play(log, clock, story.this_year())
        refused = tuple(_refusals(log, clock))
    # Only now, or what processors append would lie between the story's events, each time elsewhere.
    clock.now = story.WORKER_STARTS
    with _hushed(), platform.open(url, clock=clock, worker=True, lease_seconds=LEASE_SECONDS) as log:
        _follow(log, clock, platform, end)
        return report(log, platform, url, refused, end, post.told())


@contextmanager
def _hushed() -> Iterator[None]:
    """What the worker logs about the poison event is the demo's to tell."""
    logger = logging.getLogger("everlog")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def play(log: Log, clock: StoryClock, steps: Iterable[Step]) -> int:
    """Let it happen, step by step, and say the last position; a step that happened before is not repeated."""
    end = 0
    for step in steps:
        try:
            end = max(end, _perform(log, clock, step))
        except (Rejected, AppendConditionFailed, IdempotencyConflict) as error:
            raise IncompatibleStore(
                f"tenant {step.tenant!r} of this log is another's, or an older demo's ({step.request_id}: {error}): "
                "give the demo a file of its own, or delete this one"
            ) from error
    return end


def _perform(log: Log, clock: StoryClock, step: Step) -> int:
    clock.now = step.at
    session = _as(log, step.tenant, step.who)
    if isinstance(step.what, TenantCommand):
        return session.execute(tenants, step.target, step.what, request_id=step.request_id).position
    if isinstance(step.what, TeamCommand):
        return team.execute(session, step.what, request_id=step.request_id)
    if isinstance(step.what, FirstReleaseEvent):
        return session.append(users.stream(step.target), step.what, request_id=step.request_id).position
    return session.execute(users, step.target, step.what, request_id=step.request_id).position


def _as(log: Log, tenant: str, who: Who) -> Session:
    return log.tenant(tenant, actor=who.actor, ip=who.ip, user_agent=who.user_agent)


def _refusals(log: Log, clock: StoryClock) -> Iterator[Refusal]:
    for step in story.refused():
        try:
            _perform(log, clock, step)
        except Rejected as no:
            yield Refusal(step.tenant, step.who.actor, type(step.what).__name__, step.target, str(no))


def _follow(log: Log, clock: StoryClock, platform: Platform, end: int) -> None:
    """The worker goes through the story and parks one lane; its user mends his address, and the lane is tried again."""
    globex, lanes = _as(log, "globex", story.OPS), LaneOperator(log.store, story.OPS.actor)
    about = (POISONED.processor, str(POISONED.key))
    _until("followed the story", lambda: _passed(log, [part.name for part in platform.follows()], end))
    if any(globex.events(IncidentClosed)):
        return
    _until("parked the lane", lambda: _noted(globex) or any(lane.status == "parked" for lane in lanes.find(POISONED)))
    lane = next(lanes.find(POISONED), None)  # gone if another demo went on meanwhile, and that noted it before
    if lane is not None and not _noted(globex):
        clock.now = story.INCIDENT_OPENS
        opened = IncidentOpened(*about, lane.first, lane.attempts, lane.error)
        globex.append("incident-1", opened, request_id="incident-1 opened")
    mended = play(log, clock, story.mended())
    _until("saw the new address", lambda: _passed(log, [POISONED.processor], mended))
    clock.now = story.LANE_IS_TRIED
    lanes.retry(POISONED)
    _until("worked off the lane", lambda: not any(lanes.find(POISONED)))
    clock.now = story.INCIDENT_CLOSES
    closed = IncidentClosed(*about, "the user corrected his address, and the lane was tried again")
    globex.append("incident-1", closed, request_id="incident-1 closed")


def _noted(globex: Session) -> bool:
    """Perhaps by a demo that ran before, or runs beside this one."""
    return any(globex.events(IncidentOpened))


def _passed(log: Log, names: Iterable[str], position: int) -> bool:
    """Whether these have handled, or parked, everything up to there."""
    return {lag.progress.name for lag in log.lags() if lag.progress.position >= position}.issuperset(names)


def _until(what: str, came: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while not came():
        if time.monotonic() > until:
            raise WaitTimeout(
                f"the worker has not {what} within {PATIENCE_SECONDS:g} s: `everlog processor list` and "
                "`everlog dlq list` show what holds it up; then run the demo again"
            )
        time.sleep(0.01)


def _made_folder(url: str) -> Path:
    """Where the log will be; of a database, where the application's mails go too."""
    parts = urlsplit(url)
    if parts.scheme == "memory":
        raise Misconfigured("the demo runs two releases, one after the other, on one log: give it sqlite:///demo.db")
    folder = Path(unquote(parts.path[1:])).parent if parts.scheme == "sqlite" else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _wait_until_stopped() -> None:
    stopped = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    try:
        say("Waiting: Ctrl-C stops.")
        while not stopped.is_set():  # a signal that comes just as `stopped.wait` begins would not end it
            time.sleep(0.1)
    except KeyboardInterrupt:
        raise SystemExit(130) from None  # what a shell expects of a program that was interrupted
    finally:
        signal.signal(signal.SIGTERM, before)
