"""Sentry: one event for a failure that is final; none for an attempt that is tried again, and none for a refusal.

Sentry's integration for Celery reports each exception as the task raises it, when nobody knows yet what the log will say
of it. So its event is held back, and sent once the log has the failure for good.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import Context
from typing import Any

from saga.core.events import AttemptFailed
from saga.telemetry.facts.attempts import AttemptEnded, AttemptName
from saga.telemetry.stream import subscribe


class Report:
    """What Sentry is told of one attempt, if anything.

    Attributes:
        event: what the integration made of the exception, with what it was made of and where.
    """

    def __init__(self, sentry: Any, tags: dict[str, str]) -> None:
        self._sentry = sentry
        self._tags = tags
        self._open = True
        self.event: tuple[Any, Any, Any] | None = None

    def send(self, error: BaseException) -> None:
        """The attempt was the last one, and this is why."""
        self._open = False
        with suppress(Exception):  # no saga fails for what watches it
            # Otherwise the integration that drops duplicates would take this for one.
            Context().run(self._send, error)

    def hold(self, event: Any, hint: Any) -> Any:
        """Keep the event of the task's own exception; let all others go."""
        if not self._open or not _is_of_task(event):
            return event
        self.event = event, hint, self._sentry.get_isolation_scope()
        return None

    def tag(self, scope: Any) -> None:
        """Say which attempt it is."""
        for name, value in self._tags.items():
            scope.set_tag(name, value)

    def _send(self, error: BaseException) -> None:
        if self.event is None:
            with self._sentry.isolation_scope() as scope:
                self.tag(scope)
                self._sentry.capture_exception(error)
            return
        event, hint, scope = self.event
        event.pop("breadcrumbs", None)  # the scope adds them again
        with self._sentry.scope.use_isolation_scope(scope):
            self._sentry.capture_event(event, hint=hint)


@contextmanager
def held_back(attempt: AttemptName) -> Iterator[Report | None]:
    """Hold back what Sentry is told of the exception of an attempt; ``None`` where its integration is not at work."""
    sentry = sys.modules.get("sentry_sdk")
    if sentry is None or sentry.get_client().get_integration("celery") is None:
        yield None
        return
    tags = {
        "saga": attempt.saga,
        "saga.id": str(attempt.saga_id),
        "saga.step": attempt.ref.step,
        "saga.attempt": str(attempt.ref.attempt),
    }
    report = Report(sentry, tags)
    with sentry.isolation_scope() as scope:
        report.tag(scope)
        scope.add_event_processor(report.hold)
        yield report


def _tell(fact: AttemptEnded) -> None:
    final = isinstance(fact.event, AttemptFailed) and fact.event.outcome != "retry"
    if final and fact.report is not None and fact.error is not None:
        fact.report.send(fact.error)


subscribe(AttemptEnded, _tell)


def _is_of_task(event: Any) -> bool:
    values = (event.get("exception") or {}).get("values") or [{}]
    return any((value.get("mechanism") or {}).get("type") == "celery" for value in values)
