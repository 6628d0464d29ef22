"""One input of a process, from the event to the executed commands; a crash between any two lines costs nothing.

Look whether the reaction is recorded; if not, react and record it as one append, under the version that was loaded.
Only then execute what is recorded, under request ids derived from the record. So whoever comes again finds the same
decision, and what of it was done is done once. A command that leads to no event leaves its outcome under that very
request id: of two owners, one of whom slept, one has the answer, and the log refuses the other's.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Protocol
from uuid import UUID

from everlog.core.envelope import Appended
from everlog.core.errors import IdempotencyConflict, Rejected, WrongExpectedVersion
from everlog.core.expect import ANYTHING, Exactly, Expect
from everlog.core.ids import derived_id
from everlog.domain.decider import Decider
from everlog.domain.recorded import Recorded
from everlog.process.events import CommandChangedNothing, CommandRejected, Ordered
from everlog.process.past import Reaction
from everlog.process.reaction import decoded
from everlog.process.rules import Rules

_ATTEMPTS = 25


class Executed(Protocol):
    @property
    def events(self) -> Sequence[object]: ...


class Session(Protocol):
    """What a process needs of the log: its tenant's session, as every processor may have it."""

    @property
    def tenant(self) -> str: ...

    def acting(self, *, actor: str | None = ..., causation_id: UUID | None = ...) -> "Session": ...

    def stream(self, name: str) -> Iterator[Recorded[Any]]: ...

    def append(
        self,
        stream: str,
        *events: object,
        expect: Expect = ANYTHING,
        ids: Sequence[UUID] | None = None,
        request_id: str | None = None,
    ) -> Appended: ...

    def execute(self, decider: Decider[Any, Any, Any], id: str, command: Any, *, request_id: str) -> Executed: ...

    def answer(self, request_id: str) -> Recorded[Any] | None: ...


class Handling:
    """The handler of a process manager's processor."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    def __call__(self, event: Recorded[Any], session: Session) -> None:
        stream = self._rules.stream_of(event)
        if stream is None:
            return
        acting = session.acting(actor=f"process:{self._rules.name}")
        reaction = self._recorded(event, acting, stream)
        if reaction is not None:
            self._carry_out(reaction, acting.acting(causation_id=reaction.id), stream)

    def _recorded(self, event: Recorded[Any], session: Session, stream: str) -> Reaction | None:
        """The reaction as it is in the log, after this at the latest; none when the event means nothing."""
        seen = 0
        for attempt in itertools.count(1):
            past = self._rules.past(session.stream(stream))
            if (known := past.reactions.get(event.key)) is not None:
                return known
            if self._rules.means_nothing(past, event):
                return None
            draft = self._rules.react(past, event)
            # What comes too early or concerns no process is not worth an event each. One under way notes everything:
            # it might answer otherwise the second time.
            if draft.empty and not past.under_way:
                return None
            events = (draft.reacted(), *draft.own)
            ids = _ids(session.tenant, stream, event.key, len(events))
            try:
                answer = session.append(stream, *events, expect=Exactly(max(past.version, seen)), ids=ids)
            except (WrongExpectedVersion, IdempotencyConflict) as error:
                # A timer fired meanwhile, or an owner that lost its lease was quicker: look again. What was there by
                # now and still is not seen then, is dropped by an upcaster.
                if attempt == _ATTEMPTS:
                    raise
                seen = error.actual if isinstance(error, WrongExpectedVersion) else seen
            else:
                if not answer.replayed:  # else some of it may be over by now
                    return Reaction(ids[0], draft.reacted(), set())
        raise AssertionError("the loop ends by returning or raising")

    def _carry_out(self, reaction: Reaction, session: Session, stream: str) -> None:
        for number, ordered in enumerate(reaction.what.commands):
            if number in reaction.over:
                continue
            # A command that was never executed, because a person skipped it, is not taken back; and from now on it
            # never will be.
            if ordered.undoes and _was_not_done(session, stream, ordered.undoes):
                _ends(session, stream, CommandChangedNothing(str(reaction.id), number))
            else:
                self._execute(reaction, number, ordered, session, stream)

    def _execute(self, reaction: Reaction, number: int, ordered: Ordered, session: Session, stream: str) -> None:
        request_id = _request(str(reaction.id), number)
        try:
            decider = self._rules.decider(ordered.decider)
            command = decoded(ordered.command, decider)
        except Exception:  # either is gone, or has other fields: no matter for what was done long ago
            if session.answer(request_id) is None:
                raise
            return
        try:
            result = session.execute(decider, ordered.id, command, request_id=request_id)
        except IdempotencyConflict:  # the outcome of an owner that took over
            return
        except Rejected as no:
            told = (str(reaction.id), number, ordered.decider, ordered.id, ordered.command)
            _ends(session, stream, CommandRejected(*told, no.reason, no.texts()))
        else:
            if not result.events:
                _ends(session, stream, CommandChangedNothing(str(reaction.id), number))


def _ends(session: Session, stream: str, outcome: CommandRejected | CommandChangedNothing) -> bool:
    """Write down that a command led to no event; false when it did, or ended in another way."""
    try:
        session.append(stream, outcome, request_id=_request(outcome.reaction, outcome.number))
    except IdempotencyConflict:
        return False
    return True


def _was_not_done(session: Session, stream: str, which: tuple[str, int]) -> bool:
    if _ends(session, stream, CommandChangedNothing(*which)):
        return True
    answer = session.answer(_request(*which))
    return answer is not None and answer.stream == stream  # it was rejected, by an owner that slept


def _request(reaction: str, number: int) -> str:
    return f"process {reaction} {number}"


def _ids(tenant: str, stream: str, input: str, count: int) -> list[UUID]:
    return [UUID(bytes=derived_id(tenant, "process reaction", stream, input, number)) for number in range(count)]
