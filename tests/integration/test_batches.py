"""Lanes claimed together and ends appended together, on a real Postgres: each saga wins or loses by itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from uuid import uuid4

import pytest

from saga import Handle, Status
from saga.core.events import Paused
from saga.core.outcome import Failure, Interruption, Success
from saga.core.rows import Dispatch
from saga.store.postgres import appends
from saga.store.postgres.database import Link
from saga.store.values import Addition
from saga.telemetry.facts.attempts import AttemptEnded
from saga.telemetry.stream import subscribe
from saga.worker.attempt import Attempt
from saga.worker.claimer import Claimer
from saga.worker.executor import Executor
from saga.worker.together import Together
from tests.integration.conftest import FORKED, SEQUENCE, Bench, always, never
from tests.integration.test_log import deadlocks, lost_reply, lost_request

NAMES = [SEQUENCE.name, FORKED.name]


@pytest.fixture
def claims(bench: Bench) -> Claimer:
    return Claimer(bench.worker())


def together(claims: Claimer, handles: Sequence[Handle]) -> list[Attempt]:
    runs, left = claims.claim_together([(handle.id, "main") for handle in handles], NAMES)
    assert left == []
    return runs


@contextmanager
def counted_statements(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    statements: list[str] = []
    run = Link.run

    def counting(self: Link, statement: str, params: object) -> object:
        statements.append(statement)
        return run(self, statement, params)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Link, "run", counting)
        yield statements


def kinds(handle: Handle) -> list[str]:
    return [entry.kind for entry in handle.log()]


def test_many_sagas_take_one_statement_to_claim_and_one_for_each_of_their_steps(
    bench: Bench, claims: Claimer, monkeypatch: pytest.MonkeyPatch
) -> None:
    handles = bench.orchestrator.start_many(SEQUENCE, [{}] * 16)
    steps = len(SEQUENCE.actions)
    claims.recorder.worker()
    with counted_statements(monkeypatch) as statements:
        runs = together(claims, handles)
        while runs:
            runs = Together(claims.recorder).record_all([(run, Success(run.step)) for run in runs], always)
    assert len(statements) == 1 + steps
    for handle in handles:
        assert handle.status == Status.COMPLETED
        assert kinds(handle) == ["saga_started", *["step_started", "step_succeeded"] * steps]
        assert handle.result() == {step: step for step in SEQUENCE.actions}
    assert bench.sql("SELECT * FROM saga.work") == []


def test_what_cannot_simply_be_run_is_left(bench: Bench, claims: Claimer) -> None:
    ready, undecided, unknown, taken, later = (bench.start() for _ in range(5))
    bench.claimed(undecided, worker=bench.worker(2))
    bench.sql("UPDATE saga.work SET worker = NULL, token = NULL, attempt = NULL WHERE saga_id = %s", undecided.id)
    bench.sql("UPDATE saga.work SET fingerprint = 'another' WHERE saga_id = %s", unknown.id)
    bench.sql("UPDATE saga.work SET due_at = now()")
    bench.claimed(taken, worker=bench.worker(3))
    bench.sql("UPDATE saga.work SET due_at = now() + interval '1 hour' WHERE saga_id = %s", later.id)
    places = [(handle.id, "main") for handle in (ready, undecided, unknown, taken, later)]
    runs, left = claims.claim_together([*places, (uuid4(), "main")], NAMES)
    assert [run.saga_id for run in runs] == [ready.id]
    assert left == [(undecided.id, "main"), (unknown.id, "main")]
    assert list(claims.recorder.running.values()) == runs


def test_a_saga_that_another_entry_reached_first_is_recorded_by_itself(bench: Bench, claims: Claimer) -> None:
    handles = bench.orchestrator.start_many(SEQUENCE, [{}] * 3)
    runs = together(claims, handles)
    handles[1].cancel("no")
    following = Together(claims.recorder).record_all([(run, Success(run.step)) for run in runs], always)
    assert {run.saga_id: (run.step, run.undo) for run in following} == {
        handles[0].id: ("b", False),
        handles[1].id: ("a", True),
        handles[2].id: ("b", False),
    }


@pytest.mark.parametrize("lose", [lost_reply, lost_request])
def test_an_append_of_which_nobody_knows_is_found_or_done_again(bench: Bench, claims: Claimer, lose: object) -> None:
    handles = bench.orchestrator.start_many(SEQUENCE, [{}] * 3)
    runs = together(claims, handles)
    with lose():  # type: ignore[operator]
        following = Together(claims.recorder).record_all([(run, Success(run.step)) for run in runs], always)
    assert [run.step for run in following] == ["b"] * 3
    for handle in handles:
        assert kinds(handle) == ["saga_started", "step_started", "step_succeeded", "step_started"]


def test_a_result_that_postgres_refuses_harms_its_own_saga_only(bench: Bench, claims: Claimer) -> None:
    handles = bench.orchestrator.start_many(SEQUENCE, [{}] * 3)
    runs = together(claims, handles)
    bench.sql(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE numeric_value_out_of_range; END $$"
    )
    bench.sql(
        "CREATE TRIGGER refuse BEFORE INSERT ON saga.log FOR EACH ROW WHEN (NEW.data ->> 'result' = 'too much') "
        "EXECUTE FUNCTION refuse()"
    )
    outcomes = [Success(1), Success("too much"), Success(3)]
    following = Together(claims.recorder).record_all(list(zip(runs, outcomes, strict=True)), always)
    assert {run.saga_id: (run.step, run.undo) for run in following} == {
        handles[0].id: ("b", False),
        handles[1].id: ("a", True),
        handles[2].id: ("b", False),
    }


def test_an_exception_from_outside_is_raised_once_all_is_recorded(bench: Bench, claims: Claimer) -> None:
    handles = bench.orchestrator.start_many(SEQUENCE, [{}] * 3)
    runs = together(claims, handles)
    with lost_reply(SystemExit(1)), pytest.raises(SystemExit):
        Together(claims.recorder).record_all([(run, Success(run.step)) for run in runs], always)
    for handle in handles:
        assert kinds(handle)[:3] == ["saga_started", "step_started", "step_succeeded"]
    assert claims.recorder.running == {}


def test_ends_of_every_kind_share_an_append(bench: Bench, claims: Claimer) -> None:
    handles = bench.orchestrator.start_many(SEQUENCE, [{}] * 4)
    runs = together(claims, handles)
    outcomes = [
        Success(1),
        Failure(RuntimeError("again")),
        Failure(RuntimeError("never"), final=True),
        Interruption("told to stop"),
    ]
    following = Together(claims.recorder).record_all(list(zip(runs, outcomes, strict=True)), always)
    assert {run.saga_id: (run.step, run.undo) for run in following} == {
        handles[0].id: ("b", False),
        handles[2].id: ("a", True),
    }
    lanes = bench.sql("SELECT saga_id, attempt, worker FROM saga.work ORDER BY saga_id")
    assert {row[0]: row[1:] for row in lanes}[handles[1].id] == (2, None)
    assert {row[0]: row[1:] for row in lanes}[handles[3].id] == (None, None)
    assert all(run.held is None for run in following)


def test_a_damaged_log_is_put_aside_and_harms_no_other_of_its_batch(bench: Bench, claims: Claimer) -> None:
    handles = bench.orchestrator.start_many(SEQUENCE, [{}] * 3)
    bench.sql(
        "UPDATE saga.log SET kind = 'saga_started', data = '{\"delay\": \"x\"}' WHERE saga_id = %s", handles[1].id
    )
    runs, left = claims.claim_together([(handle.id, "main") for handle in handles], NAMES)
    assert [run.saga_id for run in runs] == [handles[0].id, handles[2].id]
    assert left == []
    ((problem,),) = bench.sql("SELECT problem FROM saga.work WHERE saga_id = %s", handles[1].id)
    assert "damaged" in problem


def test_one_lane_that_takes_no_entry_leaves_all_to_be_claimed_one_by_one(bench: Bench, claims: Claimer) -> None:
    handles = bench.orchestrator.start_many(SEQUENCE, [{}] * 2)
    bench.sql(f"ALTER TABLE saga.log ADD CONSTRAINT refusal CHECK (saga_id <> '{handles[0].id}' OR seq < 2)")
    places = [(handle.id, "main") for handle in handles]
    assert claims.claim_together(places, NAMES) == ([], places)
    assert claims.claim(*places[0]) is None
    assert claims.claim(*places[1]) is not None


def test_two_workers_that_claim_the_same_lanes_share_them_out(bench: Bench) -> None:
    handles = bench.orchestrator.start_many(SEQUENCE, [{}] * 50)
    places = [(handle.id, "main") for handle in handles]
    workers = [Claimer(bench.worker(number)) for number in range(1, 5)]
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda claims: claims.claim_together(places[::1], NAMES), workers))
    claimed = [run.saga_id for runs, _ in found for run in runs]
    assert sorted(claimed) == sorted(handle.id for handle in handles)


def test_two_batches_of_the_same_sagas_wait_for_each_other_in_one_order(bench: Bench) -> None:
    handles = bench.orchestrator.start_many(SEQUENCE, [{}] * 100)
    additions = [Addition(handle.id, 2, [Paused()]) for handle in handles]

    def append(additions: Sequence[Addition]) -> int:
        with bench.orchestrator.database.link() as link:
            return len(appends.append(link, additions, None))

    for _ in range(20):
        with ThreadPoolExecutor() as pool:
            won = sum(pool.map(append, [additions, additions[::-1]]))
        assert won == 100
        additions = [replace(addition, seq=addition.seq + 1) for addition in additions]
    assert deadlocks(bench) == 0


def test_only_lanes_that_are_there_and_free_are_offered_on(bench: Bench, claims: Claimer) -> None:
    waiting, taken = bench.start(priority=7), bench.start()
    bench.sql("UPDATE saga.work SET queue = 'slow' WHERE saga_id = %s", waiting.id)
    bench.claimed(taken)
    bench.published.clear()
    executor = Executor(bench.orchestrator.app, claims, bench.orchestrator.settings, never)
    executor._offer([(uuid4(), "main"), (waiting.id, "nowhere"), (waiting.id, "main"), (taken.id, "main")], alone=True)
    assert bench.published == [Dispatch(waiting.id, "main", "slow", 7, alone=True)]


def test_each_of_the_branches_that_share_an_append_is_told_of_by_itself(bench: Bench, claims: Claimer) -> None:
    handle = bench.start(FORKED)
    claims.recorder.record(bench.claimed(handle, worker=claims.recorder), Success(None), always)
    runs = [bench.claimed(handle, lane, claims.recorder) for lane in ("main/b", "main/c")]
    told: list[AttemptEnded] = []
    end = subscribe(AttemptEnded, told.append)
    Together(claims.recorder).record_all([(run, Success(run.step)) for run in runs], always)
    end()
    assert sorted((fact.attempt.ref.step, fact.event.step, fact.event.kind) for fact in told) == [
        ("b", "b", "succeeded"),
        ("c", "c", "succeeded"),
    ]
