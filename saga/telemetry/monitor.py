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

from saga.context import Current
from saga.core.events import AttemptFailed, AttemptInterrupted, AttemptSucceeded, Event, LateResult
from saga.telemetry.facts.messages import EventsDropped, MonitoringTooSlow
from saga.telemetry.stream import emit
from saga.telemetry.thread import start_thread
from saga.telemetry.wording import REDACTED

_CAPACITY = 10_000
_AT_ONCE = 500
_LINGER = 0.05


class Telling:
    """One attempt, as its process tells of it."""

    def __init__(self, monitor: Monitor, node: str | None, attempt: Current, task: str, task_id: str) -> None:
        self._monitor = monitor
        self._node = node
        self._uuid = task_id
        self._began = time.monotonic()
        self._tell(
            "received", name=task, args="()", kwargs=REDACTED, root_id=str(attempt.saga_id), parent_id=None,
            retries=attempt.attempt - 1, eta=None, expires=None,
        )  # fmt: skip
        self._tell("started")

    def end(self, event: Event) -> None:
        """How it ended, as the log has it."""
        if isinstance(event, AttemptSucceeded):
            self._tell("succeeded", result=REDACTED, runtime=time.monotonic() - self._began)
        elif isinstance(event, AttemptFailed):
            kind = "retried" if event.outcome == "retry" else "failed"
            self._tell(kind, exception=event.error, traceback=event.traceback)
        elif isinstance(event, AttemptInterrupted):
            self._tell("retried", exception=event.error, traceback=None)
        elif isinstance(event, LateResult):
            self._tell(
                "failed", exception=f"declared over before it ended: {event.error or event.outcome}", traceback=None
            )

    def _tell(self, kind: str, **fields: Any) -> None:
        self._monitor.send(self._node, f"task-{kind}", {"uuid": self._uuid, "timestamp": time.time(), **fields})


class Monitor:
    """The events of one process, on their way to the broker."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._lock = threading.Lock()
        self._pid: int | None = None
        self._queue: queue.Queue[tuple[str | None, str, dict[str, Any]]] = queue.Queue(_CAPACITY)

    def tell(self, carrier: Any, attempt: Current, task: str, task_id: str) -> Telling | None:
        """Tell that an attempt begins; ``None`` where the worker sends no events.

        Args:
            carrier: the request of the Celery task whose message brought the attempt here.
        """
        if not getattr(carrier, SENDS_EVENTS, False):
            return None
        return Telling(self, carrier.hostname, attempt, task, task_id)

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
