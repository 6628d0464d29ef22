"""`everlog doctor`: what is in force, who said so, and what is wrong."""

import sqlite3
from pathlib import Path

import pytest

from tests.cli.conftest import Ran, here


def levels(ran: Ran) -> dict[str, str]:
    return {one["check"]: one["level"] for one in ran.data["findings"]}


def test_a_log_in_order_has_no_problem(diverse: Path) -> None:
    ran = here("doctor", "--json")
    assert (ran.code, set(levels(ran).values())) == (0, {"ok"})
    assert "shop:platform: 1 deciders, 3 event types" in ran.out
    assert set(ran.data["counters"].values()) == {0}
    table = here("doctor").out
    assert all(title in table.splitlines() for title in ("Findings", "Settings", "Counters"))


def test_only_a_deep_look_reads_every_row(diverse: Path) -> None:
    assert "leaves" not in levels(here("doctor", "--json"))
    ran = here("doctor", "--deep", "--json")
    assert levels(ran)["leaves"] == "ok"
    assert "reading 7 events and recomputing every hash" in ran.err
    database = sqlite3.connect(diverse / "shop.db")
    database.execute("DROP TRIGGER everlog_event_update")
    database.execute("UPDATE everlog_event SET actor = 'mallory' WHERE position = 1")
    database.commit()
    database.close()
    assert here("doctor").code == 0
    ran = here("doctor", "--deep", "--json")
    assert (ran.code, levels(ran)["leaves"]) == (1, "problem")


def test_settings_are_shown_with_their_source(diverse: Path) -> None:
    settings = {one["setting"]: one for one in here("doctor", "--json", "--tenant", "acme").data["settings"]}
    assert settings["app"] == {"setting": "app", "value": "shop:platform", "source": "everlog.toml"}
    assert settings["tenant"] == {"setting": "tenant", "value": "acme", "source": "--tenant"}
    assert settings["store"] == {"setting": "store", "value": None, "source": "default"}
    assert settings["store in use"]["value"] == "sqlite:///shop.db"


def test_an_application_that_does_not_load_is_a_problem_and_the_log_is_looked_at(diverse: Path) -> None:
    (diverse / "everlog.toml").write_text('app = "broken:platform"\nstore = "sqlite:///shop.db"\n')
    (diverse / "broken.py").write_text("1 / 0\n")
    ran = here("doctor", "--json")
    assert ran.code == 1
    assert (levels(ran)["application"], levels(ran)["positions"]) == ("problem", "ok")
    assert "ZeroDivisionError" in ran.out


def test_a_log_that_is_not_there_yet_is_a_warning_and_not_made(shop: Path) -> None:
    ran = here("doctor", "--json")
    assert (ran.code, levels(ran)["log"]) == (0, "warning")
    assert not (shop / "shop.db").exists()


@pytest.mark.parametrize("content", [b"not a database, by far", b""], ids=["text", "nothing named"])
def test_a_file_that_is_no_log_is_a_problem(folder: Path, content: bytes) -> None:
    (folder / "x.db").write_bytes(content)
    ran = here("doctor", "--json", *(["--store", "sqlite:///x.db"] if content else []))
    assert (ran.code, levels(ran)["log"], levels(ran)["application"]) == (1, "problem", "warning")
