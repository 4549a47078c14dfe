"""The Celery binding: the two tasks that carry ids, and the hooks into a worker's life."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any
from uuid import UUID

from celery import Celery, signals
from celery.app.task import Task

from saga.attempts import first_line
from saga.engine import Unreachable
from saga.publisher import PING, RUN
from saga.worker import Shutdown, Worker

logger = logging.getLogger("saga")

_NO_LIMIT = 10 * 365 * 24 * 3600
_LONGEST = 1000


def register_tasks(app: Celery, worker: Callable[[], Worker], see_ping: Callable[[str, int], None]) -> None:
    """Register the carrier of lanes and the carrier of pings.

    A carrier acknowledges early, whatever the app says: the relay is the redelivery. Its time limits are its own: a
    step's timeout is kept in the log.
    """
    options = {"acks_late": False, "ignore_result": True, "store_errors_even_if_ignored": False, "serializer": "json",
               "time_limit": _NO_LIMIT, "soft_time_limit": _NO_LIMIT, "rate_limit": None, "max_retries": 0,
               "track_started": False, "typing": False, "shared": False}  # fmt: skip

    @app.task(name=RUN, bind=True, **options)  # type: ignore[untyped-decorator]
    def run(self: Task, lanes: Any = None, *rest: Any, **unknown: Any) -> None:
        try:
            if offered := _read_lanes(lanes, rest, unknown):
                worker().executor.run(offered, self.request)
        except Unreachable as error:
            logger.warning("the database does not answer (%s); the relay offers the work again", first_line(error))

    @app.task(name=PING, **options)  # type: ignore[untyped-decorator]
    def ping(queue: Any = None, number: Any = None, *rest: Any, **unknown: Any) -> None:
        if not isinstance(queue, str) or type(number) is not int or rest or unknown:
            logger.error("a malformed %s message is refused", PING)
            return
        try:
            see_ping(queue, number)
        except Unreachable as error:
            logger.debug("a ping is not noted: %s", error)


def _read_lanes(lanes: Any, rest: Any, unknown: Any) -> list[tuple[UUID, str]]:
    """The ids a message carries. Anything else in it is refused."""
    try:
        if rest or unknown or not isinstance(lanes, list) or len(lanes) > _LONGEST:
            raise ValueError("expected one list of lanes")
        found = []
        for saga_id, lane in lanes:
            if not isinstance(lane, str) or not isinstance(saga_id, str) or "\x00" in lane:
                raise ValueError("expected texts")
            found.append((UUID(saga_id), lane))
        return found
    except (ValueError, TypeError) as error:
        logger.error("a malformed %s message is refused: %s", RUN, error)
        return []


class WorkerHooks:
    """Follows the life of a Celery worker of one app.

    Args:
        start: starts this process's worker, after any fork.
        stop: stops it.

    Attributes:
        forks: the worker's pool is of processes.
    """

    def __init__(self, app: Celery, shutdown: Shutdown, start: Callable[[], None], stop: Callable[[], None]) -> None:
        self._app = app
        self._shutdown = shutdown
        self._start = start
        self._stop = stop
        self._ours = False
        self.forks = False
        signals.worker_init.connect(self._on_init, weak=False)
        signals.worker_process_init.connect(self._on_process, weak=False)
        signals.worker_ready.connect(self._on_ready, weak=False)
        signals.worker_shutting_down.connect(self._on_shutting_down, weak=False)
        signals.worker_process_shutdown.connect(self._on_end, weak=False)
        signals.worker_shutdown.connect(self._on_end, weak=False)

    def _on_init(self, sender: Any, **_: Any) -> None:
        self._ours = sender.app is self._app
        if not self._ours:
            return
        self._shutdown.reset()
        self.forks = "prefork" in getattr(sender.pool_cls, "__module__", "")
        wait = sender.wait_for_soft_shutdown

        # A soft or cold shutdown sends its signal only when the waiting is over.
        def wait_for_soft_shutdown() -> None:
            self._shutdown.begin()
            wait()

        sender.wait_for_soft_shutdown = wait_for_soft_shutdown

    def _on_process(self, **_: Any) -> None:
        if self._ours:
            # In a thread: a pool process that is not up within four seconds is killed.
            threading.Thread(target=self._start, args=(), name="saga-start", daemon=True).start()

    def _on_ready(self, **_: Any) -> None:
        if self._ours and not self.forks:
            self._start()

    def _on_shutting_down(self, **_: Any) -> None:
        if self._ours:
            self._shutdown.begin()

    def _on_end(self, **_: Any) -> None:
        if self._ours:
            self._stop()
