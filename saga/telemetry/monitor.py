"""Monitor: the events that tell Celery's own monitoring of attempts, where a worker sends events.

An attempt runs inside the task that carried its id, which tells of itself. So here each attempt is told of under the name
of the step's own task, by the process that runs it, from a thread of its own: no step waits for the broker, and events
that cannot be sent are dropped.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from contextvars import Context
from typing import Any

from celery import Celery

from saga.core.events import AttemptFailed, AttemptInterrupted, AttemptSucceeded, Event, LateResult
from saga.telemetry.facts.attempts import AttemptBegan, AttemptEnded
from saga.telemetry.facts.messages import EventsDropped, MonitoringTooSlow
from saga.telemetry.stream import emit, subscribe
from saga.telemetry.thread import start_thread
from saga.telemetry.wording import REDACTED

_ATTRIBUTE = "saga_monitor"
_making = threading.Lock()
_CAPACITY = 10_000
_AT_ONCE = 500
_LINGER = 0.05


class Monitor:
    """The events of one process, on their way to the broker."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._lock = threading.Lock()
        self._pid: int | None = None
        self._queue: queue.Queue[tuple[str | None, str, dict[str, Any]]] = queue.Queue(_CAPACITY)

    @staticmethod
    def of(app: Celery) -> Monitor:
        """The one of an app in this process."""
        found = getattr(app, _ATTRIBUTE, None)
        if found is None:
            with _making:
                found = getattr(app, _ATTRIBUTE, None) or Monitor(app)
                setattr(app, _ATTRIBUTE, found)
        return found

    def begin(self, fact: AttemptBegan) -> None:
        """Tell that an attempt begins."""
        self._tell(
            fact, "received", name=fact.task, args="()", kwargs=REDACTED, root_id=str(fact.attempt.saga_id), parent_id=None,
            retries=fact.attempt.ref.attempt - 1, eta=None, expires=None,
        )  # fmt: skip
        self._tell(fact, "started")

    def end(self, began: AttemptBegan, event: Event, seconds: float) -> None:
        """Tell how it ended, as the log has it."""
        if isinstance(event, AttemptSucceeded):
            self._tell(began, "succeeded", result=REDACTED, runtime=seconds)
        elif isinstance(event, AttemptFailed):
            kind = "retried" if event.outcome == "retry" else "failed"
            self._tell(began, kind, exception=event.error, traceback=event.traceback)
        elif isinstance(event, AttemptInterrupted):
            self._tell(began, "retried", exception=event.error, traceback=None)
        elif isinstance(event, LateResult):
            late = f"declared over before it ended: {event.error or event.outcome}"
            self._tell(began, "failed", exception=late, traceback=None)

    def _tell(self, began: AttemptBegan, kind: str, **fields: Any) -> None:
        self.send(
            began.carrier.hostname, f"task-{kind}", {"uuid": str(began.task_id), "timestamp": time.time(), **fields}
        )

    def send(self, node: str | None, kind: str, fields: dict[str, Any]) -> None:
        """Hand an event over; returns at once."""
        if self._pid != os.getpid():
            self._start()
        try:
            self._queue.put_nowait((node, kind, fields))
        except queue.Full:
            emit(MonitoringTooSlow())

    def _start(self) -> None:
        with self._lock:
            if self._pid != os.getpid():
                self._queue = queue.Queue(_CAPACITY)
                start_thread("saga-events", self._send_all, (self._queue,))
                self._pid = os.getpid()

    def _send_all(self, told: queue.Queue[tuple[str | None, str, dict[str, Any]]]) -> None:
        while True:
            waiting = [told.get()]
            time.sleep(_LINGER)
            while len(waiting) < _AT_ONCE and not told.empty():
                waiting.append(told.get())
            try:
                Context().run(self._send_together, waiting)
            except Exception as error:
                emit(EventsDropped(len(waiting), error))

    def _send_together(self, waiting: list[tuple[str | None, str, dict[str, Any]]]) -> None:
        """One message for all, as a worker's own dispatcher sends them."""
        with (
            self._app.producer_or_acquire() as producer,
            self._app.events.Dispatcher(
                producer.connection, hostname=waiting[0][0], channel=producer.channel, buffer_while_offline=False,
                buffer_group=frozenset({"task"}), buffer_limit=2 * _AT_ONCE,
            ) as dispatcher,
        ):  # fmt: skip
            for _, kind, fields in waiting:
                dispatcher.send(kind, **fields)
            dispatcher.flush(errors=False)


SENDS_EVENTS = "saga_sends_events"
"""What a carrier's request says when its worker sends events of tasks."""


def sends_events(dispatcher: Any) -> bool:
    """Whether a worker sends events of tasks, as its dispatcher says now; it can be turned on and off from afar."""
    return bool(dispatcher and dispatcher.enabled and (not dispatcher.groups or "task" in dispatcher.groups))


def _told_of(began: AttemptBegan) -> bool:
    return bool(getattr(began.carrier, SENDS_EVENTS, False))


def _begin(fact: AttemptBegan) -> None:
    if _told_of(fact):
        Monitor.of(fact.app).begin(fact)


def _end(fact: AttemptEnded) -> None:
    if fact.began is not None and _told_of(fact.began):
        Monitor.of(fact.began.app).end(fact.began, fact.event, fact.seconds)


subscribe(AttemptBegan, _begin)
subscribe(AttemptEnded, _end)
