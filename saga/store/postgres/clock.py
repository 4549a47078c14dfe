"""Clock: the relay's statements for a database's clock that has stepped back, and forth again.

When the clock steps back, waits and timeouts would come too late, by as much as the step. The relay's row says what the
clock showed at a recent look. So the next look sees that it shows less, and by how much. A time that was set at a moment
which is still to come is moved back by that much: it was surely set before the step. A time that was set earlier stays,
for the clock may have been wrong only for a while, and be right again now. If the clock then steps forth by as much, what
was moved is put back. In doubt, a time comes late and never early.

A step is noted in the relay's row, and dealt with in slices, each of which notes how far it came: no row is moved twice.
A connection is passed in; nothing commits here.
"""

from __future__ import annotations

from dataclasses import dataclass

from saga.store.postgres.database import Link
from saga.store.postgres.due import LAST

STEP = 30.0
"""Seconds: less is no step. A relay that works notes at least every twenty that it looks."""

_EVERY_WORKER = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Look:
    """What the relay of a realm sees when it begins to look.

    Attributes:
        noted: it was time to write down that it looks.
        now: the time, in seconds since 1970.
        behind: seconds by which the clock has stepped back, while what waits is being moved.
        ahead: times moved back by no more than so many seconds are being put back.
    """

    noted: bool
    now: float
    behind: float | None
    ahead: float | None


def look(link: Link, realm: str) -> Look:
    """Write down, every ten seconds, that the relay of a realm looks; and at once, that the clock has stepped.

    The clock has stepped forth as far as anybody knows when no relay has looked for long.
    """
    rows = link.run(
        f"""
        WITH seen AS MATERIALIZED (
            SELECT now, looked_at, behind, ahead,
                   CASE WHEN isfinite(looked_at) THEN extract(epoch FROM looked_at - now)::float8 END AS back
            FROM {{s}}.relay, (SELECT clock_timestamp() AS now) AS clock WHERE realm = %(realm)s
        ), found AS MATERIALIZED (
            SELECT now, CASE WHEN back > {STEP} THEN back WHEN back < -{STEP} AND behind <= {STEP} - back THEN NULL
                             ELSE behind END AS behind,
                   CASE WHEN back < -{STEP} AND EXISTS (
                            SELECT FROM {{s}}.work WHERE realm = %(realm)s AND shifted_by <= {STEP} - back)
                        THEN greatest(ahead, {STEP} - back) ELSE ahead END AS ahead,
                   coalesce(back > {STEP}, false) AS anew,
                   (looked_at BETWEEN now - interval '10 s' AND now) IS NOT TRUE AS due
            FROM seen
        ), noted AS (
            UPDATE {{s}}.relay AS r
            SET looked_at = found.now, behind = found.behind, ahead = found.ahead,
                past_worker = CASE WHEN NOT anew THEN past_worker END, past_due = CASE WHEN NOT anew THEN past_due END
            FROM found WHERE realm = %(realm)s AND due
        )
        SELECT due, extract(epoch FROM now)::float8, behind, ahead FROM found
        """,
        {"realm": realm},
    )
    return Look(*rows[0])


def put_back(link: Link, realm: str, limit: int) -> bool:
    """Put so many of the times back that a step had moved, as the clock has stepped forth; whether there may be more."""
    rows = link.run(
        """
        WITH picked AS MATERIALIZED (
            SELECT saga_id, lane FROM {s}.work
            WHERE realm = %(realm)s AND shifted_by <= (SELECT ahead FROM {s}.relay WHERE realm = %(realm)s)
            ORDER BY shifted_by LIMIT %(limit)s FOR UPDATE SKIP LOCKED
        ), put AS (
            UPDATE {s}.work AS w
            SET due_at = CASE WHEN worker IS NULL AND sent IS NULL AND problem IS NULL AND due_at = shifted
                              THEN due_at + make_interval(secs => shifted_by) ELSE due_at END,
                shifted = NULL, shifted_by = NULL
            FROM picked WHERE w.saga_id = picked.saga_id AND w.lane = picked.lane
        )
        UPDATE {s}.relay SET ahead = CASE WHEN EXISTS (SELECT FROM picked) THEN ahead END
        WHERE realm = %(realm)s RETURNING ahead IS NOT NULL
        """,
        {"realm": realm, "limit": limit},
    )
    return bool(rows[0][0])


def move_claimed(link: Link, realm: str) -> bool:
    """Have the attempts of the next worker end as much sooner as the clock stepped back; whether there was one.

    The relay looks at all of them sooner; whose start is still to come is marked with how much sooner its timeout comes.
    """
    rows = link.run(
        f"""
        WITH step AS MATERIALIZED (
            SELECT clock_timestamp() AS now, behind, coalesce(past_worker, 0) AS past
            FROM {{s}}.relay WHERE realm = %(realm)s
        ), next AS MATERIALIZED (
            SELECT worker FROM {{s}}.work WHERE worker > (SELECT past FROM step) AND realm = %(realm)s ORDER BY worker LIMIT 1
        ), picked AS MATERIALIZED (
            SELECT w.saga_id, w.lane, open.at, CASE WHEN w.shifted = open.at THEN w.shifted_by ELSE 0 END AS by
            FROM {{s}}.work AS w LEFT JOIN LATERAL ({LAST}) AS open ON true
            WHERE w.worker = (SELECT worker FROM next) AND w.realm = %(realm)s
            FOR UPDATE OF w SKIP LOCKED
        ), sooner AS (
            UPDATE {{s}}.work AS w
            SET due_at = least(w.due_at, greatest(w.due_at - make_interval(secs => step.behind), step.now)),
                shifted = CASE WHEN ahead THEN picked.at ELSE w.shifted END,
                shifted_by = CASE WHEN ahead THEN picked.by + step.behind ELSE w.shifted_by END
            FROM step, (SELECT *, at > (SELECT now FROM step) + make_interval(secs => by) AS ahead FROM picked) AS picked
            WHERE w.saga_id = picked.saga_id AND w.lane = picked.lane
        )
        UPDATE {{s}}.relay SET past_worker = coalesce((SELECT worker FROM next), {_EVERY_WORKER})
        WHERE realm = %(realm)s RETURNING past_worker < {_EVERY_WORKER}
        """,
        {"realm": realm},
    )
    return bool(rows[0][0])


_SET = """
    coalesce((SELECT e.at FROM {s}.log AS e WHERE e.saga_id = w.saga_id AND e.lane = w.lane ORDER BY seq DESC LIMIT 1),
             (SELECT e.at FROM {s}.log AS e WHERE e.saga_id = w.saga_id AND e.seq = 1))
"""
"""When the time a free lane waits for was set: with the lane's last entry, or with the start of the saga."""


def move_waiting(link: Link, realm: str, limit: int) -> bool:
    """Have the next lanes that wait for a time be due as much sooner as the clock stepped back; whether there are more.

    Those that are parked are moved whenever that was: to offer them early does no harm, and leaves no mark.
    """
    rows = link.run(
        f"""
        WITH step AS MATERIALIZED (
            SELECT now, behind, coalesce(past_due, now) AS past
            FROM {{s}}.relay, (SELECT clock_timestamp() AS now) AS clock WHERE realm = %(realm)s
        ), last AS MATERIALIZED (
            SELECT due_at FROM {{s}}.work
            WHERE realm = %(realm)s AND worker IS NULL AND sent IS NULL AND due_at > (SELECT past FROM step)
            ORDER BY due_at OFFSET %(limit)s - 1 LIMIT 1
        ), picked AS MATERIALIZED (
            SELECT w.saga_id, w.lane, w.problem IS NOT NULL AS parked, {_SET} AS at,
                   CASE WHEN w.shifted = w.due_at AND w.problem IS NULL THEN w.shifted_by ELSE 0 END AS by,
                   greatest(w.due_at - make_interval(secs => (SELECT behind FROM step)), (SELECT now FROM step)) AS due_at
            FROM {{s}}.work AS w
            WHERE realm = %(realm)s AND worker IS NULL AND sent IS NULL AND due_at > (SELECT past FROM step)
              AND due_at <= coalesce((SELECT due_at FROM last), 'infinity') AND due_at < 'infinity'
            FOR UPDATE SKIP LOCKED
        ), sooner AS (
            UPDATE {{s}}.work AS w
            SET due_at = picked.due_at, shifted = CASE WHEN NOT parked THEN picked.due_at END,
                shifted_by = CASE WHEN NOT parked THEN by + extract(epoch FROM w.due_at - picked.due_at) END
            FROM picked
            WHERE w.saga_id = picked.saga_id AND w.lane = picked.lane
              AND (parked OR picked.at > (SELECT now FROM step) + make_interval(secs => by))
        )
        UPDATE {{s}}.relay
        SET past_due = (SELECT due_at FROM last), past_worker = CASE WHEN EXISTS (SELECT FROM last) THEN past_worker END,
            behind = CASE WHEN EXISTS (SELECT FROM last) THEN behind END
        WHERE realm = %(realm)s RETURNING behind IS NOT NULL
        """,
        {"realm": realm, "limit": limit},
    )
    return bool(rows[0][0])


def give_up(link: Link, realm: str) -> None:
    """Leave the times as they are that were not dealt with yet."""
    link.run(
        """
        UPDATE {s}.relay SET behind = NULL, ahead = NULL, past_worker = NULL, past_due = NULL WHERE realm = %(realm)s
        """,
        {"realm": realm},
    )


def read_lead(link: Link) -> float:
    """Seconds by which the newest entry of the sagas started last, or under way, is ahead of the clock; less than 0: it is behind."""
    rows = link.run(
        """
        SELECT coalesce(extract(epoch FROM max(e.at) - clock_timestamp()), 0)::float8
        FROM (
            (SELECT id FROM {s}.instance ORDER BY id DESC LIMIT 100)
            UNION
            (SELECT saga_id FROM {s}.work WHERE worker IS NOT NULL ORDER BY worker DESC LIMIT 100)
        ) AS one, LATERAL (
            SELECT at FROM {s}.log WHERE saga_id = one.id AND isfinite(at) ORDER BY seq DESC LIMIT 1
        ) AS e
        """,
        {},
    )
    return float(rows[0][0])
