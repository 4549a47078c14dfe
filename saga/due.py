"""Due: the relay's statements on ``work`` and ``ping``: what is due, overdue, orphaned or lost on its way.

A connection is passed in; nothing commits here. Whatever changes who holds a row appends the log's entry for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from saga.database import Link, Row
from saga.events import FORMAT
from saga.work import ENTRY, Dispatch


def become_relay(link: Link, key: int) -> bool:
    """Whether this transaction is the one relay of its schema; it may not hang, lest it hold up the others."""
    rows = link.run(
        """
        SELECT set_config('statement_timeout', '5s', true), set_config('lock_timeout', '1s', true),
               set_config('idle_in_transaction_session_timeout', '2s', true), pg_try_advisory_xact_lock(%(key)s)
        """,
        {"key": key},
    )
    return bool(rows[0][3])


def mark_due_sent(link: Link, limit: int) -> list[Dispatch]:
    """Mark the free and due lanes that were not sent as sent, and return them."""
    return _dispatches(
        link.run(
            """
            UPDATE {s}.work AS w SET sent = clock_timestamp(), dispatches = w.dispatches + 1
            FROM (
                SELECT saga_id, lane FROM {s}.work
                WHERE worker IS NULL AND sent IS NULL AND due_at <= clock_timestamp()
                ORDER BY due_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
            ) AS due
            WHERE w.saga_id = due.saga_id AND w.lane = due.lane
            RETURNING w.saga_id, w.lane, w.queue, w.priority
            """,
            {"limit": limit},
        )
    )


_DEADLINE = """
    e.at + make_interval(secs => CASE WHEN jsonb_typeof(e.data -> 'timeout') = 'number'
                                      THEN least(greatest((e.data -> 'timeout')::numeric, 0), 1e9)::float8 ELSE 300 END)
"""
"""When an attempt is over. A damaged timeout may be any JSON, and must not make the statement fail for all."""

_LAST = f"""
    SELECT e.step, e.attempt, e.kind, {_DEADLINE} AS deadline
    FROM {{s}}.log AS e
    WHERE e.saga_id = w.saga_id AND e.lane = w.lane AND e.kind IN ('step_started', 'compensation_started')
    ORDER BY e.seq DESC LIMIT 1
"""


def _give_back(kind: str, which: str) -> str:
    """Append a fact about the open attempt of claimed lanes, and free them for whoever can decide what follows.

    A lane that went on inline is at another step than its row says, which is that of its claim.
    """
    return f"""
        WITH gone AS (
            SELECT w.saga_id, w.lane, w.worker, open.step, open.attempt, open.kind LIKE 'compensation%%' AS undo,
                   (SELECT max(seq) FROM {{s}}.log WHERE saga_id = w.saga_id) + 1 AS seq
            FROM {{s}}.work AS w, LATERAL ({_LAST}) AS open
            WHERE w.worker IS NOT NULL AND {which}
            LIMIT %(limit)s
        ), won AS (
            INSERT INTO {{s}}.log ({ENTRY})
            SELECT saga_id, seq, '{kind}', lane, step, attempt,
                   CASE WHEN undo THEN '{{"undo": true}}' ELSE '{{}}' END::jsonb, worker, clock_timestamp(), {FORMAT}
            FROM gone ORDER BY saga_id
            ON CONFLICT DO NOTHING
            RETURNING saga_id, lane, worker, step, data
        )
        UPDATE {{s}}.work AS w
        SET worker = NULL, token = NULL, step = won.step, undo = won.data ? 'undo', attempt = NULL, due_at = clock_timestamp(),
            sent = clock_timestamp(), dispatches = 1
        FROM won WHERE w.saga_id = won.saga_id AND w.lane = won.lane AND w.worker = won.worker
        RETURNING w.saga_id, w.lane, w.queue, w.priority
    """


_TIME_OUT = _give_back("attempt_timed_out", "w.due_at <= clock_timestamp() AND open.deadline <= clock_timestamp()")
_LOSE = _give_back("attempt_lost", "w.worker = ANY(%(workers)s)")
_FREE_UNRUN = _give_back("attempt_interrupted", "w.worker = %(worker)s AND w.token = ANY(%(tokens)s)")


def time_out(link: Link, limit: int) -> list[Dispatch]:
    """End the attempts that are past their deadline."""
    return _dispatches(link.run(_TIME_OUT, {"limit": limit}))


def lose(link: Link, workers: Sequence[int], limit: int) -> list[Dispatch]:
    """End the attempts of workers that are gone."""
    return _dispatches(link.run(_LOSE, {"workers": list(workers), "limit": limit}))


def free_unrun(link: Link, worker: int, tokens: Sequence[UUID]) -> list[Dispatch]:
    """Give back claims of this worker that nothing in it runs: their commit's reply was lost."""
    return _dispatches(link.run(_FREE_UNRUN, {"worker": worker, "tokens": list(tokens), "limit": 100}))


_WATCH_ON = f"""
    UPDATE {{s}}.work AS w
    SET due_at = greatest(clock_timestamp() + interval '1 s', least(
        (SELECT open.deadline FROM ({_LAST}) AS open), clock_timestamp() + make_interval(secs => w.watch)))
    WHERE w.worker IS NOT NULL AND w.due_at <= clock_timestamp()
    RETURNING w.saga_id
"""


def watch_on(link: Link) -> int:
    """Set the next look at claimed lanes whose attempt is not over; returns how many.

    It is the attempt's deadline, or sooner if a step that may follow inline has a shorter timeout.
    """
    return len(link.run(_WATCH_ON, {}))


def absent_workers(link: Link, lock_class: int) -> list[int]:
    """The workers that hold lanes but neither hold nor await their liveness lock."""
    rows = link.run(
        """
        SELECT DISTINCT worker FROM {s}.work WHERE worker IS NOT NULL
        EXCEPT
        SELECT objid::integer FROM pg_locks
        WHERE locktype = 'advisory' AND classid = %(lock_class)s::oid AND objsubid = 2
          AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        """,
        {"lock_class": lock_class},
    )
    return [row[0] for row in rows]


def server_age(link: Link) -> float:
    """Seconds since the database server started."""
    rows = link.run("SELECT extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())::float8", {})
    return float(rows[0][0])


@dataclass(frozen=True, slots=True)
class Ping:
    """A numbered message that follows a queue's unclaimed work, to learn whether the broker still has that work.

    Attributes:
        number: when it was sent, in microseconds since 1970 by the database's clock.
    """

    queue: str
    number: int
    priority: int | None


def next_pings(link: Link) -> list[Ping]:
    """The queues with work sent but unclaimed for a while and no ping on its way (or one overdue), each with a new number."""
    rows = link.run(
        """
        WITH waiting AS (
            SELECT queue, min(coalesce(priority, 0)) AS priority, bool_or(priority IS NOT NULL) AS ranked
            FROM {s}.work
            WHERE worker IS NULL AND sent <= clock_timestamp() - interval '0.3 s'
            GROUP BY queue
        ), numbered AS (
            INSERT INTO {s}.ping AS p (queue, number, sent_at, tries)
            SELECT queue, 1, clock_timestamp(), 0 FROM waiting
            ON CONFLICT (queue) DO UPDATE
            SET number = p.number + 1, sent_at = clock_timestamp(),
                tries = CASE WHEN p.through >= p.sent_at THEN 0 ELSE least(p.tries + 1, 6) END
            WHERE p.through >= p.sent_at OR p.sent_at < clock_timestamp() - interval '1 s' * least(60, 2 ^ p.tries)
            RETURNING p.queue, (extract(epoch FROM p.sent_at) * 1000000)::bigint AS number
        )
        SELECT numbered.queue, numbered.number, CASE WHEN waiting.ranked THEN waiting.priority END
        FROM numbered JOIN waiting USING (queue)
        """,
        {},
    )
    return [Ping(*row) for row in rows]


def see_ping(link: Link, queue: str, number: int) -> None:
    """Note that a ping came through, be it the outstanding one or one before: all that was sent before it had its turn."""
    link.run(
        """
        UPDATE {s}.ping SET through = greatest(through, to_timestamp(0) + %(number)s::bigint * interval '1 microsecond')
        WHERE queue = %(queue)s
          AND to_timestamp(0) + %(number)s::bigint * interval '1 microsecond' <= sent_at
        """,
        {"queue": queue, "number": number},
    )


def mark_lost_sent(link: Link, limit: int) -> list[Dispatch]:
    """Mark again as sent what was sent before a ping that came through and is still unclaimed: its message is lost.

    A worker may hold a message it has prefetched, so each further sending waits twice as long, from half a second on.
    """
    return _dispatches(
        link.run(
            """
            UPDATE {s}.work AS w SET sent = clock_timestamp(), dispatches = w.dispatches + 1
            FROM (
                SELECT w.saga_id, w.lane FROM {s}.work AS w JOIN {s}.ping AS p USING (queue)
                WHERE w.worker IS NULL AND w.due_at <= clock_timestamp() AND w.sent < p.through
                  AND w.sent < clock_timestamp() - interval '0.25 s' * 2 ^ least(w.dispatches, 12)
                ORDER BY w.sent LIMIT %(limit)s FOR UPDATE OF w SKIP LOCKED
            ) AS lost
            WHERE w.saga_id = lost.saga_id AND w.lane = lost.lane
            RETURNING w.saga_id, w.lane, w.queue, w.priority
            """,
            {"limit": limit},
        )
    )


def _dispatches(rows: list[Row]) -> list[Dispatch]:
    return [Dispatch(*row) for row in rows]
