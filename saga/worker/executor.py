"""The executor: claims the lanes that messages offer, and advances them attempt by attempt, several in a batch."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from celery import Celery

from saga.config import Settings
from saga.core.outcome import Interruption
from saga.errors import DatabaseNotReady
from saga.telemetry.facts.lanes import LaneNotClaimed, LanesLeft
from saga.telemetry.stream import emit
from saga.worker.attempt import Attempt
from saga.worker.batch import Batch, Place, may_share, take
from saga.worker.claimer import Claimer
from saga.worker.lifetime import Lifetime
from saga.worker.pace import Averages, Pace
from saga.worker.performer import TOLD_TO_STOP, Performer
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
        claims: Claimer,
        settings: Settings,
        stopping: Callable[[], bool],
        averages: Averages | None = None,
        lifetime: Lifetime | None = None,
    ) -> None:
        self._claims = claims
        self._attempts = claims.attempts
        self._together = Together(self._attempts)
        self._settings = settings
        self._stopping = stopping
        self._lifetime = Lifetime() if lifetime is None else lifetime
        self._store = self._attempts.engine.store
        self._performer = Performer(app, self._attempts, settings.max_payload, stopping)
        names = [saga.name for saga in self._attempts.engine.catalog]
        self._pace = Pace(settings.batch_below, averages, names)
        self._warm: set[str] = set()
        self._batches: set[Batch] = set()
        self._may_share: dict[str, bool] = {}

    def run(self, lanes: Sequence[Place], carrier: Any) -> None:
        """Claim lanes and run each as far as this worker may.

        Lanes that share a message run in one worker: those of quick sagas side by side, others one after the other, as
        many as are known to take a moment. The rest is offered to others before the first begins.

        Args:
            carrier: the request of the Celery task whose message offered the lanes.
        """
        rest = deque(lanes)
        with self._store.hold():
            self._run_together(lanes, rest, carrier)
            began = time.monotonic()
            while not self._stopping() and (place := _first(rest)):
                if run := self._claim(*place):
                    self._share_out(rest, run, self._lifetime.patience() - (time.monotonic() - began))
                    self._run_batch(Batch([run], rest), carrier)

    def _run_together(self, lanes: Sequence[Place], rest: deque[Place], carrier: Any) -> None:
        """Run those of the lanes that may share a batch."""
        quick = [saga for saga in self._pace.quick() if self._shares(saga)]
        if len(lanes) == 1 or not quick or self._stopping():
            return
        taken = [place for place in lanes if _remove(rest, place)]
        runs, left = self._claims.claim_together(taken, quick)
        rest.extend(left)
        if runs:
            self._run_batch(Batch(runs, rest), carrier)

    def _shares(self, name: str) -> bool:
        known = self._may_share.get(name)
        if known is None:
            saga = self._attempts.engine.catalog.get(name)
            known = self._may_share[name] = saga is not None and may_share(saga)
        return known

    def _claim(self, saga_id: UUID, lane: str) -> Attempt | None:
        """Claim a lane. If it cannot be read, the others go on."""
        try:
            return self._claims.claim(saga_id, lane)
        except DatabaseNotReady:
            raise
        except Exception as error:
            emit(LaneNotClaimed(saga_id, lane, error))
            return None

    def _share_out(self, rest: deque[Place], run: Attempt, patience: float) -> None:
        """Offer to other workers the lanes that would probably wait here for longer than so many seconds."""
        attempt = self._pace.expected(run.saga.name)
        fit = 0 if attempt is None else max(0, int(patience / (attempt * len(run.saga.actions))) - 1)
        self._offer(take(rest, keep=fit), alone=not fit)

    def _offer(self, lanes: Sequence[Place], *, alone: bool) -> None:
        if not lanes:
            return
        try:
            offers = self._store.offer_on(lanes, alone=alone)
        except DatabaseNotReady as error:
            emit(LanesLeft(len(lanes), error))
            return
        self._attempts.engine.publish(offers)

    def relieve(self) -> None:
        """Let no other attempt wait for a long one: what has ended in its batch is recorded, the rest is offered to others."""
        for batch in list(self._batches):
            if stall := batch.stall():
                self._pace.note(stall.run.saga.name, stall.seconds)
                self._offer(stall.lanes, alone=True)
                self._together.record_all(stall.ended, _never)

    def _run_batch(self, batch: Batch, carrier: Any) -> None:
        until = time.monotonic() + self._settings.inline_budget

        def may_continue() -> bool:
            return time.monotonic() < until and not self._stopping()

        self._batches.add(batch)
        try:
            while run := batch.next():
                if self._stopping() and run.held is None:
                    batch.end(run, Interruption(TOLD_TO_STOP))
                else:
                    self._advance(run, batch, carrier, may_continue)
                if ended := batch.take_due():
                    hold = len(ended) == 1 and not batch.waits
                    began = time.monotonic()
                    batch.follow(self._together.record_all(ended, may_continue, hold=hold))
                    self._pace.note_recording(time.monotonic() - began)
        finally:
            self._batches.discard(batch)
            self._together.record_all(batch.take_all(TOLD_TO_STOP), _never)

    def _advance(self, run: Attempt, batch: Batch, carrier: Any, may_continue: Callable[[], bool]) -> None:
        began = time.monotonic()
        if run.held is not None:
            self._follow(run, batch, lambda: self._wake(run))
            return
        try:
            if run.job.transactional:
                within, hold = self._performer.perform_within, not batch.waits
                self._follow(run, batch, lambda: within(run, carrier, may_continue, hold=hold))
            else:
                self._perform(run, batch, carrier)
        finally:
            self._note(run, time.monotonic() - began)

    def _note(self, run: Attempt, seconds: float) -> None:
        """Learn from an attempt. The first attempt of a task in a process is slow: learn from it only if nothing is known."""
        if run.job.task in self._warm or self._pace.expected(run.saga.name) is None:
            self._pace.note(run.saga.name, seconds)
        self._warm.add(run.job.task)

    def _follow(self, run: Attempt, batch: Batch, advance: Callable[[], Attempt | None]) -> None:
        """Take what follows an attempt into its batch, or let the attempt go if that fails."""
        try:
            after = advance()
        except BaseException:
            self._attempts.abandon(run)
            raise
        batch.follow([after] if after is not None else [])

    def _wake(self, run: Attempt) -> Attempt | None:
        assert run.held is not None
        time.sleep(run.held)
        return self._attempts.wake(run)

    def _perform(self, run: Attempt, batch: Batch, carrier: Any) -> None:
        try:
            outcome = self._performer.perform(run, carrier)
        except BaseException as error:
            outcome = self._performer.broken_off(error)
            raise
        finally:
            run.over = True
            batch.end(run, outcome)


def _never() -> bool:
    return False


def _first(rest: deque[Place]) -> Place | None:
    """The next lane; another thread may take lanes away at any time."""
    try:
        return rest.popleft()
    except IndexError:
        return None


def _remove(rest: deque[Place], place: Place) -> bool:
    try:
        rest.remove(place)
    except (ValueError, IndexError):  # it was taken away, before or meanwhile
        return False
    return True
