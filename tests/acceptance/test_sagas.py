"""Sagas on real workers: what a user sees of definitions, retries, rollbacks and pivots."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from decimal import Decimal

import psycopg
import pytest
import redis
import sqlalchemy
from sqlalchemy.orm import Session

from saga import Cause, InputError, KeyBusy, KeyConflict, NotAllowed, SagaCompensated, SagaStuck, Status
from saga.dev import Stack
from tests.acceptance.conftest import World, eventually

pytestmark = pytest.mark.acceptance


def test_a_sequence_runs_in_order_and_returns_every_result(shared_world: World) -> None:
    handle = shared_world.start("sequence")
    assert handle.result(timeout=30) == {"a": "a-1", "b": "b-1", "c": "c-1"}
    assert shared_world.effects(handle) == ["a", "b", "c"]
    assert handle.status == Status.COMPLETED


def test_parallel_branches_run_side_by_side(shared_world: World) -> None:
    handle = shared_world.start("parallel", {"b": "wait b", "c": "wait c"})
    shared_world.await_effect(handle, "b")
    shared_world.await_effect(handle, "c")
    shared_world.open_gate("c")
    shared_world.open_gate("b")
    assert set(handle.result(timeout=30)) == {"a", "b", "c", "d", "e"}
    assert shared_world.effects(handle)[-1] == "e"


def test_a_refusal_rolls_back_what_was_done_and_keeps_its_reason(shared_world: World) -> None:
    handle = shared_world.start("sequence", {"c": "abort card declined"})
    with pytest.raises(SagaCompensated, match="card declined") as raised:
        handle.result(timeout=30)
    assert raised.value.cause == Cause("Abort", "card declined", 51, {"limit": "7.50"}, "c")
    assert shared_world.effects(handle) == ["a", "b", "c", "undo b", "undo a"]
    state = handle.replay()
    assert state.status == Status.COMPENSATED
    assert state.reason == "c: card declined"
    assert state.steps["c"].status == "aborted"
    assert state.steps["b"].undo is not None
    assert state.steps["b"].undo.status == "succeeded"


def test_an_undo_gets_its_actions_key_result_and_the_reason(shared_world: World) -> None:
    handle = shared_world.start("sequence", {"c": "abort card declined"})
    shared_world.finish(handle)
    assert shared_world.seen(handle, "a") == [(f"{handle.id}/a", "a-1", "c: card declined")]


def test_a_failing_step_is_retried_under_the_same_key(shared_world: World) -> None:
    handle = shared_world.start("sequence", {"b": ["fail", "fail", "ok"]})
    assert handle.result(timeout=30)["b"] == "b-3"
    assert shared_world.effects(handle) == ["a", "b", "b 2", "b 3", "c"]
    assert shared_world.keys(handle, "b") == {f"{handle.id}/b"}


def test_an_unknown_outcome_is_undone_too_without_a_result(shared_world: World) -> None:
    handle = shared_world.start("sequence", {"b": "fail"})
    with pytest.raises(SagaCompensated, match="b: RuntimeError: it failed"):
        handle.result(timeout=30)
    assert shared_world.effects(handle) == ["a", "b", "b 2", "b 3", "undo b", "undo a"]
    assert shared_world.seen(handle, "b")[0][1] is None


def test_an_abort_after_an_attempt_that_may_have_had_its_effect_is_undone(shared_world: World) -> None:
    handle = shared_world.start("sequence", {"b": ["fail", "abort too late"]})
    shared_world.finish(handle)
    assert shared_world.effects(handle) == ["a", "b", "b 2", "undo b", "undo a"]
    assert handle.replay().steps["b"].status == "unknown"


def test_one_failing_branch_undoes_the_others(shared_world: World) -> None:
    handle = shared_world.start("parallel", {"b": "wait b2", "d": "abort no"})
    shared_world.await_effect(handle, "d")
    shared_world.open_gate("b2")
    shared_world.finish(handle)
    effects = shared_world.effects(handle)
    assert handle.status == Status.COMPENSATED
    assert set(effects[-3:]) == {"undo b", "undo c", "undo a"}
    assert effects[-1] == "undo a"
    assert "e" not in effects


def test_a_pivot_that_fails_is_in_doubt_and_never_rolled_back(shared_world: World) -> None:
    handle = shared_world.start("pivoted", {"p": "fail"})
    with pytest.raises(SagaStuck, match="pivot in doubt"):
        handle.result(timeout=30)
    assert shared_world.effects(handle) == ["a", "p", "p 2", "p 3"]
    assert handle.cancel("it did not happen", by="ann") is True
    assert shared_world.finish(handle) == Status.COMPENSATED
    assert shared_world.effects(handle)[-1] == "undo a"


def test_a_pivot_in_doubt_can_be_skipped_with_its_result(shared_world: World) -> None:
    handle = shared_world.start("pivoted", {"p": "fail"})
    shared_world.finish(handle)
    handle.skip("p", "by hand", by="ann")
    assert handle.result(timeout=30) == {"a": "a-1", "p": "by hand", "z": "z-1"}


def test_a_pivot_that_refuses_rolls_back(shared_world: World) -> None:
    handle = shared_world.start("pivoted", {"p": "abort no"})
    assert shared_world.finish(handle) == Status.COMPENSATED
    assert shared_world.effects(handle) == ["a", "p", "undo a"]


def test_after_the_pivot_a_failure_is_stuck_until_retried(shared_world: World) -> None:
    handle = shared_world.start("pivoted", {"z": ["fail", "fail", "fail", "ok"]})
    with pytest.raises(SagaStuck, match="z: RuntimeError"):
        handle.result(timeout=30)
    assert shared_world.effects(handle) == ["a", "p", "z", "z 2", "z 3"]
    handle.retry(by="ann")
    assert handle.result(timeout=30)["z"] == "z-4"
    with pytest.raises(NotAllowed, match="completed"):
        handle.retry()


def test_an_undo_that_fails_then_succeeds(shared_world: World) -> None:
    handle = shared_world.start("sequence", {"c": "abort no", "undo:b": ["fail", "ok"]})
    assert shared_world.finish(handle) == Status.COMPENSATED
    assert shared_world.effects(handle) == ["a", "b", "c", "undo b", "undo b 2", "undo a"]


def test_an_undo_that_fails_for_good_is_stuck_and_never_compensated(shared_world: World) -> None:
    handle = shared_world.start("sequence", {"c": "abort no", "undo:b": ["fail", "fail", "fail", "ok"]})
    with pytest.raises(SagaStuck, match="undo of b"):
        handle.result(timeout=30)
    assert handle.replay().reason == "c: no"
    handle.retry()
    assert shared_world.finish(handle) == Status.COMPENSATED
    assert shared_world.effects(handle)[-2:] == ["undo b 4", "undo a"]


def test_an_undo_done_by_hand_is_listed_as_skipped(shared_world: World) -> None:
    handle = shared_world.start("sequence", {"c": "abort no", "undo:b": "fail"})
    shared_world.finish(handle)
    handle.skip("b", by="ann", reason="refunded by phone")
    assert shared_world.finish(handle) == Status.COMPENSATED
    assert handle.replay().skipped == ("b",)
    entry = next(entry for entry in handle.log() if entry.kind == "step_skipped")
    assert (entry.data["by"], entry.data["reason"]) == ("ann", "refunded by phone")


def test_cancelling_a_running_saga_undoes_what_it_did(shared_world: World) -> None:
    handle = shared_world.start("sequence", {"b": "wait cancelled"})
    shared_world.await_effect(handle, "b")
    assert handle.cancel("customer changed her mind", by="ann") is True
    shared_world.open_gate("cancelled")
    with pytest.raises(SagaCompensated, match="cancelled by ann: customer changed her mind"):
        handle.result(timeout=30)
    assert shared_world.effects(handle) == ["a", "b", "undo b", "undo a"]


def test_cancelling_loses_to_a_pivot_that_succeeds(shared_world: World) -> None:
    handle = shared_world.start("pivoted", {"p": "wait pivot"})
    shared_world.await_effect(handle, "p")
    with ThreadPoolExecutor() as pool:
        cancelled = pool.submit(handle.cancel, "too late")
        eventually(lambda: any(entry.kind == "cancel_requested" for entry in handle.log()), "the request")
        shared_world.open_gate("pivot")
        assert cancelled.result(30) is False
    assert handle.result(timeout=30)["z"] == "z-1"


def test_a_paused_saga_starts_nothing_until_resumed(shared_world: World) -> None:
    handle = shared_world.start("sequence", {"a": "wait paused"})
    shared_world.await_effect(handle, "a")
    handle.pause(by="ann")
    shared_world.open_gate("paused")
    eventually(lambda: handle.steps()["a"].status == "succeeded", "a's end")
    assert handle.status == Status.PAUSED
    assert shared_world.effects(handle) == ["a"]
    handle.resume()
    assert handle.result(timeout=30)["c"] == "c-1"


def test_a_completed_saga_can_be_compensated(shared_world: World) -> None:
    handle = shared_world.start("sequence")
    shared_world.finish(handle)
    handle.compensate("returned goods", by="ann")
    eventually(lambda: handle.status == Status.COMPENSATED, "the rollback")
    assert shared_world.effects(handle) == ["a", "b", "c", "undo c", "undo b", "undo a"]
    with pytest.raises(NotAllowed, match="compensated"):
        handle.compensate()


def test_past_its_pivot_a_saga_cannot_be_compensated(shared_world: World) -> None:
    handle = shared_world.start("pivoted")
    shared_world.finish(handle)
    with pytest.raises(NotAllowed, match=r"completed.*past its pivot"):
        handle.compensate()


def test_celerys_own_retries_are_one_failed_attempt_each(shared_world: World) -> None:
    handle = shared_world.start("celery_retry", {"a": ["fail", "ok"], "b": ["fail", "ok"], "c": ["fail", "ok"]})
    assert handle.result(timeout=30) == {"a": "a-2", "b": "b-2", "c": "c-2"}
    assert shared_world.effects(handle) == ["a", "a 2", "b", "b 2", "c", "c 2"]


def test_parameters_can_be_renamed_and_fixed_and_keep_their_types(shared_world: World) -> None:
    handle = shared_world.orchestrator.start("typed", {"amount": Decimal("2.50"), "email": "x@example.org"})
    assert handle.result(timeout=30) == {"price": Decimal("5.00"), "mail": ["x@example.org", "sold", "Decimal 5.00"]}


def test_a_step_hops_to_the_queue_its_route_names(shared_world: World) -> None:
    handle = shared_world.start("routed")
    assert handle.result(timeout=30) == {"a": "a-1", "b": "b-1", "c": "c-1"}


def test_a_result_that_cannot_be_stored_is_undone_and_not_run_again(shared_world: World) -> None:
    handle = shared_world.start("odd")
    with pytest.raises(SagaCompensated, match="cannot be stored"):
        handle.result(timeout=30)
    assert handle.steps()["odd"].attempts == 1


def test_a_result_that_fails_while_it_is_stored_is_undone_and_not_run_again(shared_world: World) -> None:
    handle = shared_world.start("sequence", {"b": "burst"})
    with pytest.raises(SagaCompensated, match="b: "):
        handle.result(timeout=30)
    assert shared_world.effects(handle) == ["a", "b", "undo b", "undo a"]


def test_an_exception_that_has_no_words_and_no_pickle_is_recorded(shared_world: World) -> None:
    handle = shared_world.start("unspeakable")
    with pytest.raises(SagaCompensated, match="Unspeakable"):
        handle.result(timeout=30)


def test_a_transactional_step_commits_with_the_log(shared_world: World) -> None:
    handle = shared_world.orchestrator.start(
        "bank", {"owner": "ann", "amount": 5, "script": {"deposit": ["fail", "ok"]}}
    )
    assert handle.result(timeout=30)["deposit"] == 5
    assert shared_world.sql("SELECT amount FROM account WHERE owner = 'ann'") == [(5,)]


def test_a_transactional_undo_commits_with_the_log(shared_world: World) -> None:
    handle = shared_world.orchestrator.start("bank", {"owner": "bob", "amount": 5, "script": {"b": "abort no"}})
    assert shared_world.finish(handle) == Status.COMPENSATED
    assert shared_world.sql("SELECT amount FROM account WHERE owner = 'bob'") == [(0,)]


def test_a_transactional_step_that_fails_is_aborted_not_unknown(shared_world: World) -> None:
    handle = shared_world.orchestrator.start("bank", {"owner": "eve", "amount": -5, "script": {}})
    assert shared_world.finish(handle) == Status.COMPENSATED
    assert handle.steps()["deposit"].status == "aborted"


def test_ten_concurrent_starts_with_one_key_are_one_saga(shared_world: World) -> None:
    with ThreadPoolExecutor(10) as pool:
        handles = list(pool.map(lambda _: shared_world.start("sequence", key="one"), range(10)))
    assert len({handle.id for handle in handles}) == 1
    shared_world.finish(handles[0])
    assert shared_world.effects(handles[0]) == ["a", "b", "c"]
    assert shared_world.start("sequence", key="one") == handles[0]
    with pytest.raises(KeyConflict, match="'one' belongs to"):
        shared_world.start("sequence", {"a": "fail"}, key="one")


@pytest.mark.parametrize("kind", ["session", "connection", "psycopg"])
def test_a_start_in_a_transaction_that_rolls_back_never_was(shared_world: World, kind: str) -> None:
    with in_transaction(shared_world, kind) as (connection, end):
        handle = shared_world.start("sequence", key=f"rolled back {kind}", connection=connection)
        end("rollback")
    assert shared_world.orchestrator.find(key=f"rolled back {kind}") == []
    assert shared_world.sql("SELECT FROM saga.log WHERE saga_id = %s", handle.id) == []


@pytest.mark.parametrize("kind", ["session", "connection", "psycopg"])
def test_a_start_in_a_transaction_that_commits_runs(shared_world: World, kind: str) -> None:
    with in_transaction(shared_world, kind) as (connection, end):
        handle = shared_world.start("sequence", key=f"committed {kind}", connection=connection)
        end("commit")
    assert handle.result(timeout=30)["c"] == "c-1"


def test_a_key_held_by_an_open_transaction_is_busy(shared_world: World) -> None:
    with in_transaction(shared_world, "connection") as (connection, end):
        shared_world.start("sequence", key="busy", connection=connection)
        with pytest.raises(KeyBusy, match="'busy'"):
            shared_world.start("sequence", key="busy")
        end("rollback")


def test_start_many_returns_a_handle_for_each_input(shared_world: World) -> None:
    keys = [f"many-{number}" for number in range(50)]
    handles = shared_world.orchestrator.start_many("sequence", [{"script": {}}] * 50, keys=keys)
    assert [handle.key for handle in handles] == keys
    for handle in handles:
        assert shared_world.finish(handle) == Status.COMPLETED
    again = shared_world.orchestrator.start_many("sequence", [{"script": {}}] * 50, keys=keys)
    assert again == handles


def test_a_saga_past_its_deadline_is_rolled_back(shared_world: World) -> None:
    handle = shared_world.start("patient", {"b": "fail"}, deadline=timedelta(seconds=1))
    with pytest.raises(SagaCompensated, match="deadline"):
        handle.result(timeout=30)
    assert shared_world.effects(handle) == ["a", "b", "undo b", "undo a"]


def test_a_delayed_saga_waits(shared_world: World) -> None:
    handle = shared_world.start("sequence", delay=0.7)
    assert handle.result(timeout=30)["c"] == "c-1"
    started, first = handle.log()[0], handle.log()[1]
    assert started.at is not None
    assert first.at is not None
    assert (first.at - started.at).total_seconds() >= 0.7


def test_retry_cuts_a_long_wait_short(shared_world: World) -> None:
    handle = shared_world.start("patient", {"b": ["fail", "ok"]})
    eventually(lambda: handle.steps()["b"].status == "waiting", "b's failure")
    handle.retry()
    assert handle.result(timeout=30)["b"] == "b-2"


def test_a_deadline_is_kept_while_every_process_is_busy(world: World) -> None:
    world.worker(concurrency=1)
    handles = [world.start("sequence", {"a": "hold 1", "b": "hold 1"}, deadline=0.8) for _ in range(3)]
    for handle in handles:
        with pytest.raises(SagaCompensated, match="deadline"):
            handle.result(timeout=30)
        opened, *later = handle.log()
        assert opened.at is not None
        over = opened.at + timedelta(seconds=0.8)
        assert [entry.step for entry in later if entry.kind == "step_started" and entry.at and entry.at > over] == []


def test_a_missing_input_field_is_refused_at_the_start(shared_world: World) -> None:
    with pytest.raises(InputError, match="no field 'script', which step 'a' needs"):
        shared_world.orchestrator.start("sequence", {})


class in_transaction:  # noqa: N801 - used as a function
    """A transaction of some kind on the world's database, and a way to end it."""

    def __init__(self, world: World, kind: str) -> None:
        self.engine = sqlalchemy.create_engine(world.database_url)
        self.url, self.kind = world.database_url.replace("+psycopg", ""), kind

    def __enter__(self):
        self.connection = {
            "session": lambda: Session(self.engine),
            "connection": self.engine.connect,
            "psycopg": lambda: psycopg.connect(self.url),
        }[self.kind]()
        return self.connection, lambda how: getattr(self.connection, how)()

    def __exit__(self, *exception: object) -> None:
        self.connection.close()
        self.engine.dispose()


def test_a_transactional_step_that_commits_by_itself_is_undone_when_it_fails(shared_world: World) -> None:
    handle = shared_world.start("impatient", {"impatient": "abort after all"})
    assert shared_world.finish(handle) == Status.COMPENSATED
    assert handle.steps()["impatient"].status == "unknown"
    assert shared_world.effects(handle) == ["impatient", "undo impatient"]


def test_a_message_carries_ids_and_nothing_else(stack: Stack) -> None:
    with closing(World(stack, stack.broker_url)) as world:
        handle = world.start("parallel", {"a": "wait geheim"}, tags={"note": "geheim"}, key="geheim")
        world.orchestrator.publisher.flush()
        (message,) = redis.Redis.from_url(stack.broker_url).lrange(world.queue, 0, -1)
        assert b"geheim" not in message
        body = base64.b64decode(json.loads(message)["body"])
        assert json.loads(body)[:2] == [[[[str(handle.id), "main"]]], {}]
