"""The queue of a step is found as Celery finds it, and a router that fails is named."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery
from kombu import Queue

from saga.broker.routing import Routing
from saga.errors import DefinitionError
from saga.language.catalog import Catalog
from saga.language.definition import Saga, Step


@pytest.fixture
def app() -> Iterator[Celery]:
    own = Celery("routing", broker="memory://", set_as_current=False)
    yield own
    own.close()


def routing(app: Celery, fallback: str | None = None) -> Routing:
    return Routing(lambda: app, lambda: fallback)


def test_a_router_is_called_as_celery_calls_it(app: Celery):
    seen: list[Any] = []

    def route(
        name: str, args: tuple[Any, ...], kwargs: dict[str, Any], options: dict[str, Any], task: Any = None, **_: Any
    ):
        seen.append((name, len(args), kwargs.get("tenant"), "tenant" in kwargs, options.get("serializer"), task))
        return {"queue": "slow"}

    app.conf.task_routes = (route,)
    task = app.task(name="shop.pay", shared=False, serializer="yaml")(nothing)
    assert routing(app).queue("shop.pay") == "slow"
    assert seen == [("shop.pay", 0, None, False, "yaml", app.tasks[task.name])]


class Old:
    """A router of the kind that Celery had before 4.0."""

    def route_for_task(self, task: str, args: Any = None, kwargs: Any = None) -> Any:
        return {"queue": f"{task}{len(args)}{len(kwargs)}"}


@pytest.mark.parametrize(
    ("route", "queue"),
    [
        (lambda *_, **__: "slow", "slow"),
        (lambda *_, **__: {"queue": Queue("slow")}, "slow"),
        (lambda *_, **__: None, "celery"),
        (lambda *_, **__: {"priority": 3}, "celery"),
        ({"shop.*": "slow"}, "slow"),
        ({"shop.pay": {"queue": "slow"}}, "slow"),
        (Old(), "shop.pay00"),
    ],
    ids=["name", "queue", "none", "no queue", "pattern", "mapping", "old"],
)
def test_every_answer_that_celery_takes_is_taken(app: Celery, route: Any, queue: str):
    app.conf.task_routes = (route,)
    assert routing(app).queue("shop.pay") == queue


def test_a_task_without_a_route_runs_on_the_fallback(app: Celery):
    assert routing(app, "sagas").queue("shop.pay") == "sagas"
    assert routing(app, "sagas").queue("") == "sagas"


def nothing() -> None: ...


def broken(name: str, *_: Any, **__: Any) -> Any:
    raise KeyError(name)


def saga_of(app: Celery) -> Saga:
    pay = app.task(name="shop.pay", shared=False)(nothing)
    refund = app.task(name="shop.refund", shared=False)(nothing)
    return Saga("place_order", Step(pay, name="payment", compensate=refund))


FAILS = (
    r"saga 'place_order', step 'payment': the router .*test_routing\.broken of task_routes fails for task 'shop\.pay'"
)


@pytest.mark.parametrize(
    ("route", "text"),
    [(broken, FAILS), (lambda *_, **__: 5, "it answers 5; expected a queue's name")],
    ids=["raises", "answers nonsense"],
)
def test_a_router_that_fails_is_named_with_saga_and_step(app: Celery, route: Callable[..., Any], text: str):
    app.conf.task_routes = (route,)
    saga = saga_of(app)
    catalog = Catalog(routing(app).queue)
    with pytest.raises(DefinitionError, match=text):
        catalog.check_routes(saga)


def test_no_result_waits_for_a_router_that_fails(app: Celery, caplog: pytest.LogCaptureFixture):
    routes: list[Any] = [broken]
    app.conf.task_routes = (lambda name, *_, **__: routes[0](name),)
    saga = saga_of(app)
    catalog = Catalog(routing(app).queue)
    with caplog.at_level(logging.ERROR, "saga"):
        assert catalog.queue(saga, "payment", True) == "celery"
    assert "saga 'place_order', undo of step 'payment': the router" in caplog.text
    routes[0] = lambda _: "slow"
    assert catalog.queue(saga, "payment", True) == "slow"
