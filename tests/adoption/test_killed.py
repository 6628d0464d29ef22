"""Kill an import with -9 anywhere, run it again: nothing is lost and nothing is there twice."""

import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from everlog.adapters.sqlite import SqliteSettings, SqliteStore
from everlog.adoption import ImportReport, import_file, map_from_toml
from everlog.store.query import Filter
from tests.adoption.desk import WITHOUT_ID, rejects_of

ROWS = 3000
WITH_ID = 'id = "{n}"\n' + WITHOUT_ID

# Arguments: the log, the file, the map, where to die, the how manieth time there.
_DIE = """
import os, signal, sys
from pathlib import Path
from everlog.adapters.sqlite import SqliteSettings, SqliteStore
from everlog.adoption import ImportReport, import_file, map_from_toml

log, file, toml, place, times = sys.argv[1:]
left = int(times)

def reached(point):
    global left
    left -= point == place
    if point == place and left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

store = SqliteStore(SqliteSettings.from_url(f"sqlite:///{log}"), crash=reached)
import_file(store, Path(file), map_from_toml(toml), progress=lambda _: reached("chunk"))
print("still alive")
"""


@pytest.mark.parametrize("toml", [WITH_ID, WITHOUT_ID], ids=["with ids", "without ids"])
@pytest.mark.parametrize(
    ("place", "times"),
    [
        ("append.before_commit", 1),
        ("append.after_commit", 1),
        ("chunk", 1),
        ("append.before_commit", 4),
        ("append.after_commit", 6),
        ("chunk", 6),
    ],
)
def test_killed_anywhere_and_run_again_nothing_is_lost_or_doubled(
    tmp_path: Path, toml: str, place: str, times: int
) -> None:
    file, log = tmp_path / "in.csv", tmp_path / "killed.db"
    file.write_text("n,s,value\n" + "".join(f"{n},{n % 11},{n % 5}\n" for n in range(ROWS)) + "bad\n")
    arguments = [sys.executable, "-c", _DIE, str(log), str(file), toml, place, str(times)]
    killed = subprocess.run(arguments, capture_output=True, text=True, timeout=60, env=os.environ, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stdout + killed.stderr

    report, events = _import(log, file, toml)
    assert (report.imported + report.known, report.rejected) == (ROWS, 1)
    assert report.imported < ROWS or (place, times) == ("append.before_commit", 1)
    assert [line for line, _ in rejects_of(report)] == [ROWS + 2]
    assert events == _import(tmp_path / "whole.db", file, toml)[1]
    assert _import(log, file, toml)[0].known == ROWS
    assert sorted(path.name for path in tmp_path.glob("*in.csv*")) == ["in.csv", "in.csv.rejects.ndjson"]


def _import(log: Path, file: Path, toml: str) -> tuple[ImportReport, list[tuple[int, bytes, str, int, bytes | None]]]:
    with closing(SqliteStore(SqliteSettings.from_url(f"sqlite:///{log}"))) as store:
        report = import_file(store, file, map_from_toml(toml))
        events = [(e.position, e.id, e.stream, e.version, e.data) for e in store.read(Filter(None))]
    return report, events
