"""Which events: the conditions of a read as options, said once for every command that reads."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated
from uuid import UUID

import typer

from everlog.app.scope import Where
from everlog.cli import times

AllTenants = Annotated[bool, typer.Option("--all-tenants", help="Cross the borders between tenants.")]
Backwards = Annotated[bool, typer.Option("--backwards", help="The newest first.")]
Limit = Annotated[
    int | None, typer.Option("--limit", metavar="N", min=1, help="At most so many. A table shows 50 without it.")
]
Raw = Annotated[bool, typer.Option("--raw", help="As stored, whatever today's code makes of it.")]


@dataclass(frozen=True)
class Filters:
    """All conditions given must hold; times are both ends included."""

    stream: Annotated[str | None, typer.Option("--stream", metavar="STREAM", help="Of this stream.")] = None
    category: Annotated[
        str | None, typer.Option("--category", metavar="NAME", help="Of streams that begin with NAME and a hyphen.")
    ] = None
    type: Annotated[
        list[str] | None, typer.Option("--type", metavar="TYPE", help="Of this type; repeat it for any of several.")
    ] = None
    tag: Annotated[
        list[str] | None, typer.Option("--tag", metavar="TAG", help="With this tag; repeat it for all of several.")
    ] = None
    actor: Annotated[str | None, typer.Option("--actor", metavar="NAME", help="By this actor.")] = None
    ip: Annotated[str | None, typer.Option("--ip", metavar="ADDRESS", help="From this address.")] = None
    user_agent: Annotated[str | None, typer.Option("--user-agent", metavar="TEXT", help="By this user agent.")] = None
    correlation_id: Annotated[
        UUID | None, typer.Option("--correlation-id", metavar="UUID", help="Of this correlation.")
    ] = None
    causation_id: Annotated[UUID | None, typer.Option("--causation-id", metavar="UUID", help="Of this cause.")] = None
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="Recorded then or later: ISO, -7d, yesterday, now.")
    ] = None
    until: Annotated[str | None, typer.Option("--until", metavar="TIME", help="Recorded then or earlier.")] = None
    occurred_since: Annotated[
        str | None, typer.Option("--occurred-since", metavar="TIME", help="Occurred then or later.")
    ] = None
    occurred_until: Annotated[
        str | None, typer.Option("--occurred-until", metavar="TIME", help="Occurred then or earlier.")
    ] = None
    after: Annotated[int | None, typer.Option("--after", metavar="POSITION", min=0, help="Behind this position.")] = (
        None
    )
    upto: Annotated[
        int | None, typer.Option("--upto", metavar="POSITION", min=0, help="Up to and with this position.")
    ] = None

    def where(self, now: datetime) -> Where:
        """Raises `InvalidInput` for a time that is none."""
        return Where(
            stream=self.stream,
            category=self.category,
            named=self.type or (),
            tags=self.tag or (),
            actor=self.actor,
            ip=self.ip,
            user_agent=self.user_agent,
            correlation_id=self.correlation_id,
            causation_id=self.causation_id,
            recorded_since=None if self.since is None else times.since(self.since, now),
            recorded_until=None if self.until is None else times.until(self.until, now),
            occurred_since=None if self.occurred_since is None else times.since(self.occurred_since, now),
            occurred_until=None if self.occurred_until is None else times.until(self.occurred_until, now),
            after=self.after or 0,
            upto=self.upto,
        )
