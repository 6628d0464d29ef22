"""What a program runs with: a flag, else the environment, else `everlog.toml`, else a default; each with its source."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from everlog.core.errors import Misconfigured
from everlog.core.names import DEFAULT_TENANT

FILE = "everlog.toml"
NAMES = ("app", "store", "broker", "tenant")
_DEFAULTS = {"tenant": DEFAULT_TENANT}


@dataclass(frozen=True, slots=True)
class Setting:
    """One value and who said so: `--store`, `EVERLOG_STORE`, `everlog.toml` or `default`."""

    value: str | None
    source: str


@dataclass(frozen=True, slots=True)
class Settings:
    """`app` is `module:platform`, `store` a URL that overrides the platform's own, `tenant` whose log is meant.

    `broker` is where relays send.
    """

    app: Setting
    store: Setting
    broker: Setting
    tenant: Setting


def read_settings(flags: Mapping[str, str | None], environment: Mapping[str, str], folder: Path) -> Settings:
    """Raises `Misconfigured` for a project file that cannot be read or says what nobody understands."""
    file = _read_file(folder / FILE)
    return Settings(**{name: _setting(name, flags, environment, file) for name in NAMES})


def environment_name(name: str) -> str:
    return f"EVERLOG_{name.upper()}"


def _setting(
    name: str, flags: Mapping[str, str | None], environment: Mapping[str, str], file: Mapping[str, str]
) -> Setting:
    variable = environment_name(name)
    said = ((flags.get(name), f"--{name}"), (environment.get(variable), variable), (file.get(name), FILE))
    # An empty value says nothing: `EVERLOG_APP= everlog …` is how a shell takes a variable back.
    return next((Setting(value, source) for value, source in said if value), Setting(_DEFAULTS.get(name), "default"))


def _read_file(path: Path) -> Mapping[str, str]:
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Misconfigured(f"{path} cannot be read: {error}") from error
    for name, value in found.items():
        if name not in NAMES:
            near = get_close_matches(name, NAMES, 1)
            meant = f"did you mean `{near[0]}`?" if near else f"it may say {', '.join(NAMES)}"
            raise Misconfigured(f"{path} says `{name}`, which is no setting: {meant}")
        if not isinstance(value, str):
            raise Misconfigured(f'{path}: `{name}` is {value!r}, not text: write {name} = "…"')
    return found
