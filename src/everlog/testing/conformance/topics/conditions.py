"""What an append expects of its streams (design D4): it holds in the moment of storing, or nothing is stored."""

import pytest

from everlog.core.errors import InvalidInput, WrongExpectedVersion
from everlog.core.expect import Anything, Exactly, Expect, NoStream, StreamExists
from everlog.store.contract import Store
from everlog.testing.conformance.events import TENANT, append, everything, new_event, request, versions

_HOLDS_AT: dict[Expect, set[int]] = {
    NoStream(): {0},
    Exactly(0): {0},
    Exactly(1): {1},
    Exactly(3): {3},
    Exactly(4): set(),
    StreamExists(): {1, 3},
    Anything(): {0, 1, 3},
}


@pytest.mark.parametrize("version", [0, 1, 3])
@pytest.mark.parametrize("expect", _HOLDS_AT, ids=repr)
def test_an_append_is_stored_only_where_its_expectation_holds(store: Store, expect: Expect, version: int) -> None:
    for _ in range(version):
        append(store)
    before = store.head()
    if version in _HOLDS_AT[expect]:
        assert append(store, expect={"order-1": expect}).version == version + 1
        return
    with pytest.raises(WrongExpectedVersion) as refused:
        append(store, expect={"order-1": expect})
    error = refused.value
    assert (error.stream, error.expected, error.actual) == ("order-1", str(expect), version)
    assert (error.code, error.retryable) == ("wrong_expected_version", False)
    assert store.head() == before


def test_an_expectation_looks_at_the_own_tenant_only(store: Store) -> None:
    append(store, tenant="globex")
    assert append(store, expect={"order-1": NoStream()}).version == 1
    with pytest.raises(WrongExpectedVersion):
        append(store, tenant="initech", expect={"order-1": StreamExists()})


def test_an_expectation_is_about_the_stream_before_the_batch(store: Store) -> None:
    done = append(store, new_event(), new_event(), expect={"order-1": NoStream()})
    assert [place.version for place in done.places] == [1, 2]
    assert append(store, new_event(), new_event(), expect={"order-1": Exactly(2)}).version == 4


def test_each_stream_of_a_batch_has_its_own_expectation(store: Store) -> None:
    append(store, new_event("b"))
    done = append(store, new_event("a"), new_event("b"), expect={"a": NoStream(), "b": Exactly(1)})
    assert [place.version for place in done.places] == [1, 2]


@pytest.mark.parametrize("failing", ["a", "b"])
def test_one_failing_expectation_refuses_the_whole_batch(store: Store, failing: str) -> None:
    before = store.head()
    with pytest.raises(WrongExpectedVersion) as refused:
        append(store, new_event("a"), new_event("b"), expect={"a": NoStream(), "b": NoStream(), failing: Exactly(7)})
    assert refused.value.stream == failing
    assert store.head() == before


def test_a_stream_without_expectation_may_be_at_any_version(store: Store) -> None:
    append(store, new_event("free"), new_event("free"))
    done = append(store, new_event("free"), new_event("guarded"), expect={"guarded": NoStream()})
    assert [place.version for place in done.places] == [3, 1]


def test_a_condition_on_a_stream_absent_from_the_batch_is_refused(store: Store) -> None:
    append(store, new_event("order-2"))
    with pytest.raises(InvalidInput, match="order-2"):
        append(store, new_event("order-1"), expect={"order-2": Exactly(1)})
    assert versions(store, "order-1") == []


def test_a_condition_sees_earlier_requests_of_the_same_group(store: Store) -> None:
    verdicts = store.append_each([
        request(new_event(), expect={"order-1": NoStream()}),
        request(new_event(), expect={"order-1": NoStream()}),
        request(new_event(), expect={"order-1": Exactly(1)}),
        request(new_event(), expect={"order-1": Exactly(1)}),
        request(new_event(), expect={"order-1": StreamExists()}),
        request(new_event(), tenant="globex", expect={"order-1": NoStream()}),
    ])  # fmt: skip
    assert [type(verdict).__name__ for verdict in verdicts] == [
        "Appended", "WrongExpectedVersion", "Appended", "WrongExpectedVersion", "Appended", "Appended",
    ]  # fmt: skip
    assert versions(store) == [1, 2, 3]


def test_a_refused_request_leaves_nothing_for_later_ones_of_its_group_to_see(store: Store) -> None:
    refused, stored = store.append_each([
        request(new_event("a"), new_event("b"), expect={"b": Exactly(9)}),
        request(new_event("a"), expect={"a": NoStream()}),
    ])  # fmt: skip
    assert isinstance(refused, WrongExpectedVersion)
    assert not isinstance(stored, Exception)
    assert [(event.tenant, event.stream) for event in everything(store)] == [(TENANT, "a")]
