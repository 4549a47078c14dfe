"""The executor: takes the lanes that messages offer through their stages.

A lane is claimed, which starts an attempt. The attempt is performed: its arguments are bound, its task is run. How it
ended is judged, by the step's policy and by ``verdict``, and recorded. Then the worker goes on with what follows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from celery import Celery

from saga.config import Settings
from saga.core.outcome import Interruption, Outcome
from saga.errors import DatabaseNotReady
from saga.store.port import Store
from saga.store.values import Lane
from saga.telemetry.facts.lanes import LaneNotClaimed, LanesLeft
from saga.telemetry.stream import emit
from saga.worker.attempt import Attempt
from saga.worker.batch import Batch, may_share
from saga.worker.claimer import Claimer
from saga.worker.lifetime import Lifetime
from saga.worker.pace import Averages, Pace
from saga.worker.performers.plain import TOLD_TO_STOP, Performer
from saga.worker.performers.transactional import Entered, TransactionalPerformer
from saga.worker.rest import Rest
from saga.worker.together import Together


class Executor:
    """Runs attempts in this process.

    Args:
        stopping: whether the worker is shutting down; no attempt is begun then.
        averages: what the processes of its pool know about the time that attempts take.
        lifetime: that of this process.
    """

    def __init__(
        self,
        app: Celery,
        claimer: Claimer,
        settings: Settings,
        stopping: Callable[[], bool],
        averages: Averages | None = None,
        lifetime: Lifetime | None = None,
    ) -> None:
        self._claimer = claimer
        self._recorder = claimer.recorder
        self._together = Together(self._recorder)
        self._engine = self._recorder.engine
        self._clock = self._engine.clock
        self._settings = settings
        self._stopping = stopping
        self._lifetime = Lifetime() if lifetime is None else lifetime
        self._store = self._engine.store
        self._plain = Performer(app, settings.max_payload, stopping)
        self._transactional = TransactionalPerformer(self._plain, self._store.transaction, self._recorder.find)
        names = [saga.name for saga in self._engine.catalog]
        self._pace = Pace(settings.batch_below, averages, names)
        self._warm: set[str] = set()
        self._batches: set[Batch] = set()
        self._may_share: dict[str, bool] = {}

    def run(self, lanes: Sequence[Lane], carrier: Any) -> None:
        """Claim lanes and run each as far as this worker may.

        Lanes that share a message run in one worker: those of quick sagas side by side, others one after the other, as
        many as are known to take a moment. The rest is offered to others before the first begins.

        Args:
            carrier: the request of the Celery task whose message offered the lanes.
        """
        rest = Rest(lanes)
        with self._store.hold():
            self._run_quick(lanes, rest, carrier)
            began = self._clock.monotonic()
            while not self._stopping() and (lane := rest.first()):
                if attempt := self._claim(*lane):
                    self._share_out(rest, attempt, self._lifetime.patience() - (self._clock.monotonic() - began))
                    self._run_batch(Batch([attempt], rest, self._clock), carrier)

    def _run_quick(self, lanes: Sequence[Lane], rest: Rest, carrier: Any) -> None:
        """Run those of the lanes that may share a batch."""
        quick = [saga for saga in self._pace.quick() if self._shares(saga)]
        if len(lanes) == 1 or not quick or self._stopping():
            return
        attempts, left = self._claimer.claim_together([lane for lane in lanes if rest.remove(lane)], quick)
        rest.extend(left)
        if attempts:
            self._run_batch(Batch(attempts, rest, self._clock), carrier)

    # --- the stages ---------------------------------------------------------------------------------------------------

    def _claim(self, saga_id: UUID, lane: str) -> Attempt | None:
        """Claim a lane. If it cannot be read, the others go on."""
        try:
            return self._claimer.claim(saga_id, lane)
        except DatabaseNotReady:
            raise
        except Exception as error:
            emit(LaneNotClaimed(saga_id, lane, error))
            return None

    def _run_batch(self, batch: Batch, carrier: Any) -> None:
        """Make the attempts of a batch, and those that follow on them, until this worker may go on no more."""
        until = self._clock.monotonic() + self._settings.inline_budget

        def may_continue() -> bool:
            return self._clock.monotonic() < until and not self._stopping()

        self._batches.add(batch)
        try:
            while attempt := batch.next():
                if attempt.held is not None:
                    self._wake(attempt, batch)
                elif self._stopping():
                    batch.end(attempt, Interruption(TOLD_TO_STOP))
                elif attempt.job.transactional:
                    self._perform_transactional(attempt, batch, carrier, may_continue)
                else:
                    self._perform(attempt, batch, carrier)
                self._record(batch, may_continue)
        finally:
            self._batches.discard(batch)
            self._together.record_all(batch.take_all(TOLD_TO_STOP), _never)

    def _wake(self, attempt: Attempt, batch: Batch) -> None:
        """Start an attempt for which the lane was held."""
        assert attempt.held is not None
        with self._let_go(attempt):
            self._clock.sleep(attempt.held)
            batch.follow(self._recorder.wake(attempt))

    def _perform(self, attempt: Attempt, batch: Batch, carrier: Any) -> None:
        """Make an attempt; its outcome waits in the batch to be recorded."""
        began = self._clock.monotonic()
        try:
            outcome = self._plain.perform(attempt, carrier)
        except BaseException as error:
            outcome = self._plain.broken_off(error)
            raise
        finally:
            attempt.over = True
            batch.end(attempt, outcome)
            self._note_time(attempt, began)

    def _perform_transactional(
        self, attempt: Attempt, batch: Batch, carrier: Any, may_continue: Callable[[], bool]
    ) -> None:
        """Make an attempt whose entry is part of its own transaction; what is not committed is recorded after it."""
        hold = not batch.waits

        def enter(outcome: Outcome, store: Store) -> Entered | None:
            return self._recorder.record_within(attempt, outcome, store, keep=may_continue())

        began = self._clock.monotonic()
        with self._let_go(attempt):
            done = self._transactional.perform(attempt, carrier, enter)
            attempt.over = True
            self._note_time(attempt, began)
            may = may_continue if done.interrupt is None else _never
            if done.entered is None:
                following = self._recorder.record(attempt, done.outcome, may, hold=hold)
            else:
                following = self._recorder.go_on(attempt, *done.entered)
            if done.interrupt is not None:
                if following is not None:
                    self._recorder.record(
                        following, Interruption(f"{type(done.interrupt).__name__}: not begun"), _never
                    )
                raise done.interrupt
            batch.follow(following)

    def _record(self, batch: Batch, may_continue: Callable[[], bool]) -> None:
        """Judge and record what is to be recorded by now, and go on with what follows."""
        ended = batch.take_due()
        if not ended:
            return
        hold = len(ended) == 1 and not batch.waits
        began = self._clock.monotonic()
        batch.follow(*self._together.record_all(ended, may_continue, hold=hold))
        self._pace.note_recording(self._clock.monotonic() - began)

    @contextmanager
    def _let_go(self, attempt: Attempt) -> Iterator[None]:
        """Let go of an attempt whose end cannot be recorded."""
        try:
            yield
        except BaseException:
            self._recorder.abandon(attempt)
            raise

    def _note_time(self, attempt: Attempt, began: float) -> None:
        """Learn how long an attempt takes; from a task's first one in this process only where nothing is known: it is slow."""
        task, saga = attempt.job.task, attempt.saga.name
        if task in self._warm or self._pace.expected(saga) is None:
            self._pace.note(saga, self._clock.monotonic() - began)
        self._warm.add(task)

    # --- sharing ------------------------------------------------------------------------------------------------------

    def _shares(self, name: str) -> bool:
        """Whether attempts of a saga may share a batch."""
        known = self._may_share.get(name)
        if known is None:
            saga = self._engine.catalog.get(name)
            known = self._may_share[name] = saga is not None and may_share(saga)
        return known

    def _share_out(self, rest: Rest, attempt: Attempt, patience: float) -> None:
        """Offer to other workers the lanes that would probably wait here for longer than so many seconds."""
        seconds = self._pace.expected(attempt.saga.name)
        fit = 0 if seconds is None else max(0, int(patience / max(1e-6, seconds * len(attempt.saga.actions))) - 1)
        self._offer(rest.take(keep=fit), alone=not fit)

    def _offer(self, lanes: Sequence[Lane], *, alone: bool) -> None:
        if not lanes:
            return
        try:
            offers = self._store.offer_on(lanes, alone=alone)
        except DatabaseNotReady as error:
            emit(LanesLeft(len(lanes), error))
            return
        self._engine.publish(offers)

    def relieve(self) -> None:
        """Let no other attempt wait for a long one: what has ended in its batch is recorded, the rest is offered to others."""
        for batch in list(self._batches):
            if stall := batch.stall():
                self._pace.note(stall.attempt.saga.name, stall.seconds)
                self._offer(stall.lanes, alone=True)
                self._together.record_all(stall.ended, _never)


def _never() -> bool:
    return False
