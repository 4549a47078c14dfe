"""Watch: one attempt as it is followed from the call of its task to its end in the log."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from celery import Celery

from saga.core.events import Event
from saga.telemetry import board, monitor  # noqa: F401  they listen
from saga.telemetry.facts.attempts import AttemptBegan, AttemptEnded, AttemptLeft, AttemptName
from saga.telemetry.sentry import Report
from saga.telemetry.stream import emit


@dataclass(slots=True)
class Watch:
    """What is to be told of an attempt at its end.

    Attributes:
        refused: what the task raised means that nothing happened.
        error: what it raised else.
    """

    attempt: AttemptName
    report: Report | None = None
    began: AttemptBegan | None = None
    since: float = 0.0
    refused: bool = False
    error: BaseException | None = None

    def begin(self, app: Celery, task: str, task_id: UUID, carrier: Any) -> None:
        """Tell that the task is called."""
        self.began, self.since = AttemptBegan(self.attempt, task, task_id, carrier, app), time.monotonic()
        emit(self.began)

    def leave(self) -> None:
        """Tell that the task is over, if it was called."""
        if self.began is not None:
            emit(AttemptLeft(self.began))


def tell_end(attempt: AttemptName, event: Event, watch: Watch | None) -> None:
    """Tell how an attempt ended.

    Args:
        watch: ``None`` where it was not made: the worker was told to stop before.
    """
    if watch is None:
        emit(AttemptEnded(attempt, event, None, 0.0, None, None))
        return
    seconds = 0.0 if watch.began is None else time.monotonic() - watch.since
    emit(AttemptEnded(attempt, event, watch.began, seconds, watch.error, watch.report))
