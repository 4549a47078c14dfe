"""Whatever a message holds: nothing is raised, and only well-formed ids go further than the task that reads them."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from celery import Celery
from hypothesis import given
from hypothesis import strategies as st

from saga.broker.publisher import PING, RUN
from saga.broker.tasks import register_tasks

ID = "018f3b1e-0000-7000-8000-000000000001"
LONGEST_LINE = 500
"""Characters of a log line about a message that is refused."""

texts = st.text(max_size=20) | st.text(st.characters(categories=["Cs", "Cc"]), min_size=1, max_size=3)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts | st.sampled_from([ID, "main", 2**63, -(2**70)]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=12,
)
options = st.just({}) | st.dictionaries(
    st.sampled_from(["self", "lanes", "queue", "number"]) | texts, values, max_size=2
)


class Carriers:
    """The two tasks as a worker has them, and what they pass on."""

    def __init__(self) -> None:
        self.lanes: list[Any] = []
        self.pings: list[Any] = []
        app = Celery("carriers", set_as_current=False)
        executor = SimpleNamespace(run=lambda lanes, _: self.lanes.extend(lanes))
        register_tasks(app, lambda: SimpleNamespace(executor=executor), lambda *ping: self.pings.append(ping))  # type: ignore[arg-type, return-value]
        app.tasks[RUN].push_request(called_directly=False)
        self.run, self.ping = app.tasks[RUN].run, app.tasks[PING].run


@given(args=st.lists(values, max_size=3) | st.tuples(st.lists(st.tuples(values, values).map(list))), kwargs=options)
def test_only_well_formed_lanes_reach_the_executor(args: Any, kwargs: Any) -> None:
    carriers = Carriers()

    carriers.run(*args, **kwargs)

    for saga_id, lane in carriers.lanes:
        assert isinstance(saga_id, UUID)
        assert isinstance(lane, str)
        assert "\x00" not in lane
        lane.encode()
    assert carriers.lanes in ([], [(UUID(pair[0]), pair[1]) for pair in args[0]] if args and carriers.lanes else [])


@given(args=st.lists(values, max_size=3) | st.tuples(texts, st.integers()), kwargs=options)
def test_only_a_queue_and_a_number_that_postgres_knows_are_noted(args: Any, kwargs: Any) -> None:
    carriers = Carriers()

    carriers.ping(*args, **kwargs)

    for queue, number in carriers.pings:
        assert (queue, number) == tuple(args)
        assert type(number) is int
        assert 0 < number <= 2**53
        assert "\x00" not in queue
        queue.encode()


def test_well_formed_messages_go_through() -> None:
    carriers = Carriers()

    carriers.run([[ID, "main"], [ID, "main/pay"]])
    carriers.ping("celery", 7)

    assert carriers.lanes == [(UUID(ID), "main"), (UUID(ID), "main/pay")]
    assert carriers.pings == [("celery", 7)]


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


MALFORMED = {
    "nothing": [],
    "a huge text": ["x" * 2_000_000],
    "a huge list": [[[ID, "main"]] * 1001],
    "deep nesting": [nested(100_000)],
    "a huge id": [[["0" * 2_000_000, "main"]]],
    "an id that is none": [[["z" * 32, "main"]]],
    "a huge lane": [[[ID, "x" * 2_000_000]]],
    "a NUL": [[[ID, "main\x00"]]],
    "half a surrogate pair": [[[ID, "main\ud800"]]],
    "a text for a pair": [["ab"]],
    "a mapping for a pair": [[{ID: 1, "main": 2}]],
    "three for a pair": [[[ID, "main", "main"]]],
    "two lists": [[[ID, "main"]], []],
}


@pytest.mark.parametrize("args", MALFORMED.values(), ids=list(MALFORMED))
def test_a_malformed_message_is_refused_in_one_short_line(args: Any, caplog: pytest.LogCaptureFixture) -> None:
    carriers = Carriers()

    carriers.run(*args)

    assert carriers.lanes == []
    assert_refused(caplog, RUN)


PINGS = {
    "nothing": [],
    "a number beyond bigint": ["celery", 2**63],
    "a time that no interval holds": ["celery", 2**53 + 1],
    "zero": ["celery", 0],
    "less than nothing": ["celery", -(2**63)],
    "a number of 5000 digits": ["celery", 10**5000],
    "a truth value": ["celery", True],
    "a fraction": ["celery", 1.0],
    "a text for the number": ["celery", "1"],
    "a huge queue": ["x" * 2_000_000, 1],
    "a NUL": ["celery\x00", 1],
    "half a surrogate pair": ["celery\ud800", 1],
    "a list for the queue": [["celery"], 1],
    "three": ["celery", 1, 1],
}


@pytest.mark.parametrize("args", PINGS.values(), ids=list(PINGS))
def test_a_malformed_ping_is_refused_in_one_short_line(args: Any, caplog: pytest.LogCaptureFixture) -> None:
    carriers = Carriers()

    carriers.ping(*args)

    assert carriers.pings == []
    assert_refused(caplog, PING)


@pytest.mark.parametrize("name", ["self", "lanes", "queue", "number", "args", "kwargs"])
def test_a_message_with_named_arguments_is_refused(name: str, caplog: pytest.LogCaptureFixture) -> None:
    carriers = Carriers()

    carriers.run([[ID, "main"]], **{name: 1})
    carriers.ping("celery", 7, **{name: 1})

    assert carriers.lanes == carriers.pings == []
    assert len(caplog.records) == 2


def assert_refused(caplog: pytest.LogCaptureFixture, task: str) -> None:
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info is None
    assert record.getMessage().startswith(f"a malformed {task} message is refused")
    assert len(record.getMessage()) < LONGEST_LINE
