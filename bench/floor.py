"""Floor: the writes that any log of sagas needs, one connection, one commit each, and nothing around them.

A saga of n steps takes n + 2 statements: open it, claim its first step, record each step together with the start of
the next one, and record the last one together with the end. What is missing is all that makes them safe and useful:
the decisions, the checks, the messages, the workers. It is as fast as one process on this Postgres could be.
"""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import psycopg

SCHEMA = "floor_bench"
NAMES = tuple(f"{SCHEMA}.{table}" for table in ("instance", "log", "work"))

TABLES = f"""
CREATE SCHEMA {SCHEMA};
CREATE TABLE {SCHEMA}.instance (
    id uuid PRIMARY KEY, name text NOT NULL, status text NOT NULL, started_at timestamptz NOT NULL,
    finished_at timestamptz);
CREATE INDEX ON {SCHEMA}.instance (status, id) WHERE status <> 'completed';
CREATE TABLE {SCHEMA}.log (
    saga_id uuid, seq integer, kind text NOT NULL, step text, data jsonb NOT NULL, at timestamptz NOT NULL,
    PRIMARY KEY (saga_id, seq));
CREATE TABLE {SCHEMA}.work (
    saga_id uuid, lane text, step text NOT NULL, due_at timestamptz NOT NULL, worker integer,
    PRIMARY KEY (saga_id, lane)) WITH (fillfactor = 60);
CREATE INDEX ON {SCHEMA}.work (due_at) WHERE worker IS NOT NULL;
"""

OPEN = f"""
WITH new AS (INSERT INTO {SCHEMA}.instance VALUES (%(id)s, 'floor', 'running', clock_timestamp(), NULL)),
opened AS (INSERT INTO {SCHEMA}.log VALUES (%(id)s, 1, 'saga_started', NULL, '{{}}', clock_timestamp()))
INSERT INTO {SCHEMA}.work VALUES (%(id)s, 'main', 'step_1', clock_timestamp(), NULL)
"""
CLAIM = f"""
WITH won AS (INSERT INTO {SCHEMA}.log VALUES (%(id)s, 2, 'step_started', 'step_1', '{{}}', clock_timestamp()))
UPDATE {SCHEMA}.work SET worker = 1, due_at = clock_timestamp() + interval '5 minutes' WHERE saga_id = %(id)s
"""
STEP = f"""
WITH won AS (
    INSERT INTO {SCHEMA}.log VALUES
        (%(id)s, %(seq)s, 'step_succeeded', %(step)s, '{{"result": null}}', clock_timestamp()),
        (%(id)s, %(seq)s + 1, 'step_started', %(next)s, '{{}}', clock_timestamp()))
UPDATE {SCHEMA}.work SET step = %(next)s, due_at = clock_timestamp() + interval '5 minutes' WHERE saga_id = %(id)s
"""
END = f"""
WITH won AS (
    INSERT INTO {SCHEMA}.log VALUES
        (%(id)s, %(seq)s, 'step_succeeded', %(step)s, '{{"result": null}}', clock_timestamp()),
        (%(id)s, %(seq)s + 1, 'saga_completed', NULL, '{{}}', clock_timestamp())),
removed AS (DELETE FROM {SCHEMA}.work WHERE saga_id = %(id)s)
UPDATE {SCHEMA}.instance SET status = 'completed', finished_at = clock_timestamp() WHERE id = %(id)s
"""


def create(connection: psycopg.Connection[Any]) -> None:
    """Make the tables."""
    connection.execute(TABLES.encode())


def write(connection: psycopg.Connection[Any], steps: int) -> None:
    """All the writes of one saga."""
    saga = uuid4()
    connection.execute(OPEN.encode(), {"id": saga})
    connection.execute(CLAIM.encode(), {"id": saga})
    for number in range(1, steps):
        params = {"id": saga, "seq": 2 * number + 1, "step": f"step_{number}", "next": f"step_{number + 1}"}
        connection.execute(STEP.encode(), params)
    connection.execute(END.encode(), {"id": saga, "seq": 2 * steps + 1, "step": f"step_{steps}"})
