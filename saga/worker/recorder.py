"""Recorder: records the ends of a worker's attempts, goes on with what follows, and lets go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar
from uuid import UUID

from saga.core.commands import RunStep
from saga.core.events import AttemptEvent, AttemptFailed, AttemptStarted, LateResult
from saga.core.outcome import Failure, Interruption, Outcome, Report, Success
from saga.core.state import State
from saga.core.text import Unencodable, ascii_only
from saga.core.verdict import answer, verdict
from saga.crashpoints import reach
from saga.engine.draft import Draft, Instance, Written
from saga.engine.engine import Engine
from saga.errors import DatabaseNotReady, SagaNotFound, first_line
from saga.store.port import Store
from saga.store.values import Refused, ValueRefused
from saga.telemetry.facts.attempts import AttemptCameLate, LogFoundGone
from saga.telemetry.facts.lanes import LaneDamaged, LaneNotGivenBack
from saga.telemetry.facts.sagas import OutcomeUnknown
from saga.telemetry.stream import emit
from saga.telemetry.watch import tell_end
from saga.worker.attempt import Attempt
from saga.worker.batch import Ended
from saga.worker.policy import not_stored, wait_after
from saga.worker.report import Redact, in_ascii, redacted, report, told

_WITHOUT_END = 1_000_000_000
_REFUSALS = 5
_VALUE_REFUSED = (ValueRefused, Unencodable, UnicodeError)
REFUSED = (*_VALUE_REFUSED, Refused)
"""Errors that come again, however often it is tried."""

T = TypeVar("T")


class Recorder:
    """The attempts of one worker process.

    Args:
        worker: this process's number as a worker; asked for when first needed.
        inline_wait: the longest wait for a retry, in seconds, that the worker sleeps through.
        redact: what the texts of errors go through before they are written.

    Attributes:
        running: claim token to what runs under it; ``None`` while a claim is under way.
    """

    def __init__(
        self, engine: Engine, worker: Callable[[], int], inline_wait: float, redact: Redact | None = None
    ) -> None:
        self.engine = engine
        self.running: dict[UUID, Attempt | None] = {}
        self.worker = worker
        self.inline_wait = inline_wait
        self._redact = redact

    def record(
        self, attempt: Attempt, outcome: Outcome, may_continue: Callable[[], bool], *, hold: bool = True
    ) -> Attempt | None:
        """Append how an attempt ended, and go on with what follows if this worker may.

        This tries until the log has it: while the database is down, it waits. If an exception comes from outside (a time
        limit, a shutdown), it is raised once the log has the end.

        Args:
            hold: the worker may keep the lane through a short wait.

        Returns:
            the next attempt, started, or held and to be woken; ``None`` when the lane is given back or over.
        """
        ending = _Ending(self, attempt, outcome, may_continue, hold=hold)
        done = self.engine.advance(
            attempt.state, ending.draft, write=ending.write, read=ending.read, tries=_WITHOUT_END
        )
        following = None
        if (entered := done.entered or ending.found_late()) is not None:
            following = self.go_on(attempt, *entered)
        elif ending.refusal is not None:
            self._give_up(attempt, ending.refusal)
        else:
            self._keep_evidence(attempt, ending.outcome)
            self.forget(attempt)
        self.raise_once(ending.interrupt, [following] if following is not None else [])
        return following

    def raise_once(self, interrupt: BaseException | None, following: Sequence[Attempt]) -> None:
        """Raise what came from outside meanwhile, if anything did; what follows is not begun then."""
        if interrupt is not None:
            for attempt in following:
                self.forget(attempt)
            raise interrupt

    def record_within(
        self, attempt: Attempt, outcome: Outcome, store: Store, *, keep: bool
    ) -> tuple[Draft, Written] | None:
        """Append how a transactional attempt ended inside its own transaction; ``None`` when it had been declared over.

        Nothing is published: the caller commits, then calls ``go_on``.
        """
        wait = wait_after(attempt, outcome)

        def decide(state: State, late: bool) -> Draft | None:
            attempt.state = state
            return self.draft(attempt, outcome, wait, keep=keep and not late, hold=False) if attempt.stands else None

        done = self.engine.advance(
            attempt.state, decide, write=lambda draft: self.engine.write(draft, store), read=self._read
        )
        return done.entered

    def wake(self, attempt: Attempt) -> Attempt | None:
        """Start the attempt for which a lane was held; ``None`` if the lane is not held any more."""

        def decide(state: State, late: bool) -> Draft | None:
            attempt.state = state
            if not attempt.track.held or attempt.track.attempts != attempt.number - 1:
                return None
            reach("hold.before_wake")
            event = answer(
                attempt.saga.outline, state, RunStep(attempt.ref), None, timeout=attempt.job.timeout, late=late
            )
            assert event is not None
            return self.engine.draft(attempt.instance, state, event, attempt.lease)

        def read(_: Instance, known: State) -> State:
            return self.read_on(attempt, known)

        while True:
            done = self.engine.advance(attempt.state, decide, write=self._write_or_lose, read=read)
            if done.draft is None or done.written is None:
                self.forget(attempt)
                return None
            reach("hold.after_wake")
            self.engine.follow_up(done.draft, done.written)
            attempt.state = done.state
            if isinstance(done.draft.events[0], AttemptStarted):
                attempt.held = None
                attempt.begin(done.written.at)
                return attempt

    def forget(self, attempt: Attempt) -> None:
        """Let go of an attempt: nothing in this process runs it any more."""
        self.running.pop(attempt.lease.token, None)
        self.engine.memory.remember(attempt.saga_id, attempt.state)

    def abandon(self, attempt: Attempt) -> None:
        """Let go of an attempt whose end could not be recorded; if the lane is still owned, the upkeep gives it back."""
        self.running.pop(attempt.lease.token, None)

    def _give_up(self, attempt: Attempt, error: BaseException) -> None:
        """Let go of an attempt whose end the log does not take in any form."""
        self.abandon(attempt)
        problem = f"saga {attempt.saga_id}: its log takes no entry: {first_line(error)}"
        try:
            self.park_damaged(attempt.saga_id, attempt.lane, problem)
        except DatabaseNotReady as further:
            emit(LaneNotGivenBack(attempt.name, further))

    def park_damaged(self, saga_id: UUID, lane: str, problem: str) -> None:
        """Park a lane whose log cannot be read or written, freeing it first if its claim was committed."""
        emit(LaneDamaged(saga_id, lane, problem))
        worker = self.worker()
        store = self.engine.store
        with store.hold():
            store.give_back(worker, [token for token in store.owned(worker) if token not in self.running])
            store.park(saga_id, lane, ascii_only(problem))

    def _write_or_lose(self, draft: Draft) -> Written | None:
        """Append a draft; ``None`` if something came before it. This tries until the store has said so."""
        unanswered = False

        def ask() -> Written | None:
            nonlocal unanswered
            try:
                written = self.engine.write(draft)
            except DatabaseNotReady as error:
                unanswered = True
                emit(OutcomeUnknown(draft.instance.outline.name, draft.instance.id, error))
                if (written := self.find(draft)) is None:
                    raise
            # What came before it may be itself: a server goes on with a statement whose client is gone.
            return self.find(draft) if written is None and unanswered else written

        return self._insist(ask)

    def find(self, draft: Draft) -> Written | None:
        """Whether a draft was committed after all, if its write gave no answer. This asks until it has an answer."""
        return self._insist(lambda: self.engine.find(draft))

    def read_on(self, attempt: Attempt, known: State | None = None) -> State:
        """What has come before. If the saga is gone, nothing: no attempt can go on from that."""
        try:
            return self._insist(lambda: self._read(attempt.instance, known or attempt.state))
        except SagaNotFound as error:
            emit(LogFoundGone(attempt.name, error))
            return attempt.instance.replay(())

    def _read(self, instance: Instance, known: State) -> State:
        return self.engine.read(instance, known, self.worker())

    def _insist(self, ask: Callable[[], T]) -> T:
        for tries in range(_WITHOUT_END):
            try:
                return ask()
            except DatabaseNotReady:
                self.engine.back_off(tries, longest=1.0)
        raise AssertionError("unreachable")

    def draft(
        self, attempt: Attempt, outcome: Outcome, wait: float | None, *, keep: bool, hold: bool, plain: bool = False
    ) -> Draft:
        keep = keep and not isinstance(outcome, Interruption)
        longest = self.inline_wait if hold and keep else 0.0
        event = redacted(
            verdict(attempt.saga.outline, attempt.state, attempt.ref, told(outcome), wait, hold=longest), self._redact
        )
        if plain:
            event = in_ascii(event)
        return self.engine.draft(attempt.instance, attempt.state, event, attempt.lease, keep=keep)

    def draft_all(self, ended: Sequence[Ended], *, keep: bool) -> Draft:
        """What records the ends of attempts of one saga; the first of them goes on."""
        attempt, outcome = ended[0]
        keep = keep and not isinstance(outcome, Interruption)
        events = (
            verdict(each.saga.outline, each.state, each.ref, told(how), wait_after(each, how)) for each, how in ended
        )
        clean = tuple(redacted(event, self._redact) for event in events)
        return self.engine.draft_all(attempt.instance, attempt.state, clean, attempt.lease, keep=keep)

    def _keep_evidence(self, attempt: Attempt, outcome: Outcome) -> None:
        """What a late attempt brings goes to the log, where nothing uses it."""
        word = type(outcome).__name__.lower()
        said = report(outcome.error) if isinstance(outcome, Failure) else Report(None)
        result = outcome.result if isinstance(outcome, Success) else None
        late = LateResult(*attempt.ref, word, said.error, result, *said[1:])
        event = redacted(late, self._redact)
        emit(AttemptCameLate(attempt.name, word))
        tell_end(attempt.name, event, attempt.watch)
        try:
            attempt.state = self.engine.keep_evidence(attempt.instance, attempt.state, event, self.worker())
        except _VALUE_REFUSED:
            attempt.state = self.engine.keep_evidence(attempt.instance, attempt.state, in_ascii(event), self.worker())

    def go_on(self, attempt: Attempt, draft: Draft, written: Written) -> Attempt | None:
        """Turn an attempt whose end is committed into the one that follows."""
        attempt.state = written.state
        self.engine.follow_up(draft, written)
        tell(attempt, draft)
        following = self._following(attempt, draft, written)
        if following is None:
            self.forget(attempt)
        else:
            self.running[attempt.lease.token] = following
        return following

    def _following(self, attempt: Attempt, draft: Draft, written: Written) -> Attempt | None:
        event = draft.events[-1]
        if isinstance(event, AttemptStarted):
            return Attempt(
                attempt.saga, attempt.saga_id, attempt.state, event.ref, attempt.lease, written.at, attempt.clock
            )
        if isinstance(event, AttemptFailed) and event.held and attempt.track.held:
            return replace(attempt, ref=attempt.ref.next, started_at=None, held=event.wait, watch=None)
        return None


class _Ending:
    """An attempt that is over, until the log has it.

    Attributes:
        refusal: why the log does not take it, however it is put.
        interrupt: what came from outside meanwhile.
    """

    def __init__(
        self, recorder: Recorder, attempt: Attempt, outcome: Outcome, may_continue: Callable[[], bool], *, hold: bool
    ) -> None:
        self._recorder = recorder
        self._run = attempt
        self.outcome = outcome
        self._wait = wait_after(attempt, outcome)
        self._may_continue = may_continue
        self._hold = hold
        self._refusals = 0
        self._unanswered: list[Draft] = []
        self.refusal: BaseException | None = None
        self.interrupt: BaseException | None = None

    def draft(self, state: State, late: bool) -> Draft | None:
        """What the log is to say; nothing where the attempt had been declared over, or the log takes nothing."""
        self._run.state = state
        if self.refusal is not None or not self._run.stands:
            return None
        keep = self.interrupt is None and not late and self._may_continue()
        return self._recorder.draft(
            self._run, self.outcome, self._wait, keep=keep, hold=self._hold, plain=self._refusals > 0
        )

    def write(self, draft: Draft) -> Written | None:
        """Append it, or find that it was appended. What the log refuses is put in another way."""
        try:
            reach(f"{self._run.path}.before_append")
            written = self._recorder.engine.write(draft)
            reach(f"{self._run.path}.after_append")
        except REFUSED as error:
            self._put_otherwise(error)
            return None
        except DatabaseNotReady as error:
            emit(OutcomeUnknown(draft.instance.outline.name, draft.instance.id, error))
            return self._find(draft)
        except BaseException as error:
            self.interrupt = error
            return self._find(draft)
        return written

    def _find(self, draft: Draft) -> Written | None:
        written = self._recorder.find(draft)
        if written is None:
            self._unanswered.append(draft)
        return written

    def found_late(self) -> tuple[Draft, Written] | None:
        """What was appended after it had been looked for: a server goes on with a statement whose client is gone."""
        for draft in self._unanswered:
            if (written := self._recorder.find(draft)) is not None:
                return draft, written
        return None

    def _put_otherwise(self, error: BaseException) -> None:
        self._refusals += 1
        if self._refusals > _REFUSALS:
            self.refusal = error
        elif isinstance(self.outcome, Success) and isinstance(error, _VALUE_REFUSED):
            self.outcome, self._wait = not_stored(error), None

    def read(self, _: Instance, known: State) -> State:
        """Read on, unless nothing more is to be drafted."""
        return known if self.refusal is not None else self._recorder.read_on(self._run, known)


def tell(attempt: Attempt, draft: Draft) -> None:
    """Tell how an attempt ended, as the log has it."""
    for event in draft.events:
        if isinstance(event, AttemptEvent) and not isinstance(event, AttemptStarted) and event.ref == attempt.ref:
            tell_end(attempt.name, event, attempt.watch)
