"""Builds the fault shim with whatever C compiler there is, once per source."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

SOURCE = Path(__file__).with_name("shim.c")

# Fortified headers define some of the very functions we define.
_FLAGS = ("-std=gnu11", "-O2", "-fPIC", "-shared", "-U_FORTIFY_SOURCE", "-pthread")


Compiler = tuple[str, ...]


def shim() -> Path | None:
    """The library to preload, or None where it cannot be built; `skip_reason` then says why."""
    return _built()[0]


def skip_reason() -> str:
    """Why there is no shim, written so that nobody takes the skipped tests for passed ones; "" if there is one."""
    why = _built()[1]
    return f"STORAGE FAULTS ARE NOT TESTED ON THIS MACHINE: {why}" if why else ""


@functools.cache
def _built() -> tuple[Path | None, str]:
    if not can_run():
        return None, f"the shim speaks 64-bit Linux, and this is {sys.platform}"
    return build(compilers(), _private_cache())


def can_run() -> bool:
    return sys.platform.startswith("linux") and sys.maxsize > 2**32


def compilers() -> list[Compiler]:
    found: list[Compiler] = [(path,) for name in ("cc", "gcc", "clang") if (path := shutil.which(name))]
    if importlib.util.find_spec("ziglang"):
        found.append((sys.executable, "-m", "ziglang", "cc"))
    return found


def build(candidates: Sequence[Compiler], cache: Path) -> tuple[Path | None, str]:
    """The library, made by the first compiler that can; or None and what each of them complained about."""
    library = cache / f"shim-{_key()}.so"
    if library.exists():
        return library, ""
    complaints = []
    for compiler in candidates:
        complaint = _compile(compiler, library)
        if not complaint:
            return library, ""
        complaints.append(f"{' '.join(compiler)}: {complaint}")
    return None, "; ".join(complaints) or "no C compiler: install gcc or clang, or `pip install ziglang`"


def _key() -> str:
    return hashlib.sha256(SOURCE.read_bytes() + repr((_FLAGS, os.uname().machine)).encode()).hexdigest()[:16]


def _private_cache() -> Path:
    # Nobody else may put a library there for us to preload.
    path = Path(tempfile.gettempdir()) / f"everlog-faults-{os.getuid()}"
    path.mkdir(mode=0o700, exist_ok=True)
    if path.stat().st_uid != os.getuid():
        raise PermissionError(f"{path} belongs to somebody else: remove it or set TMPDIR")
    return path


def _compile(compiler: Compiler, library: Path) -> str:
    """Build beside the library and rename: pytest-xdist workers may all be doing this at once."""
    with tempfile.TemporaryDirectory(dir=library.parent) as scratch:
        built = Path(scratch) / library.name
        done = subprocess.run([*compiler, *_FLAGS, "-o", built, SOURCE], capture_output=True, text=True, check=False)
        if done.returncode:
            return done.stderr.strip() or f"exit code {done.returncode}"
        built.replace(library)
    return ""
