"""`everlog snapshot`: listed, and deleted only when somebody agrees."""

import os
import pty
import subprocess
from pathlib import Path

import pytest

from everlog.core.envelope import StoredSnapshot
from tests.cli.conftest import PROGRAM, here, second, store


@pytest.fixture
def snapshots(diverse: Path) -> Path:
    """Versions 2 and 4 of one stream and 2 of another; and one of acme."""
    log = store(diverse / "shop.db")
    for tenant, stream, version in (
        ("default", "order-o-1", 2),
        ("default", "order-o-1", 4),
        ("default", "order-o-2", 2),
        ("acme", "order-o-1", 2),
    ):
        log.snapshots.save(StoredSnapshot(tenant, stream, bytes(32), version, version, second(0), b'{"status":"new"}'))
    log.close()
    return diverse


def listed(*options: str) -> list[tuple[str, str, int]]:
    found = here("snapshot", "list", "-o", "ndjson", *options).lines
    return [(one["tenant"], one["stream"], one["version"]) for one in found]


def test_snapshots_are_listed_by_stream_tenant_and_number(snapshots: Path) -> None:
    assert listed() == [("default", "order-o-1", 2), ("default", "order-o-1", 4), ("default", "order-o-2", 2)]
    assert listed("--stream", "order-o-2") == [("default", "order-o-2", 2)]
    assert listed("--limit", "1") == [("default", "order-o-1", 2)]
    assert listed("--tenant", "acme") == [("acme", "order-o-1", 2)]
    assert len(listed("--all-tenants")) == 4
    one = here("snapshot", "list", "--json", "--limit", "1").data[0]
    assert (one["position"], one["occurred_at"], one["bytes"]) == ("2", "2026-01-01T00:00:00.000000Z", 16)
    assert one["fingerprint"] == "00" * 32


@pytest.mark.parametrize(
    ("options", "deleted", "left"),
    [
        ([], 3, 1),
        (["--stream", "order-o-1"], 2, 2),
        (["--older-than-version", "4"], 2, 2),
        (["--stream", "order-o-1", "--older-than-version", "4"], 1, 3),
        (["--tenant", "acme"], 1, 3),
        (["--all-tenants"], 4, 0),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_what_is_meant_is_deleted_and_nothing_else(
    snapshots: Path, options: list[str], deleted: int, left: int
) -> None:
    dry = here("snapshot", "delete", *options, "--dry-run", "--json")
    assert (dry.code, dry.data) == (0, {"snapshots": deleted, "deleted": False})
    assert len(listed("--all-tenants")) == 4
    done = here("snapshot", "delete", *options, "--force", "--json")
    assert (done.code, done.data) == (0, {"snapshots": deleted, "deleted": True})
    assert len(listed("--all-tenants")) == left


def test_nothing_is_deleted_when_there_is_nobody_to_ask(snapshots: Path) -> None:
    ran = here("snapshot", "delete")
    assert (ran.code, "add --force" in ran.err) == (2, True)
    assert len(listed()) == 3


@pytest.mark.parametrize(("answer", "left"), [("y", 0), ("n", 3), ("", 3)])
def test_somebody_at_a_terminal_is_asked(snapshots: Path, answer: str, left: int) -> None:
    us, them = pty.openpty()
    with subprocess.Popen([*PROGRAM, "snapshot", "delete"], stdin=them, stderr=subprocess.PIPE, text=True) as running:
        os.write(us, f"{answer}\n".encode())
        _, told = running.communicate(timeout=60)
    os.close(us)
    os.close(them)
    assert "Delete 3 snapshots of tenant 'default'? [y/N]" in told
    assert running.returncode == 0
    assert len(listed()) == left
