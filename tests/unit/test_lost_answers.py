"""A store that gives no answer: what was under way is looked up, and nothing is taken for granted that it did not say."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest

from saga.client.starting import Starter, order
from saga.core.events import CancelRequested
from saga.core.outcome import Failure, Success
from saga.core.rows import Dispatch
from saga.engine.engine import Engine
from saga.errors import DatabaseNotReady, SagaError
from saga.language.catalog import Catalog
from saga.language.definition import Saga, Step
from saga.language.retry import Retry
from saga.store.memory.store import MemoryStore
from saga.store.values import Addition, Opening
from saga.telemetry.facts.sagas import Appended, SagaOpened
from saga.telemetry.stream import subscribe
from saga.worker.claimer import Claimer
from saga.worker.recorder import Recorder

from .helpers import task_of

WORKER = 1


@task_of
def reserve(): ...


SAGA = Saga("place_order", Step(reserve, compensate=None, retry=Retry(wait=lambda _: 0.001)))
TWO_STEPS = Saga("two_steps", Step(reserve, name="a", compensate=None), Step(reserve, name="b", compensate=None))


class Unsteady(MemoryStore):
    """A store of which some answers are lost.

    Attributes:
        before, after: how many of its writes fail, before or after they are done.
        slow: the next append fails, by an exception from outside if ``interrupt``, and is done when the one
            after it comes, as by a server that goes on without its client.
    """

    def __init__(self) -> None:
        super().__init__()
        self.before = self.after = 0
        self.slow = self.interrupt = False
        self._under_way: Sequence[Addition] = ()

    def append(self, additions: Sequence[Addition], worker: int | None) -> dict[UUID, datetime]:
        if self.slow:
            self.slow, self._under_way = False, additions
            raise SystemExit if self.interrupt else DatabaseNotReady("the connection was lost")
        if self._under_way:
            super().append(self._under_way, worker)
            self._under_way = ()
        self._fail("before")
        done = super().append(additions, worker)
        self._fail("after")
        return done

    def open(self, sagas: Sequence[Opening], patience: float) -> set[UUID]:
        self._fail("before")
        done = super().open(sagas, patience)
        self._fail("after")
        return done

    def _fail(self, when: str) -> None:
        if left := getattr(self, when):
            setattr(self, when, left - 1)
            raise DatabaseNotReady("the connection was lost")


class Stand:
    def __init__(self) -> None:
        self.store = Unsteady()
        self.published: list[Dispatch] = []
        catalog = Catalog(lambda _: "celery")
        for saga in (SAGA, TWO_STEPS):
            catalog.add(saga)
        self.engine = Engine(self.store, catalog, self.published.extend)
        self.recorder = Recorder(self.engine, lambda: WORKER, inline_wait=1.0)
        self.starter = Starter(self.engine, 1.0)
        self.store.enrol(WORKER, catalog.fingerprints, ["celery"])

    def start(self, saga: Saga = SAGA, **given: Any) -> UUID:
        options: dict[str, Any] = dict.fromkeys(("input", "key", "tags", "delay", "deadline", "priority"))
        [opened] = self.starter.open([order(saga, **(options | given), limit=1000)])
        return opened.id

    def kinds(self, saga_id: UUID) -> list[str]:
        return [entry.kind for entry in self.store.entries(saga_id)]


@pytest.fixture
def stand() -> Stand:
    return Stand()


def always() -> bool:
    return True


@pytest.mark.parametrize("when", ["before", "after", "slow"])
def test_a_retry_whose_start_gets_no_answer_is_not_taken_for_late(stand: Stand, when: str):
    saga_id = stand.start(deadline=3600)
    run = Claimer(stand.recorder).claim(saga_id, "main")
    assert run is not None
    held = stand.recorder.record(run, Failure(RuntimeError("no")), always)
    assert held is not None
    setattr(stand.store, when, 2 if when == "before" else 1)
    again = stand.recorder.wake(held)
    assert stand.kinds(saga_id)[-2:] == ["step_failed", "step_started"]
    assert again is not None
    assert stand.recorder.record(again, Success(1), always) is None
    assert stand.kinds(saga_id)[-1] == "step_succeeded"


def test_a_start_whose_answer_is_lost_is_followed_up_as_any(stand: Stand):
    opened: list[UUID] = []
    end = subscribe(SagaOpened, lambda fact: opened.append(fact.saga_id))
    stand.store.after = 1
    try:
        saga_id = stand.start()
    finally:
        end()
    assert stand.kinds(saga_id) == ["saga_started"]
    assert [message.saga_id for message in stand.published] == [saga_id]
    assert opened == [saga_id]


def test_words_that_a_store_does_not_take_end_a_request_with_an_error_of_pgsagas(stand: Stand):
    saga_id = stand.start()
    with pytest.raises(SagaError):
        stand.engine.request(saga_id, CancelRequested("me", "a\x00"))
    assert stand.kinds(saga_id) == ["saga_started"]


@pytest.mark.parametrize("interrupt", [False, True], ids=["by the store", "from outside"])
def test_an_end_that_is_appended_after_it_was_looked_for_is_gone_on_from_as_any(stand: Stand, interrupt: bool):
    saga_id = stand.start(TWO_STEPS)
    run = Claimer(stand.recorder).claim(saga_id, "main")
    assert run is not None
    told: list[Appended] = []
    end = subscribe(Appended, told.append)
    stand.store.slow, stand.store.interrupt = True, interrupt
    try:
        if interrupt:
            with pytest.raises(SystemExit):
                stand.recorder.record(run, Success(1), always)
        else:
            following = stand.recorder.record(run, Success(1), always)
            assert following is not None
            assert following.step == "b"
            assert list(stand.recorder.running.values()) == [following]
    finally:
        end()
    assert stand.kinds(saga_id) == ["saga_started", "step_started", "step_succeeded", "step_started"]
    assert len(told) == 1
    assert interrupt != bool(stand.recorder.running)
