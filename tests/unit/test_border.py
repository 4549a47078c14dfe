"""The border: whose messages are let in, and what becomes of the others."""

from __future__ import annotations

import logging
import time
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from celery import Celery

from saga.broker.border import Border, Stamp, patience
from saga.broker.publisher import HOPS, LOG, QUEUE, REALM, RUN, Foreign

OURS = uuid4()
LANES = [[[str(uuid4()), "main"]]]


class Request(SimpleNamespace):
    """What a worker knows of a message."""

    def get(self, name: str) -> Any:
        return getattr(self, name, None)


def message(**headers: Any) -> Request:
    return Request(delivery_info={"priority": 3}, **{QUEUE: "celery", **headers})


def border(log_id: UUID | None = OURS) -> tuple[Border, list[Foreign]]:
    sent: list[Foreign] = []
    return Border(Celery("shop", set_as_current=False), "shop", lambda: log_id, sent.extend), sent


@pytest.mark.parametrize(
    "headers",
    [{}, {LOG: str(OURS)}, {LOG: str(OURS), REALM: "shop"}, {LOG: str(OURS), REALM: ""}, {REALM: "shop"}],
    ids=["of a version before", "of our log", "of our realm", "of nobody's", "of who cannot tell its log"],
)
def test_what_is_ours_is_let_in(headers: dict[str, Any]) -> None:
    one, sent = border()
    assert one.admits(RUN, LANES, message(**headers))
    assert sent == []


@pytest.mark.parametrize("headers", [{LOG: str(uuid4()), REALM: "shop"}, {LOG: str(OURS), REALM: "bank"}, {LOG: "?"}])
def test_what_is_of_others_goes_back_to_its_queue_as_it_is(headers: dict[str, Any]) -> None:
    one, sent = border()
    assert not one.admits(RUN, LANES, message(**headers))
    [foreign] = sent
    assert (foreign.task, foreign.args, foreign.queue, foreign.priority) == (RUN, LANES, "celery", 3)
    assert foreign.headers == {LOG: None, REALM: None, QUEUE: "celery", HOPS: 1} | headers


def test_a_queue_that_this_worker_does_not_read_gets_nothing_from_it() -> None:
    one, sent = border()
    assert not one.admits(RUN, LANES, message(**{LOG: "?", QUEUE: "payments"}))
    assert sent == []


def test_a_message_that_comes_back_waits_longer_each_time_and_is_given_up_in_the_end() -> None:
    waits = [patience(hops) for hops in range(25)]
    assert waits[:4] == [0.0] * 4
    assert waits[4:-1] == sorted(waits[4:-1])
    assert 0 < waits[4] < 0.1
    assert waits[-2:] == [5.0, None]


def test_one_that_has_to_wait_is_sent_later() -> None:
    one, sent = border()
    assert not one.admits(RUN, LANES, message(**{LOG: "?", HOPS: 5}))
    assert sent == []
    limit = time.monotonic() + 10
    while not sent and time.monotonic() < limit:
        time.sleep(0.005)
    assert [foreign.headers[HOPS] for foreign in sent] == [6]


def test_it_is_said_at_error_but_not_for_each_message(caplog: pytest.LogCaptureFixture) -> None:
    one, _ = border()
    for _ in range(3):
        one.admits(RUN, LANES, message(**{LOG: "another", REALM: "shop"}))
        one.admits(RUN, LANES, message(**{LOG: str(OURS), REALM: "bank"}))
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 2
    assert "of another saga log ('another', realm 'shop')" in errors[0]
    assert "of realm 'bank', and this worker is of 'shop'" in errors[1]


@pytest.mark.parametrize("value", [None, 7, b"x", [], "\x00", "x" * 100_000, -1, 2**70, True, 1.5])
def test_whatever_a_header_holds_is_read(value: Any) -> None:
    stamp = Stamp.of(message(**{LOG: value, REALM: value, QUEUE: value, HOPS: value}))
    assert 0 <= stamp.hops <= 24
    assert all(text is None or len(text) < 300 for text in (stamp.log, stamp.realm, stamp.queue))


def test_made_up_logs_fill_no_log_file(caplog: pytest.LogCaptureFixture) -> None:
    one, _ = border()
    with caplog.at_level(logging.ERROR, "saga"):
        for number in range(500):
            one.admits(RUN, LANES, message(**{LOG: f"made up {number}"}))
    assert len(caplog.records) == 100
