"""What an append on PostgreSQL does where the server is not as it should be, or new."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from everlog import Fold, Platform, Recorded, event
from everlog.adapters.postgres import PostgresSettings, PostgresStore
from everlog.adapters.postgres import append as adapter
from everlog.core.errors import Misconfigured
from everlog.core.expect import Anything, Exactly, Expect, NoStream
from everlog.testing.conformance.events import append, everything, new_event
from tests.postgres.roles import admin, opened, under_roles


@pytest.fixture
def store(database: str) -> Iterator[PostgresStore]:
    with closing(PostgresStore(PostgresSettings.from_url(database))) as store:
        yield store


@pytest.mark.parametrize("expect", [NoStream(), Anything()], ids=str)
def test_a_head_that_the_role_no_longer_sees_is_no_answer(database: str, expect: Expect) -> None:
    with opened(under_roles(database)) as store:
        append(store)
        admin(database, "DROP POLICY everlog_engine ON everlog_log")
        with pytest.raises(Misconfigured, match="nothing is stored"):
            append(store, new_event("order-2"), expect={"order-2": expect})
    with closing(PostgresStore(PostgresSettings.from_url(database))) as owner:
        assert len(everything(owner)) == owner.head().position == 1


def test_a_plan_made_on_an_empty_table_uses_the_index_of_streams(store: PostgresStore) -> None:
    """It is kept for the session: one that reads all of a tenant's events would make every append dearer."""
    for version in range(20):
        append(store, expect={"order-1": Exactly(version)})
    expected = adapter._Expected()
    expected.guards.append(("acme", "order-1", 20))
    values = adapter._values(expected, 0, store._log_id)
    with store._connections.writer() as connection:
        lines = connection.execute(f"EXPLAIN {adapter._APPEND}", values, prepare=True).fetchall()
    used = [line for (line,) in lines if "on everlog_event e" in line]
    assert used
    assert all("Index Only Scan Backward using everlog_event_stream" in line for line in used), used


@event("number.added")
class Added:
    number: int


def test_one_connection_is_enough_to_put_an_inline_fold_in_force(database: str) -> None:
    total = Fold("total", initial=0, inline=True)

    @total.on(Added, key=lambda e: e.tenant)
    def add(sum: int, e: Recorded[Added]) -> int:
        return sum + e.data.number

    with Platform(database, Added).open() as log:
        log.tenant("acme").append("s-1", Added(1), Added(2))
    with Platform(f"{database}?connections=1&lock_timeout=5", Added, total).open() as log:
        log.tenant("acme").append("s-1", Added(3))
        assert log.tenant("acme").get(total, "acme") == 6
