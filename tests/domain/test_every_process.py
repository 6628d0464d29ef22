"""The same event gives the same bytes in every process, or a retry after a restart would be another event."""

import os
import subprocess
import sys
from pathlib import Path

from everlog import Platform
from everlog.core.ids import uuid_of
from everlog.domain.types import EventTypes
from tests.domain.sets import GRANTED, Granted

ROOT = Path(__file__).parents[2]


def printed(hash_seed: str) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, "-m", "tests.domain.sets"]
    return subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True).stdout


def test_bytes_schema_and_fingerprint_do_not_depend_on_the_order_of_sets() -> None:
    first, *others = [printed(seed) for seed in ("0", "1", "2")]
    assert len(first.splitlines()) == 4
    assert others == [first, first]


def test_a_set_is_stored_in_order_and_comes_back_equal() -> None:
    types = EventTypes([Granted])
    encoded = types.encode(GRANTED).data
    assert b'"rights":["admin","read","write"]' in encoded
    assert b'"prices":[{"minor":1,' in encoded
    with Platform("memory:", Granted).open() as log:
        acme = log.tenant()
        acme.append("right-1", GRANTED, request_id="r-1")
        [one] = acme.events(Granted)
        assert one.data == GRANTED
        again = acme.append("right-1", one.data, ids=[uuid_of(one.stored.id)])
        assert again.replayed


def test_encoding_changes_nothing_about_the_event() -> None:
    before = (GRANTED.words, GRANTED.several, GRANTED.struct.rights, GRANTED.model.words)
    EventTypes([Granted]).encode(GRANTED)
    assert all(
        now is then
        for now, then in zip(
            (GRANTED.words, GRANTED.several, GRANTED.struct.rights, GRANTED.model.words), before, strict=True
        )
    )
