"""A read model kept by an ORM on the checkpoint's transaction: effects and checkpoint commit together."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from everlog import Log, Platform, Recorded, SqlProjection, Transaction
from examples.orm_projection import Item, Received, session_on, stock
from tests.following.parts import LEASE, failed, rows
from tests.postgres.folders import database_of

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how-to" / "orm-in-a-projection.md"
# Dies right before, or right after, the first COMMIT of effects and their checkpoint.
DIES = """
import os, sys
from everlog import Platform
from examples.orm_projection import Received, stock
def die(point):
    if point == sys.argv[1]:
        os._exit(9)
with Platform(os.environ["EVERLOG_STORE"], stock).open(worker=True, lease_seconds=0.4, crash=die) as log:
    log.tenant("acme").wait_for(stock)
"""


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return database_of(tmp_path) if request.param == "postgres" else f"sqlite:///{tmp_path}/shop.db"


def test_the_page_shows_what_the_example_does() -> None:
    example = (ROOT / "examples" / "orm_projection.py").read_text()
    _, lending, model = re.split(r"^# ---- .*\n", example.partition("def main")[0], flags=re.M)
    page = PAGE.read_text()
    assert lending.strip() in page
    assert model.strip() in page


def pieces(log: Log) -> list[Any]:
    return rows(log, "SELECT tenant, name, pieces FROM item ORDER BY name")


def test_the_example_runs(url: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-m", "examples.orm_projection"],
        cwd=ROOT, env={**os.environ, "EVERLOG_STORE": url}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, "")
    with Platform(url, stock).open() as log:
        assert pieces(log) == [("acme", "chair", 12)]


@pytest.mark.parametrize("point", ["checkpoint.before_commit", "checkpoint.after_commit"])
def test_an_event_counts_once_when_its_worker_is_killed(url: str, point: str) -> None:
    with Platform(url, stock).open() as log:
        for number in range(1, 6):
            log.tenant("acme").append("stock-chair", Received("chair", number))
    died = subprocess.run(
        [sys.executable, "-c", DIES, point], cwd=ROOT, env={**os.environ, "EVERLOG_STORE": url}, timeout=60
    )
    assert died.returncode == 9
    with Platform(url, stock).open(worker=True, lease_seconds=LEASE) as log:
        log.tenant("acme").wait_for(stock)
        assert pieces(log) == [("acme", "chair", 15)]


def test_what_a_session_wrote_goes_with_the_event_that_raised(url: str) -> None:
    broken = [True]
    careful = SqlProjection("stock", setup=stock.setup, tables=stock.tables)

    @careful.on(Received)
    def receive(e: Recorded[Received], tx: Transaction) -> None:
        mine = Item.tenant == e.tenant, Item.name == e.data.item
        with session_on(tx) as session:  # by Core this time
            if session.scalar(select(Item.pieces).where(*mine)) is None:
                session.execute(insert(Item).values(tenant=e.tenant, name=e.data.item, pieces=0))
            session.execute(update(Item).where(*mine).values(pieces=Item.pieces + e.data.pieces))
            session.commit()  # which is everlog's to do
            if broken[0] and e.version == 3:
                raise LookupError("not today")

    platform = Platform(url, careful)
    with platform.open(worker=True, lease_seconds=LEASE) as log:
        for number in (1, 2, 4, 8):
            log.tenant("acme").append("stock-chair", Received("chair", number))
        failed(log, "stock")
        assert pieces(log) == [("acme", "chair", 3)]
    broken.clear()
    broken.append(False)
    with platform.open(worker=True, lease_seconds=LEASE) as log:
        log.tenant("acme").wait_for(careful)
        assert pieces(log) == [("acme", "chair", 15)]


def test_an_error_of_the_orm_that_is_passed_over_stores_nothing(url: str) -> None:
    """On PostgreSQL a failed statement ends its transaction; on SQLite only the statement is undone."""
    careless = SqlProjection("stock", setup=stock.setup, tables=stock.tables)

    @careless.on(Received)
    def receive(e: Recorded[Received], tx: Transaction) -> None:
        for _ in range(2):
            try:
                with session_on(tx) as session:
                    session.add(Item(tenant=e.tenant, name=e.data.item, pieces=e.data.pieces))
            except Exception:
                continue

    with Platform(url, careless).open(worker=True, lease_seconds=LEASE) as log:
        log.tenant("acme").append("stock-chair", Received("chair", 1))
        if url.startswith("sqlite"):
            log.tenant("acme").wait_for(careless)
            assert pieces(log) == [("acme", "chair", 1)]
        else:
            failed(log, "stock")
            assert pieces(log) == []
