"""Batch: the runs that one thread has in hand. Each makes its attempt in turn; those that have ended share an append.

What waits for its turn has been started in the log, and what has ended is not in it yet. So neither may wait long: when
one step takes its time, another thread takes them out of the batch. And should one step end the process, the attempts
of all are lost; so only those share one that can afford it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable

from saga.definition import Job, Saga
from saga.errors import WorkerLost
from saga.outcome import Interruption, Outcome
from saga.run import Run

Ended = tuple[Run, Outcome]

_LONGEST_IN_HAND = 0.02
"""Seconds after which an outcome is appended, whoever else is still to run."""
_STALL = 0.2
"""Seconds that an attempt may take before the others of its batch no longer wait for it."""
_SHORT = 5.0
"""Seconds; an attempt with a shorter timeout waits for nobody."""


def may_share(saga: Saga) -> bool:
    """Whether a saga can bear company: a delay before its attempts, and one attempt lost through no fault of its own."""
    return all(job.timeout >= _SHORT and _affords_a_loss(job) for job in saga.jobs())


def _affords_a_loss(job: Job) -> bool:
    try:
        return job.retry.next_wait(WorkerLost("another saga's step ended the process"), 1, 0.0) is not None
    except Exception:
        return False


class Batch:
    """Runs that wait, one that is under way, and outcomes to append. Two threads may use it."""

    def __init__(self, runs: Iterable[Run]) -> None:
        self._lock = threading.Lock()
        self._waiting = deque(runs)
        self._ended: list[Ended] = []
        self._first_ended = 0.0
        self._began: float | None = None

    @property
    def waits(self) -> bool:
        """Whether a run waits for its turn."""
        return bool(self._waiting)

    def next(self) -> Run | None:
        """The run whose turn it is; it counts as under way until ``end`` or ``follow``."""
        with self._lock:
            if not self._waiting:
                return None
            self._began = time.monotonic()
            return self._waiting.popleft()

    def end(self, run: Run, outcome: Outcome) -> None:
        """Keep how the run under way ended, to be appended."""
        with self._lock:
            self._began = None
            if not self._ended:
                self._first_ended = time.monotonic()
            self._ended.append((run, outcome))

    def follow(self, runs: Iterable[Run]) -> None:
        """Let the runs that follow wait for their turn; none is under way."""
        with self._lock:
            self._began = None
            self._waiting.extend(runs)

    def take_due(self) -> list[Ended]:
        """What is to be appended now: everything once nobody waits for a turn, or once the first has waited long enough."""
        with self._lock:
            if self._waiting and (not self._ended or time.monotonic() - self._first_ended < _LONGEST_IN_HAND):
                return []
            ended, self._ended = self._ended, []
            return ended

    def take_all(self, reason: str) -> list[Ended]:
        """What has ended, and what waits, as interrupted."""
        with self._lock:
            taken = [*self._ended, *((run, Interruption(reason)) for run in self._waiting)]
            self._ended, self._waiting = [], deque()
            return taken

    def take_stalled(self) -> list[Ended]:
        """The same, if an attempt keeps the others waiting."""
        with self._lock:
            stalled = self._began is not None and time.monotonic() - self._began > _STALL
        return self.take_all("a step of another saga holds up the worker") if stalled else []
