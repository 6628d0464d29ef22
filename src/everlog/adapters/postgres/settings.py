"""The settings of a PostgreSQL log, read from its URL: what libpq knows goes to libpq, the rest is ours."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from everlog.core.errors import Misconfigured


@dataclass(frozen=True, slots=True)
class PostgresSettings:
    """`conninfo` is libpq's. `lock_timeout` is how long a call waits for the head or the server, in seconds;
    `connections` how many this process opens at most beside the one that appends; `tenant_role` the role, under
    row-level security, that tenants' reads run as; `allow_unsafe` names settings that may lose events."""

    conninfo: str
    lock_timeout: float = 30.0
    connections: int = 10
    tenant_role: str | None = None
    allow_unsafe: frozenset[str] = frozenset()

    @classmethod
    def from_url(cls, url: str) -> "PostgresSettings":
        """Read `postgresql://user@host1,host2/database` with options after `?`; raises `Misconfigured`.

        Several hosts are tried in turn, and only one that takes writes is used.
        """
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        ours = {name: options.pop(name) for name in list(options) if name in cls.__slots__ and name != "conninfo"}
        plain = urlunsplit(parts._replace(query=urlencode(options)))
        try:
            given = conninfo_to_dict(plain)
            conninfo = make_conninfo(plain, **_defaults(given))
        except ProgrammingError as error:
            raise Misconfigured(f"{_without_password(url)} is no PostgreSQL URL: {error}") from error
        return cls(
            conninfo,
            _number(ours.get("lock_timeout", "30"), "lock_timeout"),
            int(_number(ours.get("connections", "10"), "connections")),
            ours.get("tenant_role"),
            frozenset(filter(None, ours.get("allow_unsafe", "").split(","))),
        )


def _defaults(given: Mapping[str, object]) -> dict[str, str | int]:
    """A standby answers reads late and takes no writes, so only a primary is asked; a dead host is given up soon."""
    wanted: dict[str, str | int] = {
        "target_session_attrs": "read-write",
        "connect_timeout": 5,
        "application_name": "everlog",
        "tcp_user_timeout": 10_000,
    }
    return {name: value for name, value in wanted.items() if name not in given}


def _without_password(url: str) -> str:
    password = urlsplit(url).password
    return url.replace(f":{password}@", ":…@") if password else url


def _number(text: str, option: str) -> float:
    try:
        number = float(text)
    except ValueError as error:
        raise Misconfigured(f"{option}={text!r} is not a number") from error
    if not 0 < number < math.inf:
        raise Misconfigured(f"{option}={text} must be a number above 0")
    return number
