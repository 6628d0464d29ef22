"""Files that commands write: whole or not at all, and never over something without being told to."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from everlog.core.errors import Misconfigured

Force = Annotated[bool, typer.Option("-f", "--force", help="Write over a file that is there.")]
DryRun = Annotated[bool, typer.Option("-n", "--dry-run", help="Say what would be done, and do nothing.")]


def is_standard(path: Path | None) -> bool:
    """Whether `-` or nothing was given: standard input or output."""
    return path is None or str(path) == "-"


@contextmanager
def written(path: Path | None, *, force: bool) -> Iterator[Callable[[bytes], object]]:
    """Gives what writes; a file is put in its place when all went well, and an interrupt leaves nothing behind."""
    if path is None or is_standard(path):
        yield sys.stdout.buffer.write
    elif path.exists() and not path.is_file():  # a device or a pipe: nothing to replace
        with path.open("wb") as device:
            yield device.write
    else:
        refuse_to_replace(path, force)
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with beside.open("wb") as file:
                yield file.write
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)


def refuse_to_replace(path: Path, force: bool) -> None:
    if path.exists() and not force:
        raise Misconfigured(f"{path} is there already: give another name, or --force to write over it")
