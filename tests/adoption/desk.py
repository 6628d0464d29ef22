"""A file, a map and a log to import into: what every test of the importer needs."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from everlog.adapters.sqlite import SqliteSettings, SqliteStore
from everlog.adoption import ImportReport, Progress, import_file, map_from_toml
from everlog.core.envelope import StoredEvent
from everlog.store.query import Filter

ORDERS = """
stream = "order-{id}"
type = "order {what}"
time = "{at}"
actor = "{who}"
id = "{id}/{what}"

[data]
cents = { column = "amount", type = "money", currency = "EUR" }
note = { column = "note", optional = true }
"""
ORDERS_HEADER = "id,what,at,who,amount,note\n"

WITHOUT_ID = 'stream = "s-{s}"\ntype = "seen"\n[data]\nvalue = "value"\n'


@dataclass
class Desk:
    """Writes files into one folder and imports them into one log."""

    folder: Path
    store: SqliteStore

    def file(self, content: str | bytes, name: str = "in.csv") -> Path:
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def load(
        self,
        content: str | bytes,
        toml: str = ORDERS,
        name: str = "in.csv",
        *,
        tenant: str = "default",
        rejects: Path | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> ImportReport:
        path = self.file(content, name)
        return import_file(self.store, path, map_from_toml(toml), tenant=tenant, rejects=rejects, progress=progress)

    def events(self, tenant: str | None = None) -> list[StoredEvent]:
        return list(self.store.read(Filter(tenant)))

    def data(self) -> list[Any]:
        return [json.loads(event.data or b"") for event in self.events()]

    def ids(self) -> set[bytes]:
        return {event.id for event in self.events()}


@contextmanager
def desk_in(folder: Path) -> Iterator[Desk]:
    with closing(SqliteStore(SqliteSettings.from_url("memory:"))) as store:
        yield Desk(folder, store)


def rejects_of(report: ImportReport) -> list[tuple[int, str]]:
    """Line and reason of each reject, as they lie in the file."""
    if report.rejects is None:
        return []
    lines = [json.loads(line) for line in report.rejects.read_text().splitlines()]
    return [(line["line"], line["reason"]) for line in lines]
