"""What sagas live through: killed workers, timeouts, lost and doubled messages, shutdowns, servers that restart."""

from __future__ import annotations

import signal
import threading

import pytest

from saga import Handle, SagaCompensated, Status
from saga.dev import Stack
from saga.events import AttemptFailed, AttemptLost, AttemptStarted, AttemptSucceeded, AttemptTimedOut, Entry
from saga.work import Dispatch
from tests.acceptance.conftest import PATIENCE, World, acceptance_app, broker_url, eventually

pytestmark = [pytest.mark.acceptance, pytest.mark.crash]


def test_a_worker_killed_in_a_step_costs_an_attempt_and_no_step(world: World) -> None:
    world.worker(concurrency=1)
    handle = world.start("sequence", {"b": ["die", "ok"]})
    assert handle.result(timeout=30)["b"] == "b-2"
    assert world.effects(handle) == ["a", "b", "b 2", "c"]
    assert world.keys(handle, "b") == {f"{handle.id}/b"}
    assert "attempt_lost" in [entry.kind for entry in handle.log()]


def test_a_step_that_kills_its_worker_each_time_comes_to_an_end(world: World) -> None:
    world.worker(concurrency=1)
    handle = world.start("sequence", {"b": "die"})
    with pytest.raises(SagaCompensated, match="the worker was lost"):
        handle.result(timeout=30)
    assert world.effects(handle) == ["a", "b", "b 2", "b 3", "undo b", "undo a"]


def test_a_step_that_exits_its_process_costs_an_attempt_each_time(world: World) -> None:
    world.worker(concurrency=1)
    handle = world.start("sequence", {"b": "exit"})
    with pytest.raises(SagaCompensated, match="the step ended its process: SystemExit: 3"):
        handle.result(timeout=30)
    assert world.effects(handle) == ["a", "b", "b 2", "b 3", "undo b", "undo a"]


def test_a_worker_killed_in_an_undo_goes_on_at_that_undo(world: World) -> None:
    world.worker(concurrency=1)
    handle = world.start("sequence", {"c": "abort no", "undo:b": ["die", "ok"]})
    assert world.finish(handle) == Status.COMPENSATED
    assert world.effects(handle) == ["a", "b", "c", "undo b", "undo b 2", "undo a"]


def test_every_worker_killed_at_once_loses_nothing(world: World) -> None:
    first = world.worker(concurrency=2)
    handles = [world.start("sequence", {"b": ["wait never", "ok"]}) for _ in range(2)]
    for handle in handles:
        world.await_effect(handle, "b")
    first.kill()
    world.worker(concurrency=2)
    for handle in handles:
        assert handle.result(timeout=30)["b"] == "b-2"


def test_a_timed_out_step_is_undone_and_its_late_result_is_never_used(world: World) -> None:
    world.worker(concurrency=2)
    handle = world.start("slow", {"b": "wait late"})
    with pytest.raises(SagaCompensated, match="timed out"):
        handle.result(timeout=30)
    assert world.effects(handle) == ["a", "b", "undo b", "undo a"]
    world.open_gate("late")
    late = eventually(lambda: [entry for entry in handle.log() if entry.kind == "late_result"], "the late result")
    assert late[0].data["result"] == "b-1"
    state = handle.replay()
    assert state.status == Status.COMPENSATED
    assert state.steps["b"].result is None


def test_an_abort_after_a_timeout_is_undone(world: World) -> None:
    world.worker(concurrency=2)
    handle = world.start("slow_twice", {"b": ["wait never", "abort too late"]})
    assert world.finish(handle) == Status.COMPENSATED
    assert handle.steps()["b"].status == "unknown"
    assert "undo b" in world.effects(handle)


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_other_pools_run_sagas_too(world: World, pool: str) -> None:
    world.worker(pool=pool, concurrency=4)
    handles = [world.start("parallel", {"b": ["fail", "ok"], "e": "abort no" if n % 2 else "ok"}) for n in range(6)]
    for n, handle in enumerate(handles):
        assert world.finish(handle) == (Status.COMPENSATED if n % 2 else Status.COMPLETED)
    assert world.leftovers() == []


def test_threads_give_a_timed_out_step_up_too(world: World) -> None:
    world.worker(pool="threads", concurrency=2)
    handle = world.start("slow", {"b": "wait never"})
    assert world.finish(handle) == Status.COMPENSATED
    world.open_gate("never")


def test_a_flushed_broker_loses_no_saga(stack: Stack) -> None:
    world = World(stack, stack.broker_url)
    try:
        handles = [world.start("sequence", {"a": "wait flushed"}) for _ in range(100)]
        world.orchestrator.publisher.flush()
        stack.broker.flush()
        world.worker(concurrency=2)
        world.await_effect(handles[0], "a")
        stack.broker.flush()
        world.open_gate("flushed")
        assert {world.finish(handle) for handle in handles} == {Status.COMPLETED}
        assert world.leftovers() == []
        assert world.sql("SELECT saga, step FROM effect GROUP BY 1, 2 HAVING count(*) > 1") == []
    finally:
        world.close()


@pytest.mark.rabbitmq
def test_a_purged_queue_loses_no_saga(stack: Stack) -> None:
    world = World(stack, broker_url(stack, "rabbitmq"))
    try:
        handles = [world.start("sequence") for _ in range(100)]
        world.orchestrator.publisher.flush()
        with world.orchestrator.app.connection_for_write() as connection:
            assert connection.default_channel.queue_purge(world.queue) > 0
        world.worker(concurrency=2)
        assert {world.finish(handle) for handle in handles} == {Status.COMPLETED}
    finally:
        world.close()


def test_a_duplicate_of_every_message_changes_nothing(world: World) -> None:
    world.worker(concurrency=2)
    publish = world.orchestrator.engine.publish
    world.orchestrator.engine.publish = lambda messages: publish([*messages, *messages])
    handles = [world.start("parallel") for _ in range(20)]
    for handle in handles:
        for lane in ("main", "main/b", "main/c"):
            publish([Dispatch(handle.id, lane, world.queue)])
    assert {world.finish(handle) for handle in handles} == {Status.COMPLETED}
    assert world.sql("SELECT saga, step FROM effect GROUP BY 1, 2 HAVING count(*) > 1") == []


def test_malformed_messages_are_refused_and_harm_nobody(world: World) -> None:
    worker = world.worker(concurrency=1)
    app = world.orchestrator.app
    strange = [
        [],
        [None],
        [[["x", "main"]]],
        [[[1, 2]]],
        [[["x"]]],
        [{"a": 1}],
        [[[str(i), "main"] for i in range(2000)]],
    ]
    for arguments in strange:
        app.send_task("saga.run", arguments, queue=world.queue)
        app.send_task("saga.ping", arguments, queue=world.queue)
    assert world.finish(world.start("sequence")) == Status.COMPLETED
    assert "Traceback" not in worker.output()


def test_a_saga_no_worker_knows_is_parked_and_says_why(world: World) -> None:
    world.worker(concurrency=1)
    stranger = acceptance_app.Saga("stranger", acceptance_app.Step(acceptance_app.shared, compensate=None))
    world.orchestrator.register(stranger)
    handle = world.start("stranger")
    problem = eventually(lambda: world.sql("SELECT problem FROM saga.work WHERE problem IS NOT NULL"), "the problem")
    assert problem == [("no worker here knows saga 'stranger'",)]
    assert handle.status == Status.RUNNING


def test_a_start_succeeds_while_the_broker_is_down(stack: Stack) -> None:
    world = World(stack, "redis://127.0.0.1:1/0")
    try:
        handle = world.start("sequence")
        assert handle.status == Status.RUNNING
    finally:
        world.orchestrator.close()
    reachable = acceptance_app.build(stack.broker_url, world.database_url, world.queue)
    world.broker_url = stack.broker_url
    try:
        world.worker(concurrency=1)
        assert reachable.get(handle.id).wait(PATIENCE) == Status.COMPLETED
    finally:
        reachable.close()
        world.close()


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_warm_shutdown_finishes_the_step_and_hands_the_rest_back(world: World, pool: str) -> None:
    first = world.worker(pool=pool, concurrency=1)
    handle = world.start("sequence", {"a": "wait warm"})
    world.await_effect(handle, "a")
    first.terminate()
    eventually(lambda: "Warm shutdown" in first.output(), "the shutdown")
    world.open_gate("warm")
    eventually(lambda: not first.is_alive, "the worker's end")
    assert world.effects(handle) == ["a"]
    world.worker(concurrency=1)
    assert handle.result(timeout=30) == {"a": "a-1", "b": "b-1", "c": "c-1"}


def test_a_cold_shutdown_is_no_failure_of_the_step(world: World) -> None:
    first = world.worker(concurrency=1)
    handle = world.start("sequence", {"b": ["wait never", "ok"]})
    world.await_effect(handle, "b")
    first.signal(signal.SIGQUIT)
    eventually(lambda: not first.is_alive, "the worker's end")
    world.worker(concurrency=1)
    assert handle.result(timeout=30)["b"] == "b-2"


def test_a_stopped_worker_that_wakes_after_its_timeout_changes_nothing(world: World) -> None:
    first = world.worker(concurrency=1)
    handle = world.start("slow", {"b": "wait asleep"})
    world.await_effect(handle, "b")
    first.suspend()
    world.open_gate("asleep")
    second = world.worker(concurrency=1)
    assert world.finish(handle) == Status.COMPENSATED
    first.resume()
    eventually(lambda: any(entry.kind == "late_result" for entry in handle.log()), "the late result")
    assert world.effects(handle) == ["a", "b", "undo b", "undo a"]
    assert second.is_alive


def test_a_relay_on_its_own_sends_what_is_due(world: World) -> None:
    handle = world.start("sequence", delay=0.2)
    stopping = threading.Event()
    relay = threading.Thread(target=world.orchestrator.relay().run, args=(stopping,))
    relay.start()
    try:
        world.worker(concurrency=1, env={"SAGA_RELAY": "false"})
        assert world.finish(handle) == Status.COMPLETED
    finally:
        stopping.set()
        relay.join()


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_postgres_restart_runs_no_step_twice(mode: str) -> None:
    with Stack() as own:
        world = World(own, own.broker_url)
        try:
            world.worker(pool="threads", concurrency=8, env={"GRACE": "10"})
            handles = [world.start("sequence", {"b": "wait restarted"}) for _ in range(8)]
            for handle in handles:
                world.await_effect(handle, "b")
            own.postgres.restart(mode=mode)
            world.open_gate("restarted")
            assert {world.finish(handle) for handle in handles} == {Status.COMPLETED}
            assert world.sql("SELECT saga, step FROM effect GROUP BY 1, 2 HAVING count(*) > 1") == []
        finally:
            world.close()


def test_a_pool_process_that_is_held_past_its_timeout_ends_itself(world: World) -> None:
    worker = world.worker(concurrency=1, env={"SAGA_KILL_GRACE": "0.5"})
    held = world.start("slow", {"b": "wait never"})
    assert world.finish(held) == Status.COMPENSATED
    assert world.finish(world.start("sequence")) == Status.COMPLETED
    assert "the process ends itself" in worker.output()


def test_an_attempt_is_closed_before_the_next_is_opened(world: World) -> None:
    world.worker(concurrency=2)
    script = {"a": ["die", "fail", "ok"], "b": "abort no", "undo:a": ["die", "ok"]}
    handles = [world.start("sturdy", script) for _ in range(3)]
    for handle in handles:
        assert world.finish(handle) == Status.COMPENSATED
        open_attempts = 0
        for entry in handle.log():
            if isinstance(entry.event, AttemptStarted):
                open_attempts += 1
            elif isinstance(entry.event, (AttemptSucceeded, AttemptTimedOut, AttemptLost)) or is_own_failure(
                handle, entry
            ):
                open_attempts -= 1
            assert open_attempts in (0, 1)
        assert open_attempts == 0


def is_own_failure(handle: Handle, entry: Entry) -> bool:
    """Whether an attempt ended itself by failing, rather than being given up after a timeout or a loss."""
    before = handle.log()[entry.seq - 2].event
    return isinstance(entry.event, AttemptFailed) and not isinstance(before, (AttemptTimedOut, AttemptLost))
