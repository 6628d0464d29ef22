"""Flag, environment, project file, default: in this order, from every place, and told apart."""

from pathlib import Path

import pytest

from everlog.app.settings import read_settings
from everlog.core.errors import Misconfigured
from tests.cli.conftest import event, fill, here


@pytest.mark.parametrize("name", ["app", "store", "broker", "tenant"])
def test_each_source_wins_over_the_next(folder: Path, name: str) -> None:
    default = {"tenant": "default"}.get(name)
    variable = f"EVERLOG_{name.upper()}"

    def said(flags: dict[str, str | None], environment: dict[str, str]) -> tuple[str | None, str]:
        setting = getattr(read_settings(flags, environment, folder), name)
        return setting.value, setting.source

    assert said({}, {}) == (default, "default")
    (folder / "everlog.toml").write_text(f'{name} = "file"')
    assert said({}, {}) == ("file", "everlog.toml")
    assert said({}, {variable: "environment"}) == ("environment", variable)
    assert said({}, {variable: ""}) == ("file", "everlog.toml")
    assert said({name: "flag"}, {variable: "environment"}) == ("flag", f"--{name}")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('ap = "x"', "did you mean `app`?"),
        ('color = "red"', "it may say app, store, broker, tenant"),
        ("app = 5", "is 5, not text"),
        ("app =", "cannot be read"),
        ("[app]", "not text"),
    ],
)
def test_a_project_file_that_nobody_understands_is_refused(folder: Path, text: str, says: str) -> None:
    (folder / "everlog.toml").write_text(text)
    with pytest.raises(Misconfigured, match=says.replace("?", r"\?")):
        read_settings({}, {}, folder)
    assert here("event", "list").code == 2


@pytest.fixture
def logs(shop: Path) -> Path:
    """One log for each source that may name it, with one event of that type, for two tenants."""
    for name in ("flag", "environment", "file"):
        for tenant in ("default", "flag", "environment", "file"):
            fill(shop / f"{name}.db", [event("s-1", f"{name}.{tenant}")], tenant)
    return shop


@pytest.mark.parametrize("place", ["before the noun", "before the verb", "behind the verb"])
def test_settings_reach_a_command_from_every_place(logs: Path, place: str) -> None:
    def seen(*options: str, **environment: str) -> str:
        at = ["before the noun", "before the verb", "behind the verb"].index(place)
        line = ["event", "list"]
        line[at:at] = [*options, "-o", "ndjson"]
        [one] = here(*line, env=environment).lines
        return str(one["type"])

    (logs / "everlog.toml").write_text('store = "sqlite:///file.db"\ntenant = "file"\n')
    assert seen() == "file.file"
    assert seen(EVERLOG_STORE="sqlite:///environment.db", EVERLOG_TENANT="environment") == "environment.environment"
    assert seen("--tenant", "flag", EVERLOG_TENANT="environment") == "file.flag"
    assert seen("--store", "sqlite:///flag.db", EVERLOG_STORE="sqlite:///environment.db") == "flag.file"
    (logs / "everlog.toml").write_text('store = "sqlite:///file.db"\n')
    assert seen() == "file.default"


def test_what_is_said_last_counts(logs: Path) -> None:
    line = ["--store", "sqlite:///file.db", "event", "--store", "sqlite:///environment.db", "list"]
    assert "environment.default" in here(*line).out
    assert "flag.default" in here(*line, "--store", "sqlite:///flag.db").out


def test_the_application_is_named_by_each_source(diverse: Path) -> None:
    (diverse / "everlog.toml").unlink()
    assert here("schema", "list").code == 2
    assert here("--app", "shop:platform", "schema", "list").code == 0
    assert here("schema", "list", "--app", "shop:platform").code == 0
    assert here("schema", "list", env={"EVERLOG_APP": "shop:platform"}).code == 0
    assert here("schema", "list", "--app", "nope:x", env={"EVERLOG_APP": "shop:platform"}).code == 2
    (diverse / "everlog.toml").write_text('app = "shop:platform"')
    assert here("schema", "list").code == 0


def test_a_store_wins_over_the_applications_own(logs: Path) -> None:
    assert "flag.default" in here("--app", "shop:platform", "--store", "sqlite:///flag.db", "event", "list").out


def test_a_bare_store_can_be_looked_at(diverse: Path) -> None:
    (diverse / "everlog.toml").unlink()
    store = ["--store", "sqlite:///shop.db"]
    for line in (["event", "list"], ["stream", "list"], ["stream", "show", "order-o-1"], ["audit", "list"], ["doctor"]):
        ran = here(*store, *line)
        assert ran.code == 0, ran.err
    assert here(*store, "event", "list", "-o", "ndjson").lines[0]["data"] == {"order_id": "o-1", "cents": 100}
    nothing = here("event", "list")
    assert (nothing.code, "nothing says which log" in nothing.err) == (2, True)


@pytest.mark.parametrize(
    ("app", "says"),
    [
        ("nope:platform", "there is no module 'nope'"),
        ("shop.nope:platform", "there is no module 'shop.nope'"),
        ("shop", "write module:platform"),
        (":platform", "write module:platform"),
        ("shop:", "write module:platform"),
        ("shop:plattform", "did you mean 'platform'?"),
        ("shop:orders", "is Decider, not a Platform"),
        ("raising:platform", "RuntimeError: no database today"),
        ("leaving:platform", "SystemExit: 1"),
        ("lacking:platform", "imports 'nothing_of_this_name', which is not installed"),
        ("wrong:platform", "two types"),
        ("nested:here.platform", ""),
    ],
)
def test_an_application_that_does_not_load_says_why(diverse: Path, app: str, says: str) -> None:
    for name, text in {
        "raising": "raise RuntimeError('no database today')",
        "leaving": "import sys; sys.exit(1)",
        "lacking": "import nothing_of_this_name",
        "wrong": "from everlog import Misconfigured\nraise Misconfigured('two types')",
        "nested": "print('hello from the import')\nimport shop\nclass here:\n    platform = shop.platform",
    }.items():
        (diverse / f"{name}.py").write_text(text)
    ran = here("--app", app, "event", "list", "-o", "ndjson")
    assert (ran.code, says in ran.err) == (2 if says else 0, True), ran.err
    assert "hello" not in ran.out


def test_json_and_another_form_exclude_each_other(diverse: Path) -> None:
    ran = here("event", "list", "--json", "-o", "csv")
    assert (ran.code, ran.json["status"]) == (2, "error")
    assert here("event", "list", "--json", "-o", "json").code == 0


def test_debug_shows_the_traceback_and_nothing_else_does(diverse: Path) -> None:
    assert "Traceback" not in here("event", "list", "--since", "soon").err
    for line in (["-d", "event", "list"], ["event", "list", "--debug"]):
        assert "Traceback" in here(*line, "--since", "soon").err
