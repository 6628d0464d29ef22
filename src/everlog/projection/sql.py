"""`SqlProjection`: a read model in tables of your own, open to any tool; written on the checkpoint's transaction."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from everlog.core.errors import Misconfigured
from everlog.domain.event import kind_of
from everlog.domain.recorded import Recorded
from everlog.subscription.contract import Effects
from everlog.subscription.naming import subscription_name, subscription_partitions, subscription_version
from everlog.subscription.start import BEGINNING, Start

E = TypeVar("E")


class SqlProjection:
    """`setup` are statements that make its tables (`CREATE TABLE IF NOT EXISTS …`), `tables` their names, dropped when
    it is built anew. Raise `version` when anything changes. Divided into `partitions`, several workers share it; the
    events of one `key` (default: the stream) are always in the same one, so no two of them write the same rows as long
    as a row belongs to a key.
    """

    def __init__(
        self,
        name: str,
        *,
        setup: Sequence[str],
        tables: Sequence[str],
        version: int = 1,
        start: Start = BEGINNING,
        partitions: int = 1,
        key: Callable[[Recorded[Any]], str] | None = None,
    ) -> None:
        for table in tables:
            if not table.isidentifier() or table.startswith("everlog_"):
                raise Misconfigured(f"projection {name!r} cannot own the table {table!r}: use a plain name of its own")
        self.name, self.version = subscription_name(name), subscription_version(name, version)
        self.setup, self.tables, self.start, self.key = setup, tables, start, key
        self.partitions = subscription_partitions(name, partitions)
        self.steps: dict[str, tuple[type, Callable[[Recorded[Any], Effects], None]]] = {}

    def on(
        self, event: type[E]
    ) -> Callable[[Callable[[Recorded[E], Effects], None]], Callable[[Recorded[E], Effects], None]]:
        """Decorates the function that writes one event's effect with `tx.execute(sql, values)`; never commit in it."""
        kind = kind_of(event)

        def declare(apply: Callable[[Recorded[E], Effects], None]) -> Callable[[Recorded[E], Effects], None]:
            if kind.name in self.steps:
                raise Misconfigured(f"projection {self.name!r} handles {kind.name!r} twice: keep one function")
            self.steps[kind.name] = (event, apply)
            return apply

        return declare

    def key_of(self, event: Recorded[Any]) -> str:
        """What decides its partition; keys of two tenants never meet."""
        return f"{event.tenant}/{event.stream if self.key is None else self.key(event)}"

    @property
    def events(self) -> tuple[type, ...]:
        return tuple(event for event, _ in self.steps.values())
