"""Quick sagas that share a worker's claims and commits: none waits for another's long step, or dies with it for good."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from saga import Handle, Status
from saga.core.events import AttemptInterrupted, AttemptLost, AttemptStarted
from saga.dev import Stack
from tests.acceptance.conftest import BROKERS, World, acceptance_app, broker_url, eventually

pytestmark = [pytest.mark.acceptance, pytest.mark.crash]

assert acceptance_app


@pytest.fixture
def sharing(stack: Stack, request: pytest.FixtureRequest) -> Iterator[World]:
    """A world in which every saga is quick enough to share; on the broker of that name, if a test names one."""
    broker = broker_url(stack, getattr(request, "param", "valkey"))
    world = World(stack, broker, {"saga_batch_below": 60, "saga_relay_interval": 0.2})
    yield world
    world.close()


def file_together(world: World, folder: Path, gated: list[str]) -> list[Handle]:
    """Start a saga for each of these, gated at that step."""
    return world.orchestrator.start_many("filed", [{"folder": str(folder), "gated": step} for step in gated])


def finish_all(world: World, handles: list[Handle]) -> None:
    assert {world.finish(handle) for handle in handles} == {Status.COMPLETED}


def test_nobody_waits_for_the_long_step_of_a_saga_in_its_batch(sharing: World, tmp_path: Path) -> None:
    sharing.worker(concurrency=1)
    finish_all(sharing, file_together(sharing, tmp_path, [""] * 8))
    gated = [*[""] * 4, "a", *[""] * 4]
    handles = file_together(sharing, tmp_path, gated)
    slow, quick = handles[4], handles[:4] + handles[5:]
    eventually(lambda: list(tmp_path.glob(f"{slow.id}.a.*")), "the long step")
    eventually(
        lambda: all(handle.steps()["a"].status == "succeeded" for handle in handles[:4]), "their ends in the log"
    )
    sharing.worker(concurrency=1)
    finish_all(sharing, quick)
    given_back = [
        entry.event.error for handle in quick for entry in handle.log() if isinstance(entry.event, AttemptInterrupted)
    ]
    assert set(given_back) == {"a step of another saga holds up the worker"}
    (tmp_path / "open").touch()
    finish_all(sharing, [slow])
    ran = sorted(path.name.rpartition(".")[0] for path in tmp_path.glob("*.*.*"))
    assert len(ran) == len(set(ran)) == (8 + len(handles)) * 3


def test_a_step_that_kills_its_worker_costs_the_others_of_its_batch_one_attempt(sharing: World) -> None:
    sharing.worker(concurrency=1)
    for _ in range(2):
        finish_all(sharing, sharing.orchestrator.start_many("sequence", [{"script": {}}] * 8))
    scripts = [{"b": "die"} if number == 3 else {} for number in range(8)]
    handles = sharing.orchestrator.start_many("sequence", [{"script": script} for script in scripts])
    deadly, others = handles[3], handles[:3] + handles[4:]
    finish_all(sharing, others)
    assert sharing.finish(deadly) == Status.COMPENSATED
    assert any(isinstance(entry.event, AttemptLost) for handle in others for entry in handle.log())
    for handle in others:
        attempts = [entry.event.attempt for entry in handle.log() if isinstance(entry.event, AttemptStarted)]
        assert max(attempts) <= 2
        assert len(sharing.keys(handle, "b")) == 1


def test_sagas_that_cannot_afford_to_lose_an_attempt_share_no_batch(sharing: World) -> None:
    sharing.worker(concurrency=1)
    finish_all(sharing, sharing.orchestrator.start_many("sturdy", [{"script": {}}] * 8))
    scripts = [{"b": "die"} if number == 3 else {} for number in range(8)]
    handles = sharing.orchestrator.start_many("sturdy", [{"script": script} for script in scripts])
    others = handles[:3] + handles[4:]
    finish_all(sharing, others)
    assert sharing.finish(handles[3]) == Status.COMPENSATED
    assert not any(isinstance(entry.event, AttemptLost) for handle in others for entry in handle.log())


@pytest.mark.parametrize("sharing", BROKERS, indirect=True)
def test_a_pool_whose_processes_live_for_one_message_still_runs_the_sagas_of_a_message_together(sharing: World) -> None:
    sharing.worker(concurrency=1, arguments=["--max-tasks-per-child=1"])
    finish_all(sharing, sharing.orchestrator.start_many("sequence", [{"script": {}}]))
    handles = sharing.orchestrator.start_many("sequence", [{"script": {}}] * 32)
    finish_all(sharing, handles)
    processes = {
        entry.worker for handle in handles for entry in handle.log() if isinstance(entry.event, AttemptStarted)
    }
    assert len(processes) <= 4
