"""Publisher: sends messages to the broker from a thread of its own, so that nothing waits for the broker.

A message is a hint. If it cannot be sent in time, it is dropped: the relay finds the work and sends another.
"""

from __future__ import annotations

import atexit
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any
from uuid import uuid4

from celery import Celery
from celery.app.routes import Router
from kombu.exceptions import OperationalError

from saga.core.rows import Dispatch
from saga.crashpoints import reach
from saga.errors import brief, cut, first_line
from saga.store.values import Ping
from saga.telemetry.facts.messages import (
    BrokerBack,
    BrokerCutOff,
    BrokerTooSlow,
    MessageNotSent,
    QueueRefused,
    SendingFailed,
    SendingMisconfigured,
)
from saga.telemetry.stream import emit
from saga.telemetry.thread import start_thread

RUN = "saga.run"
PING = "saga.ping"
LOG, REALM, QUEUE, HOPS = "saga_log", "saga_realm", "saga_queue", "saga_hops"
"""The headers that say whose a message is: the log's id, the realm, the queue it was sent to, how often it went back."""
_CAPACITY = 10_000
_LONGEST_NAME = 255
"""Bytes of a queue's name, as AMQP has them."""
_LINGER = 0.015
_FEW = 3
_GATHERED = 256
_SAY_EVERY = 30.0
_MOST_SAID = 100
_LONGEST_COMPLAINT = 300
MOST_LANES = 16
"""How many lanes share a message."""


class Rhythm:
    """Whether messages come fast, by the last few of them; whether the broker takes them quickly does not matter."""

    def __init__(self) -> None:
        self._came: deque[float] = deque(maxlen=_FEW)

    def note(self, now: float, count: int = 1) -> None:
        """Note that so many have come by this moment, in seconds."""
        self._came.extend([now] * min(count, _FEW))

    def is_fast(self, now: float) -> bool:
        """Whether a few have come within the time that a message waits for others."""
        return len(self._came) == _FEW and now - self._came[0] < _LINGER


class Complaints:
    """Which complaints to log now: of equal ones only one in a while, with the number of those left out since."""

    def __init__(self) -> None:
        self._said: dict[str, tuple[float, int]] = {}

    def note(self, text: str, now: float) -> int | None:
        """How many equal ones were left out, if this one is to be logged at this moment, in seconds; ``None`` if not."""
        until, left_out = self._said.get(text, (now, 0))
        if now < until:
            self._said[text] = until, left_out + 1
            return None
        if text not in self._said and len(self._said) >= _MOST_SAID:
            del self._said[min(self._said, key=lambda known: self._said[known][0])]
        self._said[text] = now + _SAY_EVERY, 0
        return left_out


@dataclass(frozen=True, slots=True)
class Foreign:
    """A message for other workers that came here, to be sent again as it is."""

    task: str
    args: list[Any]
    queue: str
    priority: int | None
    headers: Mapping[str, Any]


Message = Dispatch | Ping | Foreign


class Publisher:
    """The messages of one process, on their way to the broker.

    Args:
        timeout: seconds after which a message that could not be sent is left to the relay.
        stamp: the headers that say whose the messages are.
    """

    def __init__(self, app: Celery, timeout: float, stamp: Callable[[], Mapping[str, Any]] = dict) -> None:
        self._app = app
        self._timeout = timeout
        self._stamp = stamp
        self._lock = threading.Lock()
        self._pid: int | None = None
        self._queue: queue.Queue[tuple[float, Message]] = queue.Queue(_CAPACITY)
        self._failing = False
        self._complaints = Complaints()

    def publish(self, messages: Sequence[Message]) -> None:
        """Hand messages over; returns at once."""
        if not messages:
            return
        if self._pid != os.getpid():
            self._start()
        expires = time.monotonic() + self._timeout
        for message in messages:
            try:
                self._queue.put_nowait((expires, message))
            except queue.Full:
                emit(BrokerTooSlow())
                return

    def flush(self, timeout: float | None = None) -> None:
        """Wait until everything handed over was sent, for a bounded time in seconds; not for a broker that is down."""
        if self._pid != os.getpid():
            return
        limit = time.monotonic() + (self._timeout if timeout is None else timeout)
        while self._queue.unfinished_tasks and not self._failing:
            if time.monotonic() > limit:
                self._failing = True  # so that nobody else waits for it either
                return
            time.sleep(0.005)

    def _start(self) -> None:
        with self._lock:
            if self._pid == os.getpid():
                return
            self._queue = queue.Queue(_CAPACITY)
            # Imports the transport, which the thread no longer may once the interpreter shuts down.
            assert self._connection_errors is not None
            start_thread("saga-publisher", self._send_all, (self._queue,))
            atexit.register(self.flush)
            self._pid = os.getpid()

    def _send_all(self, messages: queue.Queue[tuple[float, Message]]) -> None:
        rhythm = Rhythm()
        while True:
            waiting = [messages.get()]
            rhythm.note(time.monotonic())
            if rhythm.is_fast(time.monotonic()):
                waiting += _gather(messages, rhythm)
            try:
                # Given back when there is nothing to send: the connections are few, and the whole process shares them.
                with self._app.producer_or_acquire() as producer:
                    while waiting:
                        self._send_in_time(producer, waiting)
                        self._done(messages, waiting)
                        waiting = [] if messages.empty() else _gather(messages, rhythm)
            except Exception as error:
                self._report(error)
                self._done(messages, waiting)

    @staticmethod
    def _done(messages: queue.Queue[tuple[float, Message]], sent: list[tuple[float, Message]]) -> None:
        for _ in sent:
            messages.task_done()
        sent.clear()

    def _send_in_time(self, producer: Any, waiting: Sequence[tuple[float, Message]]) -> None:
        now = time.monotonic()
        fresh = [message for expires, message in waiting if now <= expires and self._may_be_sent(message)]
        sends = [
            partial(self._send_lanes, producer, batch)
            for batch in batches([m for m in fresh if isinstance(m, Dispatch)])
        ]
        sends += [partial(self._send_ping, producer, message) for message in fresh if isinstance(message, Ping)]
        sends += [partial(self._send_on, producer, message) for message in fresh if isinstance(message, Foreign)]
        for send in sends:
            try:
                send()
            except Exception as error:
                if self._is_connection_lost(error):
                    raise
                self._report(error)  # one queue that cannot be sent to holds up no other
        if self._failing and fresh:
            self._failing = False
            emit(BrokerBack())

    @staticmethod
    def _may_be_sent(message: Message) -> bool:
        if is_reserved(message.queue):
            emit(QueueRefused(brief(message.queue)))
            return False
        return True

    def _send_lanes(self, producer: Any, batch: Sequence[Dispatch]) -> None:
        lanes = [[str(message.saga_id), message.lane] for message in batch]
        reach("publish.before_send")
        self._send(producer, RUN, [lanes], batch[0].queue, batch[0].priority, self._stamp())
        reach("publish.after_send")

    def _send_ping(self, producer: Any, ping: Ping) -> None:
        # Uncached: after a broker was flushed, a publisher that believes the queue is declared drops silently.
        self._app.amqp.queues[ping.queue](producer.channel).declare()
        stamp = {**self._stamp(), REALM: ping.realm}
        self._send(producer, PING, [ping.queue, ping.number], ping.queue, ping.priority, stamp)

    def _send_on(self, producer: Any, message: Foreign) -> None:
        self._send(producer, message.task, message.args, message.queue, message.priority, message.headers)

    def _send(
        self, producer: Any, task: str, args: list[Any], queue_name: str, priority: int | None, stamp: Mapping[str, Any]
    ) -> None:
        options: dict[str, Any] = {} if priority is None else {"priority": priority}
        options["headers"] = {QUEUE: queue_name, **stamp}
        # As the app's own messages are, so that they are accepted wherever those are, and signed if those are.
        options["serializer"] = self._app.conf.task_serializer
        # Each in a context of its own: a message belongs to no trace, and so not to that of another message.
        Context().run(
            self._app.send_task,
            task, args, producer=producer, queue=queue_name, router=self._router, ignore_result=True, retry=False,
            task_id=str(uuid4()), add_to_parent=False, time_limit=None, soft_time_limit=None, expires=None,
            argsrepr="ids", kwargsrepr="{}", **options,
        )  # fmt: skip

    @property
    def _router(self) -> Router:
        """The queue is known already. The routes of the app's tasks are not asked, for they do not know carriers."""
        amqp = self._app.amqp
        return Router((), amqp.queues, amqp.router.create_missing, app=self._app)

    def _report(self, error: Exception) -> None:
        if isinstance(error, ValueError):
            # Such as a broker URL that cannot be read: the text would quote it, with the password.
            self._complain(SendingMisconfigured, "is the broker's URL as it should be?")
            return
        if not self._is_connection_lost(error):
            self._complain(SendingFailed, cut(f"{type(error).__name__}: {first_line(error)}", _LONGEST_COMPLAINT))
            emit(MessageNotSent(error))
            return
        if not self._failing:
            emit(BrokerCutOff(error))
        self._failing = True

    def _complain(self, kind: type[SendingFailed | SendingMisconfigured], why: str) -> None:
        left_out = self._complaints.note(why, time.monotonic())
        if left_out is not None:
            emit(kind(why, left_out))

    def _is_connection_lost(self, error: Exception) -> bool:
        # A queue that there is not: to the transport of Redis that is a lost connection.
        cause = error.__cause__ if isinstance(error, OperationalError) else None
        if isinstance(cause, LookupError) or "WRONGTYPE" in str(cause):
            return False
        return isinstance(error, (OperationalError, OSError, *self._connection_errors))

    @cached_property
    def _connection_errors(self) -> tuple[type[Exception], ...]:
        try:
            return tuple(self._app.connection_for_write().connection_errors)
        except Exception:
            return ()  # no start fails because of it; the sending thread reports it


def is_reserved(queue_name: str) -> bool:
    """Whether a queue must not have this name, because it would damage what waits there, or the broker.

    A client that starts a saga names the queue, and with Redis a queue is a key like those of its transport.
    """
    return (
        queue_name.startswith(("amq.", "_kombu.", "unacked"))
        or len(queue_name.encode()) > _LONGEST_NAME
        or not queue_name.isprintable()
    )


def batches(messages: Sequence[Dispatch]) -> list[list[Dispatch]]:
    """Lanes that can share a message: of one queue and priority, at most 16. The receiver sends on those that cannot wait."""
    found: list[list[Dispatch]] = []
    open_batches: dict[tuple[str, int | None], list[Dispatch]] = {}
    for message in messages:
        key = (message.queue, message.priority)
        batch = open_batches.get(key)
        if batch is not None and len(batch) < MOST_LANES and not message.alone:
            batch.append(message)
            continue
        found.append([message])
        if not message.alone:
            open_batches[key] = found[-1]
    return found


def _gather(messages: queue.Queue[tuple[float, Message]], rhythm: Rhythm) -> list[tuple[float, Message]]:
    """What is there, together with what comes in the next instants.

    So a message goes out at once as long as they come one by one, and several share one when they come faster.
    """
    found: list[tuple[float, Message]] = []
    time.sleep(_LINGER)
    while len(found) < _GATHERED:
        try:
            found.append(messages.get_nowait())
        except queue.Empty:
            break
    rhythm.note(time.monotonic(), len(found))
    return found
