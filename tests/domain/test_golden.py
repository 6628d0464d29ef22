"""Bytes stored by every release, kept in `golden/`: today's code must read each as it always did.

A file is never changed. One is added with each new type, version or step.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from everlog import UnknownEventType
from everlog.domain.upcast import Json, Part, TypeVersion
from tests.domain.corpus import TYPES
from tests.domain.stored import stored


class Golden(NamedTuple):
    name: str
    source: TypeVersion
    data: bytes
    today: Sequence[Mapping[str, Any]] | None
    """What it is today, `None` where nobody can know."""


def _load(path: Path) -> Golden:
    content = json.loads(path.read_text())
    old = content["stored"]
    return Golden(path.name, TypeVersion(old["type"], old["version"]), old["data"].encode(), content["today"])


CORPUS = [_load(path) for path in sorted((Path(__file__).parent / "golden").glob("*.json"))]
READABLE = [golden for golden in CORPUS if golden.today is not None]
UNKNOWN = [golden for golden in CORPUS if golden.today is None]


def by_name(golden: Golden) -> str:
    return golden.name


@pytest.mark.parametrize("golden", READABLE, ids=by_name)
def test_stored_bytes_are_read_as_what_they_always_were(golden: Golden) -> None:
    event = stored(*golden.source, golden.data)
    parts = TYPES.recorded(event)
    assert [_shown(part.type, part.schema_version, part.data) for part in parts] == golden.today
    assert {(part.position, part.id.bytes, part.version) for part in parts} <= {
        (event.position, event.id, event.version)
    }
    assert [part.part for part in parts] == list(range(len(parts)))


@pytest.mark.parametrize("golden", READABLE, ids=by_name)
def test_the_chain_gives_what_its_steps_give_one_at_a_time(golden: Golden) -> None:
    parts: list[Part] = [(golden.source, msgspec.json.decode(golden.data, type=Json))]
    while any(source in TYPES.chain.steps for source, _ in parts):
        stepped = [
            TYPES.chain.steps[source].step(data) if source in TYPES.chain.steps else [(source, data)]
            for source, data in parts
        ]
        parts = [part for step in stepped for part in step]
    assert parts == TYPES.chain(golden.source, msgspec.json.decode(golden.data))


@pytest.mark.parametrize("golden", [one for one in READABLE if one.source not in TYPES.chain.steps], ids=by_name)
def test_todays_version_is_written_as_it_was_written_then(golden: Golden) -> None:
    [one] = TYPES.recorded(stored(*golden.source, golden.data))
    assert TYPES.encode(one.data).data == golden.data


@pytest.mark.parametrize("golden", UNKNOWN, ids=by_name)
def test_what_nobody_declares_is_shown_as_it_was_stored(golden: Golden) -> None:
    [one] = TYPES.recorded(stored(*golden.source, golden.data))
    assert (one.type, one.schema_version, one.json()) == (*golden.source, json.loads(golden.data))
    with pytest.raises(UnknownEventType, match="event at position 7"):
        _ = one.data


def test_every_type_in_every_version_and_every_step_has_its_bytes() -> None:
    declared = {
        TypeVersion(kind.name, version) for kind in TYPES.kinds.values() for version in range(1, kind.version + 1)
    }
    assert {golden.source for golden in READABLE} == declared | TYPES.chain.steps.keys()
    assert {golden.source.name in TYPES.kinds for golden in UNKNOWN} == {True, False}


def _shown(name: str, version: int, data: object) -> Mapping[str, Any]:
    return {"type": name, "version": version, "data": json.loads(TYPES.encode(data).data)}
