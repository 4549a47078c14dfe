"""Audit: everything that is wrong after a run, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace

from sqlalchemy import Connection, Engine, text

from examples.shop import audit as shop
from examples.shop.audit import Books
from examples.shop.purchases import Order
from saga import Orchestrator, Status
from saga.ops import audit as logs

from .trace import Attempt

TWICE = text("""
    SELECT saga_id::text, step, kind = 'compensation_started', attempt FROM saga.log
    WHERE kind IN ('step_started', 'compensation_started')
    GROUP BY saga_id, step, kind, attempt HAVING count(*) > 1
""")
AFTER_SUCCESS = text("""
    SELECT begun.saga_id::text, begun.step, begun.kind = 'compensation_started', begun.attempt
    FROM saga.log AS done JOIN saga.log AS begun USING (saga_id, step)
    WHERE begun.seq > done.seq AND (done.kind, begun.kind) IN
          (('step_succeeded', 'step_started'), ('compensation_succeeded', 'compensation_started'))
""")
WHILE_OPEN = text("""
    SELECT saga_id::text, step, undo, attempt
    FROM (
        SELECT *, lag(kind) OVER (PARTITION BY saga_id, step, undo ORDER BY seq) AS before
        FROM (
            SELECT *, kind LIKE 'compensation%' OR coalesce((data ->> 'undo')::boolean, FALSE) AS undo
            FROM saga.log WHERE attempt IS NOT NULL AND kind <> 'late_result'
        ) AS told
    ) AS ordered
    WHERE kind LIKE '%\\_started' AND before LIKE '%\\_started'
""")


def audit(
    database: Engine,
    orchestrator: Orchestrator,
    orders: Sequence[Order],
    ran: Iterable[Attempt],
    started: Collection[Attempt],
) -> list[str]:
    """Everything that is wrong.

    Args:
        orders: those whose start was confirmed.
        ran: the attempts that really ran, by the trace.
        started: those that the log calls started.
    """
    with database.connect() as connection:
        return [
            *shop.check(without_stuck(shop.read(connection, orders))),
            *check_attempts(connection),
            *check_trace(ran, started),
            *check_logs(orchestrator),
        ]


def without_stuck(books: Books) -> Books:
    """The books without the orders whose sagas wait for an operator: of these, nothing can be expected yet."""
    stuck = {number for number, status in books.statuses.items() if status == Status.STUCK}
    return replace(
        books,
        orders=[order for order in books.orders if order.number not in stuck],
        ledgers={name: [row for row in rows if row.number not in stuck] for name, rows in books.ledgers.items()},
        confirmed=[number for number in books.confirmed if number not in stuck],
    )


def check_attempts(connection: Connection) -> Iterator[str]:
    """By the log, one attempt of a step is open at a time, and none is made of what was done."""
    for statement, problem in (
        (TWICE, "it was started twice"),
        (AFTER_SUCCESS, "it was started after a success"),
        (WHILE_OPEN, "it was started while another one was open"),
    ):
        for row in connection.execute(statement).tuples():
            yield f"{Attempt(*row)}: {problem}"


def check_trace(ran: Iterable[Attempt], started: Collection[Attempt]) -> Iterator[str]:
    """What really ran is what the log calls started, each once."""
    for attempt, times in Counter(ran).items():
        if times > 1:
            yield f"{attempt}: it ran {times} times"
        if attempt not in started:
            yield f"{attempt}: it ran, but the log does not know of it"


def check_logs(orchestrator: Orchestrator) -> Iterator[str]:
    """The log of every saga can be replayed, and comes to what the saga's row says."""
    for verdict in logs.rebuild(orchestrator.engine):
        header = verdict.header
        if verdict.problem:
            yield f"saga {header.id}: {verdict.problem}"
        if verdict.changed:
            yield f"saga {header.id}: its row says {header.status} ({header.reason}), but its log says otherwise"
