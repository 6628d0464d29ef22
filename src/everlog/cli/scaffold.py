"""`everlog init`: a small application that runs, its settings, and a test; to be changed into yours."""

import keyword
import sys
from pathlib import Path
from typing import Annotated

import typer

from everlog.app import settings
from everlog.cli.files import DryRun, refuse_to_replace, written
from everlog.cli.grammar import command
from everlog.cli.opening import Call
from everlog.cli.output import Part, View
from everlog.core.errors import InvalidInput

_APPLICATION = '''\
"""Orders, as events. `python {name}.py` lets some happen; `everlog event list` shows them."""

from dataclasses import dataclass

from everlog import Decider, Platform, Rejected, event


@event("order.placed", tags=["order:{{order_id}}"])
class Placed:
    order_id: str
    cents: int


@event("order.shipped", tags=["order:{{order_id}}"])
class Shipped:
    order_id: str


@dataclass(frozen=True)
class Place:
    order_id: str
    cents: int


@dataclass(frozen=True)
class Ship:
    order_id: str


def decide(command: Place | Ship, status: str) -> list[Placed | Shipped]:
    match command, status:
        case Place(order_id, cents), "new":
            return [Placed(order_id, cents)]
        case Ship(order_id), "placed":
            return [Shipped(order_id)]
    raise Rejected("wrong_moment", status=status)


def evolve(status: str, event: Placed | Shipped) -> str:
    return "placed" if isinstance(event, Placed) else "shipped"


orders = Decider("order", initial="new", decide=decide, evolve=evolve)
platform = Platform("sqlite:///{name}.db", orders)


if __name__ == "__main__":
    with platform.open() as log:
        acme = log.tenant("acme", actor="ann")
        acme.execute(orders, "o-1", Place("o-1", 4200), request_id="first")
        done = acme.execute(orders, "o-1", Ship("o-1"), request_id="second")
        print(f"order o-1 is {{done.state}}; before that it was", acme.state(orders, "o-1", at=done.position - 1))
'''

_TEST = '''\
"""What the business does and refuses, said without a database: `pytest test_{name}.py`."""

from {name} import Place, Placed, Ship, Shipped, orders

from everlog.testing import given


def test_a_placed_order_can_be_shipped() -> None:
    given(orders, Placed("o-1", 4200)).when(Ship("o-1")).then(Shipped("o-1"))


def test_an_order_cannot_be_placed_twice() -> None:
    given(orders, Placed("o-1", 4200)).when(Place("o-1", 1)).then_rejected("wrong_moment")
'''

_SETTINGS = """\
# What `everlog` runs with in this folder. A flag or an environment variable (EVERLOG_APP, EVERLOG_STORE,
# EVERLOG_TENANT) wins over it.
app = "{name}:platform"
tenant = "acme"
# store = "sqlite:///{name}.db"  # instead of the application's own
"""

_FILES: View[Path] = View(lambda path: str(path), {"file": str}, ("file",))


@command(
    "init",
    example="""
    everlog init
    everlog init backend --name billing --dry-run
    """,
)
def init(
    call: Call,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where; the current folder without it.")] = Path(),
    *,
    name: Annotated[str, typer.Option("--name", help="What the module is called.")] = "shop",
    force: Annotated[bool, typer.Option("-f", "--force", help="Write over files that are there.")] = False,
    dry_run: DryRun = False,
) -> None:
    """Write a small application that runs, its settings, and a test."""
    _check(name)
    contents = {
        folder / f"{name}.py": _APPLICATION,
        folder / settings.FILE: _SETTINGS,
        folder / f"test_{name}.py": _TEST,
    }
    for path in contents:
        refuse_to_replace(path, force)
    if not dry_run:
        folder.mkdir(parents=True, exist_ok=True)
        for path, content in contents.items():
            with written(path, force=True) as write:
                write(content.format(name=name).encode())
    files = list(contents)
    call.output.document([str(path) for path in files], Part(_FILES, files))
    call.output.note("nothing was written: this was a dry run" if dry_run else _next_steps(folder, name))


def _check(name: str) -> None:
    if not name.isidentifier() or keyword.iskeyword(name) or name in sys.stdlib_module_names or name == "everlog":
        raise InvalidInput(f"a module cannot well be called {name!r}: take a name of your own, such as shop")


def _next_steps(folder: Path, name: str) -> str:
    steps = [f"python {name}.py", "everlog event list", "everlog stream state order o-1 --at-version 1", "pytest"]
    first = [] if folder == Path() else [f"cd {folder}"]
    return "Now try:\n" + "\n".join(f"  {step}" for step in [*first, *steps])
