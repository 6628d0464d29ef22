"""`everlog event tail`: events as they come."""

import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from everlog.app.log import Log
from everlog.cli.filters import AllTenants, Filters, Limit, Raw
from everlog.cli.grammar import command
from everlog.cli.opening import Call
from everlog.cli.output import Format
from everlog.cli.views import EVENTS
from everlog.domain.recorded import Recorded
from everlog.subscription.tail import Tail

_WAIT = 1.0


@command(
    "tail",
    example="""
    everlog event tail --type order.placed
    everlog event tail --from-start --limit 100 -o ndjson
    """,
)
def tail(
    call: Call,
    filters: Filters,
    *,
    from_start: Annotated[bool, typer.Option("--from-start", help="What is there already first.")] = False,
    limit: Limit = None,
    all_tenants: AllTenants = False,
    raw: Raw = False,
) -> None:
    """Follow the log: print each event as it is appended, until --upto, --limit or Ctrl-C."""
    if call.output.form is Format.TABLE:
        call.output.form = Format.PLAIN  # a table has an end, and this has none
    with call.open(as_stored=raw) as log:
        begin = log.head().position if filters.after is None and not from_start else filters.after or 0
        events = _follow(call, log, filters, begin, all_tenants)
        call.output.listing(EVENTS.showing_tenant(all_tenants), events, limit=limit)


def _follow(call: Call, log: Log, filters: Filters, after: int, all_tenants: bool) -> Iterator[Recorded[Any]]:
    end, where = Tail(log.store), filters.where(call.now)
    last = filters.upto
    while last is None or after < last:
        head = end.wait(after, _WAIT)
        head = head if last is None else min(head, last)
        if head > after:
            where["after"], where["upto"] = after, head
            yield from call.reader(log, all_tenants).events(**where)
            after = head
            sys.stdout.flush()
