"""Telling other processes that something was appended. Hints only: one may be lost, and costs a poll, never an event.

The NOTIFY follows the commit on a connection of its own, at most one every 10 ms: inside the append's transaction it
would make all commits of the server wait for each other.
"""

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import psycopg

from everlog.adapters.postgres.connections import is_pooled, pauses
from everlog.adapters.postgres.settings import PostgresSettings

CHANNEL = "everlog"
_SECONDS_BETWEEN = 0.010
_LOOK_UP_SECONDS = 0.5  # how soon a listener notices that it is to stop


class Announcer:
    """Its thread begins with the first append, and again in a forked child."""

    def __init__(self, settings: PostgresSettings) -> None:
        self._settings = settings
        self._begun = threading.Lock()
        self._process = 0
        self._closed = False
        self._something = threading.Event()

    def appended(self) -> None:
        if self._process != os.getpid():
            with self._begun:
                if self._process != os.getpid():
                    self._process, self._something = os.getpid(), threading.Event()
                    threading.Thread(target=self._announce, name="everlog-announce", daemon=True).start()
        if not self._something.is_set():
            self._something.set()

    def close(self) -> None:
        self._closed = True
        self._something.set()

    def _announce(self) -> None:
        for pause in pauses():
            # Without a connection nobody hears of it, and polls: the next hint tries again.
            with suppress(psycopg.Error), self._connected() as connection:
                self._announce_on(connection)
            if self._closed:
                return
            time.sleep(pause)

    def _connected(self) -> psycopg.Connection:
        # Prepared, the statement would stay behind in the session of a pooler.
        return psycopg.connect(self._settings.conninfo, autocommit=True, prepare_threshold=None)

    def _announce_on(self, connection: psycopg.Connection) -> None:
        if not is_pooled(connection):
            connection.execute("SET synchronous_commit = off")  # a hint needs no disk
        while True:
            self._something.wait()
            if self._closed:
                return
            self._something.clear()
            connection.execute(f"NOTIFY {CHANNEL}")
            time.sleep(_SECONDS_BETWEEN)


class Listener:
    """Calls `hint` for every notification, and whenever it may have missed one."""

    def __init__(self, settings: PostgresSettings, hint: Callable[[], None]) -> None:
        self._settings, self._hint, self._closed = settings, hint, threading.Event()
        threading.Thread(target=self._listen, name="everlog-listen", daemon=True).start()

    def close(self) -> None:
        """The thread ends as soon as it notices; nobody need wait for that."""
        self._closed.set()

    def _listen(self) -> None:
        for pause in pauses():
            # A server that is gone is asked for again; until then followers poll, and say what they find.
            with suppress(psycopg.Error), psycopg.connect(self._settings.conninfo, autocommit=True) as connection:
                if is_pooled(connection):
                    return  # a pooler keeps no session that could listen: followers poll
                self._listen_on(connection)
            if self._closed.wait(pause):
                return

    def _listen_on(self, connection: psycopg.Connection) -> None:
        connection.execute(f"LISTEN {CHANNEL}")
        self._hint()
        while not self._closed.is_set():
            for _ in connection.notifies(timeout=_LOOK_UP_SECONDS, stop_after=1):
                self._hint()
