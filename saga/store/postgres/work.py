"""Work: what is asked about lanes, and done to those that nobody has. Who has a lane changes with its log only.

So that is in ``claims`` and ``appends``; what the relay does is in ``due``. A connection is passed in; nothing commits
here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from saga.core.due import Due
from saga.core.ref import STARTS, Phase
from saga.core.rows import Dispatch
from saga.core.text import dumps
from saga.store.postgres.database import Link

NOW = "(SELECT clock_timestamp())"
"""The time in a form that an index can use: once in a statement. Written plainly, the function is called for each row."""

A_CENTURY = "interval '876000 h'"
AT_ONCE = f"clock_timestamp() - {A_CENTURY}"
AT_ONCE_BEFORE = "1980-01-01 UTC"
"""What is due at once is due a century ago. So it is still in order, and due by any clock, even one that steps back."""

AGAIN = 10.0
"""Seconds after which a lane that was due at once, and of which nothing was to be decided, is looked at again."""

DUE_SINCE = f"""least(greatest(due_at, '0001-01-02'), '9999-12-30')
    + CASE WHEN due_at < '{AT_ONCE_BEFORE}' THEN {A_CENTURY} ELSE interval '0' END"""
"""When a lane became due, or becomes so: as one would say it, and as Python can hold it."""

PHASE = "CASE WHEN undo THEN 'compensation' ELSE phase END"
"""What a lane's attempt is one of. Workers of the version before write ``undo`` only."""

STARTED = ", ".join(f"'{kind}'" for kind in STARTS)
"""The kinds of the entries that start an attempt. Without the last eight letters they are phases."""

SEEN = "greatest(due_at, '0001-01-02')"
"""When a lane that may be claimed became due, as Python can hold it."""

RANK = "coalesce(priority, '-1'::smallint)"
TIMES = "least(dispatches, 12)"
"""How the index of sent lanes puts them into lots: by realm, by queue, by these."""


@dataclass(frozen=True, slots=True)
class OpenLane:
    """A lane that waits for a worker, or that one has.

    Attributes:
        due_at: the earliest claim; of a claimed lane, when the relay looks at it again.
        attempt: to make, or under way; ``None`` if the worker that claims the lane decides first.
        problem: why it is parked.
        host: where the worker that has it runs, and ``pid`` its process there, as far as it has told.
    """

    lane: str
    step: str
    phase: Phase
    attempt: int | None
    queue: str
    due_at: datetime
    sent_at: datetime | None
    worker: int | None
    problem: str | None
    host: str | None
    pid: int | None

    @property
    def undo(self) -> bool:
        """Whether it is one of the step's undo."""
        return self.phase is Phase.COMPENSATION


def read_lanes(link: Link, saga_id: UUID) -> list[OpenLane]:
    """The rows of one saga.

    A lane that has gone on inline is at the step that the log says; its row still names that of the claim.
    """
    rows = link.run(
        f"""
        SELECT w.lane, coalesce(open.step, w.step), coalesce(open.started, {PHASE}), coalesce(open.attempt, w.attempt), w.queue,
               {DUE_SINCE}, w.sent, w.worker, w.problem, m.host, m.pid
        FROM {{s}}.work AS w LEFT JOIN {{s}}.worker AS m ON m.number = w.worker
        LEFT JOIN LATERAL (
            SELECT step, left(kind, -8) AS started, attempt FROM {{s}}.log
            WHERE saga_id = w.saga_id AND lane = w.lane AND kind IN ({STARTED})
            ORDER BY seq DESC LIMIT 1
        ) AS open ON w.worker IS NOT NULL
        WHERE w.saga_id = %(saga)s ORDER BY w.lane
        """,
        {"saga": saga_id},
    )
    return [OpenLane(lane, step, Phase(phase), *rest) for lane, step, phase, *rest in rows]


def owned_tokens(link: Link, worker: int) -> list[UUID]:
    """The claim tokens that this worker holds."""
    return [row[0] for row in link.run("SELECT token FROM {s}.work WHERE worker = %(worker)s", {"worker": worker})]


def offer_on(link: Link, lanes: Sequence[tuple[UUID, str]], *, alone: bool) -> list[Dispatch]:
    """The messages of those lanes that exist and are free, to be sent anew by a worker that took the first ones.

    That they are is noted, else a ping that overtakes them would prove them lost. Of what was sent a moment ago nobody
    asks yet. Whatever else somebody's message may name goes no further.
    """
    rows = link.run(
        """
        WITH free AS MATERIALIZED (
            SELECT w.saga_id, w.lane, w.queue, w.priority
            FROM json_to_recordset(%(lanes)s::json) AS r (saga uuid, lane text)
            JOIN {s}.work AS w ON w.saga_id = r.saga AND w.lane = r.lane
            WHERE w.worker IS NULL
        ), offered AS MATERIALIZED (
            SELECT w.saga_id, w.lane FROM free JOIN {s}.work AS w USING (saga_id, lane)
            WHERE w.worker IS NULL AND w.sent < clock_timestamp() - interval '0.25 s'
            FOR UPDATE OF w SKIP LOCKED
        ), noted AS (
            UPDATE {s}.work AS w SET sent = clock_timestamp()
            FROM offered WHERE w.saga_id = offered.saga_id AND w.lane = offered.lane
        )
        SELECT saga_id, lane, queue, priority FROM free
        """,
        {"lanes": dumps([{"saga": str(saga_id), "lane": lane} for saga_id, lane in lanes])},
    )
    return [Dispatch(saga_id, lane, queue, priority, alone) for saga_id, lane, queue, priority in rows]


def park(link: Link, saga_id: UUID, lane: str, problem: str, *, unknown: bool = False) -> None:
    """Note why a free lane cannot be run here, and offer it again later: after 1 s, then twice as long each time, to 5 min.

    Args:
        unknown: the saga's definition is not here; a worker that has it offers the lane sooner.
    """
    link.run(
        """
        UPDATE {s}.work
        SET problem = %(problem)s, unknown = %(unknown)s, sent = NULL,
            due_at = clock_timestamp() + make_interval(secs => least(300, 0.5 * 2 ^ least(dispatches, 20)))
        WHERE saga_id = %(saga)s AND lane = %(lane)s AND worker IS NULL AND due_at <= clock_timestamp()
        """,
        {"saga": saga_id, "lane": lane, "problem": problem, "unknown": unknown},
    )


def sleep_on(link: Link, saga_id: UUID, lane: str, seen: datetime, due: Due) -> bool:
    """Let a free lane without an attempt wait until then, if nobody has woken it since it was seen; whether it was put off.

    One that was due at once is looked at again soon: who was to wake it may not have seen it yet.
    """
    rows = link.run(
        f"""
        UPDATE {{s}}.work
        SET due_at = least(coalesce(%(moment)s::timestamptz, clock_timestamp() + make_interval(secs => %(seconds)s)),
                           CASE WHEN due_at < '{AT_ONCE_BEFORE}' THEN clock_timestamp() + interval '{AGAIN} s' END),
            sent = NULL, dispatches = 0, shifted = NULL, shifted_by = NULL
        WHERE saga_id = %(saga)s AND lane = %(lane)s AND worker IS NULL AND attempt IS NULL AND {SEEN} = %(seen)s
        RETURNING lane
        """,
        {"saga": saga_id, "lane": lane, "seen": seen, "moment": due.moment, "seconds": due.seconds},
    )
    return bool(rows)


def read_waiting(link: Link, saga_ids: Sequence[UUID]) -> set[UUID]:
    """Those of these sagas in which something waits for its next attempt."""
    rows = link.run(
        """
        SELECT DISTINCT saga_id FROM {s}.work
        WHERE saga_id = ANY(%(ids)s) AND worker IS NULL AND attempt > 1 AND due_at > clock_timestamp()
        """,
        {"ids": list(saga_ids)},
    )
    return {row[0] for row in rows}
