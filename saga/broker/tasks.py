"""The Celery binding: the two tasks that carry ids, and the hooks into a worker's life."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

from celery import Celery, signals
from celery.app.task import Task

from saga.broker.border import Stamp
from saga.broker.publisher import MOST_LANES, PING, RUN
from saga.core.text import clean_text
from saga.store.postgres.errors import UNREACHABLE, complaint
from saga.telemetry.facts.messages import CarrierMisused, MessageRefused, OfferLeft, PingNotNoted
from saga.telemetry.stream import emit
from saga.telemetry.thread import start_thread
from saga.worker.lifetime import Lifetime
from saga.worker.process import Shutdown, Worker

_NO_LIMIT = 10 * 365 * 24 * 3600
_LONGEST_TEXT = 10_000
_NO_EVENTLET = (
    "pgsaga does not run on eventlet, under which psycopg 3 blocks the whole process; "
    "start the worker with -P gevent, threads or prefork"
)
_LATEST = 2**53
"""Microseconds since 1970, to the year 2255: as far as Postgres counts them exactly."""


Admits = Callable[[str, Sequence[Any], Any], bool]


def register_tasks(
    app: Celery, worker: Callable[[], Worker], see_ping: Callable[..., None], admits: Admits = lambda *_: True
) -> None:
    """Register the carrier of lanes and the carrier of pings.

    Args:
        see_ping: gets the queue and the number of a ping, and its realm if the ping names one.
        admits: whether a message, by its task, arguments and request, is for this worker.

    A carrier acknowledges early, even if the app says otherwise: if a message is lost, the relay sends another. It keeps its
    own time limits, even if the message says otherwise: a step's timeout is kept in the log.
    """
    options = {"acks_late": False, "ignore_result": True, "store_errors_even_if_ignored": False, "rate_limit": None,
               "time_limit": _NO_LIMIT, "soft_time_limit": _NO_LIMIT, "max_retries": 0, "track_started": False,
               "typing": False, "shared": False, "Request": "saga.broker.carrier:CarrierRequest"}  # fmt: skip

    @app.task(name=RUN, bind=True, **options)  # type: ignore[untyped-decorator]
    def run(self: Task, /, *args: Any, **kwargs: Any) -> None:
        try:
            if self.request.called_directly:
                emit(CarrierMisused(RUN))
            elif (lanes := _read_lanes(args, kwargs)) and admits(RUN, args, self.request):
                worker().executor.run(lanes, self.request)
        except UNREACHABLE as error:
            emit(OfferLeft(complaint(error)))

    @app.task(name=PING, bind=True, **options)  # type: ignore[untyped-decorator]
    def ping(self: Task, /, *args: Any, **kwargs: Any) -> None:
        try:
            if (found := _read_ping(args, kwargs)) and admits(PING, args, self.request):
                realm = Stamp.of(self.request).realm
                see_ping(*found, *([] if realm is None else [realm]))
        except UNREACHABLE as error:
            emit(PingNotNoted(error))


def _read_lanes(args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[tuple[UUID, str]]:
    """The ids in a message. If it holds anything else, it is refused."""
    try:
        if kwargs or len(args) != 1 or not isinstance(args[0], list) or len(args[0]) > MOST_LANES:
            raise ValueError(f"expected one list of at most {MOST_LANES} lanes")
        return [_read_lane(lane) for lane in args[0]]
    except ValueError as error:
        emit(MessageRefused(RUN, str(error)))
        return []


def _read_lane(pair: Any) -> tuple[UUID, str]:
    if not isinstance(pair, list) or len(pair) != 2 or not all(map(_is_text, pair)):
        raise ValueError("expected pairs of two texts, a saga's id and a lane")
    return UUID(pair[0]), pair[1]


def _read_ping(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[str, int] | None:
    """The queue and the number a ping carries; nothing if it carries anything else."""
    if not kwargs and len(args) == 2 and _is_text(args[0]) and type(args[1]) is int and 0 < args[1] <= _LATEST:
        return args[0], args[1]
    emit(MessageRefused(PING))
    return None


def _is_text(value: Any) -> bool:
    """Whether it is a text that Postgres can be asked about, and short enough to be in a log line."""
    return isinstance(value, str) and len(value) <= _LONGEST_TEXT and clean_text(value, _LONGEST_TEXT) == value


class WorkerHooks:
    """Follows the life of a Celery worker of one app.

    Args:
        start: starts this process's worker, after any fork.
        stop: stops it.

    Attributes:
        forks: the worker's pool is of processes.
        threads: how many steps run at a time in one process.
        lifetime: that of the pool's processes.
        node: the name of the Celery worker.
    """

    def __init__(self, app: Celery, shutdown: Shutdown, start: Callable[[], None], stop: Callable[[], None]) -> None:
        self._app = app
        self._shutdown = shutdown
        self._start = start
        self._stop = stop
        self._ours = False
        self.forks = False
        self.threads = 1
        self.lifetime = Lifetime()
        self.node: str | None = None
        for signal, follow in (
            (signals.worker_init, self._on_init),
            (signals.worker_process_init, self._on_process),
            (signals.worker_ready, self._on_ready),
            (signals.worker_shutting_down, self._on_shutting_down),
            (signals.worker_process_shutdown, self._on_end),
            (signals.worker_shutdown, self._on_end),
        ):
            # By a name: Celery before 5.7 takes a method for the same one of another app's hooks.
            signal.connect(follow, weak=False, dispatch_uid=f"saga.{id(self)}")
        app.steps["consumer"].add("saga.broker.inspection:Inspection")  # by name, for only a worker needs it

    def _on_init(self, sender: Any, **_: Any) -> None:
        self._ours = sender.app is self._app
        if not self._ours:
            return
        pool = getattr(sender.pool_cls, "__module__", "")
        if "eventlet" in pool:
            raise SystemExit(_NO_EVENTLET)
        self._shutdown.reset()
        self.node = sender.hostname
        self.forks = "prefork" in pool
        self.lifetime = Lifetime.of(sender) if self.forks else Lifetime()
        self.threads = sender.concurrency if isinstance(sender.concurrency, int) and not self.forks else 1
        wait = sender.wait_for_soft_shutdown

        # A soft or cold shutdown sends its signal only when the waiting is over.
        def wait_for_soft_shutdown() -> None:
            self._shutdown.begin()
            wait()

        sender.wait_for_soft_shutdown = wait_for_soft_shutdown

    def _on_process(self, **_: Any) -> None:
        if self._ours:
            # In a thread: a pool process that is not up within four seconds is killed.
            start_thread("saga-start", self._start)

    def _on_ready(self, **_: Any) -> None:
        if self._ours and not self.forks:
            self._start()

    def _on_shutting_down(self, **_: Any) -> None:
        if self._ours:
            self._shutdown.begin()

    def _on_end(self, **_: Any) -> None:
        if self._ours:
            self._stop()
