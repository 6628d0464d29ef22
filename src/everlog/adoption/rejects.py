"""The rows that became no event, in a file beside the input that is there only when it has something to say."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import IO, NamedTuple

import msgspec

from everlog.core.errors import Misconfigured


class Reject(NamedTuple):
    """One line of the file: `{"line": 17, "reason": "…"}`."""

    line: int
    reason: str


def rejects_beside(path: Path) -> Path:
    """Where the rejects of a file go when nobody says otherwise."""
    return path.with_name(f"{path.name}.rejects.ndjson")


class RejectFile:
    """Keeps rejects out of sight, in a file that a kill takes along, until `finish` puts them in their place, whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._beside = path.with_name(f".{path.name}.{os.getpid()}")
        self._kept: IO[bytes] | None = None

    def add(self, reject: Reject) -> None:
        """Raises `Misconfigured` at the first one, not an hour later, if the file could not be written in the end."""
        if self._kept is None:
            self._try_folder()
            self._kept = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the run)
        self._kept.write(msgspec.json.encode({"line": reject.line, "reason": reject.reason}) + b"\n")

    def finish(self) -> Path | None:
        """Replace the rejects of an earlier run; says where this run's are, if there are any."""
        if self._kept is None:
            if self._path.exists():
                self._path.unlink()
            return None
        try:
            self._write(self._kept)
        except OSError as error:
            raise self._not_writable(error) from error
        return self._path

    def close(self) -> None:
        if self._kept is not None:
            self._kept.close()

    def _write(self, kept: IO[bytes]) -> None:
        kept.seek(0)
        with self._beside.open("wb") as file:
            shutil.copyfileobj(kept, file)
            file.flush()
            os.fsync(file.fileno())
        self._beside.replace(self._path)

    def _try_folder(self) -> None:
        try:
            self._beside.touch()
            self._beside.unlink()
        except OSError as error:
            raise self._not_writable(error) from error

    def _not_writable(self, error: OSError) -> Misconfigured:
        return Misconfigured(
            f"there are rejects, but {self._path} cannot be written ({error.strerror}): run the import again with "
            "--rejects PATH (rejects=… in Python); what is stored already is not stored again"
        )
