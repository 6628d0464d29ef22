"""The command line as a table: every noun, its verbs, and what `everlog` itself takes."""

from typing import Annotated

import typer

import everlog
from everlog.cli import (
    audit,
    bench,
    demo,
    doctor,
    events,
    lanes,
    past,
    processes,
    processors,
    projections,
    relays,
    scaffold,
    schemas,
    snapshots,
    stores,
    streams,
    tail,
    transfer,
    verify,
    worker,
)
from everlog.cli.grammar import Command, add_noun, new_root

ALONE: tuple[Command, ...] = (scaffold.init, demo.demo, worker.worker, bench.bench, doctor.doctor)

NOUNS: dict[str, tuple[str, tuple[Command, ...]]] = {
    "event": (
        "Events: append, look up, move in and out.",
        (events.append, events.list_events, events.get, tail.tail, transfer.import_events, transfer.export_events),
    ),
    "stream": (
        "Streams, and the state of an aggregate at any point of its past.",
        (streams.list_streams, streams.show, streams.state, streams.diff),
    ),
    "audit": ("The audit trail: who did what, when, from where.", (audit.list_entries, audit.export_trail)),
    "snapshot": ("Snapshots: a cache, safe to delete.", (snapshots.list_snapshots, snapshots.delete)),
    "projection": (
        "Read models: how far they are, what is in them, building one anew, comparing one with the log.",
        (
            projections.list_projections,
            projections.status,
            projections.get,
            projections.rebuild,
            projections.swap_build,
            projections.rollback,
            projections.cancel,
            projections.partitions,
            projections.wait,
            verify.verify,
        ),
    ),
    "processor": (
        "Processors: how far they are, and holding one for a while.",
        (
            processors.list_processors,
            processors.status,
            processors.pause,
            processors.resume,
            processors.partitions,
            processors.accept_log,
        ),
    ),
    "relay": (
        "Relays: sending events to a message broker, and filling it again.",
        (relays.run, relays.list_relays, relays.status, relays.refill_broker),
    ),
    "process": (
        "Processes that wait: process managers, their timers, schedules.",
        (processes.list_processes, processes.show, processes.list_timers, processes.list_schedules),
    ),
    "dlq": (
        "Lanes of failing keys, and messages given up: look, try again, or skip with a reason.",
        (lanes.list_lanes, lanes.show, lanes.retry, lanes.skip, lanes.letters, lanes.resend),
    ),
    "store": (
        "The log as a whole: its tables, and moving it to another store.",
        (stores.migrate, stores.copy, stores.reopen),
    ),
    "time": ("The whole system at a moment, and what differs between two.", (past.state, past.compare)),
    "schema": (
        "Event types against what is stored, before a deploy.",
        (schemas.check, schemas.write, schemas.replay, schemas.list_types),
    ),
}


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"everlog {everlog.__version__}")
        raise typer.Exit


def root(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """One append-only log under a product, and everything a team builds on it."""


def build() -> typer.Typer:
    app = new_root(root, ALONE)
    for name, (help, commands) in NOUNS.items():
        add_noun(app, name, help, commands)
    return app
