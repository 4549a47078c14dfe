"""What is told of sagas in the stream of facts, and that nothing depends on who listens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from saga import Status, saga_completed
from saga.core.outcome import Success
from saga.telemetry.facts.sagas import Appended, SagaOpened
from saga.telemetry.stream import Fact, subscribe
from saga.worker.claimer import Claimer
from tests.integration.conftest import Bench, always


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
