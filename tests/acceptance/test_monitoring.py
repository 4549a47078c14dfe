"""Celery's own monitoring, and Flower on top of it, see each attempt of a step and of its undo."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
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
