"""An application as somebody consumes with it on another machine: its processors, and not the log."""

from __future__ import annotations

from dataclasses import replace

from everlog import Platform, Recorded, Retry, Transaction, processor
from tests.following.parts import Counted


@processor("taken", on=Counted, inbox=True, retry=Retry(attempts=1))
def taken(e: Recorded[Counted], tx: Transaction) -> None:
    if e.data.n < 0:
        raise ValueError("less than nothing")
    tx.execute("CREATE TABLE IF NOT EXISTS taken (position INTEGER)")
    tx.execute("INSERT INTO taken VALUES (?)", (e.position,))


platform = Platform("sqlite:///nowhere.db", taken)
divided = Platform("sqlite:///nowhere.db", replace(taken, partitions=3))
