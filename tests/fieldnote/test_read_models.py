"""The read models say what the aggregates say, and so do the tables of the processors, now and at any position."""

from collections import Counter
from collections.abc import Iterator

import pytest

from everlog import Log
from everlog.fieldnote import story
from everlog.fieldnote.app import platform
from everlog.fieldnote.demo import run
from everlog.fieldnote.directory import directory, overview
from everlog.fieldnote.tenants import AllocateResources, Resources, TenantResourcesAllocated, tenants
from everlog.fieldnote.users import MailSent, UserLoggedIn, UserLoginFailed, users
from everlog.testing import given
from tests.fieldnote.test_tenants import CLOSED, CREATED, SUSPENDED
from tests.following.parts import rows

PLACE, OTHER = Resources("us-east", 1), Resources("eu-central", 2)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Log]:
    url = f"sqlite:///{tmp_path_factory.mktemp('demo')}/demo.db"
    run(url, wait=False, json=True)
    with platform.open(url) as log:
        yield log


def test_the_directory_says_of_each_user_what_the_aggregate_says(log: Log) -> None:
    for name in story.TENANTS:
        session = log.tenant(name)
        entries = dict(session.all(directory))
        assert len(entries) == len(list(session.streams("user")))
        for id, entry in entries.items():
            user = session.state(users, id)
            told = (entry.name, entry.email, entry.role, entry.status)
            assert told == (user.profile.display_name, user.email, user.role, user.status)


def test_the_overview_counts_what_the_directory_lists(log: Log) -> None:
    for name in story.TENANTS:
        session = log.tenant(name)
        told, entries = session.get(overview, name), [entry for _, entry in session.all(directory)]
        status = Counter(entry.status for entry in entries)
        assert (told.invited, told.active, told.deactivated) == tuple(
            status[one] for one in ("invited", "active", "deactivated")
        )
        assert told.welcomed == sum(entry.welcomed for entry in entries)
        tenant = session.state(tenants, name)
        assert (told.name, told.plan, told.status) == (tenant.name, tenant.settings.plan, tenant.status)
        assert told.resources == tenant.resources


@pytest.mark.parametrize("position", [1, 19, 40, 99])
def test_a_read_model_of_the_past_counts_what_was_there_then(log: Log, position: int) -> None:
    session = log.tenant("globex")
    told = session.get(overview, "globex", at=position)
    states = [session.state(users, head.stream.removeprefix("user-"), at=position) for head in session.streams("user")]
    assert told.active == sum(user.status == "active" for user in states)
    assert (told.invited, told.welcomed, told.resources) == (sum(user.status == "invited" for user in states), 0, None)


def test_the_table_of_sign_ins_counts_them_by_day(log: Log) -> None:
    counted: Counter[tuple[str, str, str]] = Counter()
    for e in log.admin().events(UserLoggedIn):
        counted[e.tenant, f"{e.data.at:%Y-%m-%d}", "done"] += 1
    for failed in log.admin().events(UserLoginFailed):
        counted[failed.tenant, f"{failed.data.at:%Y-%m-%d}", "failed"] += 1
    days = {(tenant, day) for tenant, day, _ in counted}
    assert rows(log, "SELECT * FROM fieldnote_sign_in ORDER BY 1, 2") == [
        (*day, counted[*day, "done"], counted[*day, "failed"]) for day in sorted(days)
    ]


def test_the_table_of_permissions_says_what_the_directory_says(log: Log) -> None:
    expected = {
        (name, id, entry.role, int(entry.status == "active"))
        for name in story.TENANTS
        for id, entry in log.tenant(name).all(directory)
        if entry.status != "invited"
    }
    assert set(rows(log, "SELECT * FROM fieldnote_permission")) == expected


def test_the_audit_table_has_each_creation_once(log: Log) -> None:
    created = [e for e in log.admin().events() if e.type in ("user.created", "tenant.created")]
    found = rows(log, "SELECT tenant, position, who FROM fieldnote_audit ORDER BY position")
    assert found == [(e.tenant, e.position, e.actor) for e in created]


def test_who_was_gone_when_the_worker_came_gets_nothing(log: Log) -> None:
    assert log.tenant("acme").state(users, "u-5").status == "deactivated"
    assert [e for e in log.tenant("acme").events(MailSent) if e.data.user_id == "u-5"] == []
    assert list(log.tenant("initech").events(TenantResourcesAllocated)) == []
    assert [name for name in story.TENANTS for _ in log.tenant(name).events(TenantResourcesAllocated)] == [
        "acme",
        "globex",
    ]


def test_what_a_processor_appends_is_caused_by_what_it_saw(log: Log) -> None:
    [allocated] = log.tenant("acme").events(TenantResourcesAllocated)
    created = next(iter(log.tenant("acme").stream("tenant-acme")))
    assert (allocated.causation_id, allocated.actor) == (created.id, "provisioning")


def test_resources_are_allocated_once() -> None:
    given(tenants, CREATED).when(AllocateResources(PLACE)).then(TenantResourcesAllocated(PLACE))
    given(tenants, CREATED, TenantResourcesAllocated(PLACE)).when(AllocateResources(OTHER)).then()
    given(tenants, CREATED, SUSPENDED).when(AllocateResources(PLACE)).then(TenantResourcesAllocated(PLACE))


def test_nobody_allocates_to_a_tenant_that_is_closed_or_not_there() -> None:
    given(tenants, CREATED, CLOSED).when(AllocateResources(PLACE)).then()
    given(tenants).when(AllocateResources(PLACE)).then()
