"""A real SMTP server on this machine, which keeps what it is given and refuses what it is told to."""

import socket
import threading
from collections import Counter
from collections.abc import Callable
from email import message_from_bytes
from email.message import Message

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session


class MailServer:
    """It has its port from the beginning, and may be started later and again."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.host, self.port = free.getsockname()[:2]
        self.mails: list[Message] = []
        self.refused: dict[str, str] = {}
        self.asked: Counter[str] = Counter()
        self.at_data: Callable[[Message], str | None] = lambda mail: None
        self._changed = threading.Condition()
        self._controller: Controller | None = None

    def start(self) -> None:
        self._controller = Controller(self, hostname=self.host, port=self.port)
        self._controller.start()

    def stop(self) -> None:
        if self._controller is not None:
            self._controller.stop()
            self._controller = None

    def wait_for(self, came: Callable[[], bool], seconds: float = 30.0) -> None:
        with self._changed:
            assert self._changed.wait_for(came, seconds), f"{len(self.mails)} mails, {self.asked}"

    def ids(self) -> list[str]:
        with self._changed:
            return [mail["Message-ID"] for mail in self.mails]

    # What aiosmtpd calls, under the names it looks for.

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        with self._changed:
            self.asked[address] += 1
            self._changed.notify_all()
        if address in self.refused:
            return self.refused[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        mail = message_from_bytes(envelope.content)
        if answer := self.at_data(mail):
            return answer
        with self._changed:
            self.mails.append(mail)
            self._changed.notify_all()
        return "250 OK"
