"""Workloads: what is measured, and on which workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from saga.dev.worker import Pool

from . import app
from .contenders import CelerySaga, Contender, Dbos, Floor, Sagas, SagasOneByOne, Tasks, TasksOneByOne
from .figures import percentile

SAGA, CHAIN, TASK, DBOS, CELERY_SAGA, FLOOR = "pgsaga", "chain", "one task", "DBOS", "celery-saga", "floor"
REDIS = "chain, Redis"
"""The names of the contenders. The chain is what all are compared with: Celery's own means to the same end."""


@dataclass(frozen=True)
class Workload:
    """What is measured.

    Attributes:
        name: what `--workload` takes.
        title: what a run is, in words.
        steps: tasks that a run runs.
        runs: how many a round has, unless it is told otherwise.
        contenders: by name.
        concurrency: processes or threads of the one worker.
        one_by_one: runs are measured one by one: the figure is the median of their times, and less is better.
        note: what the chain, or another one, is here, where that is not plain.
    """

    name: str
    title: str
    steps: int
    runs: int
    contenders: Mapping[str, Contender]
    pool: Pool = "prefork"
    concurrency: int = 2
    one_by_one: bool = False
    note: str = ""

    @property
    def unit(self) -> str:
        """Of the figure."""
        return "ms" if self.one_by_one else "a second"

    def figure(self, runs: int, seconds: Sequence[float]) -> float:
        """What a measurement amounts to."""
        return 1000 * percentile(seconds, 50) if self.one_by_one else runs / seconds[0]


_FOUR: Mapping[str, Contender] = {
    CHAIN: Tasks(app.chain_of_four),
    TASK: Tasks(app.one_task),
    DBOS: Dbos("four_steps"),
    CELERY_SAGA: CelerySaga("four_steps"),
    FLOOR: Floor(4),
}

WORKLOADS: Sequence[Workload] = (
    Workload(
        "single",
        "4 steps that do nothing, each saga started by itself",
        4,
        300,
        {SAGA: Sagas(app.four_steps), **_FOUR},
    ),
    Workload(
        "many",
        "the same, started with start_many",
        4,
        300,
        {SAGA: Sagas(app.four_steps, together=True), **_FOUR},
        note="only pgsaga starts many at once; the others start one by one",
    ),
    Workload(
        "sleep",
        "4 steps of 5 ms, on 16 threads",
        4,
        300,
        {SAGA: Sagas(app.four_naps), CHAIN: Tasks(app.chain_of_naps), DBOS: Dbos("four_naps")},
        pool="threads",
        concurrency=16,
    ),
    Workload(
        "long",
        "20 steps that do nothing",
        20,
        80,
        {
            SAGA: Sagas(app.twenty_steps),
            CHAIN: Tasks(app.chain_of_twenty),
            DBOS: Dbos("twenty_steps"),
            CELERY_SAGA: CelerySaga("twenty_steps"),
            FLOOR: Floor(20),
        },
    ),
    Workload(
        "parallel",
        "10 steps at once that do nothing",
        10,
        80,
        {SAGA: Sagas(app.ten_at_once), CHAIN: Tasks(app.chord_of_ten), DBOS: Dbos("ten_at_once")},
        note="Celery's side is a chord of 10 tasks, results in Redis, and an 11th that counts; DBOS's is asyncio.gather",
    ),
    Workload(
        "rollback",
        "4 steps, the last one aborts, 3 undos",
        7,
        200,
        {
            SAGA: Sagas(app.rolled_back, end="compensated"),
            CHAIN: Tasks(app.chain_of_seven),
            CELERY_SAGA: CelerySaga("rolled_back", end="compensated"),
        },
        note="the chain is one of 7 tasks, none of which fails",
    ),
    Workload(
        "result",
        "1 step that returns 100 KB",
        1,
        200,
        {SAGA: Sagas(app.one_text), CHAIN: Tasks(app.task_with_text), DBOS: Dbos("one_text")},
        note="the chain is one task, its result in Redis",
    ),
    Workload(
        "latency",
        "4 steps that do nothing, one saga at a time: start to end",
        4,
        100,
        {
            SAGA: SagasOneByOne(app.four_steps),
            CHAIN: TasksOneByOne(app.chain_with_result_in_postgres, in_postgres=True),
            REDIS: TasksOneByOne(app.chain_with_result),
        },
        one_by_one=True,
        note="the chain's result is in the same Postgres, and both are asked each ms with one SELECT; less is better",
    ),
)
BY_NAME: Mapping[str, Workload] = {workload.name: workload for workload in WORKLOADS}
