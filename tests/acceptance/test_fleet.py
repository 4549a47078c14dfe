"""Workers that know of each other: old and new ones on one queue, dead ones, and those that know nothing of sagas."""

from __future__ import annotations

import pytest

from saga import Status
from saga.store.postgres.fleet import read_members
from tests.acceptance.conftest import World, eventually

pytestmark = pytest.mark.acceptance

NEW = {"ACCEPTANCE_NEW": "1"}


def test_sagas_of_the_old_version_wait_for_no_back_off_while_an_old_worker_idles(world: World) -> None:
    world.worker(env=NEW, concurrency=2)
    waiting = world.start("sequence")
    eventually(
        lambda: world.sql("SELECT 1 FROM saga.work WHERE unknown AND dispatches >= 3"), "a long wait of the first"
    )
    world.worker(concurrency=1)
    handles = [waiting, *(world.start("sequence") for _ in range(20))]
    assert {world.finish(handle) for handle in handles} == {Status.COMPLETED}
    ends = world.sql("SELECT extract(epoch FROM max(finished_at) - max(started_at))::float FROM saga.instance")
    waits = world.sql("SELECT count(*) FROM saga.log WHERE kind = 'step_started' AND step = 'a' AND attempt = 1")
    assert waits == [(21,)]
    assert ends[0][0] < 15


def test_old_sagas_whose_worker_is_busy_are_taken_when_it_is_free(world: World) -> None:
    world.worker(concurrency=1)
    world.worker(env=NEW, concurrency=1)
    eventually(lambda: len(living(world)) == 2, "both workers")
    slow = world.start("sequence", {"b": "wait go"})
    world.await_effect(slow, "b")
    others = [world.start("sequence") for _ in range(12)]
    eventually(lambda: world.sql("SELECT 1 FROM saga.work WHERE unknown AND problem IS NOT NULL"), "one to be parked")
    world.open_gate("go")
    assert {world.finish(handle) for handle in [slow, *others]} == {Status.COMPLETED}


def living(world: World) -> list[str]:
    """The nodes of the processes that are alive."""
    with world.orchestrator.database.link() as link:
        return [str(member.about.node) for member in read_members(link) if member.alive]


def test_every_process_of_a_pool_is_known_and_forgotten_when_it_ends(world: World) -> None:
    worker = world.worker(concurrency=2)
    eventually(lambda: living(world) == [worker.hostname] * 2, "both processes")
    worker.kill_child()
    eventually(lambda: len(living(world)) == 2, "another in its place")
    worker.stop()
    eventually(lambda: living(world) == [], "none to be left")
