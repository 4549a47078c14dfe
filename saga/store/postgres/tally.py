"""Tally: how many sagas there are. A connection is passed in; nothing commits here."""

from __future__ import annotations

from saga.store.postgres.database import Link

_FEW = 1_000_000
"""Sagas that are counted one by one."""
_LANES = 50_000
"""Lanes whose sagas are."""


def count_by_status(link: Link) -> tuple[dict[str, int], frozenset[str]]:
    """How many sagas there are in each status, and the statuses whose number is an estimate because there are many."""
    rows = link.run(
        """
        WITH lanes AS MATERIALIZED (SELECT saga_id FROM {s}.work LIMIT %(lanes)s)
        SELECT notable, count(*) FROM {s}.instance WHERE notable IS NOT NULL GROUP BY notable
        UNION ALL
        SELECT 'running', count(*) FROM {s}.instance
        WHERE coalesce(status, '') = 'running' AND id IN (SELECT saga_id FROM lanes)
        UNION ALL
        SELECT 'lanes', count(*) FROM lanes
        UNION ALL
        SELECT relname::text, reltuples::bigint FROM pg_class WHERE oid IN ('{s}.instance'::regclass, '{s}.work'::regclass)
        """,
        {"lanes": _LANES},
    )
    counts = {str(row[0]): int(row[1]) for row in rows}
    about, lanes, seen = counts.pop("instance"), counts.pop("work"), counts.pop("lanes")
    estimated = set()
    if seen >= _LANES:
        counts["running"] = max(counts["running"], round(counts["running"] / seen * lanes))
        estimated.add("running")
    if about > _FEW:
        return counts | {"completed": max(0, about - sum(counts.values()))}, frozenset({*estimated, "completed"})
    rows = link.run("SELECT count(*) FROM {s}.instance WHERE status = 'completed'", {})
    return counts | {"completed": int(rows[0][0])}, frozenset(estimated)
