"""The settings of a SQLite log, read from its URL; an unsafe one is refused unless the URL says so by name."""

import math
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from everlog.core.errors import Misconfigured, UnsafeSettings

_DURABLE = {"FULL", "EXTRA"}
_SYNCHRONOUS = {"OFF", "NORMAL", "FULL", "EXTRA"}


@dataclass(frozen=True, slots=True)
class SqliteSettings:
    """`path` is `None` for a temporary log that is deleted when it is closed. Times are seconds."""

    path: Path | None
    synchronous: str = "FULL"
    lock_timeout: float = 30.0
    checkpoint_pages: int = 4000

    @classmethod
    def from_url(cls, url: str) -> "SqliteSettings":
        """Read `memory:` or `sqlite:///relative.db`, `sqlite:////absolute.db` with options after `?`.

        Raises `Misconfigured` for an unknown option and `UnsafeSettings` for one that may lose events.
        """
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        allowed = set(options.pop("allow_unsafe", "").split(","))
        settings = cls(
            path=_path(url),
            synchronous=options.pop("synchronous", "FULL").upper(),
            lock_timeout=_number(options.pop("lock_timeout", "30"), "lock_timeout"),
            checkpoint_pages=int(_number(options.pop("checkpoint_pages", "4000"), "checkpoint_pages")),
        )
        if options:
            raise Misconfigured(f"{url} has unknown options: {', '.join(sorted(options))}")
        settings._refuse_unsafe(allowed)
        return settings

    def _refuse_unsafe(self, allowed: set[str]) -> None:
        if self.synchronous not in _SYNCHRONOUS:
            raise Misconfigured(f"synchronous={self.synchronous} is none of {', '.join(sorted(_SYNCHRONOUS))}")
        if self.synchronous not in _DURABLE and "synchronous" not in allowed:
            raise UnsafeSettings(
                f"synchronous={self.synchronous} loses acknowledged events on power loss: use FULL, "
                "or add allow_unsafe=synchronous to the URL to accept that"
            )


def _path(url: str) -> Path | None:
    if url.partition("?")[0] in ("memory:", "memory://"):
        return None
    parts = urlsplit(url)
    if parts.scheme != "sqlite" or parts.netloc or len(parts.path) < 2:
        raise Misconfigured(f"{url!r} is not a SQLite log: write sqlite:///shop.db, sqlite:////srv/shop.db or memory:")
    if parts.fragment:
        raise Misconfigured(f"{url!r} holds a #: write %23 if it is part of the file's name")
    if parts.path == "/:memory:":
        raise Misconfigured(f"{url!r} would be another database for every connection: write memory:")
    return Path(unquote(parts.path[1:]))


def _number(text: str, option: str) -> float:
    try:
        number = float(text)
    except ValueError as error:
        raise Misconfigured(f"{option}={text!r} is not a number") from error
    if not 0 < number < math.inf:
        raise Misconfigured(f"{option}={text} must be a number above 0")
    return number
