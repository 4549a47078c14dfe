"""Border: messages of other logs and other realms that reach a worker here go back to their queue.

Environments may share a broker, and apps a schema. A message that is not ours goes back to its queue at once, for the
workers that it is meant for. The same message may come back again and again while its own workers are busy or away, so it waits a little
longer each time, and is dropped in the end: a message is a hint, and its relay sends another.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from celery import Celery

from saga.broker.publisher import HOPS, LOG, QUEUE, REALM, Foreign
from saga.core.text import clean_text
from saga.store.postgres import log
from saga.store.postgres.database import Database
from saga.store.postgres.errors import UNREACHABLE
from saga.telemetry.facts.messages import ForeignLogFound, ForeignRealmFound, IdentityNotRead
from saga.telemetry.stream import emit
from saga.telemetry.thread import start_thread

_AT_ONCE = 4
_MOST_HOPS = 24
_LONGEST_WAIT = 5.0
_MOST_WAITING = 10_000
_SAY_EVERY = 60.0
_MOST_SAID = 100
_LONGEST_TEXT = 200


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a message says of itself; ``None`` for what it does not say, as messages of a version before.

    Attributes:
        log: the id of the log that its lanes are in.
        realm: whose work it is about; empty: any realm's.
        queue: where it was sent to.
        hops: how often it was offered on.
    """

    log: str | None
    realm: str | None
    queue: str | None
    hops: int

    @classmethod
    def of(cls, request: Any) -> Stamp:
        """The stamp of the message with this request, even if the message is damaged."""
        hops = request.get(HOPS)
        return cls(
            _text(request.get(LOG)), _text(request.get(REALM)), _text(request.get(QUEUE)),
            hops if type(hops) is int and 0 <= hops <= _MOST_HOPS else 0,
        )  # fmt: skip


def _text(value: Any) -> str | None:
    return clean_text(value, _LONGEST_TEXT) if isinstance(value, str) else None


class Identity:
    """Which log this process writes to, read when first needed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._log_id: UUID | None = None
        self._not_before = 0.0

    def log_id(self) -> UUID | None:
        """The id of the log; ``None`` if it cannot be read. Then it is not asked for again for a minute."""
        if self._log_id is None and time.monotonic() >= self._not_before:
            try:
                with self._database.link() as link:
                    self._log_id = log.read_identity(link)
            except UNREACHABLE as error:
                self._not_before = time.monotonic() + _SAY_EVERY
                emit(IdentityNotRead(error))
        return self._log_id

    def stamp(self) -> dict[str, str]:
        """The headers that say whose this process's messages are."""
        found = self.log_id()
        return {REALM: self._database.realm} | ({} if found is None else {LOG: str(found)})


class Border:
    """Lets in what is ours, and offers on the rest.

    Args:
        log_id: reads the id of our log; ``None`` if that cannot be read.
        publish: sends messages, without waiting for the broker.
    """

    def __init__(
        self, app: Celery, realm: str, log_id: Callable[[], UUID | None], publish: Callable[[Sequence[Foreign]], None]
    ) -> None:
        self._app = app
        self._realm = realm
        self._log_id = log_id
        self._publish = publish
        self._said: dict[tuple[str | None, str | None], float] = {}
        self._waiting: list[tuple[float, int, Foreign]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def admits(self, task: str, args: Sequence[Any], request: Any) -> bool:
        """Whether a message is for us; if not, it goes back to its queue."""
        stamp = Stamp.of(request)
        ours = self._log_id() if stamp.log is not None else None
        if ours is not None and stamp.log != str(ours):
            self._say(stamp, ForeignLogFound(stamp.queue, stamp.log, stamp.realm, ours))
        elif stamp.realm not in (None, "", self._realm):
            self._say(stamp, ForeignRealmFound(stamp.queue, stamp.realm, self._realm))
        else:
            return True
        self._offer_on(task, args, stamp, request)
        return False

    def _say(self, stamp: Stamp, found: ForeignLogFound | ForeignRealmFound) -> None:
        now = time.monotonic()
        about = stamp.log, stamp.realm
        if now < self._said.get(about, 0.0):
            return
        if len(self._said) >= _MOST_SAID:
            self._said = {said: until for said, until in self._said.items() if now < until}
            if len(self._said) >= _MOST_SAID:
                return  # the headers are anybody's to make up
        self._said[about] = now + _SAY_EVERY
        emit(found)

    def _offer_on(self, task: str, args: Sequence[Any], stamp: Stamp, request: Any) -> None:
        wait = patience(stamp.hops)
        if wait is None or stamp.queue is None or stamp.queue not in self._app.amqp.queues.consume_from:
            return
        priority = (request.delivery_info or {}).get("priority")
        headers = {LOG: stamp.log, REALM: stamp.realm, QUEUE: stamp.queue, HOPS: stamp.hops + 1}
        message = Foreign(task, list(args), stamp.queue, priority if type(priority) is int else None, headers)
        if wait:
            self._send_later(message, wait)
        else:
            self._publish([message])

    def _send_later(self, message: Foreign, wait: float) -> None:
        with self._changed:
            if len(self._waiting) < _MOST_WAITING:
                heapq.heappush(self._waiting, (time.monotonic() + wait, next(self._numbers), message))
            if self._thread is None:
                self._thread = start_thread("saga-border", self._send_waiting)
            self._changed.notify()

    def _send_waiting(self) -> None:
        while True:
            with self._changed:
                while not self._waiting or self._waiting[0][0] > time.monotonic():
                    self._changed.wait(self._waiting[0][0] - time.monotonic() if self._waiting else None)
                message = heapq.heappop(self._waiting)[2]
            self._publish([message])


def patience(hops: int) -> float | None:
    """Seconds before a message goes back once more, by how often it has; ``None``: it does not."""
    if hops >= _MOST_HOPS:
        return None
    return 0.0 if hops < _AT_ONCE else min(_LONGEST_WAIT, 0.02 * 2 ** (hops - _AT_ONCE))
