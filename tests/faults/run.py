"""Starts a process under the fault shim and reports what became of it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.faults.build import shim, skip_reason
from tests.faults.recording import INJECTED, records

When = Literal["before", "after", "torn"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the outside saw. A test must look at `injected`: a fault that never happened proves nothing.

    `calls` is how many changing calls there were, and so the range of `kill_at`.
    """

    returncode: int
    acks: list[bytes]
    injected: int
    calls: int
    stderr: str


def run_under_shim(
    argv: Sequence[str | Path],
    *,
    directory: Path,
    log: Path | None = None,
    kill_at: int | None = None,
    when: When = "before",
    fail: str | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 60,
) -> Outcome:
    """Run `argv` with faults on the files below `directory`; `fail` is as EVERLOG_FAULT_FAIL in `shim.c`.

    Each whole line on its standard output is one acknowledgement, read through a pipe so that it outlives the
    process. A `log` that exists is continued: a restart after a kill belongs to the same disk, hence recording.
    """
    with _log_or_scratch(log) as path:
        start = path.stat().st_size if path.exists() else 0
        faults = fault_settings(directory, path, kill_at, when, fail)
        done = subprocess.run(
            [str(part) for part in argv],
            executable=executable(str(argv[0])),
            env=shim_environment({**(os.environ if env is None else env), **faults}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
        return outcome_of(done.returncode, done.stdout, done.stderr, path, start)


def outcome_of(returncode: int, stdout: bytes, stderr: bytes, log: Path, start: int) -> Outcome:
    """What a process did that began its recording at byte `start` of the log."""
    made = list(records(log, start)) if log.exists() else []
    return Outcome(
        returncode=returncode,
        acks=stdout.split(b"\n")[:-1],
        injected=sum(record.kind in INJECTED for record in made),
        calls=max((record.call for record in made), default=0),
        stderr=stderr.decode(errors="replace"),
    )


@contextlib.contextmanager
def _log_or_scratch(log: Path | None) -> Iterator[Path]:
    if log is not None:
        yield log
        return
    with tempfile.TemporaryDirectory(prefix="everlog-fault-log-") as scratch:
        yield Path(scratch) / "recording"


def fault_settings(directory: Path, log: Path, kill_at: int | None, when: When, fail: str | None) -> dict[str, str]:
    """The environment variables that tell the shim what to do; `shim.c` describes them."""
    # The process may change its working directory before it starts another one.
    settings = {
        "EVERLOG_FAULT_DIR": str(directory.absolute()),
        "EVERLOG_FAULT_LOG": str(log.absolute()),
        "EVERLOG_FAULT_KILL_WHEN": when,
    }
    if kill_at is not None:
        settings["EVERLOG_FAULT_KILL_AT"] = str(kill_at)
    if fail is not None:
        settings["EVERLOG_FAULT_FAIL"] = fail
    return settings


def shim_environment(settings: Mapping[str, str]) -> dict[str, str]:
    library = shim()
    if library is None:
        raise RuntimeError(skip_reason())
    preloaded = settings.get("LD_PRELOAD")
    return {**settings, "LD_PRELOAD": f"{library}:{preloaded}" if preloaded else str(library)}


def executable(program: str) -> str | None:
    """The interpreter we run in, not a pyenv script that finds it by starting processes of its own.

    Only the file to execute changes. argv[0] stays: Python finds its virtual environment through it.
    """
    return os.path.realpath("/proc/self/exe") if program == sys.executable else None
