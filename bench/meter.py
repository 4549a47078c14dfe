"""Meter: what a run costs: processor time of each part, and what Postgres had to do."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psutil
import psycopg

from .servers import COUNTING, Servers


@dataclass(frozen=True, slots=True)
class Reading:
    """The counters at one moment; or, of a difference, what was spent.

    Attributes:
        cpu: seconds, by part; a part that we did not start is missing.
        statements: `None` where Postgres does not count them.
        commits: of transactions that wrote something.
        wal: bytes.
    """

    cpu: Mapping[str, float]
    statements: float | None
    commits: float
    wal: float

    def since(self, before: Reading, runs: int) -> Reading:
        """What was spent since then by one of so many runs."""
        cpu = {part: max(0.0, spent - before.cpu.get(part, spent)) / runs for part, spent in self.cpu.items()}
        statements = None
        if self.statements is not None and before.statements is not None:
            statements = (self.statements - before.statements) / runs
        return Reading(cpu, statements, (self.commits - before.commits) / runs, (self.wal - before.wal) / runs)


def read(servers: Servers) -> Reading:
    """The counters now, without what was asked to watch the run."""
    # Transaction ids, not pg_stat_database: that is up to ten seconds late.
    commits, wal = servers.ask(
        "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint, pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')"
    )
    cpu = {part: processor_time(processes()) for part, processes in servers.children.items()}
    return Reading(cpu | {"client": time.process_time()}, statements(servers), float(commits), float(wal))


def statements(servers: Servers) -> float | None:
    """How many statements the database has run for others than us."""
    asked = servers.asked
    try:
        row: Any = servers.ask(
            f"SELECT sum(calls) FROM {COUNTING} "
            "WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
    except psycopg.Error:
        return None
    return float(row[0]) - asked if row and row[0] is not None else None


def processor_time(processes: Iterable[psutil.Process]) -> float:
    """Seconds that these, and their children that have ended, have spent."""
    total = 0.0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


# --- what is kept -----------------------------------------------------------------------------------------------------


def empty(servers: Servers, tables: Sequence[str]) -> None:
    """Take all rows out, so that room which an earlier workload has left is not used again."""
    if present := [table for table in tables if exists(servers, table)]:
        servers.observer.execute(f"TRUNCATE {', '.join(present)} CASCADE".encode())


def stored_bytes(servers: Servers, tables: Sequence[str]) -> int:
    """The size of tables with their indexes, without empty room at their ends."""
    total = 0
    for table in tables:
        if exists(servers, table):
            servers.observer.execute(f"VACUUM {table}".encode())
            (size,) = servers.ask("SELECT pg_total_relation_size(%(table)s)", {"table": table})
            total += size
    return total


def exists(servers: Servers, table: str) -> bool:
    """Whether there is such a table: DBOS makes its own when it starts."""
    return bool(servers.ask("SELECT to_regclass(%(table)s) IS NOT NULL", {"table": table})[0])


def log_bytes(servers: Servers, schema: str) -> float | None:
    """The bytes of the entries of one saga, on average."""
    size, sagas = servers.ask(f"SELECT sum(pg_column_size(l.*)), count(DISTINCT l.saga_id) FROM {schema}.log AS l")
    return float(size) / sagas if sagas else None
