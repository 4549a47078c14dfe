"""Census: which worker number a process has: the one whose liveness lock is held on a connection of that process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

import psutil
from sqlalchemy import Engine, text

from saga.store.postgres.fleet import lock_class

HOLDERS = text("""
    SELECT activity.client_port, locks.objid::integer
    FROM pg_locks AS locks JOIN pg_stat_activity AS activity USING (pid)
    WHERE locks.locktype = 'advisory' AND locks.classid = CAST(:lock_class AS bigint)::oid AND locks.objsubid = 2
      AND activity.client_port > 0
""")


class Count(NamedTuple):
    """The numbers that some processes have, at a moment by the database's clock."""

    at: datetime
    workers: frozenset[int]


class Census:
    """Knows a process by its number also while its connection is broken, if it was counted before that."""

    def __init__(self, database: Engine) -> None:
        self._database = database
        self._numbers: dict[psutil.Process, int] = {}

    def count(self, processes: Iterable[psutil.Process]) -> Count:
        """The worker numbers of these processes, those that have one.

        Raises:
            DBAPIError: the database does not answer.
        """
        ports = {process: _local_ports(process) for process in processes}
        with self._database.connect() as connection:
            holders: dict[int, int] = dict(
                connection.execute(HOLDERS, {"lock_class": lock_class("saga")}).tuples().all()
            )
            for process, mine in ports.items():
                for port in mine & holders.keys():
                    self._numbers[process] = holders[port]
            at = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
        return Count(at, frozenset(self._numbers[process] for process in ports if process in self._numbers))


def _local_ports(process: psutil.Process) -> set[int]:
    with contextlib.suppress(psutil.Error):
        return {each.laddr.port for each in process.net_connections("tcp") if each.laddr}
    return set()
