"""One call of the command line: the settings in force, the application they name, and its log."""

import importlib
import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

from everlog.app.log import Log
from everlog.app.platform import Part, Platform
from everlog.app.session import Admin, Session
from everlog.app.settings import Settings, read_settings
from everlog.app.stores import store_exists
from everlog.cli.failures import usage
from everlog.cli.output import Output
from everlog.core.errors import EverlogError, Misconfigured, NotFound
from everlog.domain.decider import Decider


@dataclass
class Call:
    """What a command is given beside its own options."""

    output: Output
    flags: Mapping[str, str | None]

    @cached_property
    def now(self) -> datetime:
        return datetime.now(UTC)

    @cached_property
    def settings(self) -> Settings:
        return read_settings(self.flags, os.environ, Path.cwd())

    @property
    def tenant(self) -> str:
        return self.settings.tenant.value or ""

    @property
    def url(self) -> str:
        """Where the log is; only without a store setting does the application have to be loaded for it."""
        return self.settings.store.value or self.platform.url

    def broker(self, option: str | None) -> str:
        """Where relays send; raises `Misconfigured` where nothing says it."""
        url = self.broker_or_none(option)
        if url is None:
            raise Misconfigured("nothing says where the broker is: give --broker nats://host:4222/EVENTS")
        return url

    def broker_or_none(self, option: str | None) -> str | None:
        return option or self.settings.broker.value

    @cached_property
    def platform(self) -> Platform:
        """The application, or one that declares nothing where only a store is named."""
        app, store = self.settings.app.value, self.settings.store.value
        if app is not None:
            return load_platform(app)
        if store is not None:
            return Platform(store)
        raise Misconfigured(
            "nothing says which log: give --app module:platform or --store sqlite:///shop.db, "
            "or start a project with `everlog init`"
        )

    def application(self, wanted_for: str) -> Platform:
        """The application itself; raises `Misconfigured` where only a store is named."""
        if self.settings.app.value is None:
            raise Misconfigured(f"{wanted_for} needs your code: give --app module:platform, or set EVERLOG_APP")
        return self.platform

    def decider(self, name: str) -> Decider[Any, Any, Any]:
        deciders = self.application(f"the state of a {name!r}").deciders
        if name not in deciders:
            raise Misconfigured(f"there is no decider {name!r}{nearest(name, deciders)}")
        return deciders[name]

    def open(self, *, as_stored: bool = False) -> Log:
        """The log, to read; `as_stored` reads past the application's types. Raises `NotFound` where there is none.

        Opened without the application's projections: opening with a new inline one puts it in force, and no command
        that only looks may do that before a deploy.
        """
        if not self.has_log():
            raise NotFound(f"there is no log at {self.url} yet: check the name, or append a first event")
        parts = [] if as_stored else _without_projections(self.platform)
        return Platform(self.url, *parts).open()

    def open_to_write(self) -> Log:
        """The log with everything that appending to it takes; made if need be."""
        if self.url.startswith("memory:"):
            self.output.warn("memory: is a log of its own for every command, and gone when this one ends")
        return self.platform.open(self.url)

    def has_log(self) -> bool:
        return store_exists(self.url)

    def reader(self, log: Log, all_tenants: bool) -> Session | Admin:
        """Who reads: one tenant, or with --all-tenants the admin object."""
        if not all_tenants:
            return log.tenant(self.tenant)
        self.named_tenant(all_tenants)
        return log.admin()

    def refuse_tenant(self) -> None:
        """For what is about all tenants, where `--tenant` would seem to spare the others."""
        if self.settings.tenant.source == "--tenant":
            raise usage("this is about all tenants: leave --tenant out, or say --of-tenant NAME for one")

    def named_tenant(self, all_tenants: bool) -> str | None:
        """The one tenant that is meant, `None` for all."""
        if all_tenants and self.settings.tenant.source == "--tenant":
            raise usage("--tenant and --all-tenants exclude each other: leave one of them out")
        return None if all_tenants else self.tenant


def load_platform(name: str) -> Platform:
    """`package.module:platform`, looked for from the current folder first; raises `Misconfigured`."""
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise Misconfigured(f"{name!r} names no application: write module:platform, for example shop:platform")
    module = _import(module_name)
    found: object = module
    for step in attribute.split("."):
        if not hasattr(found, step):
            platforms = [key for key, value in vars(module).items() if isinstance(value, Platform)]
            raise Misconfigured(f"{module_name} has no {attribute!r}{nearest(attribute, platforms)}")
        found = getattr(found, step)
    if not isinstance(found, Platform):
        raise Misconfigured(f"{name} is {type(found).__name__}, not a Platform: name the variable that holds it")
    return found


def _without_projections(platform: Platform) -> list[Part]:
    classes = [kind.cls for kind in platform.types.kinds.values()]
    return [*platform.deciders.values(), *platform.types.chain.steps.values(), *classes]


def _import(name: str) -> Any:
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        # What the application prints while it is imported must not get between the data.
        with redirect_stdout(sys.stderr):
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise Misconfigured(
                f"there is no module {error.name!r} in {folder} or installed: run this where it is, or check --app"
            ) from error
        raise Misconfigured(f"{name} imports {error.name!r}, which is not installed here") from error
    except EverlogError:
        raise
    except (Exception, SystemExit) as error:  # whatever somebody's module raises
        raise Misconfigured(
            f"{name} cannot be imported: {type(error).__name__}: {error}; `python -c 'import {name}'` shows where"
        ) from error


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a message about a name that is not known."""
    names = list(known)
    if near := get_close_matches(name, names, 1):
        return f": did you mean {near[0]!r}?"
    return f": there is {', '.join(names)}" if 0 < len(names) <= 10 else ""
