"""Backlog: how long a look of the relay takes while millions of lanes wait.

    python -m bench.backlog --lanes 4000000

It fills a database of its own on the embedded Postgres, once for each state that a backlog may be in, and looks. A look
may do something about as many lanes as it is set to (``saga_relay_batch``); what it may not do is read all the others.
Exits with 1 where the median look takes 50 ms or more.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence

import psycopg

from saga import schema
from saga.config import Settings
from saga.dev import Stack
from saga.relay import Relay
from saga.store.postgres.database import Database
from saga.store.postgres.store import PostgresStore

GOAL = 0.05
"""Seconds."""

STATES = {
    "sent and unclaimed": "now() - interval '1 h', NULL::integer, NULL::uuid, now() - interval '1 h'",
    "due later": "NULL::timestamptz, NULL, NULL, now() + interval '1 day'",
    "claimed": "NULL::timestamptz, number %% 16, gen_random_uuid(), now() + interval '1 day'",
}
"""What a backlog may be in: sent, worker, token and due_at of its lanes."""

FILL = """
    INSERT INTO saga.work (saga_id, lane, step, attempt, undo, fingerprint, queue, priority, realm, dispatches, sent, worker, token, due_at)
    SELECT gen_random_uuid(), 'main', 'step', 1, false, 'none', 'queue-' || number %% 4, number %% 3, 'backlog', 1 + number %% 3, {state}
    FROM generate_series(1, %s) AS number
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Fill, look and tell; 1 where a look takes too long."""
    parser = argparse.ArgumentParser(prog="python -m bench.backlog", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--lanes", type=int, default=1_000_000)
    parser.add_argument("--looks", type=int, default=20)
    given = parser.parse_args(arguments)
    slow = False
    with Stack() as stack:
        for number, state in enumerate(STATES):
            looks = measure(stack.postgres.create_database(f"backlog_{number}"), state, given.lanes, given.looks)
            middle, worst = statistics.median(looks), max(looks)
            slow |= middle >= GOAL
            print(f"{given.lanes:,} lanes {state}: a look takes {middle * 1000:.1f} ms, at most {worst * 1000:.1f} ms")
    return int(slow)


def measure(url: str, state: str, lanes: int, looks: int) -> list[float]:
    """Seconds that looks take while so many lanes are in a state."""
    database = Database(Settings.load({}, database_url=url, realm="backlog"))
    schema.upgrade(database)
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(FILL.format(state=STATES[state]).encode(), (lanes,))
        connection.execute("VACUUM ANALYZE saga.work")
        connection.execute("CHECKPOINT")
    relay = Relay(
        PostgresStore(database), lambda _: None, grace=3600
    )  # nobody is declared lost: their lanes are what is to wait
    for _ in range(3):
        relay.tick()
    taken = []
    for _ in range(looks):
        began = time.perf_counter()
        assert relay.tick()
        taken.append(time.perf_counter() - began)
    database.dispose()
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("TRUNCATE saga.work")  # gives the disk back
    return taken


if __name__ == "__main__":
    sys.exit(main())
