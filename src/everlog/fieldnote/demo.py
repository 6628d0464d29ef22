"""The demo: plays the story into a log, tells what came of it, and waits.

It may run again, at the same time as another one, or after one that was killed half-way: every step carries a request
id, and what is stored already is not stored again. Other tenants of the log are left alone.
"""

import signal
import threading
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

from everlog import AppendConditionFailed, IdempotencyConflict, IncompatibleStore, Log, Misconfigured, Rejected
from everlog.fieldnote import first_release, story, team
from everlog.fieldnote.app import platform
from everlog.fieldnote.report import Refusal, report
from everlog.fieldnote.screen import say, show, show_json
from everlog.fieldnote.story import FirstReleaseEvent, Step
from everlog.fieldnote.team import TeamCommand
from everlog.fieldnote.tenants import TenantCommand, tenants
from everlog.fieldnote.users import users


class StoryClock:
    """Shows the time of the story, not of the day the demo runs: so every run stores the same."""

    def __init__(self) -> None:
        self.now = datetime(2025, 1, 1, tzinfo=UTC)

    def __call__(self) -> int:
        return int(self.now.timestamp()) * 1_000_000


def run(url: str, *, wait: bool, json: bool = False) -> None:
    """Play the story into the log at `url`, print what came of it and, with `wait`, stay until SIGINT or SIGTERM."""
    _make_folder(url)
    clock = StoryClock()
    with first_release.platform.open(url, clock=clock) as log:
        play(log, clock, story.first_year())
    with platform.open(url, clock=clock) as log:
        play(log, clock, story.this_year())
        told = report(log, url, tuple(_refusals(log, clock)))
    (show_json if json else show)(told)
    if wait:
        _wait_until_stopped()


def play(log: Log, clock: StoryClock, steps: Iterable[Step]) -> None:
    """Let it happen, step by step; a step that happened before is not repeated."""
    for step in steps:
        try:
            _perform(log, clock, step)
        except (Rejected, AppendConditionFailed, IdempotencyConflict) as error:
            raise IncompatibleStore(
                f"tenant {step.tenant!r} of this log is another's, or an older demo's ({step.request_id}: {error}): "
                "give the demo a file of its own, or delete this one"
            ) from error


def _perform(log: Log, clock: StoryClock, step: Step) -> None:
    clock.now = step.at
    session = log.tenant(step.tenant, actor=step.who.actor, ip=step.who.ip, user_agent=step.who.user_agent)
    if isinstance(step.what, TenantCommand):
        session.execute(tenants, step.target, step.what, request_id=step.request_id)
    elif isinstance(step.what, TeamCommand):
        team.execute(session, step.what, request_id=step.request_id)
    elif isinstance(step.what, FirstReleaseEvent):
        session.append(users.stream(step.target), step.what, request_id=step.request_id)
    else:
        session.execute(users, step.target, step.what, request_id=step.request_id)


def _refusals(log: Log, clock: StoryClock) -> Iterator[Refusal]:
    for step in story.refused():
        try:
            _perform(log, clock, step)
        except Rejected as no:
            yield Refusal(step.tenant, step.who.actor, type(step.what).__name__, step.target, str(no))


def _make_folder(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme == "memory":
        raise Misconfigured("the demo runs two releases, one after the other, on one log: give it sqlite:///demo.db")
    if parts.scheme == "sqlite":
        Path(unquote(parts.path[1:])).parent.mkdir(parents=True, exist_ok=True)


def _wait_until_stopped() -> None:
    stopped = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    try:
        say("Waiting: Ctrl-C stops.")
        stopped.wait()
    except KeyboardInterrupt:
        raise SystemExit(130) from None  # what a shell expects of a program that was interrupted
    finally:
        signal.signal(signal.SIGTERM, before)
