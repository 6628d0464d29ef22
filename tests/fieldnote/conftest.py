"""No setting of this machine gets into these tests, and fsync is free in memory: they are not about it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.powercut import memory_directory
from tests.fieldnote.mail_server import MailServer


@pytest.fixture(autouse=True)
def no_mail_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EVERLOG_SMTP", raising=False)


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """Takes the place of pytest's own."""
    with memory_directory() as folder:
        yield folder


@pytest.fixture
def mail_server() -> Iterator[MailServer]:
    """One that runs."""
    server = MailServer()
    server.start()
    yield server
    server.stop()
