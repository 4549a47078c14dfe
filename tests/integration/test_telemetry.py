"""What is told of sagas in the stream of facts, and that nothing depends on who listens."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from saga import Status, saga_completed
from saga.core.events import AttemptInterrupted
from saga.core.outcome import Failure, Interruption, Success
from saga.telemetry.facts.attempts import AttemptBegan, AttemptEnded, AttemptLeft
from saga.telemetry.facts.sagas import Appended, SagaOpened
from saga.telemetry.stream import Fact, subscribe
from saga.telemetry.watch import Watch
from saga.worker.claimer import Claimer
from saga.worker.performers.plain import Performer
from tests.integration.conftest import Bench, always, never


@pytest.fixture
def facts() -> Iterator[list[Any]]:
    found: list[Any] = []
    end = subscribe(Fact, found.append)
    yield found
    end()


@pytest.fixture
def broken_listener() -> Iterator[list[Fact]]:
    heard: list[Fact] = []

    def fail(fact: Fact) -> None:
        heard.append(fact)
        raise RuntimeError("the metrics are full")

    end = subscribe(Fact, fail)
    yield heard
    end()


def test_a_start_and_every_append_are_told_of_in_their_order(bench: Bench, facts: list[Any]) -> None:
    handle = bench.start()
    worker = bench.worker()
    bench.finish(worker, bench.claimed(handle, worker=worker))
    told = [fact for fact in facts if isinstance(fact, (SagaOpened, Appended))]
    assert isinstance(told[0], SagaOpened)
    assert {(fact.saga, fact.saga_id) for fact in told} == {("sequence", handle.id)}
    appended = [event for fact in told[1:] for event in fact.events]
    # A claim appends its start by itself; the inline hops append the others with the end before.
    assert appended == [entry.event for entry in handle.log()[2:]]
    assert told[-1].after.status is Status.COMPLETED
    assert {fact.worker for fact in told[1:]} == {1}


def test_an_append_that_lost_its_place_is_not_told_of(bench: Bench, facts: list[Any]) -> None:
    handle = bench.start()
    worker = bench.worker()
    run = bench.claimed(handle, worker=worker)
    handle.pause()
    facts.clear()
    worker.record(run, Success(None), always)
    assert len([fact for fact in facts if isinstance(fact, Appended)]) == 1


def test_a_crash_of_whoever_listens_loses_no_saga(bench: Bench, broken_listener: list[Fact]) -> None:
    completed: list[Any] = []

    def receiver(saga_id: Any, **_: Any) -> None:
        completed.append(saga_id)

    saga_completed.connect(receiver)
    handle = bench.start()
    worker = bench.worker()
    bench.finish(worker, Claimer(worker).claim(handle.id, "main"))
    bench.orchestrator.relay().tick()
    assert handle.status is Status.COMPLETED
    assert completed == [handle.id]
    assert any(isinstance(fact, Appended) for fact in broken_listener)


def test_an_attempt_is_told_of_from_the_call_of_its_task_to_its_end_in_the_log(bench: Bench, facts: list[Any]) -> None:
    app = bench.orchestrator.app
    worker = bench.worker()
    handle = bench.start()
    run = bench.claimed(handle, worker=worker)
    carrier = SimpleNamespace(id="m1", hostname="celery@here")
    outcome = Performer(app, 1_000_000, never).perform(run, carrier)
    worker.record(run, outcome, always)
    began, left, ended = (fact for fact in facts if isinstance(fact, (AttemptBegan, AttemptLeft, AttemptEnded)))
    assert (began.attempt, began.task, began.carrier) == (run.name, run.job.task, carrier)
    assert left.began is began
    assert (ended.attempt, ended.began) == (run.name, began)
    assert ended.event == next(entry.event for entry in handle.log() if isinstance(entry.event, type(ended.event)))
    assert ended.seconds > 0


def test_an_attempt_that_is_not_made_is_told_of_by_its_end_alone(bench: Bench, facts: list[Any]) -> None:
    handle, worker = bench.start(), bench.worker()
    worker.record(bench.claimed(handle, worker=worker), Interruption("told to stop"), never)
    (ended,) = (fact for fact in facts if isinstance(fact, (AttemptBegan, AttemptLeft, AttemptEnded)))
    assert isinstance(ended.event, AttemptInterrupted)
    assert ended.began is None


def test_what_follows_after_a_wait_is_not_told_of_as_what_was_before(bench: Bench, facts: list[Any]) -> None:
    handle, worker = bench.start(), bench.worker()
    run = bench.claimed(handle, worker=worker)
    run.watch = Watch(run.name)
    run.watch.begin(bench.orchestrator.app, "shop.pay", uuid4(), None)
    run.watch.leave()
    held = worker.record(run, Failure(RuntimeError("away"), min_wait=0.01), always)
    assert held is not None
    assert held.held is not None
    woken = worker.wake(held)
    assert woken is not None
    worker.record(woken, Interruption("told to stop"), never)
    ended = [fact for fact in facts if isinstance(fact, AttemptEnded)]
    assert [(fact.attempt.ref.attempt, fact.began is None) for fact in ended] == [(1, False), (2, True)]
