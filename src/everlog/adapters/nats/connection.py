"""One connection, on an event loop that has a thread of its own; blocking calls go there and wait.

nats-py does not reconnect by itself here: it would keep what it could not send and send it later, behind our back. Any
trouble ends the connection; the next call makes a new one, to any of the servers.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import TimeoutError as FutureTimeout
from importlib.util import find_spec
from typing import Any, TypeVar

import msgspec
from nats import errors
from nats.aio.client import Client

from everlog.adapters.nats.settings import NatsSettings
from everlog.core.errors import Misconfigured
from everlog.relay.contract import BrokerUnavailable

T = TypeVar("T")

OLDEST = (2, 12)  # the first with atomic batches
CONNECT_SECONDS = 2
_AUTHORIZATION = (errors.AuthorizationError,)
_TROUBLE = (errors.Error, OSError, asyncio.TimeoutError, EOFError)


class ApiError(Exception):
    """JetStream refused a request; `code` is its own number for why."""

    def __init__(self, code: int, status: int, told: str) -> None:
        super().__init__(f"{told} ({code})")
        self.code, self.status = code, status


class _Client(Client):
    """Says nothing to a server that cannot keep it to itself, where the URL says `tls://`; nats-py would go on."""

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        wanted = self._current_server is not None and self._current_server.uri.scheme == "tls"
        if initial_connection and wanted and not info.get("tls_required"):
            raise errors.SecureConnRequiredError
        await super()._process_info(info, initial_connection)


class Connection:
    """Runs coroutines that are given a connected client."""

    def __init__(self, settings: NatsSettings) -> None:
        self._settings = settings
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: Client | None = None
        self._connecting: asyncio.Lock | None = None
        self._starting, self._closed = threading.Lock(), False

    def run(self, work: Callable[[Client], Coroutine[Any, Any, T]], *, timeout: float | None = None) -> T:
        """What `work` gives; raises `BrokerUnavailable`, and leaves no half-done request of ours behind."""
        seconds = self._settings.timeout if timeout is None else timeout
        future = asyncio.run_coroutine_threadsafe(self._run(work, seconds), self._running())
        try:
            # The loop keeps the time; that it hangs itself is the only reason to wait longer.
            return future.result(seconds + 3 * CONNECT_SECONDS + 5)
        except FutureTimeout as error:
            future.cancel()
            raise BrokerUnavailable("the broker's connection hangs") from error

    def close(self) -> None:
        with self._starting:
            loop, self._loop, self._closed = self._loop, None, True
        if loop is None:
            return
        asyncio.run_coroutine_threadsafe(self._drop(), loop).result(5)
        loop.call_soon_threadsafe(loop.stop)

    async def _run(self, work: Callable[[Client], Coroutine[Any, Any, T]], seconds: float) -> T:
        client = await self._connected()
        try:
            async with asyncio.timeout(seconds):
                return await work(client)
        except _TROUBLE as error:
            await self._drop(client)
            raise BrokerUnavailable(f"{self._place()}: {_told(error)}") from error

    async def _connected(self) -> Client:
        if self._connecting is None:
            self._connecting = asyncio.Lock()
        async with self._connecting:
            if self._client is None or not self._client.is_connected:
                self._client = await self._connect()
            return self._client

    async def _connect(self) -> Client:
        settings, client = self._settings, _Client()
        if settings.credentials is not None and find_spec("nkeys") is None:
            raise Misconfigured("credentials=… in the broker's URL needs the package nkeys: pip install nkeys")
        try:
            async with asyncio.timeout(CONNECT_SECONDS * len(settings.servers) + 1):
                await client.connect(
                    list(settings.servers),
                    name="everlog",
                    error_cb=_silent,  # without one nats-py prints tracebacks
                    allow_reconnect=False,
                    connect_timeout=CONNECT_SECONDS,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    ping_interval=10,
                    skip_subject_validation=True,  # no name gets into a subject but as a word of ours
                    user=settings.user,
                    password=settings.password,
                    token=settings.token,
                    user_credentials=settings.credentials,
                )
        except errors.SecureConnRequiredError as error:
            await _close(client)
            raise Misconfigured(f"{self._place()} does not insist on TLS: set it up there, or write nats://") from error
        except _AUTHORIZATION as error:
            raise BrokerUnavailable(f"{self._place()} refuses us: {_told(error)}") from error
        except _TROUBLE as error:
            await _close(client)
            raise BrokerUnavailable(f"{self._place()} cannot be reached: {_told(error)}") from error
        version = client.connected_server_version
        if (version.major, version.minor) < OLDEST:
            await _close(client)
            raise Misconfigured(
                f"{self._place()} is nats-server {version.major}.{version.minor}; everlog needs "
                f"{'.'.join(map(str, OLDEST))} or newer, for atomic batches"
            )
        return client

    async def _drop(self, client: Client | None = None) -> None:
        """End the connection, unless another call has made a new one meanwhile."""
        if self._client is not None and client in (None, self._client):
            client, self._client = self._client, None
        if client is not None:
            await _close(client)

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._starting:
            if self._closed:
                raise BrokerUnavailable("this broker was closed")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=_serve, args=(self._loop,), name="everlog-nats", daemon=True).start()
            return self._loop

    def _place(self) -> str:
        return ", ".join(self._settings.servers)


async def api(client: Client, subject: str, request: object = None) -> Any:
    """One request to JetStream's API; raises `ApiError` when it refuses."""
    payload = b"" if request is None else msgspec.json.encode(request)
    answer = await client.request(f"$JS.API.{subject}", payload, timeout=60)  # `run` keeps the time
    return checked(answer.data)


def checked(data: bytes) -> Any:
    """What JetStream answered; raises `ApiError`, and `BrokerUnavailable` for what passes by itself."""
    found = msgspec.json.decode(data)
    if "error" in found:
        told = found["error"]
        status, code = told.get("code", 0), told.get("err_code", 0)
        if status == 503:
            raise BrokerUnavailable(f"JetStream says {told.get('description')} ({code})")
        raise ApiError(code, status, told.get("description", ""))
    return found


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


async def _silent(error: Exception) -> None:
    """What goes wrong is raised where it was asked for."""


async def _close(client: Client) -> None:
    try:
        async with asyncio.timeout(2):
            await client.close()
    except _TROUBLE:
        pass


def _told(error: BaseException) -> str:
    return str(error) or type(error).__name__
