"""The stream a relay writes: made where it is missing, checked where it is there, asked what it holds."""

import base64
import contextlib
import http.client
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from nats.aio.client import Client

from everlog.adapters.nats.connection import ApiError, api
from everlog.adapters.nats.settings import NatsSettings
from everlog.core.clock import micros
from everlog.core.errors import Misconfigured
from everlog.relay.contract import BrokerUnavailable, Held, Holding, Message

NO_STREAM, NO_MESSAGE, IN_USE = 10059, 10037, 10058
_OURS = {"made-by": "everlog"}
_NANO = 1_000_000_000
# The shortest a server takes. The fence keeps doubles out, and a longer one would refuse what is sent again on purpose.
DUPLICATE_SECONDS = 0.1
MESSAGE_ID = "Nats-Msg-Id"


async def ensure_stream(client: Client, settings: NatsSettings, name: str, subject: str) -> Mapping[str, Any]:
    """The stream's description. Raises `Misconfigured` for a stream that a relay cannot use."""
    try:
        found = await describe(client, name)
    except ApiError as error:
        if error.code != NO_STREAM:
            raise
        found = await _make(client, settings, name, subject)
    config = found["config"]
    if not any(_covers(one, subject) for one in config["subjects"]):
        if config.get("metadata", {}).get("made-by") != "everlog":
            raise Misconfigured(
                f"stream {name} keeps {', '.join(config['subjects'])}, not {subject}: add that to its subjects "
                f"(nats stream edit {name}), or let the URL name a stream that everlog may make"
            )
        changed = {**config, "subjects": [*config["subjects"], subject]}
        found = await api(client, f"STREAM.UPDATE.{name}", changed)
    if not config.get("allow_atomic"):
        raise Misconfigured(f"stream {name} takes no batches: nats stream edit {name} --allow-batch")
    return found


async def describe(client: Client, name: str) -> Mapping[str, Any]:
    return await api(client, f"STREAM.INFO.{name}")  # type: ignore[no-any-return]


async def kept(client: Client, settings: NatsSettings, prefix: str) -> Holding:
    """As `holding`, of what somebody else has made."""
    name, subject = settings.stream, f"{prefix}.>"
    try:
        found = await describe(client, name)
    except ApiError as error:
        if error.code != NO_STREAM:
            raise
        raise BrokerUnavailable(f"there is no stream {name}: no relay has made it yet, or another is meant") from error
    subjects = found["config"]["subjects"]
    if not any(_covers(one, subject) for one in subjects):
        raise BrokerUnavailable(
            f"stream {name} keeps {', '.join(subjects)}, not {subject}: no relay of this name sends to it yet, or "
            "another is meant"
        )
    return await _holding(client, settings, subject, found)


async def holding(client: Client, settings: NatsSettings, prefix: str) -> Holding:
    subject = f"{prefix}.>"
    return await _holding(client, settings, subject, await ensure_stream(client, settings, settings.stream, subject))


async def _holding(client: Client, settings: NatsSettings, subject: str, found: Mapping[str, Any]) -> Holding:
    state, config = found["state"], found["config"]
    is_alone = config["subjects"] == [subject]
    return Holding(
        stream=settings.stream,
        created=created_at(found),
        messages=state["messages"] if is_alone else await _count(client, settings.stream, subject),
        last=await held(client, settings.stream, {"last_by_subj": subject}),
        forgets=_forgets(config),
    )


async def held(client: Client, stream: str, which: Mapping[str, object]) -> Held | None:
    """One message as kept by the stream's leader."""
    try:
        found = (await api(client, f"STREAM.MSG.GET.{stream}", which))["message"]
    except ApiError as error:
        if error.code == NO_MESSAGE or error.status == 404:
            return None
        raise
    headers = parse_headers(base64.b64decode(found.get("hdrs", "")))
    id = headers.pop(MESSAGE_ID, "")
    told = {name: value for name, value in headers.items() if not name.startswith("Nats-")}
    return Held(found["seq"], Message(found["subject"], id, told, base64.b64decode(found.get("data", ""))))


def created_at(description: Mapping[str, Any]) -> int:
    """Which life of the stream this is, in microseconds."""
    text: str = description["created"]
    head, dot, rest = text.partition(".")
    return micros(datetime.fromisoformat(f"{head}.{rest.rstrip('Z')[:6]:0<6}+00:00" if dot else text))


def parse_headers(raw: bytes) -> dict[str, str]:
    lines = raw.decode(errors="replace").split("\r\n")[1:]
    pairs = (line.partition(":") for line in lines if line)
    return {name: value.strip() for name, _, value in pairs}


def risks(settings: NatsSettings, description: Mapping[str, Any]) -> tuple[str, ...]:
    """Which settings may lose what was acknowledged, in sentences."""
    found = []
    if description["config"]["num_replicas"] < 3:
        found.append(
            f"stream {settings.stream} has {description['config']['num_replicas']} replica: production wants three "
            "nodes, of which one may be lost"
        )
    answers = [_sync_always(host, port) for host, port in settings.monitors]
    if False in answers:
        found.append(
            "the broker acknowledges before it has synced (sync_interval is not `always`): a power cut loses "
            "acknowledged messages; the relay sends them again once it notices"
        )
    elif None in answers:
        found.append(
            "cannot see whether the broker syncs before it acknowledges: give ?monitor=host:8222,… in its URL, and "
            "set `sync_interval: always` in its configuration"
        )
    return tuple(found)


async def _make(client: Client, settings: NatsSettings, name: str, subject: str) -> Mapping[str, Any]:
    config: dict[str, object] = {
        "name": name,
        "subjects": [subject],
        "storage": "file",
        "retention": "limits",
        "discard": "old",
        "allow_atomic": True,
        "allow_direct": False,  # whoever asks what is there must hear it from the leader
        "duplicate_window": int(DUPLICATE_SECONDS * _NANO),
        "max_age": settings.max_age * _NANO,
        "max_bytes": settings.max_bytes or -1,
        "metadata": _OURS,
    }
    for replicas in [settings.replicas] if settings.replicas else [3, 1]:
        try:
            return await api(client, f"STREAM.CREATE.{name}", {**config, "num_replicas": replicas})  # type: ignore[no-any-return]
        except ApiError as error:
            if error.code == IN_USE:  # somebody else made it just now
                return await describe(client, name)
            too_few = error.code in (10005, 10074)  # no suitable peers; replicas > 1 without a cluster
            if not too_few or replicas == (settings.replicas or 1):
                raise BrokerUnavailable(f"stream {name} cannot be made: {error}") from error
            if error.code == 10005 and await _is_cluster_of_three(client):
                raise BrokerUnavailable(f"stream {name} waits for three nodes: {error}") from error
    raise AssertionError


async def _is_cluster_of_three(client: Client) -> bool:
    """A node that is down must not leave a cluster's stream with one replica for ever."""
    return len(client.servers) >= 3


async def _count(client: Client, stream: str, subject: str) -> int:
    """How many messages lie below a subject, in a stream that holds others too."""
    count, offset = 0, 0
    while True:
        found = await api(client, f"STREAM.INFO.{stream}", {"subjects_filter": subject, "offset": offset})
        subjects = found["state"].get("subjects") or {}
        count += sum(int(number) for number in subjects.values())
        offset += len(subjects)
        if not subjects or offset >= found.get("total", 0):
            return count


def _forgets(config: Mapping[str, Any]) -> bool:
    limits = ("max_age", "max_bytes", "max_msgs", "max_msgs_per_subject")
    return config.get("retention", "limits") != "limits" or any(config.get(name, 0) > 0 for name in limits)


def _covers(pattern: str, subject: str) -> bool:
    """Whether everything below `subject` (which ends in `>`) is below `pattern` too."""
    theirs, ours = pattern.split("."), subject.split(".")
    for index, one in enumerate(theirs):
        if one == ">":
            return True
        if index >= len(ours) or (one not in ("*", ours[index])) or ours[index] == ">":
            return False
    return len(theirs) == len(ours)


def _sync_always(host: str, port: int) -> bool | None:
    """None when the monitoring page cannot be seen."""
    with contextlib.closing(http.client.HTTPConnection(host, port, timeout=0.5)) as connection:
        try:
            connection.request("GET", "/jsz?config=true")
            config = json.loads(connection.getresponse().read()).get("config", {})
        except (OSError, http.client.HTTPException, ValueError):
            return None
    return bool(config.get("sync_always", False)) if config else None
