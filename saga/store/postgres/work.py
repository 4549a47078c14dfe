"""Work: the statements on ``work`` of those who claim lanes and move them on; those of the relay are in ``due``.

A connection is passed in; nothing commits here. A statement that changes who holds a row also appends the log's entry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from saga.core.events import FORMAT
from saga.core.outline import DEADLINE
from saga.core.rows import Dispatch
from saga.core.text import dumps
from saga.store.postgres.database import Link, Row
from saga.store.values import Offer, Wish

_PLACES = """AS r (
    saga uuid, lane text, step text, attempt integer, undo boolean, queue text, priority smallint, due timestamptz,
    wait float8, owned boolean, watch float8, sent boolean, token uuid"""
A_CENTURY = "interval '876000 h'"
AT_ONCE = f"clock_timestamp() - {A_CENTURY}"
AT_ONCE_BEFORE = "1980-01-01 UTC"
"""What is due at once is due a century ago. So it is still in order, and due by any clock, even one that steps back."""
_WAIT = "make_interval(secs => CASE WHEN r.owned THEN r.watch ELSE r.wait END)"
_DUE = f"""CASE WHEN r.due IS NOT NULL THEN r.due WHEN NOT r.owned AND coalesce(r.wait, 0) = 0 THEN {AT_ONCE}
                ELSE clock_timestamp() + {_WAIT} END"""
DUE_SINCE = f"""least(greatest(due_at, '0001-01-02'), '9999-12-30')
    + CASE WHEN due_at < '{AT_ONCE_BEFORE}' THEN {A_CENTURY} ELSE interval '0' END"""
"""When a lane became due, or becomes so: as one would say it, and as Python can hold it."""
_SENT = "CASE WHEN r.sent THEN clock_timestamp() END"
_WORKER = "CASE WHEN r.owned THEN %(worker)s::integer END"

REMOVE = """
    DELETE FROM {s}.work AS w USING won, json_to_recordset(%(removed)s::json) AS r (saga uuid, lane text)
    WHERE r.saga = won.saga_id AND w.saga_id = r.saga AND w.lane = r.lane
"""

ADD = f"""
    INSERT INTO {{s}}.work (saga_id, lane, step, attempt, undo, fingerprint, queue, priority, due_at, watch, sent, dispatches, worker, token, realm)
    SELECT r.saga, r.lane, r.step, r.attempt, r.undo, r.fingerprint, coalesce(r.queue, r.default_queue), r.priority, {_DUE}, r.watch, {_SENT},
           CASE WHEN r.sent THEN 1 ELSE 0 END, {_WORKER}, r.token, coalesce((SELECT realm FROM {{s}}.instance WHERE id = r.saga), '')
    FROM won JOIN json_to_recordset(%(added)s::json) {_PLACES}, fingerprint text, default_queue text) ON r.saga = won.saga_id
"""

MOVE = f"""
    UPDATE {{s}}.work AS w
    SET step = r.step, attempt = r.attempt, undo = r.undo, queue = coalesce(r.queue, w.queue), priority = r.priority, due_at = {_DUE}, watch = r.watch,
        sent = {_SENT}, dispatches = CASE WHEN r.sent THEN 1 ELSE 0 END, worker = {_WORKER}, token = r.token, problem = NULL
    FROM won JOIN json_to_recordset(%(moved)s::json) {_PLACES}) ON r.saga = won.saga_id
    WHERE w.saga_id = r.saga AND w.lane = r.lane
"""

ENTRY = "saga_id, seq, kind, lane, step, attempt, data, worker, at, format"
_READ = "seq, kind, lane, step, attempt, data, worker, at, format"


_MAYBE_LATE = f"""
    EXISTS (SELECT FROM {{s}}.work AS d WHERE d.saga_id = w.saga_id AND d.lane = '{DEADLINE}'
            AND (d.due_at <= clock_timestamp() OR d.problem IS NOT NULL))
"""
"""Whether the saga's own deadline may have passed. Its row is there while that matters; a parked row is due later."""


def claim(link: Link, wishes: Sequence[Wish], worker: int, realm: str, limits: str) -> dict[tuple[UUID, str], Offer]:
    """Take lanes that are free and due: the start of each one's attempt is appended, each row gets an owner.

    Args:
        wishes: of lanes; of one saga's, all that are ready are taken, or none.
        realm: the worker's; it takes no lanes of another, and makes those of none its own.
        limits: JSON of the definitions whose lanes to take: fingerprint to the timeouts of the lanes' steps.

    Returns:
        what became of each; nothing for lanes that do not exist.
    """
    several = len({wish.saga_id for wish in wishes}) < len(wishes)
    rows = link.run(
        _CLAIM_SEVERAL if several else _CLAIM,
        {"wishes": dumps([{"saga": str(wish.saga_id), "lane": wish.lane, "token": str(wish.token), "known": wish.known,
                           "known_at": wish.known_at and wish.known_at.isoformat()} for wish in wishes]),
         "worker": worker, "realm": realm, "limits": limits},
    )  # fmt: skip
    offers: dict[tuple[UUID, str], Offer] = {}
    entries: dict[UUID, list[Row]] = {}
    for saga_id, lane, fingerprint, attempt, queue, is_open, won, *entry in rows:
        news = entries.setdefault(saga_id, [])
        offers.setdefault((saga_id, lane), Offer(fingerprint, attempt, queue, is_open, won, news))
        if entry[0] is not None:
            news.append(tuple(entry))
    return offers


_STARTED = """
    CASE WHEN undo THEN 'compensation_started' ELSE 'step_started' END, lane, step, attempt,
    jsonb_build_object('timeout', limits -> CASE WHEN undo THEN 'undo' ELSE 'do' END -> step), %(worker)s
"""

_FURTHER = f"""
    further AS (
        INSERT INTO {{s}}.log ({ENTRY})
        SELECT saga_id, seq, {_STARTED}, first.at, {FORMAT}
        FROM (SELECT saga_id, at FROM first) AS first JOIN ready USING (saga_id) WHERE place > 1
        RETURNING {ENTRY}
    ),
"""
"""The starts of a saga's other lanes: they stand or fall with the first, which shows that the log that was read is current."""


def _claiming(*, several: bool) -> str:
    """The statement of a claim; of several lanes of one saga, or of one of each."""
    place = "row_number() OVER (PARTITION BY saga_id ORDER BY lane)" if several else "1"
    return f"""
        WITH wish AS MATERIALIZED (
            SELECT * FROM json_to_recordset(%(wishes)s::json) AS r (
                saga uuid, lane text, token uuid, known integer, known_at timestamptz)
        ), lane AS MATERIALIZED (
            SELECT saga_id, w.lane, step, CASE WHEN undo OR NOT ({_MAYBE_LATE}) THEN attempt END AS attempt, undo, fingerprint,
                   queue, wish.token,
                   coalesce((SELECT k.seq FROM {{s}}.log AS k WHERE k.saga_id = wish.saga AND k.seq = wish.known
                             AND k.at = coalesce(wish.known_at, k.at)), 0) AS known,
                   worker IS NULL AND due_at <= clock_timestamp() AS open, %(limits)s::jsonb -> fingerprint AS limits
            FROM wish JOIN {{s}}.work AS w ON w.saga_id = wish.saga AND w.lane = wish.lane
            WHERE w.realm IN ('', %(realm)s)
        ), ready AS MATERIALIZED (
            SELECT *, (SELECT max(seq) FROM {{s}}.log AS l WHERE l.saga_id = free.saga_id) + place AS seq
            FROM (SELECT *, {place} AS place FROM lane WHERE open AND attempt IS NOT NULL AND limits IS NOT NULL) AS free
        ), first AS (
            INSERT INTO {{s}}.log ({ENTRY})
            SELECT saga_id, seq, {_STARTED}, clock_timestamp(), {FORMAT}
            FROM ready WHERE place = 1 ORDER BY saga_id
            ON CONFLICT DO NOTHING
            RETURNING {ENTRY}
        ), {_FURTHER if several else ""} won AS (
            SELECT * FROM first {"UNION ALL SELECT * FROM further" if several else ""}
        ), owned AS (
            UPDATE {{s}}.work AS w
            SET worker = %(worker)s, token = lane.token, realm = %(realm)s, problem = NULL, watch = (lane.limits ->> 'watch')::float8,
                due_at = clock_timestamp() + make_interval(secs => (lane.limits ->> 'watch')::float8)
            FROM won JOIN lane USING (saga_id, lane) WHERE w.saga_id = won.saga_id AND w.lane = won.lane
        ), told AS (
            SELECT lane.*, won.saga_id IS NOT NULL AS won FROM lane LEFT JOIN won USING (saga_id, lane)
        ), asked AS (
            SELECT saga_id, min(lane) AS of, min(known) AS known FROM told
            WHERE told.won OR (told.open AND told.limits IS NOT NULL AND told.attempt IS NULL) GROUP BY saga_id
        ), news AS (
            SELECT asked.saga_id, asked.of, e.seq, e.kind, e.lane, e.step, e.attempt, e.data, e.worker, e.at, e.format
            FROM asked JOIN {{s}}.log AS e ON e.saga_id = asked.saga_id AND e.seq > asked.known
            UNION ALL
            SELECT saga_id, asked.of, {_READ} FROM asked JOIN won USING (saga_id)
        )
        SELECT told.saga_id, told.lane, told.fingerprint, told.attempt, told.queue, told.open, told.won,
               seq, kind, news.lane, news.step, news.attempt, data, worker, at, format
        FROM told LEFT JOIN news ON news.saga_id = told.saga_id AND news.of = told.lane
        ORDER BY told.saga_id, told.lane, seq
    """


_CLAIM, _CLAIM_SEVERAL = _claiming(several=False), _claiming(several=True)


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
    undo: bool
    attempt: int | None
    queue: str
    due_at: datetime
    sent_at: datetime | None
    worker: int | None
    problem: str | None
    host: str | None
    pid: int | None


def read_lanes(link: Link, saga_id: UUID) -> list[OpenLane]:
    """The rows of one saga.

    A lane that has gone on inline is at the step that the log says; its row still names that of the claim.
    """
    rows = link.run(
        f"""
        SELECT w.lane, coalesce(open.step, w.step), coalesce(open.undo, w.undo), coalesce(open.attempt, w.attempt), w.queue,
               {DUE_SINCE}, w.sent, w.worker, w.problem, m.host, m.pid
        FROM {{s}}.work AS w LEFT JOIN {{s}}.worker AS m ON m.number = w.worker
        LEFT JOIN LATERAL (
            SELECT step, kind = 'compensation_started' AS undo, attempt FROM {{s}}.log
            WHERE saga_id = w.saga_id AND lane = w.lane AND kind IN ('step_started', 'compensation_started')
            ORDER BY seq DESC LIMIT 1
        ) AS open ON w.worker IS NOT NULL
        WHERE w.saga_id = %(saga)s ORDER BY w.lane
        """,
        {"saga": saga_id},
    )
    return [OpenLane(*row) for row in rows]


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
