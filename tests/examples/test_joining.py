"""The examples of joining run, and the page shows what they do."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how-to" / "join-a-transaction.md"
EXAMPLES = {
    "with_psycopg": [("2026-1", 4200), ("2026-2", 100), ("2026-3", 200)],
    "with_sqlalchemy": [("2026-1", 4200), ("2026-2", 100)],
    "with_django": [("2026-1", 4200), ("2026-2", 100), ("2026-3", 200)],
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_rows_and_events_are_there_together(name: str, database: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-m", f"examples.joining.{name}"],
        cwd=ROOT, env={**os.environ, "EVERLOG_STORE": database}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.splitlines() == [str(EXAMPLES[name])] * 2


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_page_shows_what_the_example_does(name: str) -> None:
    example = (ROOT / "examples" / "joining" / f"{name}.py").read_text()
    shown = re.findall(r"^def issue.*?(?=^```)", PAGE.read_text(), re.M | re.S)
    assert [function for function in shown if function in example]
