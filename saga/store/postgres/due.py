"""Due: the relay's statements on ``work`` and ``relay``: what is due, overdue, orphaned or lost on its way.

Each statement is bounded by an index, however much waits: it looks at one range of the index, from its start, for so many
rows. A connection is passed in; nothing commits here. A statement that changes who holds a row also appends the log's
entry for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from saga.core.events import FORMAT
from saga.core.rows import Dispatch
from saga.store.postgres.database import Link, Row
from saga.store.postgres.fleet import ALIVE
from saga.store.postgres.log import ENTRY
from saga.store.postgres.work import A_CENTURY, AT_ONCE, AT_ONCE_BEFORE, NOW, RANK, STARTED, TIMES
from saga.store.values import Task

# --- whose turn it is -------------------------------------------------------------------------------------------------


def take_turn(link: Link, realm: str, patience: float = 1.0) -> bool:
    """Whether this transaction is the one relay of its realm. It must not hang, because it would hold up the others.

    The lock is a row's, which only those who may write can take.

    Args:
        patience: seconds that a statement waits for another transaction.
    """
    rows = link.run(
        """
        SELECT set_config('statement_timeout', '5s', true), set_config('lock_timeout', %(patience)s, true),
               set_config('idle_in_transaction_session_timeout', '2s', true)
        FROM {s}.relay WHERE realm = %(realm)s FOR UPDATE SKIP LOCKED
        """,
        {"realm": realm, "patience": f"{round(patience * 1000)}ms"},
    )
    return bool(rows)


def enrol(link: Link, realm: str) -> bool:
    """Have a row for the relay of a realm; whether there was none."""
    rows = link.run(
        "INSERT INTO {s}.relay (realm) VALUES (%(realm)s) ON CONFLICT DO NOTHING RETURNING realm", {"realm": realm}
    )
    return bool(rows)


# --- what it does to lanes --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Chore:
    """Something the relay does to lanes.

    Attributes:
        word: what it is, after "cannot".
        pick: SQL of the lanes it is to be done to, a bounded number: ``saga_id`` and ``lane``.
        act: SQL that does it to those ``picked``, and returns the messages to send. What it selects from, besides, comes
            before it, each whole: ``name AS (...)``.
    """

    word: str
    pick: str
    act: tuple[str, ...]


def _statement(pick: str, act: tuple[str, ...]) -> str:
    *tables, statement = act
    return f"WITH {', '.join([f'picked AS MATERIALIZED ({pick})', *tables])} {statement}"


_SENT_AGAIN = f"""
    UPDATE {{s}}.work AS w SET sent = clock_timestamp(), dispatches = least(w.dispatches, 1000000) + 1,
        due_at = w.due_at - CASE WHEN w.due_at < '{AT_ONCE_BEFORE}' THEN interval '0' ELSE {A_CENTURY} END
    FROM picked WHERE w.saga_id = picked.saga_id AND w.lane = picked.lane AND w.worker IS NULL
    RETURNING w.saga_id, w.lane, w.queue, w.priority
"""
"""What is sent is due at once from then on, whatever the clock does before it is claimed."""

_UNTIL = "to_timestamp(%(until)s)"
"""Where a time that has come has to be: the clock may step forth within a look, and what has not come is not to end."""

SEND_DUE = Chore(
    "be sent",
    # Lanes that are due at once and lanes that are due by the clock have turns of their own: neither wait for the others.
    f"""
    SELECT w.saga_id, w.lane
    FROM unnest(%(realms)s::text[]) AS scope (realm),
         (VALUES ('-infinity'::timestamptz, '{AT_ONCE_BEFORE}'::timestamptz),
                 ('{AT_ONCE_BEFORE}', least({NOW}, {_UNTIL}))) AS span (low, high),
         LATERAL (
            SELECT saga_id, lane FROM {{s}}.work
            WHERE realm = scope.realm AND worker IS NULL AND sent IS NULL AND due_at >= span.low AND due_at <= span.high
              AND saga_id <> ALL (%(aside)s::uuid[])
            ORDER BY due_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
         ) AS w
    """,
    (_SENT_AGAIN,),
)
"""Free lanes that are due and were not sent."""

LOTS = f"""
    lot (realm, queue, rank, times) AS (
        (SELECT realm, queue, {RANK}, {TIMES} FROM {{s}}.work
         WHERE realm = %(realm)s AND queue > %(after)s AND worker IS NULL AND sent IS NOT NULL
         ORDER BY realm, queue, {RANK}, {TIMES} LIMIT 1)
        UNION ALL
        SELECT next.* FROM lot, LATERAL (
            SELECT realm, queue, {RANK}, {TIMES} FROM {{s}}.work
            WHERE realm = %(realm)s AND worker IS NULL AND sent IS NOT NULL
              AND (queue, {RANK}, {TIMES}) > (lot.queue, lot.rank, lot.times)
            ORDER BY queue, {RANK}, {TIMES} LIMIT 1
        ) AS next
    ), page AS MATERIALIZED (SELECT * FROM lot LIMIT %(lots)s)
"""
"""A page of the lots of sent lanes after a queue. A lot has one queue and one priority, and was sent equally often."""

IN_LOT = f"realm = page.realm AND queue = page.queue AND {RANK} = page.rank AND {TIMES} = page.times"

SEND_LOST = Chore(
    "be sent again",
    f"""
    WITH RECURSIVE {LOTS}
    SELECT w.saga_id, w.lane
    FROM page JOIN {{s}}.probe AS p ON p.realm = page.realm AND p.queue = page.queue,
         (VALUES (true), (false)) AS clock (stands),
         LATERAL (
            SELECT saga_id, lane FROM {{s}}.work
            WHERE {IN_LOT} AND worker IS NULL
              AND sent >= CASE WHEN clock.stands THEN '-infinity' ELSE {NOW} END
              AND sent < CASE WHEN NOT clock.stands THEN 'infinity'
                              WHEN p.through <= {NOW} THEN least(p.through, {NOW} - interval '0.25 s' * 2 ^ page.times)
                              ELSE '-infinity' END
              AND saga_id <> ALL (%(aside)s::uuid[])
            ORDER BY sent LIMIT %(limit)s FOR UPDATE SKIP LOCKED
         ) AS w
    LIMIT %(limit)s
    """,
    (_SENT_AGAIN,),
)
"""What was sent before a ping that came through and is still unclaimed: its message is lost.

A worker may hold a message it has prefetched, so each further sending waits twice as long, from half a second on. What
was sent in the future, by a clock that has stepped back since, is old.
"""

_DEADLINE = """
    least(e.at, '9999-12-31') + make_interval(secs => CASE WHEN jsonb_typeof(e.data -> 'timeout') = 'number'
        THEN least(greatest((e.data -> 'timeout')::numeric, 0), 1e9)::float8 ELSE 300 END
        - CASE WHEN e.at = w.shifted THEN least(greatest(w.shifted_by, 0), 1e9) ELSE 0 END)
"""
"""When an attempt is over: sooner, where the clock has stepped back since it started.

A damaged timeout may be any JSON, and must not make the statement fail for all.
"""

LAST = f"""
    SELECT e.step, e.attempt, e.kind, e.at, {_DEADLINE} AS deadline
    FROM {{s}}.log AS e
    WHERE e.saga_id = w.saga_id AND e.lane = w.lane AND e.kind IN ({STARTED})
    ORDER BY e.seq DESC LIMIT 1
"""
"""The open attempt of a lane ``w``."""


def _give_back(kind: str, which: str) -> tuple[str, ...]:
    """Append a fact about the open attempt of claimed lanes, and free them for a worker that can decide what follows."""
    gone = f"""
        gone AS (
            SELECT w.saga_id, w.lane, w.worker, open.step, open.attempt, left(open.kind, -8) AS phase,
                   (SELECT max(seq) FROM {{s}}.log WHERE saga_id = w.saga_id) + 1 AS seq
            FROM picked JOIN {{s}}.work AS w USING (saga_id, lane), LATERAL ({LAST}) AS open
            WHERE w.worker IS NOT NULL AND {which}
        )
    """
    won = f"""
        won AS (
            INSERT INTO {{s}}.log ({ENTRY})
            SELECT saga_id, seq, '{kind}', lane, step, attempt,
                   CASE phase WHEN 'step' THEN '{{}}' WHEN 'compensation' THEN '{{"undo": true}}'
                              ELSE jsonb_build_object('phase', phase) END, worker, clock_timestamp(), {FORMAT}
            FROM gone ORDER BY saga_id
            ON CONFLICT DO NOTHING
            RETURNING saga_id, lane, worker, step, data
        )
    """
    freed = f"""
        UPDATE {{s}}.work AS w
        SET worker = NULL, token = NULL, step = won.step, undo = won.data ? 'undo',
            phase = CASE WHEN won.data ? 'undo' THEN 'compensation' ELSE coalesce(won.data ->> 'phase', 'step') END, attempt = NULL, problem = NULL,
            due_at = {AT_ONCE}, sent = clock_timestamp(), dispatches = 1
        FROM won WHERE w.saga_id = won.saga_id AND w.lane = won.lane AND w.worker = won.worker
        RETURNING w.saga_id, w.lane, w.queue, w.priority
    """
    return gone, won, freed


_TO_LOOK_AT = f"""
    SELECT w.saga_id, w.lane
    FROM unnest(%(realms)s::text[]) AS scope (realm), LATERAL (
        SELECT saga_id, lane FROM {{s}}.work
        WHERE realm = scope.realm AND worker IS NOT NULL AND due_at <= {NOW} AND saga_id <> ALL (%(aside)s::uuid[])
        ORDER BY due_at LIMIT %(limit)s
    ) AS w
"""

TIME_OUT = Chore(
    "be ended", _TO_LOOK_AT, _give_back("attempt_timed_out", f"open.deadline <= least(clock_timestamp(), {_UNTIL})")
)
"""Attempts past their deadline."""

LOSE = Chore(
    "be given back",
    f"""
    SELECT saga_id, lane FROM {{s}}.work
    WHERE worker = ANY (%(workers)s) AND realm = ANY (%(realms)s) AND (problem IS NULL OR due_at <= {NOW})
      AND saga_id <> ALL (%(aside)s::uuid[])
    LIMIT %(limit)s
    """,
    _give_back("attempt_lost", "w.worker = ANY (%(workers)s)"),
)
"""Attempts of workers that are gone."""

_WATCHED_ON = f"""
    UPDATE {{s}}.work AS w
    SET due_at = greatest(clock_timestamp() + interval '1 s', least(
        (SELECT open.deadline FROM ({LAST}) AS open),
        clock_timestamp() + make_interval(secs => least(greatest(w.watch, 0), 1e9))))
    FROM picked WHERE w.saga_id = picked.saga_id AND w.lane = picked.lane AND w.worker IS NOT NULL AND w.due_at <= clock_timestamp()
    RETURNING w.saga_id, w.lane, w.queue, w.priority
"""

WATCH_ON = Chore("be watched", _TO_LOOK_AT, (_WATCHED_ON,))
"""The next look at claimed lanes whose attempt is not over.

It is the attempt's deadline, or sooner if a step that may follow inline has a shorter timeout.
"""

_FREE_UNRUN = _statement(
    "SELECT saga_id, lane FROM {s}.work WHERE worker = %(worker)s AND token = ANY (%(tokens)s) LIMIT 100",
    _give_back("attempt_interrupted", "w.worker = %(worker)s AND w.token = ANY (%(tokens)s)"),
)

CHORES = {
    Task.SEND_DUE: SEND_DUE,
    Task.SEND_LOST: SEND_LOST,
    Task.TIME_OUT: TIME_OUT,
    Task.LOSE: LOSE,
    Task.WATCH_ON: WATCH_ON,
}


def do(link: Link, chore: Chore, params: Mapping[str, Any]) -> list[Dispatch]:
    """Do a chore to all lanes it picks; returns the messages to send."""
    return _dispatches(link.run(_statement(chore.pick, chore.act), params))


def pick(link: Link, chore: Chore, params: Mapping[str, Any]) -> list[tuple[UUID, str]]:
    """The lanes a chore is to be done to."""
    return [(row[0], row[1]) for row in link.run(chore.pick, params)]


def do_one(link: Link, chore: Chore, params: Mapping[str, Any], saga_id: UUID, lane: str) -> list[Dispatch]:
    """Do a chore to one lane."""
    picked = "SELECT %(saga)s::uuid AS saga_id, %(lane)s::text AS lane"
    rows = link.run(_statement(picked, chore.act), {**params, "saga": saga_id, "lane": lane})
    return _dispatches(rows)


def put_off(link: Link, saga_id: UUID, lane: str, problem: str) -> None:
    """Note why nothing can be done to a lane, and look at it again in five minutes."""
    link.run(
        """
        UPDATE {s}.work SET problem = %(problem)s, due_at = clock_timestamp() + interval '5 min',
            sent = CASE WHEN worker IS NOT NULL THEN sent END
        WHERE saga_id = %(saga)s AND lane = %(lane)s
        """,
        {"saga": saga_id, "lane": lane, "problem": problem},
    )


def free_unrun(link: Link, worker: int, tokens: Sequence[UUID]) -> list[Dispatch]:
    """Give back claims of this worker that nothing in it runs: their commit's reply was lost."""
    return _dispatches(link.run(_FREE_UNRUN, {"worker": worker, "tokens": list(tokens)}))


def _dispatches(rows: list[Row]) -> list[Dispatch]:
    return [Dispatch(*row) for row in rows]


# --- who is gone ------------------------------------------------------------------------------------------------------


def absent_workers(link: Link, lock_class: int, realms: Sequence[str]) -> list[int]:
    """The workers that hold lanes but neither hold nor await their liveness lock, in a role that may write."""
    rows = link.run(
        f"""
        WITH RECURSIVE holder (worker) AS (
            (SELECT worker FROM {{s}}.work WHERE worker IS NOT NULL ORDER BY worker LIMIT 1)
            UNION ALL
            SELECT next.worker FROM holder, LATERAL (
                SELECT worker FROM {{s}}.work WHERE worker > holder.worker ORDER BY worker LIMIT 1
            ) AS next
        )
        SELECT worker FROM holder
        WHERE EXISTS (SELECT FROM {{s}}.work AS w WHERE w.worker = holder.worker AND w.realm = ANY (%(realms)s))
        EXCEPT
        {ALIVE}
        """,
        {"lock_class": lock_class, "realms": list(realms)},
    )
    return [row[0] for row in rows]


def server_age(link: Link) -> float:
    """Seconds since the database server started; a clock that has stepped back to before that leaves it old."""
    rows = link.run("SELECT extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())::float8", {})
    return float(rows[0][0]) if rows[0][0] >= 0 else math.inf
