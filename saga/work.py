"""Work: every statement on ``work`` and ``ping``: what may be claimed next, who has it, and when to look again.

A connection is passed in; nothing commits here. Whatever changes who holds a row appends the log's entry for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from saga.codec import dumps
from saga.database import Link, Row
from saga.events import FORMAT


@dataclass(frozen=True, slots=True)
class Place:
    """What a lane's row is to say.

    Attributes:
        attempt: the attempt to make; ``None`` where whoever claims the lane has to decide first.
        queue: ``None`` for the one it is on, where the writer does not have the definition.
        due: the earliest claim; ``wait`` in its place, in seconds from now.
        owned: the worker that writes it keeps the lane.
        watch: of an owned lane, seconds after which the relay looks at it: the shortest timeout of what may follow.
        sent: its message goes out right after the commit.
    """

    lane: str
    step: str
    attempt: int | None
    undo: bool
    queue: str | None
    priority: int | None = None
    due: datetime | None = None
    wait: float | None = None
    owned: bool = False
    watch: float = 0.0
    sent: bool = False

    def row(self) -> dict[str, Any]:
        """It as JSON."""
        return {"lane": self.lane, "step": self.step, "attempt": self.attempt, "undo": self.undo, "queue": self.queue,
                "priority": self.priority, "due": self.due and self.due.isoformat(), "wait": self.wait,
                "owned": self.owned, "watch": self.watch, "sent": self.sent}  # fmt: skip


@dataclass(slots=True)
class Changes:
    """What an entry changes in its saga's rows; no lane appears twice.

    Attributes:
        token: of the worker that writes it, for the lanes it keeps.
        default_queue: of the lanes whose queue the writer does not know.
    """

    fingerprint: str
    token: UUID | None
    default_queue: str = ""
    removed: list[str] = field(default_factory=list)
    added: list[Place] = field(default_factory=list)
    moved: list[Place] = field(default_factory=list)

    def removed_rows(self, saga_id: str) -> list[dict[str, Any]]:
        """The rows to delete, as JSON; likewise those to insert and those to update."""
        return [{"saga": saga_id, "lane": lane} for lane in self.removed]

    def added_rows(self, saga_id: str) -> list[dict[str, Any]]:
        return [self._row(saga_id, place) | {"fingerprint": self.fingerprint, "default_queue": self.default_queue}
                for place in self.added]  # fmt: skip

    def moved_rows(self, saga_id: str) -> list[dict[str, Any]]:
        return [self._row(saga_id, place) for place in self.moved]

    def _row(self, saga_id: str, place: Place) -> dict[str, Any]:
        row = place.row()
        row["saga"] = saga_id
        if place.owned:
            row["token"] = str(self.token)
        return row


_PLACES = """AS r (
    saga uuid, lane text, step text, attempt integer, undo boolean, queue text, priority smallint, due timestamptz,
    wait float8, owned boolean, watch float8, sent boolean, token uuid"""
_DUE = "coalesce(r.due, clock_timestamp() + make_interval(secs => CASE WHEN r.owned THEN r.watch ELSE coalesce(r.wait, 0) END))"
_SENT = "CASE WHEN r.sent THEN clock_timestamp() END"
_WORKER = "CASE WHEN r.owned THEN %(worker)s::integer END"

REMOVE = """
    DELETE FROM {s}.work AS w USING won, json_to_recordset(%(removed)s::json) AS r (saga uuid, lane text)
    WHERE r.saga = won.saga_id AND w.saga_id = r.saga AND w.lane = r.lane
"""

ADD = f"""
    INSERT INTO {{s}}.work (saga_id, lane, step, attempt, undo, fingerprint, queue, priority, due_at, watch, sent, dispatches, worker, token)
    SELECT r.saga, r.lane, r.step, r.attempt, r.undo, r.fingerprint, coalesce(r.queue, r.default_queue), r.priority, {_DUE}, r.watch, {_SENT},
           CASE WHEN r.sent THEN 1 ELSE 0 END, {_WORKER}, r.token
    FROM won JOIN json_to_recordset(%(added)s::json) {_PLACES}, fingerprint text, default_queue text) ON r.saga = won.saga_id
"""

MOVE = f"""
    UPDATE {{s}}.work AS w
    SET step = r.step, attempt = r.attempt, undo = r.undo, queue = coalesce(r.queue, w.queue), priority = r.priority, due_at = {_DUE}, watch = r.watch,
        sent = {_SENT}, dispatches = CASE WHEN r.sent THEN 1 ELSE 0 END, worker = {_WORKER}, token = r.token, problem = NULL
    FROM won JOIN json_to_recordset(%(moved)s::json) {_PLACES}) ON r.saga = won.saga_id
    WHERE w.saga_id = r.saga AND w.lane = r.lane
"""

_ENTRY = "saga_id, seq, kind, lane, step, attempt, data, worker, at, format"
_READ = "seq, kind, lane, step, attempt, data, worker, at, format"


@dataclass(frozen=True, slots=True)
class Wish:
    """A lane that a worker wants.

    Attributes:
        token: of the claim, should it win.
        known: the last entry of its saga that the worker has.
    """

    saga_id: UUID
    lane: str
    token: UUID
    known: int = 0


@dataclass(frozen=True, slots=True)
class Offer:
    """What became of a wish.

    Attributes:
        attempt: to make; ``None`` where whoever takes the lane has to decide first.
        open: the lane was free and due.
        won: the lane is taken, and the start of its attempt appended.
        entries: the columns of what the log has after the entries that were known, the new one last; of a lane that is
            neither taken nor to be decided about, nothing.
    """

    fingerprint: str
    attempt: int | None
    queue: str
    open: bool
    won: bool
    entries: list[Row]


def claim(link: Link, wishes: Sequence[Wish], worker: int, limits: str) -> dict[tuple[UUID, str], Offer]:
    """Take lanes that are free and due: the start of each one's attempt is appended, each row gets an owner.

    Args:
        wishes: of different sagas.
        limits: JSON of the definitions whose lanes to take: fingerprint to the timeouts of the lanes' steps.

    Returns:
        what became of each; nothing for those of which there is no such lane.
    """
    rows = link.run(
        f"""
        WITH wish AS MATERIALIZED (
            SELECT * FROM json_to_recordset(%(wishes)s::json) AS r (saga uuid, lane text, token uuid, known integer)
        ), lane AS MATERIALIZED (
            SELECT saga_id, w.lane, step, attempt, undo, fingerprint, queue, wish.token, wish.known,
                   worker IS NULL AND due_at <= clock_timestamp() AS open, %(limits)s::jsonb -> fingerprint AS limits
            FROM wish JOIN {{s}}.work AS w ON w.saga_id = wish.saga AND w.lane = wish.lane
        ), won AS (
            INSERT INTO {{s}}.log ({_ENTRY})
            SELECT saga_id, (SELECT max(seq) FROM {{s}}.log AS l WHERE l.saga_id = lane.saga_id) + 1,
                   CASE WHEN undo THEN 'compensation_started' ELSE 'step_started' END, lane, step, attempt,
                   jsonb_build_object('timeout', limits -> CASE WHEN undo THEN 'undo' ELSE 'do' END -> step),
                   %(worker)s, clock_timestamp(), {FORMAT}
            FROM lane WHERE open AND attempt IS NOT NULL AND limits IS NOT NULL ORDER BY saga_id
            ON CONFLICT DO NOTHING
            RETURNING {_ENTRY}
        ), owned AS (
            UPDATE {{s}}.work AS w
            SET worker = %(worker)s, token = lane.token, problem = NULL, watch = (lane.limits ->> 'watch')::float8,
                due_at = clock_timestamp() + make_interval(secs => (lane.limits ->> 'watch')::float8)
            FROM won JOIN lane USING (saga_id, lane) WHERE w.saga_id = won.saga_id AND w.lane = won.lane
        ), told AS (
            SELECT lane.*, won.saga_id IS NOT NULL AS won FROM lane LEFT JOIN won USING (saga_id, lane)
        ), news AS (
            SELECT told.saga_id, told.lane AS of, e.seq, e.kind, e.lane, e.step, e.attempt, e.data, e.worker, e.at, e.format
            FROM told JOIN {{s}}.log AS e ON e.saga_id = told.saga_id AND e.seq > told.known
            WHERE told.won OR (told.open AND told.limits IS NOT NULL AND told.attempt IS NULL)
            UNION ALL
            SELECT saga_id, lane, {_READ} FROM won
        )
        SELECT told.saga_id, told.lane, told.fingerprint, told.attempt, told.queue, told.open, told.won,
               seq, kind, news.lane, news.step, news.attempt, data, worker, at, format
        FROM told LEFT JOIN news ON news.saga_id = told.saga_id AND news.of = told.lane
        ORDER BY told.saga_id, told.lane, seq
        """,
        {"wishes": dumps([{"saga": str(wish.saga_id), "lane": wish.lane, "token": str(wish.token), "known": wish.known}
                          for wish in wishes]), "worker": worker, "limits": limits},
    )  # fmt: skip
    offers: dict[tuple[UUID, str], Offer] = {}
    for saga_id, lane, fingerprint, attempt, queue, is_open, won, *entry in rows:
        offer = offers.setdefault((saga_id, lane), Offer(fingerprint, attempt, queue, is_open, won, []))
        if entry[0] is not None:
            offer.entries.append(tuple(entry))
    return offers


@dataclass(frozen=True, slots=True)
class OpenLane:
    """A lane that waits for a worker, or that one has.

    Attributes:
        due_at: the earliest claim; of a claimed lane, when the relay looks at it again.
        attempt: to make, or under way; ``None`` where whoever claims the lane decides first.
        problem: why it is parked.
    """

    lane: str
    step: str
    undo: bool
    attempt: int | None
    queue: str
    due_at: datetime
    sent_at: datetime | None
    worker: int | None
    problem: str | None


def read_lanes(link: Link, saga_id: UUID) -> list[OpenLane]:
    """The rows of one saga."""
    rows = link.run(
        """
        SELECT lane, step, undo, attempt, queue, due_at, sent, worker, problem
        FROM {s}.work WHERE saga_id = %(saga)s ORDER BY lane
        """,
        {"saga": saga_id},
    )
    return [OpenLane(*row) for row in rows]


def park(link: Link, saga_id: UUID, lane: str, problem: str) -> None:
    """Note why a free lane cannot be run here, and offer it again later: after 1 s, then twice as long each time, to 5 min."""
    link.run(
        """
        UPDATE {s}.work
        SET problem = %(problem)s, sent = NULL, dispatches = dispatches + 1,
            due_at = clock_timestamp() + make_interval(secs => least(300, 0.5 * 2 ^ least(dispatches, 20)))
        WHERE saga_id = %(saga)s AND lane = %(lane)s AND worker IS NULL AND due_at <= clock_timestamp()
        """,
        {"saga": saga_id, "lane": lane, "problem": problem},
    )


def read_problems(link: Link, saga_ids: Sequence[UUID]) -> dict[UUID, str]:
    """What these sagas' parked work waits for."""
    rows = link.run(
        "SELECT saga_id, min(problem) FROM {s}.work WHERE saga_id = ANY(%(ids)s) AND problem IS NOT NULL GROUP BY saga_id",
        {"ids": list(saga_ids)},
    )
    return {row[0]: row[1] for row in rows}


# --- the relay's ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Dispatch:
    """A message to send: a lane to offer, and the queue to offer it on.

    Attributes:
        alone: it shares its message with no other lane.
    """

    saga_id: UUID
    lane: str
    queue: str
    priority: int | None = None
    alone: bool = False


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
            INSERT INTO {{s}}.log ({_ENTRY})
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


def owned_tokens(link: Link, worker: int) -> list[UUID]:
    """The claim tokens that this worker holds."""
    return [row[0] for row in link.run("SELECT token FROM {s}.work WHERE worker = %(worker)s", {"worker": worker})]


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
