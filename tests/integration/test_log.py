"""The saga log under concurrent sessions: the interleavings that break a log whose statements are not gated."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
import sqlalchemy
from psycopg.types.json import Jsonb
from sqlalchemy.orm import Session

from saga import DatabaseNotReady, KeyBusy, KeyConflict, NotAllowed, Saga, Status, saga_started
from saga.core.events import AttemptSucceeded, Paused
from saga.core.outcome import Failure, Interruption, Success
from saga.engine.engine import Engine
from saga.language.catalog import Catalog
from saga.store.postgres import appends, due
from saga.store.postgres.database import Link
from saga.store.values import Addition
from saga.worker.claimer import Claimer
from saga.worker.recorder import Recorder
from tests.integration.conftest import ASKED, FORKED, SEQUENCE, Bench, always, never, step


@contextmanager
def statements(bench: Bench) -> Iterator[list[str]]:
    """Every statement that goes to the database meanwhile."""
    seen: list[str] = []
    run = Link.run

    def counted(self: Link, statement: str, params: Any) -> Any:
        seen.append(statement)
        return run(self, statement, params)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Link, "run", counted)
        yield seen


def commits(bench: Bench) -> int:
    """Transactions of this database so far."""
    bench.sql("SELECT pg_stat_force_next_flush()")
    return int(bench.sql("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()")[0][0])


# --- what progress costs ----------------------------------------------------------------------------------------------


def test_a_plain_step_costs_one_statement(bench: Bench) -> None:
    handle, worker = bench.start(), bench.worker()
    run = Claimer(worker).claim(handle.id, "main")
    assert run is not None
    with statements(bench) as seen:
        run = worker.record(run, Success("a"), always)
    assert run is not None
    assert run.step == "b"
    assert len(seen) == 1
    assert [entry.kind for entry in handle.log()][-2:] == ["step_succeeded", "step_started"]


def test_a_plain_step_leaves_its_work_row_alone(bench: Bench) -> None:
    handle, worker = bench.start(), bench.worker()
    run = bench.claimed(handle, worker=worker)
    before = bench.sql("SELECT xmin::text, * FROM saga.work")
    worker.record(run, Success("a"), always)
    assert bench.sql("SELECT xmin::text, * FROM saga.work") == before


def test_start_claim_and_end_cost_one_statement_each(bench: Bench) -> None:
    bench.start()
    with statements(bench) as seen:
        handle = bench.start()
    assert len(seen) == 1
    worker = bench.worker()
    with statements(bench) as seen:
        run = Claimer(worker).claim(handle.id, "main")
    assert len(seen) == 1
    for _ in "abc":
        assert run is not None
        run = worker.record(run, Success(None), always)
    assert run is not None
    with statements(bench) as seen:
        assert worker.record(run, Success(None), always) is None
    assert len(seen) == 1
    assert handle.status == Status.COMPLETED
    assert bench.sql("SELECT * FROM saga.work WHERE saga_id = %s", handle.id) == []


def test_a_whole_saga_commits_once_for_each_statement(bench: Bench) -> None:
    worker = bench.worker()
    warm = bench.start()
    bench.finish(worker, Claimer(worker).claim(warm.id, "main"))
    handle = bench.start()
    before = commits(bench)
    with statements(bench) as seen, bench.orchestrator.database.hold():
        bench.finish(worker, Claimer(worker).claim(handle.id, "main"))
    assert len(seen) == 5
    assert commits(bench) - before <= len(seen) + 3  # the looks at the statistics are transactions too


# --- the gate on the first entry --------------------------------------------------------------------------------------


def test_nothing_of_a_statement_happens_when_its_first_entry_loses(bench: Bench) -> None:
    handle, worker = bench.start(), bench.worker()
    run = bench.claimed(handle, worker=worker)
    for _ in "abc":
        following = worker.record(run, Success(None), always)
        assert following is not None
        run = following
    draft = bench.engine.draft(run.instance, run.state, AttemptSucceeded("main", "d", 1), run.lease)
    handle.cancel("first")
    before = bench.sql("SELECT * FROM saga.work"), handle.refresh(), len(handle.log())
    assert bench.engine.write(draft) is None
    assert (bench.sql("SELECT * FROM saga.work"), handle.refresh(), len(handle.log())) == before


def test_a_cancel_at_the_same_place_as_a_success_never_leaves_half_of_it(bench: Bench) -> None:
    """Only the success conflicts; its chained start must not be inserted alone."""
    handle, worker = bench.start(), bench.worker()
    run = bench.claimed(handle, worker=worker)
    draft = bench.engine.draft(
        run.instance, run.state, AttemptSucceeded("main", "a", 1, result="a"), run.lease, keep=True
    )
    assert len(draft.events) == 2
    handle.cancel()
    assert bench.engine.write(draft) is None
    assert [entry.kind for entry in handle.log()] == ["saga_started", "step_started", "cancel_requested"]
    following = worker.record(run, Success("a"), always)
    assert following is not None
    assert following.undo
    bench.finish(worker, following)
    assert handle.status == Status.COMPENSATED


def test_two_sessions_at_one_place_one_waits_and_loses(bench: Bench) -> None:
    handle = bench.start()
    first = bench.connect()
    second = bench.connect()
    event = Paused()
    assert appends.append(Link(first, "saga"), [Addition(handle.id, 2, [event])], None).keys() == {handle.id}
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(appends.append, Link(second, "saga"), [Addition(handle.id, 2, [event])], None)
        bench.until_blocked()
        first.commit()
        assert waiting.result(10) == {}
    first.close()
    second.close()


def test_a_loser_whose_winner_rolls_back_wins(bench: Bench) -> None:
    handle = bench.start()
    first, second = bench.connect(), bench.connect()
    appends.append(Link(first, "saga"), [Addition(handle.id, 2, [Paused()])], None)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(appends.append, Link(second, "saga"), [Addition(handle.id, 2, [Paused()])], None)
        bench.until_blocked()
        first.rollback()
        assert waiting.result(10).keys() == {handle.id}
    first.close()
    second.close()


def test_branches_that_end_at_once_join_exactly_once(bench: Bench) -> None:
    for _ in range(10):
        handle = bench.start(FORKED)
        first, second = bench.worker(1), bench.worker(2)
        run = bench.claimed(handle, worker=first)
        assert first.record(run, Success(None), always) is None
        left, right = bench.claimed(handle, "main/b", first), bench.claimed(handle, "main/c", second)
        ends = together(
            lambda: first.record(left, Success(None), always), lambda: second.record(right, Success(None), always)
        )
        going_on = [(worker, end) for worker, end in zip((first, second), ends, strict=True) if end is not None]
        assert len(going_on) == 1
        bench.finish(*going_on[0])
        assert handle.status == Status.COMPLETED
        assert bench.sql("SELECT * FROM saga.work") == []


# --- claims -----------------------------------------------------------------------------------------------------------


def test_many_claim_one_lane_and_one_gets_it(bench: Bench) -> None:
    for _ in range(5):
        handle = bench.start()
        workers = [bench.worker(number) for number in range(1, 5)]
        runs = together(*(lambda worker=worker: Claimer(worker).claim(handle.id, "main") for worker in workers))
        assert sum(run is not None for run in runs) == 1
        assert [entry.kind for entry in handle.log()] == ["saga_started", "step_started"]


def test_a_claim_meets_another_entry_and_tries_again(bench: Bench) -> None:
    """The row is free and due, but the place in the log was taken meanwhile: not a reason to give up."""
    handle = bench.start(FORKED)
    worker = bench.worker()
    worker.record(bench.claimed(handle, worker=worker), Success(None), always)
    blocker = bench.connect()
    entries = len(handle.log())
    appends.append(Link(blocker, "saga"), [Addition(handle.id, entries + 1, [Paused()])], None)
    with ThreadPoolExecutor() as pool:
        claim = pool.submit(Claimer(bench.worker(2)).claim, handle.id, "main/b")
        bench.until_blocked()
        blocker.commit()
        run = claim.result(10)
    assert run is not None
    assert run.state.seq == entries + 2
    blocker.close()


def test_a_lane_that_is_not_due_is_not_claimed(bench: Bench) -> None:
    handle = bench.start(delay=60)
    assert Claimer(bench.worker()).claim(handle.id, "main") is None
    assert len(handle.log()) == 1


def test_a_lane_whose_saga_is_paused_cannot_be_claimed(bench: Bench) -> None:
    handle = bench.start()
    handle.pause()
    assert Claimer(bench.worker()).claim(handle.id, "main") is None
    handle.resume()
    assert Claimer(bench.worker()).claim(handle.id, "main") is not None


# --- recording --------------------------------------------------------------------------------------------------------


def test_an_append_whose_reply_was_lost_is_found_and_not_repeated(bench: Bench) -> None:
    handle, worker = bench.start(), bench.worker()
    run = bench.claimed(handle, worker=worker)
    with lost_reply():
        following = worker.record(run, Success("a"), always)
    assert following is not None
    assert following.step == "b"
    assert [entry.kind for entry in handle.log()] == ["saga_started", "step_started", "step_succeeded", "step_started"]


def test_an_append_that_never_arrived_is_made_again(bench: Bench) -> None:
    handle, worker = bench.start(), bench.worker()
    run = bench.claimed(handle, worker=worker)
    with lost_request():
        following = worker.record(run, Success("a"), always)
    assert following is not None
    assert len(handle.log()) == 4


def test_an_exception_from_outside_is_raised_once_the_result_is_logged(bench: Bench) -> None:
    handle, worker = bench.start(), bench.worker()
    run = bench.claimed(handle, worker=worker)
    with lost_reply(SystemExit(1)), pytest.raises(SystemExit):
        worker.record(run, Success("a"), always)
    assert handle.steps()["a"].status == "succeeded"


def test_an_interrupted_attempt_costs_no_attempt_of_the_budget(bench: Bench) -> None:
    handle, worker = bench.start(), bench.worker()
    run = bench.claimed(handle, worker=worker)
    assert worker.record(run, Interruption("shutdown"), never) is None
    again = bench.claimed(handle, worker=worker)
    assert (again.number, again.track.uncounted) == (2, 1)


def test_a_lane_given_back_is_published_after_its_commit(bench: Bench) -> None:
    handle, worker = bench.start(), bench.worker()
    run = bench.claimed(handle, worker=worker)
    bench.published.clear()
    assert worker.record(run, Success(None), never) is None
    assert [(message.saga_id, message.lane) for message in bench.published] == [(handle.id, "main")]
    assert bench.sql("SELECT step, worker, sent IS NOT NULL FROM saga.work") == [("b", None, True)]


def test_a_late_result_is_kept_as_evidence_only(bench: Bench) -> None:
    handle, worker = bench.start(), bench.worker()
    run = bench.claimed(handle, worker=worker)
    bench.sql("UPDATE saga.work SET due_at = now()")
    bench.sql("UPDATE saga.log SET data = '{\"timeout\": 0}' WHERE seq = 2")
    with bench.orchestrator.database.link() as link:
        assert len(due.do(link, due.TIME_OUT, ASKED)) == 1
    assert worker.record(run, Success("late"), always) is None
    assert handle.log()[-1].kind == "late_result"
    assert handle.steps()["a"].status == "undecided"


def test_a_saga_that_cannot_be_retried_keeps_its_first_reason(bench: Bench) -> None:
    handle, worker = bench.start(), bench.worker()
    run = bench.claimed(handle, worker=worker)
    bench.finish(worker, worker.record(run, Failure(RuntimeError("first"), final=True), always))
    assert (handle.status, handle.refresh().reason) == (Status.COMPENSATED, "a: RuntimeError: first")


# --- locks ------------------------------------------------------------------------------------------------------------


def test_writers_of_one_saga_never_deadlock(bench: Bench) -> None:
    before = deadlocks(bench)
    for _ in range(20):
        handle = bench.start(FORKED)
        first, second = bench.worker(1), bench.worker(2)
        first.record(bench.claimed(handle, worker=first), Success(None), always)
        left, right = bench.claimed(handle, "main/b", first), bench.claimed(handle, "main/c", second)
        relay = bench.orchestrator.relay()
        together(
            lambda: bench.finish(first, first.record(left, Success(None), always)),
            lambda: bench.finish(second, second.record(right, Success(None), always)),
            lambda: quietly(handle.cancel),
            relay.tick,
        )
    assert deadlocks(bench) == before


def test_two_batches_that_share_keys_in_opposite_orders_do_not_deadlock(bench: Bench) -> None:
    before = deadlocks(bench)
    for number in range(10):
        keys = [f"{number}-{index}" for index in range(20)]
        start = bench.orchestrator.start_many
        left, right = together(
            lambda: start(SEQUENCE, [{}] * 20, keys=keys), lambda: start(SEQUENCE, [{}] * 20, keys=keys[::-1])
        )
        assert left == right[::-1]
    assert deadlocks(bench) == before


def test_compensate_and_another_entry_cannot_cross(bench: Bench) -> None:
    """Two operators at once: one takes the completed saga up again, the other is told that it is not completed."""
    handle, worker = bench.start(), bench.worker()
    bench.finish(worker, Claimer(worker).claim(handle.id, "main"))
    results = together(lambda: quietly(handle.compensate), lambda: quietly(handle.compensate))
    assert sorted(type(result).__name__ for result in results) == ["NoneType", "NotAllowed"]
    assert [entry.kind for entry in handle.log()].count("compensate_requested") == 1
    assert handle.status == Status.COMPENSATING
    bench.finish(worker, Claimer(worker).claim(handle.id, "main"))
    assert handle.status == Status.COMPENSATED


# --- keys -------------------------------------------------------------------------------------------------------------


def test_a_key_names_one_saga_whatever_its_state(bench: Bench) -> None:
    first = bench.start(key="k")
    assert bench.start(key="k") == first
    bench.finish(worker := bench.worker(), Claimer(worker).claim(first.id, "main"))
    assert bench.start(key="k") == first
    with pytest.raises(KeyConflict, match="'k' belongs to"):
        bench.orchestrator.start(SEQUENCE, {"other": 1}, key="k")


def test_a_key_whose_transaction_commits_is_found_after_the_wait(bench: Bench) -> None:
    with bench.connect() as connection:
        first = bench.start(key="k", connection=connection)
        with ThreadPoolExecutor() as pool:
            second = pool.submit(bench.start, key="k")
            bench.until_blocked()
            connection.commit()
            assert second.result(10) == first


def test_a_busy_key_leaves_the_callers_transaction_usable(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.start()  # registers the definition
    monkeypatch.setattr(bench.orchestrator._starter, "_key_timeout", 0.2)
    with bench.connect() as holder, bench.connect() as caller:
        bench.start(key="k", connection=holder)
        caller.execute("CREATE TABLE mine (x int)")
        with pytest.raises(KeyBusy, match="'k'"):
            bench.start(key="k", connection=caller)
        assert caller.execute("SHOW lock_timeout").fetchone() == ("0",)
        caller.commit()
    assert bench.sql("SELECT * FROM mine") == []


def test_a_transaction_that_stores_a_definition_and_stays_open_holds_up_no_start_for_long(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench.orchestrator._starter, "_key_timeout", 0.2)
    outline = SEQUENCE.outline
    with bench.connect() as holder:
        holder.execute("SELECT saga.register(%s, %s)", (outline.fingerprint, Jsonb(outline.to_json())))
        with pytest.raises(DatabaseNotReady, match=r"saga 'sequence': another transaction, still open.* try again"):
            bench.start()
        with bench.connect() as caller:
            with pytest.raises(DatabaseNotReady, match="is storing its definition"):
                bench.start(connection=caller)
            assert caller.execute("SHOW lock_timeout").fetchone() == ("0",)
    assert bench.start().status == "running"


def test_a_start_that_is_rolled_back_is_not_announced(bench: Bench) -> None:
    announced: list[Any] = []

    def hear(sender: str, saga_id: Any, **_: Any) -> None:
        announced.append(saga_id)

    saga_started.connect(hear, weak=False)
    engine = sqlalchemy.create_engine(bench.orchestrator.database.url)
    try:
        with Session(engine) as session:
            bench.start(connection=session)
            session.rollback()
            committed = bench.start(connection=session)
            with session.begin_nested():
                pass
            assert announced == []
            session.commit()
        assert announced == [committed.id]
    finally:
        saga_started.disconnect(hear)
        engine.dispose()


# --- helpers ----------------------------------------------------------------------------------------------------------


def together(*calls: Callable[[], Any]) -> list[Any]:
    """Make calls at the same moment, each in a thread of its own."""
    barrier = threading.Barrier(len(calls))

    def call(one: Callable[[], Any]) -> Any:
        barrier.wait()
        return one()

    with ThreadPoolExecutor(len(calls)) as pool:
        futures: list[Future[Any]] = [pool.submit(call, one) for one in calls]
        return [future.result(30) for future in futures]


def quietly(call: Callable[[], Any]) -> Any:
    """The result, or the refusal."""
    try:
        return call()
    except NotAllowed as error:
        return error


def deadlocks(bench: Bench) -> int:
    return int(bench.sql("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")[0][0])


@contextmanager
def lost_reply(error: BaseException | None = None) -> Iterator[None]:
    """The next append commits, but its caller never hears of it."""
    yield from _once(after=error or psycopg.OperationalError("the connection is lost"))


@contextmanager
def lost_request() -> Iterator[None]:
    """The next append never reaches the database."""
    yield from _once(before=psycopg.OperationalError("the connection is lost"))


def _once(before: BaseException | None = None, after: BaseException | None = None) -> Iterator[None]:
    append = appends.append
    calls: list[int] = []

    def broken(*args: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 1 and before is not None:
            raise before
        result = append(*args, **options)
        if len(calls) == 1 and after is not None:
            raise after
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(appends, "append", broken)
        yield


def test_ten_thousand_starts_under_one_key_are_one_saga(bench: Bench) -> None:
    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(lambda _: bench.start(key="one").id, range(10_000)))
    assert len(set(found)) == 1
    assert bench.sql("SELECT count(*) FROM saga.log") == bench.sql("SELECT count(*) FROM saga.work") == [(1,)]


def test_a_saga_that_was_started_with_another_definition_is_parked_with_the_difference(bench: Bench) -> None:
    handle = bench.start()
    changed = Saga("sequence", step("a"), step("b"), step("c"))
    newer = Engine(bench.orchestrator.store, Catalog(lambda _: "celery"), bench.published.extend)
    newer.catalog.add(changed)
    assert Claimer(Recorder(newer, lambda: 2, inline_wait=1.0)).claim(handle.id, "main") is None
    ((problem,),) = bench.sql("SELECT problem FROM saga.work")
    assert problem.startswith("saga 'sequence' is defined differently here: ")
    assert "'d'" in problem
    assert handle.steps()["a"].attempts == 0
    bench.sql("UPDATE saga.work SET due_at = now()")
    assert bench.claimed(handle).step == "a"
