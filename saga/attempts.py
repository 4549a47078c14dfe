"""Attempts: how a worker takes a lane, records how its attempts end, and lets go of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID, uuid4

import psycopg

from saga import log, work
from saga.codec import clean_text
from saga.commands import AskPolicy, KeepWatch, RunStep
from saga.crashpoints import reach
from saga.database import Link
from saga.definition import Job, Saga
from saga.engine import Claim, Draft, Engine, Subject, Unreachable, Written, back_off, start_of
from saga.errors import Abort, CorruptLog, ResultError, StepTimeout, WorkerLost
from saga.events import (
    AttemptFailed,
    AttemptInterrupted,
    AttemptStarted,
    AttemptSucceeded,
    DeadlinePassed,
    Event,
    LateResult,
)
from saga.machine import decide, failure_outcome, replay
from saga.outcome import Failure, Interruption, Outcome, Success
from saga.outline import Outline
from saga.retry import LONGEST
from saga.state import State, StepStatus, Track

logger = logging.getLogger("saga")

_CLAIM_TRIES = 5
_SETTLE_TRIES = 200
_WITHOUT_END = 1_000_000_000

T = TypeVar("T")


@dataclass(slots=True)
class Run:
    """One attempt that this process owns.

    Attributes:
        state: the saga as this attempt last saw it.
        started_at: by the database's clock; ``clock`` is this process's, in seconds, at the same moment.
        held: seconds to sleep before the attempt may start, when it has not yet.
        over: its task is over, and its outcome on the way to the log.
    """

    saga: Saga
    saga_id: UUID
    state: State
    lane: str
    step: str
    attempt: int
    undo: bool
    claim: Claim
    started_at: datetime | None
    clock: float = field(default_factory=time.monotonic)
    held: float | None = None
    over: bool = False

    @property
    def subject(self) -> Subject:
        """The saga it belongs to."""
        return Subject.of(self.saga_id, self.saga)

    @property
    def job(self) -> Job:
        """What it runs."""
        return self.saga.job(self.step, self.undo)

    @property
    def path(self) -> str:
        """Which way it goes: ``run`` for an action, ``undo`` for an undo."""
        return "undo" if self.undo else "run"

    @property
    def track(self) -> Track:
        """Where its action or undo stands."""
        return self.state.track(self.step, self.undo)

    @property
    def stands(self) -> bool:
        """Whether the log still has this attempt open."""
        return self.track.status is StepStatus.RUNNING and self.track.attempts == self.attempt

    def __str__(self) -> str:
        what = "undo of " if self.undo else ""
        return f"saga {self.saga.name}[{self.saga_id}], {what}step {self.step}, attempt {self.attempt}"


class Attempts:
    """The attempts of one worker process.

    Args:
        worker: this process's number as a worker; asked for when first needed.
        inline_wait: the longest wait for a retry, in seconds, that the worker sleeps through.

    Attributes:
        running: claim token to what runs under it; ``None`` while a claim is under way.
    """

    def __init__(self, engine: Engine, worker: Callable[[], int], inline_wait: float) -> None:
        self.engine = engine
        self.running: dict[UUID, Run | None] = {}
        self._worker = worker
        self._inline_wait = inline_wait

    # --- taking a lane ------------------------------------------------------------------------------------------------

    def claim(self, saga_id: UUID, lane: str) -> Run | None:
        """Take a lane that is free and due; ``None`` when there is nothing to do there for this process."""
        try:
            return self._claim(saga_id, lane)
        except CorruptLog as error:
            logger.error("%s", error)
            self._give_up(saga_id, lane, str(error))
            return None

    def _claim(self, saga_id: UUID, lane: str) -> Run | None:
        for tries in range(_CLAIM_TRIES):
            run = self._claim_once(saga_id, lane)
            if run is not None:
                return run
            with self.engine.database.link() as link:
                seen = work.look(link, saga_id, lane)
            if seen is None or not seen.free or not seen.due:
                return None
            saga = self.engine.catalog.by_fingerprint(seen.fingerprint)
            if saga is None:
                self._park(saga_id, lane, seen.fingerprint)
                return None
            if seen.attempt is None:
                return self._settle(saga, saga_id, lane, seen.queue)
            back_off(tries)
        return None

    def _claim_once(self, saga_id: UUID, lane: str) -> Run | None:
        engine = self.engine
        known = engine.recall(saga_id)
        token = uuid4()
        self.running[token] = None
        try:
            with engine.database.link() as link:
                reach("claim.before", link.connection)
                rows = work.claim(
                    link, saga_id, lane, self._worker(), token, engine.catalog.limits, known.seq if known else 0
                )
            if rows:
                reach("claim.after")
                self.running[token] = run = self._claimed(saga_id, token, known, rows)
                return run
        except BaseException:
            del self.running[token]
            raise
        del self.running[token]
        return None

    def _claimed(self, saga_id: UUID, token: UUID, known: State | None, rows: Sequence[tuple[Any, ...]]) -> Run:
        saga = self.engine.catalog.by_fingerprint(rows[0][0])
        assert saga is not None, "only known fingerprints are claimed"
        entries = log.entries(saga_id, (row[1:] for row in rows))
        started = entries[-1].event
        assert isinstance(started, AttemptStarted)
        state = replay(saga, entries, known)
        claim = Claim(self._worker(), token, self.engine.catalog.queue(saga, started.step, started.undo))
        return Run(saga, saga_id, state, started.lane, started.step, started.attempt, started.undo, claim, state.at)

    def _give_up(self, saga_id: UUID, lane: str, problem: str) -> None:
        """Park a lane whose log cannot be read, freeing it first if its claim was committed."""
        with self.engine.database.link() as link:
            unrun = [token for token in work.owned_tokens(link, self._worker()) if token not in self.running]
            work.free_unrun(link, self._worker(), unrun)
            work.park(link, saga_id, lane, problem)

    def _park(self, saga_id: UUID, lane: str, fingerprint: str) -> None:
        with self.engine.database.link() as link:
            stored = log.read_definition(link, fingerprint)
            work.park(link, saga_id, lane, self._why_parked(stored))

    def _why_parked(self, stored: Outline | None) -> str:
        if stored is None:
            return "its definition is not in the database"
        mine = self.engine.catalog.get(stored.name)
        if mine is None:
            return f"no worker here knows saga {stored.name!r}"
        return f"saga {stored.name!r} is defined differently here: {stored.difference(mine.outline)}"

    def _settle(self, saga: Saga, saga_id: UUID, lane: str, queue: str) -> Run | None:
        """Decide about a lane that a timeout, a lost worker or the saga's deadline left undecided, and take it."""
        claim = Claim(self._worker(), uuid4(), queue)
        state = self.engine.read(Subject.of(saga_id, saga))
        self.running[claim.token] = None
        run = Run(saga, saga_id, state, lane, "", 0, False, claim, None)
        waits: dict[int, float | None] = {}
        try:
            for tries in range(_SETTLE_TRIES):
                event = self._settling_event(run, waits)
                if event is None:
                    break
                draft = self.engine.draft(
                    run.subject, run.state, event, claim, keep=not isinstance(event, DeadlinePassed)
                )
                reach("settle.before_append")
                written = self.engine.write(draft)
                if written is not None:
                    reach("settle.after_append")
                    return self._go_on(run, draft, written)
                back_off(tries)
                run.state = self.engine.read(run.subject, run.state)
        finally:
            if self.running.get(claim.token) is None:
                self.running.pop(claim.token, None)
        return None

    def _settling_event(self, run: Run, waits: dict[int, float | None]) -> Event | None:
        command = next((command for command in decide(run.saga, run.state) if command.lane == run.lane), None)
        if isinstance(command, KeepWatch):
            return DeadlinePassed()
        if isinstance(command, RunStep):
            return start_of(run.saga, command) if self._waited_out(run.state, command) else None
        if not isinstance(command, AskPolicy):
            return None
        run.step, run.attempt, run.undo = command.step, command.attempt, command.undo
        track = run.track
        if run.attempt not in waits:
            waits[run.attempt] = self._wait_after(run, track)
        if track.ended == "interrupted" and not run.state.paused and (run.undo or not run.state.rolling_back):
            return AttemptStarted(run.lane, run.step, run.attempt + 1, run.undo, run.job.timeout)
        effect = not (run.job.transactional and not run.undo)
        return self._failed(run, track.error or "", None, waits[run.attempt], effect=effect, held=False)

    def _waited_out(self, state: State, command: RunStep) -> bool:
        """Sleep through what is left of the short wait for which a lost worker had held the lane; not through a long one."""
        left = (command.due - state.at).total_seconds() if command.due and state.at else 0.0
        if left > self._inline_wait:
            return False
        time.sleep(max(0.0, left))
        return True

    def _wait_after(self, run: Run, track: Track) -> float | None:
        if track.ended == "interrupted":
            return 0.0
        return self._ask_policy(run, WorkerLost(track.error) if track.ended == "lost" else StepTimeout(track.error))

    # --- recording ----------------------------------------------------------------------------------------------------

    def record(self, run: Run, outcome: Outcome, may_continue: Callable[[], bool]) -> Run | None:
        """Append how an attempt ended, and go on with what follows if this worker may.

        It is tried until the log has it: while the database is away, this waits. An exception that comes from outside
        meanwhile (a time limit, a shutdown) is raised once the log has it.

        Returns:
            the next attempt, started, or held and to be woken; ``None`` when the lane is given back or over.
        """
        wait = self._next_wait(run, outcome)
        interrupt: BaseException | None = None
        following = None
        for tries in range(_WITHOUT_END):
            if not run.stands:
                self._keep_evidence(run, outcome)
                self.forget(run)
                break
            draft = self._draft(run, outcome, wait, keep=interrupt is None and may_continue())
            try:
                reach(f"{run.path}.before_append")
                written = self._write_or_find(draft)
                reach(f"{run.path}.after_append")
            except psycopg.DataError as error:
                outcome, wait = Failure(ResultError(f"the result cannot be stored: {error}"), final=True), None
                back_off(tries)
                continue
            except BaseException as error:
                interrupt = error
                written = self._find(draft)
            if written is not None:
                following = self._go_on(run, draft, written)
                break
            back_off(tries)
            run.state = self._insist(lambda: self.engine.read(run.subject, run.state))
        if interrupt is not None:
            if following is not None:
                self.forget(following)
            raise interrupt
        return following

    def record_within(self, run: Run, outcome: Outcome, link: Link, *, keep: bool) -> tuple[Draft, Written] | None:
        """Append how a transactional attempt ended inside its own transaction; ``None`` when it had been declared over.

        Nothing is published: the caller commits, then calls ``go_on``.
        """
        wait = self._next_wait(run, outcome)
        for tries in range(_SETTLE_TRIES):
            if not run.stands:
                return None
            draft = self._draft(run, outcome, wait, keep=keep)
            written = self.engine.write(draft, link)
            if written is not None:
                return draft, written
            back_off(tries)
            run.state = replay(run.saga, log.read_entries(link, run.saga_id, after=run.state.seq), run.state)
        return None

    def committed(self, draft: Draft) -> Written | None:
        """Whether a transaction whose commit was not answered has the draft after all; insists on an answer."""
        return self._find(draft)

    def go_on(self, run: Run, draft: Draft, written: Written) -> Run | None:
        """Turn an attempt whose end is committed into the one that follows."""
        return self._go_on(run, draft, written)

    def wake(self, run: Run) -> Run | None:
        """Start the attempt for which a lane was held; ``None`` when it is to be held no more."""
        event = AttemptStarted(run.lane, run.step, run.attempt, run.undo, run.job.timeout)
        for tries in range(_SETTLE_TRIES):
            if not run.track.held or run.track.attempts != run.attempt - 1:
                break
            draft = self.engine.draft(run.subject, run.state, event, run.claim)
            reach("hold.before_wake")
            written = self._write_or_find(draft)
            if written is not None:
                reach("hold.after_wake")
                self.engine.follow_up(draft, written)
                run.state, run.started_at, run.clock, run.held = written.state, written.at, time.monotonic(), None
                return run
            back_off(tries)
            run.state = self.engine.read(run.subject, run.state)
        self.forget(run)
        return None

    def forget(self, run: Run) -> None:
        """Let go of an attempt: nothing in this process runs it any more."""
        self.running.pop(run.claim.token, None)
        self.engine.remember(run.saga_id, run.state)

    def abandon(self, run: Run) -> None:
        """Let go of an attempt whose end could not be recorded; if the lane is still owned, the upkeep gives it back."""
        self.running.pop(run.claim.token, None)

    def _write_or_find(self, draft: Draft) -> Written | None:
        try:
            return self.engine.write(draft)
        except psycopg.DataError:
            raise
        except Unreachable as error:
            logger.warning("saga %s: what happened is not known to be in the log: %s", draft.subject, first_line(error))
            return self._find(draft)

    def _find(self, draft: Draft) -> Written | None:
        return self._insist(lambda: self.engine.find(draft))

    @staticmethod
    def _insist(ask: Callable[[], T]) -> T:
        for tries in range(_WITHOUT_END):
            try:
                return ask()
            except Unreachable:
                back_off(tries, longest=1.0)
        raise AssertionError("unreachable")

    def _draft(self, run: Run, outcome: Outcome, wait: float | None, *, keep: bool) -> Draft:
        return self.engine.draft(run.subject, run.state, self._event(run, outcome, wait, keep), run.claim, keep=keep)

    def _event(self, run: Run, outcome: Outcome, wait: float | None, keep: bool) -> Event:
        where = (run.lane, run.step, run.attempt, run.undo)
        if isinstance(outcome, Success):
            return AttemptSucceeded(*where, result=outcome.result)
        if isinstance(outcome, Interruption):
            return AttemptInterrupted(*where, error=outcome.reason)
        held = keep and wait is not None and 0 < wait <= self._inline_wait
        return self._failed(run, describe(outcome.error), outcome.traceback, wait, effect=outcome.effect, held=held)

    def _failed(
        self, run: Run, error: str, traceback: str | None, wait: float | None, *, effect: bool, held: bool
    ) -> AttemptFailed:
        held = held and not run.state.paused
        event = AttemptFailed(run.lane, run.step, run.attempt, run.undo, "retry", error, traceback, wait, held, effect)
        if wait is not None and (run.undo or not run.state.rolling_back):
            return event
        outcome = failure_outcome(run.state, event, effect=effect)
        return replace(event, outcome=outcome, wait=None, held=False)

    def _next_wait(self, run: Run, outcome: Outcome) -> float | None:
        if not isinstance(outcome, Failure) or outcome.final or isinstance(outcome.error, Abort):
            return None
        wait = self._ask_policy(run, outcome.error)
        return None if wait is None else max(wait, min(outcome.min_wait, LONGEST.total_seconds()))

    def _ask_policy(self, run: Run, error: BaseException) -> float | None:
        track = run.track
        attempt = max(1, run.attempt - track.uncounted)
        try:
            wait = run.job.retry.next_wait(error, attempt, self._elapsed(run, track))
        except Exception:
            logger.exception("%s: its retry policy failed, so there is no further attempt", run)
            return None
        first_loss = isinstance(error, WorkerLost) and track.losses <= 1
        return 0.0 if wait is not None and first_loss else wait

    @staticmethod
    def _elapsed(run: Run, track: Track) -> float:
        """Seconds since the first attempt of the budget started: the database's clock, plus this process's since then."""
        at = run.started_at or run.state.at
        since = time.monotonic() - run.clock
        return since + ((at - track.began).total_seconds() if at and track.began else 0.0)

    def _keep_evidence(self, run: Run, outcome: Outcome) -> None:
        """What a late attempt brings goes to the log, where nothing uses it."""
        word = type(outcome).__name__.lower()
        error = describe(outcome.error) if isinstance(outcome, Failure) else None
        result = outcome.result if isinstance(outcome, Success) else None
        event = LateResult(run.lane, run.step, run.attempt, run.undo, word, error, result)
        logger.warning("%s: ended (%s) after it had been declared over; kept as evidence only", run, word)
        try:
            for tries in range(_CLAIM_TRIES):
                with self.engine.database.link() as link:
                    if log.append(link, run.saga_id, run.state.seq + 1, [event], self._worker()) is not None:
                        return
                back_off(tries)
                run.state = self.engine.read(run.subject, run.state)
        except Unreachable as error_:
            logger.warning("%s: the evidence could not be kept: %s", run, first_line(error_))

    def _go_on(self, run: Run, draft: Draft, written: Written) -> Run | None:
        run.state = written.state
        self.engine.follow_up(draft, written)
        following = self._following(run, draft, written)
        if following is None:
            self.forget(run)
        else:
            self.running[run.claim.token] = following
        return following

    def _following(self, run: Run, draft: Draft, written: Written) -> Run | None:
        event = draft.events[-1]
        if isinstance(event, AttemptStarted):
            return Run(run.saga, run.saga_id, run.state, event.lane, event.step, event.attempt, event.undo, run.claim,
                       written.at)  # fmt: skip
        if isinstance(event, AttemptFailed) and event.held and run.track.held:
            return replace(run, attempt=run.attempt + 1, started_at=None, held=event.wait)
        return None


def describe(error: BaseException) -> str:
    """An exception in one line: an ``Abort`` by its reason, anything else with its type before."""
    text = clean_text(error)
    if isinstance(error, (Abort, WorkerLost, StepTimeout)):
        return text or type(error).__name__
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def first_line(error: BaseException) -> str:
    """The first line of an error's text."""
    return str(error).strip().split("\n")[0]
