"""`python -m benchmarks`: measure, and say for each target of the design's §7 whether it holds."""

import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import postgres
from benchmarks.one import Sizes
from benchmarks.report import print_table, row_of
from benchmarks.rounds import missing, run_rounds
from benchmarks.targets import chosen, groups

_QUICK = Sizes(slices=2, seconds=0.1, log=5_000, raw=5_000, rows=5_000)


def main(
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list instead of a table.")] = False,
    only: Annotated[str | None, typer.Option(help="Stores or targets, with commas between.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="The median of nine or more decides.")] = 9,
    quick: Annotated[bool, typer.Option(help="Three small rounds, to see that everything runs.")] = False,
    seed: Annotated[int, typer.Option(help="Of the order of the cases in each round.")] = 1,
    folder: Annotated[Path | None, typer.Option(help="Where to write: its disk is what is measured.")] = None,
    strict: Annotated[bool, typer.Option(help="Exit with 1 when a target does not hold.")] = False,
) -> None:
    """Measure everlog against other libraries and raw SQL, interleaved; progress is on stderr."""
    targets = chosen(only)
    cases = [sorted(case for case in group if missing(case) is None) for group in groups(targets)]
    count, sizes = (3, _QUICK) if quick else (rounds, Sizes())
    if not postgres.on_one_disk(folder):
        print(
            "PostgreSQL writes to /var/tmp, which is another disk than the folder: do not compare them", file=sys.stderr
        )
    with postgres.serving() if any(target.store == "postgres" for target in targets) else nullcontext():
        measured = list(run_rounds(cases, count, sizes, seed, folder))
    rows = [row_of(target, measured) for target in targets]
    if as_json:
        print(json.dumps(rows, indent=2))
    else:
        print_table(rows)
    if strict and any(row["holds"] is False for row in rows):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
