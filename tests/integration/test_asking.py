"""A saga that waits for a person: what is in its log, its work and its status, and how it goes on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery

from saga import NotAllowed, Orchestrator, Parallel, Saga, SagaStuck
from saga.client.handle import Handle
from saga.core.outcome import Failure, Success
from saga.language.retry import Retry
from saga.worker.claimer import Claimer
from tests.integration.conftest import Bench, always, never, open_bench, step

ONCE = {"retry": Retry.none()}
SAGAS = [
    Saga("doubting", step("a"), Parallel(step("b", in_doubt="ask", **ONCE), [step("c"), step("d")])),
    Saga("asking", step("a"), step("b", **ONCE), on_failure="ask"),
]
BROKE = Failure(ConnectionError("reset"))


@pytest.fixture
def shop(database_url: str) -> Iterator[Bench]:
    with open_bench("asking", SAGAS, database_url) as found:
        yield found


def lanes(shop: Bench, handle: Handle) -> list[Any]:
    return [row[0] for row in shop.sql("SELECT lane FROM saga.work WHERE saga_id = %s ORDER BY 1", handle.id)]


def finish(shop: Bench, handle: Handle) -> None:
    """Let every attempt that is due succeed."""
    for _ in range(10):
        for lane in lanes(shop, handle):
            worker = shop.worker()
            shop.finish(worker, Claimer(worker).claim(handle.id, lane))


def in_doubt(shop: Bench) -> Handle:
    """A saga that nobody knows about, while a branch beside it runs to the end of its step."""
    handle = shop.orchestrator.start("doubting", {})
    worker = shop.worker()
    worker.record(shop.claimed(handle, worker=worker), Success("a"), never)
    b, c = (shop.claimed(handle, f"main/{name}", worker) for name in "bc")
    assert worker.record(b, BROKE, always) is None
    assert handle.replay().status == "stuck"
    assert worker.record(c, Success("c"), always) is None
    return handle


def test_a_doubt_leaves_the_saga_stuck_with_nothing_to_do(shop: Bench) -> None:
    handle = in_doubt(shop)
    assert handle.status == "stuck"
    assert lanes(shop, handle) == []
    with pytest.raises(SagaStuck, match=r"in doubt: b: ConnectionError: reset.*saga cancel"):
        handle.result(timeout=1)
    with pytest.raises(NotAllowed):
        handle.pause()


def test_a_doubt_that_happened_goes_on_to_the_end(shop: Bench) -> None:
    handle = in_doubt(shop)
    handle.skip("b", "by hand")
    assert lanes(shop, handle) == ["main/c"]
    finish(shop, handle)
    assert handle.result(timeout=1) == {"a": "a", "b": "by hand", "c": "c", "d": "d"}


def test_a_doubt_that_is_tried_again_goes_on_to_the_end(shop: Bench) -> None:
    handle = in_doubt(shop)
    handle.retry()
    assert lanes(shop, handle) == ["main/b", "main/c"]
    finish(shop, handle)
    assert handle.status == "completed"


def test_a_doubt_that_did_not_happen_is_rolled_back_without_its_undo(shop: Bench) -> None:
    handle = in_doubt(shop)
    assert handle.cancel("the bank says no")
    finish(shop, handle)
    state = handle.replay()
    assert state.status == "compensated"
    assert [name for name, each in state.steps.items() if each.undo] == ["a", "c"]


def test_a_doubt_in_a_rollback_holds_up_what_came_before_it_until_a_person_has_spoken(shop: Bench) -> None:
    handle = shop.orchestrator.start("doubting", {})
    worker = shop.worker()
    worker.record(shop.claimed(handle, worker=worker), Success("a"), never)
    b = shop.claimed(handle, "main/b", worker)
    handle.cancel("changed my mind")
    assert worker.record(b, BROKE, always) is None
    finish(shop, handle)
    assert handle.status == "stuck"
    with pytest.raises(NotAllowed, match="nobody knows whether b happened"):
        handle.retry()
    handle.skip("b", "by hand", undo=True)
    finish(shop, handle)
    state = handle.replay()
    assert state.status == "compensated"
    assert [name for name, each in state.steps.items() if each.undo] == ["a", "b"]


@pytest.mark.parametrize("forward", [True, False])
def test_a_saga_that_asks_first_goes_where_it_is_told_to(shop: Bench, forward: bool) -> None:
    handle = shop.orchestrator.start("asking", {})
    worker = shop.worker()
    following = worker.record(shop.claimed(handle, worker=worker), Success("a"), always)
    assert following is not None
    worker.record(following, BROKE, always)
    assert (handle.status, lanes(shop, handle)) == ("stuck", [])
    handle.retry() if forward else handle.cancel()
    finish(shop, handle)
    assert handle.status == ("completed" if forward else "compensated")


def test_what_is_asked_is_known_without_the_definition(shop: Bench, database_url: str) -> None:
    handle = in_doubt(shop)
    bare = Orchestrator(Celery("bare", broker="memory://", set_as_current=False), database_url=database_url)
    try:
        assert bare.get(handle.id).replay() == handle.replay()
    finally:
        bare.close()
