"""Where the server's program lies."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

OLDEST = (2, 12)  # the first with atomic batches


class NatsNotFound(Exception):
    """This machine has no nats-server that we can run; the message says how to get one."""


def find_server() -> Path:
    """The first program that is new enough: NATS_SERVER, the wheel's in this environment, the one on PATH."""
    refused = []
    for program in _candidates():
        try:
            version = _version(program)
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            refused.append(f"{program}: {error}")
            continue
        if version >= OLDEST:
            return program
        refused.append(f"{program}: is version {'.'.join(map(str, version))}")
    raise NatsNotFound(
        f"found no nats-server, {'.'.join(map(str, OLDEST))} or newer: run `pip install everlog[nats-dev]`, or let "
        "NATS_SERVER name the program" + "".join(f"\n  not {line}" for line in refused)
    )


def _candidates() -> Iterator[Path]:
    if named := os.environ.get("NATS_SERVER"):
        yield Path(named).absolute()
        return
    beside = Path(sys.executable).with_name("nats-server")
    if beside.exists():
        yield beside
    if found := shutil.which("nats-server"):
        yield Path(found)


def _version(program: Path) -> tuple[int, ...]:
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"v(\d+)\.(\d+)\.(\d+)", said)
    if found is None:
        raise ValueError(f"`nats-server --version` says {said!r}")
    return tuple(map(int, found.groups()))
