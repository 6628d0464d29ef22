"""A new tenant is made ready: resources and an owner's account side by side, then the workspace. Or all is taken back,
and operations are told: there may be no owner yet.

A step is asked for here and done elsewhere, by whoever notes how it went.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Literal

from everlog import (
    Action,
    Compensate,
    Decider,
    Do,
    Finish,
    ProcessManager,
    Recorded,
    Rejected,
    Timer,
    TimerFired,
    event,
)
from everlog.fieldnote.mailing import OPERATIONS, AskMail, mailing_of, mailings
from everlog.fieldnote.tenants import TenantCreated

StepName = Literal["resources", "owner", "workspace"]
FIRST: tuple[StepName, ...] = ("resources", "owner")
ATTEMPTS, TIMEOUT = 3, timedelta(minutes=15)


@event("step.asked")
class StepAsked:
    slug: str
    step: StepName
    attempt: int


@event("step.done")
class StepDone:
    slug: str
    step: StepName


@event("step.failed")
class StepFailed:
    slug: str
    step: StepName
    attempt: int
    reason: str


@event("step.undone")
class StepUndone:
    slug: str
    step: StepName


StepEvent = StepAsked | StepDone | StepFailed | StepUndone


@dataclass(frozen=True)
class AskStep:
    slug: str
    step: StepName
    attempt: int = 1


@dataclass(frozen=True)
class NoteDone:
    pass


@dataclass(frozen=True)
class NoteFailed:
    reason: str


@dataclass(frozen=True)
class UndoStep:
    """What was asked for is to be gone, done or not."""


def decide(command: AskStep | NoteDone | NoteFailed | UndoStep, step: StepEvent | None) -> list[StepEvent]:
    match command, step:
        case AskStep(slug, name, attempt), None | StepFailed():
            return [StepAsked(slug, name, attempt)]
        case NoteDone(), StepAsked(slug, name):
            return [StepDone(slug, name)]
        case NoteFailed(reason), StepAsked(slug, name, attempt):
            return [StepFailed(slug, name, attempt, reason)]
        case UndoStep(), StepAsked(slug, name) | StepDone(slug, name) | StepFailed(slug, name):
            return [StepUndone(slug, name)]
        case UndoStep(), _:
            return []
    raise Rejected("wrong_moment", step=step)


def evolve_step(step: StepEvent | None, event: StepEvent) -> StepEvent | None:
    return event


steps = Decider("step", initial=None, decide=decide, evolve=evolve_step, snapshot_every=None)


@event("provisioning.step_seen")
class StepSeen:
    step: StepName


@event("tenant.ready")
class TenantReady:
    slug: str


@event("tenant.provisioning_failed")
class TenantProvisioningFailed:
    slug: str
    reason: str


ProvisioningEvent = StepSeen | TenantReady | TenantProvisioningFailed


@dataclass(frozen=True)
class Provisioning:
    done: frozenset[StepName] = frozenset()


def evolve(state: Provisioning, event: ProvisioningEvent) -> Provisioning:
    return replace(state, done=state.done | {event.step}) if isinstance(event, StepSeen) else state


provisioning = ProcessManager("provisioning", initial=Provisioning(), evolve=evolve, does=[steps, mailings])

Answers = Iterator[Action | ProvisioningEvent]


@provisioning.on(TenantCreated, key=lambda e: e.data.slug)
def created(state: Provisioning, e: Recorded[TenantCreated]) -> Answers:
    for name in FIRST:
        yield _ask(e.data.slug, name)
    yield Timer("timeout", after=TIMEOUT)


@provisioning.on(StepDone, key=lambda e: e.data.slug)
def done(state: Provisioning, e: Recorded[StepDone]) -> Answers:
    """The last of the first steps, whichever it is, lets the workspace begin."""
    slug, step = e.data.slug, e.data.step
    yield StepSeen(step)
    if step == "workspace":
        yield TenantReady(slug)
        yield Finish()
    elif (state.done | {step}).issuperset(FIRST):
        yield _ask(slug, "workspace")


@provisioning.on(StepFailed, key=lambda e: e.data.slug)
def failed(state: Provisioning, e: Recorded[StepFailed]) -> Answers:
    slug, step, attempt = e.data.slug, e.data.step, e.data.attempt
    if attempt < ATTEMPTS:
        yield Do(steps, f"{slug}.{step}", AskStep(slug, step, attempt + 1))
    else:
        yield from _give_up(slug, f"{step}: {e.data.reason}")


@provisioning.on_timer("timeout")
def too_late(state: Provisioning, e: Recorded[TimerFired]) -> Answers:
    yield from _give_up(e.tenant, "not ready in time")


def _ask(slug: str, step: StepName) -> Do[AskStep | NoteDone | NoteFailed | UndoStep]:
    return Do(steps, f"{slug}.{step}", AskStep(slug, step), undo=UndoStep())


def _give_up(slug: str, reason: str) -> Answers:
    told = mailing_of(OPERATIONS, "provisioning failed")
    yield Do(mailings, told, AskMail(OPERATIONS, "provisioning failed"))  # first: taking back may get stuck
    yield Compensate()
    yield TenantProvisioningFailed(slug, reason)
    yield Finish()
