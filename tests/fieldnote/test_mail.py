"""Mail through a real server: once for each event, whatever happens to the server, the address or the worker."""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage, Message
from pathlib import Path

import pytest

from everlog import Backoff, LaneFilter, LaneOperator, Log, Retry, Transient
from everlog.fieldnote.app import fieldnote, platform
from everlog.fieldnote.directory import directory, overview
from everlog.fieldnote.post import Post, Smtp, Undeliverable, letter
from everlog.fieldnote.story import moment
from everlog.fieldnote.tenants import CreateTenant, Settings, tenants
from everlog.fieldnote.users import MailSent, UserCreated, users
from tests.fieldnote.mail_server import MailServer
from tests.following.parts import LEASE, eventually, rows, settled

SOON = Retry(attempts=3, backoff=Backoff(first=0.01, longest=0.03))
AT = moment("2026-01-05 09:00")
WORKER = "import sys; from everlog.cli import main; sys.exit(main())"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/log.db"


@dataclass
class Watched:
    """A post that counts how often nothing could be sent."""

    post: Post
    transient: list[str] = field(default_factory=list)

    def check(self) -> None:
        self.post.check()

    def send(self, message: EmailMessage) -> None:
        try:
            self.post.send(message)
        except Transient as error:
            self.transient.append(str(error))
            raise

    def told(self) -> str:
        return self.post.told()


def smtp(server: MailServer) -> Smtp:
    return Smtp(server.host, server.port)


def create(log: Log, *names: str, tenant: str = "acme") -> list[str]:
    """Users of these names; gives the ids that their welcome mails must have."""
    session = log.tenant(tenant)
    for name in names:
        created = UserCreated(f"u-{name}", f"{name}@example.org", name.title(), "member", None, "signup")
        session.append(users.stream(f"u-{name}"), created)
    return [f"<{e.key}@fieldnote.example>" for e in session.events(UserCreated)]


@contextmanager
def working(post: Post, url: str) -> Iterator[Log]:
    with fieldnote(post, SOON).open(url, worker=True, lease_seconds=LEASE) as log:
        yield log


NAMES = [f"user{number}" for number in range(24)]


def test_each_user_has_one_mail_whose_id_is_the_events(mail_server: MailServer, url: str) -> None:
    with working(smtp(mail_server), url) as log:
        ids = create(log, *NAMES)
        settled(log)
    assert Counter(mail_server.ids()) == Counter(ids)
    assert {mail["To"] for mail in mail_server.mails} == {f"{name.title()} <{name}@example.org>" for name in NAMES}
    with working(smtp(mail_server), url) as log:
        settled(log)
        assert [e.causation_id for e in log.tenant("acme").events(MailSent)].count(None) == 0
    assert len(mail_server.mails) == len(NAMES)


def test_a_server_that_is_down_costs_no_attempt_and_is_waited_for(url: str) -> None:
    server = MailServer()
    post = Watched(smtp(server))
    with working(post, url) as log:
        ids = create(log, *NAMES)
        eventually(lambda: len(post.transient) > 2 * len(NAMES))
        assert list(LaneOperator(log.store, None).find(LaneFilter("welcome-mail"))) == []
        server.start()
        settled(log)
    server.stop()
    assert Counter(server.ids()) == Counter(ids)


@pytest.mark.parametrize("answer", ["451 4.3.0 later", "421 4.3.2 shutting down"])
def test_a_server_that_says_later_costs_no_attempt(mail_server: MailServer, url: str, answer: str) -> None:
    mail_server.at_data = lambda mail: answer
    post = Watched(smtp(mail_server))
    with working(post, url) as log:
        ids = create(log, *NAMES)
        eventually(lambda: len(post.transient) > 2 * len(NAMES))
        assert list(LaneOperator(log.store, None).find(LaneFilter("welcome-mail"))) == []
        mail_server.at_data = lambda mail: None
        settled(log)
    assert Counter(mail_server.ids()) == Counter(ids)


@pytest.mark.parametrize("answer", ["550 5.1.1 no such mailbox", "452 4.2.2 mailbox full"])
def test_a_refused_mailbox_is_parked_and_the_others_have_their_mail(
    mail_server: MailServer, url: str, answer: str
) -> None:
    mail_server.refused["user7@example.org"] = answer
    with working(smtp(mail_server), url) as log:
        ids = create(log, *NAMES)
        settled(log)
        [lane] = LaneOperator(log.store, None).find(LaneFilter("welcome-mail"))
        assert (lane.key, lane.status, lane.attempts, lane.depth) == ("acme/user-u-user7", "parked", 3, 1)
        assert lane.error.startswith(f"Undeliverable: {answer}")
        assert mail_server.asked["user7@example.org"] == 3
        assert Counter(mail_server.ids()) == Counter([*ids[:7], *ids[8:]])

        mail_server.refused.clear()
        assert LaneOperator(log.store, None).retry(LaneFilter("welcome-mail", lane.key)) == 1
        settled(log)
    assert Counter(mail_server.ids()) == Counter(ids)


def test_no_other_processor_is_held_up_by_mails_that_cannot_go(url: str) -> None:
    server = MailServer()
    post = Watched(smtp(server))
    with working(post, url) as log:
        create(log, *NAMES)
        settled(log, "user-audit", "permissions", "user-directory")
        assert rows(log, "SELECT count(*) FROM fieldnote_audit") == [(len(NAMES),)]
        assert rows(log, "SELECT count(*) FROM fieldnote_permission") == [(len(NAMES),)]
        eventually(lambda: post.transient)
        assert server.mails == []
        server.start()
    server.stop()


@pytest.mark.parametrize("mails", [1, 9, 28])
def test_killed_in_the_middle_of_a_mail_a_worker_loses_nothing(mail_server: MailServer, url: str, mails: int) -> None:
    with platform.open(url) as log:
        ids = create(log, *NAMES)
        for name in ("acme", "globex", "initech"):
            command = CreateTenant(name, name.title(), "DE", "EUR", "web", Settings())
            log.tenant(name).execute(tenants, name, command)
        ids += create(log, "last", tenant="initech")
        ids += [f"<{e.key}@fieldnote.example>" for e in log.admin().events() if e.type == "tenant.created"]

    victim = worker(mail_server, url)
    mail_server.at_data = lambda mail: kill(victim, mail) if len(mail_server.mails) + 1 == mails else None
    assert victim.wait(60) == -signal.SIGKILL
    mail_server.at_data = lambda mail: None
    survivor = worker(mail_server, url)
    with platform.open(url) as log:
        settled(log)
        survivor.terminate()
        assert survivor.wait(60) == 0

        # Whatever the first worker had not checkpointed comes again, under the same id.
        came = Counter(mail_server.ids())
        assert set(came) == set(ids)
        assert max(came.values()) <= 2
        everyone = [f"u-{name}" for name in NAMES]
        assert sorted(e.data.user_id for e in log.tenant("acme").events(MailSent)) == sorted(everyone)
        assert sorted(rows(log, "SELECT user_id FROM fieldnote_permission")) == sorted(
            (user,) for user in [*everyone, "u-last"]
        )
        assert rows(log, "SELECT count(*), count(DISTINCT position) FROM fieldnote_audit") == [(28, 28)]
        assert sum(e.type == "tenant.resources_allocated" for e in log.admin().events()) == 3
        assert {user for user, entry in log.tenant("acme").all(directory) if entry.welcomed} == set(everyone)
        assert log.tenant("initech").get(overview, "initech").welcomed == 1


def worker(server: MailServer, url: str) -> subprocess.Popen[bytes]:
    line = ["--app", "everlog.fieldnote.app:platform", "--store", url, "worker", "--lease", "1", "--quiet"]
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, *line],
        env={**os.environ, "EVERLOG_SMTP": f"{server.host}:{server.port}"},
        stdout=subprocess.DEVNULL,
    )


def kill(process: subprocess.Popen[bytes], mail: Message) -> str:
    """In the server, before it answers: the worker never learns what became of this mail."""
    process.kill()
    process.wait()
    return "451 4.3.0 too late"


def test_what_the_sender_may_not_is_no_matter_of_waiting(mail_server: MailServer) -> None:
    mail_server.at_data = lambda mail: "554 5.7.1 spam"
    message = letter("key", AT, "Ann", "ann@example.org", "Hello", "Text")
    with pytest.raises(Exception, match="spam") as raised:
        smtp(mail_server).send(message)
    assert not isinstance(raised.value, Transient)


@pytest.mark.parametrize("email", ["ann@example..org", "ann", "", "ann lee@example.org", "a@b@example.org"])
def test_an_address_that_is_none_is_said_so(email: str) -> None:
    with pytest.raises(Undeliverable, match="no mail server can read this address"):
        letter("key", AT, "Ann", email, "Hello", "Text")
