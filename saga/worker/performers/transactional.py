"""Transactional: one attempt of a step whose writes and whose entry in the log are one transaction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from celery.exceptions import SoftTimeLimitExceeded

from saga.core.outcome import Failure, Interruption, Outcome, Success
from saga.crashpoints import reach
from saga.engine.draft import Draft, Written
from saga.store.port import StepTransaction, Store
from saga.store.values import TransactionEnded
from saga.worker.attempt import Attempt
from saga.worker.performers.plain import Performer
from saga.worker.performers.said import TIME_LIMIT, StepError, traceback_of

Entered = tuple[Draft, Written]
"""An entry, and that it was appended."""


@dataclass(frozen=True, slots=True)
class Performed:
    """What came of an attempt.

    Attributes:
        entered: its entry, where that is committed; without one its outcome is still to be recorded.
        interrupt: what came from outside meanwhile.
    """

    outcome: Outcome
    entered: Entered | None = None
    interrupt: BaseException | None = None


class TransactionalPerformer:
    """Makes attempts of transactional steps.

    Args:
        performer: makes them once there is a transaction.
        begin: a transaction whose statements may take so many seconds.
        find: whether an entry was committed whose commit had no answer.
    """

    def __init__(
        self,
        performer: Performer,
        begin: Callable[[float], StepTransaction],
        find: Callable[[Draft], Written | None],
    ) -> None:
        self._performer = performer
        self._begin = begin
        self._find = find

    def perform(self, attempt: Attempt, carrier: Any, enter: Callable[[Outcome, Store], Entered | None]) -> Performed:
        """Make an attempt.

        Args:
            enter: appends its entry in the transaction, if the attempt still stands.
        """
        entered: Entered | None = None

        def enter_once(outcome: Outcome, store: Store) -> Entered | None:
            nonlocal entered
            entered = enter(outcome, store)
            return entered

        within = self._begin(attempt.job.timeout)
        try:
            outcome = self._make(attempt, carrier, within, enter_once)
        except Exception as error:
            timed_out = isinstance(error, SoftTimeLimitExceeded)
            failed = Failure(error, effect=False, traceback=traceback_of(error))
            outcome = Interruption(TIME_LIMIT) if timed_out else failed
            entered = self._found(entered, within)
        except BaseException as error:
            broken_off = self._performer.broken_off(error)
            if isinstance(broken_off, Failure):
                broken_off = replace(broken_off, effect=False)
            return Performed(broken_off, self._found(entered, within), error)
        if within.ended and entered is None:
            outcome = _ended_itself(outcome)
        return Performed(outcome, entered)

    def _make(
        self,
        attempt: Attempt,
        carrier: Any,
        within: StepTransaction,
        enter: Callable[[Outcome, Store], Entered | None],
    ) -> Outcome:
        entered = None
        with within:
            with within.shared():
                outcome = self._performer.perform(attempt, carrier, within.connection)
            if isinstance(outcome, Success):
                joined = within.settled()
                entered = enter(outcome, joined)
                if entered is None and attempt.stands:
                    raise StepError("its entry found no place in the log; nothing is committed")
                if entered is not None:
                    reach(f"{attempt.path}.before_commit", within.driver)
                    within.commit()
                    reach(f"{attempt.path}.after_commit")
        if entered is not None:
            within.committed()
        return outcome

    def _found(self, entered: Entered | None, within: StepTransaction) -> Entered | None:
        """The entry that a commit without an answer has written after all."""
        if entered is None:
            return None
        draft, _ = entered
        written = self._find(draft)
        if written is None:
            return None
        within.committed()
        return draft, written


def _ended_itself(outcome: Outcome) -> Failure:
    """The outcome of a transactional step that ended the log's transaction: it may have had an effect."""
    if isinstance(outcome, Failure) and not isinstance(outcome.error, TransactionEnded):
        return replace(outcome, effect=True)
    return Failure(TransactionEnded(), final=True)
