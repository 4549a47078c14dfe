"""Signals: those that are sent in a caller's transaction, which wait in a table until the relay takes them into the logs.

To send one locks nothing of its saga's, so the caller and the saga never wait for each other. A connection is passed in;
nothing commits here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from saga.core.events import FORMAT
from saga.core.outline import DEADLINE
from saga.core.rows import Dispatch
from saga.core.text import portable
from saga.store.postgres.database import Link
from saga.store.postgres.log import ENTRY
from saga.store.postgres.work import AT_ONCE, NOW
from saga.store.values import Signal


def post(link: Link, signal: Signal) -> bool:
    """Keep a signal until it can be taken in; whether none of its key is known.

    Raises:
        psycopg.DataError: there is no such saga.
    """
    said = {"name": signal.name, "payload": signal.payload, "key": signal.key, "by": signal.by, "reason": signal.reason}
    rows = link.run(
        """
        SELECT {s}.post(%(saga)s, said ->> 'name', said -> 'payload', said ->> 'key', said ->> 'by', said ->> 'reason')
        FROM (SELECT %(said)s::jsonb AS said) AS given
        """,
        {"saga": signal.saga_id, "said": portable(said)},
    )
    return bool(rows[0][0])


_WHERE = "regexp_replace(regexp_replace({0}, '^[^[#]*', ''), '#[0-9]+', '', 'g')"
"""The elements in an address. A wait in a round takes the signals of all rounds."""

PICK = f"""
    SELECT p.*
    FROM unnest(%(realms)s::text[]) AS scope (realm), LATERAL (
        SELECT id, saga_id FROM {{s}}.signal
        WHERE realm = scope.realm AND due_at <= {NOW} AND saga_id <> ALL (%(aside)s::uuid[])
        ORDER BY due_at, id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    ) AS p
"""
"""Signals that can be taken in, the oldest first."""

_ONE = "SELECT %(id)s::bigint AS id"


_TABLES = """
    posted AS MATERIALIZED (
        SELECT p.*, row_number() OVER (PARTITION BY p.saga_id, p.key ORDER BY p.id) AS time
        FROM (SELECT id FROM picked) AS picked JOIN {s}.signal AS p USING (id)
    ), placed AS MATERIALIZED (
        SELECT *, (SELECT max(seq) FROM {s}.log AS l WHERE l.saga_id = new.saga_id) + place AS seq
        FROM (
            SELECT *, row_number() OVER (PARTITION BY saga_id ORDER BY id)::integer AS place FROM posted
            WHERE key IS NULL OR (time = 1 AND NOT EXISTS (
                SELECT FROM {s}.log AS l
                WHERE l.saga_id = posted.saga_id AND l.kind = 'signal_received' AND l.data ->> 'key' = posted.key))
        ) AS new
    ), said AS MATERIALIZED (
        SELECT *, jsonb_strip_nulls(jsonb_build_object(
                'name', name, 'key', key, 'by', by, 'reason', reason, 'session_user', role))
            || CASE WHEN payload <> 'null' THEN jsonb_build_object('payload', payload) ELSE '{}' END AS data
        FROM placed WHERE seq IS NOT NULL
    )
"""
"""The entries of those that were picked, each at its place. One whose key is known, or whose saga is gone, has none."""

_APPENDED = f"""
    first AS (
        INSERT INTO {{s}}.log ({ENTRY})
        SELECT saga_id, seq, 'signal_received', NULL, NULL, NULL, data, NULL, clock_timestamp(), {FORMAT}
        FROM said WHERE place = 1 ORDER BY saga_id
        ON CONFLICT DO NOTHING
        RETURNING saga_id, at
    ), further AS (
        INSERT INTO {{s}}.log ({ENTRY})
        SELECT saga_id, seq, 'signal_received', NULL, NULL, NULL, data, NULL, first.at, {FORMAT}
        FROM first JOIN said USING (saga_id) WHERE place > 1
    )
"""

_WOKEN = f"""
    told AS MATERIALIZED (
        SELECT saga_id, array_agg(DISTINCT {_WHERE.format("name")}) AS places FROM first JOIN said USING (saga_id) GROUP BY saga_id
    ), waiting AS MATERIALIZED (
        SELECT lane.* FROM told, LATERAL (
            SELECT saga_id, lane FROM {{s}}.work AS w
            WHERE w.saga_id = told.saga_id AND worker IS NULL AND attempt IS NULL AND lane <> '{DEADLINE}'
              AND {_WHERE.format("step")} = ANY (told.places)
            OFFSET 0
        ) AS lane
    ), woken AS (
        UPDATE {{s}}.work AS w SET due_at = {AT_ONCE}, sent = clock_timestamp(), dispatches = 1
        FROM waiting WHERE w.saga_id = waiting.saga_id AND w.lane = waiting.lane AND w.worker IS NULL AND w.attempt IS NULL
        RETURNING w.saga_id, w.lane, w.queue, w.priority
    )
"""
"""The lanes that may wait for them. Without its definition nobody knows which lanes of a saga wait for a signal: it is all that
have no attempt, in the same elements. Who finds nothing to do there lets the lane sleep on."""

_GONE = """
    gone AS (
        DELETE FROM {s}.signal AS p USING picked
        WHERE p.id = picked.id AND (p.saga_id IN (SELECT saga_id FROM first) OR p.id NOT IN (SELECT id FROM said))
        RETURNING p.id
    )
"""


def _take_in(pick: str) -> str:
    """Append signals to the logs of their sagas, in order, and let the lanes that may wait for them see them."""
    return f"""
        WITH picked AS MATERIALIZED ({pick}), {_TABLES}, {_APPENDED}, {_WOKEN}, {_GONE}
        SELECT NULL::uuid, NULL, NULL, NULL::smallint FROM gone UNION ALL SELECT * FROM woken
    """


_TAKE_IN, _TAKE_IN_ONE = _take_in(PICK), _take_in(_ONE)


def take_in(link: Link, params: Mapping[str, Any]) -> tuple[int, list[Dispatch]]:
    """Take in a batch, or the one of an ``id``; returns how many were, and the messages to send."""
    rows = link.run(_TAKE_IN_ONE if "id" in params else _TAKE_IN, params)
    found = [Dispatch(*row) for row in rows if row[0] is not None]
    return len(rows) - len(found), found


def pick(link: Link, params: Mapping[str, Any]) -> list[tuple[int, UUID]]:
    """The numbers of those that can be taken in, a batch of them, with their sagas."""
    return [(row[0], row[1]) for row in link.run(PICK, params)]


def put_off(link: Link, number: int, problem: str) -> None:
    """Note why one cannot be taken in, and try it again in five minutes."""
    link.run(
        """
        UPDATE {s}.signal SET problem = %(problem)s, due_at = clock_timestamp() + interval '5 min' WHERE id = %(id)s
        """,
        {"id": number, "problem": problem},
    )
