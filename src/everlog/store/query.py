"""Which events a read gives; every condition is answered by the database, in any combination."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Filter:
    """Conditions that must all hold; `None` and `()` ask nothing. Times are microseconds, both ends included.

    `tenant=None` reads every tenant and is for the engine and the admin object only. `types` are stored
    (type, schema version) pairs, any of which may match, `None` meaning any version; `tags` must all be carried.
    """

    tenant: str | None
    stream: str | None = None
    category: str | None = None
    types: tuple[tuple[str, int | None], ...] = ()
    tags: tuple[str, ...] = ()
    actor: str | None = None
    correlation_id: bytes | None = None
    causation_id: bytes | None = None
    ip: str | None = None
    user_agent: str | None = None
    occurred_since: int | None = None
    occurred_until: int | None = None
    recorded_since: int | None = None
    recorded_until: int | None = None


def category_range(category: str) -> tuple[str, str]:
    """First stream name of a category and the first behind it: of all allowed characters only `-` is below `.`."""
    if "-" in category:  # no category holds one, so no stream is in it
        return "", ""
    return category, f"{category}."
