"""The shim is built where it can be, and its absence cannot be overlooked."""

from __future__ import annotations

import ctypes
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.faults.build import build, can_run, compilers, shim, skip_reason


@pytest.mark.skipif(not can_run() or not compilers(), reason=skip_reason())
def test_where_there_is_a_compiler_there_is_a_shim() -> None:
    """A shim.c that does not compile must fail the suite, where every other test would only be skipped."""
    assert shim() is not None, skip_reason()


@pytest.mark.skipif(shim() is None, reason=skip_reason())
@pytest.mark.parametrize("compiler", compilers(), ids=" ".join)
def test_workers_that_build_at_once_all_get_a_whole_library(tmp_path: Path, compiler: tuple[str, ...]) -> None:
    with ThreadPoolExecutor(3) as pool:
        built = {future.result() for future in [pool.submit(build, [compiler], tmp_path) for _ in range(3)]}
    ((library, complaint),) = built
    assert complaint == ""
    assert library is not None
    ctypes.CDLL(str(library))
    assert list(tmp_path.iterdir()) == [library]


def test_a_compiler_that_fails_gives_way_to_the_next_and_is_quoted(tmp_path: Path) -> None:
    silent = (sys.executable, "-c", "raise SystemExit(1)")
    talkative = (sys.executable, "-c", "raise SystemExit('no headers here')")
    library, complaint = build([silent, talkative], tmp_path)
    assert library is None
    assert "exit code 1; " in complaint
    assert complaint.endswith("no headers here")


def test_without_a_compiler_the_reason_says_what_to_install(tmp_path: Path) -> None:
    library, complaint = build([], tmp_path)
    assert library is None
    assert "pip install ziglang" in complaint
