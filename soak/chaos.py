"""Chaos: carries out the plan, and remembers what it did and when, by the database's clock."""

from __future__ import annotations

import logging
import math
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

import psutil
from redis import Redis, RedisError
from sqlalchemy import Engine, TextClause, text
from sqlalchemy.exc import DBAPIError

from saga import Orchestrator, Status
from saga.dev import Stack, Worker, guard
from saga.errors import DatabaseNotReady, NotAllowed

from .census import Census
from .flow import SAGA
from .plan import Fault, Strike
from .recovery import Kill, Span

logger = logging.getLogger("soak")

QUEUE = "celery"
"""The broker's list that holds the messages."""
FEW = 5
"""Messages that are duplicated at a time, at most."""
LYING_IN_WAIT = 0.5
"""Seconds for which a strike on messages waits until there are some."""
GIVING_UP = 15.0
"""Seconds after a restart of the broker in which Celery's main processes end by themselves."""
RECONNECTING = 5.0
"""Seconds after a restart of the broker in which the workers may be without it: Celery waits two before it tries again."""
FREEZING = 5.0
"""Seconds within which processes stop."""
NOTICED = 1.0
"""Seconds within which every relay has noticed a broken connection, with which its own grace begins."""
NOW = text("SELECT clock_timestamp()")
SERVER_STARTED = text("SELECT pg_postmaster_start_time()")

MISSED = (DBAPIError, DatabaseNotReady, NotAllowed, RedisError, psutil.Error, TimeoutError, OSError)
"""What a strike may run into when the one before has hit as well: it missed, which is no problem."""


class Chaos:
    """Does harm to a stack.

    Args:
        workers: all of them; they are started again when they end.
        spared: of these, the one that is to live through all of it.
        grace: `saga_failover_grace`, in seconds.

    Attributes:
        done: how often each fault was injected.
        kills: what was killed, and when.
        graces: when no worker could be declared lost.
        hindrances: when the workers had no broker, or one of them, which may have had the relay's turn, stood still.
        ended: the main processes that ended by themselves after a restart of the broker, as Celery's do.
        problems: what nobody asked for, in words.
    """

    def __init__(
        self,
        stack: Stack,
        orchestrator: Orchestrator,
        database: Engine,
        workers: Sequence[Worker],
        spared: Worker,
        grace: float,
    ) -> None:
        self._stack = stack
        self._orchestrator = orchestrator
        self._database = database
        self._workers = workers
        self._spared = spared
        self._victims = [worker for worker in workers if worker is not spared]
        self._grace = grace
        self._census = Census(database)
        self._suspended: dict[Worker, datetime] = {}
        self._slept_through_restart = False
        self._broker_restarted = -math.inf
        self.done: Counter[Fault] = Counter()
        self.kills: list[Kill] = []
        self.graces: list[Span] = []
        self.hindrances: list[Span] = []
        self.ended: set[int] = set()
        self.problems: list[str] = []

    def run(self, plan: Sequence[Strike], stopping: threading.Event) -> None:
        """Strike after strike until the plan is carried out or we are told to stop; then undo what can be undone."""
        began = time.monotonic()
        self._note_grace(self._ask(SERVER_STARTED))
        try:
            for strike in plan:
                if stopping.wait(max(0.0, began + strike.at - time.monotonic())):
                    return
                self.keep_up()
                with suppress(*MISSED):
                    times = self._hits()[strike.fault](strike)
                    self.done[strike.fault] += times
                    logger.info("%s: %d", strike.fault, times)
        finally:
            with suppress(*MISSED):
                self._resume()
            self.keep_up()

    def _hits(self) -> dict[Fault, Callable[[Strike], int]]:
        return {
            Fault.KILL_PROCESS: self._kill_process,
            Fault.KILL_WORKER: self._kill_worker,
            Fault.KILL_ALL: lambda _: self._kill(self._victims),
            Fault.RESTART_FAST: lambda _: self._restart_postgres(Fault.RESTART_FAST),
            Fault.RESTART_IMMEDIATE: lambda _: self._restart_postgres(Fault.RESTART_IMMEDIATE),
            Fault.RESTART_BROKER: lambda _: self._restart_broker(),
            Fault.DUPLICATE: self._duplicate,
            Fault.DROP: self._drop,
            Fault.CANCEL: self._cancel,
            Fault.SUSPEND: self._suspend,
            Fault.RESUME: lambda _: self._resume(),
        }

    # --- workers ------------------------------------------------------------------------------------------------------

    def _kill_process(self, strike: Strike) -> int:
        # Celery gives a worker up that loses a process of its pool before it is ready.
        ready = [worker for worker in self._victims if worker.is_alive and worker.is_ready()]
        processes = [child for worker in ready for child in worker.children()]
        victim = strike.choose(processes)
        if victim is None:
            return 0
        guard.send([victim], signal.SIGSTOP)
        try:
            guard.wait_stopped([victim], FREEZING)
            self._note_kill([victim])
            guard.send([victim], signal.SIGKILL)
        finally:
            guard.send([victim], signal.SIGCONT)
        return 1

    def _kill_worker(self, strike: Strike) -> int:
        victim = strike.choose(self._victims)
        return self._kill([victim]) if victim else 0

    def _kill(self, workers: Sequence[Worker]) -> int:
        """SIGKILL whole families at once, and start them again; returns how often."""
        try:
            for worker in workers:
                worker.suspend()
            processes = [process for worker in workers for process in worker.family()]
            self._note_kill(processes)
            guard.send(processes, signal.SIGKILL)
            for worker in workers:
                worker.kill()
                worker.spawn()
                self._stood_still(worker)
        finally:
            for worker in workers:
                worker.resume()
        return 1

    def _note_kill(self, processes: Sequence[psutil.Process]) -> None:
        """Write down whom the next signal kills. They stand still, so nobody gets a number in between."""
        kill = Kill(*self._census.count(processes))
        logger.info("to be killed: workers %s", sorted(kill.workers))
        self.kills.append(kill)

    def _suspend(self, strike: Strike) -> int:
        victim = strike.choose([worker for worker in self._workers if worker not in self._suspended])
        if victim is None:
            return 0
        self._suspended[victim] = self._ask(NOW)
        victim.suspend()
        return 1

    def _resume(self) -> int:
        resumed = list(self._suspended)
        for worker in resumed:
            worker.resume()
            self._stood_still(worker)
        if resumed and self._slept_through_restart:
            # Only now they see that their connections are broken, and count their grace from here.
            self._slept_through_restart = False
            self._note_grace(self._ask(NOW))
        return 0

    def _stood_still(self, worker: Worker) -> None:
        began = self._suspended.pop(worker, None)
        if began is not None:
            self.hindrances.append(Span(began, self._ask(NOW)))

    def keep_up(self) -> None:
        """Start the workers again that ended by themselves."""
        for worker in self._workers:
            if worker.is_alive:
                continue
            self.ended.add(worker.pid)
            # With messages in hand when the broker goes away, Celery's main process comes to an unrecoverable error.
            if time.monotonic() > self._broker_restarted + GIVING_UP:
                self.problems.append(f"{worker.hostname} ended with code {worker.returncode}: {worker.tail()}")
            worker.spawn()

    # --- servers ------------------------------------------------------------------------------------------------------

    def _restart_postgres(self, fault: Fault) -> int:
        # Counted before, for those whose connection will be broken at their next kill.
        began = self._census.count(process for worker in self._workers for process in worker.children()).at
        self._stack.postgres.restart("fast" if fault is Fault.RESTART_FAST else "immediate")
        self._slept_through_restart = bool(self._suspended)
        self._note_grace(began, self._ask(SERVER_STARTED))
        return 1

    def _note_grace(self, began: datetime, counted_from: datetime | None = None) -> None:
        length = timedelta(seconds=self._grace + NOTICED)
        self.graces.append(Span(began, (counted_from or began) + length))

    def _ask(self, moment: TextClause) -> datetime:
        with self._database.connect() as connection:
            found: datetime = connection.execute(moment).scalar_one()
            return found

    def _restart_broker(self) -> int:
        began = self._ask(NOW)
        # It sleeps through what might end it, see `keep_up`.
        self._spared.suspend()
        try:
            self._stack.broker.restart()
        finally:
            self._spared.resume()
            self._broker_restarted = time.monotonic()
        self.hindrances.append(Span(began, self._ask(NOW) + timedelta(seconds=RECONNECTING)))
        return 1

    # --- messages and sagas -------------------------------------------------------------------------------------------

    def _duplicate(self, strike: Strike) -> int:
        with Redis.from_url(self._stack.broker_url) as broker:
            size = self._wait_for_messages(broker)
            count = min(size, 1 + int(strike.pick * FEW))
            for index in range(count):
                message = broker.lindex(QUEUE, (index * 7 + int(strike.pick * size)) % size)
                if message is not None:
                    broker.lpush(QUEUE, message)
            return count

    def _drop(self, strike: Strike) -> int:
        with Redis.from_url(self._stack.broker_url) as broker:
            self._wait_for_messages(broker)
            dropped = broker.rpop(QUEUE) if strike.pick < 0.5 else broker.lpop(QUEUE)
            return int(dropped is not None)

    def _wait_for_messages(self, broker: Redis) -> int:
        """How many messages there are, as soon as there are some."""
        deadline = time.monotonic() + LYING_IN_WAIT
        while not (size := int(broker.llen(QUEUE))) and time.monotonic() < deadline:
            pass
        return size

    def _cancel(self, strike: Strike) -> int:
        victim = strike.choose(self._orchestrator.find(saga=SAGA, status=Status.RUNNING))
        if victim is None:
            return 0
        with suppress(TimeoutError):  # its pivot is under way; the request stands
            victim.cancel("the soak wants it so", by="soak", timeout=0)
        return 1
