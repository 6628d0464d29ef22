"""`everlog init` and `everlog demo`: the first minutes."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import here, process

SHOP = ["everlog.toml", "shop.py", "test_shop.py"]


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_new_project_runs_is_tested_and_can_be_looked_at(folder: Path) -> None:
    ran = here("init", "--json")
    assert (ran.code, sorted(ran.data), files(folder)) == (0, SHOP, SHOP)
    for _ in range(2):
        program = subprocess.run([sys.executable, "shop.py"], capture_output=True, text=True, timeout=60, check=True)
        assert program.stdout == "order o-1 is shipped; before that it was placed\n"
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_shop.py"]
    assert subprocess.run(tests, capture_output=True, text=True, timeout=60, check=False).returncode == 0
    assert [event["type"] for event in here("event", "list", "-o", "ndjson").lines] == ["order.placed", "order.shipped"]
    assert here("stream", "state", "order", "o-1", "--at-version", "1", "--json").data["state"] == "placed"


def test_what_init_wrote_type_checks(folder: Path) -> None:
    here("init")
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "shop.py"], capture_output=True, text=True, timeout=60, check=False
    )
    assert checked.returncode == 0, checked.stdout


def test_a_project_may_have_another_name_and_place(folder: Path) -> None:
    assert here("init", "backend/api", "--name", "billing").code == 0
    assert files(folder / "backend" / "api") == ["billing.py", "everlog.toml", "test_billing.py"]
    assert 'app = "billing:platform"' in (folder / "backend" / "api" / "everlog.toml").read_text()


def test_nothing_is_written_over_unless_forced(folder: Path) -> None:
    (folder / "shop.py").write_text("mine")
    ran = here("init")
    assert (ran.code, "shop.py is there already" in ran.err, files(folder)) == (2, True, ["shop.py"])
    assert (folder / "shop.py").read_text() == "mine"
    assert here("init", "--force").code == 0
    assert (folder / "shop.py").read_text() != "mine"


def test_a_dry_run_writes_nothing(folder: Path) -> None:
    ran = here("init", "new", "--dry-run", "-o", "plain")
    assert (ran.code, ran.out.splitlines(), files(folder)) == (
        0,
        ["new/shop.py", "new/everlog.toml", "new/test_shop.py"],
        [],
    )


@pytest.mark.parametrize("name", ["a-b", "json", "class", "everlog", "", "../x"])
def test_a_name_that_is_no_module_is_refused(folder: Path, name: str) -> None:
    assert here("init", "--name", name).code == 2
    assert files(folder) == []


def test_the_demo_has_a_log_of_its_own(shop: Path) -> None:
    ran = process("demo", "--no-wait", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["status"] == "ok"
    assert (shop / ".everlog" / "demo.db").exists()
    assert not (shop / "shop.db").exists()


def test_the_demo_goes_where_it_is_told(folder: Path) -> None:
    assert process("demo", "--no-wait", "--store", "sqlite:///here.db").code == 0
    assert (folder / "here.db").exists()
