"""Whole sagas in one thread, on the store in memory: what they write, claim and send is counted."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from tenacity import stop_after_attempt, stop_after_delay, wait_fixed

from saga import Abort, Parallel, Retry, Saga, Step
from saga.core.events import CancelRequested, Paused, Resumed

from .helpers import task_of
from .theatre import Theatre


@task_of
def act(): ...


@task_of
def undo(): ...


def step(name: str, **options: Any) -> Step:
    return Step(act, name=name, compensate=undo, **options)


FIVE = Saga("five", *map(step, "abcde"))
FORKED = Saga("forked", step("a"), Parallel(step("b"), step("c")), step("d"))


def failing(name: str, error: Exception, attempts: int = 1) -> Callable[[Any], Any]:
    """Tasks that succeed, but for the first attempts of one step's action."""

    def part(current: Any) -> Any:
        if current.step == name and not current.compensating and current.attempt <= attempts:
            raise type(error)(*error.args)  # a new one, whose traceback is its own
        return f"{current.step} {current.attempt}"

    return part


def test_a_saga_of_five_steps_costs_a_claim_an_append_for_each_step_and_one_message():
    theatre = Theatre(FIVE, part=lambda current: current.step)
    saga = theatre.start(FIVE)
    theatre.run()
    assert theatre.status(saga) == "completed"
    assert theatre.kinds(saga) == ["saga_started", *["step_started", "step_succeeded"] * 5]
    assert theatre.state(saga).results() == {name: name for name in "abcde"}
    assert theatre.store.asked == {"open": 1, "claim": 1, "append": 5}
    assert theatre.sent == 1


def test_a_rollback_undoes_in_one_go_what_was_done():
    theatre = Theatre(FIVE, part=failing("e", Abort("no")))
    saga = theatre.start(FIVE)
    theatre.run()
    assert theatre.status(saga) == "compensated"
    undone = [entry.step for entry in theatre.log(saga) if entry.kind == "compensation_succeeded"]
    assert undone == list("dcba")
    assert theatre.store.asked == {"open": 1, "claim": 1, "append": 9}
    assert theatre.sent == 1


def test_branches_are_run_and_joined():
    theatre = Theatre(FORKED)
    saga = theatre.start(FORKED)
    theatre.run()
    assert theatre.status(saga) == "completed"
    assert theatre.sent == 3
    assert theatre.store.asked["claim"] == 3


def test_a_lane_of_a_lost_worker_is_given_back_and_claimed_by_another():
    theatre = Theatre(FIVE)
    theatre.join(2)
    saga = theatre.start(FIVE)
    assert theatre.hang(1) is not None
    theatre.kill(1)
    theatre.look()
    assert theatre.kinds(saga)[-1] == "step_started"
    theatre.clock.sleep(0.5)
    theatre.look()
    assert theatre.kinds(saga)[-1] == "attempt_lost"
    theatre.run()
    assert theatre.status(saga) == "completed"
    assert [entry.worker for entry in theatre.log(saga) if entry.kind == "step_started"] == [1, 2, 2, 2, 2, 2]
    # The second claim finds the lane undecided; the answer of the policy, and what follows at once, are appended.
    assert theatre.store.asked == {"open": 1, "claim": 2, "append": 6}
    assert theatre.sent == 2


def test_an_attempt_that_hangs_is_ended_at_its_timeout():
    slow = Saga("slow", step("a", timeout=timedelta(minutes=1)))
    theatre = Theatre(slow)
    saga = theatre.start(slow)
    assert theatre.hang(1) is not None
    theatre.run()
    assert theatre.status(saga) == "completed"
    _, started, timed_out, failed, again, *_ = theatre.log(saga)
    assert (timed_out.kind, failed.data["outcome"], again.attempt) == ("attempt_timed_out", "retry", 2)
    assert started.at is not None
    assert timed_out.at - started.at == timedelta(seconds=60)
    assert theatre.store.asked["claim"] == 3


def test_a_retry_comes_after_its_wait_without_a_worker_in_between():
    patient = Saga("patient", step("a", retry=Retry(stop=stop_after_attempt(5), wait=wait_fixed(30))))
    theatre = Theatre(patient, part=failing("a", RuntimeError("not yet"), attempts=2))
    saga = theatre.start(patient)
    theatre.run()
    assert theatre.status(saga) == "completed"
    ends = [entry.at for entry in theatre.log(saga) if entry.kind == "step_failed"]
    begins = [entry.at for entry in theatre.log(saga) if entry.kind == "step_started"]
    assert [begin - end for end, begin in zip(ends, begins[1:], strict=True)] == [timedelta(seconds=30)] * 2
    assert theatre.store.asked == {"open": 1, "claim": 3, "append": 3}
    assert theatre.sent == 3


def test_a_short_wait_is_slept_through_with_the_lane_in_hand():
    brisk = Saga("brisk", step("a", retry=Retry(stop=stop_after_attempt(5), wait=wait_fixed(0.5))))
    theatre = Theatre(brisk, part=failing("a", RuntimeError("not yet"), attempts=2))
    saga = theatre.start(brisk)
    theatre.run()
    assert theatre.status(saga) == "completed"
    assert theatre.clock.monotonic() == 1.0
    assert theatre.store.asked == {"open": 1, "claim": 1, "append": 5}
    assert theatre.sent == 1


def test_a_policy_that_gives_up_after_a_time_goes_by_the_clock_of_the_store():
    weary = Saga("weary", step("a", retry=Retry(stop=stop_after_delay(100), wait=wait_fixed(40))))
    theatre = Theatre(weary, part=failing("a", RuntimeError("never"), attempts=99))
    saga = theatre.start(weary)
    theatre.run()
    assert theatre.status(saga) == "compensated"
    assert theatre.state(saga).steps["a"].attempts == 4


def test_a_paused_saga_starts_nothing_until_it_is_resumed():
    theatre = Theatre(FIVE)
    saga = theatre.start(FIVE)
    theatre.ask(saga, Paused("ann"))
    theatre.run()
    assert theatre.kinds(saga) == ["saga_started", "paused"]
    theatre.ask(saga, Resumed("ann"))
    theatre.run()
    assert theatre.status(saga) == "completed"
    assert theatre.store.asked == {"open": 1, "request": 2, "claim": 2, "append": 5}


def test_a_step_that_pauses_its_saga_is_the_last_one_for_now():
    def part(current: Any) -> None:
        if current.step == "b" and not current.compensating:
            theatre.ask(current.saga_id, Paused("ann"))

    theatre = Theatre(FIVE, part=part)
    saga = theatre.start(FIVE)
    theatre.run()
    assert theatre.status(saga) == "paused"
    assert theatre.kinds(saga)[-2:] == ["paused", "step_succeeded"]
    theatre.ask(saga, CancelRequested("ann"))
    theatre.run()
    assert theatre.status(saga) == "compensated"


def test_a_saga_that_passes_its_deadline_is_rolled_back():
    theatre = Theatre(FIVE, inline_budget=0)
    saga = theatre.start(FIVE, deadline=60)
    theatre.deliver()
    theatre.clock.sleep(61)
    theatre.run()
    assert theatre.status(saga) == "compensated"
    assert "deadline_passed" in theatre.kinds(saga)


WITHIN = Saga("within", step("a"), step("b", transactional=True), step("c"))


def test_the_entry_of_a_transactional_step_is_part_of_its_transaction():
    seen: list[str] = []
    theatre = Theatre(WITHIN, part=lambda current: seen.append(theatre.kinds(current.saga_id)[-1]))
    saga = theatre.start(WITHIN)
    theatre.run()
    assert theatre.status(saga) == "completed"
    assert seen == ["step_started"] * 3
    assert theatre.store.asked == {"open": 1, "claim": 1, "append": 2, "transaction": 1}
    assert theatre.sent == 1


def test_a_transactional_step_that_fails_has_had_no_effect():
    theatre = Theatre(WITHIN, part=failing("b", RuntimeError("no"), attempts=99))
    saga = theatre.start(WITHIN)
    theatre.run()
    assert theatre.status(saga) == "compensated"
    assert theatre.state(saga).steps["b"].status == "aborted"
    assert theatre.state(saga).steps["b"].undo is None


def test_a_result_that_the_store_refuses_fails_its_step_for_good():
    theatre = Theatre(FIVE, part=lambda current: "\x00" if current.step == "c" and not current.compensating else None)
    saga = theatre.start(FIVE)
    theatre.run()
    assert theatre.status(saga) == "compensated"


def test_many_sagas_share_the_claims_and_appends_of_one_message():
    theatre = Theatre(FIVE)
    for _ in range(2):
        theatre.start(FIVE)
        theatre.run()
    sagas = [theatre.start(FIVE) for _ in range(16)]
    theatre.store.asked.clear()
    theatre.players[1].run([(message.saga_id, message.lane) for message in theatre.messages])
    theatre.messages.clear()
    assert {theatre.status(saga) for saga in sagas} == {"completed"}
    assert theatre.store.asked == {"claim": 1, "append": 5}
