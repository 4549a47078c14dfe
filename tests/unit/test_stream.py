"""The stream of facts: who hears what, in which order, and that nobody is harmed by who listens."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from saga.telemetry import stream
from saga.telemetry.stream import Fact, ListenerFailed, Stream


@dataclass(frozen=True, slots=True)
class Rained(Fact):
    drops: int = 0


@dataclass(frozen=True, slots=True)
class Hailed(Rained):
    pass


@dataclass(frozen=True, slots=True)
class Snowed(Fact):
    pass


@pytest.fixture
def told() -> list[Any]:
    return []


def failing(_: Fact) -> None:
    raise ValueError("no umbrella")


def test_a_listener_hears_the_facts_of_its_kind_and_of_those_derived_from_it(told: list[Any]):
    own = Stream()
    own.subscribe(Rained, told.append)
    for fact in (Rained(3), Snowed(), Hailed(2)):
        own.emit(fact)
    assert told == [Rained(3), Hailed(2)]


def test_who_asks_for_facts_hears_all_there_are(told: list[Any]):
    own = Stream()
    own.subscribe(Fact, told.append)
    own.emit(Snowed())
    own.emit(Rained())
    assert told == [Snowed(), Rained()]


def test_listeners_are_called_in_the_order_in_which_they_came(told: list[Any]):
    own = Stream()
    own.subscribe(Rained, lambda _: told.append("first"))
    own.subscribe(Fact, lambda _: told.append("second"))
    own.subscribe(Rained, lambda _: told.append("third"))
    own.emit(Rained())
    assert told == ["first", "second", "third"]


def test_a_fact_without_listeners_is_gone(told: list[Any]):
    own = Stream()
    own.emit(Rained())
    own.subscribe(Rained, told.append)
    assert told == []


def test_who_comes_after_a_fact_of_its_kind_hears_the_next_one(told: list[Any]):
    own = Stream()
    own.emit(Rained(1))
    end = own.subscribe(Rained, told.append)
    own.emit(Rained(2))
    end()
    own.emit(Rained(3))
    assert told == [Rained(2)]


def test_of_two_equal_listeners_one_can_end(told: list[Any]):
    own = Stream()
    end = own.subscribe(Rained, told.append)
    own.subscribe(Rained, told.append)
    end()
    end()
    own.emit(Rained())
    assert told == [Rained()]


def test_a_listener_that_raises_harms_nobody_and_is_told_of(told: list[Any]):
    own = Stream()
    own.subscribe(Rained, failing)
    own.subscribe(Rained, told.append)
    own.subscribe(ListenerFailed, told.append)
    own.emit(Rained())
    failed, rained = told
    assert rained == Rained()
    assert (failed.listener, failed.kind, str(failed.error)) == ("failing", "Rained", "no umbrella")


def test_who_fails_at_hearing_of_a_failure_is_not_heard_of():
    own = Stream()
    own.subscribe(Fact, failing)
    own.emit(Rained())


def test_what_comes_from_outside_goes_through():
    own = Stream()

    def stop(_: Fact) -> None:
        raise SystemExit

    own.subscribe(Rained, stop)
    with pytest.raises(SystemExit):
        own.emit(Rained())


@pytest.fixture
def failing_here() -> Iterator[None]:
    end = stream.subscribe(Rained, failing)
    yield
    end()


@pytest.mark.usefixtures("failing_here")
def test_the_log_says_which_listener_failed_and_why(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.ERROR, "saga"):
        stream.emit(Rained())
    [record] = caplog.records
    assert record.getMessage() == "failing failed when told of Rained"
    assert record.exc_info is not None
    assert "no umbrella" in str(record.exc_info[1])
