"""Watch: one attempt as it is followed from the call of its task to its end in the log."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from celery import Celery

from saga.core.events import Event
from saga.telemetry import board, monitor  # noqa: F401  they listen
from saga.telemetry.facts.attempts import AttemptBegan, AttemptEnded, AttemptLeft, AttemptName
from saga.telemetry.sentry import Report, held_back
from saga.telemetry.stream import emit
from saga.telemetry.trace import restored


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

    @contextmanager
    def calling(self, app: Celery, task: str, task_id: UUID, carrier: Any) -> Iterator[None]:
        """Tell that the task is called, and that it is over."""
        self.began, self.since = AttemptBegan(self.attempt, task, task_id, carrier, app), time.monotonic()
        emit(self.began)
        try:
            yield
        finally:
            emit(AttemptLeft(self.began))


@contextmanager
def watched(attempt: AttemptName, trace: Mapping[str, str] | None) -> Iterator[Watch]:
    """Make an attempt in the trace in which its saga was started, and hold back what Sentry is told of its failure."""
    with restored(trace), held_back(attempt) as report:
        yield Watch(attempt, report)


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
