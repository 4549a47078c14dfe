"""What a worker is told when it starts."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from celery import Celery, signals

from saga.broker.tasks import WorkerHooks
from saga.worker.process import Shutdown


class Worker:
    """What a worker says of itself."""

    concurrency = 4
    hostname = "celery@here"
    max_tasks_per_child = max_memory_per_child = None

    def __init__(self, app: Celery, pool: str) -> None:
        self.app = app
        self.pool_cls = SimpleNamespace(__module__=f"celery.concurrency.{pool}")

    def wait_for_soft_shutdown(self) -> None: ...


def hooks(app: Celery) -> WorkerHooks:
    return WorkerHooks(app, Shutdown(), lambda: None, lambda: None)


def test_a_worker_on_eventlet_refuses_to_start_and_says_why():
    app = Celery("hooks", set_as_current=False)
    kept = hooks(app)
    with pytest.raises(SystemExit, match=r"does not run on eventlet.*-P gevent, threads or prefork"):
        signals.worker_init.send(sender=Worker(app, "eventlet"))
    assert not kept.forks


def test_a_worker_of_another_app_starts_on_whatever_it_likes():
    kept = hooks(Celery("hooks", set_as_current=False))
    signals.worker_init.send(sender=Worker(Celery("other", set_as_current=False), "eventlet"))
    assert kept.threads == 1


@pytest.mark.parametrize(
    ("pool", "forks", "threads"), [("prefork", True, 1), ("thread", False, 4), ("gevent", False, 4)]
)
def test_greenlets_count_as_threads(pool: str, forks: bool, threads: int):
    app = Celery("hooks", set_as_current=False)
    kept = hooks(app)
    signals.worker_init.send(sender=Worker(app, pool))
    assert (kept.forks, kept.threads) == (forks, threads)
