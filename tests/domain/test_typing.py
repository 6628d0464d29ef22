"""The types tell the story: mypy strict finds every planted mistake, and nothing in the programs without one."""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.domain import shop, shop_aggregate

ROOT = Path(__file__).parents[2]
MISTAKES = tuple(f"tests/typing_mistakes/{name}.py" for name in ("decider", "aggregate", "process"))
GOOD = ("tests/domain/shop.py", "tests/domain/shop_aggregate.py")
_ERROR = re.compile(r"(?P<path>\S+?):(?P<line>\d+): error: ")


@pytest.fixture(scope="module")
def errors() -> Counter[tuple[str, int]]:
    """How many errors mypy strict sees on which lines; one run over all programs."""
    # A cache of its own: another checker may be writing the project's at this moment.
    options = ["--strict", "--cache-dir", ".mypy_cache/typing_mistakes", "--no-error-summary"]
    run = subprocess.run(
        [sys.executable, "-m", "mypy", *options, *MISTAKES, *GOOD], cwd=ROOT, capture_output=True, text=True
    )
    assert (run.returncode, run.stderr) == (1, "")
    return Counter((found["path"], int(found["line"])) for found in map(_ERROR.match, run.stdout.splitlines()) if found)


@pytest.mark.parametrize("path", MISTAKES)
def test_each_planted_mistake_is_one_error_and_no_other_line_is(path: str, errors: Counter[tuple[str, int]]) -> None:
    lines = (ROOT / path).read_text().splitlines()
    planted = {number: 1 for number, line in enumerate(lines, start=1) if "# mistake:" in line}
    assert len(planted) == 6
    assert {line: count for (where, line), count in errors.items() if where == path} == planted


@pytest.mark.parametrize("path", GOOD)
def test_a_program_without_mistakes_has_no_error(path: str, errors: Counter[tuple[str, int]]) -> None:
    assert [(line, count) for (where, line), count in errors.items() if where == path] == []


def test_the_north_star_runs_and_prints_what_the_design_says() -> None:
    assert shop.first_day() == ("shipped", "placed")
    assert shop_aggregate.first_day() == ("shipped", "placed")
