"""Branches of one saga claimed together, and their ends appended together: of each saga all or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest

from saga import Handle, Parallel, Saga, Status, saga_completed, step_succeeded
from saga.core.events import Entry, Paused, entry_from_row
from saga.core.outcome import Failure, Interruption, Success
from saga.errors import Abort
from saga.store import values
from saga.store.postgres import due
from saga.store.postgres.database import Link, Row
from saga.store.postgres.store import Joined
from saga.worker.attempt import Attempt
from saga.worker.claimer import Claimer
from saga.worker.recorder import Recorder
from saga.worker.together import Together
from tests.integration.conftest import ASKED, Bench, always, never, step
from tests.integration.test_batches import counted_statements
from tests.integration.test_log import deadlocks, lost_reply, lost_request

NUMBER = 8
NAMES = [f"s{number}" for number in range(NUMBER)]
WIDE = Saga("wide", Parallel(*map(step, NAMES)), step("z"))
LONGER = Saga("longer", Parallel([step("a1"), step("a2")], [step("b1"), step("b2")]))
NESTED = Saga("nested", Parallel([step("a1"), Parallel(step("i1"), step("i2")), step("a2")], step("b1")))
UNEVEN = Saga("uneven", Parallel([step("a1"), step("a2")], step("b1"), step("c1")))
ONLY = Saga("only", Parallel(*map(step, NAMES)))


def places(handle: Handle, names: Sequence[str] = NAMES) -> list[tuple[UUID, str]]:
    return [(handle.id, f"main/{name}") for name in names]


def together(bench: Bench, saga: Saga = WIDE, worker: Recorder | None = None) -> tuple[Handle, Recorder, list[Attempt]]:
    """A saga all of whose branches were claimed in one go."""
    bench.orchestrator.register(saga)
    handle, worker = bench.start(saga), worker or bench.worker()
    lanes = [lane for lane in saga.outline.lanes if lane != "main"]
    runs, left = Claimer(worker).claim_together([(handle.id, lane) for lane in lanes], [saga.name])
    assert (len(runs), left) == (len(lanes), [])
    return handle, worker, runs


def succeeded(runs: Sequence[Attempt]) -> list[tuple[Attempt, Success]]:
    return [(run, Success(run.step)) for run in runs]


def kinds(handle: Handle) -> list[str]:
    return [entry.kind for entry in handle.log()]


def test_branches_take_one_statement_to_claim_and_one_to_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.orchestrator.register(WIDE)
    handle, worker = bench.start(WIDE), bench.worker()
    told: list[str] = []
    step_succeeded.connect(lambda step, **_: told.append(step), weak=False, sender="wide", dispatch_uid="branches")
    with counted_statements(monkeypatch) as statements:
        runs, _ = Claimer(worker).claim_together(places(handle), ["wide"])
        following = Together(worker).record_all(succeeded(runs[:-1]), always)
        assert len(statements) == 2
        assert following == []
        following = Together(worker).record_all(succeeded(runs[-1:]), always)
    step_succeeded.disconnect(dispatch_uid="branches", sender="wide")
    assert kinds(handle) == [
        "saga_started", *["step_started"] * NUMBER, *["step_succeeded"] * NUMBER, "step_started",
    ]  # fmt: skip
    assert sorted(told) == NAMES
    assert [run.step for run in following] == ["z"]
    bench.finish(worker, following[0])
    assert handle.status == Status.COMPLETED
    assert handle.result() == {name: name for name in [*NAMES, "z"]}
    assert bench.sql("SELECT * FROM saga.work") == []
    assert worker.running == {}


def test_the_last_of_the_branches_ends_the_saga_with_the_others(bench: Bench) -> None:
    done: list[object] = []
    saga_completed.connect(
        lambda saga_id, **_: done.append(saga_id), weak=False, sender="only", dispatch_uid="branches"
    )
    handle, worker, runs = together(bench, ONLY)
    assert Together(worker).record_all(succeeded(runs), always) == []
    saga_completed.disconnect(dispatch_uid="branches", sender="only")
    assert (handle.status, done) == (Status.COMPLETED, [handle.id])
    assert bench.sql("SELECT * FROM saga.work") == []


def test_the_last_of_the_branches_is_followed_by_what_comes_after_them_in_one_statement(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle, worker, runs = together(bench)
    with counted_statements(monkeypatch) as statements:
        following = Together(worker).record_all(succeeded(runs), always)
    assert len(statements) == 1
    assert [run.step for run in following] == ["z"]
    assert list(worker.running.values()) == following
    bench.finish(worker, following[0])
    assert handle.status == Status.COMPLETED
    assert bench.sql("SELECT * FROM saga.work") == []


def test_what_a_claim_has_to_read_is_read_once_for_all_branches(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def reading(saga_id: UUID, row: Row) -> Entry:
        read.append(row[0])
        return entry_from_row(saga_id, row)

    monkeypatch.setattr(values, "entry_from_row", reading)
    together(bench)
    assert sorted(read) == list(range(1, NUMBER + 2))


def test_branches_of_a_lane_that_ends_with_them_go_on_behind_it(bench: Bench) -> None:
    """The first attempt goes on in the lane above, which is that of no attempt of the batch."""
    bench.orchestrator.register(NESTED)
    handle, worker = bench.start(NESTED), bench.worker()
    worker.record(bench.claimed(handle, "main/a1", worker), Success(1), never)
    runs, _ = Claimer(worker).claim_together([(handle.id, f"main/a1/{name}") for name in ("i1", "i2")], ["nested"])
    following = Together(worker).record_all(succeeded(runs), always)
    assert [(run.lane, run.step) for run in following] == [("main/a1", "a2")]
    bench.finish(worker, following[0])
    assert bench.sql("SELECT lane FROM saga.work WHERE worker IS NULL") == [("main/b1",)]
    bench.finish(worker, Claimer(worker).claim(handle.id, "main/b1"))
    assert handle.status == Status.COMPLETED


def test_branches_that_end_share_a_statement_while_others_go_on(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    handle, worker, runs = together(bench, UNEVEN)
    with counted_statements(monkeypatch) as statements:
        following = Together(worker).record_all(succeeded(runs), always)
    assert len(statements) == 2
    assert [run.step for run in following] == ["a2"]
    bench.finish(worker, following[0])
    assert handle.status == Status.COMPLETED


def test_branches_that_are_undone_share_a_statement(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    handle, worker, runs = together(bench, ONLY)
    Together(worker).record_all([*succeeded(runs[1:]), (runs[0], Failure(Abort("no"), effect=False))], always)
    undos, left = Claimer(worker).claim_together(places(handle, NAMES[1:]), ["only"])
    assert (len(undos), left) == (NUMBER - 1, [])
    with counted_statements(monkeypatch) as statements:
        assert Together(worker).record_all(succeeded(undos), always) == []
    assert len(statements) == 1
    assert handle.status == Status.COMPENSATED


def test_branches_that_have_a_next_step_go_on_inline(bench: Bench) -> None:
    handle, worker, runs = together(bench, LONGER)
    following = Together(worker).record_all(succeeded(runs), always)
    assert sorted(run.step for run in following) == ["a2", "b2"]
    Together(worker).record_all(succeeded(following), always)
    assert handle.status == Status.COMPLETED


def test_an_entry_that_comes_before_the_claim_keeps_every_branch_from_starting(bench: Bench) -> None:
    """The lanes that a pause or a cancel forbids must not start behind it, and the second row of a statement no less."""
    bench.orchestrator.register(WIDE)
    handle, worker = bench.start(WIDE), bench.worker()
    claims = Claimer(worker)
    with bench.connect() as other, ThreadPoolExecutor() as pool:
        engine = worker.engine
        instance = engine.instance(handle.id)
        draft = engine.draft(instance, engine.read(instance), Paused("ann"))
        assert engine.write(draft, Joined(bench.orchestrator.database, Link(other, "saga")))
        claimed = pool.submit(claims.claim_together, places(handle), ["wide"])
        bench.until_blocked()
        other.commit()
        assert claimed.result(10) == ([], [])
    assert kinds(handle) == ["saga_started", "paused"]


def test_an_entry_that_comes_before_the_end_of_branches_lets_them_be_appended_together_after_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle, worker, runs = together(bench)
    handle.pause()
    with counted_statements(monkeypatch) as statements:
        Together(worker).record_all(succeeded(runs[:4]), always)
    assert len(statements) == 3  # one is lost, one reads on, one appends
    assert kinds(handle)[-5:] == ["paused", *["step_succeeded"] * 4]


def test_branches_that_are_given_back_take_one_statement(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    handle, worker, runs = together(bench)
    with counted_statements(monkeypatch) as statements:
        Together(worker).record_all(
            [(runs[0], Success(1)), *((run, Interruption("too long")) for run in runs[1:])], never
        )
    assert len(statements) == 1
    assert kinds(handle)[-NUMBER:] == ["step_succeeded", *["attempt_interrupted"] * (NUMBER - 1)]
    assert bench.sql("SELECT count(*), count(sent) FROM saga.work WHERE worker IS NULL") == [(NUMBER - 1, NUMBER - 1)]
    finished = [Claimer(worker).claim(handle.id, lane) for lane in (f"main/{name}" for name in NAMES[1:])]
    Together(worker).record_all([(run, Success(2)) for run in finished if run], never)
    bench.finish(worker, Claimer(worker).claim(handle.id, "main"))
    assert handle.status == Status.COMPLETED


def test_branches_that_end_in_every_way_are_each_recorded(bench: Bench) -> None:
    handle, worker, runs = together(bench)
    ends = [
        (runs[0], Success(1)),
        (runs[1], Failure(Abort("no"), effect=False)),
        (runs[2], Success(2)),
        (runs[3], Failure(RuntimeError("later"))),
        (runs[4], Interruption("told to stop")),
        *succeeded(runs[5:]),
    ]
    Together(worker).record_all(ends, never)
    state = handle.replay()
    assert [step.status for step in state.steps.values()] == [
        "succeeded", "aborted", "succeeded", "unknown", "undecided", *["succeeded"] * 3, "pending",
    ]  # fmt: skip
    assert state.reason == "s1: no"
    bench.sql("UPDATE saga.work SET due_at = now()")
    while lanes := bench.sql("SELECT lane FROM saga.work WHERE worker IS NULL"):
        taken, left = Claimer(worker).claim_together([(handle.id, lane) for (lane,) in lanes], ["wide"])
        Together(worker).record_all(succeeded(taken), never)
        for place in left:
            bench.finish(worker, Claimer(worker).claim(*place))
    assert handle.status == Status.COMPENSATED
    owed = {name: step.undo is not None for name, step in handle.steps().items()}
    assert owed == {name: name not in ("s1", "z") for name in [*NAMES, "z"]}


@pytest.mark.parametrize("lose", [lost_reply, lost_request])
def test_an_append_of_branches_of_which_nobody_knows_is_found_or_done_again(bench: Bench, lose: object) -> None:
    handle, worker, runs = together(bench)
    with lose():  # type: ignore[operator]
        Together(worker).record_all(succeeded(runs[:4]), always)
    assert kinds(handle).count("step_succeeded") == 4
    Together(worker).record_all(succeeded(runs[4:]), never)
    bench.finish(worker, Claimer(worker).claim(handle.id, "main"))
    assert handle.status == Status.COMPLETED


def test_a_branch_that_was_declared_over_brings_evidence_and_the_others_count(bench: Bench) -> None:
    handle, worker, runs = together(bench)
    with bench.orchestrator.database.link() as link:
        bench.sql("UPDATE saga.work SET worker = 99 WHERE lane = 'main/s0'")
        due.do(link, due.LOSE, {**ASKED, "workers": [99]})
    Together(worker).record_all(succeeded(runs[:4]), never)
    assert [step.status for step in list(handle.steps().values())[:4]] == ["undecided", *["succeeded"] * 3]
    assert kinds(handle).count("late_result") == 1


def test_workers_that_share_the_branches_of_many_sagas_never_deadlock_and_complete_them(bench: Bench) -> None:
    bench.orchestrator.register(ONLY)
    handles = [bench.start(ONLY) for _ in range(6)]
    before = deadlocks(bench)

    def work_off(number: int) -> None:
        worker = bench.worker(number)
        claims = Claimer(worker)
        for handle in handles if number % 2 else handles[::-1]:
            for half in (NAMES[: NUMBER // 2], NAMES[NUMBER // 2 :]):
                runs, left = claims.claim_together(places(handle, half), ["only"])
                runs += [run for place in left if (run := claims.claim(*place))]
                Together(worker).record_all(succeeded(runs), always)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work_off, range(1, 5)))
    assert {handle.status for handle in handles} == {Status.COMPLETED}
    assert deadlocks(bench) == before
    for handle in handles:
        assert kinds(handle).count("step_started") == kinds(handle).count("step_succeeded") == NUMBER
