"""Records: what the log's tables tell about the run."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, text

from .flow import SAGA
from .recovery import Loss
from .trace import Attempt

STATUSES = text("SELECT status, count(*) FROM saga.instance WHERE name = :saga GROUP BY status")
STARTED = text("""
    SELECT saga_id::text, step, kind = 'compensation_started', attempt, worker FROM saga.log
    WHERE kind IN ('step_started', 'compensation_started')
""")
LOSSES = text("""
    SELECT lost.saga_id::text, lost.lane, lost.step, lost.worker, lost.at, next.at, coalesce(policy.wait, 0)
    FROM saga.log AS lost
    LEFT JOIN LATERAL (
        SELECT seq, at FROM saga.log
        WHERE saga_id = lost.saga_id AND lane = lost.lane AND seq > lost.seq
          AND kind IN ('step_started', 'compensation_started')
        ORDER BY seq LIMIT 1
    ) AS next ON TRUE
    LEFT JOIN LATERAL (
        SELECT max((data ->> 'wait')::float8) AS wait FROM saga.log
        WHERE saga_id = lost.saga_id AND lane = lost.lane AND seq > lost.seq AND seq < next.seq
          AND kind IN ('step_failed', 'compensation_failed')
    ) AS policy ON TRUE
    WHERE lost.kind = 'attempt_lost'
    ORDER BY lost.at
""")


@dataclass(frozen=True)
class Records:
    """What the tables tell.

    Attributes:
        statuses: how many sagas there are of each status.
        started: every attempt, and the worker that began it.
        losses: every lost attempt.
    """

    statuses: dict[str, int]
    started: dict[Attempt, int]
    losses: list[Loss]


def read(connection: Connection) -> Records:
    """Read it all; some hundred thousand rows of a long run."""
    return Records(
        statuses=dict(connection.execute(STATUSES, {"saga": SAGA}).tuples().all()),
        started={Attempt(*row): worker for *row, worker in connection.execute(STARTED).tuples()},
        losses=[Loss(*row) for row in connection.execute(LOSSES).tuples()],
    )
