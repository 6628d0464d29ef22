"""The demo as a picture: `python -m tests.fieldnote.recording` writes docs/demo.svg, the same whenever it runs."""

import contextlib
import io
import re
import tempfile
from pathlib import Path

from rich.console import Console

from everlog.fieldnote.app import FOLDER
from everlog.fieldnote.demo import perform
from everlog.fieldnote.post import Outbox
from everlog.fieldnote.screen import show_following, show_numbers

PICTURE = Path(__file__).parents[2] / "docs" / "demo.svg"
WIDTH, HEIGHT = 100, 48
# A page that shows the picture must not fetch anything else; every reader has some monospaced font.
_FOREIGN = re.compile(r"\s*(@font-face \{.*?\}|<!--.*?-->)", re.S)


def record() -> str:
    """As much of the demo as fits one screen: the numbers, and what the worker did."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        FOLDER.mkdir()
        report = perform(f"sqlite:///{FOLDER}/demo.db", Outbox(FOLDER / "outbox"))
    console = Console(
        record=True, width=WIDTH, height=HEIGHT, file=io.StringIO(),
        force_terminal=True, color_system="truecolor", no_color=False, markup=False, highlight=False, emoji=False,
    )  # fmt: skip
    console.print("$ everlog demo", style="bold green")
    show_numbers(console, report)
    show_following(console, report)
    picture = console.export_svg(title="everlog demo", unique_id="everlog-demo")
    return _FOREIGN.sub("", picture)


if __name__ == "__main__":
    PICTURE.write_text(record())
