"""Pings: the statements on ``probe``. A ping that is sent after a queue's messages shows whether these still come through.

A connection is passed in; nothing commits here.
"""

from __future__ import annotations

from saga.store.postgres.database import Link
from saga.store.postgres.due import IN_LOT, LOTS
from saga.store.postgres.work import NOW
from saga.store.values import Ping


def next_pings(link: Link, realm: str, after: str, lots: int) -> tuple[list[Ping], str]:
    """The queues with work sent but unclaimed for a while and no ping on its way (or one overdue), each with a new number.

    Args:
        after: where to begin among the queues.
        lots: how many lots of work to look at.

    Returns:
        the pings, and the queue after which to go on; empty when that was all.
    """
    rows = link.run(
        f"""
        WITH RECURSIVE {LOTS}, waiting AS MATERIALIZED (
            SELECT queue, min(rank) FILTER (WHERE rank >= 0) AS lowest, min(rank) < 0 AS unranked FROM page, LATERAL (
                (SELECT sent FROM {{s}}.work WHERE {IN_LOT} AND worker IS NULL AND sent IS NOT NULL ORDER BY sent LIMIT 1)
                UNION ALL
                (SELECT sent FROM {{s}}.work WHERE {IN_LOT} AND worker IS NULL AND sent IS NOT NULL ORDER BY sent DESC LIMIT 1)
            ) AS w
            WHERE sent <= {NOW} - interval '0.3 s' OR sent > {NOW}
            GROUP BY queue
        ), numbered AS (
            INSERT INTO {{s}}.probe AS p (realm, queue, sent_at, tries)
            SELECT %(realm)s, queue, clock_timestamp(), 0 FROM waiting
            ON CONFLICT (realm, queue) DO UPDATE
            SET sent_at = clock_timestamp(), through = CASE WHEN p.through <= clock_timestamp() THEN p.through END,
                tries = CASE WHEN p.through >= p.sent_at THEN 0 ELSE least(p.tries, 5) + 1 END
            WHERE p.through >= p.sent_at OR p.sent_at > clock_timestamp()
               OR p.sent_at < clock_timestamp() - interval '1 s' * least(60, 2 ^ least(p.tries, 6))
            RETURNING p.queue, (extract(epoch FROM p.sent_at) * 1000000)::bigint AS number
        ), seen AS (SELECT count(*) AS lots, max(queue) AS last FROM page)
        SELECT numbered.queue, numbered.number, CASE WHEN unranked AND lowest IS NOT NULL THEN 0 ELSE lowest END,
               CASE WHEN seen.lots = %(lots)s THEN seen.last ELSE '' END
        FROM seen LEFT JOIN (numbered JOIN waiting USING (queue)) ON true
        """,
        {"realm": realm, "after": after, "lots": lots},
    )
    return [Ping(row[0], row[1], row[2], realm) for row in rows if row[0] is not None], rows[0][3]


def see_ping(link: Link, realm: str, queue: str, number: int) -> None:
    """Note that a ping came through, the outstanding one or an earlier one: all that was sent before it had its turn."""
    link.run(
        """
        UPDATE {s}.probe SET through = greatest(through, to_timestamp(0) + %(number)s::bigint * interval '1 microsecond')
        WHERE realm = %(realm)s AND queue = %(queue)s
          AND to_timestamp(0) + %(number)s::bigint * interval '1 microsecond' <= sent_at
        """,
        {"realm": realm, "queue": queue, "number": number},
    )
