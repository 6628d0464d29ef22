"""Handlers that a child process imports by name. Each does to its process what the key of its event says."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from pathlib import Path

from everlog import Backoff, Isolation, Recorded, Retry, processor
from tests.following.parts import Counted

# A child may be slow to start: a test says so to those that are started after it.
time.sleep(float(os.environ.get("EVERLOG_TEST_START_SECONDS", "0")))

QUICK = Retry(attempts=2, backoff=Backoff(first=0.0, longest=0.0))
MEGABYTE = 1024 * 1024


class OddError(Exception):
    """One that no pickle brings home."""

    def __init__(self, text: str, more: object) -> None:
        super().__init__(text)
        self.more = more


def behave(key: str) -> None:
    match key.partition(" ")[0]:
        case "hang":
            time.sleep(3600)
        case "exit":
            os._exit(7)
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "recurse":
            behave(f"recurse {key}")
        case "crash":
            ctypes.string_at(0)
        case "allocate":
            bytearray(4096 * MEGABYTE)
        case "raise":
            raise ValueError("boom")
        case "odd":
            raise OddError("boom", lambda: None)
        case "leave":
            sys.exit("leaving")
        case "transient":
            raise ConnectionError("down")
        case "interrupt":
            os.kill(os.getpid(), signal.SIGINT)


def note(e: Recorded[Counted]) -> None:
    """A line in the file that the tests look into: the effect of a handler in another process."""
    with Path(os.environ["EVERLOG_TEST_NOTES"]).open("a") as file:
        file.write(f"{e.tenant} {e.position} {e.data.key} {e.key} {os.getpid()}\n")


@processor("isolated", on=Counted, retry=QUICK, isolate=Isolation(timeout=2.0))
def isolated(e: Recorded[Counted]) -> None:
    behave(e.data.key)
    note(e)


@processor("quick", on=Counted, retry=QUICK, isolate=Isolation(timeout=0.5))
def quick(e: Recorded[Counted]) -> None:
    if e.data.key.startswith("late"):
        time.sleep(60)
    note(e)


@processor("small", on=Counted, retry=QUICK, isolate=Isolation(memory=300 * MEGABYTE))
def small(e: Recorded[Counted]) -> None:
    bytearray(e.data.n * MEGABYTE)
    note(e)


@processor("usual", on=Counted, retry=QUICK, isolate=True)
def usual(e: Recorded[Counted]) -> None:
    note(e)
