"""Fieldnote as a whole: `everlog --app everlog.fieldnote.app:platform …` finds it here."""

from pathlib import Path

from everlog import Platform, Retry
from everlog.fieldnote.directory import READ_MODELS
from everlog.fieldnote.incidents import IncidentClosed, IncidentOpened
from everlog.fieldnote.post import Post, post_office
from everlog.fieldnote.reactions import reactions
from everlog.fieldnote.tenants import tenants
from everlog.fieldnote.upcasters import UPCASTERS
from everlog.fieldnote.users import MailSent, users

FOLDER = Path(".everlog")
RETRY = Retry()


def fieldnote(post: Post, retry: Retry = RETRY) -> Platform:
    return Platform(
        f"sqlite:///{FOLDER}/demo.db",
        tenants,
        users,
        MailSent,
        IncidentOpened,
        IncidentClosed,
        *UPCASTERS,
        *READ_MODELS,
        *reactions(post, retry),
    )


platform = fieldnote(post_office(FOLDER / "outbox"))
