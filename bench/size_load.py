"""Runs many sagas, and samples what they do to the memory of the workers and to the tables."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import psycopg

from saga import Handle, Orchestrator, Status
from saga.dev import Worker

IN_FLIGHT = 400
PATIENCE = 120.0
_TABLES = ("work", "instance", "log")

Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Table:
    """How a table has fared.

    Attributes:
        heap, indexes: bytes on disk.
        dead: dead rows, as the statistics have them.
        updates, hot: rows updated, and how many of them in place.
        vacuums: how often autovacuum came.
    """

    heap: int
    indexes: int
    dead: int
    updates: int
    hot: int
    vacuums: int


@dataclass(frozen=True, slots=True)
class Sample:
    """Where things stand after so many sagas.

    Attributes:
        memory: resident and unshared bytes of each pool process.
        cpu: seconds that the pool processes have used.
        wal: bytes of write-ahead log that the server has written.
    """

    sagas: int
    seconds: float
    memory: dict[int, tuple[int, int]]
    cpu: float
    wal: int
    tables: dict[str, Table]

    def row(self) -> dict[str, Any]:
        """It as JSON."""
        return asdict(self)


def run(orchestrator: Orchestrator, name: str, sagas: int, prefix: str) -> float:
    """Start so many, never more than a few hundred ahead of the workers, and wait for all; returns the seconds."""
    began = time.perf_counter()
    flying: deque[Handle] = deque()
    for number in range(sagas):
        flying.append(_start(orchestrator, name, number, prefix))
        if len(flying) >= IN_FLIGHT:
            _await(flying.popleft())
    for handle in flying:
        _await(handle)
    return time.perf_counter() - began


def _start(orchestrator: Orchestrator, name: str, number: int, prefix: str) -> Handle:
    if name == "four_steps":
        return orchestrator.start(name, {})
    given = {"order": number, "sku": "A-1001", "email": "ann@example.org"}
    tags = {"customer": number * 31337 % 50000, "country": "de"} if number % 2 else None
    return orchestrator.start(name, given, key=f"{prefix}-{number}", tags=tags)


def _await(handle: Handle) -> None:
    limit = time.monotonic() + PATIENCE
    while handle.status == Status.RUNNING:
        if time.monotonic() > limit:
            raise SystemExit(f"saga {handle.id} was not done after {PATIENCE:g} s")
        time.sleep(0.005)


def sustain(
    orchestrator: Orchestrator, connection: Connection, worker: Worker, sagas: int, every: int, prefix: str
) -> Iterator[Sample]:
    """Run so many, and take a sample before the first and after each few thousand."""
    seconds = 0.0
    yield _sample(connection, worker, 0, 0.0)
    for done in range(every, sagas + 1, every):
        seconds += run(orchestrator, "place_order", every, f"{prefix}-{done}")
        yield _sample(connection, worker, done, seconds)


def _sample(connection: Connection, worker: Worker, sagas: int, seconds: float) -> Sample:
    found = [(child.pid, child.memory_full_info(), child.cpu_times()) for child in worker.children()]
    memory = {pid: (info.rss, info.uss) for pid, info, _ in found}
    cpu = sum(times.user + times.system for *_, times in found)
    (wal,) = connection.execute("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint").fetchone() or ()
    return Sample(sagas, seconds, memory, cpu, wal, {name: read_table(connection, name) for name in _TABLES})


def read_table(connection: Connection, name: str) -> Table:
    """What the statistics say of a table of the log."""
    row = connection.execute(
        """
        SELECT pg_table_size(relid), pg_indexes_size(relid), n_dead_tup, n_tup_upd, n_tup_hot_upd, autovacuum_count
        FROM pg_stat_user_tables WHERE schemaname = 'saga' AND relname = %s
        """,
        (name,),
    ).fetchone()
    assert row is not None
    return Table(*row)
