"""From rounds to rows: the median of the per-round ratios decides."""

import os
import platform
import sqlite3
import statistics
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from benchmarks.rounds import Round, missing
from benchmarks.targets import Pair, Target

Row = dict[str, Any]

_WIDTH = 112  # where there is no terminal


def row_of(target: Target, rounds: Sequence[Round]) -> Row:
    """`target`, `store`, `ratio`, `goal` and `holds`, and what helps to judge them."""
    row: Row = {"target": target.target, "store": target.store, "ratio": None, "goal": target.goal, "holds": None}
    row |= {"against": target.against, "at_most": target.at_most}
    if target.pair is None:
        return row | {"why": "later"}
    ratios = _ratios(target, target.pair, rounds)
    if not ratios:
        return row | {"why": _why(target.pair)}
    ratio = round(statistics.median(ratios), 3)
    return row | {
        "ratio": ratio,
        "holds": target.holds(ratio),
        "ours": _median(target, target.pair.ours, rounds),
        "theirs": _median(target, target.pair.theirs, rounds),
        "unit": target.unit,
        "rounds": len(ratios),
        "spread": [round(min(ratios), 3), round(max(ratios), 3)],
        "also": _medians(target, rounds),
    }


def print_table(rows: Sequence[Row]) -> None:
    table = Table(title="everlog over what it is measured against", caption=machine(), box=SIMPLE_HEAD)
    for name in ("target", "store", "against"):
        table.add_column(name, no_wrap=True)
    for name in ("ratio", "from – to", "goal", "holds"):
        table.add_column(name, no_wrap=True, justify="right")
    for row in rows:
        table.add_row(*_cells(row))
        for against, ratio in row.get("also", {}).items():
            table.add_row("", "", against, f"{ratio:.3g}", style="dim")
    Console(width=max(Console().width, _WIDTH)).print(table)


def machine() -> str:
    """What the figures depend on, for whoever copies them somewhere."""
    found = [f"{os.cpu_count()} cores", f"Python {platform.python_version()}", f"SQLite {sqlite3.sqlite_version}"]
    for name in ("eventsourcing", "eventsource-py", "umadb", "psycopg"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"no {name}")
    return ", ".join(found)


def _figure(target: Target, rate: float) -> float:
    """As many a second, or where less is better the milliseconds one takes."""
    return 1000 / rate if target.at_most else rate


def _ratios(target: Target, pair: Pair, rounds: Sequence[Round]) -> list[float]:
    both = [one for one in rounds if pair.ours in one and pair.theirs in one]
    return [_figure(target, one[pair.ours]) / _figure(target, one[pair.theirs]) for one in both]


def _medians(target: Target, rounds: Sequence[Round]) -> dict[str, float]:
    ratios = {what: _ratios(target, pair, rounds) for what, pair in target.also.items()}
    return {what: round(statistics.median(found), 3) for what, found in ratios.items() if found}


def _median(target: Target, case: str, rounds: Sequence[Round]) -> float:
    digits = 3 if target.at_most else 1
    return round(statistics.median([_figure(target, one[case]) for one in rounds if case in one]), digits)


def _why(pair: Pair) -> str:
    needed = [name for case in pair if (name := missing(case)) is not None]
    return f"no {needed[0]}" if needed else "failed"


def _cells(row: Row) -> list[str]:
    goal = f"{'≤' if row['at_most'] else '≥'} {row['goal']:g}"
    names = [row["target"], row["store"], row["against"]]
    if row["ratio"] is None:
        return [*names, "", "", goal, row["why"]]
    low, high = row["spread"]
    return [*names, f"{row['ratio']:.3g}", f"{low:.3g} – {high:.3g}", goal, "yes" if row["holds"] else "no"]
