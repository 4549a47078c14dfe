"""Batch: the attempts of one thread. They run in turn; those that have ended share an append.

Attempts that wait for their turn have been started in the log, and the ends of others are not in it yet. So neither may
wait long: when one step takes long, another thread takes them out of the batch. If one step ends the process, the
attempts of all are lost. So only sagas that can afford this share a batch.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from saga.core.outcome import Failure, Interruption, Outcome
from saga.core.outline import Fork, StepOutline
from saga.errors import WorkerLost
from saga.language.definition import Job, Saga
from saga.store.clock import REAL
from saga.store.port import Clock
from saga.store.values import Lane
from saga.worker.attempt import Attempt
from saga.worker.rest import Rest

Ended = tuple[Attempt, Outcome]

_LONGEST_IN_HAND = 0.02
"""Seconds after which an outcome is appended, even if others still have to run."""
_STALL = 0.2
"""Seconds that an attempt may take before the others of its batch no longer wait for it."""
_SHORT = 5.0
"""Seconds; an attempt with a shorter timeout does not wait for others."""


@dataclass(frozen=True, slots=True)
class Stall:
    """An attempt that takes long, and what does not wait for it.

    Attributes:
        seconds: how long it has taken so far.
        lanes: not claimed yet.
    """

    attempt: Attempt
    seconds: float
    ended: list[Ended]
    lanes: list[Lane]


def may_share(saga: Saga) -> bool:
    """Whether a saga may share a batch: it can bear a delay before its attempts, and an attempt that is lost because of others."""
    return all(job.timeout >= _SHORT and _affords_a_loss(job) for job in saga.jobs())


def _affords_a_loss(job: Job) -> bool:
    try:
        return job.retry.next_wait(WorkerLost("another saga's step ended the process"), 1, 0.0) is not None
    except Exception:
        return False


def by_saga(ended: Iterable[Ended]) -> list[list[Ended]]:
    """What ended, saga by saga."""
    sagas: dict[UUID, list[Ended]] = {}
    for attempt, outcome in ended:
        sagas.setdefault(attempt.saga_id, []).append((attempt, outcome))
    return list(sagas.values())


def ends_lane(attempt: Attempt, outcome: Outcome) -> bool:
    """Whether nothing follows in the lane of an attempt that still stands, unless an operator asks for it."""
    if isinstance(outcome, Interruption):
        return True
    if isinstance(outcome, Failure):
        return False
    if not attempt.undo and attempt.scope.backward:
        return True
    items = attempt.saga.outline.lanes[attempt.lane].items
    name = attempt.saga.outline.step(attempt.step).name
    place = next(place for place, item in enumerate(items) if isinstance(item, StepOutline) and item.name == name)
    if attempt.undo:
        return not any(isinstance(item, Fork) or item.compensate for item in items[:place])
    return place == len(items) - 1


class Batch:
    """Runs that wait, one that is under way, and outcomes to append. Two threads may use it.

    Args:
        rest: lanes that the thread is to claim after this batch.
    """

    def __init__(self, attempts: Iterable[Attempt], rest: Rest | None = None, clock: Clock = REAL) -> None:
        self._lock = threading.Lock()
        self._clock = clock
        self._waiting = deque(attempts)
        self._ended: list[Ended] = []
        self._first_ended = 0.0
        self._under_way: Attempt | None = None
        self._began = 0.0
        self._rest = Rest() if rest is None else rest

    @property
    def waits(self) -> bool:
        """Whether a run waits for its turn."""
        return bool(self._waiting)

    def next(self) -> Attempt | None:
        """The run whose turn it is; it counts as under way until ``end`` or ``follow``."""
        with self._lock:
            if not self._waiting:
                return None
            self._under_way, self._began = self._waiting.popleft(), self._clock.monotonic()
            return self._under_way

    def end(self, attempt: Attempt, outcome: Outcome) -> None:
        """Keep how the run under way ended, to be appended."""
        with self._lock:
            self._under_way = None
            if not self._ended:
                self._first_ended = self._clock.monotonic()
            self._ended.append((attempt, outcome))

    def follow(self, *attempts: Attempt | None) -> None:
        """Let the runs that follow, if any do, wait for their turn; none is under way."""
        with self._lock:
            self._under_way = None
            self._waiting.extend(attempt for attempt in attempts if attempt is not None)

    def take_due(self) -> list[Ended]:
        """What is to be appended now: everything, if no attempt waits for its turn, or if the first end has waited long enough."""
        with self._lock:
            if self._waiting and (not self._ended or self._clock.monotonic() - self._first_ended < _LONGEST_IN_HAND):
                return []
            ended, self._ended = self._ended, []
            return ended

    def take_all(self, reason: str) -> list[Ended]:
        """What has ended, and what waits, as interrupted."""
        with self._lock:
            taken = [*self._ended, *((attempt, Interruption(reason)) for attempt in self._waiting)]
            self._ended, self._waiting = [], deque()
            return taken

    def stall(self) -> Stall | None:
        """What an attempt keeps waiting, taken out; ``None`` as long as it has not taken long."""
        with self._lock:
            attempt, seconds = self._under_way, self._clock.monotonic() - self._began
        if attempt is None or seconds < _STALL:
            return None
        return Stall(attempt, seconds, self.take_all("a step of another saga holds up the worker"), self._rest.take())
