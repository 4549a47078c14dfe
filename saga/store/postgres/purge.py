"""Purge: how finished sagas are taken out. A connection is passed in; nothing commits here."""

from __future__ import annotations

from uuid import UUID

from saga.store.postgres.database import Link

# A saga's row is locked first, and all else follows from that: so this cannot cross with a request to undo the saga.
_PURGE = """
    WITH RECURSIVE page AS MATERIALIZED (
        SELECT id FROM {s}.instance
        WHERE id > coalesce(%(after)s::uuid, '00000000-0000-0000-0000-000000000000')
        ORDER BY id LIMIT %(limit)s
    ), root AS MATERIALIZED (
        SELECT i.id FROM page JOIN {s}.instance AS i USING (id)
        WHERE i.parent IS NULL AND i.finished_at < clock_timestamp() - make_interval(secs => %(age)s)
        FOR UPDATE OF i SKIP LOCKED
    ), tree (id, root, unfinished) AS (
        SELECT id, id, false FROM root
        UNION ALL
        SELECT part.id, tree.root, part.finished_at IS NULL FROM tree JOIN {s}.instance AS part ON part.parent = tree.id
    ), doomed AS MATERIALIZED (
        SELECT id FROM tree WHERE root NOT IN (SELECT root FROM tree WHERE unfinished)
    ), gone AS (
        DELETE FROM {s}.instance AS i USING doomed WHERE i.id = doomed.id RETURNING i.id
    ), logs AS (
        DELETE FROM {s}.log AS l USING gone WHERE l.saga_id = gone.id
    ), lanes AS (
        DELETE FROM {s}.work AS w USING gone WHERE w.saga_id = gone.id
    ), signals AS (
        DELETE FROM {s}.signal AS p USING gone WHERE p.saga_id = gone.id
    )
    SELECT (SELECT count(*) FROM gone), CASE WHEN count(*) = %(limit)s THEN (array_agg(id ORDER BY id DESC))[1] END FROM page
"""


def purge(link: Link, age: float, after: UUID | None, limit: int) -> tuple[int, UUID | None]:
    """Take out what finished so many seconds ago in the next page of sagas; how many, and where to go on if there may be more."""
    [(gone, last)] = link.run(_PURGE, {"age": age, "after": after, "limit": limit})
    return gone, last
