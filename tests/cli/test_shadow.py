"""Builds beside the one that serves, and partitions, at a terminal."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import here, process
from tests.cli.test_following import followed, log, signals, sql, told, trouble

_ = followed, log, signals  # fixtures


def revenue_of(key: str, tenant: str = "default") -> Any:
    return here("projection", "get", "revenue", key, "--tenant", tenant, "--json").data["state"]


def spoil(folder: Path) -> None:
    sql(folder, "UPDATE everlog_fold SET state = ? WHERE projection = 'revenue'", b"1000")


def test_what_is_built_beside_serves_once_it_is_swapped(followed: Path) -> None:
    spoil(followed)
    built = here("projection", "rebuild", "revenue", "--shadow", "--json")
    assert (built.code, built.data) == (0, {"projection": "revenue", "position": "8"})
    assert revenue_of("b") == 1000
    assert here("projection", "swap", "revenue", "--json").data == {"projection": "revenue", "position": "8"}
    assert revenue_of("b") == 50
    assert here("projection", "rollback", "revenue", "--json").data == {"projection": "revenue", "position": "8"}
    assert revenue_of("b") == 1000
    assert here("projection", "rollback", "revenue").code == 0
    assert revenue_of("b") == 50


def test_it_is_built_and_swapped_at_once(followed: Path) -> None:
    spoil(followed)
    sql(followed, "DELETE FROM placed")
    for name in ("revenue", "placed-table"):
        assert here("projection", "rebuild", name, "--shadow", "--swap").code == 0
    assert revenue_of("a", "acme") == 7
    assert sorted(sql(followed, "SELECT id FROM placed")) == [("a1",), ("a1",), ("b2",), ("c3",)]


@pytest.mark.parametrize("name", ["revenue", "placed-table"])
def test_what_is_not_as_the_log_says_is_not_swapped(followed: Path, name: str) -> None:
    spoil(followed)
    again = ["projection", "rebuild", name, "--shadow", "--resume", "--verify", "--swap"]
    assert here("projection", "rebuild", name, "--shadow", "--verify").code == 0
    if name == "revenue":
        sql(followed, "UPDATE everlog_fold SET state = ? WHERE projection = 'revenue' AND version = 2", b"7000")
    else:
        with closing(sqlite3.connect(followed / "shop.db.shadow-placed-table")) as shadow:
            shadow.execute("DELETE FROM placed WHERE id = 'b2'")
            shadow.commit()
    ran = here(*again)
    assert ran.code == 1
    assert "are not what the log makes of them: nothing was swapped" in ran.err
    assert revenue_of("b") == 1000
    assert here("projection", "rebuild", name, "--shadow", "--verify", "--swap").code == 0
    assert revenue_of("b") == (50 if name == "revenue" else 1000)


def test_one_that_failed_goes_on_with_resume(followed: Path) -> None:
    trouble(followed, "revenue/b2 too cheap")
    assert told(here("projection", "rebuild", "revenue", "--shadow", "--json"))[:2] == (1, "subscription_failed")
    trouble(followed)
    assert here("projection", "rebuild", "revenue", "--shadow", "--resume", "--swap").code == 0
    assert revenue_of("b") == 50


def test_it_is_canceled(followed: Path) -> None:
    spoil(followed)
    assert here("projection", "rebuild", "revenue", "--shadow").code == 0
    assert here("projection", "cancel", "revenue", "--json").data == {"projection": "revenue", "canceled": True}
    assert told(here("projection", "swap", "revenue", "--json"))[:2] == (3, "not_found")
    assert revenue_of("b") == 1000


def test_some_keys_or_one_tenant_are_built_anew_where_they_are(followed: Path) -> None:
    spoil(followed)
    done = here("projection", "rebuild", "revenue", "--key", "b", "--json")
    assert (done.code, done.data) == (0, {"projection": "revenue", "rows": 1, "changed": 1})
    assert (revenue_of("b"), revenue_of("a"), revenue_of("a", "acme")) == (50, 1000, 1000)
    assert here("projection", "rebuild", "revenue", "--of-tenant", "acme", "--json").data["changed"] == 1
    assert (revenue_of("a"), revenue_of("a", "acme")) == (1000, 7)


@pytest.mark.parametrize(
    "line",
    [
        ["rebuild", "revenue", "--swap"],
        ["rebuild", "revenue", "--verify"],
        ["rebuild", "revenue", "--key", "b", "--shadow"],
        ["rebuild", "revenue", "--key", "b", "--of-tenant", "acme"],
        ["rebuild", "revenue", "--of-tenant", "acme", "--resume"],
        ["partitions", "revenue", "0"],
    ],
    ids=" ".join,
)
def test_what_does_not_go_together_is_refused(followed: Path, line: list[str]) -> None:
    spoil(followed)
    assert here("projection", *line).code == 2
    assert revenue_of("b") == 1000


@pytest.mark.parametrize(("kind", "name"), [("projection", "revenue"), ("processor", "mail")])
def test_it_is_divided_and_listed_as_a_whole(followed: Path, kind: str, name: str) -> None:
    assert here(kind, "partitions", name, "3", "--json").data == {kind: name, "partitions": 3}
    assert here("worker", "--once").code == 0
    [one] = [one for one in here(kind, "list", "--json").data if one["name"] == name]
    assert (one["partitions"], one["position"], one["lag"]) == (3, "8", 0)
    assert told(here(kind, "partitions", "nothing", "3", "--json"))[:2] == (3, "not_found")


def test_a_new_version_that_cannot_be_built_is_said_and_the_old_one_serves(followed: Path) -> None:
    shop = followed / "shop.py"
    shop.write_text(shop.read_text().replace('Fold("revenue", initial=0)', 'Fold("revenue", initial=0, version=2)'))
    trouble(followed, "revenue/b2 no such price")
    ran = process("worker", "--once")
    assert ran.code == 7
    assert "warning: the new version of revenue cannot be built: " in ran.err
    assert "see: everlog projection status revenue\n" in ran.err
    assert sql(followed, "SELECT version FROM everlog_subscription WHERE name = 'revenue'") == [(1,)]
    trouble(followed)
    assert process("worker", "--once").code == 0
    assert sql(followed, "SELECT version FROM everlog_subscription WHERE name = 'revenue'") == [(2,)]
