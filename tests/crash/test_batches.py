"""Crash points struck while several sagas share claims and commits: none of them loses or doubles anything."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from saga import Handle, Status
from saga.crashpoints import FOLDER, POINTS, Strike, arm, is_armed
from saga.dev import Stack
from tests.acceptance.conftest import BROKERS, World, broker_url, eventually
from tests.crash.test_matrix import CONNECTED, DIRECTIONS, STEPS, CrashWorld, check_ledger, check_log, provoke

pytestmark = [pytest.mark.acceptance, pytest.mark.crash]

MANY = 8
IN_WORKER = [point for point in POINTS if not point.startswith(("start.", "hold."))]
"""A lane of a batch holds nobody up with its wait."""


@pytest.fixture(scope="module", params=BROKERS)
def batch_world(
    request: pytest.FixtureRequest, stack: Stack, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CrashWorld]:
    conf = {"saga_batch_below": 60, "saga_relay_interval": 0.2}
    world = CrashWorld(stack, broker_url(stack, request.param), tmp_path_factory.mktemp("points"), conf)
    world.worker(concurrency=1, env={FOLDER: str(world.folder)})
    yield world
    world.close()


@pytest.mark.parametrize(
    ("point", "direction"),
    [(point, way) for point in IN_WORKER for way in DIRECTIONS if way == "backward" or not point.startswith("undo.")],
)
def test_a_process_killed_at_any_point_of_a_batch_loses_and_doubles_nothing(
    batch_world: CrashWorld, point: str, direction: str
) -> None:
    check_batch(batch_world, point, direction, "kill")


@pytest.mark.parametrize("point", [point for point in IN_WORKER if point.startswith(("claim.", "run.", "undo."))])
def test_a_process_killed_at_any_point_of_branches_that_share_a_batch_loses_and_doubles_nothing(
    batch_world: CrashWorld, point: str
) -> None:
    check_batch(batch_world, point, "backward", "kill", "matrix_parallel")


@pytest.mark.parametrize("point", IN_WORKER)
def test_an_exception_at_any_point_of_a_batch_loses_and_doubles_nothing(batch_world: CrashWorld, point: str) -> None:
    check_batch(batch_world, point, "backward", "raise")


@pytest.mark.parametrize("point", CONNECTED)
def test_a_connection_dropped_at_any_point_of_a_batch_loses_and_doubles_nothing(
    batch_world: CrashWorld, point: str
) -> None:
    check_batch(batch_world, point, "backward", "drop")


def check_batch(world: CrashWorld, point: str, direction: str, strike: Strike, saga: str = "matrix_sequence") -> None:
    """Run sagas in one batch through a strike, and check what it left of each."""
    script = {"a": ["fail", "ok"], "z": DIRECTIONS[direction], "undo:b": ["fail", "ok"]}
    know_pace(world, saga)
    if point.startswith("settle."):
        arm(world.folder, "run.after_task")  # something must be lost before it can be settled
    arm(world.folder, point, strike)
    provoke(world, point)
    handles = world.orchestrator.start_many(saga, [{"script": script}] * MANY)
    ends = {world.finish(handle) for handle in handles}
    assert ends == {Status.COMPLETED if direction == "forward" else Status.COMPENSATED}
    eventually(lambda: not is_armed(world.folder, point), f"the strike at {point}")
    for handle in handles:
        check_ledger(world, handle, STEPS[saga], undone=direction == "backward")
        check_log(world, handle)


def know_pace(world: World, saga: str) -> None:
    """Have the worker's one process learn how quick the saga is, and see that it shares from then on."""
    eventually(lambda: shared_commits(world, start_together(world, {}, saga)), "a batch")


def start_together(world: World, script: dict[str, Any], saga: str) -> list[Handle]:
    handles = world.orchestrator.start_many(saga, [{"script": script}] * MANY)
    assert {world.finish(handle) for handle in handles} == {Status.COMPLETED}
    return handles


def shared_commits(world: World, handles: list[Handle]) -> bool:
    """Whether entries of different sagas were written by one statement, hence in one transaction."""
    ids = [handle.id for handle in handles]
    rows = world.sql(
        "SELECT count(DISTINCT xmin::text), count(*) FROM saga.log WHERE saga_id = ANY(%s) AND seq = 2", ids
    )
    return bool(rows[0][0] < rows[0][1])
