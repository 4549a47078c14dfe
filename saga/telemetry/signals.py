"""Signals: what other code can subscribe to, on Celery's own ``Signal``. They inform and never decide.

Each is sent once the log says so, by the process that wrote it, with ``sender`` the saga's name and the keywords named here.
"""

from __future__ import annotations

from typing import Any

from celery.utils.dispatch import Signal

from saga.core.events import AttemptFailed, AttemptSucceeded
from saga.core.state import Status
from saga.telemetry.facts.sagas import Appended, SagaOpened
from saga.telemetry.stream import subscribe

saga_started = Signal(name="saga_started", providing_args={"saga_id"})
step_succeeded = Signal(name="step_succeeded", providing_args={"saga_id", "step", "attempt"})
step_failed = Signal(
    name="step_failed",
    providing_args={"saga_id", "step", "attempt", "error", "error_type", "code", "details", "outcome"},
)
compensation_started = Signal(name="compensation_started", providing_args={"saga_id", "reason"})
saga_completed = Signal(name="saga_completed", providing_args={"saga_id"})
saga_compensated = Signal(name="saga_compensated", providing_args={"saga_id", "reason"})
saga_stuck = Signal(name="saga_stuck", providing_args={"saga_id", "reason"})
saga_abandoned = Signal(name="saga_abandoned", providing_args={"saga_id", "reason", "undos_owed"})


def _announce(fact: Appended) -> None:
    """Send the signals of events that were appended together and of the status they led to."""
    saga, saga_id, before, after = fact.saga, fact.saga_id, fact.before, fact.after
    for event in fact.events:
        if isinstance(event, AttemptSucceeded) and not event.undo:
            _send(step_succeeded, saga, saga_id=saga_id, step=event.step, attempt=event.attempt)
        elif isinstance(event, AttemptFailed) and not event.undo:
            _send(step_failed, saga, saga_id=saga_id, step=event.step, attempt=event.attempt, error=event.error,
                  error_type=event.error_type, code=event.code, details=event.details, outcome=event.outcome)  # fmt: skip
    if after.rolling_back and not before.rolling_back:
        _send(compensation_started, saga, saga_id=saga_id, reason=after.reason)
    if fact.moved and (status := after.status) is not before.status:
        if status is Status.COMPLETED:
            _send(saga_completed, saga, saga_id=saga_id)
        elif status is Status.COMPENSATED:
            _send(saga_compensated, saga, saga_id=saga_id, reason=after.reason)
        elif status is Status.STUCK:
            _send(saga_stuck, saga, saga_id=saga_id, reason=after.problem)
        elif status is Status.ABANDONED:
            _send(saga_abandoned, saga, saga_id=saga_id, reason=after.reason, undos_owed=after.undos_owed)


def _announce_start(fact: SagaOpened) -> None:
    """Send ``saga_started``; a start in the caller's transaction sends it only where the commit is seen, in a Session."""
    _send(saga_started, fact.saga, saga_id=fact.saga_id)


def _send(signal: Signal, sender: str, **named: Any) -> None:
    if signal.receivers:
        signal.send(sender=sender, **named)


subscribe(SagaOpened, _announce_start)
subscribe(Appended, _announce)
