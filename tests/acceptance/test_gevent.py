"""Sagas on a worker of greenlets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from saga import Status
from saga.dev import Stack
from tests.acceptance.conftest import World, eventually

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def world(stack: Stack) -> Iterator[World]:
    found = World(stack, stack.broker_url)
    found.worker(pool="gevent", concurrency=20)
    yield found
    found.close()


def test_a_saga_completes_and_another_is_undone(world: World) -> None:
    done, undone = world.start("parallel"), world.start("parallel", {"e": "abort"})
    assert world.finish(done) == Status.COMPLETED
    assert world.finish(undone) == Status.COMPENSATED
    assert sorted(world.effects(undone)) == sorted(["a", "b", "c", "d", "e", *("undo " + step for step in "abcd")])


def test_steps_wait_side_by_side(world: World) -> None:
    handles = [world.start("sequence", {"a": "wait all"}) for _ in range(10)]
    eventually(lambda: all(world.effects(handle) == ["a"] for handle in handles), "all ten at their first step")
    world.open_gate("all")
    assert {world.finish(handle) for handle in handles} == {Status.COMPLETED}


def test_a_step_that_hangs_is_over_at_its_timeout(world: World) -> None:
    handle = world.start("slow", {"b": "wait never"})
    assert world.finish(handle) == Status.COMPENSATED
    assert world.effects(handle) == ["a", "b", "undo b", "undo a"]
    world.open_gate("never")


def test_transactional_steps_commit_with_the_log(world: World) -> None:
    handle = world.orchestrator.start("bank", {"owner": "Ada", "amount": 5, "script": {}})
    assert world.finish(handle) == Status.COMPLETED
    assert world.sql("SELECT amount FROM account WHERE owner = 'Ada'") == [(5,)]


def test_a_warm_shutdown_finishes_the_step_and_gives_the_rest_back(stack: Stack) -> None:
    world = World(stack, stack.broker_url)
    try:
        worker = world.worker(pool="gevent", concurrency=5)
        handle = world.start("sequence", {"a": "wait warm"})
        world.await_effect(handle, "a")
        worker.terminate()
        eventually(lambda: "Warm shutdown" in worker.output(), "the shutdown")
        world.open_gate("warm")
        eventually(lambda: not worker.is_alive, "the worker's end")
        assert world.effects(handle) == ["a"]
        world.worker(pool="gevent", concurrency=5)
        assert world.finish(handle) == Status.COMPLETED
        assert world.effects(handle) == ["a", "b", "c"]
    finally:
        world.close()
