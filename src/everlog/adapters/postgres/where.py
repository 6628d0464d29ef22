"""Conditions as SQL, shared by reads and by the boundary check of an append."""

from collections.abc import Iterable, Sequence
from uuid import UUID

from everlog.store.query import Filter, category_range


def driven_by_tags(tenant: str, tags: Sequence[str], after: int) -> tuple[str, list[str], list[object]]:
    """FROM clause, conditions and values for the tenant's events after a position that carry all of `tags`."""
    if not tags:
        return "everlog_event e", ["e.tenant = ? AND e.position > ?"], [tenant, after]
    wheres = ["t.tenant = ? AND t.tag = ? AND t.position > ?"]
    values: list[object] = [tenant, tags[0], after]
    for tag in tags[1:]:
        wheres.append("EXISTS (SELECT 1 FROM everlog_tag WHERE tenant = ? AND tag = ? AND position = t.position)")
        values += [tenant, tag]
    return "everlog_tag t JOIN everlog_event e ON e.position = t.position", wheres, values


def types_condition(types: Sequence[tuple[str, int | None]]) -> str:
    """One pair is spelled out, for an index; many are two lists."""
    if len(types) == 1:
        return "(e.type = ?)" if types[0][1] is None else "(e.type = ? AND e.schema_version = ?)"
    plain = sum(version is None for _, version in types)
    names, pairs = ", ".join("?" * plain), ", ".join(["(?, ?)"] * (len(types) - plain))
    alternatives = [f"e.type IN ({names})"] if names else []
    alternatives += [f"(e.type, e.schema_version) IN (VALUES {pairs})"] if pairs else []
    return f"({' OR '.join(alternatives)})"


def types_values(types: Iterable[tuple[str, int | None]]) -> list[object]:
    """In the order `types_condition` names them: the ones of any version first."""
    ordered = sorted(types, key=lambda pair: pair[1] is not None)
    return [value for pair in ordered for value in pair if value is not None]


def residual(where: Filter) -> tuple[list[str], list[object]]:
    """Conditions that hold for a row by itself, whichever index found it; tags and types are the driver's."""
    pairs: list[tuple[str, object]] = [
        ("e.tenant = ?", where.tenant),
        ("e.stream = ?", where.stream),
        ("e.actor = ?", where.actor),
        ("e.correlation_id = ?", as_uuid(where.correlation_id)),
        ("e.causation_id = ?", as_uuid(where.causation_id)),
        ("coalesce(e.claimed_at, e.recorded_at) >= ?", where.occurred_since),
        ("coalesce(e.claimed_at, e.recorded_at) <= ?", where.occurred_until),
        ("convert_from(p.client, 'UTF8')::json ->> 'ip' = ?", where.ip),
        ("convert_from(p.client, 'UTF8')::json ->> 'user_agent' = ?", where.user_agent),
    ]
    held = [(sql, value) for sql, value in pairs if value is not None]
    sqls, values = [sql for sql, _ in held], [value for _, value in held]
    if where.category is not None:
        sqls.append("e.stream >= ? AND e.stream < ?")
        values += category_range(where.category)
    return sqls, values


def as_uuid(id: bytes | None) -> UUID | None:
    return None if id is None else UUID(bytes=id)
