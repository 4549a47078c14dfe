"""Celery's own monitoring, and Flower on top of it, see each attempt of a step and of its undo."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from saga import Handle, Status
from saga.dev import Stack
from tests.acceptance.conftest import HERE, World, broker_url, eventually

pytestmark = pytest.mark.acceptance


@contextmanager
def captured(world: World) -> Iterator[list[dict[str, Any]]]:
    """The events that the workers of this world send, other worlds' left out."""
    events: list[dict[str, Any]] = []
    over = threading.Event()
    nodes = {worker.hostname for worker in world.workers}
    app = world.orchestrator.app
    ready = threading.Event()

    def capture() -> None:
        with app.connection_for_read() as connection:
            receiver = app.events.Receiver(connection, {"*": events.append})
            with receiver.consumer_context() as (own, _, _):
                ready.set()
                while not over.is_set():
                    with suppress(socket.timeout):
                        own.drain_events(timeout=0.1)

    thread = threading.Thread(target=capture, daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield Mine(events, nodes)
    finally:
        over.set()
        thread.join(10)


class Mine(list[dict[str, Any]]):
    """The events of some nodes, as they come."""

    def __init__(self, events: list[dict[str, Any]], nodes: set[str]) -> None:
        super().__init__()
        self._events, self._nodes = events, nodes

    def of(self, handle: Handle) -> list[tuple[str, str]]:
        """What was told of a saga's attempts: kinds and tasks, attempt by attempt."""
        mine = [event for event in list(self._events) if event.get("hostname") in self._nodes]
        names = {event["uuid"]: event["name"] for event in mine if event.get("root_id") == str(handle.id)}
        order = list(names)
        found = [
            (order.index(event["uuid"]), names[event["uuid"]], event) for event in mine if event.get("uuid") in names
        ]
        found.sort(key=lambda row: row[0])
        return [(name, event["type"].removeprefix("task-")) for _, name, event in found]

    def payloads(self, handle: Handle) -> set[Any]:
        """Whatever was told of the arguments and results of a saga's steps."""
        mine = list(self._events)
        uuids = {event["uuid"] for event in mine if event.get("root_id") == str(handle.id)}
        named = [event for event in mine if event.get("uuid") in uuids]
        return {event[name] for event in named for name in ("args", "kwargs", "result") if name in event}


@pytest.fixture(scope="module", params=["prefork", "threads"])
def world(request: pytest.FixtureRequest, stack: Stack) -> Iterator[World]:
    found = World(stack, broker_url(stack, "valkey"))
    worker = found.worker(pool=request.param, concurrency=2)
    # As `celery control enable_events` does. What -E turns on can be turned off no more.
    found.orchestrator.app.control.enable_events(destination=[worker.hostname], reply=True)
    yield found
    found.close()


RUN = ["received", "started"]


def test_every_attempt_and_undo_is_told_of_under_its_tasks_name(world: World) -> None:
    with captured(world) as events:
        handle = world.start("sequence", {"b": ["fail", "ok"], "c": "abort"})
        assert world.finish(handle) == Status.COMPENSATED
        told = [
            ("acceptance.act", kind) for kind in [*RUN, "succeeded", *RUN, "retried", *RUN, "succeeded", *RUN, "failed"]
        ]
        told += [("acceptance.undo", kind) for kind in [*RUN, "succeeded"] * 2]
        eventually(lambda: len(events.of(handle)) >= len(told), "the events")
        assert events.of(handle) == told
        assert events.payloads(handle) == {"()", "<in the saga log>"}


def test_a_worker_that_sends_no_events_of_tasks_sends_none_of_steps(world: World) -> None:
    control = world.orchestrator.app.control
    nodes = [worker.hostname for worker in world.workers]
    with captured(world) as events:
        control.disable_events(destination=nodes, reply=True)
        silent = world.start("sequence")
        assert world.finish(silent) == Status.COMPLETED
        control.enable_events(destination=nodes, reply=True)
        loud = world.start("sequence")
        assert world.finish(loud) == Status.COMPLETED
        eventually(lambda: len(events.of(loud)) >= 9, "the events")
        assert events.of(silent) == []


class Asked:
    """A worker that is asked, as `celery inspect` asks it."""

    def __init__(self, world: World) -> None:
        self._node = world.workers[0].hostname
        self._inspect = world.orchestrator.app.control.inspect(destination=[self._node], timeout=5)

    def active(self, handle: Handle) -> list[dict[str, Any]]:
        """The attempts of a saga that are under way; no message is told of beside them."""
        entries = self._answer(self._inspect.active)
        mine = [entry for entry in entries if entry.get("root_id") == str(handle.id)]
        carriers = {entry["parent_id"] for entry in mine} - {None}
        assert carriers.isdisjoint(entry["id"] for entry in entries)
        return mine

    def query(self, task_id: str) -> Any:
        """What is known of a task."""
        return self._answer(lambda: self._inspect.query_task(task_id))

    def totals(self) -> Counter[str]:
        """How many tasks of each name have been accepted."""
        return Counter(self._answer(self._inspect.stats)["total"])

    def _answer(self, ask: Callable[[], Any]) -> Any:
        found: Any = eventually(ask, "the worker's answer")
        return found[self._node]


def test_inspection_names_the_step_and_the_undo_under_way_and_counts_them(world: World) -> None:
    asked, control = Asked(world), world.orchestrator.app.control
    nodes = [worker.hostname for worker in world.workers]
    control.disable_events(destination=nodes, reply=True)  # it is not what events tell
    try:
        before = asked.totals()
        handle = world.start("sequence", {"b": "wait b", "c": "abort", "undo:b": "wait undo"})
        world.await_effect(handle, "b")
        (step,) = asked.active(handle)
        assert (step["name"], step["type"], step["hostname"]) == ("acceptance.act", "acceptance.act", nodes[0])
        assert (step["args"], step["kwargs"]) == ("()", "<in the saga log>")
        assert step["parent_id"] is not None
        assert 0 <= time.time() - step["time_start"] < 60
        assert asked.query(step["id"]) == {step["id"]: ["active", step | {"parent_id": None, "delivery_info": {}}]}
        world.open_gate("b")
        world.await_effect(handle, "undo b")
        (undo,) = asked.active(handle)
        assert undo["name"] == "acceptance.undo"
        assert undo["id"] != step["id"]
        world.open_gate("undo")
        assert world.finish(handle) == Status.COMPENSATED
        eventually(lambda: not asked.active(handle), "an end of what is under way")
        counted = asked.totals() - before
        assert (counted["acceptance.act"], counted["acceptance.undo"]) == (3, 2)
        assert counted["saga.run"] >= 1
    finally:
        control.enable_events(destination=nodes, reply=True)


def test_every_attempt_of_a_batch_is_counted(world: World) -> None:
    asked = Asked(world)
    before = asked.totals()
    handles = world.orchestrator.start_many("sequence", [{"script": {}}] * 40)
    assert {world.finish(handle) for handle in handles} == {Status.COMPLETED}
    assert (asked.totals() - before)["acceptance.act"] == 120


def test_the_attempt_of_a_killed_process_is_under_way_no_more(stack: Stack) -> None:
    world = World(stack, broker_url(stack, "valkey"))
    try:
        world.worker(pool="prefork", concurrency=2)
        asked = Asked(world)
        handle = world.start("sequence", {"b": "wait b"})
        world.await_effect(handle, "b")
        (killed,) = asked.active(handle)
        os.kill(killed["worker_pid"], signal.SIGKILL)
        world.await_effect(handle, "b 2")
        eventually(lambda: [entry["retries"] for entry in asked.active(handle)] == [1], "the second attempt alone")
        assert killed["worker_pid"] not in {entry["worker_pid"] for entry in asked.active(handle)}
        world.open_gate("b")
        assert world.finish(handle) == Status.COMPLETED
        assert asked.totals()["acceptance.act"] == 4
    finally:
        world.close()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def flower(world: World, log: Path) -> Iterator[str]:
    """A real Flower; its address."""
    port = free_port()
    env = os.environ | {
        "SAGA_DATABASE_URL": world.database_url, "CELERY_BROKER_URL": world.broker_url, "ACCEPTANCE_QUEUE": world.queue,
        "FLOWER_UNAUTHENTICATED_API": "true",
    }  # fmt: skip
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "acceptance_app",
        "flower",
        f"--port={port}",
        "--address=127.0.0.1",
    ]
    with log.open("w") as output, subprocess.Popen(command, cwd=HERE, env=env, stdout=output, stderr=output) as process:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def ask(url: str) -> Any:
    with suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
        return json.load(answer)
    return None


def test_flower_shows_a_failed_step_red_and_its_undo_by_name(world: World, tmp_path: Path) -> None:
    with flower(world, tmp_path / "flower.log") as address:
        eventually(lambda: ask(f"{address}/api/tasks") is not None, "Flower")

        def shown() -> list[tuple[str, str]]:
            tasks = (ask(f"{address}/api/tasks") or {}).values()
            return sorted((task["name"], task["state"]) for task in tasks if task["root_id"] == str(handle.id))

        expected = [("acceptance.act", "FAILURE"), ("acceptance.undo", "SUCCESS")]
        for _ in range(5):  # Flower answers before it listens
            handle = world.start("bare", {"b": "fail"})
            assert world.finish(handle) == Status.COMPENSATED
            with suppress(AssertionError):
                eventually(lambda: shown() == expected, "both tasks", patience=3)
                break
        assert shown() == expected
