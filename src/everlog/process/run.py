"""One input of a process, from the event to the executed commands; a crash between any two lines costs nothing.

Look whether the reaction is recorded; if not, react and record it as one append, under the version that was loaded.
Only then execute what is recorded, under request ids derived from the record. So whoever comes again finds the same
decision, and what of it was done is done once.
"""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import suppress
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
_LONGEST_DETAIL = 1000


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
        self, stream: str, *events: object, expect: Expect = ANYTHING, ids: Sequence[UUID] | None = None
    ) -> Appended: ...

    def execute(self, decider: Decider[Any, Any, Any], id: str, command: Any, *, request_id: str) -> Executed: ...


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
                session.append(stream, *events, expect=Exactly(past.version), ids=ids)
            except (WrongExpectedVersion, IdempotencyConflict):
                # A timer fired meanwhile, or an owner that lost its lease was quicker: look again.
                if attempt == _ATTEMPTS:
                    raise
            else:
                return Reaction(ids[0], draft.reacted(), set())
        raise AssertionError("the loop ends by returning or raising")

    def _carry_out(self, reaction: Reaction, session: Session, stream: str) -> None:
        for number, ordered in enumerate(reaction.what.commands):
            if number in reaction.over:
                continue
            outcome = self._execute(reaction, number, ordered, session)
            if outcome is not None:
                id = UUID(bytes=derived_id(session.tenant, "process outcome", reaction.id.bytes, number))
                # Known with other content: an owner that lost its lease found another answer first. That one counts.
                with suppress(IdempotencyConflict):
                    session.append(stream, outcome, ids=[id])

    def _execute(
        self, reaction: Reaction, number: int, ordered: Ordered, session: Session
    ) -> CommandRejected | CommandChangedNothing | None:
        """What must be written down, because the command left no event that would tell."""
        decider = self._rules.decider(ordered.decider)
        command, request_id = decoded(ordered.command, decider), f"process {reaction.id} {number}"
        try:
            result = session.execute(decider, ordered.id, command, request_id=request_id)
        except Rejected as no:
            details = {name: str(value)[:_LONGEST_DETAIL] for name, value in no.details.items()}
            told = (str(reaction.id), number, ordered.decider, ordered.id, ordered.command)
            return CommandRejected(*told, no.reason, details)
        return None if result.events else CommandChangedNothing(str(reaction.id), number)


def _ids(tenant: str, stream: str, input: str, count: int) -> list[UUID]:
    return [UUID(bytes=derived_id(tenant, "process reaction", stream, input, number)) for number in range(count)]
