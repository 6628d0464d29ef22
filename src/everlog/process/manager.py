"""`ProcessManager`: events in, commands out, with a state of its own, and the patience to wait."""

from collections.abc import Callable, Iterable, Sequence
from types import MappingProxyType
from typing import Any, Generic, Never, TypeVar, Unpack, overload

from everlog.core.errors import InvalidInput, Misconfigured
from everlog.domain.decider import Decider
from everlog.domain.event import kind_of
from everlog.domain.recorded import Recorded
from everlog.process.actions import Action
from everlog.process.events import CommandRejected, ExpectationMissed, Reacted, TimerFired
from everlog.process.rules import ANY, Rules, of_command
from everlog.process.run import Handling
from everlog.processing.processor import Options, Processor, processor

S = TypeVar("S")
Own = TypeVar("Own")
E = TypeVar("E")

React = Callable[[S, Recorded[E]], Iterable[Action | Own]]


class ProcessManager(Generic[S, Own]):
    """Follows events that belong to one process by `key`, and answers with actions.

    A process lives in the stream `name-key` of its tenant. Its state is `initial` folded through `evolve` with the
    events it gives as answers of its own; leave both out where it needs none. `does` are the deciders it may command.
    `options` are those of a processor, which it is: lanes, retries and parking work as they do there.
    """

    @overload
    def __init__(
        self: "ProcessManager[None, Never]",
        name: str,
        *,
        does: Sequence[Decider[Any, Any, Any]] = (),
        **options: Unpack[Options],
    ) -> None: ...
    @overload
    def __init__(
        self,
        name: str,
        *,
        initial: S,
        evolve: Callable[[S, Own], S],
        does: Sequence[Decider[Any, Any, Any]] = (),
        **options: Unpack[Options],
    ) -> None: ...
    def __init__(
        self,
        name: str,
        *,
        initial: Any = None,
        evolve: Any = None,
        does: Sequence[Decider[Any, Any, Any]] = (),
        **options: Unpack[Options],
    ) -> None:
        if options.get("inbox") or options.get("isolate"):
            raise Misconfigured(f"process manager {name!r} is pure: neither inbox nor isolate means anything to it")
        self.states: Decider[Any, Any, Any] = Decider(name, initial, _commands_nothing, evolve or _stays, None)
        """How its state is folded, for `session.state(welcome.states, key)`."""
        own = () if evolve is None else self.states.event_types()
        self.rules = Rules(self.states, own, MappingProxyType({one.name: one for one in does}))
        self._options = options
        self._processor: Processor[Any] | None = None

    @property
    def name(self) -> str:
        return self.states.name

    def on(
        self, event: type[E], *, key: Callable[[Recorded[E]], str]
    ) -> Callable[[React[S, E, Own]], React[S, E, Own]]:
        """Decorates `react(state, event)`, a pure function or generator that gives actions and own events; `key` says
        of which process the event is."""
        kind = kind_of(event)

        def declare(react: React[S, E, Own]) -> React[S, E, Own]:
            self._add(event, ANY, react)
            self.rules.keys[kind.name] = key
            return react

        return declare

    def on_timer(self, name: str) -> Callable[[React[S, TimerFired, Own]], React[S, TimerFired, Own]]:
        """Decorates what follows when the timer of this name is due."""

        def declare(react: React[S, TimerFired, Own]) -> React[S, TimerFired, Own]:
            self._add(TimerFired, name, react)
            return react

        return declare

    def on_missed(self, name: str) -> Callable[[React[S, ExpectationMissed, Own]], React[S, ExpectationMissed, Own]]:
        """Decorates what follows when the expectation of this name was not met in time."""

        def declare(react: React[S, ExpectationMissed, Own]) -> React[S, ExpectationMissed, Own]:
            self._add(ExpectationMissed, name, react)
            return react

        return declare

    def on_rejected(self, command: type) -> Callable[[React[S, CommandRejected, Own]], React[S, CommandRejected, Own]]:
        """Decorates what follows when the business said no to a command of this class."""
        deciders = [one.name for one in self.rules.deciders.values() if command in one.command_types()]
        if not deciders:
            raise Misconfigured(f"process manager {self.name!r} cannot command {command.__name__}: see its does=[…]")

        def declare(react: React[S, CommandRejected, Own]) -> React[S, CommandRejected, Own]:
            for decider in deciders:
                self._add(CommandRejected, of_command(decider, command.__name__), react)
            return react

        return declare

    @property
    def processor(self) -> Processor[Any]:
        """The processor it runs as: for `wait_for`, and for whoever looks at its lanes. From then on it is complete."""
        if self._processor is None:
            rules = self.rules
            if not rules.keys:
                raise Misconfigured(f"process manager {self.name!r} follows nothing: decorate a function with .on(…)")
            declare = processor(self.name, on=list(rules.events.values()), key=_lane_of(rules), **self._options)
            self._processor = declare(Handling(rules))
        return self._processor

    def _add(self, event: type, detail: str, react: Callable[[Any, Recorded[Any]], Iterable[object]]) -> None:
        if self._processor is not None:
            raise Misconfigured(
                f"process manager {self.name!r} is part of a platform already: declare all of it before"
            )
        self.rules.add(event, detail, react)


def _lane_of(rules: Rules) -> Callable[[Recorded[Any]], str]:
    """All of one process goes one after another; what is of another manager's has a lane where nothing happens."""
    return lambda event: rules.stream_of(event) or event.stream


def _stays(state: None, event: Reacted) -> None:
    return None


def _commands_nothing(command: object, state: object) -> Iterable[Any]:
    raise InvalidInput("a process takes no commands: append the event it waits for")
