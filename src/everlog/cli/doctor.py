"""`everlog doctor`: is everything as it should be, and what to do if not."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Annotated, NamedTuple

import typer

from everlog.app.relaying import RelayLag, relay_lags
from everlog.app.settings import NAMES, Setting
from everlog.app.stores import shown
from everlog.app.worker import Lag, lags
from everlog.cli.appending import counted
from everlog.cli.failures import ExitCode
from everlog.cli.grammar import command
from everlog.cli.opening import Call
from everlog.cli.output import Part, View, fields
from everlog.core.clock import rfc3339
from everlog.core.errors import EverlogError
from everlog.store.contract import Finding


class InForce(NamedTuple):
    """A setting, its value, and who said so."""

    setting: str
    value: str | None
    source: str


class Count(NamedTuple):
    """What happened how often while the doctor looked."""

    counter: str
    times: int


SETTINGS: View[InForce] = View(lambda one: one._asdict(), fields(InForce._fields), InForce._fields)
FINDINGS: View[Finding] = View(lambda one: one._asdict(), fields(Finding._fields), Finding._fields)
COUNTERS: View[Count] = View(lambda one: one._asdict(), fields(Count._fields), Count._fields)


@command(
    "doctor",
    example="""
    everlog doctor
    everlog doctor --deep --json
    """,
)
def doctor(
    call: Call,
    *,
    deep: Annotated[bool, typer.Option("--deep", help="Also read every row and recompute every hash.")] = False,
) -> int:
    """Examine the settings, the application and the log. Exits with 1 if there is a problem."""
    counters: dict[str, int] = {}
    findings = [*_application(call), *_log(call, deep, counters)]
    settings = list(_settings(call))
    call.output.document(
        {
            "settings": [SETTINGS.json(one) for one in settings],
            "findings": [FINDINGS.json(one) for one in findings],
            "counters": counters,
        },
        Part(FINDINGS, findings, "Findings"),
        Part(SETTINGS, settings, "Settings"),
        Part(COUNTERS, [Count(name, count) for name, count in counters.items()], "Counters"),
    )
    problems = sum(finding.level == "problem" for finding in findings)
    call.output.note(f"{problems} problems" if problems != 1 else "1 problem")
    return ExitCode.FOUND if problems else ExitCode.OK


def _settings(call: Call) -> Iterator[InForce]:
    for name in NAMES:
        setting: Setting = getattr(call.settings, name)
        yield InForce(name, setting.value and shown(setting.value), setting.source)
    if call.settings.store.value is None:
        with suppress(EverlogError):  # the findings say what is wrong
            yield InForce("store in use", shown(call.url), str(call.settings.app.value))


def _application(call: Call) -> Iterator[Finding]:
    if call.settings.app.value is None:
        yield Finding(
            "application", "warning", "none is named", "give --app module:platform to have your types checked"
        )
        return
    try:
        platform = call.platform
    except EverlogError as error:
        yield Finding("application", "problem", str(error), "nothing that needs your code works until it loads")
        return
    seen = f"{call.settings.app.value}: {len(platform.deciders)} deciders, {len(platform.types.kinds)} event types"
    yield Finding("application", "ok", seen)


def _following(found: Sequence[Lag]) -> Iterator[Finding]:
    """What follows the log and does not get on."""
    ill = [one.progress for one in found if one.progress.status in ("failed", "stopped")]
    for one in ill:
        yield Finding(
            one.kind, "problem", f"{one.name} {one.status}: {one.error}", "mend it, then start the worker again"
        )
    parked = [one for one in found if one.lanes]
    for lag in parked:
        seen = f"{lag.progress.name} has {counted(lag.lanes, 'lane')}"
        yield Finding("lanes", "warning", seen, f"see: everlog dlq list {lag.progress.name}")
    if found and not ill and not parked:
        yield Finding("following", "ok", f"{len(found)} subscriptions, none failed, no lane")


def _relaying(found: Sequence[RelayLag]) -> Iterator[Finding]:
    """What does not reach the broker, and what the broker may lose."""
    for lag in found:
        if lag.relayed is None:
            continue
        if lag.relayed.trouble:
            seen = f"{lag.progress.name}, {lag.events} events behind since {rfc3339(lag.relayed.since)}"
            yield Finding("relay", "problem", f"{seen}: {lag.relayed.trouble}", "it goes on by itself when that ends")
        for warning in lag.relayed.warnings:
            yield Finding("relay", "warning", f"{lag.progress.name}: {warning}", "see docs/how-to/send-to-nats.md")


def _log(call: Call, deep: bool, counters: dict[str, int]) -> Iterator[Finding]:
    try:
        if not call.has_log():
            yield Finding("log", "warning", f"there is none at {shown(call.url)} yet", "the first append makes it")
            return
        with call.open(as_stored=True) as log:
            head = log.head()
            yield Finding("log", "ok", f"{head.log_id.hex()}, incarnation {head.incarnation}, at {shown(call.url)}")
            if deep:
                call.output.note(f"reading {head.position:,} events and recomputing every hash: this takes a while")
            yield from log.store.examine(deep=deep)
            yield from _following(lags(log.store))
            yield from _relaying(relay_lags(log.store))
            counters.update(log.counters.all())
    except EverlogError as error:
        yield Finding("log", "problem", str(error), "see what the message says; nothing was changed")
