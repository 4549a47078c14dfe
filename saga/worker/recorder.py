"""Recorder: how a worker records the ends of its attempts, goes on with what follows, and lets go."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from saga.engine.draft import Draft, Written
from saga.engine.engine import Engine, back_off
from saga.errors import DatabaseNotReady, SagaNotFound, first_line
from saga.store.port import Refused, Store, ValueRefused
from saga.telemetry.facts.attempts import AttemptCameLate, LogFoundGone
from saga.telemetry.facts.lanes import LaneDamaged, LaneNotGivenBack
from saga.telemetry.facts.sagas import OutcomesUnknown, OutcomeUnknown
from saga.telemetry.stream import emit
from saga.telemetry.watch import tell_end
from saga.worker.attempt import Attempt
from saga.worker.batch import Ended, by_saga, ends_lane
from saga.worker.policy import not_stored, wait_after
from saga.worker.redaction import Redact, redacted
from saga.worker.report import in_ascii, report, told

_SETTLE_TRIES = 200
_WITHOUT_END = 1_000_000_000
_TOGETHER_TRIES = 10
_REFUSALS = 5
_VALUE_REFUSED = (ValueRefused, Unencodable, UnicodeError)
_REFUSED = (*_VALUE_REFUSED, Refused)
"""What comes again however often it is tried."""

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
        self, run: Attempt, outcome: Outcome, may_continue: Callable[[], bool], *, hold: bool = True
    ) -> Attempt | None:
        """Append how an attempt ended, and go on with what follows if this worker may.

        It is tried until the log has it: while the database is away, this waits. An exception that comes from outside
        meanwhile (a time limit, a shutdown) is raised once the log has it.

        Args:
            hold: the worker may keep the lane through a short wait.

        Returns:
            the next attempt, started, or held and to be woken; ``None`` when the lane is given back or over.
        """
        wait = wait_after(run, outcome)
        interrupt: BaseException | None = None
        following = None
        refusals = 0
        late = False
        for tries in range(_WITHOUT_END):
            if not run.stands:
                self._keep_evidence(run, outcome)
                self.forget(run)
                break
            keep = interrupt is None and not late and may_continue()
            draft = self._draft(run, outcome, wait, keep=keep, hold=hold, plain=refusals > 0)
            try:
                reach(f"{run.path}.before_append")
                written = self._write_or_find(draft)
                reach(f"{run.path}.after_append")
            except _REFUSED as error:
                refusals += 1
                if refusals > _REFUSALS:
                    self._give_up(run, error)
                    break
                if isinstance(outcome, Success) and isinstance(error, _VALUE_REFUSED):
                    outcome, wait = not_stored(error), None
                written = None
            except BaseException as error:
                interrupt, written = error, self.find(draft)
            if written is not None:
                following = self.go_on(run, draft, written)
                break
            back_off(tries)
            run.state = self._read_on(run)
            late = late or draft.is_too_late(run.state)
        self._raise(interrupt, [following] if following is not None else [])
        return following

    def record_all(
        self, ended: Sequence[Ended], may_continue: Callable[[], bool], *, hold: bool = False, tries: int = 0
    ) -> list[Attempt]:
        """Append how several attempts ended, in one statement where that can be.

        What this does not append, because another entry came first or because the statement failed, is recorded by
        itself, as ``record`` does; the branches of one saga are tried together some times before.
        """
        shares = self._shares(ended, may_continue)
        written, interrupt = self._write_together([draft for draft, _ in shares])
        following: list[Attempt] = []
        for draft, members in shares:
            may = may_continue if interrupt is None else _never
            try:
                if draft is not None and (done := written.get(draft.subject.id)) is not None:
                    following += self._go_on_together([run for run, _ in members], draft, done)
                elif draft is not None and len(members) > 1 and tries < _TOGETHER_TRIES:
                    back_off(tries)
                    members[0][0].state = state = self._read_on(members[0][0])
                    may = _never if draft.is_too_late(state) else may
                    following += self.record_all(members, may, hold=hold, tries=tries + 1)
                else:
                    following += self._record_each(members, draft, written, may, hold=hold)
            except BaseException as error:
                interrupt = error
                for run, _ in members:
                    self.abandon(run)
        self._raise(interrupt, following)
        return following

    def _raise(self, interrupt: BaseException | None, following: Sequence[Attempt]) -> None:
        """Raise what came from outside meanwhile, if anything did; what follows is not begun then."""
        if interrupt is not None:
            for run in following:
                self.forget(run)
            raise interrupt

    def _record_each(
        self, members: Sequence[Ended], draft: Draft | None, written: Mapping[UUID, Written], may: Callable[[], bool],
        *, hold: bool,
    ) -> Iterator[Attempt]:  # fmt: skip
        """Record attempts one by one, from what is known of their sagas by now."""
        for run, outcome in members:
            if done := written.get(run.saga_id):
                run.state = done.state
            elif draft is not None:
                run.state = self._read_on(run)
            after = self.record(run, outcome, may, hold=hold)
            if after is not None:
                yield after

    def _shares(
        self, ended: Sequence[Ended], may_continue: Callable[[], bool]
    ) -> list[tuple[Draft | None, list[Ended]]]:
        """What ended, each with the draft that records it; none, where that is to be recorded by itself.

        Of each saga one draft at most: of those attempts after which their lanes are over, or else of its first one.
        """
        if len(ended) == 1:
            return [(None, list(ended))]
        return [share for members in by_saga(ended) for share in self._share(members, may_continue)]

    def _share(
        self, members: Sequence[Ended], may_continue: Callable[[], bool]
    ) -> Iterator[tuple[Draft | None, list[Ended]]]:
        newest = max((run.state for run, _ in members), key=lambda state: state.seq)
        for run, _ in members:
            run.state = newest
        sharing: list[Ended] = []
        alone: list[Ended] = []
        for run, outcome in members:
            (sharing if run.stands and ends_lane(run, outcome) else alone).append((run, outcome))
        if not sharing and alone[0][0].stands:
            sharing.append(alone.pop(0))
        if sharing:
            yield self._draft_all(sharing, keep=may_continue()), sharing
        for member in alone:
            yield None, [member]

    def _go_on_together(self, runs: Sequence[Attempt], draft: Draft, written: Written) -> list[Attempt]:
        """Turn attempts whose end is committed into the one that follows, if one does."""
        first, *others = runs
        for run in others:
            run.state = written.state
            _tell(run, draft)
            self.forget(run)
        following = self.go_on(first, draft, written)
        return [] if following is None else [following]

    def _write_together(self, given: Sequence[Draft | None]) -> tuple[dict[UUID, Written], BaseException | None]:
        """What was appended, by saga; and what came from outside meanwhile."""
        drafts = [draft for draft in given if draft is not None]
        interrupt: BaseException | None = None
        if not drafts:
            return {}, None
        try:
            _reach(drafts, "before_append")
            written = self.engine.write_all(drafts)
            _reach(drafts, "after_append")
        except BaseException as error:
            if not isinstance(error, (DatabaseNotReady, *_REFUSED)):
                interrupt = error
            emit(OutcomesUnknown(len(drafts), error))
            written = [self.find(draft) for draft in drafts]
        found = zip(drafts, written, strict=True)
        return {draft.subject.id: done for draft, done in found if done is not None}, interrupt

    def record_within(
        self, run: Attempt, outcome: Outcome, store: Store, *, keep: bool
    ) -> tuple[Draft, Written] | None:
        """Append how a transactional attempt ended inside its own transaction; ``None`` when it had been declared over.

        Nothing is published: the caller commits, then calls ``go_on``.
        """
        wait = wait_after(run, outcome)
        for tries in range(_SETTLE_TRIES):
            if not run.stands:
                return None
            draft = self._draft(run, outcome, wait, keep=keep, hold=False)
            written = self.engine.write(draft, store)
            if written is not None:
                return draft, written
            back_off(tries)
            run.state = self.engine.read(run.subject, run.state, self.worker())
            keep = keep and not draft.is_too_late(run.state)
        return None

    def wake(self, run: Attempt) -> Attempt | None:
        """Start the attempt for which a lane was held; ``None`` when it is to be held no more."""
        late = False
        for tries in range(_SETTLE_TRIES):
            if not run.track.held or run.track.attempts != run.attempt - 1:
                break
            event = answer(run.saga.outline, run.state, RunStep(run.ref), None, timeout=run.job.timeout, late=late)
            assert event is not None
            draft = self.engine.draft(run.subject, run.state, event, run.claim)
            reach("hold.before_wake")
            written = self._write_or_find(draft)
            if written is not None:
                reach("hold.after_wake")
                self.engine.follow_up(draft, written)
                run.state = written.state
                if isinstance(event, AttemptStarted):
                    run.started_at, run.clock, run.held = written.at, time.monotonic(), None
                    return run
                continue
            back_off(tries)
            run.state = self._read_on(run)
            late = draft.is_too_late(run.state)
        self.forget(run)
        return None

    def forget(self, run: Attempt) -> None:
        """Let go of an attempt: nothing in this process runs it any more."""
        self.running.pop(run.claim.token, None)
        self.engine.memory.remember(run.saga_id, run.state)

    def abandon(self, run: Attempt) -> None:
        """Let go of an attempt whose end could not be recorded; if the lane is still owned, the upkeep gives it back."""
        self.running.pop(run.claim.token, None)

    def _give_up(self, run: Attempt, error: BaseException) -> None:
        """Let go of an attempt whose end the log does not take, however it is put."""
        self.abandon(run)
        problem = f"saga {run.saga_id}: its log takes no entry: {first_line(error)}"
        try:
            self.park_damaged(run.saga_id, run.lane, problem)
        except DatabaseNotReady as further:
            emit(LaneNotGivenBack(run.name, further))

    def park_damaged(self, saga_id: UUID, lane: str, problem: str) -> None:
        """Park a lane whose log cannot be read or written, freeing it first if its claim was committed."""
        emit(LaneDamaged(saga_id, lane, problem))
        worker = self.worker()
        store = self.engine.store
        with store.hold():
            store.give_back(worker, [token for token in store.owned(worker) if token not in self.running])
            store.park(saga_id, lane, ascii_only(problem))

    def _write_or_find(self, draft: Draft) -> Written | None:
        try:
            return self.engine.write(draft)
        except _REFUSED:
            raise
        except DatabaseNotReady as error:
            emit(OutcomeUnknown(draft.subject.outline.name, draft.subject.id, error))
            return self.find(draft)

    def find(self, draft: Draft) -> Written | None:
        """Whether a draft of which nobody knows was committed after all; insists on an answer."""
        return self._insist(lambda: self.engine.find(draft))

    def _read_on(self, run: Attempt) -> State:
        """What has come before; of a saga that is gone, nothing, which no attempt can go on from."""
        try:
            return self._insist(lambda: self.engine.read(run.subject, run.state, self.worker()))
        except SagaNotFound as error:
            emit(LogFoundGone(run.name, error))
            return run.subject.replay(())

    @staticmethod
    def _insist(ask: Callable[[], T]) -> T:
        for tries in range(_WITHOUT_END):
            try:
                return ask()
            except DatabaseNotReady:
                back_off(tries, longest=1.0)
        raise AssertionError("unreachable")

    def _draft(
        self, run: Attempt, outcome: Outcome, wait: float | None, *, keep: bool, hold: bool, plain: bool = False
    ) -> Draft:
        keep = keep and not isinstance(outcome, Interruption)
        longest = self.inline_wait if hold and keep else 0.0
        event = redacted(verdict(run.saga.outline, run.state, run.ref, told(outcome), wait, hold=longest), self._redact)
        if plain:
            event = in_ascii(event)
        return self.engine.draft(run.subject, run.state, event, run.claim, keep=keep)

    def _draft_all(self, ended: Sequence[Ended], *, keep: bool) -> Draft:
        """What records the ends of attempts of one saga; the first of them goes on."""
        run, outcome = ended[0]
        keep = keep and not isinstance(outcome, Interruption)
        events = (
            verdict(each.saga.outline, each.state, each.ref, told(how), wait_after(each, how)) for each, how in ended
        )
        clean = tuple(redacted(event, self._redact) for event in events)
        return self.engine.draft_all(run.subject, run.state, clean, run.claim, keep=keep)

    def _keep_evidence(self, run: Attempt, outcome: Outcome) -> None:
        """What a late attempt brings goes to the log, where nothing uses it."""
        word = type(outcome).__name__.lower()
        said = report(outcome.error) if isinstance(outcome, Failure) else Report(None)
        result = outcome.result if isinstance(outcome, Success) else None
        late = LateResult(*run.ref, word, said.error, result, *said[1:])
        event = redacted(late, self._redact)
        emit(AttemptCameLate(run.name, word))
        tell_end(run.name, event, run.watch)
        try:
            run.state = self.engine.keep_evidence(run.subject, run.state, event, self.worker())
        except _VALUE_REFUSED:
            run.state = self.engine.keep_evidence(run.subject, run.state, in_ascii(event), self.worker())

    def go_on(self, run: Attempt, draft: Draft, written: Written) -> Attempt | None:
        """Turn an attempt whose end is committed into the one that follows."""
        run.state = written.state
        self.engine.follow_up(draft, written)
        _tell(run, draft)
        following = self._following(run, draft, written)
        if following is None:
            self.forget(run)
        else:
            self.running[run.claim.token] = following
        return following

    def _following(self, run: Attempt, draft: Draft, written: Written) -> Attempt | None:
        event = draft.events[-1]
        if isinstance(event, AttemptStarted):
            return Attempt(run.saga, run.saga_id, run.state, event.ref, run.claim, written.at)
        if isinstance(event, AttemptFailed) and event.held and run.track.held:
            return replace(run, ref=run.ref.next, started_at=None, held=event.wait, watch=None)
        return None


def _reach(drafts: Sequence[Draft], place: str) -> None:
    for path in sorted({"undo" if getattr(draft.events[0], "undo", False) else "run" for draft in drafts}):
        reach(f"{path}.{place}")


def _tell(run: Attempt, draft: Draft) -> None:
    """Tell how an attempt ended, as the log has it."""
    for event in draft.events:
        if isinstance(event, AttemptEvent) and not isinstance(event, AttemptStarted) and event.ref == run.ref:
            tell_end(run.name, event, run.watch)


def _never() -> bool:
    return False
