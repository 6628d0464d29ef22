"""`everlog time`: read models and aggregates as they were at a moment, and what differs between two (S15)."""

from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
import typer

from everlog.app.past import Entity, EntityChange, Past
from everlog.cli import times
from everlog.cli.filters import AllTenants, Limit
from everlog.cli.grammar import command
from everlog.cli.opening import Call, nearest
from everlog.cli.output import View, fields
from everlog.command.load import Loader
from everlog.core.at import At
from everlog.core.errors import Misconfigured
from everlog.domain.decider import Decider
from everlog.domain.fields import MISSING
from everlog.projection.fold import Fold

ENTITIES: View[Entity] = View(
    json=lambda one: {"kind": one.kind, "tenant": one.tenant, "name": one.name, "state": _plain(one.state)},
    cells={**fields(["kind", "tenant", "name"]), "state": lambda one: msgspec.json.encode(_plain(one.state)).decode()},
    table=("kind", "name", "state"),
)


def _change_json(change: EntityChange) -> dict[str, object]:
    told = {name: getattr(change, name) for name in ("kind", "tenant", "name", "path", "before", "after")}
    return {name: value for name, value in told.items() if value is not MISSING}


CHANGES: View[EntityChange] = View(
    json=_change_json,
    cells=fields(["kind", "tenant", "name", "path", "before", "after"]),
    table=("kind", "name", "path", "before", "after"),
)

Of = Annotated[
    list[str] | None,
    typer.Option("--of", metavar="NAME", help="A fold or a decider; repeat it for several, leave it out for all."),
]
Source = Fold[Any] | Decider[Any, Any, Any]


@command(
    "state",
    example="""
    everlog time state --at recorded:2026-01-31 --of revenue
    everlog time state --at position:4200 --all-tenants -o ndjson
    """,
)
def state(
    call: Call,
    *,
    at: Annotated[str, typer.Option("--at", metavar="POINT", help=f"The moment: {times.POINT_FORMS}.")],
    of: Of = None,
    all_tenants: AllTenants = False,
    limit: Limit = None,
) -> None:
    """List every entity with its state at a moment: all keys of the folds, all aggregates of the deciders."""
    point, sources = times.point(at, call.now), _sources(call, of or [])
    with call.open() as log:
        past = Past(log.store, call.platform.types, call.named_tenant(all_tenants))

        def entities() -> Iterator[Entity]:
            for source in sources:
                if isinstance(source, Fold):
                    yield from past.read_model(source, point)
                else:
                    yield from past.aggregates(Loader(source, call.platform.types, log.counters), point)

        call.output.listing(ENTITIES.showing_tenant(all_tenants), entities(), limit=limit)


@command("compare", example="everlog time compare --from recorded:yesterday --of revenue")
def compare(
    call: Call,
    *,
    before: Annotated[str, typer.Option("--from", metavar="POINT", help=f"The earlier moment: {times.POINT_FORMS}.")],
    after: Annotated[str | None, typer.Option("--to", metavar="POINT", help="The later moment; else now.")] = None,
    of: Of = None,
    all_tenants: AllTenants = False,
    limit: Limit = None,
) -> None:
    """List what differs between two moments, by entity and field."""
    start = times.point(before, call.now)
    end: At | None = None if after is None else times.point(after, call.now)
    sources = _sources(call, of or [])
    with call.open() as log:
        past = Past(log.store, call.platform.types, call.named_tenant(all_tenants))

        def changes() -> Iterator[EntityChange]:
            for source in sources:
                if isinstance(source, Fold):
                    yield from past.compare_read_model(source, start, end)
                else:
                    loader = Loader(source, call.platform.types, log.counters)
                    yield from past.compare_aggregates(loader, start, end)

        call.output.listing(CHANGES.showing_tenant(all_tenants), changes(), limit=limit)


def _sources(call: Call, names: list[str]) -> list[Source]:
    platform = call.application("a moment of the past")
    folds = [one for one in platform.projections if isinstance(one, Fold)]
    sources: list[Source] = [*platform.deciders.values(), *folds]
    known = {one.name: one for one in sources}
    for name in names:
        if name not in known:
            raise Misconfigured(f"there is no fold or decider {name!r}{nearest(name, known)}")
    return [known[name] for name in names or known]


def _plain(state: object) -> object:
    return state.model_dump(mode="json") if hasattr(state, "model_dump") else msgspec.to_builtins(state, str_keys=True)
