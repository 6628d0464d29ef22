"""Comparing the broker's copy with the log, and taking away what is no beginning of it, so that it can be refilled.

The copy is sound when its messages are, in order and without a hole, what the log's events give: then sending what
follows its last message makes it whole, whoever wrote it. Whatever is behind the first difference is removed.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from everlog.core.envelope import StoredEvent
from everlog.core.errors import InvalidInput
from everlog.relay.cloudevents import Received, read, received
from everlog.relay.contract import BrokerUnavailable, Held, Holding, Message, Sender
from everlog.relay.routing import Outgoing
from everlog.relay.state import Copy, Mark
from everlog.store.contract import Store
from everlog.store.query import Filter

_ROUNDS = 5


class ForeignMessages(BrokerUnavailable):
    """Somebody else sends under the relay's subjects. Nothing of theirs is touched: a person must say what to do."""

    code = "foreign_messages"


class LaterIncarnation(BrokerUnavailable):
    """The broker holds what a later copy of this log sent. None of it is touched: this one may be out of date."""

    code = "later_incarnation"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Knows the log's side. `alive` is called now and then during what may take long."""

    sender: Sender
    store: Store
    where: Filter
    outgoing: Outgoing
    prefix: str
    alive: Callable[[], None]

    def mend(self, known: Copy, holding: Holding) -> Copy:
        """The copy as it is when nothing of it differs from the log any more."""
        for _ in range(_ROUNDS):
            copy = self._sound(known, holding)
            if isinstance(copy, Copy):
                return copy
            # Its figures are answers to several questions: only what is seen twice was not said in between.
            again = self.sender.holds(self.prefix)
            if again == holding:
                self.sender.cut(self.prefix, copy)
                again = self.sender.holds(self.prefix)
            holding = again
        raise self._restless()

    def before(self, known: Copy, holding: Holding, position: int) -> Copy:
        """The copy without anything from `position` on; where nothing is left it begins there."""
        for _ in range(_ROUNDS):
            kept = self._greatest(holding.last, lambda held: self._ours(held).stored.position < position)
            if kept == holding.last:
                first = known.first if kept else position - 1
                # As if nothing were known of it, so that all of it is counted.
                return self.mend(known._replace(first=first, sequence=0, mark=Mark(first)), holding)
            self.sender.cut(self.prefix, kept.sequence if kept else 0)
            holding = self.sender.holds(self.prefix)
        raise self._restless()

    def lacks(self, copy: Copy, position: int) -> bool:
        """Whether the copy misses anything that was to be in it by `position`."""
        return next(self.between(copy.mark, Mark(position)), None) is not None

    def _sound(self, known: Copy, holding: Holding) -> Copy | int:
        """The copy, or the sequence behind which all must go."""
        last = holding.last
        if last is None:
            return self._copy(known, holding, None)
        if self._is_damaged(known, holding, last):
            return last.sequence - 1
        if not self._is_logged(last):
            kept = self._greatest(last, self._is_logged)
            return kept.sequence if kept else 0
        copy = self._copy(known, holding, last)
        if known.sequence and copy.mark == known.mark and copy.digest != known.digest:
            return last.sequence - 1
        if not self._stands(known, holding, copy):
            known = known._replace(sequence=0)
        elif not self._follows(known, holding, copy):
            return known.sequence
        if not holding.forgets and holding.messages != self._expected(known, copy.mark):
            return 0
        return copy

    def _copy(self, known: Copy, holding: Holding, last: Held | None) -> Copy:
        if last is None:
            # A stream that lets messages go may be empty and nothing lost.
            same = holding.forgets and holding.created == known.created
            mark = known.mark if same else Mark(known.first)
            return Copy(holding.stream, holding.created, 0, 0, mark, b"", known.first)
        ours = self._ours(last)
        whole = self.outgoing.relay.transform is None
        mark = Mark(ours.stored.position) if whole else Mark(ours.stored.position, ours.part)
        told = digest(last.message)
        if _sent_last(known, holding, last) and told == known.digest:
            mark = known.mark  # also where the relay had no transform then, or another one
        return Copy(holding.stream, holding.created, last.sequence, holding.messages, mark, told, known.first)

    def _is_damaged(self, known: Copy, holding: Holding, last: Held) -> bool:
        """Whether nobody can tell any more that this is what we sent last."""
        if not _sent_last(known, holding, last) or digest(last.message) == known.digest:
            return False
        try:
            self._ours(last)
        except ForeignMessages:
            return True
        return False

    def _is_logged(self, held: Held) -> bool:
        """Whether the log has this very event at this position."""
        ours = self._ours(held)
        position = ours.stored.position
        found: StoredEvent | None = next(self.store.read(Filter(None), after=position - 1, upto=position), None)
        return found is not None and found.id == ours.stored.id

    def _greatest(self, last: Held | None, holds: Callable[[Held], bool]) -> Held | None:
        """The last message for which it holds, as it does for all before one for which it does."""
        if last is None or holds(last):
            return last
        best, low, high = None, 0, last.sequence - 1
        while low < high:
            middle = (low + high + 1) // 2
            found = self.sender.held(self.prefix, middle - 1)
            self.alive()
            if found is not None and found.sequence <= high and holds(found):
                best, low = found, found.sequence
            else:
                high = middle - 1
        return best

    def _stands(self, known: Copy, holding: Holding, copy: Copy) -> bool:
        """Whether the last message known still is where it was, or was let go of on purpose."""
        if holding.created != known.created or not known.sequence or copy.mark < known.mark:
            return False
        if copy.sequence == known.sequence:
            return copy.digest == known.digest
        held = self.sender.held(self.prefix, known.sequence - 1)
        if held is None or held.sequence != known.sequence:
            return holding.forgets
        return digest(held.message) == known.digest

    def _follows(self, known: Copy, holding: Holding, copy: Copy) -> bool:
        """Whether what lies behind the last message known is what the log gives from there on, each once.

        Their number would not tell, where one is doubled behind it and another lost before.
        """
        wanted = [message.id for message in self.between(known.mark, copy.mark)]
        found = self._behind(known.sequence, copy.sequence)
        if not holding.forgets:
            return found == wanted
        rest = iter(wanted)
        return all(one in rest for one in found)

    def _behind(self, after: int, upto: int) -> list[str]:
        """The ids of the messages in between: no more than a page, since each page's end is committed."""
        found: list[str] = []
        while after < upto and (held := self.sender.held(self.prefix, after)) is not None and held.sequence <= upto:
            found.append(held.message.id)
            after = held.sequence
            self.alive()
        return found

    def _expected(self, known: Copy, upto: Mark) -> int:
        """How many messages the copy holds if it has no hole; counted from what is known, if it is."""
        if known.sequence:
            return known.messages + sum(1 for _ in self.between(known.mark, upto))
        return sum(1 for _ in self.between(Mark(known.first), upto))

    def between(self, after: Mark, upto: Mark) -> Iterator[Message]:
        """The messages of the log's events in this range."""
        events = self.store.read(self.where, after=max(0, after.position - 1), upto=upto.position)
        for number, event in enumerate(events):
            if number % 1000 == 0:
                self.alive()
            for part, message in self.outgoing.messages(event):
                if after < (event.position, part) <= upto:
                    yield message

    def _restless(self) -> BrokerUnavailable:
        return BrokerUnavailable(f"what the broker holds below {self.prefix} changes while it is compared")

    def _ours(self, held: Held) -> Received:
        try:
            found = received(read(held.message))
        except InvalidInput as error:
            raise self._foreign(held, str(error)) from error
        if found.source != self.outgoing.source:
            raise self._foreign(held, f"it is from {found.source}, and this log is {self.outgoing.source}")
        if found.incarnation > self.outgoing.incarnation:
            raise LaterIncarnation(
                f"message {held.sequence} below {self.prefix} is from incarnation {found.incarnation} of this log, and "
                f"this copy of it is incarnation {self.outgoing.incarnation}: stop its relays if it is no longer the "
                "log that is written; if it is, give the relay another prefix, or purge those subjects"
            )
        return found

    def _foreign(self, held: Held, why: str) -> ForeignMessages:
        return ForeignMessages(
            f"message {held.sequence} below {self.prefix} was not sent by this relay ({why}): "
            "give the relay another prefix, or purge those subjects"
        )


def _sent_last(known: Copy, holding: Holding, last: Held) -> bool:
    """Whether it lies where we sent our last one."""
    return (holding.stream, holding.created, last.sequence) == (known.stream, known.created, known.sequence)


def digest(message: Message) -> bytes:
    """Of what was sent, as it comes back."""
    told = hashlib.sha256(message.subject.encode() + b"\0" + message.id.encode() + b"\0")
    for name, value in sorted(message.headers.items()):
        told.update(f"{name.lower()}\0{value}\0".encode())
    told.update(message.body)
    return told.digest()
