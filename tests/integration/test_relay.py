"""The relay and liveness, look by look, without waiting for anything but events."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta

import psycopg
import pytest
from celery import Celery
from tenacity import retry_if_exception

from saga import Handle, Orchestrator, Retry, Saga, Status, Step
from saga.config import Settings
from saga.core.events import Paused
from saga.core.outcome import Failure, Success
from saga.core.rows import Dispatch
from saga.relay import Relay
from saga.store.postgres import appends, due, work
from saga.store.postgres.database import Link
from saga.store.postgres.fleet import lock_class
from saga.store.postgres.pings import Ping, see_ping
from saga.store.values import Addition, Offer
from saga.worker.attempt import Attempt
from saga.worker.claimer import Claimer
from saga.worker.executor import Executor
from saga.worker.liveness import Liveness
from saga.worker.process import Shutdown, Worker
from tests.integration.conftest import ASKED, FORKED, SEQUENCE, Bench, act, always, never


def relay(bench: Bench, grace: float = 0.0) -> tuple[Relay, list[Dispatch | Ping]]:
    sent: list[Dispatch | Ping] = []
    return Relay(bench.orchestrator.store, sent.extend, interval=0.05, grace=grace), sent


def lanes(messages: list[Dispatch | Ping]) -> list[str]:
    return [message.lane for message in messages if isinstance(message, Dispatch)]


def look_until_gone(one: Relay, sent: list[Dispatch | Ping]) -> None:
    """Look again until a worker has been found gone."""
    limit = time.monotonic() + 10
    while not lanes(sent) and time.monotonic() < limit:
        one.tick()


def test_a_start_in_a_callers_transaction_is_sent_after_its_commit(bench: Bench) -> None:
    one, sent = relay(bench)
    with bench.connect() as connection:
        bench.start(connection=connection)
        one.tick()
        assert lanes(sent) == []
        connection.commit()
    one.tick()
    assert lanes(sent) == ["main"]


def test_the_next_claimer_asks_the_policy_after_a_timeout(bench: Bench) -> None:
    one, _ = relay(bench)
    handle = bench.start()
    bench.claimed(handle)
    hold_lock(bench, 1)
    bench.sql("UPDATE saga.log SET data = '{\"timeout\": 0}' WHERE seq = 2")
    bench.sql("UPDATE saga.work SET due_at = now()")
    one.tick()
    worker = bench.worker(2)
    assert Claimer(worker).claim(handle.id, "main") is None  # it waits for its retry now
    assert handle.log()[-1].kind == "step_failed"
    assert handle.log()[-1].data["outcome"] == "retry"
    assert handle.steps()["a"].status == "waiting"
    bench.sql("UPDATE saga.work SET due_at = now()")
    run = bench.claimed(handle, worker=worker)
    assert run.number == 2


def test_a_worker_without_its_lock_is_gone_after_two_looks(bench: Bench) -> None:
    one, sent = relay(bench)
    handle = bench.start()
    bench.claimed(handle)
    one.tick()
    assert lanes(sent) == []
    look_until_gone(one, sent)
    assert handle.log()[-1].kind == "attempt_lost"
    run = bench.claimed(handle, worker=bench.worker(2))
    assert (run.number, run.track.losses) == (2, 1)


def test_a_worker_that_holds_or_awaits_its_lock_is_alive(bench: Bench) -> None:
    one, sent = relay(bench)
    for number in (1, 2):
        bench.claimed(bench.start(), worker=bench.worker(number))
    hold_lock(bench, 1)
    await_lock(bench, 2)
    with bench.orchestrator.database.link() as link:
        assert due.absent_workers(link, lock_class("saga"), ASKED["realms"]) == []
    one.tick()
    assert lanes(sent) == []


def test_no_worker_is_declared_lost_soon_after_the_server_started(bench: Bench) -> None:
    one, sent = relay(bench, grace=3600)
    bench.claimed(bench.start())
    started = time.monotonic()
    while time.monotonic() < started + 1:
        one.tick()
    assert lanes(sent) == []


def test_a_worker_that_stops_lets_its_lock_go_at_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saga.worker.liveness._LOOK_EVERY", 10.0)
    liveness = Liveness(bench.orchestrator.database, bench.orchestrator.settings)
    liveness.worker()
    began = time.monotonic()
    liveness.stop()
    assert time.monotonic() - began < 5
    bench.until(lambda: not bench.sql("SELECT FROM pg_locks WHERE locktype = 'advisory'"), "the lock to be let go")


def test_a_held_lane_whose_worker_is_gone_keeps_its_due_time(bench: Bench) -> None:
    one, sent = relay(bench)
    handle, worker = bench.start(), bench.worker()
    run = worker.record(bench.claimed(handle, worker=worker), Failure(RuntimeError("x")), always)
    assert run is not None
    assert run.held is not None
    look_until_gone(one, sent)
    again = bench.claimed(handle, worker=bench.worker(2))
    assert again.number == 2
    assert worker.wake(run) is None


def test_only_one_process_is_the_relay_at_a_time(bench: Bench) -> None:
    one, _ = relay(bench)
    assert one.tick()
    with bench.connect() as other:
        assert due.take_turn(Link(other, "saga"), "integration")
        assert not one.tick()
    assert one.tick()


def test_a_lost_message_is_found_by_a_ping_that_came_through(bench: Bench) -> None:
    one, sent = relay(bench)
    bench.start()
    bench.sql("UPDATE saga.work SET sent = sent - interval '10 s'")
    one.tick()
    pings = [message for message in sent if isinstance(message, Ping)]
    assert len(pings) == 1
    one.tick()
    assert len(sent) == 1  # one ping is out; nothing is known yet
    with bench.orchestrator.database.link() as link:
        see_ping(link, pings[0].realm, pings[0].queue, pings[0].number)
    one.tick()
    assert lanes(sent) == ["main"]
    assert bench.sql("SELECT dispatches FROM saga.work") == [(2,)]


def test_a_backlog_that_delays_the_ping_makes_no_duplicates(bench: Bench) -> None:
    one, sent = relay(bench)
    bench.start()
    bench.sql("UPDATE saga.work SET sent = sent - interval '1 hour'")
    for _ in range(5):
        one.tick()
        bench.sql("UPDATE saga.probe SET sent_at = sent_at - interval '2 min'")
    assert lanes(sent) == []
    assert len(sent) == 5  # each replaced after its time, none of them seen


def test_a_ping_proves_nothing_of_a_lane_that_a_worker_has_offered_on_since(bench: Bench) -> None:
    one, sent = relay(bench)
    handle, other = bench.start(), bench.start()
    bench.sql("UPDATE saga.work SET sent = sent - interval '1 hour'")
    one.tick()
    ping = sent[0]
    assert isinstance(ping, Ping)
    executor = Executor(bench.orchestrator.app, Claimer(bench.worker()), bench.orchestrator.settings, never)
    executor._offer([(handle.id, "main")], alone=True)
    with bench.orchestrator.database.link() as link:
        see_ping(link, ping.realm, ping.queue, ping.number)
    one.tick()
    assert [message.saga_id for message in sent if isinstance(message, Dispatch)] == [other.id]


@pytest.mark.parametrize("number", [2**53, 4_000_000_000_000_000])
def test_a_forged_ping_from_the_future_proves_nothing(bench: Bench, number: int) -> None:
    one, sent = relay(bench)
    bench.start()
    bench.sql("UPDATE saga.work SET sent = sent - interval '10 s'")
    one.tick()
    bench.orchestrator._see_ping("celery", number)
    one.tick()
    assert lanes(sent) == []
    assert bench.sql("SELECT through FROM saga.probe") == [(None,)]


def test_a_forged_ping_from_the_past_takes_nothing_back(bench: Bench) -> None:
    one, sent = relay(bench)
    bench.start()
    bench.sql("UPDATE saga.work SET sent = sent - interval '10 s'")
    one.tick()
    ping = sent[0]
    assert isinstance(ping, Ping)
    bench.orchestrator._see_ping(ping.queue, ping.number)
    seen = bench.sql("SELECT through FROM saga.probe")
    bench.orchestrator._see_ping(ping.queue, 1)
    assert bench.sql("SELECT through FROM saga.probe") == seen


def test_a_ping_for_a_queue_that_nobody_asked_about_leaves_no_row(bench: Bench) -> None:
    bench.orchestrator._see_ping("a queue of nobody", 1)
    assert bench.sql("SELECT * FROM saga.probe") == []


def test_a_process_frees_what_it_owns_but_does_not_run(bench: Bench) -> None:
    settings = Settings.load({}, database_url=bench.url, relay=False, relay_interval=0.01)
    worker = Worker(
        bench.orchestrator.app,
        bench.engine,
        bench.orchestrator.database,
        settings,
        bench.published.extend,
        Shutdown(),
        kills_itself=False,
    )
    worker.start()
    try:
        handle, kept = bench.start(), bench.start()
        run = bench.claimed(handle, worker=worker.recorder)
        bench.claimed(kept, worker=worker.recorder)
        bench.published.clear()
        worker.recorder.abandon(run)
        bench.until(lambda: lanes(bench.published) == ["main"], "the lane to be given back")
        assert [dispatch.saga_id for dispatch in bench.published] == [handle.id]
    finally:
        worker.stop()
    again = bench.claimed(handle, worker=bench.worker(99))
    assert (again.number, again.track.uncounted) == (2, 1)


def test_a_lane_taken_up_again_after_parking_has_no_problem(bench: Bench) -> None:
    handle = bench.start()
    with bench.orchestrator.database.link() as link:
        work.park(link, handle.id, "main", "nobody knows it")
    bench.sql("UPDATE saga.work SET due_at = now()")
    worker = bench.worker()
    run = bench.claimed(handle, worker=worker)
    assert bench.sql("SELECT problem FROM saga.work") == [(None,)]
    assert worker.record(run, Success(None), never) is None
    assert handle.status == Status.RUNNING


# --- liveness ---------------------------------------------------------------------------------------------------------


def liveness(bench: Bench) -> Liveness:
    return Liveness(bench.orchestrator.database, Settings.load({}, database_url=bench.url))


def alive(bench: Bench, worker: int) -> bool:
    return bool(
        bench.sql("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = %s AND objsubid = 2 AND granted "
                  "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())", worker)
    )  # fmt: skip


def test_each_worker_process_has_a_number_and_a_lock(bench: Bench) -> None:
    first, second = liveness(bench), liveness(bench)
    assert first.worker() != second.worker()
    assert alive(bench, first.worker())
    first.stop()
    second.stop()
    bench.until(lambda: not alive(bench, first.worker()), "the lock's end")


def test_a_worker_whose_number_is_taken_takes_the_next_one(bench: Bench) -> None:
    ((last,),) = bench.sql("SELECT nextval('saga.worker_id')")
    for number in (1, 2):
        hold_lock(bench, last + number)
    one = liveness(bench)
    assert one.worker() == last + 3
    one.stop()


def test_a_lock_whose_connection_breaks_is_taken_again(bench: Bench) -> None:
    one = liveness(bench)
    number = one.worker()
    before = one._connection
    bench.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgsaga liveness' "
              "AND datname = current_database()")  # fmt: skip
    bench.until(lambda: one._connection is not before and alive(bench, number), "the lock, taken again")
    assert one.worker() == number
    one.stop()


_FORKS = """
import os, sys, time
from saga.config import Settings
from saga.store.postgres.database import Database
from saga.worker.liveness import Liveness
settings = Settings.load({}, database_url=sys.argv[1])
one = Liveness(Database(settings), settings)
number = one.worker()
if os.fork() == 0:
    time.sleep(60)
print(number, flush=True)
time.sleep(60)
"""


def test_a_fork_does_not_keep_a_dead_worker_alive(bench: Bench) -> None:
    parent = subprocess.Popen([sys.executable, "-c", _FORKS, bench.url], stdout=subprocess.PIPE, start_new_session=True)
    assert parent.stdout is not None
    number = int(parent.stdout.readline())
    try:
        assert alive(bench, number)
        parent.kill()
        parent.wait()
        bench.until(lambda: not alive(bench, number), "the lock's end")
    finally:
        os.killpg(parent.pid, signal.SIGKILL)
        parent.stdout.close()


_held: list[psycopg.Connection[tuple[object, ...]]] = []
_waiting: list[threading.Thread] = []


@pytest.fixture(autouse=True)
def _release() -> object:
    yield
    while _held:
        _held.pop().close()
    while _waiting:
        _waiting.pop().join()


def hold_lock(bench: Bench, worker: int) -> None:
    """Be that worker's liveness connection."""
    connection = psycopg.connect(bench.url, autocommit=True)
    connection.execute("SELECT pg_advisory_lock(%s, %s)", (lock_class("saga"), worker))
    _held.append(connection)


def await_lock(bench: Bench, worker: int) -> None:
    """Be that worker's new connection, waiting while the old session lingers."""
    hold_lock(bench, worker)
    waiting = threading.Thread(target=_wait_for_lock, args=(bench.url, worker), daemon=True)
    waiting.start()
    _waiting.append(waiting)
    bench.until_blocked()


def _wait_for_lock(url: str, worker: int) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s, %s)", (lock_class("saga"), worker))


# --- what the relay ends while a saga rolls back or is paused ---------------------------------------------------------


def open_branches(bench: Bench) -> tuple[Handle, Attempt, Attempt]:
    """Both branches of a fork have an attempt open, in workers 1 and 2."""
    handle = bench.start(FORKED)
    first = bench.worker(1)
    first.record(bench.claimed(handle, worker=first), Success(None), always)
    return handle, bench.claimed(handle, "main/b", first), bench.claimed(handle, "main/c", bench.worker(2))


def finish_all(bench: Bench, handle: Handle) -> None:
    """Claim and finish whatever is free, as other workers would."""
    worker = bench.worker(9)
    while lanes := bench.sql("SELECT lane FROM saga.work WHERE saga_id = %s AND worker IS NULL", handle.id):
        bench.sql("UPDATE saga.work SET due_at = now() WHERE worker IS NULL")
        for (lane,) in lanes:
            bench.finish(worker, Claimer(worker).claim(handle.id, lane))


@pytest.mark.parametrize("kind", ["lost", "timed out", "unrun"])
def test_a_rollback_goes_on_after_its_last_open_attempt_was_ended_by_the_relay(bench: Bench, kind: str) -> None:
    handle, left, right = open_branches(bench)
    bench.worker(1).record(left, Failure(RuntimeError("no"), final=True), always)
    end_open_attempt(bench, right, kind)
    assert handle.status == Status.COMPENSATING
    finish_all(bench, handle)
    assert handle.status == Status.COMPENSATED
    assert {name: step.undo and step.undo.status for name, step in handle.steps().items()} == {
        "a": "succeeded", "b": "succeeded", "c": "succeeded", "d": None,
    }  # fmt: skip
    assert bench.sql("SELECT * FROM saga.work") == []


@pytest.mark.parametrize("kind", ["lost", "timed out", "unrun"])
def test_a_paused_saga_can_be_resumed_after_the_relay_ended_its_attempt(bench: Bench, kind: str) -> None:
    handle = bench.start()
    run = bench.claimed(handle, worker=bench.worker(1))
    handle.pause()
    end_open_attempt(bench, run, kind)
    assert handle.status == Status.PAUSED
    finish_all(bench, handle)
    assert handle.status == Status.PAUSED
    handle.resume()
    finish_all(bench, handle)
    assert handle.status == Status.COMPLETED


@pytest.mark.parametrize("kind", ["lost", "timed out", "unrun"])
def test_a_saga_can_be_cancelled_between_the_relays_word_and_the_claimers(bench: Bench, kind: str) -> None:
    handle = bench.start()
    end_open_attempt(bench, bench.claimed(handle, worker=bench.worker(1)), kind)
    handle.cancel("now")
    finish_all(bench, handle)
    assert handle.status == Status.COMPENSATED
    assert handle.steps()["a"].status == "unknown"


def test_an_undo_that_the_relay_ended_is_made_again(bench: Bench) -> None:
    handle, worker = bench.start(), bench.worker(1)
    run = worker.record(bench.claimed(handle, worker=worker), Failure(RuntimeError("no"), final=True), always)
    assert run is not None
    assert run.undo
    end_open_attempt(bench, run, "lost")
    finish_all(bench, handle)
    assert handle.status == Status.COMPENSATED


@pytest.mark.parametrize("kind", ["lost", "timed out", "unrun"])
def test_a_lane_given_back_after_it_went_on_inline_is_at_the_step_that_the_log_says(bench: Bench, kind: str) -> None:
    handle, worker = bench.start(), bench.worker(1)
    run = worker.record(bench.claimed(handle, worker=worker), Success(None), always)
    assert run is not None
    assert bench.sql("SELECT step, undo FROM saga.work") == [("a", False)]
    end_open_attempt(bench, run, kind)
    assert bench.sql("SELECT step, undo, attempt FROM saga.work") == [("b", False, None)]


@pytest.mark.parametrize("kind", ["lost", "timed out", "unrun"])
def test_a_lane_given_back_after_it_turned_round_inline_is_at_the_undo(bench: Bench, kind: str) -> None:
    handle, worker = bench.start(), bench.worker(1)
    second = worker.record(bench.claimed(handle, worker=worker), Success(None), always)
    assert second is not None
    run = worker.record(second, Failure(RuntimeError("no"), effect=False, final=True), always)
    assert run is not None
    assert (run.step, run.undo) == ("a", True)
    end_open_attempt(bench, run, kind)
    assert bench.sql("SELECT step, undo, attempt FROM saga.work") == [("a", True, None)]


def end_open_attempt(bench: Bench, run: Attempt, kind: str) -> None:
    """Say what the relay, or the worker's own upkeep, says of an attempt that is gone."""
    with bench.orchestrator.database.link() as link:
        if kind == "lost":
            found = due.do(link, due.LOSE, {**ASKED, "workers": [run.lease.worker]})
        elif kind == "unrun":
            found = due.free_unrun(link, run.lease.worker, [run.lease.token])
        else:
            bench.sql("UPDATE saga.work SET due_at = now() WHERE worker = %s", run.lease.worker)
            bench.sql(
                "UPDATE saga.log SET data = '{\"timeout\": 0}' WHERE step = %s AND kind LIKE %s", run.step, "%_started"
            )
            found = due.do(link, due.TIME_OUT, ASKED)
    assert [message.lane for message in found] == [run.lane]


def test_what_is_left_of_a_held_wait_is_waited_out_by_the_next_worker(bench: Bench) -> None:
    one, sent = relay(bench)
    worker = bench.worker(1)
    handle = bench.start()
    held = worker.record(bench.claimed(handle, worker=worker), Failure(RuntimeError("x"), min_wait=0.9), always)
    assert held is not None
    look_until_gone(one, sent)
    bench.claimed(handle, worker=bench.worker(2))
    failed = next(entry for entry in handle.log() if entry.kind == "step_failed")
    assert failed.at is not None
    assert handle.log()[-1].at - failed.at >= timedelta(seconds=0.9)


def test_all_branches_of_a_lost_worker_are_given_back_at_one_look(bench: Bench) -> None:
    one, sent = relay(bench)
    handle = bench.start(FORKED)
    worker = bench.worker(1)
    worker.record(bench.claimed(handle, worker=worker), Success(None), always)
    bench.claimed(handle, "main/b", worker)
    bench.claimed(handle, "main/c", worker)
    look_until_gone(one, sent)
    assert sorted(lanes(sent)) == ["main/b", "main/c"]


# --- what must not stop the relay, nor be lost to it ------------------------------------------------------------------


def test_a_shorter_step_that_follows_inline_is_watched_in_time(bench: Bench) -> None:
    one, _ = relay(bench)
    handle, worker = bench.start(), bench.worker()
    bench.claimed(handle, worker=worker)
    hold_lock(bench, 1)
    bench.sql("UPDATE saga.log SET data = '{\"timeout\": 3600}' WHERE seq = 2")
    bench.sql("UPDATE saga.work SET due_at = now(), watch = 2")
    one.tick()
    assert bench.sql("SELECT due_at < now() + interval '5 s' FROM saga.work") == [(True,)]


@pytest.mark.parametrize("timeout", ['"soon"', "1e300", "1e400", "-1e400"])
def test_a_damaged_timeout_stops_neither_the_relay_nor_its_saga(bench: Bench, timeout: str) -> None:
    one, sent = relay(bench)
    damaged = bench.start()
    bench.claimed(damaged)
    hold_lock(bench, 1)
    bench.sql(f"UPDATE saga.log SET data = '{{\"timeout\": {timeout}}}' WHERE seq = 2")
    bench.sql("UPDATE saga.work SET due_at = now()")
    other = bench.start(delay=0.0)
    bench.sql("UPDATE saga.work SET sent = NULL WHERE worker IS NULL")
    one.tick()
    assert other.id in {message.saga_id for message in sent if isinstance(message, Dispatch)}
    assert not one._failing


def test_an_append_in_the_middle_of_its_commit_delays_no_message(bench: Bench) -> None:
    one, sent = relay(bench)
    stuck = bench.start()
    run = bench.claimed(stuck)
    hold_lock(bench, 1)
    bench.sql("UPDATE saga.log SET data = '{\"timeout\": 0}' WHERE seq = 2")
    bench.sql("UPDATE saga.work SET due_at = now()")
    bench.start()
    bench.sql("UPDATE saga.work SET sent = NULL WHERE worker IS NULL")
    with bench.connect() as paused:
        appends.append(Link(paused, "saga"), [Addition(stuck.id, run.state.seq + 1, [Paused()])], None)
        one.tick()
        assert lanes(sent) == ["main"]
        paused.rollback()


def test_a_log_that_cannot_be_read_is_parked_with_its_problem(bench: Bench) -> None:
    handle = bench.start()
    bench.sql(
        "INSERT INTO saga.log SELECT saga_id, 2, 'from_the_future', lane, step, attempt, data, worker, at, 1 FROM saga.log"
    )
    worker = bench.worker()
    assert Claimer(worker).claim(handle.id, "main") is None
    ((problem, owner, later),) = bench.sql("SELECT problem, worker, due_at > now() FROM saga.work")
    assert "entry 2: unknown kind 'from_the_future'" in problem
    assert (owner, later) == (None, True)
    assert worker.running == {}


def test_two_claimers_of_an_undecided_lane_cut_no_wait_short(bench: Bench) -> None:
    handle = bench.start()
    end_open_attempt(bench, bench.claimed(handle, worker=bench.worker(1)), "timed out")
    first, second = bench.worker(2), bench.worker(3)
    state = second.engine.read(second.engine.instance(handle.id))
    assert state.steps["a"].status == "undecided"
    undecided = Offer(SEQUENCE.outline.fingerprint, None, "celery", open=True, won=False, entries=[])
    assert Claimer(first).claim(handle.id, "main") is None
    bench.sql("UPDATE saga.log SET data = data || '{\"wait\": 60}' WHERE kind = 'step_failed'")
    assert Claimer(second)._settle(SEQUENCE, handle.id, "main", undecided, state) is None
    assert handle.log()[-1].kind == "step_failed"


def test_a_completed_saga_with_nothing_to_undo_can_be_compensated(bench: Bench) -> None:
    bare = bench.orchestrator.register(Saga("bare", Step(act, compensate=None)))
    handle, worker = bench.start(bare), bench.worker()
    bench.finish(worker, Claimer(worker).claim(handle.id, "main"))
    handle.compensate("returned")
    assert handle.status == Status.COMPENSATED


def test_an_operator_without_the_definition_leaves_a_lane_on_its_queue(bench: Bench) -> None:
    stranger = Orchestrator(Celery("elsewhere", set_as_current=False), database_url=str(bench.url))
    handle, worker = bench.start(), bench.worker()
    worker.record(bench.claimed(handle, worker=worker), Failure(RuntimeError("x"), min_wait=60), always)
    bench.sql("UPDATE saga.work SET queue = 'payments'")
    stranger.get(handle.id).retry()
    assert bench.sql("SELECT queue, due_at <= clock_timestamp(), sent FROM saga.work") == [("payments", True, None)]
    stranger.close()


def test_a_policy_that_fails_means_no_further_attempt(bench: Bench) -> None:
    broken = Retry(retry=retry_if_exception(lambda error: error.code == 503))
    fragile = bench.orchestrator.register(Saga("fragile", Step(act, compensate=None, retry=broken)))
    handle, worker = bench.start(fragile), bench.worker()
    assert worker.record(bench.claimed(handle, worker=worker), Failure(ValueError("no code")), always) is None
    assert handle.status == Status.COMPENSATED
    assert handle.steps()["act"].attempts == 1
