"""The demo's report on a terminal."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from everlog.fieldnote.directory import Overview
from everlog.fieldnote.report import EventLine, Report, Shape


def show(report: Report) -> None:
    console = Console(markup=False, highlight=False, emoji=False)
    show_numbers(console, report)
    _audit(console, report)
    _upcast(console, report)
    _refused(console, report)
    _change(console, report)
    show_following(console, report)
    _look_further(console, report)


def show_json(report: Report) -> None:
    sys.stdout.write(json.dumps(asdict(report), indent=2) + "\n")
    sys.stdout.flush()


def say(text: str) -> None:
    """A message beside the report, so that what is printed stays one JSON object."""
    Console(stderr=True, highlight=False).print(text)


def show_numbers(console: Console, report: Report) -> None:
    users, events = sum(line.users for line in report.tenants), sum(line.events for line in report.tenants)
    console.print(f"Fieldnote on {report.store}", style="bold", soft_wrap=True)
    console.print(f"{len(report.tenants)} tenants, {users} users, {events} events")
    if report.events_of_others:
        console.print(f"The log also holds {report.events_of_others} events of other tenants; they were left alone.")
    table = _table("tenant", "name", "plan", "status", "users", "streams", "events")
    for line in report.tenants:
        numbers = map(str, (line.users, line.streams, line.events))
        table.add_row(line.tenant, line.name, line.plan, line.status, *numbers)
    console.print(table)


def _audit(console: Console, report: Report) -> None:
    _heading(console, f"Audit trail of {report.audited}, its latest {len(report.audit)} entries")
    console.print(_events(report.audit))


def _upcast(console: Console, report: Report) -> None:
    upcast = report.upcast
    _heading(console, f"An event of the first release, at position {upcast.position}, and how it reads today")
    _shape(console, "stored as", upcast.stored)
    for shape in upcast.reads_as:
        _shape(console, "reads as", shape)


def _refused(console: Console, report: Report) -> None:
    _heading(console, "What the business said no to; nothing of it is in the log")
    table = _table("tenant", "who", "what", "on", "because")
    for refusal in report.refused:
        table.add_row(refusal.tenant, refusal.who, refusal.what, refusal.on, refusal.because)
    console.print(table)


def _change(console: Console, report: Report) -> None:
    change = report.change
    _heading(console, f"User {change.user} of {change.tenant}, {_minute(change.before)} and {change.after}")
    table = _table("field", "before", "after", "events")
    for line in change.fields:
        table.add_row(line.field, _plain(line.before), _plain(line.after), ", ".join(line.positions))
    console.print(table)
    console.print("The events that made the difference:")
    console.print(_events(change.events))


def show_following(console: Console, report: Report) -> None:
    """The worker's part of the story."""
    _heading(console, "Who follows the log, each at its own pace")
    table = _table("name", "is a", "was given")
    for follower in report.followers:
        table.add_row(follower.name, follower.kind, f"{follower.events} events")
    console.print(table)
    console.print(f"Mails: {report.mails}", soft_wrap=True)
    _incident(console, report)
    _overview(console, report)


def _incident(console: Console, report: Report) -> None:
    one = report.incident
    _heading(console, f"A poison event: {one.processor} parked the lane {one.lane}")
    console.print(f"position {one.position} failed {one.attempts} times:")
    console.print(Padding(one.error, (0, 0, 0, 4)))
    console.print(f"others went on: {one.meanwhile} mails were sent meanwhile")
    console.print(f"{one.remedy}; then, in order:")
    console.print(_events(one.worked_off))


def _overview(console: Console, report: Report) -> None:
    _heading(console, "The read model tenant-overview: the story told, a lane parked, and now")
    table = _table("tenant", "plan", "active users", "resources", "told", "parked", "now")
    for one in report.overview:
        welcomed = (f"{then.welcomed} welcomed" for then in (one.told, one.parked, one.now))
        table.add_row(one.tenant, one.now.plan, str(one.now.active), _resources(one.now), *welcomed)
    console.print(table)


def _resources(tenant: Overview) -> str:
    return f"{tenant.resources.region} {tenant.resources.shard}" if tenant.resources else "none"


def _look_further(console: Console, report: Report) -> None:
    _heading(console, "How to look further")
    for hint in report.look_further:
        console.print(f"# {hint.about}", style="dim")
        console.print(hint.command, soft_wrap=True)  # on one line, so that it can be copied


def _heading(console: Console, text: str) -> None:
    console.print()
    console.print(text, style="bold")


def _shape(console: Console, label: str, shape: Shape) -> None:
    console.print(f"{label} {shape.type} v{shape.version}")
    console.print(Padding(json.dumps(shape.data), (0, 0, 0, 4)))


def _events(lines: Sequence[EventLine]) -> Table:
    table = _table("at", "when (UTC)", "who", "what", "IP", "user agent")
    for line in lines:
        table.add_row(line.position, _minute(line.when), line.who, line.what, line.ip, line.user_agent)
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _minute(when: str) -> str:
    return when[:16].replace("T", " ")
