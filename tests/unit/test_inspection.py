"""What a worker answers to `celery inspect`."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from celery import Celery
from celery.worker import WorkController
from celery.worker.control import Panel

from saga import Orchestrator
from saga.telemetry.board import Board

SAGA = UUID(int=7)
CARRIER = {
    "id": "m1", "name": "saga.run", "args": [[["7", "main"]]], "kwargs": {}, "type": "saga.run",
    "hostname": "celery@here", "time_start": 5.0, "acknowledged": True, "delivery_info": {"routing_key": "q"},
    "worker_pid": 1,
}  # fmt: skip
OTHER = CARRIER | {"id": "m2", "name": "shop.report"}


class Asked:
    """A worker that has not started, and can be asked."""

    def __init__(self, app: Celery, **options: Any) -> None:
        self.controller = WorkController(app=app, pool="solo", **options)
        boxes = [step.box for step in self.controller.consumer.steps if hasattr(step, "box")]
        self.node = boxes[0].node if boxes else None
        self.board = Board.of(app)

    def __call__(self, command: str, **options: Any) -> Any:
        assert self.node is not None
        return self.node.handle(command, options)

    def begin(self, carrier: str | None = "m1") -> tuple[str, int | None]:
        assert self.board is not None
        task_id = uuid4()
        return str(task_id), self.board.begin("shop.pay", task_id, SAGA, 2, carrier)


def app_of(name: str, **conf: Any) -> Celery:
    app = Celery(name, broker=f"memory://{name}-{uuid4().hex}", set_as_current=False)
    app.conf.update(conf)
    return app


@pytest.fixture(autouse=True)
def panel(monkeypatch: pytest.MonkeyPatch) -> type[Panel]:
    """Celery's commands, as they are again after the test; no worker of ours starts."""
    monkeypatch.setattr(Panel, "data", dict(Panel.data))
    monkeypatch.setattr(Panel, "meta", dict(Panel.meta))
    monkeypatch.setattr(Orchestrator, "_start_worker", lambda _: None)
    return Panel


@pytest.fixture
def asked(panel: type[Panel]) -> Asked:
    app = app_of("inspected")
    Orchestrator(app)
    return Asked(app)


def answer(panel: type[Panel], command: str, said: Any) -> None:
    """Register a command in place of the one of that name, as a user does."""
    panel.register(lambda *_, **__: said, name=command, type="inspect")


def test_nothing_under_way_is_an_answer_too(asked: Asked):
    assert asked("active") == []
    assert asked("active", safe=True) == []
    assert asked("dump_active") == []
    assert asked("query_task", ids=["x"]) == {}
    assert "shop.pay" not in asked("stats")["total"]
    assert asked("ping") == {"ok": "pong"}


def test_a_worker_without_sagas_answers_as_celery_does(asked: Asked):
    plain = Asked(app_of("plain"))
    asked.begin()
    assert plain.board is None
    assert plain("active") == []
    assert plain.node is not None
    assert plain.node.handlers is Panel.data


def test_two_apps_in_a_process_answer_each_for_itself(asked: Asked):
    app = app_of("second")
    Orchestrator(app)
    second = Asked(app)
    asked.begin()
    assert len(asked("active")) == 1
    assert second("active") == []
    assert "shop.pay" not in second("stats")["total"]


def test_a_worker_that_cannot_be_asked_shows_nothing():
    app = app_of("deaf", worker_enable_remote_control=False)
    Orchestrator(app)
    assert Asked(app).board is None


def test_an_attempt_is_told_of_in_place_of_its_message(panel: type[Panel]):
    app = app_of("inspected")
    Orchestrator(app)
    answer(panel, "active", [OTHER, CARRIER])
    asked = Asked(app)
    task_id, slot = asked.begin()
    other, mine = asked("active")
    assert other == OTHER
    began = mine.pop("time_start")
    assert began > CARRIER["time_start"]
    assert mine == {
        "id": task_id, "name": "shop.pay", "type": "shop.pay", "args": "()", "kwargs": "<in the saga log>",
        "hostname": "celery@here", "acknowledged": True, "delivery_info": {"routing_key": "q"},
        "worker_pid": os.getpid(), "root_id": str(SAGA), "parent_id": "m1", "retries": 1,
    }  # fmt: skip
    assert asked.board is not None
    asked.board.end(slot)
    assert asked("active") == [OTHER, CARRIER]


def test_an_attempt_whose_message_is_not_known_yet_is_told_of(asked: Asked):
    task_id, _ = asked.begin()
    (mine,) = asked("active")
    assert set(mine) >= set(CARRIER)
    assert (mine["id"], mine["name"], mine["parent_id"]) == (task_id, "shop.pay", None)
    assert asked("query_task", ids=[task_id, "x"]) == {task_id: ("active", mine)}
    assert asked("query_task", ids=task_id) == {task_id: ("active", mine)}


def test_attempts_count_beside_tasks_of_their_name(asked: Asked, panel: type[Panel]):
    answer(panel, "stats", {"total": {"shop.pay": 3, "saga.run": 1}, "pid": 1})
    asked.begin()
    asked.begin()
    assert asked("stats") == {"total": {"shop.pay": 5, "saga.run": 1}, "pid": 1}


@pytest.mark.parametrize("said", [None, {"error": "not here"}, ["busy"], "busy"])
def test_an_answer_of_another_form_stays_as_it_is(asked: Asked, panel: type[Panel], said: Any):
    asked.begin()
    for command in ("active", "stats"):
        answer(panel, command, said)
        assert asked(command) == said


def test_a_command_registered_later_is_asked(asked: Asked, panel: type[Panel]):
    answer(panel, "active", [OTHER])
    answer(panel, "weather", "fine")
    asked.begin()
    assert [entry["name"] for entry in asked("active")] == ["shop.report", "shop.pay"]
    assert asked("weather") == "fine"


def test_the_processes_of_a_pool_that_has_not_started_are_none():
    app = app_of("forking")
    Orchestrator(app)
    controller = WorkController(app=app, pool="prefork", concurrency=2)
    node = next(step.box.node for step in controller.consumer.steps if hasattr(step, "box"))
    assert node.handle("active") == []
    assert controller.consumer.pool.limit == 2
    board = Board.of(app)
    assert board is not None
    assert (board._processes, board._at_once) == (20, 1)


def test_a_killed_process_is_not_asked_after(asked: Asked, monkeypatch: pytest.MonkeyPatch):
    pid = os.getpid()
    monkeypatch.setattr("saga.broker.inspection.TaskPool", SimpleNamespace)
    consumer = asked.node.state.consumer  # type: ignore[union-attr]
    asked.begin()
    for pids, shown in (([1, pid], 1), ([1], 0)):
        workers = [SimpleNamespace(pid=each) for each in pids]
        monkeypatch.setattr(consumer, "pool", SimpleNamespace(_pool=SimpleNamespace(_pool=workers)))
        assert len(asked("active")) == shown
