"""Mail: to a real server, or into a folder where there is none.

Whoever sends gives the message its id, so that a mail sent twice is known as the same one.
"""

import os
import smtplib
from dataclasses import dataclass
from datetime import datetime
from email import policy
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from pathlib import Path
from typing import Protocol

from everlog import Misconfigured, Transient

SETTING = "EVERLOG_SMTP"
DOMAIN = "fieldnote.example"
SENDER = Address("Fieldnote", "hello", DOMAIN)

_SECONDS = 10.0


class Undeliverable(Exception):
    """This one mail cannot be delivered; others may."""


class Post(Protocol):
    """Takes a message and returns once it is somebody else's to deliver.

    Raises `Transient` when nothing can be sent now, and `Undeliverable` when this message cannot.
    """

    def check(self) -> None:
        """Raises `Misconfigured` when it is not there at all."""
        ...

    def send(self, message: EmailMessage) -> None: ...

    def told(self) -> str:
        """Where mails go, for people."""
        ...


@dataclass(frozen=True)
class Smtp:
    host: str
    port: int

    def check(self) -> None:
        try:
            self._connect().quit()
        except OSError as error:
            raise Misconfigured(
                f"no mail server answers at {self.host}:{self.port} ({error}): start it, or leave {SETTING} out"
            ) from error

    def send(self, message: EmailMessage) -> None:
        try:
            with self._connect() as server:
                server.send_message(message)
        except smtplib.SMTPRecipientsRefused as error:
            # Also when it says "later" (4xx): that is one mailbox's trouble, and nobody else should wait for it.
            [(code, reason)] = error.recipients.values()
            raise Undeliverable(f"{code} {reason.decode(errors='replace')}") from error
        except smtplib.SMTPResponseException as error:
            if error.smtp_code >= 500:
                raise
            raise Transient(str(error)) from error
        except smtplib.SMTPServerDisconnected as error:
            raise Transient(str(error)) from error
        except smtplib.SMTPException:
            raise
        except OSError as error:
            raise Transient(f"{self.host}:{self.port}: {error}") from error

    def told(self) -> str:
        return f"the mail server at {self.host}:{self.port}"

    def _connect(self) -> smtplib.SMTP:
        return smtplib.SMTP(self.host, self.port, timeout=_SECONDS)


@dataclass(frozen=True)
class Outbox:
    """A folder with one file for each message id: a repeat takes the place of the first."""

    folder: Path

    def check(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    def send(self, message: EmailMessage) -> None:
        self.check()
        name = str(message["Message-ID"]).strip("<>").replace("/", "-")
        draft = self.folder / f"{name}.{os.getpid()}"
        draft.write_bytes(message.as_bytes())
        draft.replace(self.folder / f"{name}.eml")  # whole or not at all

    def told(self) -> str:
        return f"files in {self.folder} ({SETTING}=host:port would name a mail server)"


def post_office(outbox: Path) -> Post:
    """The server that EVERLOG_SMTP names, else the folder."""
    server = os.environ.get(SETTING)
    if not server:
        return Outbox(outbox)
    host, _, port = server.rpartition(":")
    if not host or not port.isdecimal():
        raise Misconfigured(f"{SETTING}={server!r} names no mail server: write host:port, such as localhost:25")
    return Smtp(host, int(port))


def letter(key: str, sent: datetime, name: str, email: str, subject: str, text: str) -> EmailMessage:
    """A message from us. `key` is its id. Raises `Undeliverable` when no server could read the address."""
    try:
        to = Address(name, addr_spec=email)
    except (MessageError, ValueError, IndexError) as error:  # IndexError: the library's answer to an empty one
        raise Undeliverable(f"no mail server can read this address: {error}") from error
    message = EmailMessage(policy=policy.SMTP)
    message["From"], message["To"], message["Subject"] = SENDER, to, subject
    message["Message-ID"], message["Date"] = f"<{key}@{DOMAIN}>", sent
    message.set_content(text)
    return message
