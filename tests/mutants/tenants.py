"""Mistakes somebody could make in keeping tenants apart, each as small as its author would have made it (T40)."""

import pytest

from everlog.adapters.postgres import connections

Patch = pytest.MonkeyPatch


def set_instead_of_set_local(patch: Patch) -> None:
    """12: role and tenant are set for the session, which the pool hands to whoever comes next."""
    patch.setattr(connections, "AS_TENANT", connections.AS_TENANT.replace("true", "false"))


def tenant_for_the_session(patch: Patch) -> None:
    """12, by half: the role goes with the transaction, the tenant stays."""
    role, _, tenant = connections.AS_TENANT.partition(", set_config")
    patch.setattr(connections, "AS_TENANT", f"{role}, set_config{tenant.replace('true', 'false')}")


def role_is_not_taken(patch: Patch) -> None:
    """The tenant is told, and the read still runs as the engine, which sees every tenant."""
    patch.setattr(connections, "AS_TENANT", connections.AS_TENANT.replace("'role'", "'everlog.role'"))
