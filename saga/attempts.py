"""Attempts: how a worker takes a lane, records how its attempts end, and lets go of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar
from uuid import UUID, uuid4

import psycopg

from saga import log, work
from saga.commands import AskPolicy, KeepWatch, RunStep
from saga.crashpoints import reach
from saga.database import Link
from saga.definition import Saga
from saga.engine import Claim, Draft, Engine, Subject, Unreachable, Written, back_off, start_of
from saga.errors import CorruptLog, ResultError, first_line
from saga.events import AttemptFailed, AttemptStarted, DeadlinePassed, Event, LateResult
from saga.judgement import ending, failure, wait_after, wait_of_undecided
from saga.machine import decide
from saga.outcome import Failure, Outcome, Success, describe
from saga.outline import Outline
from saga.run import Run
from saga.state import State, StepStatus
from saga.work import Offer

logger = logging.getLogger("saga")

_CLAIM_TRIES = 5
_SETTLE_TRIES = 200
_WITHOUT_END = 1_000_000_000

T = TypeVar("T")


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
            problem = str(error)
        except psycopg.IntegrityError as error:
            problem = f"saga {saga_id}: its log takes no entry: {first_line(error)}"
        logger.error("%s", problem)
        self._give_up(saga_id, lane, problem)
        return None

    def _claim(self, saga_id: UUID, lane: str) -> Run | None:
        for tries in range(_CLAIM_TRIES):
            known = self.engine.recall(saga_id)
            offer, run = self._claim_once(saga_id, lane, known)
            if run is not None:
                return run
            if offer is None or not offer.open:
                return None
            saga = self.engine.catalog.by_fingerprint(offer.fingerprint)
            if saga is None:
                self._park(saga_id, lane, offer.fingerprint)
                return None
            if offer.attempt is None:
                return self._settle(saga, saga_id, lane, offer, known)
            back_off(tries)
        return None

    def _claim_once(self, saga_id: UUID, lane: str, known: State | None) -> tuple[Offer | None, Run | None]:
        engine = self.engine
        token, run = uuid4(), None
        self.running[token] = None
        try:
            with engine.database.link() as link:
                reach("claim.before", link.connection)
                offer = work.claim(
                    link, saga_id, lane, self._worker(), token, engine.catalog.limits, known.seq if known else 0
                )
            if offer is not None and offer.won:
                reach("claim.after")
                run = self._claimed(saga_id, token, known, offer)
        finally:
            if run is None:
                del self.running[token]
            else:
                self.running[token] = run
        return offer, run

    def _claimed(self, saga_id: UUID, token: UUID, known: State | None, offer: Offer) -> Run:
        saga = self.engine.catalog.by_fingerprint(offer.fingerprint)
        assert saga is not None, "only known fingerprints are claimed"
        entries = log.entries(saga_id, offer.entries)
        started = entries[-1].event
        assert isinstance(started, AttemptStarted)
        state = Subject.of(saga_id, saga).replay(entries, known)
        if not _has_open(state, started):
            raise CorruptLog(f"saga {saga_id}, entry {state.seq}: it starts an attempt that its log leaves no room for")
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

    def _settle(self, saga: Saga, saga_id: UUID, lane: str, offer: Offer, known: State | None) -> Run | None:
        """Decide about a lane that a timeout, a lost worker or the saga's deadline left undecided, and take it."""
        claim = Claim(self._worker(), uuid4(), offer.queue)
        state = Subject.of(saga_id, saga).replay(log.entries(saga_id, offer.entries), known)
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
                    return self.go_on(run, draft, written)
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
            waits[run.attempt] = wait_of_undecided(run)
        if track.ended == "interrupted" and not run.state.paused and (run.undo or not run.state.rolling_back):
            return AttemptStarted(run.lane, run.step, run.attempt + 1, run.undo, run.job.timeout)
        effect = not (run.job.transactional and not run.undo)
        return failure(run, track.error or "", None, waits[run.attempt], effect=effect)

    def _waited_out(self, state: State, command: RunStep) -> bool:
        """Sleep through what is left of the short wait for which a lost worker had held the lane; not through a long one."""
        left = (command.due - state.at).total_seconds() if command.due and state.at else 0.0
        if left > self._inline_wait:
            return False
        time.sleep(max(0.0, left))
        return True

    # --- recording ----------------------------------------------------------------------------------------------------

    def record(self, run: Run, outcome: Outcome, may_continue: Callable[[], bool]) -> Run | None:
        """Append how an attempt ended, and go on with what follows if this worker may.

        It is tried until the log has it: while the database is away, this waits. An exception that comes from outside
        meanwhile (a time limit, a shutdown) is raised once the log has it.

        Returns:
            the next attempt, started, or held and to be woken; ``None`` when the lane is given back or over.
        """
        wait = wait_after(run, outcome)
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
                written = self.find(draft)
            if written is not None:
                following = self.go_on(run, draft, written)
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
        wait = wait_after(run, outcome)
        for tries in range(_SETTLE_TRIES):
            if not run.stands:
                return None
            draft = self._draft(run, outcome, wait, keep=keep)
            written = self.engine.write(draft, link)
            if written is not None:
                return draft, written
            back_off(tries)
            run.state = run.subject.replay(log.read_entries(link, run.saga_id, after=run.state.seq), run.state)
        return None

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
            return self.find(draft)

    def find(self, draft: Draft) -> Written | None:
        """Whether a draft of which nobody knows was committed after all; insists on an answer."""
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
        held = keep and wait is not None and 0 < wait <= self._inline_wait
        event = ending(run, outcome, wait, held=held)
        return self.engine.draft(run.subject, run.state, event, run.claim, keep=keep)

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

    def go_on(self, run: Run, draft: Draft, written: Written) -> Run | None:
        """Turn an attempt whose end is committed into the one that follows."""
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


def _has_open(state: State, started: AttemptStarted) -> bool:
    """Whether a state includes the attempt that was started."""
    if started.step not in state.steps:
        return False
    track = state.track(started.step, started.undo)
    return track.status is StepStatus.RUNNING and track.attempts == started.attempt
