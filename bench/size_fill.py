"""Fills a log with finished sagas: a few run for real, and SQL copies them under other ids, keys, tags and times."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg

from saga import Handle, Orchestrator

NAMES = ("place_order", "ship_parcel", "sign_up", "refund_order", "close_account")
_BATCH = 10_000
_ENDINGS = ("completed", "compensated", "stuck", "running")

Connection = psycopg.Connection[tuple[Any, ...]]


def run_patterns(orchestrator: Orchestrator, wait: Callable[[Callable[[], bool]], None]) -> dict[str, list[Handle]]:
    """One saga of each name and ending, run by whatever worker there is; a running one waits for a day that is far off."""
    patterns = {ending: [_pattern(orchestrator, name, ending) for name in NAMES] for ending in _ENDINGS}
    wait(lambda: all(handle.status == ending for ending, handles in patterns.items() for handle in handles))
    return patterns


def _pattern(orchestrator: Orchestrator, name: str, ending: str) -> Handle:
    delay = timedelta(days=3650) if ending == "running" else None
    ends = "completed" if ending == "running" else ending
    return orchestrator.start(
        name, {"order": 1, "sku": "A-1001", "email": "ann@example.org", "ending": ends},
        key=f"pattern-{name}-{ending}", tags={"customer": 0, "country": "nowhere"}, delay=delay,
    )  # fmt: skip


def _aged(saga_id: UUID) -> UUID:
    return UUID(int=saga_id.int & ((1 << 96) - 1))


def _age_patterns(connection: Connection) -> None:
    """Give the patterns the lowest ids there are: to the right of all others they would spoil the indexes."""
    for table, column in (("instance", "id"), ("log", "saga_id"), ("work", "saga_id")):
        connection.execute(
            f"UPDATE saga.{table} SET {column} = overlay({column}::text PLACING '00000000' FROM 1)::uuid".encode()
        )


_PREPARE = """
    CREATE TEMPORARY TABLE pattern (ending text, place int, id uuid, PRIMARY KEY (ending, place));
    CREATE TEMPORARY TABLE batch (
        number int, id uuid, started_at timestamptz, ending text, place int, pattern uuid, tags jsonb)
"""

# Of a thousand sagas 3 are stuck and 25 compensated, spread evenly by a multiplication that mixes; the rarest name is
# that of one in a thousand. Ids are of version 7, from the time of the start.
_CHOOSE = """
    TRUNCATE batch;
    INSERT INTO batch
    WITH chosen AS (
        SELECT number, %(start)s::timestamptz + number * %(apart)s::interval AS started_at, mix, md5(number::text) AS random,
               CASE WHEN %(sagas)s - number < %(running)s THEN 'running'
                    WHEN mix < 3 THEN 'stuck' WHEN mix < 28 THEN 'compensated' ELSE 'completed' END AS ending,
               CASE WHEN name < 500 THEN 1 WHEN name < 750 THEN 2 WHEN name < 900 THEN 3
                    WHEN name < 999 OR mix < 28 THEN 4 ELSE 5 END AS place
        FROM (SELECT number, (number::bigint * 7919 %% 1000) AS mix, (number::bigint * 104729 / 1000 %% 1000) AS name
              FROM generate_series(%(first)s::int, %(last)s::int) AS number) AS mixed
    )
    SELECT number, (lpad(to_hex((extract(epoch FROM started_at) * 1000)::bigint), 12, '0')
                    || '7' || substr(random, 1, 3) || '8' || substr(random, 4, 15))::uuid,
           started_at, ending, place, pattern.id,
           CASE WHEN number %% 2 = 0 THEN jsonb_build_object(
               'customer', number::bigint * 31337 %% 50000,
               'country', (ARRAY['de', 'de', 'de', 'de', 'fr', 'fr', 'nl', 'es', 'it', 'pl'])[number / 2 %% 10 + 1]) END
    FROM chosen JOIN pattern USING (ending, place) ORDER BY number
"""
_COPY = (
    """
    INSERT INTO {s}.instance (id, name, fingerprint, key, status, reason, tags, input_hash, started_at, updated_at, finished_at)
    SELECT b.id, i.name, i.fingerprint, 'order-' || b.number, i.status, i.reason, b.tags, i.input_hash, b.started_at,
           b.started_at + (i.updated_at - i.started_at), b.started_at + (i.finished_at - i.started_at)
    FROM batch AS b JOIN {s}.instance AS i ON i.id = b.pattern ORDER BY b.number
    """,
    """
    INSERT INTO {s}.log (saga_id, seq, kind, lane, step, attempt, data, worker, at, format)
    SELECT b.id, l.seq, l.kind, l.lane, l.step, l.attempt, l.data, l.worker, b.started_at + (l.at - i.started_at), l.format
    FROM batch AS b JOIN {s}.instance AS i ON i.id = b.pattern JOIN {s}.log AS l ON l.saga_id = i.id ORDER BY b.number, l.seq
    """,
    """
    INSERT INTO {s}.work (saga_id, lane, step, attempt, undo, fingerprint, queue, priority, due_at, watch, sent, dispatches)
    SELECT b.id, w.lane, w.step, w.attempt, w.undo, w.fingerprint, w.queue, w.priority, w.due_at, w.watch, w.sent, w.dispatches
    FROM batch AS b JOIN {s}.work AS w ON w.saga_id = b.pattern
    """,
)


def fill(connection: Connection, patterns: dict[str, list[Handle]], sagas: int, running: int) -> Iterator[int]:
    """Insert so many sagas, started evenly over the last thirty days; yields how many there are.

    The tables are frozen and analyzed at the end, as autovacuum would have done by then.
    """
    connection.execute(_PREPARE)
    _age_patterns(connection)
    with connection.cursor() as cursor:
        rows = [
            (ending, place, _aged(handle.id))
            for ending, found in patterns.items()
            for place, handle in enumerate(found, 1)
        ]
        cursor.executemany("INSERT INTO pattern VALUES (%s, %s, %s)", rows)
    (start,) = connection.execute("SELECT clock_timestamp() - interval '30 days'").fetchone() or ()
    given = {"start": start, "apart": timedelta(days=30) / sagas, "sagas": sagas, "running": running}
    connection.execute("VACUUM saga.instance, saga.log, saga.work")  # else the patterns' old entries stay to the right
    for first in range(1, sagas + 1, _BATCH):
        last = min(first + _BATCH - 1, sagas)
        connection.execute(_CHOOSE.split(";")[0].encode())
        connection.execute(_CHOOSE.split(";")[1].encode(), {**given, "first": first, "last": last})
        for statement in _COPY:
            connection.execute(statement.replace("{s}", "saga").encode())
        yield last
    connection.execute("VACUUM (FREEZE, ANALYZE) saga.instance, saga.log, saga.work")
