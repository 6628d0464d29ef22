"""The targets of the design's §7, row by row, and which cases measure each: `module:function` in this package.

A target without cases belongs to a later issue, and its row says `holds: null`.
"""

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

RAW, EVENTSOURCING, EVENTSOURCE_PY, UMADB = "raw", "eventsourcing", "eventsource-py", "umadb"

NEEDS = {
    "peer_eventsourcing": "eventsourcing",
    "peer_eventsource_py": "eventsource",
    "peer_eventsource_py_postgres": "asyncpg",
    "peer_umadb": "umadb",
}
"""What must be importable for a module's cases."""


class Pair(NamedTuple):
    """Two cases: what ours does a second over what theirs does is the ratio."""

    ours: str
    theirs: str


class Target(NamedTuple):
    """`goal` is the least ratio, or the greatest where `at_most`. What is in `also` is told, and decides nothing."""

    target: str
    store: str
    against: str
    goal: float
    pair: Pair | None = None
    also: Mapping[str, Pair] = MappingProxyType({})
    unit: str = "events/s"
    at_most: bool = False

    def cases(self) -> Iterator[str]:
        if self.pair is not None:
            yield from self.pair
        for pair in self.also.values():
            yield from pair

    def holds(self, ratio: float) -> bool:
        return ratio <= self.goal if self.at_most else ratio >= self.goal


TARGETS = (
    Target(
        "append-64-tasks", "sqlite", EVENTSOURCING, 8,
        Pair("cases:append_tasks", "peer_eventsourcing:append_threads"),
        {
            "the same, no tags": Pair("cases:append_tasks_untagged", "peer_eventsourcing:append_threads"),
            EVENTSOURCE_PY: Pair("cases:append_tasks", "peer_eventsource_py:append_tasks"),
            "raw, batches of 64": Pair("cases:append_tasks", "raw:append_batches"),
            "limit: raw by eventsourcing": Pair("raw:append_batches", "peer_eventsourcing:append_threads"),
        },
    ),
    Target(
        "append-64-threads", "sqlite", EVENTSOURCING, 5,
        Pair("cases:append_threads", "peer_eventsourcing:append_threads"),
        {"raw, batches of 64": Pair("cases:append_threads", "raw:append_batches")},
    ),
    Target(
        "append-1-writer", "sqlite", RAW, 0.65,
        Pair("cases:append_alone", "raw:append_alone"),
        {EVENTSOURCING: Pair("cases:append_alone", "peer_eventsourcing:append_alone")},
    ),
    Target(
        "load-1000", "sqlite", EVENTSOURCING, 8,
        Pair("cases:load", "peer_eventsourcing:load"),
        {
            "the same, our dataclasses": Pair("cases:load_plain", "peer_eventsourcing:load"),
            EVENTSOURCE_PY: Pair("cases:load", "peer_eventsource_py:load"),
        },
        unit="loads/s",
    ),
    Target(
        "whole-log", "sqlite", EVENTSOURCING, 2.5,
        Pair("cases:whole_log", "peer_eventsourcing:whole_log"),
        {
            "the same, our dataclasses": Pair("cases:whole_log_plain", "peer_eventsourcing:whole_log"),
            EVENTSOURCE_PY: Pair("cases:whole_log", "peer_eventsource_py:whole_log"),
        },
    ),
    Target("import", "sqlite", RAW, 0.25, Pair("cases:import_csv", "raw:import_batches"), unit="rows/s"),
    Target(
        "rebuild", "sqlite", "our batch size 1", 50,
        Pair("following:rebuild", "following:rebuild_one_by_one"),
    ),
    Target(
        "append-64-tasks", "postgres", EVENTSOURCING, 25,
        Pair("cases:append_tasks@postgres", "peer_eventsourcing:append_threads@postgres"),
        {
            "the same, no tags": Pair(
                "cases:append_tasks_untagged@postgres", "peer_eventsourcing:append_threads@postgres"
            ),
            "our 64 threads": Pair("cases:append_threads@postgres", "peer_eventsourcing:append_threads@postgres"),
            EVENTSOURCE_PY: Pair("cases:append_tasks@postgres", "peer_eventsource_py_postgres:append_tasks@postgres"),
            "raw, batches of 64": Pair("cases:append_tasks@postgres", "raw_postgres:append_batches@postgres"),
            "limit: raw by eventsourcing": Pair(
                "raw_postgres:append_batches@postgres", "peer_eventsourcing:append_threads@postgres"
            ),
        },
    ),
    Target(
        "append-64-tasks", "postgres", UMADB, 3,
        Pair("cases:append_tasks@postgres", "peer_umadb:append_threads"),
        {"limit: raw by umadb": Pair("raw_postgres:append_batches@postgres", "peer_umadb:append_threads")},
    ),
    Target(
        "append-1-writer", "postgres", EVENTSOURCING, 2,
        Pair("cases:append_alone@postgres", "peer_eventsourcing:append_alone@postgres"),
        {
            "raw, one row": Pair("cases:append_alone@postgres", "raw_postgres:append_alone@postgres"),
            UMADB: Pair("cases:append_alone@postgres", "peer_umadb:append_alone"),
        },
    ),
    Target(
        "load-1000", "postgres", EVENTSOURCING, 10,
        Pair("cases:load@postgres", "peer_eventsourcing:load@postgres"),
        {
            "the same, our dataclasses": Pair("cases:load_plain@postgres", "peer_eventsourcing:load@postgres"),
            EVENTSOURCE_PY: Pair("cases:load@postgres", "peer_eventsource_py_postgres:load@postgres"),
            UMADB: Pair("cases:load@postgres", "peer_umadb:load"),
        },
        unit="loads/s",
    ),
    Target(
        "whole-log", "postgres", EVENTSOURCING, 4,
        Pair("cases:whole_log@postgres", "peer_eventsourcing:whole_log@postgres"),
        {
            "the same, our dataclasses": Pair(
                "cases:whole_log_plain@postgres", "peer_eventsourcing:whole_log@postgres"
            ),
            EVENTSOURCE_PY: Pair("cases:whole_log@postgres", "peer_eventsource_py_postgres:whole_log@postgres"),
            UMADB: Pair("cases:whole_log@postgres", "peer_umadb:whole_log"),
        },
    ),
    Target(
        "import", "postgres", RAW, 0.25,
        Pair("cases:import_csv@postgres", "raw_postgres:import_batches@postgres"),
        unit="rows/s",
    ),
    Target(
        "rebuild", "postgres", "our batch size 1", 50,
        Pair("following:rebuild@postgres", "following:rebuild_one_by_one@postgres"),
    ),
    Target(
        "live", "postgres", EVENTSOURCING, 1.5,
        Pair("live:fold@postgres", "peer_eventsourcing:live@postgres"),
        {
            "our processor": Pair("live:effect@postgres", "peer_eventsourcing:live@postgres"),
            UMADB: Pair("live:fold@postgres", "peer_umadb:live"),
        },
        unit="ms", at_most=True,
    ),
    Target("group-by", "postgres", "SQL over JSON", 30),
)  # fmt: skip


def chosen(only: str | None) -> list[Target]:
    """The targets of a store or a name, or of several with commas between; all without."""
    words = [word.strip() for word in only.split(",")] if only else []
    known = {name for target in TARGETS for name in (target.target, target.store)}
    unknown = [word for word in words if word not in known]
    if unknown:
        raise SystemExit(f"nothing is called {', '.join(unknown)}: choose from {', '.join(sorted(known))}")
    return [target for target in TARGETS if not words or target.target in words or target.store in words]


def groups(targets: Iterable[Target]) -> list[set[str]]:
    """The cases to measure, those together that are compared, directly or through a third."""
    found: list[set[str]] = []
    for target in targets:
        cases = set(target.cases())
        touched = [group for group in found if group & cases]
        found = [group for group in found if group not in touched] + [cases.union(*touched)]
    return [group for group in found if group]
