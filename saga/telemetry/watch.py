"""Watch: those outside who are told of one attempt: Celery's monitoring, and Sentry."""

from __future__ import annotations

from dataclasses import dataclass

from saga.core.events import AttemptFailed, Event
from saga.telemetry.monitor import Telling
from saga.telemetry.sentry import Report


@dataclass(slots=True)
class Watch:
    """Who is told how one attempt ended, once the log has it.

    Attributes:
        refused: what the task raised means that nothing happened.
        error: what it raised else.
    """

    report: Report | None = None
    telling: Telling | None = None
    refused: bool = False
    error: BaseException | None = None

    def end(self, event: Event) -> None:
        """Tell all of them."""
        if self.telling is not None:
            self.telling.end(event)
        final = isinstance(event, AttemptFailed) and event.outcome != "retry"
        if final and self.report is not None and self.error is not None:
            self.report.send(self.error)
