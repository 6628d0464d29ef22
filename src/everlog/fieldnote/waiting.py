"""Fieldnote with its processes: `everlog --app everlog.fieldnote.waiting:platform process list`.

The demo tells a story of a year within a second and leaves them out: they wait for days.
"""

from everlog import Platform, Processor, Retry
from everlog.fieldnote.app import FOLDER, RETRY
from everlog.fieldnote.billing import PaymentMethodAdded, invoices, subscriptions, trials
from everlog.fieldnote.dunning import dunning
from everlog.fieldnote.mailing import MailAsked, delivery, mailings
from everlog.fieldnote.post import Post, post_office
from everlog.fieldnote.provisioning import provisioning, steps
from everlog.fieldnote.tenants import tenants
from everlog.fieldnote.trial_end import trial_end
from everlog.fieldnote.upcasters import UPCASTERS
from everlog.fieldnote.users import users
from everlog.fieldnote.welcome import welcome

DECIDERS = (tenants, users, mailings, steps, trials, invoices, subscriptions)
PROCESSES = (welcome, provisioning, trial_end, dunning)


def waiting(post: Post, retry: Retry = RETRY) -> Platform:
    mails: Processor[MailAsked] = delivery(post, retry)
    return Platform(f"sqlite:///{FOLDER}/waiting.db", *DECIDERS, *PROCESSES, *UPCASTERS, PaymentMethodAdded, mails)


platform = waiting(post_office(FOLDER / "outbox"))
