"""Tally: how many sagas there are. A connection is passed in; nothing commits here."""

from __future__ import annotations

from saga.store.postgres.database import Link

_FEW = 1_000_000
"""Rows that are counted one by one."""


def count_by_status(link: Link) -> tuple[dict[str, int], bool]:
    """How many sagas there are in each status; and whether the number of completed ones is an estimate, for there are many."""
    rows = link.run(
        """
        SELECT notable, count(*) FROM {s}.instance WHERE notable IS NOT NULL GROUP BY notable
        UNION ALL
        SELECT 'running', count(*) FROM {s}.instance
        WHERE coalesce(status, '') = 'running' AND id IN (SELECT saga_id FROM {s}.work)
        UNION ALL
        SELECT '', reltuples::bigint FROM pg_class WHERE oid = '{s}.instance'::regclass
        """,
        {},
    )
    counts = {str(row[0]): int(row[1]) for row in rows}
    about = counts.pop("")
    if about > _FEW:
        return counts | {"completed": max(0, about - sum(counts.values()))}, True
    rows = link.run("SELECT count(*) FROM {s}.instance WHERE status = 'completed'", {})
    return counts | {"completed": int(rows[0][0])}, False
