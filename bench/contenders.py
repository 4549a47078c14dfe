"""Contenders: who is measured: how each starts its runs, and how it is seen that they have ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol
from uuid import uuid4

from celery.canvas import Signature
from celery.result import AsyncResult

from saga import Saga

from . import app as bench
from . import dbos_peer, floor
from .servers import Servers, connect

PATIENCE = 120.0
LOOK_EVERY = 0.01
"""Seconds between two looks whether all runs have ended: the same for all."""
LOOK_CLOSELY = 0.001
"""The same where runs are measured one by one."""


class Unavailable(Exception):
    """The contender cannot take part; the text says why."""


class RunFailed(Exception):
    """Runs did not end, or not as they should; the text says how many."""


class Contender(Protocol):
    """Who is measured."""

    @property
    def tables(self) -> Sequence[str]:
        """Where it keeps its runs, if that is in Postgres."""

    def check(self) -> None:
        """Raises:
        Unavailable: it cannot take part.
        """

    def run(self, servers: Servers, runs: int) -> list[float]:
        """Do so many runs; seconds from the first start to the last end, or of each run.

        Raises:
            RunFailed: they did not all end.
        """

    def settle(self, servers: Servers) -> None:
        """What is left to do after a measurement, and is not measured.

        Raises:
            RunFailed: runs did not end as they should.
        """


def timed(start: Callable[[], object], has_ended: Callable[[], bool]) -> list[float]:
    """Seconds from the first start to the last end."""
    began = time.perf_counter()
    start()
    wait_until(has_ended)
    return [time.perf_counter() - began]


def wait_until(question: Callable[[], bool], interval: float = LOOK_EVERY) -> None:
    """Ask until it is so.

    Raises:
        RunFailed: it took too long.
    """
    limit = time.monotonic() + PATIENCE
    while not question():
        if time.monotonic() > limit:
            raise RunFailed(f"the runs had not all ended after {PATIENCE:g} s")
        time.sleep(interval)


class Present:
    """Something that needs nothing else to be installed, has no tables, and leaves nothing behind."""

    tables: Sequence[str] = ()

    def check(self) -> None:
        pass

    def settle(self, servers: Servers) -> None:
        pass


# --- sagas ------------------------------------------------------------------------------------------------------------

OPEN = f"SELECT EXISTS (SELECT FROM {bench.SCHEMA}.instance WHERE status IN ('running', 'compensating'))"
STATUS = f"SELECT status FROM {bench.SCHEMA}.instance WHERE id = %(id)s"
KEPT = f"SELECT status FROM {bench.SCHEMA}.celery_taskmeta WHERE task_id = %(id)s"
AMISS = f"SELECT count(*) FROM {bench.SCHEMA}.instance WHERE name = %(name)s AND status <> %(end)s"


@dataclass(frozen=True)
class Sagas(Present):
    """Sagas of this project.

    Attributes:
        together: start them with `start_many`.
        end: the status in which they should end.
    """

    saga: Saga
    together: bool = False
    end: str = "completed"
    tables: Sequence[str] = tuple(f"{bench.SCHEMA}.{table}" for table in ("instance", "log", "work"))

    def run(self, servers: Servers, runs: int) -> list[float]:
        return timed(lambda: self._start(runs), lambda: servers.ask(OPEN) == (False,))

    def _start(self, runs: int) -> None:
        if self.together:
            bench.orchestrator.start_many(self.saga, [{}] * runs)
            return
        for _ in range(runs):
            bench.orchestrator.start(self.saga, {})

    def settle(self, servers: Servers) -> None:
        (amiss,) = servers.ask(AMISS, {"name": self.saga.name, "end": self.end})
        if amiss:
            raise RunFailed(f"{amiss} sagas {self.saga.name} are not {self.end}")


@dataclass(frozen=True)
class SagasOneByOne(Sagas):
    """Each started when the one before has ended."""

    def run(self, servers: Servers, runs: int) -> list[float]:
        return [self._one(servers) for _ in range(runs)]

    def _one(self, servers: Servers) -> float:
        began = time.perf_counter()
        handle = bench.orchestrator.start(self.saga, {})
        wait_until(lambda: servers.ask(STATUS, {"id": handle.id}) == (self.end,), LOOK_CLOSELY)
        return time.perf_counter() - began


# --- Celery -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tasks(Present):
    """A task, a chain or a chord, the last task of which counts in Redis."""

    signature: Signature

    def run(self, servers: Servers, runs: int) -> list[float]:
        servers.store.delete(bench.DONE)
        return timed(lambda: self._start(runs), lambda: int(servers.store.get(bench.DONE) or 0) >= runs)

    def _start(self, runs: int) -> None:
        for _ in range(runs):
            self.signature.apply_async()

    def settle(self, servers: Servers) -> None:
        """Forget the results."""
        if keys := list(servers.store.scan_iter(f"{bench.RESULTS}*", count=1000)):
            servers.store.unlink(*keys)


@dataclass(frozen=True)
class TasksOneByOne(Tasks):
    """Each started when the result of the one before is in the result backend.

    Attributes:
        in_postgres: that backend is the Postgres that has the sagas, and is asked as it is asked about them.
    """

    in_postgres: bool = False

    def run(self, servers: Servers, runs: int) -> list[float]:
        return [self._one(servers) for _ in range(runs)]

    def _one(self, servers: Servers) -> float:
        began = time.perf_counter()
        # An id of its own: a chain that is used again gives its last task the same id again.
        result = self.signature.apply_async(task_id=str(uuid4()))
        wait_until(lambda: self._is_kept(servers, result), LOOK_CLOSELY)
        return time.perf_counter() - began

    def _is_kept(self, servers: Servers, result: AsyncResult) -> bool:
        if self.in_postgres:
            return bool(servers.ask(KEPT, {"id": result.id}) == ("SUCCESS",))
        return bool(result.state == "SUCCESS")

    def check(self) -> None:
        if self.in_postgres:
            bench.results().ResultSession().close()  # makes its tables


# --- peers ------------------------------------------------------------------------------------------------------------


CELERY_SAGA_KEYS = "celery_saga:"
"""What the names of its states begin with."""


@dataclass(frozen=True)
class CelerySaga(Present):
    """celery-saga, on the same workers.

    Attributes:
        saga: its name in `celery_saga_app`.
    """

    saga: str
    end: str = "completed"

    def check(self) -> None:
        if not find_spec("celery_saga"):
            raise Unavailable("celery-saga is not installed (the extra `bench`)")

    def run(self, servers: Servers, runs: int) -> list[float]:
        saga = getattr(import_module("bench.celery_saga_app"), self.saga)
        started: list[Any] = []
        ended = 0

        def has_ended() -> bool:
            # Each is asked until it has ended, then the next one: few questions, as for the others.
            nonlocal ended
            while ended < runs and started[ended].is_complete:
                ended += 1
            return ended == runs

        seconds = timed(lambda: started.extend(saga.run() for _ in range(runs)), has_ended)
        if amiss := sum(each.status != self.end for each in started):
            raise RunFailed(f"{amiss} sagas of celery-saga are not {self.end}")
        servers.store.unlink(*(f"{CELERY_SAGA_KEYS}{each.saga_id}" for each in started))
        return seconds


@dataclass(frozen=True)
class Dbos(Present):
    """DBOS, on the same Postgres.

    Attributes:
        workflow: its name in `dbos_app`.
    """

    workflow: str
    tables: Sequence[str] = dbos_peer.TABLES

    def check(self) -> None:
        if not find_spec("dbos"):
            raise Unavailable("DBOS is not installed (the extra `bench`)")

    def run(self, servers: Servers, runs: int) -> list[float]:
        assert servers.dbos is not None
        return [servers.dbos.run(self.workflow, runs)]


@dataclass(frozen=True)
class Floor(Present):
    """The writes alone, see `floor`."""

    steps: int
    tables: Sequence[str] = floor.NAMES

    def run(self, servers: Servers, runs: int) -> list[float]:
        with connect(servers.database_url) as connection:
            began = time.perf_counter()
            for _ in range(runs):
                floor.write(connection, self.steps)
            return [time.perf_counter() - began]
