"""The settings of a PostgreSQL log, read from its URL: what libpq knows goes to libpq, the rest is ours."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlencode, urlsplit, urlunsplit

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from everlog.core.errors import Misconfigured

DURABLE = {
    "fsync": "acknowledged events are lost when the server's machine crashes",
    "synchronous_commit": "acknowledged events are lost when the server crashes",
    "full_page_writes": "a page torn by a crash cannot be mended",
}
"""Settings of the server that must be on, and what is lost where they are off."""

UNSAFE = frozenset({*DURABLE, "tenant_role"})
"""What `allow_unsafe` may name: each is refused at start otherwise."""


@dataclass(frozen=True, slots=True)
class PostgresSettings:
    """`conninfo` is libpq's. `lock_timeout` is how long a call waits for a server that is away, or for the head
    (2 s at least), in seconds; `connections` how many this process opens at most to read, and as many again to
    follow; `tenant_role` the role, under row-level security, that tenants' reads run as; `allow_unsafe` names settings
    that may lose or show events.
    """

    conninfo: str = field(repr=False)  # holds the password
    lock_timeout: float = 30.0
    connections: int = 10
    tenant_role: str | None = None
    allow_unsafe: frozenset[str] = frozenset()

    @classmethod
    def from_url(cls, url: str) -> "PostgresSettings":
        """Read `postgresql://user@host1,host2/database` with options after `?`; raises `Misconfigured`.

        Several hosts are tried in turn, and only one that takes writes is used.
        """
        try:
            parts = urlsplit(url)
        except ValueError as error:
            raise Misconfigured(f"the URL of the store cannot be read: {error}") from None
        options = _options(parts.query)
        ours = {name: options.pop(name) for name in list(options) if name in cls.__slots__ and name != "conninfo"}
        plain = urlunsplit(parts._replace(query=urlencode(options, quote_via=quote)))
        try:
            given = conninfo_to_dict(plain)
            conninfo = make_conninfo(plain, **_defaults(given))
        except ProgrammingError as error:
            told = _without(str(error).strip(), parts.password, options.get("password"))
            raise Misconfigured(f"this is no URL that PostgreSQL understands: {told}") from None
        return cls(
            conninfo,
            _number(ours.get("lock_timeout", "30"), "lock_timeout"),
            _count(ours.get("connections", "10"), "connections"),
            _role(ours.get("tenant_role")),
            _unsafe(ours.get("allow_unsafe", "")),
        )

    @property
    def place(self) -> str:
        """Which database it is: hosts, ports and name."""
        given = conninfo_to_dict(self.conninfo)
        hosts = quote(str(given.get("host") or given.get("hostaddr") or ""), safe=",")
        ports = str(given.get("port") or "").strip(",")
        return f"postgresql://{hosts}{ports and ':'}{ports}/{quote(str(given.get('dbname') or ''))}"


def _defaults(given: Mapping[str, object]) -> dict[str, str | int]:
    """A standby answers reads late and takes no writes, so only a primary is asked; a dead host is given up soon."""
    wanted: dict[str, str | int] = {
        "target_session_attrs": "read-write",
        "connect_timeout": 5,
        "application_name": "everlog",
        "tcp_user_timeout": 10_000,
    }
    return {name: value for name, value in wanted.items() if name not in given}


def _options(query: str) -> dict[str, str]:
    """As libpq reads them, where a plus is a plus."""
    pairs = [pair.partition("=") for pair in query.split("&") if pair]
    return {unquote(name): unquote(value) for name, _, value in pairs}


def _without(message: str, *secrets: str | None) -> str:
    for secret in filter(None, secrets):
        for written in (secret, unquote(secret)):
            message = message.replace(written, "…")
    return message


def _role(text: str | None) -> str | None:
    if text == "":
        raise Misconfigured("tenant_role= names no role: leave it out, and nothing but everlog keeps tenants apart")
    return text


def _unsafe(text: str) -> frozenset[str]:
    names = frozenset(filter(None, text.split(",")))
    if names - UNSAFE:
        raise Misconfigured(f"allow_unsafe={text}: it may name {', '.join(sorted(UNSAFE))}")
    return names


def _count(text: str, option: str) -> int:
    number = _number(text, option)
    if number != int(number):
        raise Misconfigured(f"{option}={text} must be a whole number")
    return int(number)


def _number(text: str, option: str) -> float:
    try:
        number = float(text)
    except ValueError as error:
        raise Misconfigured(f"{option}={text!r} is not a number") from error
    if not 0 < number < math.inf:
        raise Misconfigured(f"{option}={text} must be a number above 0")
    return number
