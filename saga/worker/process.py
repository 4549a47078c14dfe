"""Worker: what a process that runs steps holds: its number, its executor, its relay and its upkeep."""

from __future__ import annotations

import mmap
import os
import signal
import threading
import time
from typing import Any
from uuid import UUID

from celery import Celery

from saga.config import Settings
from saga.engine.engine import Engine
from saga.relay import Relay
from saga.store.postgres.database import Database
from saga.store.postgres.errors import UNREACHABLE
from saga.telemetry.facts.attempts import ProcessOverdue, ThreadOverdue
from saga.telemetry.facts.lanes import LanesFreed
from saga.telemetry.facts.upkeep import ReliefFailed, UpkeepCutOff, UpkeepFailed
from saga.telemetry.stream import emit
from saga.telemetry.thread import start_thread
from saga.worker.claimer import Claimer
from saga.worker.executor import Executor
from saga.worker.lifetime import Lifetime
from saga.worker.liveness import Liveness
from saga.worker.membership import Membership
from saga.worker.pace import Averages
from saga.worker.recorder import Recorder

_RELIEF_EVERY = 0.2
"""Seconds between two looks for what waits for a long attempt."""


class Shutdown:
    """Whether the worker is shutting down, told to every process of its pool: one byte, shared over the fork."""

    def __init__(self) -> None:
        self._flag = mmap.mmap(-1, 1)

    def begin(self) -> None:
        """Say so."""
        self._flag[0] = 1

    def reset(self) -> None:
        """Take it back, for a worker that starts in a process in which another one has ended."""
        self._flag[0] = 0

    def __call__(self) -> bool:
        return self._flag[0] == 1


class Worker:
    """One process that runs steps. Make it after the fork.

    Args:
        shutdown: tells when no attempt may be begun any more.
        kills_itself: a step that holds the process past its timeout makes it end, for its pool to replace.
        averages: what the processes of its pool know about the time that attempts take.
        lifetime: that of the processes of its pool.
        node: the name of its Celery worker.
    """

    def __init__(
        self, app: Celery, engine: Engine, database: Database, settings: Settings, publish: Any, shutdown: Shutdown, *, kills_itself: bool,
        averages: Averages | None = None, lifetime: Lifetime | None = None, node: str | None = None,
    ) -> None:  # fmt: skip
        self.pid = os.getpid()
        self._engine = engine
        self._database = database
        self._settings = settings
        self._shutdown = shutdown
        self._kills_itself = kills_itself
        self._publish = publish
        self._liveness = Liveness(database, settings)
        self.recorder = Recorder(engine, self._liveness.worker, settings.inline_wait, settings.redact)
        self.executor = Executor(app, Claimer(self.recorder), settings, shutdown, averages, lifetime)
        self._membership = Membership(
            app, database, engine.catalog, self._liveness, publish, relays=settings.relay, node=node
        )
        self._stopping = threading.Event()
        self._unrun: set[UUID] = set()
        self._reported: set[UUID] = set()

    def start(self) -> None:
        """Start the relay, the upkeep and the relief, each in a thread; waits for nothing."""
        start_thread("saga-upkeep", self._keep_up)
        start_thread("saga-relief", self._relieve)
        if self._settings.relay:
            relay = Relay(
                self._engine.store, self._publish, interval=self._settings.relay_interval,
                batch=self._settings.relay_batch, grace=self._settings.failover_grace,
            )  # fmt: skip
            start_thread("saga-relay", relay.run, (self._stopping,))

    def stop(self) -> None:
        """Stop the threads and let the liveness lock go."""
        self._stopping.set()
        self._membership.leave()
        self._liveness.stop()

    def _keep_up(self) -> None:
        while True:
            for care in (self._end_overdue, self._take_part, self._free_unrun):
                try:
                    care()
                except UNREACHABLE as error:
                    emit(UpkeepCutOff(error))
                except Exception as error:
                    emit(UpkeepFailed(error))
            if self._stopping.wait(self._settings.relay_interval):
                return

    def _take_part(self) -> None:
        """Let the other workers know of this one."""
        self._membership.look(idle=not self.recorder.running)

    def _relieve(self) -> None:
        # Apart from the upkeep, which has to see overdue steps also while the database is away.
        while not self._stopping.wait(_RELIEF_EVERY):
            try:
                self.executor.relieve()
            except Exception as error:
                emit(ReliefFailed(error))

    def _free_unrun(self) -> None:
        """Give back what this process owns but does not run, seen twice: the reply to its claim was lost."""
        worker = self._liveness.number
        if worker is None:
            return
        store = self._engine.store
        unrun = {token for token in store.owned(worker) if token not in self.recorder.running}
        again = unrun & self._unrun
        self._unrun = unrun - again
        if again:
            emit(LanesFreed(worker, len(again)))
            self._publish(store.give_back(worker, list(again)))

    def _end_overdue(self) -> None:
        """A timeout ends the attempt in the log, but only the end of the process frees its slot."""
        now = time.monotonic()
        for token, attempt in list(self.recorder.running.items()):
            if (
                attempt is None
                or attempt.over
                or attempt.held is not None
                or now < attempt.began + attempt.job.timeout + self._settings.kill_grace
            ):
                continue
            if self._kills_itself:
                emit(ProcessOverdue(attempt.name, self._settings.kill_grace))
                os.kill(os.getpid(), signal.SIGKILL)
            elif token not in self._reported:
                self._reported.add(token)
                emit(ThreadOverdue(attempt.name))
