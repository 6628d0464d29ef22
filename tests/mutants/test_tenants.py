"""The mutant gate for tenants (T40): each mistake is found by the test that is named for it."""

from collections.abc import Callable

import pytest

from everlog.adapters.postgres import PostgresStore
from tests.mutants import tenants as mutants
from tests.postgres import test_tenants
from tests.postgres.roles import opened

url = test_tenants.url  # the fixture of the tests that are to find it

GATE: list[tuple[Callable[[pytest.MonkeyPatch], None], Callable[[PostgresStore], None]]] = [
    (mutants.set_instead_of_set_local, test_tenants.test_the_next_request_on_a_connection_inherits_no_tenant),
    (mutants.tenant_for_the_session, test_tenants.test_the_next_request_on_a_connection_inherits_no_tenant),
    (mutants.role_is_not_taken, test_tenants.test_two_tenants_at_once_on_one_connection_see_each_their_own),
]


@pytest.mark.parametrize(("mutant", "test"), GATE, ids=lambda value: getattr(value, "__name__", ""))
def test_the_test_that_is_named_for_a_mistake_finds_it(
    mutant: Callable[[pytest.MonkeyPatch], None],
    test: Callable[[PostgresStore], None],
    url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with opened(url) as store:
        test(store)
    with monkeypatch.context() as patch:
        mutant(patch)
        with opened(url) as store, pytest.raises(AssertionError):
            test(store)
