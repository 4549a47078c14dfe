"""A process knows its definitions by name and by fingerprint, and the queue of each step."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from saga.errors import DefinitionError, UnknownSaga
from saga.language.catalog import Catalog, watch
from saga.language.definition import Parallel, Saga, Step

from .helpers import task_of


@task_of
def pay(): ...


@task_of
def refund(): ...


def order(name: str = "place_order") -> Saga:
    return Saga(
        name,
        Step(pay, compensate=refund, timeout=timedelta(seconds=30), compensate_timeout=timedelta(seconds=20)),
        Step(pay, name="tip", compensate=None, queue="slow"),
    )


def catalog_of(*sagas: Saga) -> Catalog:
    catalog = Catalog(lambda task: f"routed {task}")
    for saga in sagas:
        catalog.add(saga)
    return catalog


def test_a_saga_is_found_by_name_by_itself_and_by_fingerprint():
    saga = order()
    catalog = catalog_of(saga)
    assert catalog.named("place_order") is catalog.named(saga) is catalog.get("place_order") is saga
    assert catalog.by_fingerprint(saga.outline.fingerprint) is saga
    assert list(catalog) == [saga]


def test_what_is_not_registered_is_not_found():
    catalog = catalog_of()
    assert catalog.get("place_order") is None
    assert catalog.by_fingerprint("0") is None


def test_a_saga_may_be_registered_twice_but_not_two_of_one_name():
    saga = order()
    catalog = catalog_of(saga, saga)
    with pytest.raises(DefinitionError, match="'place_order': another definition of that name is registered"):
        catalog.add(Saga("place_order", Step(pay, compensate=refund)))


def test_an_equal_definition_takes_the_place_of_the_registered_one():
    old, new = order(), order()
    catalog = catalog_of(old)
    catalog.queue(old, "tip", False)
    catalog.add(new)
    assert catalog.get("place_order") is catalog.named(old) is catalog.by_fingerprint(old.outline.fingerprint) is new
    assert list(catalog) == [new]


def test_a_definition_that_is_registered_again_brings_its_own_queues():
    catalog = catalog_of(order())
    assert catalog.queue(order(), "pay", False) == "routed shop.pay"
    slower = Saga(
        "place_order", Step(pay, compensate=refund, queue="slow"), Step(pay, name="tip", compensate=None, queue="slow")
    )
    catalog.add(slower)
    assert catalog.queue(slower, "pay", False) == "slow"


def test_only_a_saga_can_be_registered():
    with pytest.raises(DefinitionError, match="expected a Saga to register, got 'place_order'"):
        catalog_of("place_order")  # type: ignore[arg-type]


def test_an_unknown_name_is_refused_with_the_closest_one():
    with pytest.raises(UnknownSaga, match=r"no saga 'place_ordr' is registered; did you mean 'place_order'\?"):
        catalog_of(order()).named("place_ordr")


def test_an_unknown_name_far_from_all_is_refused_with_all():
    with pytest.raises(UnknownSaga, match="known are: one, two"):
        catalog_of(order("one"), order("two")).named("zzzzzz")
    with pytest.raises(UnknownSaga, match="known are: none"):
        catalog_of().named("zzz")


def test_a_definition_of_another_structure_than_the_registered_one_is_unknown():
    with pytest.raises(UnknownSaga):
        catalog_of(order()).named(Saga("place_order", Step(pay, compensate=refund)))


@pytest.mark.parametrize("what", [None, 5, pay], ids=["None", "5", "a task"])
def test_what_is_neither_a_saga_nor_a_name_is_refused(what: Any):
    with pytest.raises(UnknownSaga, match=r"expected a Saga or the name of one, got .*start\('place_order', \.\.\.\)"):
        catalog_of(order()).named(what)


def test_a_steps_queue_is_its_own_or_its_tasks_route():
    saga = order()
    catalog = catalog_of(saga)
    assert catalog.queue(saga, "pay", False) == "routed shop.pay"
    assert catalog.queue(saga, "pay", True) == "routed shop.refund"
    assert catalog.queue(saga, "tip", False) == "slow"
    assert catalog.queue(saga, "", False) == catalog.queue(None, "pay", False) == "routed "


def test_the_limits_of_a_lane_name_the_timeouts_of_its_steps_by_fingerprint():
    saga = order()
    catalog = catalog_of(saga)
    assert json.loads(catalog.limits(["main"])) == {
        saga.outline.fingerprint: {
            "step": {"pay": {"timeout": 30}, "tip": {"timeout": 300}},
            "compensation": {"pay": {"timeout": 20}},
            "watch": 20,
        }
    }
    other = order("other")
    catalog.add(other)
    assert other.outline.fingerprint in json.loads(catalog.limits(["main"]))


def test_the_limits_have_every_saga_and_no_step_of_another_lane():
    branches = [Step(pay, name=name, compensate=None) for name in ("a", "b", "c")]
    saga, other = Saga("wide", Parallel(*branches)), order()
    catalog = catalog_of(saga, other)
    assert json.loads(catalog.limits(["main/a", "main/c"])) == {
        saga.outline.fingerprint: {
            "step": {"a": {"timeout": 300}, "c": {"timeout": 300}},
            "compensation": {},
            "watch": 300,
        },
        other.outline.fingerprint: {"step": {}, "compensation": {}, "watch": 20},
    }


def test_the_limits_that_are_kept_do_not_grow_without_end():
    catalog = catalog_of(order())
    for number in range(3000):
        catalog.limits([f"main/s{number}"])
    assert len(catalog._limits) <= 1000


def test_a_lane_is_watched_by_the_shortest_timeout():
    assert watch(order()) == 20
