"""`nats://user:password@host:4222,host:4222/STREAM?replicas=3`: where the broker is, and which stream is ours."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from urllib.parse import parse_qsl, unquote, urlsplit

from everlog.core.errors import Misconfigured

_STREAM = re.compile(r"[A-Za-z0-9_-]{1,200}")
_OPTIONS = ("monitor", "replicas", "timeout", "credentials", "token", "max_age", "max_bytes")
CLIENT_PORT, MONITOR_PORT = 4222, 8222


@dataclass(frozen=True, slots=True)
class NatsSettings:
    """`monitor`: host:port of the servers' monitoring pages, where it can be seen whether they sync what they ack.

    `replicas` 0 means 3 in a cluster of three or more, else 1. `max_age` (seconds) and `max_bytes` let a stream forget.
    """

    servers: tuple[str, ...]
    stream: str
    monitors: tuple[tuple[str, int], ...]
    user: str | None = None
    password: str | None = None
    token: str | None = None
    credentials: str | None = None
    replicas: int = 0
    timeout: float = 5.0
    max_age: int = 0
    max_bytes: int = 0

    @classmethod
    def from_url(cls, url: str) -> "NatsSettings":
        """Raises `Misconfigured`, without showing a password."""
        try:
            parts = urlsplit(url)
        except ValueError as error:
            raise Misconfigured(f"the broker's URL cannot be read: {error}") from error
        known, _, hosts = parts.netloc.rpartition("@")
        user, _, password = known.partition(":")
        stream = parts.path.strip("/")
        if parts.scheme not in ("nats", "tls") or not hosts or not _STREAM.fullmatch(stream):
            raise Misconfigured("a broker is nats://host:4222,host:4222/STREAM, the stream of A-Z a-z 0-9 _ -")
        options = _options(parts.query)
        pairs = [_host(one, CLIENT_PORT) for one in hosts.split(",")]
        told = options.get("monitor")
        return cls(
            servers=tuple(f"{parts.scheme}://{host}:{port}" for host, port in pairs),
            stream=stream,
            monitors=tuple(
                [_host(one, MONITOR_PORT) for one in told.split(",")]
                if told
                else [(host, MONITOR_PORT) for host, _ in pairs]
            ),
            user=unquote(user) or None,
            password=unquote(password) or None,
            token=options.get("token"),
            credentials=options.get("credentials"),
            replicas=_number(options, "replicas", 0, 5),
            timeout=_number(options, "timeout", 0, 600) or 5.0,
            max_age=_number(options, "max_age", 0, 10**9),
            max_bytes=_number(options, "max_bytes", 0, 2**60),
        )


def _options(query: str) -> Mapping[str, str]:
    found = dict(parse_qsl(query, keep_blank_values=True))
    for name in found:
        if name not in _OPTIONS:
            near = get_close_matches(name, _OPTIONS, 1)
            meant = f"did you mean {near[0]}?" if near else f"it may say {', '.join(_OPTIONS)}"
            raise Misconfigured(f"the broker's URL says {name}=…, which is no option: {meant}")
    return found


def _number(options: Mapping[str, str], name: str, least: int, most: int) -> int:
    text = options.get(name, str(least))
    if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
        raise Misconfigured(f"the broker's URL says {name}={text}: give a whole number from {least} to {most}")
    return int(text)


def _host(text: str, default: int) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or port.endswith("]"):  # an IPv6 address ends in one
        return text, default
    if not port.isdigit():
        raise Misconfigured(f"{text!r} in the broker's URL is not host:port")
    return host, int(port)
