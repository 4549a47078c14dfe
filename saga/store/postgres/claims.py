"""Claims: the statement by which a worker takes lanes. The start of each attempt is in the log before its row has an owner.

A connection is passed in; nothing commits here.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from saga.core.events import FORMAT
from saga.core.outline import DEADLINE
from saga.core.text import dumps
from saga.store.postgres.database import Link, Row
from saga.store.postgres.log import ENTRY, READ
from saga.store.postgres.work import PHASE, SEEN
from saga.store.values import Offer, Wish


def claim(link: Link, wishes: Sequence[Wish], worker: int, realm: str, limits: str) -> dict[tuple[UUID, str], Offer]:
    """Take lanes that are free and due: the start of each one's attempt is appended, each row gets an owner.

    Args:
        wishes: of lanes; of one saga's, all that are ready are taken, or none.
        realm: the worker's; it takes no lanes of another, and makes those of none its own.
        limits: JSON of the definitions whose lanes to take: fingerprint to phase to step to what the entry of such a start says, with its
            timeout; and ``watch``.

    Returns:
        what became of each; nothing for lanes that do not exist.
    """
    several = len({wish.saga_id for wish in wishes}) < len(wishes)
    rows = link.run(
        _OF_SEVERAL if several else _OF_ONE_EACH,
        {"wishes": dumps([{"saga": str(wish.saga_id), "lane": wish.lane, "token": str(wish.token), "known": wish.known,
                           "known_at": wish.known_at and wish.known_at.isoformat()} for wish in wishes]),
         "worker": worker, "realm": realm, "limits": limits},
    )  # fmt: skip
    offers: dict[tuple[UUID, str], Offer] = {}
    entries: dict[UUID, list[Row]] = {}
    for saga_id, lane, fingerprint, attempt, queue, is_open, won, since, *entry in rows:
        news = entries.setdefault(saga_id, [])
        offers.setdefault((saga_id, lane), Offer(fingerprint, attempt, queue, is_open, won, news, since))
        if entry[0] is not None:
            news.append(tuple(entry))
    return offers


# --- the statement: its parts, each whole in itself -------------------------------------------------------------------

_WISH = """
    wish AS MATERIALIZED (
        SELECT * FROM json_to_recordset(%(wishes)s::json) AS r (
            saga uuid, lane text, token uuid, known integer, known_at timestamptz)
    )
"""

_MAYBE_LATE = f"""
    EXISTS (SELECT FROM {{s}}.work AS d WHERE d.saga_id = w.saga_id AND d.lane = '{DEADLINE}'
            AND (d.due_at <= clock_timestamp() OR d.problem IS NOT NULL))
"""
"""Whether the saga's own deadline may have passed. Its row is there while that matters; a parked row is due later."""

_LANE = f"""
    lane AS MATERIALIZED (
        SELECT saga_id, w.lane, step, {PHASE} AS phase,
               CASE WHEN {PHASE} <> 'step' OR NOT ({_MAYBE_LATE} OR coalesce(until <= clock_timestamp(), false)) THEN attempt END
               AS attempt, fingerprint, until, {SEEN} AS since,
               queue, wish.token,
               coalesce((SELECT k.seq FROM {{s}}.log AS k WHERE k.saga_id = wish.saga AND k.seq = wish.known
                         AND k.at = coalesce(wish.known_at, k.at)), 0) AS known,
               worker IS NULL AND due_at <= clock_timestamp() AS open, %(limits)s::jsonb -> fingerprint AS limits
        FROM wish JOIN {{s}}.work AS w ON w.saga_id = wish.saga AND w.lane = wish.lane
        WHERE w.realm IN ('', %(realm)s)
    )
"""
"""The lanes as they are. Without an attempt, the claimer has to decide first."""


def _ready(place: str) -> str:
    """The lanes to take, with the place of the start in the log; those of one saga are numbered by ``place``, from 1 on."""
    return f"""
    ready AS MATERIALIZED (
        SELECT *, (SELECT max(seq) FROM {{s}}.log AS l WHERE l.saga_id = free.saga_id) + place AS seq
        FROM (SELECT *, {place} AS place, coalesce(
                  limits -> phase -> split_part(split_part(step, '[', 1), '#', 1), '{{"timeout": null}}') AS said
              FROM lane WHERE open AND attempt IS NOT NULL AND limits IS NOT NULL) AS free
    )
    """


_STARTED = """
    phase || '_started', lane, step, attempt,
    CASE WHEN until IS NULL THEN said ELSE said || jsonb_build_object('timeout', least(
        (said ->> 'timeout')::float8, greatest(0, extract(epoch FROM until - clock_timestamp())::float8))) END, %(worker)s
"""
"""What the entry of a start says. Of the time that the action has as a whole, no more is left to it than there is."""

_FIRST = f"""
    first AS (
        INSERT INTO {{s}}.log ({ENTRY})
        SELECT saga_id, seq, {_STARTED}, clock_timestamp(), {FORMAT}
        FROM ready WHERE place = 1 ORDER BY saga_id
        ON CONFLICT DO NOTHING
        RETURNING {ENTRY}
    )
"""

_FURTHER = f"""
    further AS (
        INSERT INTO {{s}}.log ({ENTRY})
        SELECT saga_id, seq, {_STARTED}, first.at, {FORMAT}
        FROM (SELECT saga_id, at FROM first) AS first JOIN ready USING (saga_id) WHERE place > 1
        RETURNING {ENTRY}
    )
"""
"""The starts of a saga's other lanes: they stand or fall with the first, which shows that the log that was read is current."""

_OWNED = """
    owned AS (
        UPDATE {s}.work AS w
        SET worker = %(worker)s, token = lane.token, realm = %(realm)s, problem = NULL, watch = (lane.limits ->> 'watch')::float8,
            due_at = clock_timestamp() + make_interval(
                secs => least((lane.limits ->> 'watch')::float8, (won.data ->> 'timeout')::float8))
        FROM won JOIN lane USING (saga_id, lane) WHERE w.saga_id = won.saga_id AND w.lane = won.lane
    )
"""

_TOLD = """
    told AS (
        SELECT lane.*, won.saga_id IS NOT NULL AS won FROM lane LEFT JOIN won USING (saga_id, lane)
    )
"""

_ASKED = """
    asked AS (
        SELECT saga_id, min(lane) AS of, min(known) AS known FROM told
        WHERE told.won OR (told.open AND told.limits IS NOT NULL AND told.attempt IS NULL) GROUP BY saga_id
    )
"""
"""The sagas whose log the claimer needs: those of lanes that it has now, or has to decide about."""

_NEWS = f"""
    news AS (
        SELECT asked.saga_id, asked.of, e.seq, e.kind, e.lane, e.step, e.attempt, e.data, e.worker, e.at, e.format
        FROM asked JOIN {{s}}.log AS e ON e.saga_id = asked.saga_id AND e.seq > asked.known
        UNION ALL
        SELECT saga_id, asked.of, {READ} FROM asked JOIN won USING (saga_id)
    )
"""
"""The entries it does not know. Those of this very statement are not in the table yet, for it."""

_ANSWER = """
    SELECT told.saga_id, told.lane, told.fingerprint, told.attempt, told.queue, told.open, told.won,
           CASE WHEN told.attempt IS NULL AND told.open THEN told.since END,
           seq, kind, news.lane, news.step, news.attempt, data, worker, at, format
    FROM told LEFT JOIN news ON news.saga_id = told.saga_id AND news.of = told.lane
    ORDER BY told.saga_id, told.lane, seq
"""


def _statement(*, several: bool) -> str:
    """The statement for lanes of different sagas; or for lanes of which one saga may have several."""
    if several:
        numbered = _ready("row_number() OVER (PARTITION BY saga_id ORDER BY lane)")
        started = [numbered, _FIRST, _FURTHER, "won AS (SELECT * FROM first UNION ALL SELECT * FROM further)"]
    else:
        started = [_ready("1"), _FIRST, "won AS (SELECT * FROM first)"]
    return f"WITH {', '.join([_WISH, _LANE, *started, _OWNED, _TOLD, _ASKED, _NEWS])} {_ANSWER}"


_OF_ONE_EACH, _OF_SEVERAL = _statement(several=False), _statement(several=True)
