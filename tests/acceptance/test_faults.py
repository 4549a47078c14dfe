"""What sagas live through: killed workers, timeouts, lost and doubled messages, shutdowns, servers that restart."""

from __future__ import annotations

import pickle
import signal
import threading
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import create_engine

from saga import Handle, SagaCompensated, Status
from saga.barriers import create_table
from saga.core.events import AttemptFailed, AttemptLost, AttemptStarted, AttemptSucceeded, AttemptTimedOut, Entry
from saga.core.rows import Dispatch
from saga.crashpoints import FOLDER, arm, release
from saga.dev import Stack
from tests.acceptance.conftest import EVERY_BROKER, PATIENCE, World, acceptance_app, broker_url, eventually

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


@pytest.mark.parametrize(("broker", "conf"), EVERY_BROKER)
def test_every_worker_killed_at_once_loses_nothing(stack: Stack, broker: str, conf: dict[str, Any]) -> None:
    with closing(World(stack, broker_url(stack, broker), conf)) as world:
        workers = [world.worker(concurrency=1) for _ in range(2)]
        handles = [world.start("sequence", {"b": ["wait never", "ok"]}) for _ in range(2)]
        for handle in handles:
            world.await_effect(handle, "b")
        for worker in workers:
            worker.kill()
        world.worker(concurrency=2)
        for handle in handles:
            assert handle.result(timeout=30)["b"] == "b-2"
            assert world.effects(handle) == ["a", "b", "b 2", "c"]
            assert "attempt_lost" in [entry.kind for entry in handle.log()]
        assert world.leftovers() == []


@pytest.mark.parametrize(("broker", "conf"), EVERY_BROKER)
def test_faults_of_every_kind_end_alike_on_every_broker(stack: Stack, broker: str, conf: dict[str, Any]) -> None:
    with closing(World(stack, broker_url(stack, broker), conf)) as world:
        world.worker(concurrency=2)
        killed = world.start("sequence", {"b": ["die", "ok"]})
        killed_in_undo = world.start("parallel", {"e": "abort no", "undo:b": ["die", "ok"]})
        timed_out = world.start("slow", {"b": "wait late"})
        retried = world.start("waits", {"b": ["fail", "ok"]})
        quick = [world.start("parallel") for _ in range(20)]
        assert killed.result(timeout=30)["b"] == "b-2"
        assert world.finish(killed_in_undo) == Status.COMPENSATED
        for handle in (killed, killed_in_undo):
            assert "attempt_lost" in [entry.kind for entry in handle.log()]
        assert world.finish(timed_out) == Status.COMPENSATED
        assert retried.result(timeout=30)["b"] == "b-2"
        assert {world.finish(handle) for handle in quick} == {Status.COMPLETED}
        world.open_gate("late")
        assert world.sql("SELECT FROM effect GROUP BY saga, step, undo, attempt HAVING count(*) > 1") == []
        assert world.effects(timed_out) == ["a", "b", "undo b", "undo a"]
        assert world.leftovers() == []


@pytest.mark.parametrize(("broker", "conf"), EVERY_BROKER)
def test_a_queue_that_is_deleted_loses_no_saga_on_any_broker(stack: Stack, broker: str, conf: dict[str, Any]) -> None:
    with closing(World(stack, broker_url(stack, broker), conf)) as world:
        handles = [world.start("sequence") for _ in range(50)]
        world.orchestrator.publisher.flush()
        with world.orchestrator.app.connection_for_write() as connection:
            connection.default_channel.queue_delete(world.queue)
        world.worker(concurrency=2)
        assert {world.finish(handle) for handle in handles} == {Status.COMPLETED}
        assert world.sql("SELECT FROM effect GROUP BY saga, step HAVING count(*) > 1") == []


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


def test_a_barrier_refuses_the_action_that_arrives_after_its_undo(world: World) -> None:
    create_barrier(world)
    world.worker(concurrency=2)
    handle = world.start("guarded", {"b": "wait late"})
    assert world.finish(handle) == Status.COMPENSATED
    world.open_gate("late")
    late = eventually(lambda: [entry for entry in handle.log() if entry.kind == "late_result"], "the late result")
    assert late[0].data["error"].startswith("AbandonedStep: ")
    assert world.effects(handle) == ["a", "b", "undo b", "undo a"]
    assert world.sql("SELECT key FROM ledger") == []


def test_a_barrier_lets_each_effect_and_its_undo_through_once(world: World) -> None:
    create_barrier(world)
    world.worker(concurrency=1)
    handle = world.start("guarded", {"c": "abort no"})
    assert world.finish(handle) == Status.COMPENSATED
    assert world.sql("SELECT key FROM ledger ORDER BY key") == [(f"{handle.id}/b",), (f"{handle.id}/b/undo",)]


def create_barrier(world: World) -> None:
    engine = create_engine(world.database_url)
    assert create_table(engine)
    engine.dispose()


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


def test_a_duplicate_of_every_message_changes_nothing(world: World) -> None:
    world.worker(concurrency=2)
    publish = world.orchestrator.engine.publish
    world.orchestrator.engine.publish = lambda messages: publish([*messages, *messages])
    running = world.start("parallel", {"a": "wait doubled"})
    world.await_effect(running, "a")
    for lane in ("main", "main", "main/b", "main/c"):
        publish([Dispatch(running.id, lane, world.queue)])
    handles = [world.start("parallel") for _ in range(20)]
    assert {world.finish(handle) for handle in handles} == {Status.COMPLETED}  # behind the duplicates in the queue
    world.open_gate("doubled")
    assert world.finish(running) == Status.COMPLETED
    publish([Dispatch(handle.id, "main", world.queue) for handle in (running, *handles)])
    assert world.finish(world.start("sequence")) == Status.COMPLETED
    assert world.sql("SELECT saga, step FROM effect GROUP BY 1, 2 HAVING count(*) > 1") == []


class Bomb:
    """What makes a file wherever it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (self.path, "w")


def send_raw(world: World, body: bytes, content_type: str) -> None:
    """Send a message of which only the headers are well-formed."""
    with world.orchestrator.app.producer_or_acquire() as producer:
        producer.publish(
            body, routing_key=world.queue, exchange="", content_type=content_type, content_encoding="utf-8",
            headers={"task": "saga.run", "id": str(uuid4()), "lang": "py"},
        )  # fmt: skip


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
        [[[str(uuid4()), "main\ud800"]]],
        [[[str(uuid4()), "x" * 1_000_000]]],
        [[[str(uuid4()), "nowhere"]]],
        ["nowhere", 10**30],
        ["nowhere\x00", 1],
    ]
    for arguments in strange:
        for named in ({}, {"more": 1}):
            app.send_task("saga.run", arguments, named, queue=world.queue)
            app.send_task("saga.ping", arguments, named, queue=world.queue)
    wish = app.signature("acceptance.price", [1], queue=world.queue)
    for task in ("saga.run", "saga.ping"):
        app.send_task(
            task, [[[str(uuid4()), "main"]]], queue=world.queue, link=wish, link_error=wish, chain=[wish], time_limit=1,
            soft_time_limit=0.5, countdown=3600,
        )  # fmt: skip
    assert world.finish(world.start("sequence")) == Status.COMPLETED
    assert world.finish(world.start("sequence")) == Status.COMPLETED
    assert "Traceback" not in worker.output()
    assert "saga.ping message is refused" in worker.output()
    assert "saga.run message is refused" in worker.output()
    assert "Task acceptance.price" not in worker.output()
    assert max(map(len, worker.output().splitlines())) < 1000
    assert world.sql("SELECT * FROM saga.ping WHERE queue <> %s", world.queue) == []


def test_messages_that_celery_cannot_read_run_nothing_and_harm_nobody(world: World, tmp_path: Path) -> None:
    world.worker(concurrency=1)
    send_raw(world, b"[" * 100_000, "application/json")
    send_raw(world, pickle.dumps(Bomb(str(tmp_path / "went off"))), "application/x-python-serialize")
    assert world.finish(world.start("sequence")) == Status.COMPLETED
    assert not (tmp_path / "went off").exists()


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
    check_that_a_shutdown_costs_no_attempt(world)


def test_a_soft_shutdown_lets_the_step_finish_and_begins_no_other(world: World) -> None:
    world.conf["worker_soft_shutdown_timeout"] = 3
    first = world.worker(concurrency=1)
    handle = world.start("sequence", {"a": "wait soft"})
    world.await_effect(handle, "a")
    first.signal(signal.SIGQUIT)
    eventually(lambda: "Initiating Soft Shutdown" in first.output(), "the shutdown")
    world.open_gate("soft")
    eventually(lambda: not first.is_alive, "the worker's end")
    assert world.effects(handle) == ["a"]
    world.worker(concurrency=1)
    assert handle.result(timeout=30) == {"a": "a-1", "b": "b-1", "c": "c-1"}


def test_a_soft_shutdown_that_runs_out_is_no_failure_of_the_step(world: World) -> None:
    world.conf["worker_soft_shutdown_timeout"] = 0.5
    check_that_a_shutdown_costs_no_attempt(world)


def check_that_a_shutdown_costs_no_attempt(world: World) -> None:
    """Break off a step that has one attempt only."""
    first = world.worker(concurrency=1)
    handle = world.start("bare", {"b": ["wait never", "ok"]})
    world.await_effect(handle, "b")
    first.signal(signal.SIGQUIT)
    eventually(lambda: not first.is_alive, "the worker's end")
    world.worker(concurrency=1)
    assert handle.result(timeout=30)["b"] == "b-2"


def test_a_step_that_forks_leaves_no_child_that_keeps_its_worker_alive(world: World) -> None:
    world.worker(concurrency=1)
    handle = world.start("sequence", {"b": ["fork grown", "ok"]})
    assert handle.result(timeout=30)["b"] == "b-2"
    assert "attempt_lost" in [entry.kind for entry in handle.log()]
    world.open_gate("grown")


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_step_that_holds_the_interpreter_lock_is_not_taken_for_lost(world: World, pool: str) -> None:
    world.worker(pool=pool, concurrency=2)
    world.worker(pool=pool, concurrency=2)
    handles = [world.start("sequence", {"b": "hold 3"}) for _ in range(2)]
    for handle in handles:
        assert handle.result(timeout=30)["b"] == "b-1"
        assert world.effects(handle) == ["a", "b", "c"]


@pytest.mark.parametrize("minutes", [10, -10])
def test_a_worker_whose_clock_is_wrong_changes_nothing(world: World, minutes: int) -> None:
    world.worker(concurrency=3, env={"ACCEPTANCE_CLOCK": str(minutes)})
    delayed = world.start("sequence", delay=1)
    waits = world.start("waits", {"b": ["fail", "ok"]})
    slow = world.start("slow", {"b": "wait never"})
    assert world.finish(delayed) == world.finish(waits) == Status.COMPLETED
    assert world.finish(slow) == Status.COMPENSATED
    assert between(delayed, "saga_started", "step_started") >= timedelta(seconds=1)
    assert between(waits, "step_failed", "step_started") >= timedelta(seconds=1.5)
    assert timedelta(seconds=1) <= between(slow, "step_started", "attempt_timed_out") < timedelta(seconds=60)
    world.open_gate("never")


def between(handle: Handle, one: str, other: str) -> timedelta:
    """The time, by the database's clock, from the first entry of one kind to the next one of another."""
    entries = iter(handle.log())
    began = next(entry.at for entry in entries if entry.kind == one)
    return next(entry.at for entry in entries if entry.kind == other) - began


def test_the_place_of_a_relay_that_hangs_is_taken(world: World, tmp_path: Path) -> None:
    arm(tmp_path, "relay.before_commit", "pause")
    first = world.worker(concurrency=1, env={FOLDER: str(tmp_path)})
    eventually((tmp_path / "relay.before_commit.paused").exists, "the first relay to hang, in its transaction")
    first.suspend()
    world.worker(concurrency=1)
    handle = world.start("slow", {"b": "wait never"})
    assert world.finish(handle) == Status.COMPENSATED
    first.resume()
    release(tmp_path, "relay.before_commit")
    world.open_gate("never")
    assert world.finish(world.start("sequence")) == Status.COMPLETED


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
