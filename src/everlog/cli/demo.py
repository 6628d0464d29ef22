"""`everlog demo`: a story played into a log of its own, and what to look at."""

import io
import json
from contextlib import redirect_stdout
from typing import Annotated

import typer

from everlog.cli.grammar import command
from everlog.cli.opening import Call
from everlog.cli.output import Format
from everlog.fieldnote import demo as fieldnote

DEFAULT_STORE = "sqlite:///.everlog/demo.db"


@command("demo", example="everlog demo --no-wait")
def demo(
    call: Call,
    *,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Exit when the story is told.")] = False,
) -> None:
    """Play the demo into a log, say what to look at, and wait. It may be repeated.

    Without --store it has a log of its own, .everlog/demo.db: never the one your project is set to. With --json it
    does not wait.
    """
    url = call.flags.get("store") or DEFAULT_STORE
    if call.output.form is not Format.JSON:
        fieldnote.run(url, wait=not no_wait, json=False)
        return
    with redirect_stdout(io.StringIO()) as told:
        fieldnote.run(url, wait=False, json=True)
    call.output.document(json.loads(told.getvalue()))
