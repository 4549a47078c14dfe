"""What Celery's monitoring is told of an attempt, and when nothing is told."""

from __future__ import annotations

import socket
from contextlib import suppress
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from celery import Celery

from saga.core.events import AttemptFailed, AttemptInterrupted, AttemptSucceeded, Event, LateResult
from saga.core.ref import AttemptRef, Phase
from saga.telemetry.facts.attempts import AttemptBegan, AttemptEnded, AttemptName
from saga.telemetry.monitor import SENDS_EVENTS, Monitor, sends_events
from saga.telemetry.stream import emit

ATTEMPT = AttemptName("place_order", UUID(int=7), AttemptRef("main", "pay", 3))
TASK_ID = UUID(int=8)
CARRIER = SimpleNamespace(hostname="celery@here", **{SENDS_EVENTS: True})
WHERE = ("main", "pay", 3)


def monitor() -> Monitor:
    return Monitor(Celery("monitor", broker=f"memory://{uuid4().hex}", set_as_current=False))


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (AttemptSucceeded(*WHERE, result={"card": "visa-4111"}), "succeeded"),
        (AttemptFailed(*WHERE, outcome="retry", error="RuntimeError: away"), "retried"),
        (AttemptFailed(*WHERE, outcome="unknown", error="RuntimeError: away"), "failed"),
        (AttemptFailed(*WHERE, outcome="aborted", error="declined"), "failed"),
        (AttemptFailed(*WHERE, phase=Phase.COMPENSATION, outcome="failed", error="OSError: away"), "failed"),
        (AttemptInterrupted(*WHERE, error="told to stop"), "retried"),
        (LateResult(*WHERE, outcome="success"), "failed"),
    ],
    ids=lambda value: value if isinstance(value, str) else getattr(value, "outcome", ""),
)
def test_the_end_of_an_attempt_is_told_as_celery_tells_it(event: Event, kind: str, monkeypatch: pytest.MonkeyPatch):
    told: list[Any] = []
    own = Celery("monitor", set_as_current=False)
    monkeypatch.setattr(Monitor.of(own), "send", lambda node, type_, fields: told.append((node, type_, fields)))
    began = AttemptBegan(ATTEMPT, "shop.pay", TASK_ID, CARRIER, own)
    emit(began)
    emit(AttemptEnded(ATTEMPT, event, began, 1.5, None, None))
    assert [type_ for _, type_, _ in told] == ["task-received", "task-started", f"task-{kind}"]
    assert {node for node, _, _ in told} == {"celery@here"}
    assert {fields["uuid"] for _, _, fields in told} == {str(TASK_ID)}
    received = told[0][2]
    assert (received["name"], received["root_id"], received["retries"]) == ("shop.pay", str(ATTEMPT.saga_id), 2)
    assert "visa" not in repr(told)


@pytest.mark.parametrize("carrier", [None, SimpleNamespace(hostname="x"), SimpleNamespace(**{SENDS_EVENTS: False})])
def test_nothing_is_told_where_the_worker_sends_no_events(carrier: Any):
    app = Celery("monitor", set_as_current=False)
    began = AttemptBegan(ATTEMPT, "shop.pay", TASK_ID, carrier, app)
    emit(began)
    emit(AttemptEnded(ATTEMPT, AttemptSucceeded(*WHERE), began, 1.5, None, None))
    assert Monitor.of(app)._pid is None


def test_nothing_is_told_of_the_end_of_an_attempt_that_did_not_begin(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Monitor, "send", lambda *_: pytest.fail("it was told"))
    emit(AttemptEnded(ATTEMPT, AttemptInterrupted(*WHERE, error="told to stop"), None, 0.0, None, None))


@pytest.mark.parametrize(
    ("enabled", "groups", "sends"),
    [(True, set(), True), (True, {"task", "worker"}, True), (True, {"worker"}, False), (False, set(), False)],
)
def test_a_worker_sends_events_as_its_dispatcher_says(enabled: bool, groups: set[str], sends: bool):
    assert sends_events(SimpleNamespace(enabled=enabled, groups=groups)) is sends
    assert not sends_events(None)


def test_the_events_of_one_moment_share_a_message_in_their_order():
    own = monitor()
    events: list[Any] = []
    with own._app.connection_for_read() as connection:
        receiver = own._app.events.Receiver(connection, {"*": events.append})
        with receiver.consumer_context() as (used, _, _):
            for number in range(50):
                own.send("celery@here", "task-started", {"uuid": str(number)})
            for _ in range(100):
                with suppress(socket.timeout):
                    used.drain_events(timeout=0.1)
                if len(events) >= 50:
                    break
    assert [event["uuid"] for event in events] == [str(number) for number in range(50)]
    assert {event["hostname"] for event in events} == {"celery@here"}


def test_a_broker_that_is_away_keeps_nobody_waiting():
    own = Monitor(Celery("monitor", broker="redis://127.0.0.1:1/0", set_as_current=False))
    for number in range(11_000):
        own.send("celery@here", "task-started", {"uuid": str(number)})
    assert own._queue.full() or own._queue.qsize() > 0
