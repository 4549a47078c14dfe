"""A batch takes turns, keeps what has ended for a moment, and lets nobody wait for a long attempt."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import time_machine
from celery import Celery
from tenacity import stop_after_attempt

from saga import Retry, Saga, Step
from saga.core.outcome import Interruption, Success
from saga.core.ref import AttemptRef
from saga.worker.attempt import Attempt
from saga.worker.batch import Batch, may_share
from saga.worker.rest import Rest

app = Celery("batch", set_as_current=False)


@app.task(shared=False)
def act() -> None:
    pass


def run(name: str) -> Attempt:
    """A run of which a batch asks nothing."""
    found = object.__new__(Attempt)
    found.ref = AttemptRef(name, name, 1)
    return found


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    with time_machine.travel(0, tick=False) as traveller:
        import time

        monkeypatch.setattr("saga.store.clock.RealClock.monotonic", time.time)
        yield traveller


def test_runs_take_turns_and_what_ended_is_due_once_nobody_waits(clock: Any):
    first, second = run("first"), run("second")
    batch = Batch([first, second])
    assert batch.next() is first
    batch.end(first, Success(1))
    assert batch.take_due() == []
    assert batch.next() is second
    batch.end(second, Success(2))
    assert batch.take_due() == [(first, Success(1)), (second, Success(2))]
    assert batch.take_due() == []
    assert batch.next() is None


def test_what_follows_waits_for_its_turn(clock: Any):
    first, second, after = run("first"), run("second"), run("after")
    batch = Batch([first, second])
    batch.next()
    batch.follow(after)
    assert [batch.next(), batch.next(), batch.next()] == [second, after, None]


def test_an_outcome_is_due_after_a_moment_whoever_waits(clock: Any):
    first, second = run("first"), run("second")
    batch = Batch([first, second])
    batch.next()
    batch.end(first, Success(1))
    assert batch.take_due() == []
    clock.shift(0.03)
    assert batch.take_due() == [(first, Success(1))]


def test_nothing_is_taken_from_a_batch_whose_attempts_are_short(clock: Any):
    batch = Batch([run("first"), run("second")])
    assert batch.stall() is None
    batch.next()
    clock.shift(0.1)
    assert batch.stall() is None


def test_a_long_attempt_keeps_nobody_waiting(clock: Any):
    first, second, third = run("first"), run("second"), run("third")
    places = [(UUID(int=4), "main"), (UUID(int=5), "main")]
    rest = Rest(places)
    batch = Batch([first, second, third], rest)
    batch.next()
    batch.end(first, Success(1))
    batch.next()
    clock.shift(0.3)
    stall = batch.stall()
    assert stall is not None
    assert (stall.attempt, stall.lanes, list(rest)) == (second, places, [])
    assert stall.seconds == pytest.approx(0.3)
    (ended, interrupted) = stall.ended
    assert ended == (first, Success(1))
    assert interrupted[0] is third
    assert isinstance(interrupted[1], Interruption)
    assert batch.next() is None
    batch.end(second, Success(2))
    assert batch.take_due() == [(second, Success(2))]


def test_a_saga_shares_a_batch_that_can_bear_to_wait_and_to_lose_an_attempt():
    def saga(**options: Any) -> Saga:
        return Saga("one", Step(act, compensate=None, **options))

    assert may_share(saga())
    assert may_share(saga(retry=Retry.forever()))
    assert not may_share(saga(timeout=timedelta(seconds=1)))
    assert not may_share(saga(retry=Retry.none()))
    assert may_share(saga(retry=Retry(stop=stop_after_attempt(2))))


def test_a_policy_that_fails_shares_nothing():
    def broken(_: Any) -> bool:
        raise RuntimeError("broken")

    assert not may_share(Saga("one", Step(act, compensate=None, retry=Retry(stop=broken))))
