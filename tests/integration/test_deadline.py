"""A saga's own deadline is kept whatever the load: the statement that would start a step asks the database's clock."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pytest

from saga import Handle, Retry, Saga, Status, Step
from saga.core.outcome import Failure, Outcome, Success
from saga.core.outline import DEADLINE
from saga.store.postgres import due
from saga.store.postgres.store import Joined
from saga.worker.attempt import Attempt
from saga.worker.claimer import Claimer
from saga.worker.recorder import Recorder
from saga.worker.together import Together
from tests.integration.conftest import ASKED, FORKED, SEQUENCE, Bench, act, always, never, step
from tests.integration.test_batches import counted_statements
from tests.integration.test_log import statements

SOON = 0.3
PIVOTED = Saga("pivoted", step("a"), Step(act, name="p", pivot=True), Step(act, name="z"))
ONCE_MORE = Saga("once_more", step("a"), step("b", retry=Retry(wait=lambda _: 0.4)))


def pass_deadline(bench: Bench, handle: Handle) -> None:
    """Wait until the saga's deadline is over, by the database's clock."""
    question = "SELECT at + make_interval(secs => %s) < clock_timestamp() FROM saga.log WHERE saga_id = %s AND seq = 1"
    bench.until(lambda: bench.sql(question, SOON, handle.id)[0][0], "the deadline")


def begin(bench: Bench, saga: Saga = SEQUENCE, outcomes: Sequence[Outcome] = ()) -> tuple[Handle, Recorder, Attempt]:
    """A saga with a deadline that is soon, some of its attempts made, the next one under way."""
    bench.orchestrator.register(saga)
    handle, worker = bench.start(saga, deadline=SOON), bench.worker()
    run: Attempt | None = bench.claimed(handle, worker=worker)
    for outcome in outcomes:
        assert run is not None
        run = worker.record(run, outcome, always)
    assert run is not None
    return handle, worker, run


def nothing_started_too_late(handle: Handle) -> None:
    first, *rest = handle.log()
    assert first.at is not None
    over = first.at + timedelta(seconds=SOON)
    assert [entry.step for entry in rest if entry.kind == "step_started" and entry.at and entry.at > over] == []


def kinds(handle: Handle, last: int) -> list[str]:
    return [entry.kind for entry in handle.log()[-last:]]


def test_a_step_that_ends_after_the_deadline_is_followed_by_none(bench: Bench) -> None:
    handle, worker, run = begin(bench)
    pass_deadline(bench, handle)

    assert worker.record(run, Success(1), always) is None
    assert kinds(handle, 1) == ["step_succeeded"]
    undo = Claimer(worker).claim(handle.id, "main")

    assert undo is not None
    assert (undo.step, undo.undo) == ("a", True)
    assert kinds(handle, 2) == ["deadline_passed", "compensation_started"]
    nothing_started_too_late(handle)
    bench.finish(worker, undo)
    assert handle.status == Status.COMPENSATED
    assert bench.sql("SELECT * FROM saga.work") == []


def test_steps_of_many_sagas_that_end_together_are_each_judged_by_their_own_deadline(bench: Bench) -> None:
    worker = bench.worker()
    handles = [bench.start(deadline=deadline) for deadline in (SOON, None, 60)]
    runs = [bench.claimed(handle, worker=worker) for handle in handles]
    pass_deadline(bench, handles[0])
    following = Together(worker).record_all([(run, Success(1)) for run in runs], always)
    assert [run.saga_id for run in following] == [handle.id for handle in handles[1:]]
    assert kinds(handles[0], 1) == ["step_succeeded"]


def test_branches_that_end_together_after_the_deadline_are_followed_by_none(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle, worker, run = begin(bench, FORKED)
    assert worker.record(run, Success(1), always) is None
    branches, _ = Claimer(worker).claim_together([(handle.id, f"main/{name}") for name in ("b", "c")], ["forked"])
    assert len(branches) == 2
    pass_deadline(bench, handle)
    with counted_statements(monkeypatch) as asked:
        assert Together(worker).record_all([(branch, Success(1)) for branch in branches], always) == []
    assert len(asked) == 3  # the first refuses to start d, one reads on, one appends the ends alone
    assert kinds(handle, 2) == ["step_succeeded"] * 2
    assert Claimer(worker).claim(handle.id, "main") is None
    nothing_started_too_late(handle)


def test_a_claim_after_the_deadline_starts_nothing_and_turns_back(bench: Bench) -> None:
    handle, worker = bench.start(deadline=SOON), bench.worker()
    pass_deadline(bench, handle)
    assert Claimer(worker).claim(handle.id, "main") is None
    assert [entry.kind for entry in handle.log()] == ["saga_started", "deadline_passed"]
    assert handle.status == Status.COMPENSATED
    assert bench.sql("SELECT * FROM saga.work") == []


def test_lanes_of_different_sagas_that_are_claimed_together_leave_out_the_late_one(bench: Bench) -> None:
    late, early = bench.start(deadline=SOON), bench.start(deadline=60)
    pass_deadline(bench, late)
    claims = Claimer(bench.worker())
    runs, left = claims.claim_together([(late.id, "main"), (early.id, "main")], ["sequence"])
    assert ([run.saga_id for run in runs], left) == ([early.id], [(late.id, "main")])


def test_a_deadline_whose_own_lane_is_parked_is_kept_all_the_same(bench: Bench) -> None:
    handle, worker = bench.start(deadline=SOON), bench.worker()
    bench.sql(
        "UPDATE saga.work SET problem = 'nobody knows it', due_at = now() + interval '5 min' WHERE lane = %s", DEADLINE
    )
    pass_deadline(bench, handle)
    assert Claimer(worker).claim(handle.id, "main") is None
    assert handle.status == Status.COMPENSATED


def test_a_parked_deadline_that_has_not_passed_holds_up_nothing(bench: Bench) -> None:
    handle, worker = bench.start(deadline=60), bench.worker()
    bench.sql("UPDATE saga.work SET problem = 'nobody knows it' WHERE lane = %s", DEADLINE)
    bench.finish(worker, bench.claimed(handle, worker=worker))
    assert handle.status == Status.COMPLETED


def test_a_held_wait_that_lasts_past_the_deadline_is_followed_by_the_undo(bench: Bench) -> None:
    handle, worker, run = begin(bench, ONCE_MORE, [Success(1)])
    held = worker.record(run, Failure(RuntimeError("no")), always)
    assert held is not None
    assert held.held
    pass_deadline(bench, handle)
    assert worker.wake(held) is None
    assert handle.log()[-1].kind == "deadline_passed"
    bench.finish(worker, Claimer(worker).claim(handle.id, "main"))
    assert handle.status == Status.COMPENSATED
    nothing_started_too_late(handle)


def test_a_transactional_step_that_ends_after_the_deadline_starts_nothing(bench: Bench) -> None:
    handle, worker, run = begin(bench)
    pass_deadline(bench, handle)
    with bench.orchestrator.database.link() as link, link.connection.transaction():
        recorded = worker.record_within(run, Success(1), Joined(bench.orchestrator.database, link), keep=True)
    assert recorded is not None
    assert recorded[1].kept is None
    assert kinds(handle, 1) == ["step_succeeded"]


def test_a_step_whose_worker_was_lost_gets_no_further_attempt_after_the_deadline(bench: Bench) -> None:
    handle, worker, run = begin(bench)
    pass_deadline(bench, handle)
    with bench.orchestrator.database.link() as link:
        due.do(link, due.LOSE, {**ASKED, "workers": [run.lease.worker]})
    undo = Claimer(bench.worker(2)).claim(handle.id, "main")
    assert undo is not None
    assert undo.undo
    nothing_started_too_late(handle)
    assert worker.record(run, Success("late"), always) is None
    assert handle.log()[-1].kind == "late_result"


def test_branches_that_run_at_the_deadline_are_awaited_and_the_others_never_start(bench: Bench) -> None:
    handle, worker, run = begin(bench, FORKED)
    assert worker.record(run, Success(1), always) is None
    left = bench.claimed(handle, "main/b", worker)
    pass_deadline(bench, handle)
    assert Claimer(worker).claim(handle.id, "main/c") is None
    assert (handle.status, handle.log()[-1].kind) == (Status.COMPENSATING, "deadline_passed")
    bench.finish(worker, worker.record(left, Success(2), always))
    for lane in ("main/b", "main"):
        bench.finish(worker, Claimer(worker).claim(handle.id, lane))
    assert handle.status == Status.COMPENSATED
    assert handle.steps()["c"].attempts == 0


def test_past_the_pivot_and_in_a_rollback_no_deadline_stops_anything(bench: Bench) -> None:
    forward, worker, run = begin(bench, PIVOTED, [Success(1), Success(2)])
    back, other, undo = begin(bench, SEQUENCE, [Success(1), Failure(RuntimeError("no"), final=True)])
    pass_deadline(bench, back)
    bench.finish(worker, run)
    bench.finish(other, undo)
    assert (forward.status, back.status) == (Status.COMPLETED, Status.COMPENSATED)


def test_a_pivot_that_may_have_happened_is_tried_again_after_the_deadline(bench: Bench) -> None:
    """Nobody knows whether there is anything to roll back, so only another attempt can tell."""
    handle, worker, run = begin(bench, PIVOTED, [Success(1)])
    pass_deadline(bench, handle)
    worker.record(run, Failure(ConnectionError("no answer")), never)
    bench.sql("UPDATE saga.work SET due_at = now() WHERE lane = 'main'")
    bench.finish(worker, Claimer(worker).claim(handle.id, "main"))
    assert "deadline_passed" in kinds(handle, 9)
    assert handle.steps()["p"].attempts == 2
    assert handle.status == Status.COMPLETED


def test_a_deadline_costs_no_statement_while_it_has_not_passed(bench: Bench) -> None:
    worker = bench.worker()
    counts = []
    for deadline in (None, 60):
        handle = bench.start(deadline=deadline)
        with statements(bench) as seen:
            bench.finish(worker, bench.claimed(handle, worker=worker))
        counts.append(len(seen))
    assert counts[0] == counts[1] == 5
