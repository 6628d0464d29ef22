"""Read models compared under roles: the shadow of a table is a schema, which not everybody may make."""

import pytest

from everlog import Misconfigured, Platform
from everlog.app.comparing import Everything
from everlog.app.verify import Verification
from tests.following.parts import LEASE, append_many, counter, settled, tally
from tests.postgres.roles import LOGIN, admin, under_roles


def test_a_role_that_may_make_no_schema_is_told_what_it_needs(database: str) -> None:
    fold, table = tally(), counter()
    platform = Platform(under_roles(database), fold, table)
    admin(database, f"GRANT CREATE ON SCHEMA public TO {LOGIN}")
    with platform.open(worker=True, lease_seconds=LEASE) as log:
        append_many(log.tenant("acme"), ["a", "b"], 2)
        settled(log)
        for tenant in (None, "acme"):
            assert list(Verification(fold, platform.types, log.store, tenant=tenant).run(Everything())) == []
        work = Verification(table, platform.types, log.store, lease_seconds=LEASE)
        with pytest.raises(
            Misconfigured, match=f'let an administrator run: GRANT CREATE ON DATABASE .* TO "{LOGIN}"'
        ) as told:
            list(work.run(Everything()))
        admin(database, str(told.value).partition("run: ")[2])
        admin(database, "UPDATE counted SET n = 99 WHERE key = 'a'")
        assert [row.fault for row in work.run(Everything(), repair=True)] == ["edited"]
        assert list(work.run(Everything())) == []
