"""Four walks through the code, as CONTRIBUTING tells them: what they name is there, in this order, and leads on."""

from __future__ import annotations

import ast
import importlib
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from .house import MODULES

WALKS: dict[str, list[str]] = {
    "A start": [
        "client.orchestrator.Orchestrator.start",
        "client.starting.order",
        "language.binding.read_input",
        "client.starting.Starter.open",
        "core.machine.decide",
        "core.rows.place_of",
        "store.postgres.store.PostgresStore.open",
        "store.postgres.log.open_sagas",
        "broker.publisher.Publisher.publish",
    ],
    "A message": [
        "broker.tasks.register_tasks",
        "worker.executor.Executor.run",
        "worker.claimer.Claimer.claim",
        "store.postgres.claims.claim",
        "worker.performers.plain.Performer.perform",
        "language.binding.arguments",
        "worker.together.Together.record_all",
        "worker.recorder.Recorder.draft_all",
        "core.verdict.verdict",
        "engine.engine.Engine.draft",
        "core.machine.follow",
        "core.rows.plan",
        "engine.engine.Engine.advance",
        "store.postgres.appends.append",
        "engine.engine.Engine.follow_up",
    ],
    "A failure": [
        "worker.performers.plain.Performer.perform",
        "worker.together.Together.record_all",
        "worker.recorder.Recorder.record",
        "worker.policy.wait_after",
        "language.retry.Retry.next_wait",
        "core.verdict.verdict",
        "core.verdict.failure_outcome",
        "engine.engine.Engine.draft",
        "core.machine.follow",
        "core.tracks.followed",
        "core.decision.commands",
        "core.rows.plan",
    ],
    "A killed worker": [
        "worker.liveness.Liveness",
        "relay.Relay.tick",
        "store.postgres.chores.Chores.absent",
        "store.postgres.due.absent_workers",
        "store.postgres.due.LOSE",
        "worker.claimer.Claimer.claim",
        "core.machine.decide",
        "worker.policy.wait_of_undecided",
        "core.verdict.answer",
        "engine.engine.Engine.advance",
        "store.postgres.appends.append",
    ],
}
"""Heading to the names below it, each from ``saga`` on."""

TAKEN_UP = {
    "client.orchestrator.Orchestrator.start": "a user",
    "broker.publisher.Publisher.publish": "a function that the engine is given",
    "broker.tasks.register_tasks": "Celery, with a message",
    "worker.performers.plain.Performer.perform": "the executor",
    "worker.together.Together.record_all": "the executor",
    "worker.liveness.Liveness": "a process that starts",
    "relay.Relay.tick": "a thread",
    "store.postgres.due.LOSE": "the relay, in the next look",
    "worker.claimer.Claimer.claim": "the executor, with a message",
}
"""Where a walk begins, and where it goes on in another thread or process, or by a function that was passed in: who calls there."""

PAGE = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text()
walks = pytest.mark.parametrize("walk", WALKS)


def module_of(name: str) -> str:
    """The module in which a name of a walk is."""
    return max((module for module in MODULES if f"saga.{name}.".startswith(f"{module}.")), key=len)


def attribute_of(name: str) -> str:
    """The name in its module."""
    return f"saga.{name}".removeprefix(f"{module_of(name)}.")


@cache
def used_in(module: str) -> frozenset[str]:
    """Every name and attribute that a module uses."""
    nodes = list(ast.walk(ast.parse(MODULES[module].read_text())))
    return frozenset(
        [node.id for node in nodes if isinstance(node, ast.Name)]
        + [node.attr for node in nodes if isinstance(node, ast.Attribute)]
    )


@walks
def test_contributing_tells_the_walk_in_its_order(walk: str) -> None:
    told = PAGE.split(f"### {walk}\n", 1)[1].split("\n#", 1)[0]
    assert re.findall(r"^\d+\. `([\w.]+)`", told, re.MULTILINE) == WALKS[walk]


def test_contributing_tells_no_other_walk() -> None:
    assert re.findall(r"^### (.*)$", PAGE, re.MULTILINE) == list(WALKS)


@pytest.mark.parametrize("name", sorted({name for walk in WALKS.values() for name in walk}))
def test_each_stop_of_a_walk_exists(name: str) -> None:
    found: Any = importlib.import_module(module_of(name))
    for part in attribute_of(name).split("."):
        found = getattr(found, part)


@walks
def test_each_stop_is_called_from_a_module_before_it(walk: str) -> None:
    stops = WALKS[walk]
    missed = [
        name
        for place, name in enumerate(stops)
        if not any(name.rpartition(".")[2] in used_in(module_of(before)) for before in stops[:place])
    ]
    assert [name for name in missed if name not in TAKEN_UP] == []


def test_only_stops_of_walks_are_said_to_be_taken_up() -> None:
    assert TAKEN_UP.keys() <= {name for walk in WALKS.values() for name in walk}
