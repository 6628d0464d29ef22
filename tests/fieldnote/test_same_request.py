"""Two demos at once: what they ask of `execute`. A request that was finished meanwhile was once refused for that."""

import pytest

from everlog import Session
from everlog.fieldnote.app import platform
from everlog.fieldnote.tenants import CreateTenant, RenameTenant, Settings, tenants

CREATE = CreateTenant("acme", "Acme", "DE", "EUR", "web", Settings())


def finish_elsewhere(acme: Session) -> None:
    """The same request, and then something else, so that deciding again would be refused or lead elsewhere."""
    acme.execute(tenants, "acme", CREATE, request_id="the request")
    acme.execute(tenants, "acme", RenameTenant("Acme Robotics"))


@pytest.mark.parametrize("moment", ["find", "read_stream", "append"])
def test_a_request_finished_elsewhere_meanwhile_is_answered_with_that_answer(
    monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    with platform.open("memory:") as log:
        acme, ask = log.tenant("acme"), getattr(log.store, moment)

        def ask_too_late(*arguments: object, **more: object) -> object:
            monkeypatch.undo()
            finish_elsewhere(acme)
            return ask(*arguments, **more)

        monkeypatch.setattr(log.store, moment, ask_too_late)
        answer = acme.execute(tenants, "acme", CREATE, request_id="the request")
        assert (answer.replayed, answer.version, answer.state.name) == (True, 1, "Acme")
