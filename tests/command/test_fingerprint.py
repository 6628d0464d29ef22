"""What a snapshot's fingerprint follows: the meaning of all that a state depends on, and not how it is written."""

import importlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from everlog import Platform
from everlog.domain.fingerprint import fingerprint
from tests.command.sides import FAST

RULES = """
from dataclasses import dataclass

PERCENT = 19


@dataclass(frozen=True)
class Rate:
    percent: int


def taxed(amount):
    return amount * (100 + PERCENT) // 100


def rounded(step, amount):
    return deeper(amount) // step * step


def deeper(amount):
    return amount + 1


def unused():
    return 1
"""

SHOP = '''
"""A shop."""

from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property, lru_cache, partial

from everlog import Decider, event, upcast, upcast_drop
from acme import rules
from acme.rules import Rate, rounded

FEE = 3
FEES = {"small": 1, "large": 2}
STEPS = [1, 2]
RATE = Rate(7)
ELSEWHERE = 1


class Kind(Enum):
    PLAIN = 50
    FANCY = 60


class Mood(Enum):
    GLAD = 65


@dataclass(frozen=True)
class Line:
    amount: int

    def weight(self):
        return self.amount * 70


class Counted:
    FACTOR = 80

    def counted(self):
        return 90


@dataclass(frozen=True)
class State(Counted):
    total: int = 0
    lines: tuple[Line, ...] = ()

    def plus(self, amount):
        return replace(self, total=self.total + amount + self.bonus + self.best() + self.made())

    @property
    def bonus(self):
        return 100

    @staticmethod
    def best():
        return 110

    @classmethod
    def made(cls):
        return 120


@event("shop.sold", version=2)
class Sold:
    amount: int
    kind: Kind = Kind.PLAIN

    def gross(self):
        return self.amount + 130


@upcast("shop.sold", 1)
def amount(old):
    return {"amount": old["cents"] + shift()}


def shift():
    return 140


def decide(command: int, state: State) -> list[Sold]:
    return [Sold(command)]


@lru_cache
def cached(number):
    return number + 150


def doubled(function):
    def twice(number):
        return 2 * function(number)

    return twice


@doubled
def decorated(number):
    return number + 160


stepped = partial(rounded, 170)


def evolve(state: State, event: Sold) -> State:
    """How the shop goes on."""
    # Fancy things cost more.
    words = tuple("word" for _ in range(2))
    add = lambda number: number + 180
    fee = Mood.GLAD.value + FEE if event.amount in {1, 2} else FEES["small"]
    try:
        extra = STEPS[0] + RATE.percent + (1 if event.kind is Kind.FANCY else 0)
    except KeyError:
        extra = 190
    return state.plus(
        event.gross() + fee + extra + add(len(words)) + rules.taxed(1) + rounded(2, 3) + cached(4) + stepped(5)
        + decorated(6)
    )


orders = Decider("order", initial=State(), decide=decide, evolve=evolve)
parts = (orders, amount)
'''

FILES: Mapping[str, str] = {"rules.py": RULES, "shop.py": SHOP}


@contextmanager
def package(files: Mapping[str, str], folder: Path) -> Iterator[ModuleType]:
    """The package `acme`, freshly imported from these files; gone afterwards."""
    home = folder / "acme"
    home.mkdir(parents=True)
    for name, source in {"__init__.py": "", **files}.items():
        (home / name).write_text(source)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield importlib.import_module("acme.shop")
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.partition(".")[0] == "acme"]:
            del sys.modules[name]


def fingerprint_of(files: Mapping[str, str], folder: Path, **changes: object) -> bytes:
    with package(files, folder) as shop:
        decider = replace(shop.orders, **changes)
        return fingerprint(decider, Platform("memory:", decider, *shop.parts[1:]).types)


def edited(old: str, new: str) -> Mapping[str, str]:
    [name] = [name for name, source in FILES.items() if old in source]
    assert FILES[name].count(old) == 1
    return {**FILES, name: FILES[name].replace(old, new)}


MEANT = {
    "evolve": ('FEES["small"]', 'FEES["large"]'),
    "an operator": ("number + 180", "number - 180"),
    "the order of what evolve calls": ("rounded(2, 3) + cached(4)", "rounded(2, 4) + cached(3)"),
    "what evolve catches": ("except KeyError:", "except IndexError:"),
    "a constant in a lambda": ("number + 180", "number + 181"),
    "a text in a generator": ('tuple("word"', 'tuple("ward"'),
    "a set of constants": ("in {1, 2}", "in {1, 3}"),
    "a helper imported by name": ("// step * step", "// step"),
    "a helper of a helper": ("return amount + 1", "return amount + 2"),
    "a helper reached through its module": ("amount * (100 + PERCENT)", "amount * (101 + PERCENT)"),
    "a constant of another module": ("PERCENT = 19", "PERCENT = 20"),
    "a constant": ("FEE = 3", "FEE = 4"),
    "a mapping": ('"small": 1', '"small": 2'),
    "a list": ("STEPS = [1, 2]", "STEPS = [2, 2]"),
    "a constant object": ("RATE = Rate(7)", "RATE = Rate(8)"),
    "the value of an enum": ("FANCY = 60", "FANCY = 61"),
    "an enum the state does not hold": ("GLAD = 65", "GLAD = 66"),
    "a cached helper": ("number + 150", "number + 151"),
    "a decorated helper": ("number + 160", "number + 161"),
    "its decorator": ("2 * function", "3 * function"),
    "what a partial fixes": ("partial(rounded, 170)", "partial(rounded, 171)"),
    "a method of the state": ("self.total + amount", "self.total - amount"),
    "a property of the state": ("return 100", "return 101"),
    "a static method of the state": ("return 110", "return 111"),
    "a class method of the state": ("return 120", "return 121"),
    "an inherited method": ("return 90", "return 91"),
    "an inherited constant": ("FACTOR = 80", "FACTOR = 81"),
    "a method of what the state holds": ("self.amount * 70", "self.amount * 71"),
    "a method of an event": ("self.amount + 130", "self.amount + 131"),
    "an upcaster": ('old["cents"]', 'old["amount"]'),
    "what an upcaster calls": ("return 140", "return 141"),
    "a field of the state": ("total: int = 0", "total: float = 0"),
    "a default of the state": ("total: int = 0", "total: int = 1"),
    "a field of what the state holds": ("class Line:\n    amount: int", "class Line:\n    amount: int | None"),
    "a field of an event": ("kind: Kind = Kind.PLAIN", "kind: Kind = Kind.FANCY"),
    "the initial state": ("initial=State()", "initial=State(total=1)"),
    "a name the code uses": ("len(words)", "sum(words)"),
}
WRITTEN = {
    "a comment": ("# Fancy things cost more.", "# Fancy things cost less."),
    "a comment more": ("FEE = 3\n", "# What it takes.\n\n\nFEE = 3\n"),
    "a docstring": ('"""How the shop goes on."""', '"""How the shop went on."""'),
    "a docstring less": ('    """How the shop goes on."""\n', ""),
    "a docstring more": ("    def weight(self):\n", '    def weight(self):\n        """Heavy."""\n'),
    "a docstring of the module": ('"""A shop."""', '"""Two shops."""'),
    "a docstring of the state": ("class State(Counted):\n", 'class State(Counted):\n    """So far."""\n\n'),
    "lines between": ("    add = lambda", "\n\n    add = lambda"),
    "a line broken": ("event.amount in {1, 2} else", "event.amount in {\n1, 2} else"),
    "parentheses": ("STEPS[0] + RATE.percent", "(STEPS[0]) + (RATE.percent)"),
    "what evolve does not use": ("ELSEWHERE = 1", "ELSEWHERE = 2"),
    "a function evolve does not call": ("def unused():\n    return 1", "def unused():\n    return 2"),
    "what decide does": ("return [Sold(command)]", "return [Sold(command), Sold(1)]"),
    "an annotation of a helper": ("def taxed(amount):", "def taxed(amount: int) -> int:"),
}


@pytest.mark.parametrize("what", MEANT)
def test_a_change_of_what_the_state_depends_on_changes_it(what: str, tmp_path: Path) -> None:
    before = fingerprint_of(FILES, tmp_path / "before")
    assert fingerprint_of(edited(*MEANT[what]), tmp_path / "after") != before


@pytest.mark.parametrize("what", WRITTEN)
def test_a_change_of_how_it_is_written_does_not(what: str, tmp_path: Path) -> None:
    before = fingerprint_of(FILES, tmp_path / "before")
    assert fingerprint_of(edited(*WRITTEN[what]), tmp_path / "after") == before


def test_the_version_given_by_hand_changes_it_and_how_often_does_not(tmp_path: Path) -> None:
    before = fingerprint_of(FILES, tmp_path / "before")
    assert fingerprint_of(FILES, tmp_path / "raised", snapshot_version=2) != before
    assert fingerprint_of(FILES, tmp_path / "seldom", snapshot_every=7) == before


def test_another_step_on_the_way_changes_it(tmp_path: Path) -> None:
    before = fingerprint_of(FILES, tmp_path / "before")
    dropping = edited("parts = (orders, amount)", 'parts = (orders, amount, upcast_drop("shop.noise", 1))')
    renaming = edited(
        "parts = (orders, amount)",
        'parts = (orders, amount, upcast("shop.bought", 1, to=("shop.sold", 2))(lambda old: old))',
    )
    assert fingerprint_of(dropping, tmp_path / "dropping") == before  # it yields nothing this state is made of
    assert fingerprint_of(renaming, tmp_path / "renaming") != before


def test_a_step_made_by_hand_is_followed_too(tmp_path: Path) -> None:
    def with_step(added: int) -> Mapping[str, str]:
        step = f"lambda old: [(TypeVersion('shop.sold', 2), {{'amount': old['cents'] + {added}}})]"
        made = f"amount = Upcaster(TypeVersion('shop.sold', 1), (TypeVersion('shop.sold', 2),), {step})"
        imports = "from everlog import Upcaster\nfrom everlog.domain.upcast import TypeVersion\n"
        return edited("parts = (orders, amount)", f"{imports}{made}\nparts = (orders, amount)")

    before = fingerprint_of(with_step(1), tmp_path / "before")
    assert fingerprint_of(with_step(2), tmp_path / "after") != before


AGGREGATE = """
from dataclasses import replace

from everlog import Aggregate, applies, decides, event


@event("seat.reserved")
class Reserved:
    guest: str


class Seat(Aggregate[str, Reserved]):
    guests: int = 0

    @decides(str)
    def reserve(self, command: str) -> list[Reserved]:
        return [Reserved(command)]

    @applies(Reserved)
    def reserved(self, event: Reserved) -> "Seat":
        return replace(self, guests=self.more())

    def more(self) -> int:
        return self.guests + 1


orders = Seat.decider("seat")
parts = (orders,)
"""


@pytest.mark.parametrize(
    ("old", "new"), [("replace(self, guests=self.more())", "replace(self, guests=7)"), ("guests + 1", "guests + 2")]
)
def test_the_methods_of_an_aggregate_are_followed(old: str, new: str, tmp_path: Path) -> None:
    before = fingerprint_of({"shop.py": AGGREGATE}, tmp_path / "before")
    assert fingerprint_of({"shop.py": f"\n\n{AGGREGATE}"}, tmp_path / "moved") == before
    assert fingerprint_of({"shop.py": AGGREGATE.replace(old, new)}, tmp_path / "after") != before


def test_snapshots_of_old_code_are_not_used_by_new_code(tmp_path: Path) -> None:
    """End to end: the new code counts twice as much, and its state is that of a replay."""
    url = f"sqlite:///{tmp_path / 'log.db'}{FAST}"
    with package({"shop.py": AGGREGATE}, tmp_path / "before") as shop, Platform(url, *shop.parts).open() as log:
        for _ in range(100):
            log.tenant().execute(shop.orders, "A1", "ann")
        assert log.counters["snapshots_saved"] == 1
    changed = AGGREGATE.replace("guests + 1", "guests + 2")
    with package({"shop.py": changed}, tmp_path / "after") as shop, Platform(url, *shop.parts).open() as log:
        assert log.tenant().state(shop.orders, "A1").guests == 200
