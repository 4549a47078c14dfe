"""A saga belongs to the trace in which it was started, and to no other."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any
from uuid import UUID, uuid4

import pytest
from celery import Celery
from opentelemetry import baggage, context, propagate, trace
from opentelemetry.sdk.trace import TracerProvider

from saga.broker.publisher import Publisher
from saga.client.starting import order
from saga.context import Current, reset_current, set_current
from saga.core.events import SagaStarted, data_of, entry_from_row
from saga.core.machine import replay
from saga.core.rows import Dispatch
from saga.language.definition import Saga, Step
from saga.log_context import SagaFilter
from saga.telemetry.thread import start_thread
from saga.telemetry.trace import captured, headers, restored

from .helpers import task_of

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@task_of
def pay(): ...


SAGA = Saga("traced", Step(pay, compensate=None))


@pytest.fixture
def span() -> Iterator[trace.Span]:
    """A span that is under way."""
    with TracerProvider().get_tracer("tests").start_as_current_span("request") as found:
        yield found


def started() -> SagaStarted:
    return order(SAGA, {}, None, None, None, None, None, 1000).started


def test_a_saga_started_outside_a_trace_keeps_none():
    assert captured() is None
    assert started().trace is None
    assert "trace" not in data_of(started())


def test_a_start_keeps_the_trace_and_the_baggage_of_its_caller(span: trace.Span):
    token = context.attach(baggage.set_baggage("tenant", "t1"))
    try:
        kept = started().trace
    finally:
        context.detach(token)
    assert kept is not None
    assert kept["baggage"] == "tenant=t1"
    assert kept["traceparent"].split("-")[1] == f"{span.get_span_context().trace_id:032x}"
    entry = entry_from_row(UUID(int=1), (1, "saga_started", None, None, None, {"trace": kept}, None, None, 1))
    assert replay(SAGA, [entry]).trace == kept


def test_what_is_restored_is_the_saga_s_own_and_ends_with_the_attempt(span: trace.Span):
    with restored({"traceparent": TRACEPARENT, "baggage": "tenant=t1"}):
        found = trace.get_current_span().get_span_context()
        assert f"{found.trace_id:032x}" == TRACEPARENT.split("-")[1]
        assert baggage.get_baggage("tenant") == "t1"
    assert trace.get_current_span() is span


def test_a_saga_without_a_trace_does_not_take_on_that_of_its_carrier(span: trace.Span):
    with restored(None):
        assert not trace.get_current_span().get_span_context().is_valid
    assert trace.get_current_span() is span


@pytest.mark.parametrize("stored", [{"traceparent": "nonsense"}, {"baggage": "%%%;;==="}, {"traceparent": ""}])
def test_a_damaged_trace_is_none(stored: dict[str, str]):
    with restored(headers(stored)):
        assert not trace.get_current_span().get_span_context().is_valid


def test_only_headers_of_traces_go_into_a_request():
    stored = {
        "traceparent": TRACEPARENT,
        "is_eager": "yes",
        "chain": "x",
        "tracestate": "x" * 5000,
        "b3": 5,
        "x-\n": "y",
    }
    assert headers(stored) == {"traceparent": TRACEPARENT}
    assert headers(["traceparent"]) == headers(None) == {}


def test_a_header_too_long_for_the_log_is_left_out(monkeypatch: pytest.MonkeyPatch):
    given = {"traceparent": TRACEPARENT, "baggage": "a" * 2049, "tracestate": "a=\x00"}
    monkeypatch.setattr(propagate, "inject", lambda found: found.update(given))
    assert captured() == {"traceparent": TRACEPARENT}


def test_no_start_fails_for_a_propagator_that_does(monkeypatch: pytest.MonkeyPatch):
    def fail(_: Any) -> None:
        raise RuntimeError("no exporter")

    monkeypatch.setattr(propagate, "inject", fail)
    assert captured() is None


def test_a_thread_of_ours_belongs_to_no_request():
    value: ContextVar[str | None] = ContextVar("value", default=None)
    value.set("the first request's")

    class Handing(threading.Thread):
        """A thread as tracers make it: it runs in a copy of the context it is started in."""

        def start(self) -> None:
            self.value = value.get()
            super().start()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading, "Thread", Handing)
        thread = start_thread("apart", lambda: None)
    thread.join()
    assert vars(thread)["value"] is None


def test_messages_carry_no_trace_of_the_start_before(span: trace.Span, monkeypatch: pytest.MonkeyPatch):
    app = Celery("publisher", broker=f"memory://{uuid4().hex}", set_as_current=False)
    seen: list[Any] = []
    leaving: ContextVar[int] = ContextVar("leaving", default=0)

    def send_task(*_: Any, **__: Any) -> None:
        seen.append((captured(), leaving.get()))
        leaving.set(1)

    monkeypatch.setattr(app, "send_task", send_task)
    publisher = Publisher(app, timeout=2.0)
    for _ in range(2):
        publisher.publish([Dispatch(uuid4(), "main", "celery", alone=True)])
    publisher.flush()
    assert seen == [(None, 0), (None, 0)]


def test_a_line_of_the_log_says_which_attempt_it_belongs_to():
    record = logging.makeLogRecord({"msg": "charging"})
    token = set_current(Current(UUID(int=7), "place_order", "pay", 2, "key", "key", False))
    try:
        assert SagaFilter().filter(record)
    finally:
        reset_current(token)
    shown = logging.Formatter("%(saga)s[%(saga_id)s] %(step)s %(attempt)s: %(message)s").format(record)
    assert shown == f"place_order[{UUID(int=7)}] pay 2: charging"


def test_a_line_outside_a_saga_says_so_and_keeps_what_it_has():
    record = logging.makeLogRecord({"msg": "x", "step": "mine"})
    assert SagaFilter(outside=None).filter(record)
    assert vars(record) | {"saga": None, "saga_id": None, "attempt": None, "step": "mine"} == vars(record)
