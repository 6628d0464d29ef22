"""`python -m examples.travel FILE`: import what is not there yet, then say what was true on a day, in two ways."""

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from everlog import EverlogError, Platform
from everlog.adoption import ImportReport, import_file, read_map
from examples.travel import Answer, time_travel
from examples.travel.read_model import STEPS, first_times, read_model

MAP = Path(__file__).with_name("map.toml")
TENANT = "university"  # as the map says
PATIENCE_SECONDS = 600.0
BAD_LINES = 7


def main(arguments: Sequence[str] | None = None) -> int:
    asked = _parser().parse_args(arguments)
    try:
        with Platform(asked.store, first_times, *STEPS).open(worker=True) as log:
            report = import_file(log.store, asked.file, read_map(MAP), rejects=asked.rejects)
            university = log.tenant(TENANT)
            university.wait_for(first_times, timeout=PATIENCE_SECONDS)
            answers = {
                "read_model": read_model((state for _, state in university.all(first_times)), asked.at),
                "time_travel": time_travel(university.events(), asked.at),
            }
    except EverlogError as error:
        print(f"{error.code}: {error}", file=sys.stderr)
        return 1
    _tell(report)
    print(json.dumps(answers) if asked.json else _table(answers))
    if answers["read_model"] != answers["time_travel"]:
        print("the log holds activities that the read model does not know: add them to ACTIVITIES", file=sys.stderr)
        return 1
    return BAD_LINES if report.rejected else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m examples.travel", description=__doc__)
    parser.add_argument("file", type=Path, help="travel_declarations.csv, plain, gzip or zstd")
    parser.add_argument("--store", default="memory:", help="the log, such as sqlite:///travel.db (default: memory:)")
    parser.add_argument(
        "--at", type=_moment, help="what was true then, such as 2018-07-01T00:00:00Z (default: the end)"
    )
    parser.add_argument("--rejects", type=Path, help="where bad lines are listed (default: FILE.rejects.ndjson)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    return parser


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text} has no time zone: write {text}Z")
    return moment


def _tell(report: ImportReport) -> None:
    rate = report.read / report.seconds if report.seconds else 0
    told = f"{report.imported:,} imported, {report.known:,} known, {report.rejected:,} rejected, {rate:,.0f} rows/s"
    print(report.notice or told, file=sys.stderr)
    if report.rejects:
        print(f"what was rejected and why: {report.rejects}", file=sys.stderr)


def _table(answers: dict[str, Answer]) -> str:
    lines = [f"{'':<12}" + "".join(f"{source:>14}" for source in answers)]
    for name in answers["time_travel"]:
        lines.append(f"{name:<12}" + "".join(f"{answer[name]:>14,}" for answer in answers.values()))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
