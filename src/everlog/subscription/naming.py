"""Names of subscriptions: a projection or a processor is known to the database and to people by its name."""

import re

from everlog.core.errors import Misconfigured
from everlog.subscription.partition import MOST_PARTITIONS

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def subscription_name(name: str) -> str:
    """Raises `Misconfigured` unless it is 1 to 100 of A-Z a-z 0-9 . _ - and starts with a letter or digit."""
    if not _NAME.fullmatch(name):
        raise Misconfigured(f"{name!r} cannot name a projection or processor: use up to 100 of A-Z a-z 0-9 . _ -")
    return name


def subscription_partitions(name: str, partitions: int) -> int:
    if not 1 <= partitions <= MOST_PARTITIONS:
        raise Misconfigured(f"{name!r} cannot have {partitions} partitions: 1 to {MOST_PARTITIONS}")
    return partitions


def subscription_version(name: str, version: int) -> int:
    if version < 1:
        raise Misconfigured(f"projection {name!r} has version {version}: versions start at 1")
    return version
